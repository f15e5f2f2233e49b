{{/* Patches of an Istio gateway. INSERT_BEFORE the router keeps the order of the patches: each comes right before it. */}}

{{- define "kvasir.istio.beforeRouter" -}}
applyTo: HTTP_FILTER
match:
  context: GATEWAY
  listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}
{{- end -}}

{{/* Patches that both Istio modes have, before the filter's own. */}}
{{- define "kvasir.istio.commonPatches" -}}
# The filter's stream to the control plane.
- applyTo: CLUSTER
  match: {context: GATEWAY}
  patch:
    operation: ADD
    value:
      {{- include "kvasir.controlPlaneCluster" . | nindent 6 }}
# No client chooses its own target.
- applyTo: NETWORK_FILTER
  match:
    context: GATEWAY
    listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
  patch:
    operation: MERGE
    value:
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stream_idle_timeout: {{ include "kvasir.idleSeconds" . }}
        early_header_mutation_extensions:
        - name: envoy.http.early_header_mutation.header_mutation
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
            mutations:
            {{- range include "kvasir.ownHeaders" . | fromYamlArray }}
            - remove: {{ . | quote }}
            {{- end }}
{{- if eq (include "kvasir.backend" .) "InferencePool" }}
{{- if .Values.istio.removeExtProc }}
# Istio asks the pool's picker about every request; the filter has decided already.
- applyTo: HTTP_FILTER
  match:
    context: GATEWAY
    listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.ext_proc}}}}
  patch: {operation: REMOVE}
{{- end }}
{{- else }}
{{- range .Values.pools }}
# The Service's cluster follows the steering header.
- applyTo: CLUSTER
  match:
    context: GATEWAY
    cluster:
      service: {{ include "kvasir.poolService" (dict "root" $ "pool" .) }}.{{ $.Release.Namespace }}.svc.{{ $.Values.clusterDomain }}
      portNumber: {{ first .targetPorts }}
  patch:
    operation: MERGE
    value:
      load_balancing_policy:
        {{- include "kvasir.overrideHost" $ | nindent 8 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Of the last filter before the router. */}}
{{- define "kvasir.istio.headerToMetadata" -}}
{{- if eq (include "kvasir.backend" .) "InferencePool" -}}
# Istio's InferencePool clusters read the choice from metadata, which a Wasm filter cannot write.
- {{ include "kvasir.istio.beforeRouter" . | nindent 2 | trim }}
  patch:
    operation: INSERT_BEFORE
    value:
      name: envoy.filters.http.header_to_metadata
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config
        request_rules:
        - header: x-gateway-destination-endpoint
          on_header_present: {metadata_namespace: envoy.lb, key: x-gateway-destination-endpoint, type: STRING}
{{- end }}
{{- end -}}

{{/* "10m" as seconds, as protobuf writes durations. */}}
{{- define "kvasir.idleSeconds" -}}
{{- $text := .Values.gateway.streamIdleTimeout -}}
{{- $units := dict "s" 1 "m" 60 "h" 3600 -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get $units (regexFind "[smh]$" $text)) -}}s
{{- end -}}
