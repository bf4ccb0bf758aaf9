#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Walks through a list page by page; arguments are filters and a sort.      clients/curl/list.sh [LIST] ['relu__lte=8'] ['sort=-relu']
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
list=${1:-models}
[ $# -eq 0 ] || shift

query='limit=2'
for filter; do query="$query&$filter"; done
cursor=
while :; do
    page=$(call GET "/v1/$list?$query${cursor:+&cursor=$cursor}")
    say "a page of $(printf '%s\n' "$page" | jq '.items | length')"
    printf '%s\n' "$page" | jq -r '.items[] | "\(.id)  \(.name // .kind)"'
    cursor=$(printf '%s\n' "$page" | jq -r '.next // empty')
    [ -n "$cursor" ] || break
done
