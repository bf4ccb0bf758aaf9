#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Stores a task: bring the carriage to rest at the goal.      clients/curl/task.sh [MODEL] [NAME]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
model=${1:-rail}
name=${2:-rail-stop}

say "storing task $name for model $model"
request=$(jq -n --arg model "$model" --arg name "$name" '{
    name: $name, model: $model, horizon: 8,
    cost: {
        stage: [{on: "y", index: [0], weight: 1, norm: "l1", target: "goal"}, {on: "u", weight: 0.01, norm: "l1"}],
        terminal: [{on: "y", index: [0], weight: 10, norm: "l1", target: "goal"}, {on: "y", index: [1], weight: 1, norm: "l1"}]
    },
    input: {lower: [-1], upper: [1], safe: [0]},
    planner: {method: "mip", gap: 0.01}
}')
task=$(call POST /v1/tasks -H 'Content-Type: application/json' --data "$request")
printf '%s\n' "$task" | jq -r '"\(.name)/\(.version)  \(.id)"'
