package main

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"testing"
)

func text(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile("../../proto/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestEqualToOfficial(t *testing.T) {
	for file := range official {
		differences, counts, err := check(file, text(t, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, difference := range differences {
			t.Error(file, difference)
		}
		t.Log(file, counts)
	}
}

// A proto file that nobody compares could say anything.
func TestEveryFileIsCompared(t *testing.T) {
	files, err := os.ReadDir("../../proto")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if official[file.Name()] == nil {
			t.Error(file.Name(), "has nothing that it is compared with")
		}
	}
	if len(files) != len(official) {
		t.Errorf("%d files, %d official interfaces", len(files), len(official))
	}
}

// TestDetects damages the file in one way at a time. Without it, a check that
// compared nothing would look the same as an interface that is equal.
func TestDetects(t *testing.T) {
	cases := []struct {
		name string
		from string // replaced at its only occurrence after `after`
		to   string
		file string // csi.proto where it is left out
		// after anchors the edit where `from` alone is not unique.
		after string
		want  []string
	}{
		{
			name: "secret marker dropped", after: "message DeleteVolumeRequest {",
			from: "map<string, string> secrets = 2 [(csi_secret) = true];", to: "map<string, string> secrets = 2;",
			want: []string{"message csi.v1.DeleteVolumeRequest field secrets: options [], official [csi_secret=true]"},
		}, {
			name: "secret marker set to false", after: "message DeleteVolumeRequest {",
			from: "(csi_secret) = true", to: "(csi_secret) = false",
			want: []string{"message csi.v1.DeleteVolumeRequest field secrets: options [csi_secret=false], official [csi_secret=true]"},
		}, {
			name: "field renumbered", after: "message NodeGetInfoResponse {",
			from: "Topology accessible_topology = 3;", to: "Topology accessible_topology = 4;",
			want: []string{"message csi.v1.NodeGetInfoResponse field accessible_topology: number 4, official 3"},
		}, {
			name: "field retyped",
			from: "int64 max_volumes_per_node", to: "int32 max_volumes_per_node",
			want: []string{"message csi.v1.NodeGetInfoResponse field max_volumes_per_node: type int32, official int64"},
		}, {
			name: "map value retyped", after: "message ControllerModifyVolumeRequest {",
			from: "map<string, string> mutable_parameters", to: "map<string, bytes> mutable_parameters",
			want: []string{"message csi.v1.ControllerModifyVolumeRequest field mutable_parameters: type map<string, bytes>, official map<string, string>"},
		}, {
			name: "field made repeated", after: "message GetCapacityRequest {",
			from: "Topology accessible_topology", to: "repeated Topology accessible_topology",
			want: []string{"message csi.v1.GetCapacityRequest field accessible_topology: label repeated, official optional"},
		}, {
			name: "field made explicitly optional",
			from: "bool node_expansion_required", to: "optional bool node_expansion_required",
			want: []string{"message csi.v1.ControllerExpandVolumeResponse field node_expansion_required: explicit optional true, official false"},
		}, {
			name: "json name set",
			from: "bool node_expansion_required = 2", to: `bool node_expansion_required = 2 [json_name = "x"]`,
			want: []string{"message csi.v1.ControllerExpandVolumeResponse field node_expansion_required: json name x, official nodeExpansionRequired"},
		}, {
			name: "field renamed",
			from: "volume_publish_path", to: "volume_path", after: "message NodeGetVolumeHealthRequest {",
			want: []string{
				"message csi.v1.NodeGetVolumeHealthRequest field volume_path: not in the official interface",
				"message csi.v1.NodeGetVolumeHealthRequest field volume_publish_path: missing",
			},
		}, {
			name: "field added", after: "message NodeExpandVolumeResponse {",
			from: "int64 capacity_bytes = 1;", to: "int64 capacity_bytes = 1; bool done = 2;",
			want: []string{"message csi.v1.NodeExpandVolumeResponse field done: not in the official interface"},
		}, {
			name: "field deprecated", after: "message NodeExpandVolumeResponse {",
			from: "int64 capacity_bytes = 1;", to: "int64 capacity_bytes = 1 [deprecated = true];",
			want: []string{"message csi.v1.NodeExpandVolumeResponse field capacity_bytes: options [deprecated=true], official []"},
		}, {
			name: "oneof renamed",
			from: "oneof access_type {", to: "oneof access {",
			want: []string{
				"message csi.v1.VolumeCapability field block: oneof access, official access_type",
				"message csi.v1.VolumeCapability field mount: oneof access, official access_type",
			},
		}, {
			name: "alpha field marker dropped",
			from: "minimum_volume_size = 3 [(alpha_field) = true];", to: "minimum_volume_size = 3;",
			want: []string{"message csi.v1.GetCapacityResponse field minimum_volume_size: options [], official [alpha_field=true]"},
		}, {
			name: "alpha message marker dropped", after: "message VolumeHealth {",
			from: "option (alpha_message) = true;", to: "",
			want: []string{"message csi.v1.VolumeHealth: options [], official [alpha_message=true]"},
		}, {
			name: "alpha method marker dropped", after: "rpc NodeGetStorageHealth(",
			from: "option (alpha_method) = true;", to: "",
			want: []string{"service csi.v1.Node method NodeGetStorageHealth: options [], official [alpha_method=true]"},
		}, {
			name: "alpha service marker dropped",
			from: "option (alpha_service) = true;", to: "",
			want: []string{"service csi.v1.SnapshotMetadata: options [], official [alpha_service=true]"},
		}, {
			name: "alpha value marker dropped",
			from: "GET_STORAGE_HEALTH = 8 [(alpha_enum_value) = true];", to: "GET_STORAGE_HEALTH = 8;",
			want: []string{"enum csi.v1.NodeServiceCapability.RPC.Type value GET_STORAGE_HEALTH: options [], official [alpha_enum_value=true]"},
		}, {
			name: "enum value dropped",
			from: "DATA_LOSS = 3;", to: "",
			want: []string{"enum csi.v1.VolumeHealthErrorType value DATA_LOSS: missing"},
		}, {
			name: "enum value renumbered",
			from: "DATA_LOSS = 3;", to: "DATA_LOSS = 4;",
			want: []string{"enum csi.v1.VolumeHealthErrorType value DATA_LOSS: number 4, official 3"},
		}, {
			name: "method dropped",
			from: "rpc Probe(ProbeRequest) returns (ProbeResponse) {}", to: "",
			want: []string{"service csi.v1.Identity method Probe: missing"},
		}, {
			name: "method with another output",
			from: "rpc Probe(ProbeRequest) returns (ProbeResponse) {}", to: "rpc Probe(ProbeRequest) returns (ProbeRequest) {}",
			want: []string{"service csi.v1.Identity method Probe: output csi.v1.ProbeRequest, official csi.v1.ProbeResponse"},
		}, {
			name: "stream dropped",
			from: "stream GetMetadataDeltaResponse", to: "GetMetadataDeltaResponse",
			want: []string{"service csi.v1.SnapshotMetadata method GetMetadataDelta: server streaming false, official true"},
		}, {
			name: "reserved number of a message freed", after: "message NodeGetVolumeStatsResponse {",
			from: "reserved 2;", to: "",
			want: []string{"message csi.v1.NodeGetVolumeStatsResponse: reserved numbers [], official [[2 3]]"},
		}, {
			name: "reserved number of an enum freed",
			from: "reserved 11;", to: "",
			want: []string{"enum csi.v1.ControllerServiceCapability.RPC.Type: reserved numbers [], official [[11 11]]"},
		}, {
			name: "extension renumbered",
			from: "bool alpha_enum = 1060;", to: "bool alpha_enum = 1061;",
			want: []string{"extension csi.v1.alpha_enum: number 1061, official 1060"},
		}, {
			name: "message added",
			from: "// Takes no arguments.\nmessage ProbeRequest {}", to: "message ProbeRequest {} message Surplus {}",
			want: []string{"message csi.v1.Surplus: not in the official interface"},
		}, {
			name: "other syntax",
			from: `syntax = "proto3";`, to: `edition = "2023"; option features.field_presence = IMPLICIT;`,
			want: []string{"file: syntax editions, official proto3"},
		}, {
			name: "kubelet's field renumbered", file: "pluginregistration.proto",
			from: "string endpoint = 3;", to: "string endpoint = 5;",
			want: []string{"message pluginregistration.PluginInfo field endpoint: number 5, official 3"},
		}, {
			name: "kubelet's call dropped", file: "pluginregistration.proto",
			from: "rpc GetInfo(InfoRequest) returns (PluginInfo) {}", to: "",
			want: []string{"service pluginregistration.Registration method GetInfo: missing"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			file := cmp.Or(c.file, "csi.proto")
			original := text(t, file)
			start := strings.Index(original, c.after)
			if start < 0 {
				t.Fatalf("%q is not in %s", c.after, file)
			}
			before, rest := original[:start], original[start:]
			if !strings.Contains(rest, c.from) {
				t.Fatalf("%q is not in %s after %q", c.from, file, c.after)
			}
			differences, _, err := check(file, before+strings.Replace(rest, c.from, c.to, 1))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(differences, c.want) {
				t.Errorf("got %q, want %q", differences, c.want)
			}
		})
	}
}

// A file that does not compile must be an error, not an empty comparison.
func TestRefusesBrokenFile(t *testing.T) {
	if _, _, err := check("csi.proto", strings.Replace(text(t, "csi.proto"), "message Volume {", "message Volume", 1)); err == nil {
		t.Error("compiled")
	}
}
