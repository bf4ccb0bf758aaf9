/* SPDX-License-Identifier: Apache-2.0
 * The order of a training run: dense, then rung after rung. */
#include "train/train.h"

#include <stdio.h>

#include "train/emit.h"
#include "train/trainer.h"

#define SEARCH_SHARE 0.4

static esp_code emit(esp_trainer *t, esp_error *reterr) {
    esp_train_model out = {0};
    esp_code code = esp_emit_model(&t->mlp, t->params, t->ladder, t->windows, &t->opts->frame, t->dataset->nu, &out.model, reterr);
    if (code == ESP_OK)
        code = esp_emit_errors(out.model, t->dataset, t->windows, esp_trainer_pulse, t, &out.validation_rmse, &out.rollout_rmse, reterr);
    if (code == ESP_OK && t->hooks && t->hooks->model) {
        out.relu = esp_net_relus(out.model->net);
        code = t->hooks->model(t->hooks->user, &out, reterr);
    }
    esp_model_free(out.model);
    return code;
}

static int search_epochs(const esp_train_opts *opts) {
    int epochs = (int)(SEARCH_SHARE * opts->rung_epochs + 0.5);
    return epochs < 1 ? 1 : epochs >= opts->rung_epochs ? opts->rung_epochs - 1 : epochs;
}

static esp_code run_rung(esp_trainer *t, int relu, const char *stage, esp_error *reterr) {
    const esp_train_opts *opts = t->opts;
    int search = search_epochs(opts);
    esp_phase look = {stage, search, true, opts->learning_rate, opts->logit_rate},
              tune = {stage, opts->rung_epochs - search, false, opts->learning_rate, 0};
    esp_code code = search > 0 ? esp_trainer_phase(t, &look, reterr) : ESP_OK;
    if (code != ESP_OK) return code;
    esp_ladder_freeze(t->ladder, (size_t)relu, NULL);
    code = esp_trainer_phase(t, &tune, reterr);
    return code == ESP_OK ? emit(t, reterr) : code;
}

esp_code esp_train_run(const esp_dataset *dataset, const esp_train_opts *opts, const esp_train_hooks *hooks, const esp_stop *stop,
                       esp_error *reterr) {
    char stage[ESP_MAX_RUNGS][24];
    esp_phase dense = {"dense", opts->epochs, false, opts->learning_rate, 0};
    esp_trainer *t = NULL;
    esp_code code = esp_trainer_create(dataset, opts, hooks, stop, opts->epochs + opts->n_rungs * opts->rung_epochs, &t, reterr);
    if (code != ESP_OK) return code;
    code = esp_trainer_phase(t, &dense, reterr);
    if (code == ESP_OK) code = emit(t, reterr);
    for (int i = 0; i < opts->n_rungs && code == ESP_OK; i++) {
        (void)snprintf(stage[i], sizeof stage[i], "rung %d", opts->ladder[i]);
        code = run_rung(t, opts->ladder[i], stage[i], reterr);
    }
    esp_trainer_free(t);
    return code;
}
