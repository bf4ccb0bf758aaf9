#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every header compiles alone: it includes what it needs.
. "$(dirname "$0")/common.sh"

files '*.h' | xargs "${CC:-gcc}" -std=c17 -D_GNU_SOURCE -fsyntax-only -Wall -Wextra -Werror -Wno-unused \
    -Ilib -Ischema -Iserver -Iclients -Itests -x c 2>&1 | grep -E 'error|warning' | fail_lines || failed=1
exit $failed
