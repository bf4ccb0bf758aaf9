# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# What the recipes share; sourced. The daemon is at $ESPALIER, a token, if it wants one, in $ESPALIER_TOKEN. What a
# recipe does goes to standard error, what it gives to standard output; a problem ends it with its code and detail.
set -eu
ESPALIER=${ESPALIER:-http://127.0.0.1:8787}

say() {
    printf '%s\n' "$*" >&2
}

# call METHOD PATH [curl options]: the body of the reply.
call() {
    method=$1
    path=$2
    shift 2
    if ! reply=$(curl -sS --fail-with-body -X "$method" ${ESPALIER_TOKEN:+-H "Authorization: Bearer $ESPALIER_TOKEN"} "$@" "$ESPALIER$path"); then
        say "$method $path failed:"
        printf '%s\n' "$reply" | jq -r '"  \(.code): \(.detail)", (.errors // [] | .[] | "  at \(.pointer): \(.detail)")' >&2 2>/dev/null ||
            printf '%s\n' "$reply" >&2
        exit 1
    fi
    printf '%s\n' "$reply"
}

# wait_job ID: says what the job is doing until it has ended; the job, or an end of the recipe when it did not succeed.
wait_job() {
    while :; do
        job=$(call GET "/v1/jobs/$1" -H 'Prefer: wait=2')
        say "$(printf '%s\n' "$job" | jq -r '"  \(.id) \(.state)" + (if .progress.stage then ", \(.progress.stage), \(100 * (.progress.fraction // 0) | floor) %" else "" end)')"
        case $(printf '%s\n' "$job" | jq -r .state) in
        succeeded) break ;;
        failed | cancelled | timed_out)
            printf '%s\n' "$job" | jq . >&2
            exit 1
            ;;
        *) sleep 0.1 ;;
        esac
    done
    printf '%s\n' "$job"
}
