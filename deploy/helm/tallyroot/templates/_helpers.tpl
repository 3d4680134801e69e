{{- define "tallyroot.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "tallyroot.labels" -}}
{{ include "tallyroot.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* What selects the pods of a release; each component adds its own label. */}}
{{- define "tallyroot.selector" -}}
app.kubernetes.io/name: tallyroot
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tallyroot.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* What every pod has: no root, no capability, nothing of its image to write to, no token of the cluster. */}}
{{- define "tallyroot.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tallyroot.container" -}}
image: {{ include "tallyroot.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "tallyroot.env" -}}
- {name: KAFKA_BOOTSTRAP_SERVERS, value: {{ .Values.kafka.bootstrapServers | quote }}}
{{- range $name, $value := .Values.kafka.properties }}
- {name: KAFKA_{{ $name | upper | replace "." "_" }}, value: {{ $value | quote }}}
{{- end }}
- {name: TALLYROOT_METRICS_PORT, value: {{ .Values.monitoring.port | quote }}}
{{- with .Values.store.uri }}
- {name: TALLYROOT_STORE, value: {{ . | quote }}}
{{- end }}
{{- end -}}

{{- define "tallyroot.envFrom" -}}
{{- with .Values.store.secret }}
envFrom: [{secretRef: {name: {{ . }}}}]
{{- end }}
{{- end -}}

{{/* The URL of a chain's node from a Secret: a dict of root and the reference. */}}
{{- define "tallyroot.rpc" -}}
{{- $reference := ternary .reference .root.Values.rpc (not (empty .reference.secret)) -}}
- name: CHAIN_RPC_URL
  valueFrom: {secretKeyRef: {name: {{ required "rpc.secret names no Secret with the URL of the chain's node" $reference.secret }}, key: {{ $reference.key }}}}
{{- end -}}

{{/* Where one role's key is: a dict of role and secret. */}}
{{- define "tallyroot.key" -}}
- {name: TALLYROOT_{{ upper .role }}_KEYSTORE, value: /etc/tallyroot/{{ .role }}/keystore.json}
- {name: TALLYROOT_{{ upper .role }}_PASSWORD_FILE, value: /etc/tallyroot/{{ .role }}/password}
{{- end -}}

{{- define "tallyroot.keyVolume" -}}
- name: {{ .role }}
  secret: {secretName: {{ .secret }}, defaultMode: 0440}
{{- end -}}

{{/* The log's description always, the ledger's where money is; both are given, never fetched from a stranger. */}}
{{- define "tallyroot.mounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
- {name: description, mountPath: /data/log.json, subPath: log.json, readOnly: true}
{{- if .Values.kafka.secret }}
- {name: kafka, mountPath: /etc/tallyroot/kafka, readOnly: true}
{{- end }}
{{- end -}}

{{- define "tallyroot.chainMount" -}}
- {name: description, mountPath: /data/chain.json, subPath: chain.json, readOnly: true}
{{- end -}}

{{- define "tallyroot.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 1Gi}}
- name: description
  configMap: {name: {{ include "tallyroot.name" . }}-description}
{{- with .Values.kafka.secret }}
- name: kafka
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{/* A claim of its own: a dict of root and storage. */}}
{{- define "tallyroot.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .className }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end -}}

{{- define "tallyroot.probes" -}}
ports: [{name: metrics, containerPort: {{ .root.Values.monitoring.port }}}]
# A first start may fetch a snapshot or read the whole log.
startupProbe:
  httpGet: {path: /metrics, port: metrics}
  periodSeconds: 5
  failureThreshold: 60
# A worker that stands still answers 503, and a restart helps. The settling job and the watcher answer 503 while they wait for
# funds or a node, where it doesn't: they are started again only if they don't answer at all.
livenessProbe:
  httpGet: {path: {{ ternary "/health" "/metrics" (eq .component "worker") }}, port: metrics}
  periodSeconds: 15
  timeoutSeconds: 5
  failureThreshold: 4
readinessProbe:
  httpGet: {path: /health, port: metrics}
  periodSeconds: 15
  timeoutSeconds: 5
{{- end -}}

{{/* The settling job's pod, for a Deployment and a CronJob. */}}
{{- define "tallyroot.settlePod" -}}
metadata:
  labels:
    {{- include "tallyroot.labels" . | nindent 4 }}
    app.kubernetes.io/component: settle
  annotations:
    checksum/description: {{ cat .Values.log .Values.chain | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  {{- include "tallyroot.pod" . | nindent 2 }}
  terminationGracePeriodSeconds: 120
  {{- if eq .Values.settle.kind "CronJob" }}
  restartPolicy: Never
  {{- end }}
  containers:
    - name: settle
      {{- include "tallyroot.container" . | nindent 6 }}
      args: {{ concat (list "settle") (ternary (list) (list "--follow") (eq .Values.settle.kind "CronJob")) .Values.settle.extraArgs | toJson }}
      env:
        {{- include "tallyroot.env" . | nindent 8 }}
        {{- include "tallyroot.rpc" (dict "root" . "reference" .Values.rpc) | nindent 8 }}
        {{- include "tallyroot.key" (dict "role" "poster") | nindent 8 }}
      {{- include "tallyroot.envFrom" . | nindent 6 }}
      {{- if ne .Values.settle.kind "CronJob" }}
      {{- include "tallyroot.probes" (dict "root" . "component" "settle") | nindent 6 }}
      {{- end }}
      resources: {{ toYaml .Values.settle.resources | nindent 8 }}
      volumeMounts:
        {{- include "tallyroot.mounts" . | nindent 8 }}
        {{- include "tallyroot.chainMount" . | nindent 8 }}
        - {name: poster, mountPath: /etc/tallyroot/poster, readOnly: true}
  volumes:
    {{- include "tallyroot.volumes" . | nindent 4 }}
    {{- include "tallyroot.keyVolume" (dict "role" "poster" "secret" (required "settle.poster names no Secret with keystore.json and password" .Values.settle.poster)) | nindent 4 }}
    - name: data
      persistentVolumeClaim: {claimName: {{ include "tallyroot.name" . }}-settle}
{{- end -}}
