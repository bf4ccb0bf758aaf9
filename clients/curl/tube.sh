#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What sparse models and pruned policies do over many steps: the tube between two closed loops on the carriage, what planning on
# a sparse model can cost, and how good the model is on held-out trajectories.
#     clients/curl/tube.sh [SPARSE] [DENSE] [TASK]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
sparse=${1:-rail}
dense=${2:-rail/1}
task=${3:-rail-stop}

certify() {
    job=$(call POST /v1/jobs -H 'Content-Type: application/json' --data "$(jq -n --argjson spec "$1" '{kind: "certify", spec: $spec}')")
    wait_job "$(printf '%s\n' "$job" | jq -r .id)" |
        jq -r '.result.certificates[] | "\(.kind) by \(.method): at most \(.value)  (\(.strength), \(.status))"'
}

say "uploading a brake, and the same with its smallest weight gone"
net='{"layers":[{"w":[[1,0.9],[-1,-0.8],[0.05,0]],"b":[0,0,0.1],"activation":"relu"},{"w":[[-0.5,0.5,0.1]],"b":[-0.01],"activation":"identity"}]}'
call POST '/v1/models?name=brake&kind=policy' -H 'Content-Type: application/json' --data "$net" >/dev/null
call POST '/v1/models?name=brake-pruned&kind=policy' -H 'Content-Type: application/json' \
    --data "$(printf '%s\n' "$net" | jq -c '.layers[0].w[2][0] = 0')" >/dev/null

say "the tube between their closed loops"
certify "$(jq -nc --arg dynamics "$dense" '{kind: "closed_loop", policy: "brake-pruned", reference: "brake", dynamics: $dynamics,
    domain: {lower: [-0.2, -0.2], upper: [0.2, 0.2]}, steps: 10, time_limit_s: 2}')"

say "what planning on $sparse can cost on $dense"
certify "$(jq -nc --arg model "$sparse" --arg reference "$dense" --arg task "$task" '{kind: "planning_loss", model: $model, reference: $reference,
    task: $task, domain: {lower: [-0.2, -0.2], upper: [0.2, 0.2]}, time_limit_s: 2}')"

say "uploading held-out trajectories"
"$(dirname "$0")/data.sh" 30 25 77 | call POST '/v1/datasets?name=rail-held-out' -H 'Content-Type: application/x-ndjson' --data-binary @- >/dev/null
certify "$(jq -nc --arg model "$sparse" '{kind: "conformal", model: $model, dataset: "rail-held-out", coverage: 0.9, horizon: 5}')"
