/* SPDX-License-Identifier: Apache-2.0
 * The first half of the demo over HTTP: data up, models trained, each rung certified (demo.h). */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "robots/pushing/demo.h"
#include "robots/service.h"
#include "robots/stats.h"

#define TIMEOUT_MS     30000
#define JOB_TIMEOUT_MS 600000

bool esp_push_upload(esp_push_demo *demo, esp_client_error *reterr) {
    char path[1024];
    snprintf(path, sizeof path, "%s/transitions.ndjson", demo->opts->out);
    FILE *out = fopen(path, "w");
    bool good = out != NULL && esp_push_generate(out, demo->opts->transitions, demo->opts->seed, &demo->data);
    if (out != NULL) good = fclose(out) == 0 && good;
    if (!good) return esp_service_fail(ESP_CLIENT_FORMAT, "the transitions cannot be written to the output directory", reterr);
    printf("data       %d transitions in %d episodes; the pusher touches the box in %.0f %% of them\n", demo->data.transitions, demo->data.episodes,
           100.0 * demo->data.touching / demo->data.transitions);
    char sha256[65];
    if (!esp_service_upload(demo->client, "pushing", path, demo->dataset, sizeof demo->dataset, sha256, reterr)) return false;
    printf("           uploaded in %.2f s as dataset %s, sha256 %.12s...\n", esp_client_last_ms(demo->client) / 1e3, demo->dataset, sha256);
    unlink(path);
    return true;
}

/* ---- jobs -------------------------------------------------------------------------------------------------------- */

/* The progress line: rewritten in place on a terminal, one a second or less often elsewhere. */
typedef struct ticker {
    bool tty;
    time_t last;
    char stage[64];
} ticker;

static void add(char *line, size_t cap, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add(char *line, size_t cap, const char *format, ...) {
    size_t len = strlen(line);
    va_list args;
    va_start(args, format);
    vsnprintf(line + len, cap - len, format, args);
    va_end(args);
}

static int on_training(void *user, const char *state, const json_t *progress) {
    (void)state;
    ticker *t = user;
    const char *stage = json_string_value(json_object_get(progress, "stage"));
    if (stage == NULL || stage[0] == '\0') return 0;
    const json_t *metrics = json_object_get(progress, "metrics");
    time_t now = time(NULL);
    bool new_stage = strcmp(stage, t->stage) != 0;
    if (!t->tty && !new_stage && now - t->last < 10) return 0;
    snprintf(t->stage, sizeof t->stage, "%s", stage);
    t->last = now;
    char line[200];
    snprintf(line, sizeof line, "training   %3.0f %%  %-8s", 100.0 * esp_service_number(progress, "fraction"), stage);
    double loss = esp_service_number(metrics, "loss"), rmse = esp_service_number(metrics, "validation_rmse"),
           relu = esp_service_number(metrics, "relu"), eta = esp_service_number(metrics, "eta_s");
    if (!isnan(loss)) add(line, sizeof line, "  loss %.5f", loss);
    if (!isnan(rmse)) add(line, sizeof line, "  RMSE %.5f", rmse);
    if (!isnan(relu)) add(line, sizeof line, "  %.0f ReLUs left", relu);
    if (!isnan(eta) && esp_service_number(progress, "fraction") >= 0.01) add(line, sizeof line, "  %.0f s to go", eta);
    printf(t->tty ? "\r%s\033[K" : "%s\n", line);
    fflush(stdout);
    return 0;
}

/* ---- training ---------------------------------------------------------------------------------------------------- */

static json_t *train_spec(const esp_push_demo *demo) {
    json_t *ladder = esp_service_integers(demo->opts->ladder, demo->opts->n_ladder);
    json_t *spec = json_pack("{s:s,s:s,s:{s:s,s:[i,i]},s:o,s:i,s:I}", "dataset", demo->dataset, "name", "pushing", "model", "type", "mlp", "hidden",
                             64, 64, "ladder", ladder, "epochs", demo->opts->epochs, "seed", (json_int_t)demo->opts->seed);
    json_object_set_new(spec, "rung_epochs", json_integer(demo->opts->rung_epochs));
    json_object_set_new(spec, "rollout", json_integer(demo->opts->rollout));
    json_object_set_new(spec, "frame", esp_service_frame(&esp_robot_pushing));
    return spec;
}

static bool take_models(esp_push_demo *demo, const json_t *job) {
    const json_t *models = json_object_get(json_object_get(job, "result"), "models");
    size_t i;
    json_t *item;
    json_array_foreach(models, i, item) {
        if (i == ESP_PUSH_MAX_MODELS) break;
        esp_push_model *model = &demo->model[i];
        const char *id = json_string_value(json_object_get(item, "id")), *name = json_string_value(json_object_get(item, "name"));
        if (id == NULL || !json_is_integer(json_object_get(item, "relu"))) return false;
        *model = (esp_push_model){.parent = (int)i - 1,
                                  .bound = (double)NAN,
                                  .bound_lower = (double)NAN,
                                  .c_box = (double)NAN,
                                  .rmse = esp_service_number(item, "validation_rmse")};
        snprintf(model->id, sizeof model->id, "%s", id);
        snprintf(model->name, sizeof model->name, "%s", name != NULL ? name : id);
        model->version = (int)json_integer_value(json_object_get(item, "version"));
        model->relu = (int)json_integer_value(json_object_get(item, "relu"));
    }
    demo->n_models = (int)i;
    return i > 0;
}

bool esp_push_train(esp_push_demo *demo, esp_client_error *reterr) {
    char job_id[96];
    if (!esp_service_submit(demo->client, "train", train_spec(demo), job_id, sizeof job_id, reterr)) return false;
    ticker t = {.tty = isatty(STDOUT_FILENO) != 0};
    time_t start = time(NULL);
    json_t *job = NULL;
    esp_client_code code = esp_client_wait(demo->client, job_id, JOB_TIMEOUT_MS, on_training, &t, &job, reterr);
    if (t.tty) printf("\r\033[K");
    if (code != ESP_CLIENT_OK) return false;
    bool good = take_models(demo, job);
    json_decref(job);
    if (!good) return esp_service_fail(ESP_CLIENT_FORMAT, "the train job's result lists no models", reterr);
    printf("training   done in %.0f s:", difftime(time(NULL), start));
    for (int i = 0; i < demo->n_models; i++) printf("%s %d ReLUs (RMSE %.4f)", i > 0 ? "," : "", demo->model[i].relu, demo->model[i].rmse);
    printf("\n");
    return true;
}

/* ---- certificates ------------------------------------------------------------------------------------------------ */

/* The smallest bound that is one: proved, or up to a solver's tolerance. */
static void take_difference(esp_push_model *model, const json_t *item) {
    const char *strength = json_string_value(json_object_get(item, "strength")), *method = json_string_value(json_object_get(item, "method"));
    double value = esp_service_number(item, "value"), lower = esp_service_number(item, "lower");
    if (strength == NULL || method == NULL || isnan(value)) return;
    if (strcmp(strength, "proved") != 0 && strcmp(strength, "solver") != 0) return;
    if (!isnan(lower)) model->bound_lower = isnan(model->bound_lower) ? lower : fmax(model->bound_lower, lower);
    if (!isnan(model->bound) && value >= model->bound) return;
    model->bound = value;
    model->bound_s = esp_service_number(item, "seconds");
    snprintf(model->bound_method, sizeof model->bound_method, "%s", method);
    snprintf(model->bound_strength, sizeof model->bound_strength, "%s", strength);
}

static void take_certificates(esp_push_model *model, const json_t *job) {
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(json_object_get(job, "result"), "certificates"), i, item) {
        const char *kind = json_string_value(json_object_get(item, "kind"));
        if (kind != NULL && strcmp(kind, "difference") == 0) take_difference(model, item);
        if (kind != NULL && strcmp(kind, "closed_form") == 0) model->c_box = esp_service_number(item, "value");
    }
}

/* Of the dense model the closed form alone is asked: it has no parent to differ from. */
static json_t *certify_spec(const esp_push_demo *demo, int i) {
    json_t *spec =
        json_pack("{s:s,s:{s:o,s:o},s:i}", "model", demo->model[i].id, "domain", "lower", esp_service_numbers(demo->data.lower, ESP_PUSH_NX), "upper",
                  esp_service_numbers(demo->data.upper, ESP_PUSH_NX), "time_limit_s", demo->opts->certify_s);
    if (demo->model[i].parent >= 0) {
        json_object_set_new(spec, "reference", json_string(demo->model[demo->model[i].parent].id));
        json_object_set_new(spec, "norm", json_string("linf"));
    } else {
        json_object_set_new(spec, "methods", json_pack("[s]", "closed_form"));
    }
    return spec;
}

static bool query_closed_form(esp_push_demo *demo, esp_push_model *model, esp_client_error *reterr) {
    json_t *states = json_array(), *reply = NULL, *body = NULL;
    for (int i = 0; i < demo->data.n_samples; i++) json_array_append_new(states, esp_service_numbers(demo->data.sample[i], ESP_PUSH_NX));
    body = json_pack("{s:s,s:o}", "model", model->id, "states", states);
    esp_client_code code = esp_client_call(demo->client, "POST", "/v1/bounds/query", body, TIMEOUT_MS, &reply, reterr);
    json_decref(body);
    if (code != ESP_CLIENT_OK) return false;
    double c[ESP_PUSH_MAX_LAYERS][ESP_PUSH_SAMPLES];
    size_t i, k, n = 0;
    json_t *item, *layer;
    json_array_foreach(json_object_get(reply, "results"), i, item) {
        const json_t *layers = json_object_get(item, "layers");
        if (i >= ESP_PUSH_SAMPLES || json_array_size(layers) > ESP_PUSH_MAX_LAYERS) break;
        json_array_foreach(layers, k, layer) c[k][i] = esp_service_number(layer, "c_activation");
        model->n_layers = (int)json_array_size(layers);
        n = i + 1;
    }
    for (int l = 0; l < model->n_layers; l++) model->c_median[l] = esp_stats_quantile(c[l], n, 0.5);
    json_decref(reply);
    return (n > 0 && model->n_layers > 0) || esp_service_fail(ESP_CLIENT_FORMAT, "the reply to the bounds query lists no layers", reterr);
}

bool esp_push_certify(esp_push_demo *demo, esp_client_error *reterr) {
    char job_id[ESP_PUSH_MAX_MODELS][96];
    for (int i = 0; i < demo->n_models; i++)
        if (!esp_service_submit(demo->client, "certify", certify_spec(demo, i), job_id[i], sizeof job_id[i], reterr)) return false;
    for (int i = 0; i < demo->n_models; i++)
        if (!query_closed_form(demo, &demo->model[i], reterr)) return false;
    for (int i = 0; i < demo->n_models; i++) {
        json_t *job = NULL;
        if (esp_client_wait(demo->client, job_id[i], JOB_TIMEOUT_MS, NULL, NULL, &job, reterr) != ESP_CLIENT_OK) return false;
        take_certificates(&demo->model[i], job);
        json_decref(job);
    }
    return true;
}
