#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Submits a batch of jobs, one a line, and waits for them all.      clients/curl/batch.sh [DATASET] [SEED...]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
dataset=${1:-rail}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- 1 2 3

say "submitting $# training jobs, seeds $*"
lines=$(for seed; do
    jq -cn --arg dataset "$dataset" --argjson seed "$seed" \
        '{kind: "train", spec: {dataset: $dataset, name: "rail-seed-\($seed)", model: {type: "mlp", hidden: [8]}, frame: "residual", epochs: 5, batch: 64, seed: $seed}}'
done)
replies=$(printf '%s\n' "$lines" | call POST /v1/jobs/batch -H 'Content-Type: application/x-ndjson' --data-binary @-)
# a line is a job, or the problem of the line it answers
if printf '%s\n' "$replies" | jq -e 'select(.code) | .detail' >&2; then
    say "a line was refused"
    exit 1
fi
for id in $(printf '%s\n' "$replies" | jq -r .id); do
    job=$(wait_job "$id")
    printf '%s\n' "$job" | jq -r '.result.models[] | "\(.name)/\(.version)  validation RMSE \(.validation_rmse)"'
done
