{{/* What every object is labelled with. */}}
{{- define "outrigger.labels" -}}
{{ include "outrigger.selector" . }}
app.kubernetes.io/part-of: outrigger
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* What the pods of the control plane are found by. It must never change. */}}
{{- define "outrigger.selector" -}}
app.kubernetes.io/name: outrigger
app.kubernetes.io/component: control-plane
{{- end }}

{{/* The metadata of what is called as the control plane is, in the namespace of the release. */}}
{{- define "outrigger.metadata" -}}
name: outrigger-control-plane
namespace: {{ .Release.Namespace }}
labels:
  {{- include "outrigger.labels" . | nindent 2 }}
{{- end }}

{{/* An image: the whole one, or that of the registry: (dict "whole" .. "name" .. "root" .). */}}
{{- define "outrigger.image" -}}
{{- .whole | default (printf "%s/%s:%s" .root.Values.image.registry .name (.root.Values.image.tag | default .root.Chart.AppVersion)) -}}
{{- end }}

{{/* An address to listen at: (dict "port" .. "root" .). */}}
{{- define "outrigger.address" -}}
{{- $listen := .root.Values.controlPlane.listen -}}
{{- if contains ":" $listen }}{{ printf "[%s]:%v" $listen .port }}{{ else }}{{ printf "%s:%v" $listen .port }}{{ end -}}
{{- end }}
