/* SPDX-License-Identifier: Apache-2.0
 * What the parts of the pushing demo share: settings, models, episodes, runs. Everything here came over HTTP or out of the simulator.
 *
 *     demo.c      the order of things        learn.c     data, training, certificates
 *     loop.c      closed-loop episodes       report.c    table, JSON, what the numbers say
 *     pictures.c  SVG                                                                     */
#ifndef ESP_PUSHING_DEMO_H
#define ESP_PUSHING_DEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "c/espalier.h"
#include "robots/pushing/data.h"

#define ESP_PUSH_MAX_MODELS   9
#define ESP_PUSH_MAX_RUNS     12
#define ESP_PUSH_MAX_EPISODES 64
#define ESP_PUSH_MAX_STEPS    64
#define ESP_PUSH_MAX_HORIZON  16
#define ESP_PUSH_MAX_LAYERS   8
#define ESP_PUSH_NK           (2 * ESP_PUSH_KEYPOINTS)
#define ESP_PUSH_SUCCESS      0.05 /* mean keypoint distance: 5 px, a tenth of the box's side */
#define ESP_PUSH_LATE_MS      10.0 /* a reply later than the deadline by more than this is late */

typedef struct esp_push_opts {
    const char *server, *out;
    bool quick;
    int transitions, epochs, rung_epochs, rollout, certify_s;
    int ladder[ESP_PUSH_MAX_MODELS - 1], n_ladder;
    int episodes, steps, horizon, deadline_ms, threads;
    uint64_t seed;
} esp_push_opts;

typedef struct esp_push_model {
    char id[96], name[64];
    int version, relu;
    double rmse; /* validation, one step */
    int parent; /* index of the parent model, -1 for the dense one */
    /* the certified largest difference to the parent over the data box; NaN when there is none */
    double bound, bound_lower, bound_s;
    char bound_method[32], bound_strength[32];
    /* closed-form constants: C_k per layer, the median over states of the data; the largest of all layers over the whole data box, certified */
    int n_layers;
    double c_median[ESP_PUSH_MAX_LAYERS], c_box;
} esp_push_model;

typedef enum esp_push_status {
    ESP_PUSH_OPTIMAL,
    ESP_PUSH_FEASIBLE,
    ESP_PUSH_FALLBACK,
    ESP_PUSH_INFEASIBLE,
    ESP_PUSH_UNKNOWN,
    ESP_PUSH_NO_REPLY
} esp_push_status;

/* One step of an episode: the observation, the plan made from it, what it cost to get. */
typedef struct esp_push_record {
    double y[ESP_PUSH_NY], u[ESP_PUSH_NU]; /* u: executed */
    double latency_ms;
    esp_push_status status;
    double objective, gap; /* NaN when not given */
    int n_predicted;
    double predicted[ESP_PUSH_MAX_HORIZON * ESP_PUSH_NY];
} esp_push_record;

typedef struct esp_push_episode {
    esp_pose start, goal;
    double pusher[2];
    int n_steps;
    esp_push_record step[ESP_PUSH_MAX_STEPS];
    double y_end[ESP_PUSH_NY];
    double error; /* mean keypoint distance to the goal at the end */
    double cost; /* sum over the steps' outcomes of the L1 distance of the keypoints */
} esp_push_episode;

/* One method on one model, all episodes. */
typedef struct esp_push_run {
    const char *method; /* "mip", "mppi", "cem" */
    int model;
    char task[96]; /* id */
    int n_episodes;
    esp_push_episode *episode;
    int calls, optimal, feasible, fallback, failed, late;
    double p50_ms, p99_ms, max_ms, error_mean, error_quartile[3], cost_mean, success, model_error;
} esp_push_run;

typedef struct esp_push_demo {
    const esp_push_opts *opts;
    esp_client *client;
    esp_push_data data;
    char dataset[96];
    int n_models, n_runs;
    esp_push_model model[ESP_PUSH_MAX_MODELS];
    esp_push_run run[ESP_PUSH_MAX_RUNS];
} esp_push_demo;

/* Every function below says what it does on standard output; false with *reterr filled when it could not. */
bool esp_push_demo_run(const esp_push_opts *opts, esp_client_error *reterr);

bool esp_push_upload(esp_push_demo *demo, esp_client_error *reterr);
bool esp_push_train(esp_push_demo *demo, esp_client_error *reterr);
bool esp_push_certify(esp_push_demo *demo, esp_client_error *reterr);
/* Stores the task of a method on a model and runs all episodes; the new run's index. */
bool esp_push_run_method(esp_push_demo *demo, const char *method, int model, int *ret_run, esp_client_error *reterr);

/* Start, goal and pusher of an episode: the same for every method. */
void esp_push_draw_episode(uint64_t seed, int index, esp_push_episode *ret_episode);
/* Mean distance of the keypoints in y to those of the goal. */
double esp_push_error(const double *y, esp_pose goal);

const char *esp_push_method_name(const char *method); /* "exact (mip)", "MPPI", "CEM" */
void esp_push_print_certificates(const esp_push_demo *demo, FILE *out, bool markdown);
void esp_push_print_table(const esp_push_demo *demo, FILE *out, bool markdown);
/* What the numbers say about exact planning against the others, with its limits. */
void esp_push_print_findings(const esp_push_demo *demo, FILE *out);
bool esp_push_write_report(const esp_push_demo *demo);
bool esp_push_write_pictures(const esp_push_demo *demo);

#endif
