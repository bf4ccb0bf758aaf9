#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every source file says its licence in its first two lines, and a C file its purpose right after.
. "$(dirname "$0")/common.sh"

files '*.c' '*.h' '*.S' '*.def' '*.sql' | xargs awk '
    FNR == 1 && previous { if (!said) print previous ": no SPDX-License-Identifier: Apache-2.0 in its first two lines" }
    FNR == 1 { said = 0; previous = FILENAME }
    FNR <= 2 && /SPDX-License-Identifier: Apache-2\.0/ { said = 1 }
    END { if (previous && !said) print previous ": no SPDX-License-Identifier: Apache-2.0 in its first two lines" }
' | fail_lines || failed=1
files '*.c' '*.h' | xargs awk '
    FNR == 2 && ! /^ \* [A-Za-z"`</0-9]/ { print FILENAME ": no sentence of purpose on its second line" }
' | fail_lines || failed=1
exit $failed
