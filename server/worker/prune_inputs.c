/* SPDX-License-Identifier: Apache-2.0
 * Inputs of a prune job: the windows of a dataset, the given states, or draws from the domain.
 *
 * Four in five calibrate, one in five is held out; of a dataset by whole trajectories, so that what is held out was not
 * seen a step earlier. States are dealt out by a seeded shuffle; fewer than five serve as both. Draws from a domain are uniform,
 * those held out drawn anew. The domain has points of its own too, every other one a corner: a difference met there that
 * is over the budget spares the certificate. */
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"
#include "base/rng.h"
#include "data/dataset.h"
#include "worker/prune_parts.h"

enum { BOX_POINTS = 2000 };
enum { STREAM_CALIBRATION = 0x9a10, STREAM_HELD_OUT, STREAM_BOX, STREAM_SHUFFLE };

#define HELD_SHARE 0.2

static esp_code no_memory(esp_error *reterr) {
    return esp_fail(reterr, ESP_NOMEM, "no memory for calibration inputs");
}

static void put_input(const pruning *p, const double *x, double *ret_v) {
    const esp_model *m = p->parent->model;
    if (m->kind == ESP_MODEL_POLICY)
        memcpy(ret_v, x, (size_t)m->ny * sizeof *x);
    else
        esp_frame_input(&m->frame, m->ny, m->nu, m->history, esp_net_inputs(m->net), x, ret_v);
}

/* ---- the domain ---- */

static esp_code box_of_dataset(pruning *p, const esp_reader *domain, const esp_reader *dataset, esp_error *reterr) {
    esp_dataset *data = NULL;
    double margin = 0;
    int n = esp_model_n_x(p->parent->model);
    double *lower = ESP_NEW(p->arena, double, n), *upper = ESP_NEW(p->arena, double, n);
    if (!lower || !upper) return no_memory(reterr);
    esp_reader member = esp_read_member(domain, "margin");
    esp_code code = esp_read_number(&member, 0, 1e6, &margin, reterr);
    if (!code) code = worker_dataset_load(p->w, dataset, &data, reterr);
    if (!code) code = esp_dataset_box(data, p->parent->model->history, lower, upper, reterr);
    for (int i = 0; !code && i < n; i++) {
        double more = margin * (upper[i] - lower[i]);
        lower[i] -= more;
        upper[i] += more;
    }
    if (!code) p->box = (esp_box){n, lower, upper};
    esp_dataset_free(data);
    return code;
}

esp_code prune_read_domain(pruning *p, const esp_reader *payload, esp_error *reterr) {
    esp_reader spec = esp_read_member(payload, "spec"), domain = esp_read_member(&spec, "domain"), named = esp_read_member(&domain, "dataset");
    esp_reader calibration = esp_read_member(&spec, "dataset");
    esp_reader dataset = esp_read_member(payload, calibration.value ? "domain_dataset" : "dataset");
    if (!domain.value) return ESP_OK;
    if (named.value) return box_of_dataset(p, &domain, &dataset, reterr);
    return esp_box_parse(&domain, esp_model_n_x(p->parent->model), p->arena, &p->box, reterr);
}

static void draw(const pruning *p, uint64_t stream, bool corners, size_t n, double *x, double *ret_v) {
    size_t n_in = (size_t)esp_net_inputs(p->parent->model->net);
    esp_rng rng;
    esp_rng_init(&rng, p->spec.seed, stream);
    for (size_t i = 0; i < n; i++) {
        for (int j = 0; j < p->box.n; j++) {
            double share = esp_rng_uniform(&rng);
            if (corners && i % 2) share = share < 0.5 ? 0 : 1;
            x[j] = share == 1 ? p->box.upper[j] : p->box.lower[j] + share * (p->box.upper[j] - p->box.lower[j]);
        }
        put_input(p, x, ret_v + i * n_in);
    }
}

/* ---- where inputs come from ---- */

static esp_code take_room(pruning *p, size_t n, size_t n_held, bool targets, esp_error *reterr) {
    prune_inputs *in = &p->inputs;
    size_t n_in = (size_t)esp_net_inputs(p->parent->model->net), n_y = (size_t)esp_model_n_y(p->parent->model);
    *in = (prune_inputs){.n = n, .n_held = n_held, .in_box = in->in_box, .n_box = in->n_box};
    in->v = ESP_NEW(p->arena, double, n *n_in);
    in->held = ESP_NEW(p->arena, double, n_held *n_in);
    in->aim = targets ? ESP_NEW(p->arena, double, n *n_y) : NULL;
    in->target = targets ? ESP_NEW(p->arena, double, n_held *n_y) : NULL;
    return in->v && in->held && (!targets || (in->aim && in->target)) ? ESP_OK : no_memory(reterr);
}

static esp_code from_domain(pruning *p, double *x, esp_error *reterr) {
    size_t n = p->spec.samples, n_held = n / 4 + 1;
    esp_code code = take_room(p, n, n_held, false, reterr);
    if (code) return code;
    draw(p, STREAM_CALIBRATION, false, n, x, p->inputs.v);
    draw(p, STREAM_HELD_OUT, false, n_held, x, p->inputs.held);
    return ESP_OK;
}

static esp_code from_states(pruning *p, esp_error *reterr) {
    size_t all = p->spec.n_states, n_held = all / 5, n = all - n_held, n_x = (size_t)esp_model_n_x(p->parent->model);
    size_t n_in = (size_t)esp_net_inputs(p->parent->model->net), *order = ESP_NEW(p->arena, size_t, all);
    if (!order) return no_memory(reterr);
    for (size_t i = 0; i < all; i++) order[i] = i;
    esp_rng rng;
    esp_rng_init(&rng, p->spec.seed, STREAM_SHUFFLE);
    if (n_held)
        esp_rng_shuffle(&rng, order, all);
    else
        n_held = all;
    esp_code code = take_room(p, n, n_held, false, reterr);
    for (size_t i = 0; !code && i < n; i++) put_input(p, p->spec.states + order[i] * n_x, p->inputs.v + i * n_in);
    for (size_t i = 0; !code && i < n_held; i++) put_input(p, p->spec.states + order[all - n_held + i] * n_x, p->inputs.held + i * n_in);
    return code;
}

/* Rows of the dataset at which a model of that history has an input, of the trajectories in `order`; all of a policy's. */
static size_t list_rows(const esp_model *m, const esp_dataset *data, const size_t *order, size_t n, size_t *ret_rows) {
    size_t found = 0;
    bool policy = m->kind == ESP_MODEL_POLICY;
    for (size_t i = 0; i < n; i++) {
        size_t begin = data->start[order[i]] + (size_t)m->history - 1, end = data->start[order[i] + 1] - !policy;
        for (size_t row = begin; row < end; row++) {
            if (ret_rows) ret_rows[found] = row;
            found++;
        }
    }
    return found;
}

/* x = [Y, U] of a row; what the network should have said there, less the frame's part. */
static void put_window(const pruning *p, const esp_dataset *data, size_t row, double *x, double *ret_v, double *ret_target) {
    const esp_model *m = p->parent->model;
    size_t history = (size_t)m->history, ny = (size_t)m->ny, nu = (size_t)m->nu;
    memcpy(x, data->y + (row + 1 - history) * ny, history * ny * sizeof *x);
    if (m->kind == ESP_MODEL_DYNAMICS && nu) memcpy(x + history * ny, data->u + (row + 1 - history) * nu, history * nu * sizeof *x);
    put_input(p, x, ret_v);
    if (!ret_target) return;
    esp_frame_known(&m->frame, m->ny, m->nu, m->history, x, ret_target);
    for (size_t k = 0; k < ny; k++) ret_target[k] = data->y[(row + 1) * ny + k] - ret_target[k];
}

static esp_code from_dataset(pruning *p, const esp_dataset *data, double *x, esp_error *reterr) {
    const esp_model *m = p->parent->model;
    size_t *order = ESP_NEW(p->arena, size_t, data->n_trajectories), *rows = ESP_NEW(p->arena, size_t, data->n_rows), n_train = 0;
    size_t n_in = (size_t)esp_net_inputs(m->net), n_y = (size_t)esp_model_n_y(m);
    bool targets = m->kind == ESP_MODEL_DYNAMICS;
    esp_rng rng;
    if (!order || !rows) return no_memory(reterr);
    esp_rng_init(&rng, p->spec.seed, STREAM_SHUFFLE);
    esp_dataset_split(data, HELD_SHARE, p->spec.seed, order, &n_train);
    const size_t *held = data->n_trajectories > n_train ? order + n_train : order;
    size_t held_trajectories = data->n_trajectories > n_train ? data->n_trajectories - n_train : n_train;
    size_t n = list_rows(m, data, order, n_train, NULL), n_held = list_rows(m, data, held, held_trajectories, NULL);
    if (!n || !n_held) return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/spec/dataset", "no trajectory is as long as the model's history");
    size_t most = p->spec.samples, most_held = most / 4 + 1;
    esp_code code = take_room(p, n < most ? n : most, n_held < most_held ? n_held : most_held, targets, reterr);
    if (code) return code;
    list_rows(m, data, order, n_train, rows);
    esp_rng_shuffle(&rng, rows, n);
    for (size_t i = 0; i < p->inputs.n; i++) put_window(p, data, rows[i], x, p->inputs.v + i * n_in, targets ? p->inputs.aim + i * n_y : NULL);
    list_rows(m, data, held, held_trajectories, rows);
    esp_rng_shuffle(&rng, rows, n_held);
    for (size_t i = 0; i < p->inputs.n_held; i++)
        put_window(p, data, rows[i], x, p->inputs.held + i * n_in, targets ? p->inputs.target + i * n_y : NULL);
    return ESP_OK;
}

esp_code prune_read_inputs(pruning *p, const esp_reader *payload, esp_error *reterr) {
    esp_reader spec = esp_read_member(payload, "spec"), named = esp_read_member(&spec, "dataset"), dataset = esp_read_member(payload, "dataset");
    double *x = ESP_NEW(p->arena, double, esp_model_n_x(p->parent->model));
    esp_dataset *data = NULL;
    esp_code code = x ? ESP_OK : no_memory(reterr);
    if (!code && p->box.n) {
        p->inputs.n_box = BOX_POINTS;
        p->inputs.in_box = ESP_NEW(p->arena, double, BOX_POINTS *(size_t)esp_net_inputs(p->parent->model->net));
        if (!p->inputs.in_box) return no_memory(reterr);
        draw(p, STREAM_BOX, true, BOX_POINTS, x, p->inputs.in_box);
    }
    if (!code && named.value) code = worker_dataset_load(p->w, &dataset, &data, reterr);
    if (!code && data)
        code = from_dataset(p, data, x, reterr);
    else if (!code && p->spec.n_states)
        code = from_states(p, reterr);
    else if (!code && p->box.n)
        code = from_domain(p, x, reterr);
    esp_dataset_free(data);
    return code;
}

esp_code prune_part(const esp_model *model, size_t n, const double *v, double *ret, esp_error *reterr) {
    size_t n_out = (size_t)esp_net_outputs(model->net), n_y = (size_t)esp_model_n_y(model);
    if (n == 0 || model->frame.kind != ESP_FRAME_LINEAR) return n ? esp_prune_outputs(model->net, n, v, ret, reterr) : ESP_OK;
    double *f = calloc(n * n_out, sizeof *f);
    esp_code code = f ? esp_prune_outputs(model->net, n, v, f, reterr) : no_memory(reterr);
    if (!code) esp_dgemm(ESP_NO, ESP_T, n, n_y, n_out, 1, f, n_out, model->frame.g, n_out, 0, ret, n_y);
    free(f);
    return code;
}
