#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A tiny dataset on standard output: a carriage on a rail, pushed at random, as NDJSON, one trajectory a line.
#
#     clients/curl/data.sh [TRAJECTORIES] [STEPS] [SEED]
#
# y = position and velocity, u = push in [-1, 1], a step of 0.1 s. Friction is 0.5 of the velocity forwards and 0.2
# backwards, which is what the network has to find.
set -eu
awk -v trajectories="${1:-60}" -v steps="${2:-25}" -v seed="${3:-1}" 'BEGIN {
    srand(seed)
    for (i = 0; i < trajectories; i++) {
        x = 2 * rand() - 1; v = 2 * rand() - 1
        y = sprintf("[%.6f,%.6f]", x, v); u = ""
        for (t = 0; t < steps; t++) {
            push = 2 * rand() - 1
            friction = v > 0 ? 0.5 * v : 0.2 * v
            x += 0.1 * v
            v += 0.1 * (push - friction)
            y = y sprintf(",[%.6f,%.6f]", x, v)
            u = u (t ? "," : "") sprintf("[%.6f]", push)
        }
        printf "{\"y\":[%s],\"u\":[%s]}\n", y, u
    }
}'
