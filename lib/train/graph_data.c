/* SPDX-License-Identifier: Apache-2.0
 * Scales of a graph network's data, and the fit of what its objects share. In double. */
#include "train/graph_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"

#define CONSTANT 1e-12 /* of the largest value: a deviation below is rounding */
#define FIT_ROWS 20000 /* of the least-squares fit, evenly spaced beyond that many */
#define DIGITS   9 /* that a fitted coefficient keeps */

/* Mean, then deviation, of some columns over as many values of each as come. */
typedef struct stats {
    int n;
    size_t count;
    double *mean, *scale, *large; /* n each */
} stats;

typedef struct passes {
    const esp_graph_data *data;
    esp_edge *edges;
    esp_pick *picks;
    double *x, *values;
    stats v, w, change, shared;
    bool second; /* the pass for the deviations */
    double *memory;
} passes;

static void add_values(stats *s, const double *values, bool second) {
    s->count += !second;
    for (int i = 0; i < s->n; i++) {
        double off = values[i] - s->mean[i];
        if (second)
            s->scale[i] += off * off;
        else
            s->mean[i] += values[i];
        if (!second && fabs(values[i]) > s->large[i]) s->large[i] = fabs(values[i]);
    }
}

static void end_means(stats *s) {
    for (int i = 0; i < s->n && s->count; i++) s->mean[i] /= (double)s->count;
}

/* Sums to deviations; 0 for a constant column. */
static esp_code end_scales(stats *s, const char *what, esp_error *reterr) {
    for (int i = 0; i < s->n; i++) {
        s->scale[i] = s->count ? sqrt(s->scale[i] / (double)s->count) : 0;
        if (!isfinite(s->scale[i])) return esp_fail(reterr, ESP_NUMERIC, "the spread of %s %d is not finite: rescale the data", what, i);
        if (s->scale[i] <= CONSTANT * s->large[i]) s->scale[i] = 0;
    }
    return ESP_OK;
}

static void add_picked(passes *p, stats *s) {
    for (int k = 0; k < s->n; k++) p->values[k] = p->x[p->picks[k].plus] - (p->picks[k].minus < 0 ? 0 : p->x[p->picks[k].minus]);
    add_values(s, p->values, p->second);
}

static void add_row(passes *p, size_t r) {
    const esp_graph_data *data = p->data;
    const esp_graph_layout *l = data->layout;
    const double *next = esp_graph_data_next(data, r);
    int n = l->objects;
    esp_graph_data_x(data, r, p->x);
    for (int i = 0; i < n; i++) {
        int at = l->first + i * l->size;
        esp_graph_node_picks(l, n, i, p->picks);
        add_picked(p, &p->v);
        for (int k = 0; k < l->size; k++) p->values[k] = next[at + k] - p->x[at + k];
        add_values(&p->change, p->values, p->second);
    }
    int n_edges = esp_graph_edges(l, n, p->x, p->edges);
    for (int e = 0; e < n_edges; e++) {
        esp_graph_edge_picks(l, n, p->edges[e], p->picks);
        add_picked(p, &p->w);
    }
    for (int k = 0; k < l->n_shared; k++) p->values[k] = next[esp_graph_shared(l, n, k)] - p->x[esp_graph_shared(l, n, k)];
    add_values(&p->shared, p->values, p->second);
}

static esp_code measure(passes *p, size_t n_train, esp_error *reterr) {
    for (int pass = 0; pass < 2; pass++) {
        p->second = pass == 1;
        for (size_t r = 0; r < n_train; r++) add_row(p, r);
        stats *const all[4] = {&p->v, &p->w, &p->change, &p->shared};
        for (int k = 0; pass == 0 && k < 4; k++) end_means(all[k]);
    }
    if (p->w.count == 0)
        return esp_fail_at(reterr, ESP_INVALID, "/model/radius",
                           "no two objects of the training data are ever so near: there is nothing to learn how they meet from");
    esp_code code = end_scales(&p->v, "an object's feature", reterr);
    if (code == ESP_OK) code = end_scales(&p->w, "an edge's feature", reterr);
    if (code == ESP_OK) code = end_scales(&p->change, "the change of an object's number", reterr);
    return code == ESP_OK ? end_scales(&p->shared, "the change of a shared number", reterr) : code;
}

/* ---- the shared numbers -------------------------------------------------------------------------------------------- */

/* `value` to DIGITS decimal digits of what is large beside it. */
static double rounded(double value, double largest) {
    if (!(largest > 0)) return 0;
    int digits = DIGITS - 1 - (int)floor(log10(largest));
    if (digits > 300 || digits < -300) return value;
    double power = pow(10, abs(digits));
    return digits >= 0 ? round(value * power) / power : round(value / power) * power;
}

typedef struct fit {
    size_t rows, cols, q; /* cols = q + nu */
    double *a, *b, *x; /* rows x cols, rows x q, cols x q: centred, each column in its deviation */
    double *mean, *scale; /* cols + q: of [q, u], and of the changes */
    double *memory;
} fit;

static void fit_row(const esp_graph_data *data, size_t r, double *x, double *inputs, double *changes) {
    const esp_graph_layout *l = data->layout;
    const double *next = esp_graph_data_next(data, r);
    int ny = data->dataset->ny;
    esp_graph_data_x(data, r, x);
    for (int k = 0; k < l->n_shared; k++) {
        int at = esp_graph_shared(l, l->objects, k);
        inputs[k] = x[at];
        changes[k] = next[at] - x[at];
    }
    for (int k = 0; k < l->nu; k++) inputs[l->n_shared + k] = x[ny + k];
}

/* Centres n columns of `rows` rows, `stride` apart, and divides them by their deviation (0: the column is 0). */
static void standardise(double *values, size_t rows, size_t n, double *mean, double *scale) {
    for (size_t j = 0; j < n; j++) {
        double large = 0;
        for (size_t i = 0; i < rows; i++) mean[j] += values[i * n + j] / (double)rows;
        for (size_t i = 0; i < rows; i++) {
            large = fmax(large, fabs(values[i * n + j]));
            scale[j] += (values[i * n + j] - mean[j]) * (values[i * n + j] - mean[j]);
        }
        scale[j] = sqrt(scale[j] / (double)rows);
        if (scale[j] <= CONSTANT * large) scale[j] = 0;
        for (size_t i = 0; i < rows; i++) values[i * n + j] = scale[j] > 0 ? (values[i * n + j] - mean[j]) / scale[j] : 0;
    }
}

/* Change k = x' [q, u] + constant, rounded; a gets the 1 of what stays. */
static void take_fit(const fit *f, const esp_graph_layout *l, double *shared) {
    size_t q = f->q, nu = (size_t)l->nu;
    double *a = shared, *b = a + q * q, *c = b + q * nu;
    for (size_t k = 0; k < q; k++) {
        double largest = 0, constant = f->mean[f->cols + k], out = f->scale[f->cols + k];
        for (size_t j = 0; j < f->cols; j++) largest = fmax(largest, fabs(f->x[j * q + k]));
        for (size_t j = 0; j < f->cols; j++) {
            double unit = f->scale[j] > 0 ? out / f->scale[j] : 0, value = rounded(f->x[j * q + k] * unit, largest * unit);
            constant -= value * f->mean[j];
            if (j < q)
                a[k * q + j] = value + (j == k ? 1 : 0);
            else
                b[k * nu + j - q] = value;
        }
        c[k] = rounded(constant, fmax(fabs(f->mean[f->cols + k]), out));
    }
}

static esp_code fit_shared(passes *p, size_t n_train, double *shared, esp_error *reterr) {
    const esp_graph_layout *l = p->data->layout;
    size_t q = (size_t)l->n_shared, stride = (n_train + FIT_ROWS - 1) / FIT_ROWS, rows = (n_train + stride - 1) / stride;
    fit f = {.rows = rows, .cols = q + (size_t)l->nu, .q = q};
    if (q == 0) return ESP_OK;
    f.memory = calloc(rows * (f.cols + q) + f.cols * q + 2 * (f.cols + q), sizeof *f.memory);
    if (!f.memory) return esp_fail(reterr, ESP_NOMEM, "a fit of %zu rows", rows);
    f.a = f.memory;
    f.b = f.a + rows * f.cols;
    f.x = f.b + rows * q;
    f.mean = f.x + f.cols * q;
    f.scale = f.mean + f.cols + q;
    for (size_t i = 0; i < rows; i++) fit_row(p->data, i * stride, p->x, f.a + i * f.cols, f.b + i * q);
    standardise(f.a, rows, f.cols, f.mean, f.scale);
    standardise(f.b, rows, q, f.mean + f.cols, f.scale + f.cols);
    esp_code code = esp_lstsq(rows, f.cols, q, f.a, f.b, f.x, reterr);
    if (code == ESP_OK) take_fit(&f, l, shared);
    free(f.memory);
    return code;
}

/* ---- making --------------------------------------------------------------------------------------------------------- */

void esp_graph_data_x(const esp_graph_data *data, size_t r, double *ret_x) {
    size_t ny = (size_t)data->dataset->ny, nu = (size_t)data->dataset->nu;
    memcpy(ret_x, data->dataset->y + data->at[r] * ny, ny * sizeof *ret_x);
    if (nu) memcpy(ret_x + ny, data->dataset->u + data->at[r] * nu, nu * sizeof *ret_x);
}

void esp_graph_data_free(esp_graph_data *data) {
    if (!data) return;
    free(data->at);
    free(data->v_mean);
    free(data->v_live);
    free(data->moved);
    free(data);
}

static void find_rows(const esp_dataset *dataset, const esp_windows *windows, size_t *at) {
    for (size_t o = 0; o < windows->n_order; o++) {
        size_t begin = dataset->start[windows->order[o]], end = dataset->start[windows->order[o] + 1];
        for (size_t t = begin; t + 1 < end; t++) *at++ = t;
    }
}

static esp_code allocate(esp_graph_data *d, passes *p, esp_error *reterr) {
    const esp_graph_layout *l = d->layout;
    size_t v = (size_t)d->n_v, w = (size_t)d->n_w, size = (size_t)l->size, q = (size_t)l->n_shared, nu = (size_t)l->nu, ny = (size_t)d->dataset->ny;
    size_t most = v + w + size + q, n = (size_t)l->objects;
    d->at = malloc(d->n_rows * sizeof *d->at);
    d->v_mean = calloc(2 * (v + w + size) + q * (q + nu + 1) + ny, sizeof(double));
    d->v_live = calloc(v + w, sizeof(float));
    p->memory = calloc(ny + nu + 2 * most + 2 * q, sizeof(double));
    p->edges = malloc(n * n * sizeof *p->edges);
    p->picks = malloc((v + w) * sizeof *p->picks);
    if (!d->at || !d->v_mean || !d->v_live || !p->memory || !p->edges || !p->picks)
        return esp_fail(reterr, ESP_NOMEM, "%zu rows of %zu objects", d->n_rows, n);
    d->v_scale = d->v_mean + v;
    d->w_mean = d->v_scale + v;
    d->w_scale = d->w_mean + w;
    d->out_mean = d->w_scale + w;
    d->out_scale = d->out_mean + size;
    d->shared = d->out_scale + size;
    d->scale = d->shared + q * (q + nu + 1);
    d->w_live = d->v_live + v;
    p->x = p->memory;
    p->values = p->x + ny + nu;
    double *large = p->values + most, *shared = large + most;
    p->v = (stats){d->n_v, 0, d->v_mean, d->v_scale, large};
    p->w = (stats){d->n_w, 0, d->w_mean, d->w_scale, large + v};
    p->change = (stats){l->size, 0, d->out_mean, d->out_scale, large + v + w};
    p->shared = (stats){l->n_shared, 0, shared, shared + q, large + v + w + size};
    return ESP_OK;
}

/* A feature that never varies has no scale, and no say at first. */
static void take_live(int n, double *scale, float *ret_live) {
    for (int i = 0; i < n; i++) {
        ret_live[i] = scale[i] > 0 ? 1 : 0;
        if (!(scale[i] > 0)) scale[i] = 1;
    }
}

/* The columns' units: the spread of what changes in them; where nothing does, that of the others. */
static void take_units(esp_graph_data *d, const stats *shared) {
    const esp_graph_layout *l = d->layout;
    double squares = 0;
    int varying = 0;
    for (int k = 0; k < l->size; k++) {
        squares += d->out_scale[k] * d->out_scale[k];
        varying += d->out_scale[k] > 0;
    }
    double other = varying ? sqrt(squares / varying) : 1;
    for (int k = 0; k < l->size; k++)
        if (!(d->out_scale[k] > 0)) d->out_scale[k] = other;
    for (int i = 0; i < l->objects; i++)
        for (int k = 0; k < l->size; k++) d->scale[l->first + i * l->size + k] = d->out_scale[k];
    for (int k = 0; k < l->n_shared; k++) d->scale[esp_graph_shared(l, l->objects, k)] = shared->scale[k] > 0 ? shared->scale[k] : other;
}

esp_code esp_graph_data_create(const esp_dataset *dataset, const esp_windows *windows, const esp_graph_layout *layout, esp_graph_data **ret_data,
                               esp_error *reterr) {
    passes p = {0};
    esp_graph_data *d = calloc(1, sizeof *d);
    if (!d) return esp_fail(reterr, ESP_NOMEM, "training data");
    d->dataset = dataset;
    d->layout = layout;
    d->n_v = esp_graph_node_inputs(layout);
    d->n_w = esp_graph_edge_inputs(layout);
    d->n_rows = windows->n_rows;
    p.data = d;
    esp_code code = allocate(d, &p, reterr);
    if (code == ESP_OK) {
        find_rows(dataset, windows, d->at);
        code = measure(&p, windows->n_train_rows, reterr);
    }
    if (code == ESP_OK) code = fit_shared(&p, windows->n_train_rows, d->shared, reterr);
    if (code == ESP_OK) {
        take_live(d->n_v, d->v_scale, d->v_live);
        take_live(d->n_w, d->w_scale, d->w_live);
        take_units(d, &p.shared);
        *ret_data = d;
        d = NULL;
    }
    free(p.memory);
    free(p.edges);
    free(p.picks);
    esp_graph_data_free(d);
    return code;
}
