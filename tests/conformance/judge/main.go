// Judge decides from csi-sanity's report whether a driver conforms: every spec ran and passed, except exactly
// those that the driver's skip list names. Skipping is a statement, so a spec that is skipped without being
// listed fails, and so does one that is listed and ran.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2/types"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Println("usage: judge <skip list> <directory with report.json, suite.log and driver.log>")
		os.Exit(2)
	}
	scratch := os.Args[2]
	passed, problems, err := judge(os.Args[1], filepath.Join(scratch, "report.json"))
	if err != nil {
		problems = append(problems, err.Error())
		show(filepath.Join(scratch, "suite.log"))
	}
	if len(problems) > 0 {
		show(filepath.Join(scratch, "driver.log"))
	}
	for _, problem := range problems {
		fmt.Println(problem)
	}
	fmt.Printf("%d passed, %d failed\n", passed, len(problems))
	if len(problems) > 0 {
		os.Exit(1)
	}
}

func judge(listPath, reportPath string) (passed int, problems []string, err error) {
	listed, err := readList(listPath)
	if err != nil {
		return 0, nil, err
	}
	report, err := readReport(reportPath)
	if err != nil {
		return 0, nil, err
	}
	var skipped int
	for _, spec := range report.SpecReports {
		name := spec.FullText()
		_, isListed := listed[name]
		delete(listed, name)
		switch {
		case spec.Failed():
			at := spec.Failure.Location
			problems = append(problems, fmt.Sprintf("FAILED %s\n%s\n    at %s:%d",
				name, indent(spec.Failure.Message), filepath.Base(at.FileName), at.LineNumber))
			continue
		case spec.LeafNodeType != types.NodeTypeIt || spec.State == types.SpecStatePending:
			continue // not a spec, or one that the suite itself has switched off
		case spec.State == types.SpecStateSkipped:
			skipped++
			if !isListed {
				problems = append(problems, fmt.Sprintf("SKIPPED, NOT LISTED %s\n%s", name, indent(spec.Failure.Message)))
			}
			continue
		default:
			passed++
		}
		if isListed {
			problems = append(problems, "LISTED, BUT IT RAN "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		problems = append(problems, "LISTED, BUT THE SUITE HAS NO SUCH SPEC "+name)
	}
	if len(problems) == 0 && (passed == 0 || !report.SuiteSucceeded) {
		return passed, nil, fmt.Errorf("the suite did not succeed: %q", report.SpecialSuiteFailureReasons)
	}
	fmt.Printf("%d specs passed, %d skipped\n", passed, skipped)
	return passed, problems, nil
}

// readList reads lines of the form `full name of the spec # reason`; empty lines and `# comments` are free.
func readList(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list := map[string]string{}
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, _ := strings.Cut(line, " # ")
		if _, twice := list[name]; twice || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: a spec is listed once, with a reason after ` # `", path, i+1)
		}
		list[name] = reason
	}
	return list, nil
}

func readReport(path string) (types.Report, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return types.Report{}, errors.New("the suite wrote no report")
	}
	if err != nil {
		return types.Report{}, err
	}
	var suites []types.Report
	if err := json.Unmarshal(text, &suites); err != nil || len(suites) != 1 {
		return types.Report{}, fmt.Errorf("%s is not a report of one suite: %w", path, err)
	}
	return suites[0], nil
}

func show(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		text = []byte(err.Error())
	}
	fmt.Printf("--- %s\n%s\n---\n", filepath.Base(path), strings.TrimSpace(string(text)))
}

// indent leaves out the dump of an error's fields that follows its text.
func indent(text string) string {
	text, _, _ = strings.Cut(text, "\n    {\n")
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}
