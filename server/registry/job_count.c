/* SPDX-License-Identifier: Apache-2.0
 * How many jobs wait: for the limit of the queue. */
#include "registry/rows.h"

esp_code esp_job_count_queued(esp_db *db, int64_t *ret_n, esp_error *reterr) {
    return esp_db_int(db, ret_n, reterr, "SELECT count(*) FROM job WHERE state = 'queued'", "");
}
