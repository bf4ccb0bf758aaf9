/* SPDX-License-Identifier: Apache-2.0
 * Two loops side by side in affine forms. Not the search for a tight bound: that splits the box of presents.
 *
 * Symbols. Those of the present come first and stay for good. Relaxations add more; when less than a third of the room is
 * left at the beginning of a step, all but the first are folded, each number of [Y, U] getting one symbol of its own for
 * them. What it costs is tightness: the rows keep their sizes and forget what they had in common. */
#include "certify/loop.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "certify/norms.h"
#include "certify/rounding.h"

enum { SYMBOLS_MOST = 480, SYMBOLS_LEAST = 24 };
#define BYTES_MOST (128u << 20)

struct esp_loop {
    esp_loop_models models;
    esp_space space;
    esp_pair *policy, *dynamics; /* policy NULL: free inputs */
    esp_triple x, y, u; /* n_x, ny, nu */
    esp_triple free; /* steps * nu; without policies */
    esp_spans *seen; /* n_x: the inputs of the last step */
    double *blame, *size; /* n_inputs, ny */
    int n_x, ny, nu, history, n_present, n_inputs;
    int step; /* since begin */
};

int esp_loop_present(const esp_loop_models *models) {
    const esp_model *m = models->dynamics_f;
    return m->history * m->ny + (m->history - 1) * m->nu;
}

int esp_loop_inputs(const esp_loop_models *models, int steps) {
    return esp_loop_present(models) + (models->policy_f ? 0 : steps * models->dynamics_f->nu);
}

static esp_code check_fit(const esp_loop_models *m, esp_error *reterr) {
    const esp_model *f = m->dynamics_f, *g = m->dynamics_g;
    if (f->kind != ESP_MODEL_DYNAMICS || g->kind != ESP_MODEL_DYNAMICS) return esp_fail(reterr, ESP_INVALID, "a loop needs a dynamics model");
    assert(!m->policy_f == !m->policy_g);
    for (int k = 0; m->policy_f && k < 2; k++) {
        const esp_model *policy = k ? m->policy_g : m->policy_f;
        if (policy->kind != ESP_MODEL_POLICY || policy->ny != f->ny || policy->nu != f->nu)
            return esp_fail(reterr, ESP_INVALID, "a policy from %d to %d numbers does not fit dynamics of %d outputs and %d inputs", policy->ny,
                            policy->nu, f->ny, f->nu);
    }
    return ESP_OK;
}

/* As many symbols as the memory bears. */
static int choose_most(const esp_loop *loop) {
    const esp_loop_models *m = &loop->models;
    size_t rows = (size_t)esp_pair_rows(m->dynamics_f, m->dynamics_g) + 3 * (size_t)(loop->n_x + loop->ny + loop->nu + loop->n_inputs);
    if (m->policy_f) rows += (size_t)esp_pair_rows(m->policy_f, m->policy_g);
    size_t room = BYTES_MOST / (rows * sizeof(double)), most = (size_t)loop->n_inputs + SYMBOLS_MOST;
    if (room < (size_t)loop->n_inputs + SYMBOLS_LEAST) room = (size_t)loop->n_inputs + SYMBOLS_LEAST;
    return (int)(room < most ? room : most);
}

static esp_code loop_init(esp_loop *loop, esp_error *reterr) {
    const esp_loop_models *m = &loop->models;
    esp_space *space = &loop->space;
    esp_code code = ESP_OK;
    if (m->policy_f) code = esp_pair_create(space, m->policy_f, m->policy_g, loop->blame, loop->n_inputs, &loop->policy, reterr);
    if (!code) code = esp_pair_create(space, m->dynamics_f, m->dynamics_g, loop->blame, loop->n_inputs, &loop->dynamics, reterr);
    if (!code) code = esp_triple_create(space, loop->n_x, &loop->x, reterr);
    if (!code) code = esp_triple_create(space, loop->ny, &loop->y, reterr);
    if (!code) code = esp_triple_create(space, loop->nu, &loop->u, reterr);
    if (!code) code = esp_triple_create(space, loop->n_inputs - loop->n_present, &loop->free, reterr);
    return code;
}

esp_code esp_loop_create(const esp_loop_models *models, int steps, esp_loop **ret_loop, esp_error *reterr) {
    esp_code code = check_fit(models, reterr);
    if (code) return code;
    const esp_model *m = models->dynamics_f;
    esp_loop *loop = calloc(1, sizeof *loop);
    if (!loop) return esp_fail(reterr, ESP_NOMEM, "no memory for a loop");
    *loop = (esp_loop){
        .models = *models, .n_x = esp_model_n_x(m), .ny = m->ny, .nu = m->nu, .history = m->history, .n_present = esp_loop_present(models)};
    loop->n_inputs = esp_loop_inputs(models, steps);
    loop->space.most = choose_most(loop);
    loop->seen = calloc((size_t)loop->n_x, sizeof *loop->seen);
    loop->blame = calloc((size_t)(loop->n_inputs + loop->ny), sizeof *loop->blame);
    code = loop->seen && loop->blame ? loop_init(loop, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a loop");
    if (code) {
        esp_loop_free(loop);
        return code;
    }
    loop->size = loop->blame + loop->n_inputs;
    *ret_loop = loop;
    return ESP_OK;
}

void esp_loop_free(esp_loop *loop) {
    if (!loop) return;
    esp_pair_free(loop->policy);
    esp_pair_free(loop->dynamics);
    esp_triple_done(&loop->x);
    esp_triple_done(&loop->y);
    esp_triple_done(&loop->u);
    esp_triple_done(&loop->free);
    free(loop->seen);
    free(loop->blame);
    free(loop);
}

void esp_loop_begin(esp_loop *loop, const double *lower, const double *upper) {
    esp_space_clear(&loop->space);
    loop->step = 0;
    memset(loop->blame, 0, (size_t)loop->n_inputs * sizeof *loop->blame);
    for (int i = 0; i < loop->n_inputs; i++) {
        bool present = i < loop->n_present;
        esp_triple_box(present ? &loop->x : &loop->free, present ? i : i - loop->n_present, lower[i], upper[i]);
        loop->space.n = i + 1; /* symbol i is input i's, used or not */
    }
}

static esp_forms *const *blocks(const esp_triple *triple, esp_forms *ret[3]) {
    ret[0] = triple->f;
    ret[1] = triple->g;
    ret[2] = triple->d;
    return ret;
}

static void settle(const esp_triple *triple, int n_rows) {
    esp_forms *all[3];
    blocks(triple, all);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < n_rows; i++) esp_forms_settle(all[k], i);
}

/* Gives room back when little is left; see the head of the file. */
static void make_room(esp_loop *loop) {
    int keep = loop->n_inputs, room = loop->space.most - keep;
    if (loop->space.n <= keep || loop->space.most - loop->space.n > room / 3) return;
    esp_forms *all[3];
    blocks(&loop->x, all);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < loop->n_present; i++) esp_forms_fold(all[k], i, keep);
    loop->space.n = keep;
    settle(&loop->x, loop->n_present);
}

/* Everything one step older: y(t+1) and u(t) become the newest past. */
static void shift(esp_loop *loop) {
    int n_yh = loop->history * loop->ny, n_uh = loop->history * loop->nu;
    for (int i = 0; i < n_yh; i++) {
        bool newest = i >= n_yh - loop->ny;
        esp_triple_copy(newest ? &loop->y : &loop->x, newest ? i - (n_yh - loop->ny) : i + loop->ny, &loop->x, i);
    }
    for (int i = 0; i < n_uh - loop->nu; i++) esp_triple_copy(&loop->x, n_yh + i + loop->nu, &loop->x, n_yh + i);
}

void esp_loop_step(esp_loop *loop) {
    make_room(loop);
    if (loop->policy) esp_pair_run(loop->policy, &loop->x, (loop->history - 1) * loop->ny, &loop->u);
    for (int i = 0; i < loop->nu; i++) {
        if (!loop->policy) esp_triple_copy(&loop->free, loop->step * loop->nu + i, &loop->u, i);
        esp_triple_copy(&loop->u, i, &loop->x, loop->n_x - loop->nu + i);
    }
    for (int i = 0; i < loop->n_x; i++) loop->seen[i] = esp_triple_spans(&loop->x, i);
    esp_pair_run(loop->dynamics, &loop->x, 0, &loop->y);
    settle(&loop->y, loop->ny);
    shift(loop);
    loop->step++;
}

esp_spans esp_loop_output(const esp_loop *loop, int i) {
    return esp_triple_spans(&loop->y, i);
}

esp_spans esp_loop_input(const esp_loop *loop, int i) {
    return esp_triple_spans(&loop->u, i);
}

esp_spans esp_loop_x(const esp_loop *loop, int i) {
    return loop->seen[i];
}

double esp_loop_distance(const esp_loop *loop, esp_norm norm) {
    double largest = 0;
    for (int i = 0; i < loop->ny; i++) {
        esp_span d = esp_loop_output(loop, i).d;
        loop->size[i] = esp_max(esp_abs(d.lower), esp_abs(d.upper));
        largest = esp_max(largest, loop->size[i]);
    }
    return norm == ESP_NORM_INF ? largest : esp_norm2_up((size_t)loop->ny, loop->size);
}

double esp_loop_reached(const esp_loop *loop, esp_norm norm) {
    double largest = 0;
    for (int i = 0; i < loop->ny; i++) {
        esp_span d = esp_loop_output(loop, i).d;
        loop->size[i] = esp_max(0, esp_max(d.lower, -d.upper));
        if (!(loop->size[i] <= DBL_MAX)) loop->size[i] = 0;
        largest = esp_max(largest, loop->size[i]);
    }
    return norm == ESP_NORM_INF ? largest : esp_norm2_down((size_t)loop->ny, loop->size);
}

const double *esp_loop_blame(const esp_loop *loop) {
    return loop->blame;
}
