{{/* kvasir's own configuration, as YAML. */}}

{{- define "kvasir.config" -}}
{{- $root := . -}}
{{- $config := dict "listen" (dict "grpc" "0.0.0.0:9002" "http" "0.0.0.0:9090") -}}
{{- if include "kvasir.tlsEnabled" . -}}
{{- $tls := dict "cert" "/etc/kvasir/tls/tls.crt" "key" "/etc/kvasir/tls/tls.key" -}}
{{- if .Values.tls.clientAuth.caSecretName -}}
{{- $_ := set $tls "clientCa" "/etc/kvasir/client-ca/ca.crt" -}}
{{- end -}}
{{- $_ := set $config.listen "tls" $tls -}}
{{- end -}}
{{- $kubernetes := dict -}}
{{- if .Values.discovery.attached -}}
{{- $defaults := merge (dict "maxBody" (toString .Values.maxBody)) .Values.discovery.defaults -}}
{{- $_ := set $kubernetes "namespaces" (include "kvasir.attachedNamespaces" . | fromJsonArray) -}}
{{- $_ := set $kubernetes "pools" (dict "endpointPicker" (include "kvasir.fullname" .) "defaults" $defaults) -}}
{{- end -}}
{{- if .Values.leaderElection.enabled -}}
{{- $_ := set $kubernetes "leaderElection" (dict "enabled" true "leaseName" (include "kvasir.fullname" .)) -}}
{{- end -}}
{{- if $kubernetes -}}
{{- $_ := set $config "kubernetes" $kubernetes -}}
{{- end -}}
{{- $pools := list -}}
{{- range .Values.pools -}}
{{- $source := dict "namespace" (default $root.Release.Namespace .namespace) -}}
{{- if or (not .selector) (eq (include "kvasir.backend" $root) "InferencePool") -}}
{{- $_ := set $source "inferencePool" .name -}}
{{- else -}}
{{- $_ := set $source "selector" .selector -}}
{{- $_ := set $source "ports" .targetPorts -}}
{{- end -}}
{{- $given := dict "name" .name "maxBody" (toString $root.Values.maxBody) "discovery" (dict "kubernetes" $source) -}}
{{- $pools = append $pools (merge $given (deepCopy (default dict .settings))) -}}
{{- end -}}
{{- if $pools -}}
{{- $_ := set $config "pools" $pools -}}
{{- end -}}
{{- if eq .Values.gateway.mode "standalone" -}}
{{- $gateway := dict "listen" "0.0.0.0:8080" "admin" "127.0.0.1:9901" "wasm" "/usr/share/kvasir/kvasir_filter.wasm" -}}
{{- $_ := set $gateway "edsDirectory" "/run/kvasir/eds" -}}
{{- $_ := set $gateway "controlPlane" "127.0.0.1:9002" -}}
{{- $_ := set $gateway "upstream" .Values.standalone.upstream -}}
{{- $_ := set $gateway "streamIdleTimeout" .Values.gateway.streamIdleTimeout -}}
{{- with .Values.gateway.removeHeaders }}{{ $_ := set $gateway "removeHeaders" . }}{{ end -}}
{{- with .Values.standalone.httpFilters }}{{ $_ := set $gateway "httpFilters" . }}{{ end -}}
{{- $_ := set $config "gateway" $gateway -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The part of it whose change takes a restart. The rest is followed while it runs, without losing what is known. */}}
{{- define "kvasir.restartConfig" -}}
{{- $config := include "kvasir.config" . | fromYaml -}}
{{- if eq .Values.gateway.mode "standalone" -}}
{{- toYaml $config -}}
{{- else -}}
{{- $names := list -}}
{{- range (default list $config.pools) }}{{ $names = append $names .name }}{{ end -}}
{{- dict "listen" $config.listen "kubernetes" $config.kubernetes "pools" $names | toYaml -}}
{{- end -}}
{{- end -}}

{{/* JSON list: namespaces that `attached` looks at, "*" for all. */}}
{{- define "kvasir.attachedNamespaces" -}}
{{- if .Values.discovery.namespaces -}}
{{- .Values.discovery.namespaces | toJson -}}
{{- else if eq .Values.rbac.scope "cluster" -}}
["*"]
{{- else -}}
{{- list .Release.Namespace | toJson -}}
{{- end -}}
{{- end -}}

{{/* JSON list: namespaces that the control plane reads. */}}
{{- define "kvasir.readNamespaces" -}}
{{- $all := list -}}
{{- if .Values.discovery.attached -}}
{{- $all = include "kvasir.attachedNamespaces" . | fromJsonArray -}}
{{- end -}}
{{- range .Values.pools -}}
{{- $all = append $all (default $.Release.Namespace .namespace) -}}
{{- end -}}
{{- $all | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/* The filter's configuration, as JSON with a fixed order of keys. Takes {root, mode}. */}}
{{- define "kvasir.plugin" -}}
{{- $pools := .root.Values.pools -}}
{{- $plugin := dict "mode" .mode "cluster" "kvasir-controlplane" "max_body_bytes" (include "kvasir.maxBody" .root | int64) -}}
{{- if and (eq (len $pools) 1) (not .root.Values.discovery.attached) -}}
{{- $_ := set $plugin "pool" (first $pools).name -}}
{{- end -}}
{{- toJson $plugin -}}
{{- end -}}
