#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches a model as a file: C for a microcontroller, ONNX for other tools, JSON, or the project's own form. A C file is compiled and
# checks itself when there is a compiler.      clients/curl/artifact.sh [MODEL] [FILE] [FORMAT] [PARAMETER=VALUE ...]
# shellcheck source=clients/curl/common.sh
. "$(dirname "$0")/common.sh"
model=${1:-rail}
file=${2:-model.c}
format=${3:-c}
[ $# -lt 3 ] || shift 3

say "fetching $model as $format into $file"
query="format=$format"
for parameter; do
    case $parameter in *=*) query="$query&$parameter" ;; esac
done
curl -sS --fail-with-body ${ESPALIER_TOKEN:+-H "Authorization: Bearer $ESPALIER_TOKEN"} -o "$file" "$ESPALIER/v1/models/$model/artifact?$query" || {
    say "failed:"
    jq -r '"  \(.code): \(.detail)"' "$file" >&2
    rm -f "$file"
    exit 1
}
printf '%s: %s bytes\n' "$file" "$(wc -c <"$file" | tr -d ' ')"
if [ "$format" = c ] && command -v cc >/dev/null; then
    sed -n 's/^ \* \([0-9]* ReLUs in .* of work\).*/\1/p' "$file"
    cc -std=c99 -O2 -Wall -Wextra -Werror -pedantic -ffp-contract=off -DESPALIER_SELF_TEST -o "$file.test" "$file"
    case $file in
    /*) test=$file.test ;;
    *) test=./$file.test ;;
    esac
    "$test" || { say "the self-test failed"; exit 1; }
    rm -f "$test"
    echo "self-test passed"
fi
