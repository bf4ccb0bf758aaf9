/* SPDX-License-Identifier: Apache-2.0
 * Rollout loss and back-propagation through time; the recursion is in the header. */
#include "train/rollout.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"

#define CHUNK 256 /* rows: activations of common widths stay in the second-level cache */

/* What one thread works with. */
typedef struct lane {
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
    const float *packed; /* the network, for the passes */
    float *work; /* of the way back */
    float *grads; /* n_params, and the slopes' behind it: of all lanes but the first */
    double squares[ESP_MAX_WIDTH_Y + ESP_VECTOR];
    esp_rng rng; /* of all lanes but the first */
    bool broken; /* told to stop */
    float *memory;
} lane;

struct esp_rollout {
    int n_lanes;
    lane *lanes;
    const esp_parallel *parallel; /* NULL: one lane */
    float *packed;
};

static bool is_identity(const float *g, size_t rows, size_t cols) {
    bool same = rows == cols;
    for (size_t i = 0; same && i < rows * cols; i++) same = g[i] == (i / cols == i % cols ? 1.0f : 0.0f);
    return same;
}

static bool allocate(lane *r, bool first) {
    size_t k = (size_t)r->steps, tape = esp_tape_floats(r->mlp, CHUNK), errors = k * CHUNK * r->y_stride, inputs = CHUNK * r->in_stride;
    size_t outputs = CHUNK * r->out_stride, own = first ? 0 : r->mlp->n_params + 2 * r->mlp->n_neurons;
    size_t floats = esp_padded(k * tape + 2 * errors + outputs + 2 * inputs + r->y_stride + esp_mlp_work(r->mlp, CHUNK) + own);
    r->tapes = calloc(k, sizeof *r->tapes);
    r->memory = aligned_alloc(ESP_VECTOR * sizeof *r->memory, floats * sizeof *r->memory);
    if (!r->tapes || !r->memory) return false;
    memset(r->memory, 0, floats * sizeof *r->memory);
    float *at = r->memory;
    for (size_t i = 0; i < k; i++, at += tape) esp_tape_init(&r->tapes[i], r->mlp, CHUNK, at);
    r->e = at;
    r->de = r->e + errors;
    r->d_out = r->de + errors;
    r->dx = r->d_out + outputs;
    r->noise = r->dx + inputs;
    r->minus = r->noise + inputs;
    r->work = r->minus + r->y_stride;
    r->grads = r->work + esp_mlp_work(r->mlp, CHUNK);
    for (size_t i = 0; i < r->ny; i++) r->minus[i] = -1;
    return true;
}

static bool lane_init(const esp_mlp *mlp, const esp_windows *windows, int steps, const float *packed, bool first, lane *r) {
    *r = (lane){.mlp = mlp,
                .windows = windows,
                .steps = steps,
                .packed = packed,
                .ny = (size_t)windows->ny,
                .n_in = (size_t)windows->n_in,
                .n_out = (size_t)windows->n_out,
                .stack = (size_t)windows->history * (size_t)windows->ny};
    r->y_stride = esp_padded(r->ny);
    r->in_stride = esp_padded(r->n_in);
    r->out_stride = esp_padded(r->n_out);
    r->square = is_identity(windows->g, r->ny, r->n_out);
    return allocate(r, first);
}

esp_code esp_rollout_create(const esp_mlp *mlp, const esp_windows *windows, int steps, const esp_parallel *parallel, esp_rollout **ret_rollout,
                            esp_error *reterr) {
    assert(steps >= 1 && (!parallel || (parallel->n >= 1 && parallel->n <= ESP_MAX_PARTS)));
    esp_rollout *r = calloc(1, sizeof *r);
    if (!r) return esp_fail(reterr, ESP_NOMEM, "rollout");
    r->parallel = parallel && parallel->n > 1 ? parallel : NULL;
    r->n_lanes = r->parallel ? parallel->n : 1;
    r->lanes = calloc((size_t)r->n_lanes, sizeof *r->lanes);
    r->packed = aligned_alloc(ESP_VECTOR * sizeof *r->packed, esp_padded(mlp->n_packed) * sizeof *r->packed);
    bool good = r->lanes && r->packed;
    for (int i = 0; good && i < r->n_lanes; i++) good = lane_init(mlp, windows, steps, r->packed, i == 0, &r->lanes[i]);
    if (!good) {
        esp_rollout_free(r);
        return esp_fail(reterr, ESP_NOMEM, "activations for %d rollout steps", steps);
    }
    *ret_rollout = r;
    return ESP_OK;
}

void esp_rollout_free(esp_rollout *r) {
    if (!r) return;
    for (int i = 0; r->lanes && i < r->n_lanes; i++) {
        free(r->lanes[i].tapes);
        free(r->lanes[i].memory);
    }
    free(r->lanes);
    free(r->packed);
    free(r);
}

/* For each error e_i that E_k stacks (i >= 1, those before are data): calls with i and its column block of a and c. */
static int first_error(const lane *r, int k) {
    int first = k - r->windows->history + 1;
    return first > 1 ? first : 1;
}

static size_t column_of(const lane *r, int k, int i) {
    return (size_t)(i - k + r->windows->history - 1) * r->ny;
}

static float *error_of(float *errors, const lane *r, int i) {
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

static void gather(const lane *r, const esp_rollout_call *call, const size_t *starts, size_t n, int k, float *ret_x) {
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
static void forward(lane *r, const esp_rollout_call *call, const size_t *starts, size_t n, int k) {
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
static void backward(lane *r, const esp_rollout_call *call, size_t n, int k) {
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
static void square(lane *r, size_t n, int k, double count, double weight, double *squares) {
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

/* The rows of one lane, chunk after chunk. */
static void run_rows(lane *r, const esp_rollout_call *call, double count) {
    memset(r->squares, 0, sizeof r->squares);
    r->broken = false;
    for (size_t done = 0; done < call->n; done += CHUNK) {
        size_t n = call->n - done < CHUNK ? call->n - done : CHUNK;
        for (int k = 0; k < call->steps; k++) {
            if ((r->broken = !goes_on(call))) return;
            forward(r, call, call->starts + done, n, k);
            square(r, n, k, count, call->weights ? call->weights[k] : 1, r->squares);
        }
        for (int k = call->steps - 1; call->grads && k >= 0; k--) {
            if ((r->broken = !goes_on(call))) return;
            backward(r, call, n, k);
        }
    }
}

typedef struct batch {
    esp_rollout *rollout;
    const esp_rollout_call *call;
    double count;
} batch;

/* Whole tiles a lane; the first lane has the caller's gradients and asks whether to go on, the others have their own and do not. */
static void run_lane(void *arg, int i) {
    const batch *b = arg;
    lane *r = &b->rollout->lanes[i];
    size_t per = (b->call->n + (size_t)b->rollout->n_lanes - 1) / (size_t)b->rollout->n_lanes;
    per = (per + ESP_TILE - 1) / ESP_TILE * ESP_TILE;
    size_t begin = (size_t)i * per < b->call->n ? (size_t)i * per : b->call->n, end = begin + per < b->call->n ? begin + per : b->call->n;
    esp_rollout_call own = *b->call;
    esp_slope_grads slopes = {r->grads + r->mlp->n_params, r->grads + r->mlp->n_params + r->mlp->n_neurons};
    own.starts += begin;
    own.n = end - begin;
    if (i > 0) {
        own.go_on = NULL;
        own.rng = &r->rng;
        if (own.grads) memset(r->grads, 0, (r->mlp->n_params + 2 * r->mlp->n_neurons) * sizeof *r->grads);
        if (own.grads) own.grads = r->grads;
        if (own.slopes) own.slopes = &slopes;
    }
    run_rows(r, &own, b->count);
}

/* What the other lanes have, in their order. */
static void gather_lanes(const esp_rollout *r, const esp_rollout_call *call, double *squares) {
    const lane *first = &r->lanes[0];
    size_t n = first->mlp->n_params, neurons = first->mlp->n_neurons;
    memcpy(squares, first->squares, first->ny * sizeof *squares);
    for (int i = 1; i < r->n_lanes; i++) {
        const lane *other = &r->lanes[i];
        for (size_t k = 0; k < first->ny; k++) squares[k] += other->squares[k];
        if (call->grads) add_to(n, other->grads, call->grads);
        if (call->grads && call->slopes) add_to(neurons, other->grads + n, call->slopes->positive);
        if (call->grads && call->slopes) add_to(neurons, other->grads + n + neurons, call->slopes->negative);
    }
}

double esp_rollout_loss(esp_rollout *r, const esp_rollout_call *call, double *ret_squares) {
    lane *first = &r->lanes[0];
    double squares[ESP_MAX_WIDTH_Y];
    batch b = {r, call, (double)call->n * (double)call->steps * (double)first->ny};
    assert(call->steps >= 1 && call->steps <= first->steps);
    esp_mlp_pack(first->mlp, call->params, call->pos, call->neg, r->packed);
    for (int i = 1; call->noise > 0 && i < r->n_lanes; i++) esp_rng_init(&r->lanes[i].rng, esp_rng_u64(call->rng), (uint64_t)i);
    if (r->parallel)
        r->parallel->run(r->parallel->user, run_lane, &b);
    else
        run_lane(&b, 0);
    if (first->broken) return NAN;
    gather_lanes(r, call, squares);
    if (ret_squares) memcpy(ret_squares, squares, first->ny * sizeof *squares);
    return total(squares, first->ny) / b.count;
}
