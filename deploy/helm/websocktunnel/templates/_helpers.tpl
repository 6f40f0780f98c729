{{- define "labels" -}}
app.kubernetes.io/name: websocktunnel
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "check" -}}
{{- if not .Values.url }}
{{- fail "url is required: the public URL of the service, such as https://tunnel.example.com" }}
{{- end }}
{{- if not .Values.secret }}
{{- fail "secret is required: the name of a Secret with the keys tokens, admin and, for several nodes, cluster" }}
{{- end }}
{{- if and (gt (int .Values.replicas) 1) (not .Values.cluster.redis) }}
{{- fail "replicas is more than 1: set cluster.redis, so that the nodes find each other's tunnels, or set replicas to 1" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.enabled needs ingress.hosts: the host of url" }}
{{- end }}
{{- end }}
