/* SPDX-License-Identifier: Apache-2.0
 * One robot's rows of the paper's figures, over HTTP: ladder against channel pruning, long predictions, open-loop plans.
 *
 *     learn.c   data, training, pruning, evaluation -> models.csv         plans.c   plans of each method on each rung -> plans.csv
 *     loop.c    closed-loop episodes on one model, printed                main.c    the command line
 *
 * A row is written as soon as it is known. Everything comes over HTTP or out of the simulator; drawing is tests/paper's. */
#ifndef ESP_FIGURES_H
#define ESP_FIGURES_H

#include <stdint.h>
#include <stdio.h>

#include "c/espalier.h"
#include "robots/robot.h"

#define ESP_FIGURES_RUNGS  8
#define ESP_FIGURES_MODELS (ESP_FIGURES_RUNGS + 1)

typedef struct esp_figures_opts {
    const char *server, *out;
    const char *model, *method; /* of a closed loop */
    int transitions; /* 0: the robot's own */
    int epochs, rung_epochs;
    int ladder[ESP_FIGURES_RUNGS], n_ladder;
    int trials, steps; /* trajectories that are predicted open loop, and how far */
    int plans, deadline_ms, plan_relu; /* trials of planning; on models of at most plan_relu ReLUs */
    int horizon; /* of plans; 0: the robot's own */
    int hidden; /* width of each hidden layer */
    int neurons; /* of all */
    uint64_t seed;
} esp_figures_opts;

typedef struct esp_figures_model {
    char id[96];
    int relu; /* as a ladder counts them: of a graph network whatever their copies */
    double rmse; /* one step, validation */
} esp_figures_model;

typedef struct esp_figures {
    const esp_robot *robot;
    const esp_figures_opts *opts;
    esp_client *client;
    char dataset[96], trials[96]; /* ids */
    int n_models; /* of the Gumbel ladder, dense first */
    esp_figures_model model[ESP_FIGURES_MODELS];
} esp_figures;

/* Each appends rows for this robot and seed to a file in opts->out, with a head when it is new. False with *reterr filled. */
bool esp_figures_learn(esp_figures *figures, esp_client_error *reterr);
bool esp_figures_plan(esp_figures *figures, esp_client_error *reterr);

/* Closed-loop episodes, opts->plans of them with opts->steps steps each, planned anew at every step by opts->method on opts->model. */
bool esp_figures_loop(esp_figures *figures, esp_client_error *reterr);

/* Stores the task of a method on a model. */
bool esp_figures_task(const esp_figures *figures, const char *model, const char *name, const char *method, char *ret_id, size_t cap,
                      esp_client_error *reterr);
/* Asks for one plan from y; the reply is the caller's. */
bool esp_figures_ask(const esp_figures *figures, const char *task, const double *y, const double *goal, const char *session, json_t **ret_reply,
                     esp_client_error *reterr);
/* The world and the goal of a trial, which depend on its number and the seed alone; NULL without memory. */
void *esp_figures_trial(const esp_figures *figures, int trial, double *ret_goal);
/* The cost of being in the world's present state. */
double esp_figures_cost(const esp_robot *robot, const void *world, const double *goal);

/* The file, for appending; NULL when it cannot be opened. */
FILE *esp_figures_table(const esp_figures *figures, const char *name, const char *head);

#endif
