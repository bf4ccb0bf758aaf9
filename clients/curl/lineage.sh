#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tags a model, and shows where it comes from and what came of it.      clients/curl/lineage.sh [MODEL] [TAG]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
model=${1:-rail/1}
tag=${2:-example}

say "tagging $model with $tag"
call PUT "/v1/models/$model/tags/$tag" >/dev/null
lineage=$(call GET "/v1/models/$model/lineage")
printf '%s\n' "$lineage" | jq -r 'def line: "\(.name)/\(.version)  \(.relu) ReLUs, sparsity \(.sparsity)";
    (.datasets[] | "data   \(.name)/\(.version)"), (.ancestors | reverse | .[] | "from   " + line), "model  " + (.model | line),
    (.descendants[] | "to     " + line)'
