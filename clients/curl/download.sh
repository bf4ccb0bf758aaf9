#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Downloads a dataset as it was uploaded, and compares it with its hash.      clients/curl/download.sh [DATASET] [FILE]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
dataset=${1:-rail}
file=${2:-$(mktemp)}

wanted=$(call GET "/v1/datasets/$dataset" | jq -r .sha256)
say "downloading $dataset to $file"
call GET "/v1/datasets/$dataset/data" -o "$file" >/dev/null
found=$(sha256sum "$file" | cut -d' ' -f1)
[ "$found" = "$wanted" ] || {
    say "its hash is $found, not $wanted"
    exit 1
}
printf '%s  %s bytes, the hash is right\n' "$dataset" "$(wc -c <"$file")"
