/* SPDX-License-Identifier: Apache-2.0
 * The train job: a dataset in; models out as content-addressed blobs, each announced by a MODEL frame when its file is
 * synced. A job that runs twice writes the same files again. */
#include "data/dataset.h"
#include "train/train.h"
#include "worker/worker.h"

#include <math.h>
#include <string.h>

typedef struct training {
    worker *w;
    const char *blob_dir;
    const esp_train_opts *opts;
    esp_buf spec; /* the options in full */
    int n_x;
    double *x_lower, *x_upper; /* the data box, n_x each */
    int models;
} training;

static void on_progress(void *user, const esp_train_progress *p) {
    const training *t = user;
    esp_buf text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_number(&json, "fraction", p->fraction);
    esp_jsonw_string(&json, "stage", p->stage);
    esp_jsonw_object(&json, "metrics");
    esp_jsonw_integer(&json, "epoch", p->epoch);
    esp_jsonw_integer(&json, "epochs", p->epochs);
    esp_jsonw_integer(&json, "relu", p->relu);
    esp_jsonw_number(&json, "loss", p->loss);
    esp_jsonw_number(&json, "validation_rmse", p->validation_rmse);
    esp_jsonw_number(&json, "samples_per_s", p->samples_per_s);
    esp_jsonw_number(&json, "eta_s", p->eta_s);
    esp_jsonw_object_end(&json);
    esp_jsonw_object_end(&json);
    worker_send(t->w, ESP_FRAME_PROGRESS, &text);
    esp_buf_done(&text);
}

/* What the new row needs. The spec is the options in full, so that a model says how it was made. */
static void put_model(const training *t, const esp_train_model *trained, const char *sha256, esp_buf *text) {
    const esp_model *model = trained->model;
    esp_jsonw json = esp_jsonw_on(text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_string(&json, "sha256", sha256);
    esp_jsonw_string(&json, "kind", esp_model_kind_names[model->kind]);
    esp_jsonw_integer(&json, "ny", model->ny);
    esp_jsonw_integer(&json, "nu", model->nu);
    esp_jsonw_integer(&json, "history", model->history);
    esp_jsonw_integer(&json, "relu", trained->relu);
    esp_jsonw_integer(&json, "parameters", esp_net_parameters(model->net));
    esp_jsonw_integer(&json, "nonzero", esp_net_nonzero(model->net));
    esp_jsonw_object(&json, "spec");
    esp_jsonw_string(&json, "method", t->models ? "gumbel" : "dense");
    esp_jsonw_raw(&json, "train", t->spec.data, t->spec.len);
    esp_jsonw_object_end(&json);
    esp_jsonw_object(&json, "metrics");
    esp_jsonw_number(&json, "validation_rmse", trained->validation_rmse);
    esp_jsonw_number(&json, "rollout_rmse", trained->rollout_rmse);
    esp_jsonw_object(&json, "data_box");
    esp_jsonw_vector(&json, "lower", t->x_lower, (size_t)t->n_x);
    esp_jsonw_vector(&json, "upper", t->x_upper, (size_t)t->n_x);
    esp_jsonw_object_end(&json);
    esp_jsonw_object_end(&json);
    esp_jsonw_object_end(&json);
}

static esp_code on_model(void *user, const esp_train_model *trained, esp_error *reterr) {
    training *t = user;
    esp_buf bytes = {0}, text = {0};
    char sha256[ESP_HASH_HEX];
    esp_code code = esp_model_encode(trained->model, &bytes, reterr);
    if (!code) code = worker_blob_write(t->blob_dir, &bytes, sha256, reterr);
    if (!code) {
        put_model(t, trained, sha256, &text);
        t->models++;
        worker_send(t->w, ESP_FRAME_MODEL, &text);
    }
    esp_buf_done(&bytes);
    esp_buf_done(&text);
    return code;
}

static esp_code find_box(training *t, const esp_dataset *data, esp_arena *arena, esp_error *reterr) {
    t->n_x = t->opts->history * (data->ny + data->nu);
    t->x_lower = ESP_NEW(arena, double, t->n_x);
    t->x_upper = ESP_NEW(arena, double, t->n_x);
    if (!t->x_lower || !t->x_upper) return esp_fail(reterr, ESP_NOMEM, "no memory for the data box");
    return esp_dataset_box(data, t->opts->history, t->x_lower, t->x_upper, reterr);
}

esp_code worker_job_train(worker *w, const esp_reader *payload, esp_error *reterr) {
    esp_train_opts opts;
    training t = {.w = w, .opts = &opts};
    const esp_train_hooks hooks = {.user = &t, .progress = on_progress, .model = on_model};
    const esp_stop stop = {ESP_NEVER, worker_cancelled, w};
    const esp_buf nothing = {.data = (char[]){"{}"}, .len = 2};
    esp_dataset *data = NULL;
    esp_reader spec = esp_read_member(payload, "spec"), dataset = esp_read_member(payload, "dataset");
    esp_arena *arena = esp_arena_create(0);
    worker_progress(w, 0, "reading");
    esp_code code = arena ? worker_text(payload, "blob_dir", &t.blob_dir, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a job");
    if (!code) code = worker_dataset_load(&dataset, &data, reterr);
    if (!code) code = esp_train_opts_parse(&spec, data->ny, data->nu, arena, &opts, reterr);
    if (!code) code = find_box(&t, data, arena, reterr);
    esp_jsonw json = esp_jsonw_on(&t.spec);
    if (!code) esp_train_opts_format(&opts, &json);
    if (!code && t.spec.failed) code = esp_fail(reterr, ESP_NOMEM, "no memory for a job");
    if (!code) code = esp_train_run(data, &opts, &hooks, &stop, reterr);
    if (!code) worker_send(w, ESP_FRAME_DONE, &nothing);
    esp_buf_done(&t.spec);
    esp_dataset_free(data);
    esp_arena_free(arena);
    return code;
}
