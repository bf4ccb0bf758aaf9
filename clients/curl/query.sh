#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a model predicts, and how much a change of its weights could do there, layer by layer.
#     clients/curl/query.sh [MODEL] [INPUT, as '[0,0.2,1]'] [THRESHOLD]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
model=${1:-rail/1}
input=${2:-'[0,0.2,1]'}
threshold=${3:-0.01}

say "asking $model about $input"
request=$(jq -cn --argjson x "$input" '{x: [$x]}')
prediction=$(call POST "/v1/models/$model/predict" -H 'Content-Type: application/json' --data "$request")
printf '%s\n' "$prediction" | jq -r '"predicts \(.y[0] | map(tostring) | join(" "))"'
request=$(jq -cn --arg model "$model" --argjson state "$input" --argjson threshold "$threshold" '{model: $model, states: [$state], error_threshold: $threshold}')
bounds=$(call POST /v1/bounds/query -H 'Content-Type: application/json' --data "$request")
printf '%s\n' "$bounds" | jq -r '.results[0].layers[] | "layer \(.layer)  weights may change by \(.max_norm) in norm"'
