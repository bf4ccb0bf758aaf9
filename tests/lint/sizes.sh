#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A file over 800 lines or a function over 80 fails; a file over 400 is noted.
. "$(dirname "$0")/common.sh"

files '*.c' '*.h' '*.sh' '*.sql' | xargs wc -l | awk '$2 != "total" && $1 > 800 { print $2 ": " $1 " lines, more than 800" }' | fail_lines || failed=1
files '*.c' '*.h' | xargs wc -l | awk '$2 != "total" && $1 > 400 && $1 <= 800 { print "note: " $2 ": " $1 " lines" }'

if ! ctags --version 2>/dev/null | grep -q Universal; then
    note "universal-ctags is not installed: functions were not measured"
    exit $failed
fi
# name file pattern;" kind line:N end:N; tests made by check's macros are all called START_TEST, hence the place
files '*.c' '*.h' | xargs ctags --languages=C --langmap=C:.c.h --kinds-C=f --fields=ne --sort=no -f - | awk -F'\t' '
    {
        line = end = 0
        for (i = 4; i <= NF; i++) {
            if ($i ~ /^line:/) line = substr($i, 6)
            if ($i ~ /^end:/) end = substr($i, 5)
        }
        if (end && end - line + 1 > 80) print $2 ":" line ": " $1 " has " end - line + 1 " lines, more than 80"
    }
' | fail_lines || failed=1
exit $failed
