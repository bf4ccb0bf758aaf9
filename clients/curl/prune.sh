#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Takes as many weights from a model as an error budget over a box of inputs allows, by every method.
# With `tune` what is left is trained further, which makes room for more.
#     clients/curl/prune.sh [MODEL] [BUDGET] [NAME] [tune]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
model=${1:-rail/1}
budget=${2:-0.05}
name=${3:-rail-pruned}
tune=${4:-}

say "pruning $model to at most $budget of difference for positions, velocities and pushes in [-1, 1]"
request=$(jq -n --arg model "$model" --argjson budget "$budget" --arg name "$name" --arg tune "$tune" '{
    kind: "prune",
    spec: ({
        model: $model, name: $name, error_budget: $budget, norm: "linf", time_limit_s: 20, samples: 2000,
        domain: {lower: [-1, -1, -1], upper: [1, 1, 1]}
    } + if $tune == "tune" then {fine_tune: {}} else {} end)
}')
job=$(call POST /v1/jobs -H 'Content-Type: application/json' --data "$request")
job=$(wait_job "$(printf '%s\n' "$job" | jq -r .id)")
printf '%s\n' "$job" | jq -r '.result | (.reached[] | "\(.method), \(.scope): "
    + if .sparsity == null then (.error // "nothing within the budget") else "sparsity \(.sparsity), certified \(.certified), RMS \(.measured.rms)" end),
    if .model then "\(.model.name)/\(.model.version)  \(.model.id)  \(.model.nonzero) of \(.model.parameters) parameters, by \(.method)" else "no model keeps the budget" end'
