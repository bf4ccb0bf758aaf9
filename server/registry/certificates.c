/* SPDX-License-Identifier: Apache-2.0
 * Certificate rows. They are read through lists and whole by id (api_bounds.c). */
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "registry/rows.h"

void esp_certificate_row_done(esp_certificate_row *row) {
    if (!row) return;
    free(row->record);
    row->record = NULL;
}

esp_code esp_certificate_insert(esp_db *db, esp_certificate_row *row, esp_error *reterr) {
    if (isnan(row->value) || isnan(row->lower)) return esp_fail(reterr, ESP_NUMERIC, "a certificate's bound is not a number");
    esp_id_make("cer", row->id);
    row->created_ms = esp_clock_wall_ms();
    return esp_db_run(
        db, reterr,
        "INSERT INTO certificate (id, model, reference, job, kind, norm, method, strength, status, domain_sha256, value, lower, tolerance,"
        " seconds, record, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "tteettttttrrrrti", row->id, row->model, row->reference, row->job, row->kind, row->norm, row->method, row->strength, row->status,
        row->domain_sha256, row->value, row->lower, row->tolerance, row->seconds, row->record, row->created_ms);
}
