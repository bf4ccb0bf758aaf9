/* SPDX-License-Identifier: Apache-2.0
 * Rollout loss and back-propagation through time; the recursion is in the header. */
#include "train/rollout.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"

#define CHUNK 256 /* rows: activations of common widths stay in the second-level cache */

struct esp_rollout {
    const esp_mlp *mlp;
    const esp_windows *windows;
    int steps;
    size_t ny, n_in, n_out, stack; /* stack = history * ny */
    size_t y_stride, in_stride, out_stride; /* rows are padded as train/product.h wants them; the padding of e and de is 0 */
    bool square; /* g is the identity: o needs no product */
    esp_tape *tapes; /* steps */
    float *e, *de; /* steps x chunk x ny: e_{k+1} at k, and its gradient */
    float *d_out; /* chunk x n_out */
    float *dx; /* chunk x n_in */
    float *noise; /* chunk x n_in, not padded */
    float *minus; /* y_stride: -1, and 0 in the padding */
    float *packed; /* the network, for the passes */
    float *work; /* of the way back */
    float *memory;
};

static bool is_identity(const float *g, size_t rows, size_t cols) {
    bool same = rows == cols;
    for (size_t i = 0; same && i < rows * cols; i++) same = g[i] == (i / cols == i % cols ? 1.0f : 0.0f);
    return same;
}

static bool allocate(esp_rollout *r) {
    size_t k = (size_t)r->steps, tape = esp_tape_floats(r->mlp, CHUNK), errors = k * CHUNK * r->y_stride, inputs = CHUNK * r->in_stride;
    size_t packed = esp_padded(r->mlp->n_packed), outputs = CHUNK * r->out_stride;
    size_t floats = esp_padded(k * tape + packed + 2 * errors + outputs + 2 * inputs + r->y_stride + esp_mlp_work(r->mlp, CHUNK));
    r->tapes = calloc(k, sizeof *r->tapes);
    r->memory = aligned_alloc(ESP_VECTOR * sizeof *r->memory, floats * sizeof *r->memory);
    if (!r->tapes || !r->memory) return false;
    memset(r->memory, 0, floats * sizeof *r->memory);
    float *at = r->memory;
    for (size_t i = 0; i < k; i++, at += tape) esp_tape_init(&r->tapes[i], r->mlp, CHUNK, at);
    r->packed = at;
    r->e = r->packed + packed;
    r->de = r->e + errors;
    r->d_out = r->de + errors;
    r->dx = r->d_out + outputs;
    r->noise = r->dx + inputs;
    r->minus = r->noise + inputs;
    r->work = r->minus + r->y_stride;
    for (size_t i = 0; i < r->ny; i++) r->minus[i] = -1;
    return true;
}

esp_code esp_rollout_create(const esp_mlp *mlp, const esp_windows *windows, int steps, esp_rollout **ret_rollout, esp_error *reterr) {
    assert(steps >= 1);
    esp_rollout *r = calloc(1, sizeof *r);
    if (!r) return esp_fail(reterr, ESP_NOMEM, "rollout");
    *r = (esp_rollout){.mlp = mlp,
                       .windows = windows,
                       .steps = steps,
                       .ny = (size_t)windows->ny,
                       .n_in = (size_t)windows->n_in,
                       .n_out = (size_t)windows->n_out,
                       .stack = (size_t)windows->history * (size_t)windows->ny};
    r->y_stride = esp_padded(r->ny);
    r->in_stride = esp_padded(r->n_in);
    r->out_stride = esp_padded(r->n_out);
    r->square = is_identity(windows->g, r->ny, r->n_out);
    if (!allocate(r)) {
        esp_rollout_free(r);
        return esp_fail(reterr, ESP_NOMEM, "activations for %d rollout steps", steps);
    }
    *ret_rollout = r;
    return ESP_OK;
}

void esp_rollout_free(esp_rollout *r) {
    if (!r) return;
    free(r->tapes);
    free(r->memory);
    free(r);
}

/* For each error e_i that E_k stacks (i >= 1, those before are data): calls with i and its column block of a and c. */
static int first_error(const esp_rollout *r, int k) {
    int first = k - r->windows->history + 1;
    return first > 1 ? first : 1;
}

static size_t column_of(const esp_rollout *r, int k, int i) {
    return (size_t)(i - k + r->windows->history - 1) * r->ny;
}

static float *error_of(float *errors, const esp_rollout *r, int i) {
    return errors + (size_t)(i - 1) * CHUNK * r->y_stride;
}

/* Tables (`width` numbers a row, ESP_VECTOR more behind the last) are read in whole vectors. What comes after a row's own numbers
 * is the next row: in x nothing reads it, in e it is multiplied by 0. */
static void copy_rows(const float *table, size_t width, const size_t *starts, size_t n, int k, float *to) {
    size_t stride = esp_padded(width);
    for (size_t i = 0; i < n; i++, to += stride) {
        const float *from = table + (starts[i] + (size_t)k) * width;
        for (size_t j = 0; j < stride; j += ESP_VECTOR) esp_copy_vector(from + j, to + j);
    }
}

static void gather(const esp_rollout *r, const esp_rollout_call *call, const size_t *starts, size_t n, int k, float *ret_x) {
    copy_rows(r->windows->features, r->n_in, starts, n, k, ret_x);
    if (call->noise <= 0) return;
    esp_rng_normals_f(call->rng, r->noise, n * r->n_in);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < r->n_in; j++) ret_x[i * r->in_stride + j] += call->noise * r->windows->live[j] * r->noise[i * r->n_in + j];
}

/* e = -t, and 0 in the padding. */
static void negative_targets(const float *restrict table, size_t width, const float *restrict minus, const size_t *restrict starts, size_t n, int k,
                             float *restrict e) {
    size_t stride = esp_padded(width);
    for (size_t i = 0; i < n; i++, e += stride) {
        const float *t = table + (starts[i] + (size_t)k) * width;
        for (size_t j = 0; j < stride; j += ESP_VECTOR)
            for (size_t v = 0; v < ESP_VECTOR; v++) e[j + v] = minus[j + v] * t[j + v];
    }
}

static void add_to(size_t n, const float *restrict from, float *restrict to) {
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

/* Step k of the recursion: fills tape k and e_{k+1}. */
static void forward(esp_rollout *r, const esp_rollout_call *call, const size_t *starts, size_t n, int k) {
    const esp_windows *w = r->windows;
    esp_tape *tape = &r->tapes[k];
    float *next = error_of(r->e, r, k + 1);
    gather(r, call, starts, n, k, tape->x);
    negative_targets(w->targets, r->ny, r->minus, starts, n, k, next);
    for (int i = first_error(r, k); i <= k; i++) {
        const float *e = error_of(r->e, r, i);
        esp_sgemm(ESP_NO, ESP_T, n, r->n_in, r->ny, 1, e, r->y_stride, w->c + column_of(r, k, i), r->stack, 1, tape->x, r->in_stride);
        esp_sgemm(ESP_NO, ESP_T, n, r->ny, r->ny, 1, e, r->y_stride, w->a + column_of(r, k, i), r->stack, 1, next, r->y_stride);
    }
    esp_mlp_forward(r->mlp, r->packed, n, call->slopes != NULL, tape);
    const float *out = tape->h[r->mlp->n_layers - 1];
    if (r->square)
        add_to(n * r->y_stride, out, next);
    else
        esp_sgemm(ESP_NO, ESP_T, n, r->ny, r->n_out, 1, out, r->out_stride, w->g, r->n_out, 1, next, r->y_stride);
}

/* Step k on the way back: de_{k+1} is complete; adds to the gradients and to the errors that E_k stacks. */
static void backward(esp_rollout *r, const esp_rollout_call *call, size_t n, int k) {
    const esp_windows *w = r->windows;
    const float *de = error_of(r->de, r, k + 1), *d_out = de;
    size_t rows = (n + ESP_TILE - 1) / ESP_TILE * ESP_TILE;
    int first = first_error(r, k);
    if (!r->square) {
        esp_sgemm(ESP_NO, ESP_NO, n, r->n_out, r->ny, 1, de, r->y_stride, w->g, r->n_out, 0, r->d_out, r->out_stride);
        memset(r->d_out + n * r->out_stride, 0, (rows - n) * r->out_stride * sizeof *r->d_out);
        d_out = r->d_out;
    }
    esp_mlp_backward(r->mlp, r->packed, n, &r->tapes[k], d_out, call->grads, call->slopes, first <= k ? r->dx : NULL, r->work);
    for (int i = first; i <= k; i++) {
        float *d = error_of(r->de, r, i);
        esp_sgemm(ESP_NO, ESP_NO, n, r->ny, r->ny, 1, de, r->y_stride, w->a + column_of(r, k, i), r->stack, 1, d, r->y_stride);
        esp_sgemm(ESP_NO, ESP_NO, n, r->ny, r->n_in, 1, r->dx, r->in_stride, w->c + column_of(r, k, i), r->stack, 1, d, r->y_stride);
    }
}

/* de = factor e, and `weight` times the squares of e by column (stride), in one pass. */
static void square_rows(size_t n, size_t stride, float factor, double weight, const float *restrict e, float *restrict de, double *restrict squares) {
    for (size_t column = 0; column < stride; column += ESP_VECTOR) {
        double sum[ESP_VECTOR] = {0};
        for (size_t i = column; i < n * stride; i += stride)
            for (size_t j = 0; j < ESP_VECTOR; j++) {
                sum[j] += (double)e[i + j] * (double)e[i + j];
                de[i + j] = factor * e[i + j];
            }
        for (size_t j = 0; j < ESP_VECTOR; j++) squares[column + j] += weight * sum[j];
    }
}

/* Weighted squared errors of step k into the sums (y_stride); gradient of the mean into de, 0 in the rows of the last tile beyond n. */
static void square(esp_rollout *r, size_t n, int k, double count, double weight, double *squares) {
    float *de = error_of(r->de, r, k + 1);
    square_rows(n, r->y_stride, (float)(2 * weight / count), weight, error_of(r->e, r, k + 1), de, squares);
    memset(de + n * r->y_stride, 0, (ESP_TILE - n % ESP_TILE) % ESP_TILE * r->y_stride * sizeof *de);
}

static double total(const double *values, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    return sum;
}

static bool goes_on(const esp_rollout_call *call) {
    return !call->go_on || call->go_on(call->user);
}

double esp_rollout_loss(esp_rollout *r, const esp_rollout_call *call, double *ret_squares) {
    assert(call->steps >= 1 && call->steps <= r->steps);
    double count = (double)call->n * (double)call->steps * (double)r->ny, squares[ESP_MAX_WIDTH_Y + ESP_VECTOR] = {0};
    esp_mlp_pack(r->mlp, call->params, call->pos, call->neg, r->packed);
    for (size_t done = 0; done < call->n; done += CHUNK) {
        size_t n = call->n - done < CHUNK ? call->n - done : CHUNK;
        for (int k = 0; k < call->steps; k++) {
            if (!goes_on(call)) return NAN;
            forward(r, call, call->starts + done, n, k);
            square(r, n, k, count, call->weights ? call->weights[k] : 1, squares);
        }
        for (int k = call->steps - 1; call->grads && k >= 0; k--) {
            if (!goes_on(call)) return NAN;
            backward(r, call, n, k);
        }
    }
    if (ret_squares) memcpy(ret_squares, squares, r->ny * sizeof *squares);
    return total(squares, r->ny) / count;
}
