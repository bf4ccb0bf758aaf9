#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Uploads a model, refers to it, and deletes it: refused while something refers to it, and then for good.      clients/curl/delete.sh [NAME]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
name=${1:-rail-passing}

network='{"layers":[{"w":[[1,0,0.1],[0,1,0.2]],"b":[0,0],"activation":"identity"}],"nu":1}'
model=$(call POST "/v1/models?name=$name&kind=dynamics" -H 'Content-Type: application/json' --data "$network")
id=$(printf '%s\n' "$model" | jq -r .id)
version=$(printf '%s\n' "$model" | jq -r .version)
call PUT "/v1/models/$name/aliases/best" -H 'Content-Type: application/json' --data "{\"version\":$version}" >/dev/null
say "deleting $name/$version, which an alias points at"
if (call DELETE "/v1/models/$id"); then
    say "it was not refused"
    exit 1
fi
say "a second version takes the alias over"
other=$(printf '%s\n' "$network" | jq -c ".layers[0].b[0] = $version")
second=$(call POST "/v1/models?name=$name&kind=dynamics" -H 'Content-Type: application/json' --data "$other" | jq -r .version)
call PUT "/v1/models/$name/aliases/best" -H 'Content-Type: application/json' --data "{\"version\":$second}" >/dev/null
call DELETE "/v1/models/$id" >/dev/null
printf '%s/%s  deleted; %s/%s is there\n' "$name" "$version" "$name" "$second"
