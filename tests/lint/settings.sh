#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# deploy/espalierd.conf.sample has every setting of schema/config.def and is what `espalierd --sample-config` prints.
. "$(dirname "$0")/common.sh"

sample=deploy/espalierd.conf.sample
daemon=${ESPALIER_BUILD:-build/release}/espalierd
if [ ! -f "$sample" ]; then
    fail "$sample is missing: write it with $daemon --sample-config"
    exit $failed
fi
sed -n 's/^\(TEXT\|INT\)(\([a-z0-9_]*\),.*/\2/p' schema/config.def | while IFS= read -r setting; do
    grep -Eq "^#? ?$setting( |=)" "$sample" || echo "$sample: no setting \"$setting\""
done | fail_lines || failed=1
if [ -x "$daemon" ]; then
    "$daemon" --sample-config | diff -u "$sample" - | sed "s,^--- .*,$sample differs from $daemon --sample-config:," | fail_lines || failed=1
else
    note "$daemon is not built: $sample was not compared with it"
fi
exit $failed
