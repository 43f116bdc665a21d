{{/* What node and controllers are told alike. */}}
{{- define "berth.nfsArgs" -}}
- --driver-name={{ .Values.nfs.driverName }}
{{- range .Values.nfs.roots }}
- {{ printf "--root=%s=%s%s%s" .name .share (empty .options | ternary "" (printf ",%s" (join "," .options))) (empty .records | ternary "" (printf ",records=%s" .records)) | quote }}
{{- end }}
{{ include "berth.logArgs" .Values.log }}
{{- end -}}

{{- define "berth.nfsNetwork" -}}
# hostNetwork: a mount lives in the network of the process that made it, and has to outlive this pod; and servers know
# their clients by address, by a port below 1024, and by the host's name, which comes with the host's network.
hostNetwork: true
# How names of servers are looked up.
dnsPolicy: {{ .Values.nfs.dnsPolicy }}
{{- end -}}
