#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The C sources are as clang-format 14 writes them; `make format` puts them right.
. "$(dirname "$0")/common.sh"

if ! clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
    note "clang-format 14 is not installed: the format was not looked at"
    exit 0
fi
files '*.c' '*.h' | xargs clang-format --dry-run --Werror 2>&1 |
    sed -n 's/^\([^:]*:[0-9]*\):[0-9]*: error: .*/\1/p' | awk -F: '!seen[$1]++ { print $1 ":" $2 ": not as clang-format writes it" }' | fail_lines || failed=1
exit $failed
