/* SPDX-License-Identifier: Apache-2.0
 * Certify jobs that name a kind: which one, and the parts of a certificate that all of them write. */
#include "worker/certify_kinds.h"

#include <string.h>

#include "base/linalg.h"
#include "version.h"

double worker_raised(double bound) {
    return bound * (1 + 1e-9);
}

void worker_row_box(esp_jsonw *json, const char *key, const esp_box *box) {
    esp_jsonw_object(json, key);
    esp_jsonw_vector(json, "lower", box->lower, (size_t)box->n);
    esp_jsonw_vector(json, "upper", box->upper, (size_t)box->n);
    esp_jsonw_object_end(json);
}

void worker_row_begin(esp_jsonw *json, const esp_certificate *certificate, const esp_box *box) {
    char sha256[ESP_HASH_HEX] = "";
    if (box) esp_box_hash(box, sha256);
    esp_jsonw_object(json, NULL);
    esp_jsonw_string(json, "kind", certificate->kind);
    esp_jsonw_string(json, "method", certificate->method);
    esp_jsonw_string(json, "norm", esp_norm_names[certificate->norm]);
    esp_jsonw_number(json, "value", certificate->value);
    esp_jsonw_number(json, "lower", certificate->lower);
    esp_jsonw_string(json, "strength", esp_strength_names[certificate->strength]);
    esp_jsonw_number(json, "tolerance", certificate->tolerance);
    esp_jsonw_string(json, "status", certificate->status);
    esp_jsonw_number(json, "seconds", certificate->seconds);
    esp_jsonw_string(json, "domain_sha256", sha256);
    esp_jsonw_object(json, "record");
    esp_jsonw_integer(json, "version", 1);
    if (box) worker_row_box(json, "domain", box);
}

void worker_row_end(esp_jsonw *json, double time_limit_s) {
    if (time_limit_s > 0) esp_jsonw_number(json, "time_limit_s", time_limit_s);
    esp_jsonw_object(json, "versions");
    esp_jsonw_string(json, "espalier", ESP_VERSION);
    esp_jsonw_string(json, "linalg", esp_linalg_describe());
    esp_jsonw_object_end(json);
    esp_jsonw_object_end(json); /* record */
    esp_jsonw_object_end(json);
}

esp_code worker_row_sha256(esp_jsonw *json, const char *member, const esp_reader *payload, const char *key, esp_error *reterr) {
    const char *sha256 = NULL;
    esp_reader model = esp_read_member(payload, key);
    esp_code code = worker_text(&model, "sha256", &sha256, reterr);
    if (!code) esp_jsonw_string(json, member, sha256);
    return code;
}

esp_code worker_job_certify_kind(worker *w, const esp_reader *payload, esp_error *reterr) {
    static const struct {
        const char *kind;
        worker_task *run;
    } kinds[] = {{"closed_loop", worker_job_closed_loop}, {"planning_loss", worker_job_planning_loss}, {"conformal", worker_job_conformal}};
    const char *kind = NULL;
    esp_reader spec = esp_read_member(payload, "spec");
    esp_code code = worker_text(&spec, "kind", &kind, reterr);
    if (code) return code;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].kind, kind) == 0) return kinds[i].run(w, payload, reterr);
    return esp_fail(reterr, ESP_INTERNAL, "this worker knows no certificates of kind %.30s", kind);
}
