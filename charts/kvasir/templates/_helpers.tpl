{{/* Names, labels and addresses. */}}

{{- define "kvasir.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "kvasir.fullname" -}}
{{- $name := include "kvasir.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "kvasir.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kvasir.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "kvasir.labels" -}}
{{ include "kvasir.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "kvasir.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "kvasir.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "kvasir.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* DNS name of the control plane's Service. */}}
{{- define "kvasir.host" -}}
{{ include "kvasir.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{- define "kvasir.gatewayNamespace" -}}
{{ default .Release.Namespace .Values.gateway.namespace }}
{{- end -}}

{{- define "kvasir.isIstio" -}}
{{- if hasPrefix "istio-" .Values.gateway.mode }}true{{ end -}}
{{- end -}}

{{/* InferencePool or Service: what routes point to. */}}
{{- define "kvasir.backend" -}}
{{- $usual := ternary "InferencePool" "Service" (or (hasPrefix "istio-" .Values.gateway.mode) (eq .Values.gateway.mode "epp")) -}}
{{- default $usual .Values.gateway.backend -}}
{{- end -}}

{{/* Name of the Service of a pool's engines; takes {root, pool}. */}}
{{- define "kvasir.poolService" -}}
{{- default (printf "%s-%s" (include "kvasir.fullname" .root) .pool.name | trunc 63 | trimSuffix "-") .pool.service -}}
{{- end -}}

{{/* Labels of the gateway's pods (Istio), as YAML. */}}
{{- define "kvasir.workloadSelector" -}}
{{- default (dict "gateway.networking.k8s.io/gateway-name" .Values.gateway.name) .Values.gateway.workloadSelector | toYaml -}}
{{- end -}}

{{- define "kvasir.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "kvasir.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* JSON list: where gateways' pods run. */}}
{{- define "kvasir.gatewayPodNamespaces" -}}
{{- $all := list (include "kvasir.gatewayNamespace" .) -}}
{{- if eq .Values.gateway.mode "envoy-gateway" }}{{ $all = append $all .Values.envoyGateway.namespace }}{{ end -}}
{{- $all | uniq | toJson -}}
{{- end -}}
