#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Submits a job once, however often it is sent, follows its events from where it was, and lists what it made.
#     clients/curl/events.sh [MODEL] [DATASET]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
model=${1:-rail/1}
dataset=${2:-rail}

key="recipe-$$-$(date +%s)"
request=$(jq -cn --arg model "$model" --arg dataset "$dataset" '{kind: "certify", spec: {model: $model, domain: {dataset: $dataset}}}')
for attempt in first second; do
    job=$(call POST /v1/jobs -H 'Content-Type: application/json' -H "Idempotency-Key: $key" --data "$request")
    id=$(printf '%s\n' "$job" | jq -r .id)
    say "the $attempt time: $id"
done
say "its events after the first, as a client that comes back asks for them"
call GET "/v1/jobs/$id/events" -N -H 'Last-Event-ID: 1' | sed -n 's/^data: //p' | jq -r 'select(.state) | .state'
call GET "/v1/jobs/$id/artifacts" | jq -r '.items[] | "\(.kind)  \(.name)  \(.href)"'
call GET "/v1/jobs/$id/log" >&2
