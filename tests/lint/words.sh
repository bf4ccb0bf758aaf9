#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No reminders left in the sources, no paths of somebody's machine.
. "$(dirname "$0")/common.sh"

# The words are put together here so that this file does not contain them.
reminders="TO""DO|FIX""ME|XX""X"
machine="/wo""rk/|/ho""me/[a-z]|/ro""ot/|/Us""ers/"
files '*' | grep -v '^LICENSE$' | xargs grep -nIwE "$reminders" | sed 's/$/    <- a reminder/' | fail_lines || failed=1
files '*' | xargs grep -nIE "(^|[^A-Za-z0-9_.}*-])($machine)" | sed 's/$/    <- a path of one machine/' | fail_lines || failed=1
exit $failed
