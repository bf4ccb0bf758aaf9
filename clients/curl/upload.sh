#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Uploads a dataset: a file of NDJSON, or the tiny one of data.sh.      clients/curl/upload.sh [NAME] [FILE]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
name=${1:-rail}
file=${2:-}

if [ -z "$file" ]; then
    file=$(mktemp)
    trap 'rm -f "$file"' EXIT
    "$(dirname "$0")/data.sh" >"$file"
fi
say "uploading $(wc -l <"$file") trajectories as dataset $name"
dataset=$(call POST "/v1/datasets?name=$name" -H 'Content-Type: application/x-ndjson' --data-binary "@$file")
printf '%s\n' "$dataset" | jq -r '"\(.name)/\(.version)  \(.id)  \(.trajectories) trajectories, \(.transitions) transitions, ny \(.ny), nu \(.nu)"'
