#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Proves a certificate again, without the service: its record and the files of its models are all that is downloaded.
#     clients/curl/check.sh [FILTER ...]      of the newest proved row; $ESPALIER_CHECK is the program
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
check=${ESPALIER_CHECK:-build/release/espalier-check}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

query='strength=proved&kind__ne=closed_form&method__ne=forever&sort=-created_at&limit=1'
for filter; do query="$query&$filter"; done
id=$(call GET "/v1/bounds?$query" | jq -r '.items[0].id // empty')
[ "$id" ] || { say "no such certificate" && exit 1; }
call GET "/v1/bounds/$id" >"$dir/certificate"
for sha256 in $(jq -r '.record | .model_sha256, .reference_sha256, .dynamics_sha256 | select(.)' "$dir/certificate"); do
    model=$(call GET "/v1/models?sha256=$sha256&limit=1" | jq -r '.items[0].id')
    say "fetching model $model"
    curl -sS ${ESPALIER_TOKEN:+-H "Authorization: Bearer $ESPALIER_TOKEN"} "$ESPALIER/v1/models/$model/artifact?format=espalier" >"$dir/$sha256"
done
jq -r '"\(.kind) by \(.method): at most \(.value)"' "$dir/certificate"
"$check" --models "$dir" "$dir/certificate"
