#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Asks for a plan, answered by its deadline.      clients/curl/plan.sh [TASK] [GOAL] [DEADLINE_MS]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
task=${1:-rail-stop}
goal=${2:-0.1}
deadline_ms=${3:-500}

say "planning $task from rest at 0 to $goal, within $deadline_ms ms"
request=$(jq -n --arg task "$task" --argjson goal "$goal" --argjson deadline_ms "$deadline_ms" \
    '{task: $task, y: [[0, 0]], goal: [$goal], deadline_ms: $deadline_ms}')
plan=$(call POST /v1/plans -H 'Content-Type: application/json' --data "$request")
printf '%s\n' "$plan" | jq -r '"\(.status)  objective \(.objective), lower bound \(.lower_bound), \(.ranges) ranges, \(.method), \(.timing.total_ms) ms",
    "inputs     \(.inputs | map(map(tostring) | join(" ")) | join(", "))"'
printf '%s\n' "$plan" | jq -e '.verified and (.status == "optimal" or .status == "feasible")' >/dev/null || {
    say "no plan that can be used"
    exit 1
}
