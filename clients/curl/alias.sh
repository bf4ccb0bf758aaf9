#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Points an alias at a version, only if nobody else has moved it since, and shows where it pointed before.
#     clients/curl/alias.sh [NAME] [VERSION] [ALIAS]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
name=${1:-rail}
version=${2:-1}
alias=${3:-live}
at="/v1/models/$name/aliases/$alias"

before=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)
headers=$(mktemp)
trap 'rm -f "$headers"' EXIT
etag=
if (call GET "$at" -D "$headers") >/dev/null 2>&1; then etag=$(sed -n 's/^[Ee][Tt]ag: \(.*\)\r$/\1/p' "$headers"); fi
if [ -n "$etag" ]; then condition="If-Match: $etag"; else condition='If-None-Match: *'; fi
say "moving $name@$alias to version $version, $condition"
moved=$(call PUT "$at" -H "$condition" -H 'Content-Type: application/json' --data "{\"version\":$version}")
printf '%s\n' "$moved" | jq -r '"\(.name)@\(.alias)  version \(.version)"'
if [ -n "$etag" ]; then
    call GET "$at?at=$before" | jq -r '"before     version \(.version)"'
fi
