// Command proto compares Berth's proto files with the official descriptors: of
// CSI, and of Kubernetes for the registration with the kubelet.
//
// Berth's proto files are its own text, so nothing but this check keeps them
// the same interfaces. Usage: go run . ../../proto
//
// The official side comes from the generated Go packages of the pinned
// modules; ours is compiled here, so that the check needs neither protoc nor a
// Rust build.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// official is, for each of Berth's proto files, the file descriptor inside the
// generated Go package; any message of the package leads to it.
var official = map[string]protoreflect.FileDescriptor{
	"csi.proto":                (&csi.ProbeRequest{}).ProtoReflect().Descriptor().ParentFile(),
	"pluginregistration.proto": (&registration.InfoRequest{}).ProtoReflect().Descriptor().ParentFile(),
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: proto DIRECTORY")
		os.Exit(2)
	}
	equal := true
	for _, name := range slices.Sorted(maps.Keys(official)) {
		text, err := os.ReadFile(filepath.Join(os.Args[1], name))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		differences, counts, err := check(name, string(text))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		for _, difference := range differences {
			fmt.Printf("%s: %s\n", name, difference)
		}
		if len(differences) > 0 {
			equal = false
			continue
		}
		fmt.Printf("%s: equal to the official interface: %s\n", name, counts)
	}
	if !equal {
		os.Exit(1)
	}
}

// check compiles the text of a proto file and compares it with the official
// descriptors of that name.
func check(name, text string) (differences []string, counts string, err error) {
	ours, err := compile(name, text)
	if err != nil {
		return nil, "", err
	}
	theirs, err := collect(official[name])
	if err != nil {
		return nil, "", err
	}
	mine, err := collect(ours)
	if err != nil {
		return nil, "", err
	}
	return compare(mine, theirs), theirs.counts(), nil
}

// compile turns the text of a proto file into descriptors. Only Google's own
// imports are available to it.
func compile(name, text string) (protoreflect.FileDescriptor, error) {
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
			Accessor: protocompile.SourceAccessorFromMap(map[string]string{name: text}),
		}),
	}
	files, err := compiler.Compile(context.Background(), name)
	if err != nil {
		return nil, err
	}
	return files[0], nil
}

// facts maps each element of a proto file ("message csi.v1.Volume field
// volume_id") to its properties ("number" to "2"). Flattening both sides first
// makes the comparison one loop that cannot forget a direction.
type facts struct {
	elements map[string]map[string]string
	kinds    map[string]int // how many services, methods, ... were seen
	err      error          // the first set of options that could not be read
}

// kinds in the order in which counts prints them.
var kinds = []string{"service", "method", "message", "field", "enum", "value", "extension"}

func (f *facts) counts() string {
	var parts []string
	for _, kind := range kinds {
		parts = append(parts, fmt.Sprintf("%d %ss", f.kinds[kind], kind))
	}
	return strings.Join(parts, ", ")
}

// add records one element from alternating property names and values, together
// with its options.
func (f *facts) add(kind, name string, d protoreflect.Descriptor, properties ...any) {
	element := map[string]string{}
	for i := 0; i < len(properties); i += 2 {
		element[properties[i].(string)] = fmt.Sprint(properties[i+1])
	}
	// The file is the one element whose options do not matter: they only steer
	// code generators (go_package).
	if kind != "file" {
		options, err := optionsOf(d)
		if err != nil && f.err == nil {
			f.err = fmt.Errorf("options of %s: %w", name, err)
		}
		element["options"] = options
	}
	f.elements[name] = element
	f.kinds[kind]++
}

// optionsOf writes every option that is set as sorted "name=value" words. The
// two sides hold custom options in different Go types, so both take the way
// over the wire format and the official extension types.
func optionsOf(d protoreflect.Descriptor) (string, error) {
	wire, err := proto.Marshal(d.Options())
	if err != nil {
		return "", err
	}
	options := d.Options().ProtoReflect().New()
	if err := (proto.UnmarshalOptions{Resolver: protoregistry.GlobalTypes}).Unmarshal(wire, options.Interface()); err != nil {
		return "", err
	}
	var words []string
	options.Range(func(option protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		words = append(words, fmt.Sprintf("%s=%v", option.Name(), value))
		return true
	})
	if unknown := options.GetUnknown(); len(unknown) > 0 {
		words = append(words, fmt.Sprintf("unknown=%x", []byte(unknown)))
	}
	slices.Sort(words)
	return fmt.Sprint(words), nil
}

// collect flattens a whole file.
func collect(file protoreflect.FileDescriptor) (*facts, error) {
	f := &facts{elements: map[string]map[string]string{}, kinds: map[string]int{}}
	f.add("file", "file", file, "package", file.Package(), "syntax", file.Syntax())
	for service := range all(file.Services()) {
		name := fmt.Sprint("service ", service.FullName())
		f.add("service", name, service)
		for method := range all(service.Methods()) {
			f.add("method", fmt.Sprint(name, " method ", method.Name()), method,
				"input", method.Input().FullName(), "output", method.Output().FullName(),
				"client streaming", method.IsStreamingClient(), "server streaming", method.IsStreamingServer())
		}
	}
	f.messages(file.Messages())
	f.enums(file.Enums())
	f.extensions(file.Extensions())
	return f, f.err
}

// messages adds messages with all that is inside them. A map's entry message is
// left out because the type of the map field says the same.
func (f *facts) messages(list protoreflect.MessageDescriptors) {
	for message := range all(list) {
		if message.IsMapEntry() {
			continue
		}
		name := fmt.Sprint("message ", message.FullName())
		f.add("message", name, message,
			"reserved numbers", sorted(message.ReservedRanges()), "reserved names", sorted(message.ReservedNames()),
			"extension ranges", sorted(message.ExtensionRanges()))
		for field := range all(message.Fields()) {
			f.field("field", fmt.Sprint(name, " field ", field.Name()), field)
		}
		f.messages(message.Messages())
		f.enums(message.Enums())
		f.extensions(message.Extensions())
	}
}

func (f *facts) enums(list protoreflect.EnumDescriptors) {
	for enum := range all(list) {
		name := fmt.Sprint("enum ", enum.FullName())
		f.add("enum", name, enum,
			"reserved numbers", sorted(enum.ReservedRanges()), "reserved names", sorted(enum.ReservedNames()))
		for value := range all(enum.Values()) {
			f.add("value", fmt.Sprint(name, " value ", value.Name()), value, "number", value.Number())
		}
	}
}

func (f *facts) extensions(list protoreflect.ExtensionDescriptors) {
	for extension := range all(list) {
		f.field("extension", fmt.Sprint("extension ", extension.FullName()), extension)
	}
}

// field adds a field or an extension, which differ only in what they belong to.
func (f *facts) field(kind, name string, field protoreflect.FieldDescriptor) {
	oneof := "none"
	if group := field.ContainingOneof(); group != nil && !group.IsSynthetic() {
		oneof = string(group.Name())
	}
	f.add(kind, name, field,
		"number", field.Number(), "type", typeOf(field), "label", field.Cardinality(),
		"oneof", oneof, "explicit optional", field.HasOptionalKeyword(), "packed", field.IsPacked(),
		"json name", field.JSONName(), "belongs to", field.ContainingMessage().FullName())
}

// typeOf spells a field's type as a proto file would.
func typeOf(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsMap():
		return fmt.Sprintf("map<%s, %s>", typeOf(field.MapKey()), typeOf(field.MapValue()))
	case field.Enum() != nil:
		return fmt.Sprint("enum ", field.Enum().FullName())
	case field.Message() != nil:
		return fmt.Sprint(field.Kind(), " ", field.Message().FullName())
	}
	return field.Kind().String()
}

// compare names every difference, in the order of the elements' names.
func compare(ours, theirs *facts) []string {
	var differences []string
	elements := maps.Clone(theirs.elements)
	maps.Copy(elements, ours.elements)
	for _, name := range slices.Sorted(maps.Keys(elements)) {
		our, isOurs := ours.elements[name]
		their, isTheirs := theirs.elements[name]
		switch {
		case !isOurs:
			differences = append(differences, name+": missing")
		case !isTheirs:
			differences = append(differences, name+": not in the official interface")
		default:
			for _, property := range slices.Sorted(maps.Keys(their)) {
				if our[property] != their[property] {
					differences = append(differences, fmt.Sprintf("%s: %s %s, official %s",
						name, property, our[property], their[property]))
				}
			}
		}
	}
	return differences
}
