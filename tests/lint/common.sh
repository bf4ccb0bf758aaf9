# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# What the lint scripts share; sourced, from any directory. A script prints one line a finding and ends with `exit $failed`.
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck disable=SC2034  # read by the scripts
failed=0

fail() {
    printf '%s\n' "$*"
    failed=1
}

# Findings on standard input, one a line: printed, and the status says whether there were any: `... | fail_lines || failed=1`.
fail_lines() {
    found=$(cat)
    [ -z "$found" ] && return 0
    printf '%s\n' "$found"
    return 1
}

note() {
    printf 'note: %s\n' "$*"
}

# files PATTERN...: the project's files, new ones included, that match a name pattern (*.c).
files() {
    if listed=$(git ls-files --cached --others --exclude-standard -- "$@" 2>/dev/null) && [ -n "$listed" ]; then
        printf '%s\n' "$listed" | sort -u | while IFS= read -r file; do
            if [ -f "$file" ]; then printf '%s\n' "$file"; fi
        done
    else
        for pattern; do
            case $pattern in
            */*) set -- -path "./$pattern" ;;
            *) set -- -name "$pattern" ;;
            esac
            find . \( -name .git -o -path ./build -o -path ./var \) -prune -o -type f "$@" -print | sed 's,^\./,,'
        done | sort -u
    fi
}
