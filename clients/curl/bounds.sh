#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The table of certificates as CSV; arguments are filters.      clients/curl/bounds.sh ['value__lte=0.1'] ['strength=proved']
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"

query='sort=-created_at'
for filter; do query="$query&$filter"; done
say "listing bounds, $query"
call GET "/v1/bounds?$query" -H 'Accept: text/csv'
