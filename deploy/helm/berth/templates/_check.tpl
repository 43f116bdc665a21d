{{/* What a schema can't say. It gives nothing. */}}
{{- define "berth.check" -}}
{{- if not (or .Values.local.enabled .Values.nfs.enabled) -}}
{{- fail "no driver is enabled: set local.enabled=true, nfs.enabled=true, or both" -}}
{{- end -}}
{{- if and .Values.local.enabled .Values.nfs.enabled (eq .Values.local.driverName .Values.nfs.driverName) -}}
{{- fail (printf "local.driverName and nfs.driverName are both %q: two drivers need two names" .Values.nfs.driverName) -}}
{{- end -}}
{{- $classes := list -}}
{{- range $driver := list "local" "nfs" -}}
{{- $values := index $.Values $driver -}}
{{- if $values.enabled -}}
{{- if not $values.roots -}}
{{- fail (printf "%s.roots is empty: name at least one root" $driver) -}}
{{- end -}}
{{- $names := list -}}
{{- range $values.roots -}}
{{- if has .name $names -}}
{{- fail (printf "%s.roots: %s is given twice" $driver .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range $values.storageClasses -}}
{{- if has .name $classes -}}
{{- fail (printf "%s.storageClasses: %s is given twice" $driver .name) -}}
{{- end -}}
{{- $classes = append $classes .name -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
