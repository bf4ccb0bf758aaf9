/* SPDX-License-Identifier: Apache-2.0
 * /v1/bounds: the model-versus-bound table, a row per certificate, and one certificate whole. */
#include <string.h>

#include "api.h"
#include "certify/certificate.h"
#include "lists.h"
#include "registry/query.h"
#include "server.h"

enum { BOTH = ESP_COL_FILTER | ESP_COL_SORT };

#define COLUMNS                                                                                                                                      \
    {"id", "c.id", ESP_COL_TEXT, BOTH | ESP_COL_AGE}, {"model", "c.model", ESP_COL_TEXT, BOTH}, {"model_name", "c.model_name", ESP_COL_TEXT, BOTH},  \
        {"model_version", "c.model_version", ESP_COL_INTEGER, BOTH}, {"reference", "c.reference", ESP_COL_TEXT, BOTH},                               \
        {"kind", "c.kind", ESP_COL_TEXT, BOTH}, {"relu", "c.relu", ESP_COL_INTEGER, BOTH}, {"sparsity", "c.sparsity", ESP_COL_REAL, BOTH},           \
        {"norm", "c.norm", ESP_COL_TEXT, BOTH}, {"domain_sha256", "nullif(c.domain_sha256, '')", ESP_COL_TEXT, BOTH},                                \
        {"value", "c.value", ESP_COL_REAL, BOTH}, {"lower", "c.lower", ESP_COL_REAL, BOTH}, {"method", "c.method", ESP_COL_TEXT, BOTH},              \
        {"strength", "c.strength", ESP_COL_TEXT, BOTH}, {"tolerance", "c.tolerance", ESP_COL_REAL, BOTH},                                            \
        {"status", "c.status", ESP_COL_TEXT, BOTH}, {"seconds", "c.seconds", ESP_COL_REAL, BOTH}, {"job", "c.job", ESP_COL_TEXT, BOTH}, {            \
        "created_at", "c.created_ms", ESP_COL_TIME, BOTH | ESP_COL_AGE                                                                               \
    }

#define FROM "certificate c"

static const esp_column columns[] = {COLUMNS, {NULL, NULL, ESP_COL_TEXT, 0}};
/* with the record: domain, witness, constants, versions */
static const esp_column whole_columns[] = {COLUMNS, {"record", "c.record", ESP_COL_JSON, 0}, {NULL, NULL, ESP_COL_TEXT, 0}};
/* kind, method and status name what later versions may add to */
static const esp_choice choices[] = {{"norm", esp_norm_names}, {"strength", esp_strength_names}, {NULL, NULL}};

const esp_list esp_list_bounds = {FROM, "c.rowid", NULL, columns, choices, true};
static const esp_list whole = {FROM, "c.rowid", NULL, whole_columns, NULL, true};

void esp_api_bounds_list(struct esp_server *server, esp_call *call) {
    esp_list_reply(server, call, &esp_list_bounds, NULL, NULL);
}

void esp_api_bounds_get(struct esp_server *server, esp_call *call) {
    esp_list_reply_one(server, call, &whole, "c.id = ?", esp_call_path(call, "id"));
}
