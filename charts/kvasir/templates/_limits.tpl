{{/* The one body limit, in bytes. Envoy's buffers get 1 MiB more: it buffers a chunk, and refuses the body in words of its
own, before the filter sees that chunk. Room for one read of a connection lets the filter refuse first and name the limit. */}}

{{- define "kvasir.maxBody" -}}
{{- $text := .Values.maxBody | toString -}}
{{- $units := dict "" 1 "B" 1 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824 "KB" 1000 "kB" 1000 "MB" 1000000 "GB" 1000000000 -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get $units (regexFind "[A-Za-z]*$" $text)) -}}
{{- end -}}

{{- define "kvasir.bufferLimit" -}}
{{- add (include "kvasir.maxBody" . | int64) 1048576 -}}
{{- end -}}
