/* SPDX-License-Identifier: Apache-2.0
 * How many jobs wait: for the limits of the queue and of a token. */
#include "registry/rows.h"

esp_code esp_job_count_queued(esp_db *db, const char *token, int64_t *ret_n, esp_error *reterr) {
    if (!*token) return esp_db_int(db, ret_n, reterr, "SELECT count(*) FROM job WHERE state = 'queued'", "");
    return esp_db_int(db, ret_n, reterr, "SELECT count(*) FROM job WHERE token = ? AND state = 'queued'", "t", token);
}
