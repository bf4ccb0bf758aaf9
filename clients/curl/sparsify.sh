#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goes down the ladder from a registered model, by Gumbel masks or by channel pruning.
#     clients/curl/sparsify.sh [MODEL] [DATASET] [NAME] [gumbel|channel]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
model=${1:-rail/1}
dataset=${2:-rail}
name=${3:-rail-sparse}
method=${4:-gumbel}

say "sparsifying $model on dataset $dataset by $method: rungs of 8 and 3 ReLUs"
request=$(jq -n --arg model "$model" --arg dataset "$dataset" --arg name "$name" --arg method "$method" '{
    kind: "sparsify",
    spec: {model: $model, dataset: $dataset, name: $name, method: $method, ladder: [8, 3], rung_epochs: 20, batch: 64, stable: "data_box"}
}')
job=$(call POST /v1/jobs -H 'Content-Type: application/json' --data "$request")
job=$(wait_job "$(printf '%s\n' "$job" | jq -r .id)")
printf '%s\n' "$job" | jq -r '.result.models[] | "\(.name)/\(.version)  \(.id)  \(.relu) ReLUs, validation RMSE \(.validation_rmse)"'
