#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Many plans at once, one a line, answered in their order.      clients/curl/plans.sh [TASK] [GOAL...]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
task=${1:-rail-stop}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- 0.05 0.1 0.15

say "planning $task to $*"
lines=$(for goal; do
    jq -cn --arg task "$task" --argjson goal "$goal" '{task: $task, y: [[0, 0]], goal: [$goal], deadline_ms: 1000}'
done)
plans=$(printf '%s\n' "$lines" | call POST /v1/plans/batch -H 'Content-Type: application/x-ndjson' --data-binary @-)
printf '%s\n' "$plans" | jq -r 'if .code then "refused: \(.detail)" else "\(.status)  objective \(.objective)" end'
