/* SPDX-License-Identifier: Apache-2.0
 * Substitution, in double, and where things are in a network that was rewritten. */
#include "train/compact.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_relu(const esp_ladder *ladder, size_t neuron) {
    return ladder->state[neuron] == ESP_UNDECIDED || ladder->state[neuron] == ESP_ACT_RELU;
}

static size_t relus_of(const esp_mlp *mlp, const esp_ladder *ladder, int l) {
    size_t n = 0;
    for (int i = 0; i < mlp->width[l + 1]; i++) n += is_relu(ladder, mlp->neuron[l] + (size_t)i);
    return n;
}

bool esp_compact_fits(const esp_mlp *mlp, const esp_ladder *ladder) {
    size_t before = 0;
    bool fits = true;
    for (int l = 0; l < mlp->n_layers - 1; l++) {
        size_t here = relus_of(mlp, ladder, l);
        fits &= (size_t)mlp->width[l + 1] >= here + before + (size_t)mlp->width[0];
        before += here;
    }
    return fits && before <= ESP_COMPACT_RELUS;
}

/* ---- substitution ---------------------------------------------------------------------------------------------------- */

/* Rows are expressions over [1 | x | r]. */
typedef struct rows {
    size_t n_in, n_r, width;
    double *now, *next; /* of the neurons of a layer */
    double *relus; /* n_r: what each ReLU sees */
} rows;

static void rows_done(rows *r) {
    free(r->now);
    free(r->next);
    free(r->relus);
}

static esp_code rows_init(const esp_mlp *mlp, const esp_ladder *ladder, rows *r, esp_error *reterr) {
    size_t widest = 0;
    for (int l = 0; l <= mlp->n_layers; l++)
        if ((size_t)mlp->width[l] > widest) widest = (size_t)mlp->width[l];
    *r = (rows){.n_in = (size_t)mlp->width[0]};
    for (int l = 0; l < mlp->n_layers - 1; l++) r->n_r += relus_of(mlp, ladder, l);
    r->width = 1 + r->n_in + r->n_r;
    r->now = calloc(widest * r->width, sizeof *r->now);
    r->next = calloc(widest * r->width, sizeof *r->next);
    r->relus = calloc(r->n_r * r->width + 1, sizeof *r->relus);
    if (!r->now || !r->next || !r->relus) return esp_fail(reterr, ESP_NOMEM, "substitution of %zu ReLUs", r->n_r);
    for (size_t j = 0; j < r->n_in; j++) r->now[j * r->width + 1 + j] = 1;
    return ESP_OK;
}

static void substitute(const rows *r, const esp_mlp *mlp, const float *params, int l, int i, double *ret_row) {
    const float *w = params + mlp->weight[l] + (size_t)i * (size_t)mlp->width[l];
    memset(ret_row, 0, r->width * sizeof *ret_row);
    ret_row[0] = (double)params[mlp->bias[l] + (size_t)i];
    for (int j = 0; j < mlp->width[l]; j++) {
        const double *from = r->now + (size_t)j * r->width;
        for (size_t k = 0; w[j] != 0 && k < r->width; k++) ret_row[k] += (double)w[j] * from[k];
    }
}

/* All layers, so that `now` ends as the outputs. */
static void substitute_all(rows *r, const esp_mlp *mlp, const esp_ladder *ladder, const float *params) {
    size_t made = 0;
    for (int l = 0; l < mlp->n_layers; l++) {
        for (int i = 0; i < mlp->width[l + 1]; i++) {
            bool last = l == mlp->n_layers - 1;
            size_t neuron = mlp->neuron[l] + (size_t)i;
            double *row = r->next + (size_t)i * r->width;
            substitute(r, mlp, params, l, i, row);
            if (last || ladder->state[neuron] == ESP_ACT_IDENTITY) continue;
            if (is_relu(ladder, neuron)) memcpy(r->relus + made * r->width, row, r->width * sizeof *row);
            memset(row, 0, r->width * sizeof *row);
            if (is_relu(ladder, neuron)) row[1 + r->n_in + made++] = 1;
        }
        double *swap = r->now;
        r->now = r->next;
        r->next = swap;
    }
}

/* Each ReLU's row and column to the same norm: max(0, s p) = s max(0, p). */
static void balance(rows *r, size_t n_out) {
    for (size_t i = 0; i < r->n_r; i++) {
        double *row = r->relus + i * r->width, in = 0, out = 0;
        size_t column = 1 + r->n_in + i;
        for (size_t k = 1; k < r->width; k++) in += row[k] * row[k];
        for (size_t k = 0; k < r->n_r; k++) out += r->relus[k * r->width + column] * r->relus[k * r->width + column];
        for (size_t k = 0; k < n_out; k++) out += r->now[k * r->width + column] * r->now[k * r->width + column];
        double s = in > 0 && out > 0 ? pow(out / in, 0.25) : 1;
        for (size_t k = 0; k < r->width; k++) row[k] *= s;
        for (size_t k = 0; k < r->n_r; k++) r->relus[k * r->width + column] /= s;
        for (size_t k = 0; k < n_out; k++) r->now[k * r->width + column] /= s;
    }
}

/* The first frozen neurons of each layer become carriers, the others zero. */
static void choose_carriers(const esp_mlp *mlp, esp_ladder *ladder) {
    size_t carried = (size_t)mlp->width[0];
    for (int l = 0; l < mlp->n_layers - 1; l++) {
        size_t here = relus_of(mlp, ladder, l), left = carried;
        for (int i = 0; i < mlp->width[l + 1]; i++) {
            size_t neuron = mlp->neuron[l] + (size_t)i;
            if (is_relu(ladder, neuron)) continue;
            ladder->state[neuron] = left > 0 ? ESP_ACT_IDENTITY : ESP_ACT_ZERO;
            left -= left > 0;
        }
        assert(left == 0);
        carried += here;
    }
}

/* ---- where things are ------------------------------------------------------------------------------------------------ */

struct esp_compact {
    const esp_mlp *mlp;
    size_t n_in, n_r;
    int *layer, *row; /* n_r: of each ReLU */
    int *begin; /* n_layers: the first ReLU of a layer */
    int *column; /* n_layers x (n_in + n_r): where layer l finds an input, or an earlier ReLU */
};

size_t esp_compact_relus(const esp_compact *compact) {
    return compact->n_r;
}

void esp_compact_free(esp_compact *c) {
    if (!c) return;
    free(c->layer);
    free(c);
}

static int *columns_of(const esp_compact *c, int l) {
    return c->column + (size_t)l * (c->n_in + c->n_r);
}

/* What layer l + 1 finds where, after layer l. */
static void locate(esp_compact *c, const esp_ladder *ladder, int l, size_t *made) {
    const esp_mlp *mlp = c->mlp;
    int *next = columns_of(c, l + 1);
    size_t carried = 0;
    c->begin[l] = (int)*made;
    for (int i = 0; i < mlp->width[l + 1]; i++) {
        size_t neuron = mlp->neuron[l] + (size_t)i;
        if (is_relu(ladder, neuron)) {
            c->layer[*made] = l;
            c->row[*made] = i;
            next[c->n_in + (*made)++] = i;
        } else if (ladder->state[neuron] == ESP_ACT_IDENTITY) {
            next[carried++] = i;
        }
    }
    assert(carried == c->n_in + (size_t)c->begin[l]);
}

esp_code esp_compact_create(const esp_mlp *mlp, const esp_ladder *ladder, esp_compact **ret_compact, esp_error *reterr) {
    esp_compact *c = calloc(1, sizeof *c);
    if (!c) return esp_fail(reterr, ESP_NOMEM, "a compact network");
    size_t n_layers = (size_t)mlp->n_layers, made = 0;
    c->mlp = mlp;
    c->n_in = (size_t)mlp->width[0];
    for (int l = 0; l < mlp->n_layers - 1; l++) c->n_r += relus_of(mlp, ladder, l);
    c->layer = calloc(2 * c->n_r + n_layers + n_layers * (c->n_in + c->n_r), sizeof *c->layer);
    if (!c->layer) {
        free(c);
        return esp_fail(reterr, ESP_NOMEM, "a compact network");
    }
    c->row = c->layer + c->n_r;
    c->begin = c->row + c->n_r;
    c->column = c->begin + n_layers;
    for (size_t j = 0; j < c->n_in; j++) c->column[j] = (int)j;
    for (int l = 0; l < mlp->n_layers - 1; l++) locate(c, ladder, l, &made);
    c->begin[mlp->n_layers - 1] = (int)made;
    *ret_compact = c;
    return ESP_OK;
}

/* ---- the parameters as a program ------------------------------------------------------------------------------------- */

static size_t row_at(const esp_compact *c, int l, int i) {
    return c->mlp->weight[l] + (size_t)i * (size_t)c->mlp->width[l];
}

/* ReLU i's first entry of D that can be there: those of its own layer and later are 0. */
static size_t before(const esp_compact *c, size_t i) {
    return (size_t)c->begin[c->layer[i]];
}

void esp_compact_get(const esp_compact *c, const float *params, esp_gap_program *q) {
    const int last = c->mlp->n_layers - 1, *out = columns_of(c, last);
    memset(q->d, 0, c->n_r * c->n_r * sizeof *q->d);
    for (size_t i = 0; i < c->n_r; i++) {
        const float *w = params + row_at(c, c->layer[i], c->row[i]);
        const int *at = columns_of(c, c->layer[i]);
        q->d0[i] = params[c->mlp->bias[c->layer[i]] + (size_t)c->row[i]];
        for (size_t j = 0; j < c->n_in; j++) q->c[i * c->n_in + j] = w[at[j]];
        for (size_t k = 0; k < before(c, i); k++) q->d[i * c->n_r + k] = w[at[c->n_in + k]];
    }
    for (size_t k = 0; k < q->n_y; k++)
        for (size_t i = 0; i < c->n_r; i++) q->b[k * c->n_r + i] = params[row_at(c, last, (int)k) + (size_t)out[c->n_in + i]];
}

void esp_compact_add(const esp_compact *c, const esp_gap_program *grads, float *params_grads) {
    const int last = c->mlp->n_layers - 1, *out = columns_of(c, last);
    for (size_t i = 0; i < c->n_r; i++) {
        float *w = params_grads + row_at(c, c->layer[i], c->row[i]);
        const int *at = columns_of(c, c->layer[i]);
        params_grads[c->mlp->bias[c->layer[i]] + (size_t)c->row[i]] += grads->d0[i];
        for (size_t j = 0; j < c->n_in; j++) w[at[j]] += grads->c[i * c->n_in + j];
        for (size_t k = 0; k < before(c, i); k++) w[at[c->n_in + k]] += grads->d[i * c->n_r + k];
    }
    for (size_t k = 0; k < grads->n_y; k++)
        for (size_t i = 0; i < c->n_r; i++) params_grads[row_at(c, last, (int)k) + (size_t)out[c->n_in + i]] += grads->b[k * c->n_r + i];
}

size_t esp_compact_entries(const esp_compact *c, esp_compact_entry *ret) {
    const int last = c->mlp->n_layers - 1;
    size_t n = 0, n_rows = c->n_r + (size_t)c->mlp->width[last + 1];
    for (size_t i = 0; i < n_rows; i++) {
        bool relu = i < c->n_r;
        int l = relu ? c->layer[i] : last, row = relu ? c->row[i] : (int)(i - c->n_r);
        const int *at = columns_of(c, l);
        for (size_t k = 0; k < c->n_in + (size_t)c->begin[l]; k++, n++)
            if (ret) ret[n] = (esp_compact_entry){row_at(c, l, row) + (size_t)at[k], c->mlp->bias[l] + (size_t)row, k};
    }
    return n;
}

void esp_compact_hold(const esp_compact *c, float *params) {
    for (int l = 0; l < c->mlp->n_layers - 1; l++) {
        const int *from = columns_of(c, l), *to = columns_of(c, l + 1);
        for (size_t j = 0; j < c->n_in + (size_t)c->begin[l]; j++) {
            float *w = params + row_at(c, l, to[j]);
            memset(w, 0, (size_t)c->mlp->width[l] * sizeof *w);
            w[from[j]] = 1;
            params[c->mlp->bias[l] + (size_t)to[j]] = 0;
        }
    }
}

/* ---- rewriting ------------------------------------------------------------------------------------------------------- */

static void write_row(const esp_compact *c, const double *row, int l, int i, float *params) {
    const int *at = columns_of(c, l);
    float *w = params + row_at(c, l, i);
    params[c->mlp->bias[l] + (size_t)i] = (float)row[0];
    for (size_t j = 0; j < c->n_in + (size_t)c->begin[l]; j++) w[at[j]] = (float)row[1 + j];
}

esp_code esp_compact_rewrite(const esp_mlp *mlp, float *params, esp_ladder *ladder, esp_error *reterr) {
    rows r;
    esp_compact *c = NULL;
    size_t n_out = (size_t)mlp->width[mlp->n_layers];
    assert(esp_compact_fits(mlp, ladder));
    esp_code code = rows_init(mlp, ladder, &r, reterr);
    if (code == ESP_OK) {
        substitute_all(&r, mlp, ladder, params);
        balance(&r, n_out);
        choose_carriers(mlp, ladder);
        code = esp_compact_create(mlp, ladder, &c, reterr);
    }
    if (code == ESP_OK) {
        memset(params, 0, mlp->n_params * sizeof *params);
        for (size_t i = 0; i < c->n_r; i++) write_row(c, r.relus + i * r.width, c->layer[i], c->row[i], params);
        for (size_t k = 0; k < n_out; k++) write_row(c, r.now + k * r.width, mlp->n_layers - 1, (int)k, params);
        esp_compact_hold(c, params);
        esp_ladder_relu(ladder);
    }
    esp_compact_free(c);
    rows_done(&r);
    return code;
}
