#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Which folder includes which: the two tables of lib/README.md ("May use", "Headers from outside") are the rule, the
# #include lines are what is. Besides, lib/ calls nothing that prints, ends the process or reads the environment.
. "$(dirname "$0")/common.sh"

includes=$(files 'lib/*.[ch]' 'server/*.[ch]' 'clients/*.[ch]' 'tests/*.[ch]' | xargs grep -n '^[[:space:]]*#[[:space:]]*include')

printf '%s\n' "$includes" | awk '
    # cells of a table row: the texts between backticks
    function cells(text, into,    n, part, i) {
        n = split(text, part, "`")
        for (i = 2; i <= n; i += 2) into[i / 2] = part[i]
        return int(n / 2)
    }
    function folder(path,    part, n) {
        n = split(path, part, "/")
        return n > 2 ? part[1] "/" part[2] : part[1]
    }
    FNR == NR {
        if (/^## /) section = $0
        if ($0 !~ /^\| `/) next
        split($0, column, "|")
        delete left; delete right
        n_left = cells(column[2], left); n_right = cells(column[3], right)
        for (i = 1; i <= n_left; i++) {
            if (section ~ /May use/) {
                known[left[i]] = 1
                for (j = 1; j <= n_right; j++) may[left[i] " " right[j]] = 1
            }
            if (section ~ /Headers from outside/)
                for (j = 1; j <= n_right; j++) place[left[i]] = place[left[i]] " " right[j]
        }
        next
    }
    FNR == 1 {
        for (name in known) rows++
        for (name in place) vendors++
        if (rows < 5 || vendors < 5) { print "lib/README.md: the tables \"May use\" and \"Headers from outside\" were not found"; exit }
    }
    {
        split($0, part, ":")
        file = part[1]; line = part[2]
        header = $0
        sub(/^[^"<]*["<]/, "", header); sub(/[">].*$/, "", header)
        quoted = ($0 ~ /include[[:space:]]*"/)
        from = folder(file)
    }
    # <...>: a header of the table only in its places
    !quoted {
        for (prefix in place)
            if (index(header, prefix) == 1) {
                ok = 0
                n = split(place[prefix], where, " ")
                for (i = 1; i <= n; i++) if (index(file, where[i]) == 1) ok = 1
                if (!ok) print file ":" line ": <" header "> belongs in" place[prefix] " only"
            }
        next
    }
    # "folder/header.h": the folder is one of lib, server or clients
    from ~ /^tests/ { next }
    {
        split(header, step, "/")
        to = ""
        if (header !~ /\//) to = (header ~ /\.def$/) ? "schema" : from
        else if (("lib/" step[1]) in known) to = "lib/" step[1]
        else if (("server/" step[1]) in known) to = "server/" step[1]
        else if (("clients/" step[1]) in known) to = "clients/" step[1]
        # "log.h" in a server folder is a header of server/ itself; the table may name one alone (`server/version.h`)
        if (from ~ /^server\// && header ~ /^[a-z_]*\.h$/) to = "server"
        if (to == "server" && ((from " server/" header) in may)) next
        if (to == "schema" || to == from) next
        if (to == "") print file ":" line ": \"" header "\" is in no folder of the table"
        else if (!(from in known)) print file ":" line ": " from " is not in the table"
        else if (!((from " " to) in may)) print file ":" line ": " from " may not use " to
    }
' lib/README.md - | fail_lines || failed=1

# Comments and strings removed, then the names that lib/ must not call, and those that the daemon must not.
# shellcheck disable=SC2046  # one word a file
awk '
    FNR == 1 { comment = 0 }
    {
        text = $0; out = ""
        gsub(/\\./, "", text)
        gsub(/"[^"]*"/, "\"\"", text)
        while (length(text)) {
            if (comment) {
                end = index(text, "*/")
                if (!end) break
                text = substr(text, end + 2); comment = 0
            } else {
                start = index(text, "/*")
                if (!start) { out = out text; break }
                out = out substr(text, 1, start - 1); text = substr(text, start + 2); comment = 1
            }
        }
        sub(/\/\/.*/, "", out)
        if (FILENAME ~ /^lib\//) {
            if (match(out, /(^|[^A-Za-z0-9_])(printf|vprintf|fprintf|puts|fputs|putchar|perror|exit|_exit|quick_exit|abort|getenv|setenv|secure_getenv|system|popen|fork)[[:space:]]*\(/))
                print FILENAME ":" FNR ": lib never prints, exits or reads the environment: " substr(out, RSTART, RLENGTH) ")"
        } else if (match(out, /(^|[^A-Za-z0-9_])(exp|exp2|expm1|log|log2|log10|log1p|sqrt|cbrt|hypot|pow|sin|cos|tan|atan|atan2|sinh|cosh|tanh|fma|fmod|erf)[fl]?[[:space:]]*\(/))
            print FILENAME ":" FNR ": the daemon computes nothing: " substr(out, RSTART, RLENGTH) ")"
    }
' $(files 'lib/*.c' 'server/*.c' | grep -v '^server/worker/') | fail_lines || failed=1
exit $failed
