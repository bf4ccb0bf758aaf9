#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Certifies the largest difference between a model and the one it came from, over a box of inputs.
#     clients/curl/certify.sh [MODEL] [REFERENCE]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
model=${1:-rail}
reference=${2:-rail/1}

say "certifying $model against $reference for positions, velocities and pushes in [-1, 1]"
request=$(jq -n --arg model "$model" --arg reference "$reference" '{
    kind: "certify",
    spec: {model: $model, reference: $reference, domain: {lower: [-1, -1, -1], upper: [1, 1, 1]}, norm: "linf", time_limit_s: 5}
}')
job=$(call POST /v1/jobs -H 'Content-Type: application/json' --data "$request")
job=$(wait_job "$(printf '%s\n' "$job" | jq -r .id)")
printf '%s\n' "$job" | jq -r '.result.certificates[] | "\(.kind) in \(.norm): at most \(.value), at least \(.lower)  (\(.method), \(.strength), \(.status))"'
