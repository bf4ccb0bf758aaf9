#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Trains a model and goes down the ladder, following the job.      clients/curl/train.sh [DATASET] [NAME] [SEED]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
dataset=${1:-rail}
name=${2:-rail}
seed=${3:-1}

say "training $name on dataset $dataset: 16 hidden neurons, then rungs of 4 and 2 ReLUs"
request=$(jq -n --arg dataset "$dataset" --arg name "$name" --argjson seed "$seed" '{
    kind: "train",
    spec: {
        dataset: $dataset, name: $name, model: {type: "mlp", hidden: [16]}, frame: "residual",
        epochs: 30, rung_epochs: 20, batch: 64, learning_rate: 0.01, seed: $seed, ladder: [4, 2]
    }
}')
job=$(call POST /v1/jobs -H 'Content-Type: application/json' --data "$request")
job=$(wait_job "$(printf '%s\n' "$job" | jq -r .id)")
printf '%s\n' "$job" | jq -r '.result.models[] | "\(.name)/\(.version)  \(.id)  \(.relu) ReLUs, validation RMSE \(.validation_rmse)"'
