#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Trains a policy on what a task's planner does: its input is the carriage's position, its velocity and the goal.
#     clients/curl/distill.sh [TASK] [NAME] [SAMPLES]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
task=${1:-rail-stop}
name=${2:-rail-policy}
samples=${3:-600}

say "distilling $task: plans from $samples states, then from as many that the policy meets"
request=$(jq -n --arg task "$task" --arg name "$name" --argjson samples "$samples" '{
    kind: "distill",
    spec: {
        task: $task, name: $name, samples: $samples, hidden: [12, 12], dagger_rounds: 2, regret_states: 20, plan_ms: 50, seed: 1,
        domain: {lower: [-1, -1, -0.5], upper: [1, 1, 0.5]}
    }
}')
job=$(call POST /v1/jobs -H 'Content-Type: application/json' --data "$request")
job=$(wait_job "$(printf '%s\n' "$job" | jq -r .id)")
printf '%s\n' "$job" | jq -r '.result | "\(.model.name)/\(.model.version)  \(.model.id)  \(.model.relu) ReLUs, \(.answers) answers, \(.optimal) proved optimal",
    "error of the answers kept out: \(.rounds[-1].validation_rmse)",
    "regret over \(.regret.steps) steps: mean \(.regret.mean), p50 \(.regret.p50), p90 \(.regret.p90), of a cost of \(.regret.planner_cost)"'
