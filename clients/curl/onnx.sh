#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Uploads a network trained elsewhere. KIND may be left out ("") when the file comes from an export of the service.
#     clients/curl/onnx.sh [FILE] [NAME] [KIND] [HISTORY]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
file=${1:-model.onnx}
name=${2:-rail-onnx}
kind=${3:-}
history=${4:-}

say "uploading $file as model $name"
model=$(call POST "/v1/models?name=$name${kind:+&kind=$kind}${history:+&history=$history}" -H 'Content-Type: application/onnx' --data-binary "@$file")
printf '%s\n' "$model" | jq -r '"\(.name)/\(.version)  \(.id)  \(.kind), ny \(.ny), nu \(.nu), history \(.history), \(.relu) ReLUs, sha256 \(.sha256)"'
