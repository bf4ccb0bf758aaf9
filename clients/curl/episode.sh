#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Reports how a closed loop went, and shows the curve of performance over sparsity as CSV.
#     clients/curl/episode.sh [MODEL] [TASK] [COST] [SUCCESS]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
model=${1:-rail}
task=${2:-rail-stop}
cost=${3:-1.5}
success=${4:-true}

say "reporting an episode of $task with $model, cost $cost"
request=$(jq -n --arg model "$model" --arg task "$task" --argjson cost "$cost" --argjson success "$success" \
    '{model: $model, task: $task, robot: "recipe", steps: 100, cost: $cost, success: $success}')
call POST /v1/episodes -H 'Content-Type: application/json' --data "$request" >/dev/null
call GET '/v1/episodes?sort=relu&format=csv' | cut -d, -f2,3,5,6,9,11,14,15
