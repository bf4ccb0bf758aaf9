#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Whether the service lives, is ready, and has the model, in its own words and in those of the open inference protocol; its load.
#     clients/curl/health.sh [NAME]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
name=${1:-rail}

call GET /healthz | jq -r '"healthz  \(.status)"'
call GET /readyz | jq -r '"readyz  \(.status)"'
call GET /v2/health/live | jq -r '"live  \(.live)"'
call GET /v2/health/ready | jq -r '"ready  \(.ready)"'
call GET "/v2/models/$name" | jq -r '"\(.name)  versions \(.versions | join(" "))"'
call GET "/v2/models/$name/ready" | jq -r '"\(.name)  ready \(.ready)"'
call GET /openapi.json | jq -r '"openapi  \(.openapi), \(.paths | length) paths"'
call GET /metrics | sed -n '/^espalier_queue_depth\|^espalier_workers{\|^espalier_jobs_total/p'
