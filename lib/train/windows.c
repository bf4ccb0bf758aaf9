/* SPDX-License-Identifier: Apache-2.0
 * Windows: split, normalisation, and the frame in normalised units. All in double until the last rounding to float. */
#include "train/windows.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"
#include "net/model.h"
#include "train/product.h"

/* A column whose deviation is below this share of its largest value is constant but for rounding. */
#define CONSTANT 1e-12

/* Double-precision scratch of the passes over the data; one block. */
typedef struct passes {
    const esp_dataset *dataset;
    const esp_frame *frame;
    int nu;
    double *x, *v, *t, *f; /* one row of each */
    double *pinv; /* n_out x ny: G^+ */
    double *t_mean, *t_large, *v_large, *f_large;
    double *memory;
} passes;

void esp_windows_free(esp_windows *w) {
    if (!w) return;
    free(w->features);
    free(w->targets);
    free(w->starts);
    free(w->a);
    free(w->in_mean);
    free(w->order);
    free(w);
}

void esp_windows_x(const esp_dataset *dataset, int history, size_t row, size_t t, double *ret_x) {
    size_t ny = (size_t)dataset->ny, nu = (size_t)dataset->nu, h = (size_t)history, first = row + t + 1 - h;
    memcpy(ret_x, dataset->y + first * ny, h * ny * sizeof *ret_x);
    if (nu > 0) memcpy(ret_x + h * ny, dataset->u + first * nu, h * nu * sizeof *ret_x);
}

/* Calls body with (row number r, x, y(t+1)) for rows [from, to) in order. */
#define FOR_ROWS(w, p, to, r)                                                                                                                        \
    for (size_t o_ = 0, r = 0; o_ < (w)->n_order && r < (to); o_++)                                                                                  \
        for (size_t t_ = (size_t)(w)->history - 1, s_ = (p)->dataset->start[(w)->order[o_]], n_ = (p)->dataset->start[(w)->order[o_] + 1] - s_ - 1;  \
             t_ < n_ && r < (to) && (load_row(w, p, s_, t_), true); t_++, r++)

/* v, t and f = G^+ t of one transition, into the scratch. */
static void load_row(const esp_windows *w, passes *p, size_t start, size_t step) {
    const double *next = p->dataset->y + (start + step + 1) * (size_t)w->ny;
    esp_windows_x(p->dataset, w->history, start, step, p->x);
    esp_frame_input(p->frame, w->ny, p->nu, w->history, w->n_in, p->x, p->v);
    esp_frame_known(p->frame, w->ny, p->nu, w->history, p->x, p->t);
    for (int i = 0; i < w->ny; i++) p->t[i] = next[i] - p->t[i];
    for (int i = 0; i < w->n_out; i++) {
        p->f[i] = 0;
        for (int j = 0; j < w->ny; j++) p->f[i] += p->pinv[(size_t)i * (size_t)w->ny + (size_t)j] * p->t[j];
    }
}

static void add_to_mean(int n, const double *value, double *mean, double *large) {
    for (int i = 0; i < n; i++) {
        mean[i] += value[i];
        if (fabs(value[i]) > large[i]) large[i] = fabs(value[i]);
    }
}

static void add_to_variance(int n, const double *value, const double *mean, double *variance) {
    for (int i = 0; i < n; i++) variance[i] += (value[i] - mean[i]) * (value[i] - mean[i]);
}

/* Variance sums to deviations; 0 for a constant column. */
static esp_code to_scale(int n, size_t rows, const double *large, double *scale, const char *what, esp_error *reterr) {
    for (int i = 0; i < n; i++) {
        scale[i] = sqrt(scale[i] / (double)rows);
        if (!isfinite(scale[i])) return esp_fail(reterr, ESP_NUMERIC, "the spread of %s %d is not finite: rescale the data", what, i);
        if (scale[i] <= CONSTANT * large[i]) scale[i] = 0;
    }
    return ESP_OK;
}

static void divide(int n, double *values, size_t by) {
    for (int i = 0; i < n; i++) values[i] /= (double)by;
}

/* Outputs that never vary take the root mean square scale of those that do. */
static void fill_zero_scales(int n, double *scale) {
    double sum = 0;
    int count = 0;
    for (int i = 0; i < n; i++) {
        sum += scale[i] * scale[i];
        count += scale[i] > 0;
    }
    double fill = count > 0 ? sqrt(sum / count) : 1;
    for (int i = 0; i < n; i++)
        if (scale[i] <= 0) scale[i] = fill;
}

static esp_code measure(esp_windows *w, passes *p, esp_error *reterr) {
    size_t n = w->n_train_rows;
    FOR_ROWS(w, p, n, r) {
        add_to_mean(w->n_in, p->v, w->in_mean, p->v_large);
        add_to_mean(w->ny, p->t, p->t_mean, p->t_large);
        add_to_mean(w->n_out, p->f, w->out_mean, p->f_large);
    }
    divide(w->n_in, w->in_mean, n);
    divide(w->ny, p->t_mean, n);
    divide(w->n_out, w->out_mean, n);
    FOR_ROWS(w, p, n, r) {
        add_to_variance(w->n_in, p->v, w->in_mean, w->in_scale);
        add_to_variance(w->ny, p->t, p->t_mean, w->y_scale);
        add_to_variance(w->n_out, p->f, w->out_mean, w->out_scale);
    }
    esp_code code = to_scale(w->n_in, n, p->v_large, w->in_scale, "network input", reterr);
    if (code == ESP_OK) code = to_scale(w->ny, n, p->t_large, w->y_scale, "the change of output", reterr);
    if (code == ESP_OK) code = to_scale(w->n_out, n, p->f_large, w->out_scale, "the target of network output", reterr);
    if (code != ESP_OK) return code;
    for (int i = 0; i < w->n_in; i++) {
        w->live[i] = w->in_scale[i] > 0;
        if (w->in_scale[i] <= 0) w->in_scale[i] = 1;
    }
    fill_zero_scales(w->ny, w->y_scale);
    return ESP_OK;
}

/* rows x cols of a linear map, column by column: map(e_j) - map(0) is what the frame functions make of unit vectors. */
typedef void frame_map(const passes *p, const esp_windows *w, const double *x, double *ret);

static void map_input(const passes *p, const esp_windows *w, const double *x, double *ret) {
    esp_frame_input(p->frame, w->ny, p->nu, w->history, w->n_in, x, ret);
}

static void map_known(const passes *p, const esp_windows *w, const double *x, double *ret) {
    esp_frame_known(p->frame, w->ny, p->nu, w->history, x, ret);
}

/* ret (rows x history * ny) = diag(1 / row_scale) map diag(y_scale, once per step of history). */
static void scaled_map(const passes *p, const esp_windows *w, frame_map *map, int rows, const double *row_scale, double *column, float *ret) {
    int cols = w->history * w->ny, n_x = cols + w->history * p->nu;
    memset(p->x, 0, (size_t)n_x * sizeof *p->x);
    for (int j = 0; j < cols; j++) {
        p->x[j] = 1;
        map(p, w, p->x, column);
        p->x[j] = 0;
        for (int i = 0; i < rows; i++) ret[i * cols + j] = (float)(column[i] / row_scale[i] * w->y_scale[j % w->ny]);
    }
}

static double g_entry(const passes *p, const esp_windows *w, int i, int j) {
    return p->frame->kind == ESP_FRAME_LINEAR ? p->frame->g[(size_t)i * (size_t)w->n_out + (size_t)j] : (i == j ? 1.0 : 0.0);
}

static void scale_frame(esp_windows *w, const passes *p) {
    scaled_map(p, w, map_known, w->ny, w->y_scale, p->t, w->a);
    scaled_map(p, w, map_input, w->n_in, w->in_scale, p->v, w->c);
    for (int i = 0; i < w->ny; i++)
        for (int j = 0; j < w->n_out; j++) w->g[i * w->n_out + j] = (float)(g_entry(p, w, i, j) * w->out_scale[j] / w->y_scale[i]);
}

static void fill(esp_windows *w, passes *p) {
    FOR_ROWS(w, p, w->n_rows, r) {
        float *feature = w->features + r * (size_t)w->n_in, *target = w->targets + r * (size_t)w->ny;
        for (int i = 0; i < w->n_in; i++) feature[i] = (float)((p->v[i] - w->in_mean[i]) / w->in_scale[i]);
        for (int i = 0; i < w->ny; i++) {
            double constant = 0; /* G m, row i */
            for (int j = 0; j < w->n_out; j++) constant += g_entry(p, w, i, j) * w->out_mean[j];
            target[i] = (float)((p->t[i] - constant) / w->y_scale[i]);
        }
    }
}

/* Rows of trajectory o of the order. */
static size_t rows_of(const esp_dataset *dataset, const esp_windows *w, size_t o) {
    size_t observations = dataset->start[w->order[o] + 1] - dataset->start[w->order[o]], h = (size_t)w->history;
    return observations > h ? observations - h : 0;
}

/* Pairs of rows `steps` apart; in trajectories that are shorter, their ends. */
static void measure_reach(const esp_dataset *dataset, esp_windows *w, size_t steps) {
    size_t n_in = (size_t)w->n_in, row = 0;
    for (size_t j = 0; j < n_in; j++) {
        double sum = 0, count = 0;
        row = 0;
        for (size_t o = 0; o < w->n_train; row += rows_of(dataset, w, o), o++) {
            size_t n = rows_of(dataset, w, o), apart = n > steps ? steps : n - (n > 0);
            for (size_t r = row; apart > 0 && r + apart < row + n; r++, count++) {
                double moved = (double)w->features[(r + apart) * n_in + j] - (double)w->features[r * n_in + j];
                sum += moved * moved;
            }
        }
        w->reach[j] = count > 0 ? (float)sqrt(sum / count) : 0;
    }
}

/* Rows, starts and checks, and the longest training trajectory for the error. */
static void count(const esp_dataset *dataset, esp_windows *w, size_t *ret_longest) {
    size_t k = (size_t)w->steps;
    *ret_longest = 0;
    for (size_t o = 0; o < w->n_order; o++) {
        size_t observations = dataset->start[w->order[o] + 1] - dataset->start[w->order[o]], rows = rows_of(dataset, w, o);
        bool train = o < w->n_train;
        if (train && observations > *ret_longest) *ret_longest = observations;
        size_t *list = train ? w->starts : w->checks, *n = train ? &w->n_starts : &w->n_checks;
        for (size_t r = 0; r + k <= rows; r++, (*n)++)
            if (list) list[*n] = w->n_rows + r;
        w->n_rows += rows;
        if (train) w->n_train_rows = w->n_rows;
    }
    w->validation_begin = w->n_train < w->n_order ? w->n_train_rows : 0;
}

static esp_code size_up(const esp_dataset *dataset, const esp_train_opts *opts, esp_windows *w, esp_error *reterr) {
    size_t longest;
    w->n_order = dataset->n_trajectories;
    w->order = malloc((w->n_order + 1) * sizeof *w->order);
    if (!w->order) return esp_fail(reterr, ESP_NOMEM, "windows of %zu trajectories", w->n_order);
    esp_dataset_split(dataset, opts->validation, opts->seed, w->order, &w->n_train);
    count(dataset, w, &longest);
    if (w->n_starts == 0)
        return esp_fail_at(reterr, ESP_INVALID, "/rollout",
                           "history %d and rollout %d need trajectories of at least %d observations; the longest for training has %zu", w->history,
                           w->steps, w->history + w->steps, longest);
    if (w->validation_begin == w->n_rows) w->validation_begin = 0; /* validation trajectories all too short: the training rows stand in */
    if (w->n_starts < (size_t)opts->batch)
        return esp_fail_at(reterr, ESP_INVALID, "/batch", "%zu training windows are fewer than one batch of %d: lower /batch or bring more data",
                           w->n_starts, opts->batch);
    w->starts = malloc((w->n_starts + w->n_checks) * sizeof *w->starts);
    if (!w->starts) return esp_fail(reterr, ESP_NOMEM, "%zu windows", w->n_starts);
    w->checks = w->starts + w->n_starts;
    size_t validation_begin = w->validation_begin;
    w->n_starts = w->n_checks = w->n_rows = 0;
    count(dataset, w, &longest);
    w->validation_begin = validation_begin;
    if (w->n_checks > 0) return ESP_OK;
    w->checks = w->starts;
    w->n_checks = w->n_starts;
    return ESP_OK;
}

static esp_code allocate(esp_windows *w, passes *p, esp_error *reterr) {
    size_t ny = (size_t)w->ny, n_in = (size_t)w->n_in, n_out = (size_t)w->n_out, stack = ny * (size_t)w->history;
    size_t n_x = stack + (size_t)p->nu * (size_t)w->history;
    w->features = calloc(w->n_rows * n_in + ESP_VECTOR, sizeof(float));
    w->targets = calloc(w->n_rows * ny + ESP_VECTOR, sizeof(float));
    w->a = calloc((ny + n_in) * stack + ny * n_out + 2 * n_in, sizeof(float));
    w->in_mean = calloc(2 * n_in + 2 * n_out + ny, sizeof(double));
    p->memory = calloc(n_x + 2 * n_in + 3 * ny + 2 * n_out + n_out * ny, sizeof(double));
    if (!w->features || !w->targets || !w->a || !w->in_mean || !p->memory)
        return esp_fail(reterr, ESP_NOMEM, "%zu training rows of %zu numbers", w->n_rows, n_in + ny);
    w->c = w->a + ny * stack;
    w->g = w->c + n_in * stack;
    w->live = w->g + ny * n_out;
    w->reach = w->live + n_in;
    w->in_scale = w->in_mean + n_in;
    w->out_mean = w->in_scale + n_in;
    w->out_scale = w->out_mean + n_out;
    w->y_scale = w->out_scale + n_out;
    p->x = p->memory;
    p->v = p->x + n_x;
    p->v_large = p->v + n_in;
    p->t = p->v_large + n_in;
    p->t_large = p->t + ny;
    p->t_mean = p->t_large + ny;
    p->f = p->t_mean + ny;
    p->f_large = p->f + n_out;
    p->pinv = p->f_large + n_out;
    return ESP_OK;
}

/* G^+ (n_out x ny): the least-squares solution of G X = I. */
static esp_code pseudo_inverse(const esp_windows *w, const passes *p, esp_error *reterr) {
    size_t ny = (size_t)w->ny, n_out = (size_t)w->n_out;
    if (p->frame->kind != ESP_FRAME_LINEAR) {
        for (size_t i = 0; i < ny; i++) p->pinv[i * ny + i] = 1;
        return ESP_OK;
    }
    double *identity = calloc(ny * ny, sizeof *identity);
    if (!identity) return esp_fail(reterr, ESP_NOMEM, "inverse of the frame's g");
    for (size_t i = 0; i < ny; i++) identity[i * ny + i] = 1;
    esp_code code = esp_lstsq(ny, n_out, ny, p->frame->g, identity, p->pinv, reterr);
    free(identity);
    return code;
}

esp_code esp_windows_create(const esp_dataset *dataset, const esp_train_opts *opts, esp_windows **ret_windows, esp_error *reterr) {
    bool linear = opts->frame.kind == ESP_FRAME_LINEAR;
    passes p = {.dataset = dataset, .frame = &opts->frame, .nu = dataset->nu};
    esp_code code = ESP_OK;
    esp_windows *w = calloc(1, sizeof *w);
    if (!w) return esp_fail(reterr, ESP_NOMEM, "windows");
    w->ny = dataset->ny;
    w->history = opts->history;
    w->steps = opts->rollout;
    w->n_in = linear ? opts->f_in : opts->history * (dataset->ny + dataset->nu);
    w->n_out = linear ? opts->f_out : dataset->ny;
    code = size_up(dataset, opts, w, reterr);
    if (code == ESP_OK) code = allocate(w, &p, reterr);
    if (code == ESP_OK) code = pseudo_inverse(w, &p, reterr);
    if (code == ESP_OK) code = measure(w, &p, reterr);
    if (code != ESP_OK) goto out;
    scale_frame(w, &p);
    fill(w, &p);
    measure_reach(dataset, w, (size_t)opts->reach);
    *ret_windows = w;
    w = NULL;
out:
    free(p.memory);
    esp_windows_free(w);
    return code;
}
