#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No shell script has anything that shellcheck warns of, and each can be run.
. "$(dirname "$0")/common.sh"

scripts=$(files '*' | xargs awk 'FNR == 1 { if (/^#!.*(\/| )(ba|da)?sh( |$)/) print FILENAME } { nextfile }')
for script in $scripts; do
    [ -x "$script" ] || fail "$script: not executable"
done
if ! command -v shellcheck >/dev/null; then
    note "shellcheck is not installed: scripts were not looked at"
    exit $failed
fi
# shellcheck disable=SC2086  # one word a script
shellcheck -x -S warning -P SCRIPTDIR -f gcc $scripts | fail_lines || failed=1
exit $failed
