{{/* The Envoy of the standalone pod. It and the control plane share a folder: bootstrap and filter, written by the init
container, and the pools' endpoints, which the control plane keeps up to date. */}}

{{- define "kvasir.standalone.init" -}}
- name: bootstrap
  image: {{ include "kvasir.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [envoy, --config, /etc/kvasir/config/config.yaml, --into, /run/kvasir]
  securityContext:
    {{- include "kvasir.containerSecurity" . | nindent 4 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    - {name: config, mountPath: /etc/kvasir/config, readOnly: true}
    - {name: run, mountPath: /run/kvasir}
{{- end -}}

{{- define "kvasir.standalone.envoy" -}}
- name: envoy
  image: {{ .Values.standalone.envoy.image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [/usr/local/bin/envoy]
  args:
    - --config-path
    - /run/kvasir/envoy.json
    - --service-node
    # How the control plane knows this gateway.
    - $(POD_NAME)
    - --concurrency
    - {{ .Values.standalone.envoy.workers | quote }}
    - --log-level
    - warn
    # Nothing restarts this Envoy in place, and its shared memory would need a writable /dev/shm.
    - --disable-hot-restart
  env:
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
  ports:
    - {name: gateway, containerPort: 8080}
  readinessProbe:
    tcpSocket: {port: gateway}
    periodSeconds: 2
    failureThreshold: 2
  livenessProbe:
    tcpSocket: {port: gateway}
    initialDelaySeconds: 10
    periodSeconds: 10
    failureThreshold: 3
  lifecycle:
    preStop:
      sleep: {seconds: {{ .Values.standalone.envoy.drainSeconds }}}
  securityContext:
    {{- include "kvasir.containerSecurity" . | nindent 4 }}
  resources:
    {{- toYaml .Values.standalone.envoy.resources | nindent 4 }}
  volumeMounts:
    - {name: run, mountPath: /run/kvasir, readOnly: true}
{{- end -}}
