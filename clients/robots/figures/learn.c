/* SPDX-License-Identifier: Apache-2.0
 * Models by both ways of pruning and how well they predict (figures.h): the sparse-dynamics paper's figures 3a and 9.
 *
 * Figure 9 is the error of one step on trajectories that validation holds back. Figure 3a is the error after many, on trajectories of another
 * seed: each is one trial, predicted from its first observation with its recorded actions, and its error is the Euclidean norm over all outputs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "robots/episodes.h"
#include "robots/figures/figures.h"
#include "robots/service.h"

#define JOB_TIMEOUT_MS 7200000
#define TRIAL_SEED     UINT64_C(1000003) /* of trials: far from those of training */

static bool run_job(esp_figures *f, const char *kind, json_t *spec, json_t **ret_job, esp_client_error *reterr) {
    char id[96];
    return esp_service_submit(f->client, kind, spec, id, sizeof id, reterr) &&
           esp_client_wait(f->client, id, JOB_TIMEOUT_MS, NULL, NULL, ret_job, reterr) == ESP_CLIENT_OK;
}

static bool upload(esp_figures *f, const char *what, int transitions, int steps, uint64_t seed, char *ret_id, size_t cap, esp_client_error *reterr) {
    char path[1024], name[64];
    esp_episodes made;
    snprintf(path, sizeof path, "%s/%s-%s.ndjson", f->opts->out, f->robot->name, what);
    snprintf(name, sizeof name, "%s-%s", f->robot->name, what);
    FILE *out = fopen(path, "w");
    bool good = out != NULL && esp_episodes_write(f->robot, out, transitions, steps, seed, NULL, NULL, &made);
    if (out != NULL) good = fclose(out) == 0 && good;
    if (!good) return esp_service_fail(ESP_CLIENT_FILE, "transitions cannot be written to the output directory", reterr);
    good = esp_service_upload(f->client, name, path, ret_id, cap, NULL, reterr);
    unlink(path);
    return good;
}

static json_t *train_spec(const esp_figures *f) {
    const esp_figures_opts *o = f->opts;
    json_t *network =
        f->robot->objects > 0 ? esp_service_graph(f->robot, o->hidden) : json_pack("{s:s,s:[i,i]}", "type", "mlp", "hidden", o->hidden, o->hidden);
    return json_pack("{s:s,s:s,s:o,s:o,s:o,s:i,s:i,s:I}", "dataset", f->dataset, "name", f->robot->name, "model", network, "ladder",
                     esp_service_integers(o->ladder, o->n_ladder), "frame", esp_service_frame(f->robot), "epochs", o->epochs, "rung_epochs",
                     o->rung_epochs, "seed", (json_int_t)o->seed);
}

/* The baseline starts from the same dense model, with the same rungs and epochs. */
static json_t *channel_spec(const esp_figures *f) {
    char name[64];
    snprintf(name, sizeof name, "%s-channel", f->robot->name);
    return json_pack("{s:s,s:s,s:s,s:s,s:o,s:i}", "model", f->model[0].id, "dataset", f->dataset, "name", name, "method", "channel", "ladder",
                     esp_service_integers(f->opts->ladder, f->opts->n_ladder), "rung_epochs", f->opts->rung_epochs);
}

/* A graph network's ReLUs are counted as a ladder counts them, whatever their copies. */
static bool count_neurons(esp_figures *f, esp_figures_model *model, esp_client_error *reterr) {
    char path[128];
    json_t *row = NULL;
    if (f->robot->objects == 0) return true;
    snprintf(path, sizeof path, "/v1/models/%s", model->id);
    bool good = esp_client_call(f->client, "GET", path, NULL, 10000, &row, reterr) == ESP_CLIENT_OK;
    if (good) model->relu = (int)json_integer_value(json_object_get(json_object_get(row, "graph"), "neurons"));
    json_decref(row);
    return good;
}

static bool take_models(esp_figures *f, const json_t *job, esp_figures_model *models, int *ret_n, esp_client_error *reterr) {
    const json_t *list = json_object_get(json_object_get(job, "result"), "models");
    size_t i, n = 0;
    json_t *item;
    json_array_foreach(list, i, item) {
        const char *id = json_string_value(json_object_get(item, "id"));
        if (n == ESP_FIGURES_MODELS || id == NULL) break;
        snprintf(models[n].id, sizeof models[n].id, "%s", id);
        models[n].relu = (int)json_integer_value(json_object_get(item, "relu"));
        if (!count_neurons(f, &models[n], reterr)) return false;
        models[n++].rmse = esp_service_number(item, "validation_rmse");
    }
    *ret_n = (int)n;
    return n > 0 || esp_service_fail(ESP_CLIENT_FORMAT, "the job's result lists no models", reterr);
}

static bool evaluate(esp_figures *f, FILE *table, const char *method, const esp_figures_model *model, esp_client_error *reterr) {
    const esp_figures_opts *o = f->opts;
    json_t *job = NULL, *spec = json_pack("{s:s,s:s,s:i}", "model", model->id, "dataset", f->trials, "horizon", o->steps);
    if (!run_job(f, "evaluate", spec, &job, reterr)) return false;
    const json_t *result = json_object_get(job, "result"), *last = json_array_get(json_object_get(result, "steps"), (size_t)o->steps - 1);
    double p25 = esp_service_number(last, "p25"), p50 = esp_service_number(last, "p50"), p75 = esp_service_number(last, "p75");
    bool good = isfinite(p25 + p50 + p75) && (int)json_integer_value(json_object_get(result, "windows")) == o->trials;
    json_decref(job);
    if (!good) return esp_service_fail(ESP_CLIENT_FORMAT, "the evaluation lacks its last step or some of its trials", reterr);
    fprintf(table, "%s,%llu,%s,%d,%.6g,%d,%.6g,%.6g,%.6g\n", f->robot->name, (unsigned long long)o->seed, method, model->relu, model->rmse, o->steps,
            p25, p50, p75);
    printf("%-9s seed %llu  %-7s %3d ReLUs  one step %.4g  %d steps %.4g [%.4g, %.4g]\n", f->robot->name, (unsigned long long)o->seed, method,
           model->relu, model->rmse, o->steps, p50, p25, p75);
    return fflush(table) == 0 && fflush(stdout) == 0;
}

static bool learn_ladder(esp_figures *f, FILE *table, esp_client_error *reterr) {
    json_t *job = NULL;
    bool good = run_job(f, "train", train_spec(f), &job, reterr) && take_models(f, job, f->model, &f->n_models, reterr);
    json_decref(job);
    for (int i = 0; good && i < f->n_models; i++) good = evaluate(f, table, i == 0 ? "dense" : "ladder", &f->model[i], reterr);
    return good;
}

static bool learn_channel(esp_figures *f, FILE *table, esp_client_error *reterr) {
    esp_figures_model models[ESP_FIGURES_MODELS];
    json_t *job = NULL;
    int n = 0;
    bool good = run_job(f, "sparsify", channel_spec(f), &job, reterr) && take_models(f, job, models, &n, reterr);
    json_decref(job);
    for (int i = 0; good && i < n; i++) good = evaluate(f, table, "channel", &models[i], reterr);
    return good;
}

FILE *esp_figures_table(const esp_figures *f, const char *name, const char *head) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", f->opts->out, name);
    FILE *out = fopen(path, "a");
    if (out != NULL && ftell(out) == 0) fprintf(out, "%s\n", head);
    return out;
}

bool esp_figures_learn(esp_figures *f, esp_client_error *reterr) {
    const esp_figures_opts *o = f->opts;
    int transitions = o->transitions > 0 ? o->transitions : f->robot->transitions;
    FILE *table = esp_figures_table(f, "models.csv", "robot,seed,method,relu,one_step_rmse,steps,p25,p50,p75");
    if (table == NULL) return esp_service_fail(ESP_CLIENT_FILE, "models.csv cannot be written", reterr);
    bool good = upload(f, "data", transitions, 0, o->seed, f->dataset, sizeof f->dataset, reterr) &&
                upload(f, "trials", o->trials * o->steps, o->steps, TRIAL_SEED + o->seed, f->trials, sizeof f->trials, reterr) &&
                learn_ladder(f, table, reterr) && learn_channel(f, table, reterr);
    fclose(table);
    return good;
}
