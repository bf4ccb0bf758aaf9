#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From a task to a microcontroller: a policy distilled, pruned within an error budget, certified, and as a C file that tests itself.
#     clients/curl/policy_to_c.sh [TASK] [NAME] [BUDGET] [FILE] [CSV]      $SAMPLES: states to plan from, 600
# With CSV: also every pruning method at ten sparsities, with the proved bound of the error over the domain, the largest error that an
# input is known to reach, and the RMS at inputs that calibration has not seen, as a table in that file.
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
here=$(dirname "$0")
task=${1:-rail-stop}
name=${2:-rail-policy}
budget=${3:-0.05}
file=${4:-policy.c}
csv=${5:-}

submit() {
    call POST /v1/jobs -H 'Content-Type: application/json' --data "$1" | jq -r .id
}

"$here/distill.sh" "$task" "$name" "${SAMPLES:-600}"
policy=$(call GET "/v1/models/$name")
dense=$(printf '%s\n' "$policy" | jq -r .id)
domain=$(printf '%s\n' "$policy" | jq -c .metrics.data_box)

# What each method comes to at each sparsity.
if [ "$csv" ]; then
    say "pruning by every method to ten sparsities"
    echo "method,sparsity,bound,lower,rms" >"$csv"
    for method in magnitude obd obs sparsegpt; do
        for tenths in 0.5 1 2 3 4 5 6 7 8 9; do
            request=$(jq -n --arg model "$dense" --arg name "$name-ladder" --arg method "$method" --argjson tenths "$tenths" --argjson domain "$domain" '{
                kind: "prune",
                spec: {model: $model, name: $name, method: $method, sparsity: ($tenths / 10), domain: $domain, time_limit_s: 2}
            }')
            id=$(submit "$request")
            wait_job "$id" 2>/dev/null | jq -r '.result.reached[0] | [.method, .sparsity, .certified, .lower, .measured.rms] | map(tostring) | join(",")' >>"$csv"
        done
    done
fi

say "pruning $name to at most $budget of difference"
request=$(jq -n --arg model "$dense" --arg name "$name-light" --argjson budget "$budget" --argjson domain "$domain" '{
    kind: "prune",
    spec: {model: $model, name: $name, error_budget: $budget, domain: $domain, time_limit_s: 20}
}')
id=$(submit "$request")
job=$(wait_job "$id")
light=$(printf '%s\n' "$job" | jq -r '.result.model.id // empty')
[ "$light" ] || { say "no model keeps the budget" && exit 1; }
printf '%s\n' "$job" | jq -r '.result | "\(.model.name)/\(.model.version)  \(.model.nonzero) of \(.model.parameters) parameters, by \(.method)"'

say "certifying it"
request=$(jq -n --arg model "$light" --arg reference "$dense" --argjson domain "$domain" '{
    kind: "certify",
    spec: {model: $model, reference: $reference, domain: $domain, norm: "linf", time_limit_s: 5}
}')
id=$(submit "$request")
job=$(wait_job "$id")
printf '%s\n' "$job" | jq -r '[.result.certificates[] | select(.kind == "difference" and .strength == "proved")] | min_by(.value)
    | "difference: at most \(.value), at least \(.lower)  (\(.method))"'

"$here/artifact.sh" "$light" "$file" c precision=float
