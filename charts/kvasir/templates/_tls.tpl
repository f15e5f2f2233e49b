{{/* TLS between gateway and control plane. In standalone nothing leaves the pod. */}}

{{- define "kvasir.tlsEnabled" -}}
{{- if and .Values.tls.enabled (ne .Values.gateway.mode "standalone") }}true{{ end -}}
{{- end -}}

{{- define "kvasir.tlsSecret" -}}
{{- default (printf "%s-tls" (include "kvasir.fullname" .)) .Values.tls.secretName -}}
{{- end -}}

{{/* DNS names of the control plane, as YAML list. */}}
{{- define "kvasir.tlsNames" -}}
{{- $short := printf "%s.%s" (include "kvasir.fullname" .) .Release.Namespace -}}
{{- list (include "kvasir.host" .) (printf "%s.svc" $short) $short (include "kvasir.fullname" .) | toYaml -}}
{{- end -}}

{{/* Makes the self-signed material once per rendering, or takes what the cluster has, and keeps it at .Values.tls.made:
the Secret and the gateway's patches have to tell the same CA. */}}
{{- define "kvasir.makeTls" -}}
{{- if not (hasKey .Values.tls "made") -}}
{{- $made := dict -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace (include "kvasir.tlsSecret" .) -}}
{{- $data := dict -}}
{{- if $found }}{{ $data = default dict $found.data }}{{ end -}}
{{- if and $data (hasKey $data "ca.crt") -}}
{{- $made = dict "ca" (get $data "ca.crt" | b64dec) "cert" (get $data "tls.crt" | b64dec) "key" (get $data "tls.key" | b64dec) -}}
{{- else if eq .Values.tls.source "selfSigned" -}}
{{- $names := include "kvasir.tlsNames" . | fromYamlArray -}}
{{- $ca := genCA (printf "%s-ca" (include "kvasir.fullname" .)) 3650 -}}
{{- $cert := genSignedCert (first $names) nil $names 3650 $ca -}}
{{- $made = dict "ca" $ca.Cert "cert" $cert.Cert "key" $cert.Key -}}
{{- end -}}
{{- $_ := set .Values.tls "made" $made -}}
{{- end -}}
{{- end -}}

{{/* Envoy's data source of the CA that signs the control plane's certificate. */}}
{{- define "kvasir.gatewayCa" -}}
{{- include "kvasir.makeTls" . -}}
{{- if .Values.tls.gatewayCa.file -}}
filename: {{ .Values.tls.gatewayCa.file }}
{{- else -}}
{{- $pem := default (get .Values.tls.made "ca") .Values.tls.gatewayCa.pem -}}
{{- if not $pem -}}
{{- fail (printf "tls.gatewayCa: needed with tls.source %s, as --set-file tls.gatewayCa.pem=ca.crt, or file: a path in the gateway's pods (Secret %s has no ca.crt yet)" .Values.tls.source (include "kvasir.tlsSecret" .)) -}}
{{- end -}}
inline_string: {{ $pem | quote }}
{{- end -}}
{{- end -}}

{{/* Gateways that would not be let in. Where gateways are not configured by us (epp), they may have other ways. */}}
{{- define "kvasir.checkClientAuth" -}}
{{- with .Values.tls.clientAuth -}}
{{- if and .certFile (not .keyFile) }}{{ fail "tls.clientAuth.keyFile: needed with certFile" }}{{ end -}}
{{- if and .keyFile (not .certFile) }}{{ fail "tls.clientAuth.certFile: needed with keyFile" }}{{ end -}}
{{- if and .caSecretName (not .certFile) -}}
{{- fail "tls.clientAuth.certFile: needed with caSecretName, which makes the control plane ask gateways for certificates" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Envoy's transport socket towards the control plane. */}}
{{- define "kvasir.transportSocket" -}}
{{- include "kvasir.checkClientAuth" . -}}
name: envoy.transport_sockets.tls
typed_config:
  "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
  sni: {{ include "kvasir.host" . }}
  common_tls_context:
    alpn_protocols: [h2]
    {{- with .Values.tls.clientAuth }}
    {{- if .certFile }}
    tls_certificates:
    - certificate_chain: {filename: {{ .certFile }}}
      private_key: {filename: {{ .keyFile }}}
    {{- end }}
    {{- end }}
    validation_context:
      trusted_ca:
        {{- include "kvasir.gatewayCa" . | nindent 8 }}
      match_typed_subject_alt_names:
      - san_type: DNS
        matcher: {exact: {{ include "kvasir.host" . }}}
{{- end -}}
