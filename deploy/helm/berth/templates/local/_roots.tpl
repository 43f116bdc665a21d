{{/*
The directories of the host that the roots need, as JSON: path to hostPath type.

A disk is seen by its parent directory, so that one that is unmounted and mounted again is seen too: a mount of the disk
itself would keep the old one for as long as the container lives. Not so where the parent holds the host's root, or what
is mounted in the container anyway (the kubelet's directory, /run/berth): each mount there would be in the container twice.
*/}}
{{- define "berth.localDirectories" -}}
{{- $directories := dict -}}
{{- $kubelet := printf "%s/" (clean .kubeletDir) -}}
{{- range .local.roots -}}
{{- $path := clean .path -}}
{{- $parent := dir $path -}}
{{- $itself := or .plain (eq $parent "/") (eq $parent "/run") (hasPrefix (printf "%s/" $parent) $kubelet) -}}
{{- $_ := set $directories ($itself | ternary $path $parent) "DirectoryOrCreate" -}}
{{- if .records -}}
{{- $_ := set $directories (clean .records) "Directory" -}}
{{- end -}}
{{- end -}}
{{- toJson $directories -}}
{{- end -}}

{{- define "berth.localMounts" -}}
# The roots, under the host's paths. Disks that are mounted on the host later appear here too.
{{- range $index, $path := include "berth.localDirectories" . | fromJson | keys | sortAlpha }}
- name: root-{{ $index }}
  mountPath: {{ $path | quote }}
  mountPropagation: HostToContainer
{{- end }}
{{- end -}}

{{- define "berth.localVolumes" -}}
# hostPath: where the volumes lie.
{{- $directories := include "berth.localDirectories" . | fromJson }}
{{- range $index, $path := keys $directories | sortAlpha }}
- name: root-{{ $index }}
  hostPath:
    path: {{ $path | quote }}
    type: {{ index $directories $path }}
{{- end }}
{{- end -}}
