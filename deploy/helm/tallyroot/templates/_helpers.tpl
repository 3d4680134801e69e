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
ports: [{name: metrics, containerPort: {{ .Values.monitoring.port }}}]
# A first start may fetch a snapshot; a worker that stands still answers 503, and is started again.
startupProbe:
  httpGet: {path: /health, port: metrics}
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /health, port: metrics}
  periodSeconds: 15
  timeoutSeconds: 5
  failureThreshold: 4
{{- end -}}
