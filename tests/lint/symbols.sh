#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every symbol the library gives to its users starts with esp_.
. "$(dirname "$0")/common.sh"

archive=${ESPALIER_BUILD:-build/release}/libespalier.a
case $archive in
*release/*) ;;
*) note "symbols are looked at in the release build"; exit 0 ;;
esac
if [ ! -f "$archive" ]; then
    note "$archive is not built: symbols were not looked at"
    exit 0
fi
nm -g --defined-only "$archive" | awk '
    /:$/ { object = $0 }
    NF == 3 && $3 !~ /^esp_/ { print object " " $3 " does not start with esp_" }
' | fail_lines || failed=1
exit $failed
