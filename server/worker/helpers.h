/* SPDX-License-Identifier: Apache-2.0
 * Threads that work beside a batch job's own, for the library to cut work into parts (base/parallel.h).
 *
 * A minibatch is a tenth of a millisecond, less than a thread takes to wake: helpers look for the next part for a while before
 * they sleep. They share the worker's niceness, so that plans go first on a full machine. */
#ifndef ESP_WORKER_HELPERS_H
#define ESP_WORKER_HELPERS_H

#include "base/error.h"
#include "base/parallel.h"

typedef struct helpers helpers;

/* n threads with the caller's, 2 .. ESP_MAX_PARTS. Errors: NOMEM when there are none to be had. */
ESP_MUST_CHECK esp_code helpers_create(int n, helpers **ret_helpers, esp_error *reterr);
void helpers_free(helpers *h);
/* For the thread that created them. */
const esp_parallel *helpers_parallel(const helpers *h);

#endif
