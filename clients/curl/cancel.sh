#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Submits a training job far too long, lets it start, and cancels it.      clients/curl/cancel.sh [DATASET]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
dataset=${1:-rail}

request=$(jq -n --arg dataset "$dataset" '{
    kind: "train",
    spec: {dataset: $dataset, name: "rail-endless", model: {type: "mlp", hidden: [64, 64]}, frame: "residual", epochs: 100000, batch: 64}
}')
job=$(call POST /v1/jobs -H 'Content-Type: application/json' --data "$request")
id=$(printf '%s\n' "$job" | jq -r .id)
say "submitted $id; waiting for it to start"
for _ in $(seq 100); do
    job=$(call GET "/v1/jobs/$id")
    [ "$(printf '%s\n' "$job" | jq -r .state)" = queued ] || break
    sleep 0.1
done
say "it is $(printf '%s\n' "$job" | jq -r .state); cancelling"
call DELETE "/v1/jobs/$id" >/dev/null
for _ in $(seq 100); do
    job=$(call GET "/v1/jobs/$id" -H 'Prefer: wait=1')
    case $(printf '%s\n' "$job" | jq -r .state) in
    queued | running | cancelling) sleep 0.1 ;;
    *) break ;;
    esac
done
printf '%s\n' "$job" | jq -r '"\(.id)  \(.state)"'
[ "$(printf '%s\n' "$job" | jq -r .state)" = cancelled ]
