/* SPDX-License-Identifier: Apache-2.0
 * JOB: which kind it is, and what the kinds share. */
#include "data/dataset.h"
#include "net/model.h"
#include "worker/certify_kinds.h"
#include "worker/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { TEXT_MAX = 4096 };
#define TELL_NS (500 * ESP_NS_PER_MS)

esp_code worker_text(const esp_reader *object, const char *key, const char **ret_text, esp_error *reterr) {
    esp_reader member = esp_read_member(object, key);
    if (!member.value) return esp_fail(reterr, ESP_INTERNAL, "a task came without its %s", key);
    return esp_read_string(&member, TEXT_MAX, ret_text, reterr);
}

typedef struct reading {
    worker *w;
    int64_t told_ns;
} reading;

static esp_code on_read(void *user, double fraction, esp_error *reterr) {
    reading *r = user;
    int64_t now = esp_clock_now_ns();
    if (now - r->told_ns >= TELL_NS) {
        worker_progress(r->w, 0, "reading");
        r->told_ns = now;
    }
    return worker_cancelled(r->w) ? esp_fail(reterr, ESP_CANCELLED, "stopped while reading the data, %.0f %% read", 100 * fraction) : ESP_OK;
}

esp_code worker_dataset_load(worker *w, const esp_reader *reader, struct esp_dataset **ret_dataset, esp_error *reterr) {
    const char *path = NULL, *format = NULL;
    esp_code code = worker_text(reader, "path", &path, reterr);
    if (!code) code = worker_text(reader, "format", &format, reterr);
    reading r = {w, esp_clock_now_ns()};
    esp_data_format form = format && strcmp(format, "csv") == 0 ? ESP_DATA_CSV : ESP_DATA_NDJSON;
    if (!code) code = esp_dataset_load_watched(path, form, on_read, &r, ret_dataset, reterr);
    return code;
}

esp_code worker_blob_write(const char *blob_dir, const esp_buf *bytes, char ret_sha256[ESP_HASH_HEX], esp_error *reterr) {
    char path[4096];
    esp_hash_bytes(bytes->data, bytes->len, ret_sha256);
    int n = snprintf(path, sizeof path, "%s/%.2s", blob_dir, ret_sha256);
    if (n < 0 || (size_t)n + ESP_HASH_HEX + 1 > sizeof path) return esp_fail(reterr, ESP_IO, "the blob directory's name is too long");
    if (mkdir(path, 0700) && errno != EEXIST) return esp_fail_errno(reterr, ESP_IO, "mkdir %s", path);
    snprintf(path + n, sizeof path - (size_t)n, "/%s", ret_sha256);
    return esp_file_write(path, bytes->data, bytes->len, reterr);
}

void worker_progress(worker *w, double fraction, const char *stage) {
    esp_buf text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_number(&json, "fraction", fraction);
    esp_jsonw_string(&json, "stage", stage);
    esp_jsonw_object(&json, "metrics");
    esp_jsonw_object_end(&json);
    esp_jsonw_object_end(&json);
    worker_send(w, ESP_FRAME_PROGRESS, &text);
    esp_buf_done(&text);
}

esp_code worker_job(worker *w, const esp_reader *payload, esp_error *reterr) {
    static const struct {
        const char *kind;
        worker_task *run;
    } kinds[] = {{"train", worker_job_train},       {"sparsify", worker_job_train}, {"certify", worker_job_certify},
                 {"evaluate", worker_job_evaluate}, {"prune", worker_job_prune},    {"distill", worker_job_distill}};
    const char *kind = NULL;
    esp_code code = worker_text(payload, "kind", &kind, reterr);
    if (code) return code;
    esp_reader spec = esp_read_member(payload, "spec");
    if (strcmp(kind, "certify") == 0 && esp_read_member(&spec, "kind").value) return worker_job_certify_kind(w, payload, reterr);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].kind, kind) == 0) return kinds[i].run(w, payload, reterr);
    return esp_fail(reterr, ESP_INTERNAL, "this worker knows no job of kind %.30s", kind);
}

void worker_put_model(const esp_model *model, const char *sha256, esp_jsonw *json) {
    esp_jsonw_string(json, "sha256", sha256);
    esp_jsonw_string(json, "kind", esp_model_kind_names[model->kind]);
    esp_jsonw_integer(json, "ny", model->ny);
    esp_jsonw_integer(json, "nu", model->nu);
    esp_jsonw_integer(json, "history", model->history);
    esp_jsonw_integer(json, "relu", esp_model_relus(model));
    esp_jsonw_integer(json, "parameters", esp_model_parameters(model));
    esp_jsonw_integer(json, "nonzero", esp_model_nonzero(model));
    if (model->graph) esp_graph_format_summary(model->graph, "graph", json);
}
