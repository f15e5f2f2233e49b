{{/* What the schema cannot say: combinations that would install and not work. Included by the ConfigMap, which every mode has. */}}

{{- define "kvasir.checks" -}}
{{- $mode := .Values.gateway.mode -}}
{{- $backend := include "kvasir.backend" . -}}
{{- if not $mode -}}
{{- fail "gateway.mode: choose istio-wasmplugin, istio-envoyfilter, envoy-gateway, standalone or epp (values.yaml says what each is)" -}}
{{- end -}}
{{- if and (not .Values.pools) (not .Values.discovery.attached) -}}
{{- fail "pools: name at least one, as in --set pools[0].name=llama,pools[0].selector.app=vllm-llama,pools[0].targetPorts={8000}; or set discovery.attached to serve InferencePools that name our Service" -}}
{{- end -}}
{{- if and .Values.discovery.attached (has $mode (list "standalone" "istio-wasmplugin" "envoy-gateway")) -}}
{{- fail (printf "discovery.attached: not in mode %s, whose routes are made from the list in `pools`" $mode) -}}
{{- end -}}
{{- if and (ne $mode "standalone") (ne $mode "epp") (not .Values.wasm.url) -}}
{{- fail "wasm.url: where the gateway fetches the filter, as in oci://registry.example/kvasir-filter:0.1.0 (`./wasm-build.sh --oci DIR` builds that image)" -}}
{{- end -}}
{{- if and (eq $mode "istio-wasmplugin") (gt (len .Values.pools) 1) -}}
{{- fail "pools: istio-wasmplugin serves one pool, because a stock WasmPlugin cannot change the route; use istio-envoyfilter, or a Gateway and a release for each pool" -}}
{{- end -}}
{{- if and (eq $mode "envoy-gateway") (ne $backend "Service") -}}
{{- fail "gateway.backend: Envoy Gateway routes to Services only; leave it empty" -}}
{{- end -}}
{{- if and (eq $mode "envoy-gateway") (hasPrefix "file:" .Values.wasm.url) -}}
{{- fail "wasm.url: Envoy Gateway fetches the filter itself, over oci:// or http(s)://" -}}
{{- end -}}
{{- if and (eq $mode "istio-envoyfilter") .Values.wasm.pullSecret -}}
{{- fail "wasm.pullSecret: an EnvoyFilter cannot name one; use a registry that the gateway may read, http(s)://, or istio-wasmplugin" -}}
{{- end -}}
{{- if and (eq $mode "epp") .Values.route.create (gt (len .Values.pools) 1) -}}
{{- fail "route.create: which requests are for which pool? Without the filter the gateway has to know: set it false and route to each InferencePool yourself" -}}
{{- end -}}
{{- if and (eq $mode "epp") (ne $backend "InferencePool") -}}
{{- fail "gateway.backend: the endpoint picker protocol needs InferencePools" -}}
{{- end -}}
{{- if and (eq $mode "epp") .Values.gateway.removeHeaders -}}
{{- fail "gateway.removeHeaders: not in mode epp, where nothing of ours is in the gateway: have the gateway itself remove them" -}}
{{- end -}}
{{- if and (ne $mode "standalone") .Values.standalone.httpFilters -}}
{{- fail (printf "standalone.httpFilters: not in mode %s, whose Envoy is configured by its gateway controller; use that one's policies" $mode) -}}
{{- end -}}
{{- range $index, $pool := .Values.pools -}}
{{- if and $pool.selector (not $pool.targetPorts) -}}
{{- fail (printf "pools[%d].targetPorts: needed with a selector" $index) -}}
{{- end -}}
{{- if and $pool.targetPorts (not $pool.selector) -}}
{{- fail (printf "pools[%d].selector: needed with targetPorts; an InferencePool that exists has its own" $index) -}}
{{- end -}}
{{- if and (eq $backend "Service") (ne $mode "standalone") (not $pool.selector) -}}
{{- fail (printf "pools[%d].selector: needed where routes point to Services" $index) -}}
{{- end -}}
{{- if and $pool.namespace (ne $pool.namespace $.Release.Namespace) $pool.selector (ne $mode "standalone") -}}
{{- fail (printf "pools[%d].namespace: objects are created in the release's namespace only; leave selector and targetPorts out and name an InferencePool that exists there" $index) -}}
{{- end -}}
{{- if and (hasPrefix "istio-" $mode) (eq $backend "Service") (gt (len (default list $pool.targetPorts)) 1) -}}
{{- fail (printf "pools[%d].targetPorts: Istio makes a cluster of each port of a Service, so only one port is reached; use gateway.backend: InferencePool" $index) -}}
{{- end -}}
{{- range $other, $twin := $.Values.pools -}}
{{- if and (lt $index $other) (eq $pool.name $twin.name) -}}
{{- fail (printf "pools[%d].name: %s again" $other $pool.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq (include "kvasir.maxBody" . | int64) 0 -}}
{{- fail "maxBody: must be more than 0" -}}
{{- end -}}
{{- end -}}
