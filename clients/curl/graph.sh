#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Trains a graph network on pushes of two discs, prunes it by channels for comparison, and asks it about three.      clients/curl/graph.sh [TRANSITIONS]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
transitions=${1:-20000}

say "$transitions pushes of two discs"
"${ESPALIER_BUILD:-build/release}/espalier-robots" data sorting2 --transitions "$transitions" --seed 1 2>/dev/null |
    call POST "/v1/datasets?name=sorting" -H 'Content-Type: application/x-ndjson' --data-binary @- >/dev/null
job=$(call POST /v1/jobs -H 'Content-Type: application/json' --data '{"kind":"train","spec":{"dataset":"sorting","name":"sorting",
    "model":{"type":"graph","objects":{"count":2,"size":2,"position":[0,1]},"points":[{"on":"u","index":[0,1]}],"radius":0.5,
    "node":[32],"edge":[32],"width":32,"output":[32]},"frame":"residual","epochs":20,"rung_epochs":20,"ladder":[40]}}')
wait_job "$(printf '%s\n' "$job" | jq -r .id)" | jq -r '.result.models[] | "\(.name)/\(.version)  \(.relu) ReLUs with two discs, RMSE \(.validation_rmse)"'
say "the same dense network by channel pruning"
job=$(call POST /v1/jobs -H 'Content-Type: application/json' --data '{"kind":"sparsify","spec":{"model":"sorting/1","dataset":"sorting",
    "name":"sorting-channel","method":"channel","rung_epochs":20,"ladder":[40]}}')
wait_job "$(printf '%s\n' "$job" | jq -r .id)" | jq -r '.result.models[] | "\(.name)/\(.version)  \(.relu) ReLUs with two discs, RMSE \(.validation_rmse)"'
say "three discs in a row, the first pushed to the right"
call POST /v1/models/sorting/predict -H 'Content-Type: application/json' \
    --data '{"x":[[-0.3,0, 0.02,0, 0.6,0.5, -0.6,0,0.4,0]]}' | jq -c '.y[0]'
