{{/* Envoy configuration that more than one kind of gateway gets. `kvasir envoy` renders the same for an Envoy of our own;
charts/tests holds the two together. */}}

{{/* Cluster of the control plane: HTTP/2, found dead by keepalives within seconds. */}}
{{- define "kvasir.controlPlaneCluster" -}}
name: kvasir-controlplane
type: STRICT_DNS
connect_timeout: 1s
load_assignment:
  cluster_name: kvasir-controlplane
  endpoints:
  - lb_endpoints:
    - endpoint: {address: {socket_address: {address: {{ include "kvasir.host" . }}, port_value: 9002}}}
upstream_connection_options:
  tcp_keepalive: {keepalive_probes: 3, keepalive_time: 10, keepalive_interval: 3}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    common_http_protocol_options: {idle_timeout: 0s}
    explicit_http_config:
      http2_protocol_options:
        connection_keepalive: {interval: 10s, timeout: 5s}
{{- if include "kvasir.tlsEnabled" . }}
transport_socket:
  {{- include "kvasir.transportSocket" . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Set by us or by engines' sidecars only: a client that sends them could choose its own target. */}}
{{- define "kvasir.ownHeaders" -}}
- x-gateway-destination-endpoint
- x-gateway-destination-endpoint-subset
- x-gateway-destination-endpoint-served
- x-prefiller-host-port
- x-encoder-hosts-ports
- x-data-parallel-host-port
- x-kv-cache-source-host-port
- x-llm-d-request-dropped-reason
- x-kvasir-decision
- x-kvasir-pool
{{- range .Values.gateway.removeHeaders }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The cluster follows the steering header, down its list with each retry; without it, and when the list is used up, the
host with the fewest requests is taken. */}}
{{- define "kvasir.overrideHost" -}}
policies:
- typed_extension_config:
    name: envoy.load_balancing_policies.override_host
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost
      override_host_sources: [{header: x-gateway-destination-endpoint}]
      fallback_policy:
        policies:
        - typed_extension_config:
            name: envoy.load_balancing_policies.least_request
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest
{{- end -}}

{{/* Labels travel in the names of the filter's statistics as |name=value; its histograms need bounds of their own. */}}
{{- define "kvasir.statsConfig" -}}
stats_tags:
{{- range list "pool" "endpoint" "model" "reason" "stage" "status" }}
- {tag_name: {{ . }}, regex: '(\|{{ . }}=([^|]*))'}
{{- end }}
histogram_bucket_settings:
- match: {prefix: wasmcustom.kvasir_decision_microseconds}
  buckets: [1, 2, 3, 5, 7, 10, 15, 20, 25, 35, 50, 75, 100, 200, 500, 1000, 2000, 5000, 20000]
- match: {prefix: wasmcustom.kvasir_time_to_first_token_milliseconds}
  buckets: [5, 10, 20, 35, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10000, 30000, 120000]
- match: {prefix: wasmcustom.kvasir_time_per_output_token_microseconds}
  buckets: [1000, 2000, 5000, 7500, 10000, 15000, 20000, 25000, 30000, 40000, 50000, 75000, 100000, 200000, 500000, 2000000]
- match: {prefix: wasmcustom.kvasir_cached_tokens_prediction_error}
  buckets: [1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536]
{{- end -}}
