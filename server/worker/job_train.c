/* SPDX-License-Identifier: Apache-2.0
 * The train job: a dataset in; models out as content-addressed blobs, each announced by a MODEL frame when its file is
 * synced. A sparsify job is one that starts from a model (job_sparsify.c). A job that runs twice writes the same files again.
 *
 * Every few seconds, and when it is told to stop, the whole run is kept in the file that the daemon names (train/checkpoint.h), and
 * announced by a CHECKPOINT frame. The next worker on the job begins with that file: the MODEL frames of before stand in it, too, and
 * are sent again, so that it does not matter which of them the daemon came to write down. One that cannot be gone on from is
 * said to be so, and the job starts over. */
#include "data/dataset.h"
#include "train/train.h"
#include "worker/helpers.h"
#include "worker/train_parts.h"
#include "worker/worker.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/linalg.h"

enum { KEY_MAX = 512, EXECUTABLE_MAX = 1 << 29 };
#define CHECKPOINT_MAX ((size_t)1 << 33)

typedef struct training {
    worker *w;
    const char *blob_dir;
    const esp_train_opts *opts;
    esp_buf spec; /* the options in full */
    int n_x;
    double *x_lower, *x_upper; /* the data box, n_x each */
    int models;
    sparsification sparsify; /* of a job that starts from a model */
    target target;
    helpers *helpers; /* of a job on several threads */
    /* checkpoints */
    const char *path; /* of the file; NULL: none is kept */
    int64_t every_ns;
    char key[KEY_MAX];
    esp_buf notes; /* the MODEL payloads so far: length u32, text */
    bool resumed, failing; /* failing: the last one could not be written, and that was said */
} training;

static void on_progress(void *user, const esp_train_progress *p) {
    training *t = user;
    esp_buf text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    t->target.fraction = p->fraction;
    esp_jsonw_object(&json, NULL);
    esp_jsonw_number(&json, "fraction", p->fraction);
    esp_jsonw_string(&json, "stage", p->stage);
    esp_jsonw_object(&json, "metrics");
    esp_jsonw_integer(&json, "epoch", p->epoch);
    esp_jsonw_integer(&json, "epochs", p->epochs);
    esp_jsonw_integer(&json, "relu", p->relu);
    esp_jsonw_number(&json, "loss", p->loss);
    esp_jsonw_number(&json, "validation_loss", p->validation_loss);
    esp_jsonw_number(&json, "validation_rmse", p->validation_rmse);
    esp_jsonw_number(&json, "samples_per_s", p->samples_per_s);
    esp_jsonw_number(&json, "eta_s", p->eta_s);
    esp_jsonw_object_end(&json);
    esp_jsonw_object_end(&json);
    worker_send(t->w, ESP_FRAME_PROGRESS, &text);
    esp_buf_done(&text);
}

/* What the new row needs. The spec is the options in full, so that a model says how it was made. */
static void put_model(const training *t, const esp_train_model *trained, const char *sha256, double plans_proved, esp_buf *text) {
    const esp_model *model = trained->model;
    esp_jsonw json = esp_jsonw_on(text);
    esp_jsonw_object(&json, NULL);
    worker_put_model(model, sha256, &json);
    esp_jsonw_object(&json, "spec");
    if (t->opts->start)
        sparsify_put_spec(&t->sparsify, t->opts, &json);
    else
        esp_jsonw_string(&json, "method", t->models ? "gumbel" : "dense");
    esp_jsonw_raw(&json, t->opts->start ? "sparsify" : "train", t->spec.data, t->spec.len);
    esp_jsonw_object_end(&json);
    esp_jsonw_object(&json, "metrics");
    esp_jsonw_number(&json, "validation_rmse", trained->validation_rmse);
    esp_jsonw_number(&json, "rollout_rmse", trained->rollout_rmse);
    if (t->target.task) esp_jsonw_number(&json, "plans_proved", plans_proved);
    esp_jsonw_object(&json, "data_box");
    esp_jsonw_vector(&json, "lower", t->x_lower, (size_t)t->n_x);
    esp_jsonw_vector(&json, "upper", t->x_upper, (size_t)t->n_x);
    esp_jsonw_object_end(&json);
    esp_jsonw_object_end(&json);
    esp_jsonw_object_end(&json);
}

/* A model is there: the daemon is told, and so is whoever goes on from here. */
static void announce(training *t, const esp_buf *text) {
    t->models++;
    target_judge(&t->target, text);
    esp_buf_put_u32(&t->notes, (uint32_t)text->len);
    esp_buf_put(&t->notes, text->data, text->len);
    worker_send(t->w, ESP_FRAME_MODEL, text);
}

static esp_code on_model(void *user, const esp_train_model *trained, esp_error *reterr) {
    training *t = user;
    esp_buf bytes = {0}, text = {0};
    char sha256[ESP_HASH_HEX];
    double plans_proved = NAN;
    const esp_box box = {t->n_x, t->x_lower, t->x_upper};
    esp_code code = target_measure(&t->target, trained->model, &box, &plans_proved, reterr);
    if (!code) code = esp_model_encode(trained->model, &bytes, reterr);
    if (!code) code = worker_blob_write(t->blob_dir, &bytes, sha256, reterr);
    if (!code) {
        put_model(t, trained, sha256, plans_proved, &text);
        announce(t, &text);
    }
    esp_buf_done(&bytes);
    esp_buf_done(&text);
    return code;
}

static bool is_enough(void *user) {
    const training *t = user;
    return t->target.over;
}

static esp_code on_refine(void *user, esp_model **model, esp_error *reterr) {
    training *t = user;
    const esp_box box = {t->n_x, t->x_lower, t->x_upper};
    return sparsify_refine(&t->sparsify, &box, model, reterr);
}

/* The options from the spec, and in full for the models' rows. */
static esp_code read_opts(training *t, const esp_reader *payload, const esp_dataset *data, esp_arena *arena, esp_train_opts *ret_opts,
                          esp_error *reterr) {
    const char *kind = NULL;
    esp_reader spec = esp_read_member(payload, "spec");
    esp_jsonw json = esp_jsonw_on(&t->spec);
    esp_code code = worker_text(payload, "kind", &kind, reterr);
    if (code) return code;
    bool sparsify = strcmp(kind, "sparsify") == 0;
    if (sparsify)
        code = sparsify_read(t->w, payload, data, &t->sparsify, ret_opts, reterr);
    else
        code = esp_train_opts_parse(&spec, data->ny, data->nu, arena, ret_opts, reterr);
    if (code) return code;
    if (sparsify)
        esp_sparsify_opts_format(ret_opts, t->sparsify.stable, &json);
    else
        esp_train_opts_format(ret_opts, &json);
    return t->spec.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for a job") : ESP_OK;
}

static esp_code find_box(training *t, const esp_dataset *data, esp_arena *arena, esp_error *reterr) {
    t->n_x = t->opts->history * (data->ny + data->nu);
    t->x_lower = ESP_NEW(arena, double, t->n_x);
    t->x_upper = ESP_NEW(arena, double, t->n_x);
    if (!t->x_lower || !t->x_upper) return esp_fail(reterr, ESP_NOMEM, "no memory for the data box");
    return esp_dataset_box(data, t->opts->history, t->x_lower, t->x_upper, reterr);
}

/* ---- checkpoints ---- */

static void say(const training *t, const char *what, double fraction, const char *message) {
    esp_buf text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_string(&json, "checkpoint", what);
    esp_jsonw_number(&json, "fraction", fraction);
    esp_jsonw_string(&json, "message", message);
    esp_jsonw_object_end(&json);
    worker_send(t->w, ESP_FRAME_CHECKPOINT, &text);
    esp_buf_done(&text);
}

/* Training does not stop for want of a checkpoint; it is said once in a row of failures. */
static void on_checkpoint(void *user, const esp_buf *bytes, double fraction) {
    training *t = user;
    esp_error error = {0};
    esp_code code = esp_file_write(t->path, bytes->data, bytes->len, &error);
    if (!code) say(t, "written", fraction, "");
    if (code && !t->failing) say(t, "failed", fraction, error.message);
    t->failing = code != ESP_OK;
}

/* The model's file is where it was left. */
static bool is_there(const training *t, const esp_buf *text) {
    char path[4096];
    const char *sha256 = NULL;
    esp_json *json = NULL;
    if (esp_json_parse(text->data, text->len, &json, NULL)) return false;
    esp_reader root = esp_reader_root(json), member = esp_read_member(&root, "sha256");
    bool there = member.value && esp_read_string(&member, ESP_HASH_HEX, &sha256, NULL) == ESP_OK;
    if (there) {
        int n = snprintf(path, sizeof path, "%s/%.2s/%s", t->blob_dir, sha256, sha256);
        there = n > 0 && (size_t)n < sizeof path && access(path, R_OK) == 0;
    }
    esp_json_free(json);
    return there;
}

/* The next payload of the notes; false at their end and when they do not read. */
static bool next_note(esp_cursor *in, esp_buf *ret_text) {
    uint32_t len = esp_cursor_u32(in);
    const void *at = in->failed || !len ? NULL : esp_cursor_bytes(in, len);
    esp_buf_clear(ret_text);
    if (at) esp_buf_put(ret_text, at, len);
    return at && !ret_text->failed;
}

static esp_code on_resumed(void *user, const void *notes, size_t len, double fraction, esp_error *reterr) {
    training *t = user;
    char message[96];
    esp_buf text = {0};
    esp_cursor in = {.data = notes, .len = len};
    bool good = true;
    while (good && in.pos < len) good = next_note(&in, &text) && is_there(t, &text);
    in.pos = 0;
    while (good && in.pos < len && next_note(&in, &text)) announce(t, &text);
    esp_buf_done(&text);
    if (!good) return esp_fail(reterr, ESP_CORRUPT, "a model that the checkpoint names is not there");
    snprintf(message, sizeof message, "goes on from its last checkpoint, %.0f %% done", 100 * fraction);
    say(t, "resumed", fraction, message);
    t->resumed = true;
    return ESP_OK;
}

/* What a checkpoint must agree in: this program, the BLAS and its kernels, the data. */
static esp_code make_key(training *t, const esp_reader *dataset, esp_error *reterr) {
    char build[ESP_HASH_HEX];
    const char *sha256 = NULL;
    esp_buf program = {0};
    esp_code code = worker_text(dataset, "sha256", &sha256, reterr);
    if (!code) code = esp_file_read("/proc/self/exe", EXECUTABLE_MAX, &program, reterr);
    if (code) return code;
    esp_hash_bytes(program.data, program.len, build);
    esp_buf_done(&program);
    snprintf(t->key, sizeof t->key, "build %s, data %s, %s", build, sha256, esp_linalg_describe());
    return ESP_OK;
}

static esp_code read_place(training *t, const esp_reader *payload, esp_error *reterr) {
    int64_t every_ms = 0;
    esp_reader place = esp_read_member(payload, "checkpoint"), every = esp_read_member(&place, "every_ms");
    esp_code code = worker_text(&place, "path", &t->path, reterr);
    if (!code) code = esp_read_integer(&every, 0, INT32_MAX, &every_ms, reterr);
    t->every_ns = every_ms * ESP_NS_PER_MS;
    return code;
}

/* From the job's checkpoint when there is one that is good, else from the start. */
static esp_code train(training *t, const esp_dataset *data, const esp_stop *stop, esp_error *reterr) {
    const esp_train_hooks hooks = {
        .user = t, .progress = on_progress, .model = on_model, .enough = is_enough, .refine = on_refine, .parallel = helpers_parallel(t->helpers)};
    esp_train_checkpoints checkpoints = {
        .user = t, .key = t->key, .every_ns = t->every_ns, .notes = &t->notes, .resumed = on_resumed, .take = on_checkpoint};
    esp_buf file = {0};
    esp_error refused = {0};
    esp_code code = esp_file_read(t->path, CHECKPOINT_MAX, &file, &refused);
    if (!code) {
        checkpoints.resume = file.len ? file.data : "";
        checkpoints.resume_len = file.len;
        code = esp_train_resume(data, t->opts, &hooks, &checkpoints, stop, &refused);
    }
    esp_buf_done(&file);
    bool over = code == ESP_OK || t->resumed || (checkpoints.resume && code != ESP_CORRUPT);
    if (over && code && reterr) *reterr = refused;
    if (over) return code;
    if (code != ESP_NOT_FOUND) say(t, "refused", 0, refused.message);
    checkpoints.resume = NULL;
    return esp_train_resume(data, t->opts, &hooks, &checkpoints, stop, reterr);
}

esp_code worker_job_train(worker *w, const esp_reader *payload, esp_error *reterr) {
    esp_train_opts opts;
    training t = {.w = w, .opts = &opts};
    const esp_stop stop = {ESP_NEVER, worker_cancelled, w};
    esp_buf result = {0};
    esp_jsonw json = esp_jsonw_on(&result);
    esp_dataset *data = NULL;
    esp_reader dataset = esp_read_member(payload, "dataset");
    esp_arena *arena = esp_arena_create(0);
    worker_progress(w, 0, "reading");
    esp_code code = arena ? worker_text(payload, "blob_dir", &t.blob_dir, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a job");
    if (!code) code = read_place(&t, payload, reterr);
    if (!code) code = make_key(&t, &dataset, reterr);
    if (!code) code = worker_dataset_load(w, &dataset, &data, reterr);
    if (!code) code = read_opts(&t, payload, data, arena, &opts, reterr);
    if (!code) code = find_box(&t, data, arena, reterr);
    if (!code) code = target_read(w, payload, data, &opts, arena, &t.target, reterr);
    if (!code && opts.threads > 1) code = helpers_create(opts.threads, &t.helpers, reterr);
    if (!code) {
        code = train(&t, data, &stop, reterr);
        if (code && reterr && *reterr->pointer) esp_error_prefix_pointer(reterr, "/spec");
    }
    esp_jsonw_object(&json, NULL);
    if (!code) target_put(&t.target, &json);
    esp_jsonw_object_end(&json);
    if (!code) worker_send(w, ESP_FRAME_DONE, &result);
    esp_buf_done(&result);
    helpers_free(t.helpers);
    esp_buf_done(&t.spec);
    esp_buf_done(&t.notes);
    esp_dataset_free(data);
    esp_arena_free(arena);
    return code;
}
