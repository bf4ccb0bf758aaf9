/* SPDX-License-Identifier: Apache-2.0
 * Prune jobs for tests: a policy to prune, a job from its spec to its end, and its certificates proved again. */
#ifndef ESP_TESTS_PRUNING_H
#define ESP_TESTS_PRUNING_H

#include "support/rail.h"

/* A policy 4-12-12-2 of random weights. */
void pruning_upload_policy(const test_daemon *daemon, const char *name);
/* The job's reply after its end, held against the description of the interface. */
http_reply pruning_run(const test_daemon *daemon, const char *spec, const char *state);
/* The model that it made. */
http_reply pruning_model(const test_daemon *daemon, const http_reply *job);
/* Every certificate of the result is proved again by espalier-check from the stored models alone. */
void pruning_check(const test_daemon *daemon, const http_reply *job);

#endif
