/* SPDX-License-Identifier: Apache-2.0
 * The gap of a minibatch. A minibatch's first rows stand for it: heights vary little from one draw of rows to the next. */
#include "train/proof.h"

#include <stdlib.h>

#define ROWS 64

struct esp_proof {
    const esp_windows *windows;
    esp_compact *compact;
    esp_gap_program program, grads;
    float *work, *memory;
};

void esp_proof_free(esp_proof *p) {
    if (!p) return;
    esp_compact_free(p->compact);
    free(p->memory);
    free(p);
}

static esp_code allocate(esp_proof *p, const esp_mlp *mlp, esp_error *reterr) {
    size_t n_x = (size_t)mlp->width[0], n_r = esp_compact_relus(p->compact), n_y = (size_t)mlp->width[mlp->n_layers];
    size_t floats = esp_gap_floats(n_x, n_r, n_y);
    p->memory = calloc(2 * floats + esp_gap_work(n_r) + 1, sizeof *p->memory);
    if (!p->memory) return esp_fail(reterr, ESP_NOMEM, "the relaxation of %zu ReLUs", n_r);
    p->program = esp_gap_program_at(n_x, n_r, n_y, p->memory);
    p->grads = esp_gap_program_at(n_x, n_r, n_y, p->memory + floats);
    p->work = p->memory + 2 * floats;
    return ESP_OK;
}

esp_code esp_proof_create(const esp_mlp *mlp, const esp_ladder *ladder, const esp_windows *windows, esp_proof **ret_proof, esp_error *reterr) {
    esp_proof *p = calloc(1, sizeof *p);
    if (!p) return esp_fail(reterr, ESP_NOMEM, "training for the planner");
    p->windows = windows;
    esp_code code = esp_compact_create(mlp, ladder, &p->compact, reterr);
    if (code == ESP_OK) code = allocate(p, mlp, reterr);
    if (code != ESP_OK) {
        esp_proof_free(p);
        return code;
    }
    *ret_proof = p;
    return ESP_OK;
}

double esp_proof_add(esp_proof *p, const size_t *starts, size_t n, double weight, const float *params, float *grads) {
    const float *rows[ROWS];
    size_t m = n < ROWS ? n : ROWS;
    for (size_t i = 0; i < m; i++) rows[i] = p->windows->features + starts[i] * (size_t)p->windows->n_in;
    esp_compact_get(p->compact, params, &p->program);
    double gap = esp_gap(&p->program, p->windows->reach, rows, m, (float)weight, &p->grads, p->work);
    esp_compact_add(p->compact, &p->grads, grads);
    return gap;
}

void esp_proof_hold(const esp_proof *p, float *params) {
    esp_compact_hold(p->compact, params);
}
