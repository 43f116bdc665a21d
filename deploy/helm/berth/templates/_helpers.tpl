{{/* What the objects' names begin with. */}}
{{- define "berth.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "berth" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-berth" (.Release.Name | trunc 34 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* What a selector looks for: (list . "nfs-node"). */}}
{{- define "berth.selector" -}}
app.kubernetes.io/name: berth
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object: (list . "nfs-node"). */}}
{{- define "berth.labels" -}}
{{- $ := index . 0 -}}
{{ include "berth.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "berth.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* The root of a class, by its name if it has one: (list "local" $roots $class). */}}
{{- define "berth.root" -}}
{{- $driver := index . 0 -}}{{- $roots := index . 1 -}}{{- $class := index . 2 -}}
{{- $names := list -}}{{- range $roots }}{{- $names = append $names .name -}}{{- end -}}
{{- $where := printf "%s.storageClasses: %s" $driver $class.name -}}
{{- if not $class.root -}}
{{- if ne (len $roots) 1 -}}
{{- fail (printf "%s: say which root it uses: %s" $where (join ", " $names)) -}}
{{- end -}}
{{- first $names -}}
{{- else -}}
{{- if not (has $class.root $names) -}}
{{- fail (printf "%s: %q is no root of %s.roots; they are %s" $where $class.root $driver (join ", " $names)) -}}
{{- end -}}
{{- $class.root -}}
{{- end -}}
{{- end -}}

{{/* A StorageClass's fields that both drivers have: (list "local" $ $class "Immediate"). */}}
{{- define "berth.class" -}}
{{- $driver := index . 0 -}}{{- $ := index . 1 -}}{{- $class := index . 2 -}}{{- $binding := index . 3 -}}
{{- $values := index $.Values $driver -}}
{{- $root := include "berth.root" (list $driver $values.roots $class) -}}
{{- range $values.roots -}}
{{- if and (eq .name $root) .records -}}
{{- fail (printf "%s.storageClasses: %s: root %s has records elsewhere and serves existing data only: it needs no StorageClass" $driver $class.name $root) -}}
{{- end -}}
{{- end -}}
metadata:
  name: {{ $class.name }}
  labels:
    {{- include "berth.labels" (list $ $driver) | nindent 4 }}
  {{- if $class.default }}
  annotations:
    storageclass.kubernetes.io/is-default-class: "true"
  {{- end }}
provisioner: {{ $values.driverName }}
reclaimPolicy: {{ $class.reclaimPolicy | default "Delete" }}
volumeBindingMode: {{ $class.volumeBindingMode | default $binding }}
parameters:
  root: {{ $root | quote }}
  {{- range $key, $value := $class.parameters }}
  {{ $key }}: {{ $value | quote }}
  {{- end }}
{{- with $class.mountOptions }}
mountOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Probes of Berth's container. */}}
{{- define "berth.probes" -}}
# Until it has answered once nothing else is asked, and an update waits.
startupProbe:
  exec:
    command: [/berth, probe, --endpoint, unix:///csi/csi.sock]
  periodSeconds: 2
  timeoutSeconds: 10
  failureThreshold: 60
# It asks the driver alone, no disk and no server: what is dead there is no reason to start the driver anew.
livenessProbe:
  exec:
    command: [/berth, probe, --endpoint, unix:///csi/csi.sock]
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: 4
{{- end -}}

{{/* The kubelet's side of a node's driver: the flags. */}}
{{- define "berth.nodeArgs" -}}
- --node-id=$(NODE_NAME)
- --endpoint=unix:///csi/csi.sock
- --kubelet-registration-path={{ index . 0 }}/plugins/{{ index . 1 }}/csi.sock
- --kubelet-registry=/registration
{{- end -}}

{{- define "berth.nodeName" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end -}}

{{/* The kubelet's side of a node's driver: the mounts, and the volumes behind them. */}}
{{- define "berth.nodeMounts" -}}
- name: socket
  mountPath: /csi
- name: registration
  mountPath: /registration
# The targets, under the host's path. What is mounted there has to appear on the host, for the pods.
- name: pods
  mountPath: {{ . }}/pods
  mountPropagation: Bidirectional
- name: run
  mountPath: /run/berth
{{- end -}}

{{- define "berth.nodeVolumes" -}}
# hostPath: the kubelet calls the driver here.
- name: socket
  hostPath:
    path: {{ index . 0 }}/plugins/{{ index . 1 }}
    type: DirectoryOrCreate
# hostPath: the kubelet looks here for drivers.
- name: registration
  hostPath:
    path: {{ index . 0 }}/plugins_registry
    type: DirectoryOrCreate
# hostPath: the kubelet wants volumes mounted here.
- name: pods
  hostPath:
    path: {{ index . 0 }}/pods
    type: DirectoryOrCreate
# hostPath: notes of what is mounted in which mode. The next container has to find them, and a reboot has to empty them.
- name: run
  hostPath:
    path: /run/berth
    type: DirectoryOrCreate
{{- end -}}

{{- define "berth.logArgs" -}}
- --log-level={{ .level }}
- --log-format={{ .format }}
{{- end -}}

{{/* What all sidecars are told: (dict "sidecars" .. "log" .. ). */}}
{{- define "berth.sidecarArgs" -}}
- --csi-address=/csi/csi.sock
- --v={{ .Values.sidecars.verbosity }}
{{- if eq .Values.log.format "json" }}
- --logging-format=json
{{- end }}
# Above the eight seconds within which Berth answers each call.
- --timeout=15s
- --retry-interval-max={{ .Values.sidecars.retryIntervalMax }}
{{- end -}}

{{- define "berth.sidecarSecurity" -}}
securityContext:
  # Root without a capability: the socket is root's and has mode 0600, and nothing else is root's here.
  runAsUser: 0
  runAsGroup: 0
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
  {{- with .Values.sidecars.seLinuxOptions }}
  # SELinux lets no ordinary container connect to the socket of a privileged one.
  seLinuxOptions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* How a pod is placed, from the values of its part. */}}
{{- define "berth.placement" -}}
priorityClassName: {{ .priorityClassName }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
