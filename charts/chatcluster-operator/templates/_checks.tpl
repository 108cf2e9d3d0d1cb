{{- /* What a schema would refuse with a pattern, refused with a sentence that says what to do. */ -}}
{{- define "operator.checks" -}}
{{- $v := .Values -}}
{{- if lt (int $v.replicas) 1 }}{{ fail (printf "replicas: %d runs nothing; to stop the operator, helm uninstall it: running clusters go on" (int $v.replicas)) }}{{ end -}}
{{- if gt (int $v.replicas) 5 }}{{ fail (printf "replicas: %d is more than there is use for: one writes and the others wait; take 1 to 5" (int $v.replicas)) }}{{ end -}}
{{- if not $v.image.repository }}{{ fail "image.repository is empty; name the operator's image without its tag, for example ghcr.io/chatcluster/operator" }}{{ end -}}
{{- if regexMatch "\\s|[:@][^/]*$" $v.image.repository }}{{ fail (printf "image.repository: %q is more than a repository; its tag goes into image.tag, its digest into image.digest" $v.image.repository) }}{{ end -}}
{{- if not (regexMatch "^([\\w][-\\w.]{0,127})?$" ($v.image.tag | default "")) }}{{ fail (printf "image.tag: %q is no tag; letters, digits, `_`, `.` and `-` are allowed, for example 1.2.0" $v.image.tag) }}{{ end -}}
{{- if not (regexMatch "^(sha256:[0-9a-f]{64})?$" ($v.image.digest | default "")) }}{{ fail (printf "image.digest: %q is no digest; it is sha256: and 64 hexadecimal digits, or empty to go by the tag" $v.image.digest) }}{{ end -}}
{{- if not $v.redis.image }}{{ fail "redis.image is empty; name the image of the embedded Redis, for example docker.io/library/redis:7.4" }}{{ end -}}
{{- range $key, $image := dict "dataplane.image" ($v.dataplane.image | default "") "redis.image" $v.redis.image -}}
{{- if regexMatch "\\s" $image }}{{ fail (printf "%s: %q has a space; name one image, for example registry.example/chat:1.2.0" $key $image) }}{{ end -}}
{{- if and $image (not (regexMatch "(:[\\w][-\\w.]{0,127}|@sha256:[0-9a-f]{64})$" $image)) }}{{ fail (printf "%s: %q has no tag and no digest, so nobody could say what runs; for example registry.example/chat:1.2.0" $key $image) }}{{ end -}}
{{- end -}}
{{- $levels := list "error" "warn" "info" "debug" "trace" -}}
{{- if not (has $v.logLevel $levels) }}{{ fail (printf "logLevel: %q is none of %s" $v.logLevel (join ", " $levels)) }}{{ end -}}
{{- $seen := dict -}}
{{- range $name := $v.watchNamespaces -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" $name) }}{{ fail (printf "watchNamespaces: %q is no name of a namespace; small letters, digits and `-` are allowed" $name) }}{{ end -}}
{{- if hasKey $seen $name }}{{ fail (printf "watchNamespaces: %s comes twice; name it once" $name) }}{{ end -}}
{{- $_ := set $seen $name true -}}
{{- end -}}
{{- if not (regexMatch "^[0-9]+(ms|s|m|h)$" ($v.serviceMonitor.interval | default "")) }}{{ fail (printf "serviceMonitor.interval: %q is no time with its unit; for example 30s" $v.serviceMonitor.interval) }}{{ end -}}
{{- end }}
