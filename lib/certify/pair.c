/* SPDX-License-Identifier: Apache-2.0
 * Two models side by side in affine forms. Not the search for a tight bound: the callers split boxes.
 *
 * Layers of the same sizes are taken together; networks of other shapes go one by one, and d is f - g at the end.
 *
 * The difference D = max(0, p) - max(0, q) of two ReLUs with p - q = d in [l, u]:
 *
 *     off, off    0                       on, on   d
 *     p on        d + q - max(0, q)       q on     d + max(0, p) - p
 *     always      max(0, p) - max(0, q) of the two relaxed forms;   min(0, d) <= D <= max(0, d)
 *
 * Each that applies is a form; the narrowest is kept. The last is  s d + [lo, hi]  with s = u / (u - l), 1/2 when d has one
 * sign, and lo, hi the extremes of min(0, d) - s d and max(0, d) - s d, which are linear but for breaks at l, 0 and u. */
#include "certify/pair.h"

#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"

enum { SCRATCH = 3 };

struct esp_pair {
    const esp_model *f, *g; /* borrowed */
    esp_maps f_maps, g_maps;
    bool paired; /* the layers have the same sizes */
    esp_triple now, next; /* as wide as the widest layer */
    esp_forms *scratch;
    double *blame; /* borrowed, or NULL */
    int n_blame;
};

/* ---- triples ------------------------------------------------------------------------------------------------------ */

esp_code esp_triple_create(esp_space *space, int n_rows, esp_triple *ret_triple, esp_error *reterr) {
    esp_triple made = {0};
    esp_code code = esp_forms_create(space, n_rows, &made.f, reterr);
    if (!code) code = esp_forms_create(space, n_rows, &made.g, reterr);
    if (!code) code = esp_forms_create(space, n_rows, &made.d, reterr);
    if (code)
        esp_triple_done(&made);
    else
        *ret_triple = made;
    return code;
}

void esp_triple_done(esp_triple *triple) {
    esp_forms_free(triple->f);
    esp_forms_free(triple->g);
    esp_forms_free(triple->d);
    *triple = (esp_triple){0};
}

static void zero_row(esp_forms *forms, int i) {
    esp_sum sum = esp_sum_begin(forms, i, 0);
    esp_sum_end(&sum);
}

void esp_triple_box(esp_triple *triple, int i, double lower, double upper) {
    esp_forms_box(triple->g, i, lower, upper);
    esp_forms_copy(triple->g, i, triple->f, i);
    zero_row(triple->d, i);
}

void esp_triple_copy(const esp_triple *from, int j, esp_triple *to, int i) {
    esp_forms_copy(from->f, j, to->f, i);
    esp_forms_copy(from->g, j, to->g, i);
    esp_forms_copy(from->d, j, to->d, i);
}

static esp_span span_of(const esp_forms *forms, int i) {
    esp_span span;
    esp_forms_range(forms, i, &span.lower, &span.upper);
    return span;
}

/* Ends of a + sign b, outward. */
static esp_span span_add(esp_span a, double sign, esp_span b) {
    double lower = a.lower + (sign > 0 ? b.lower : -b.upper), upper = a.upper + (sign > 0 ? b.upper : -b.lower);
    lower -= 2 * ESP_U * fabs(lower);
    upper += 2 * ESP_U * fabs(upper);
    return lower <= upper ? (esp_span){lower, upper} : (esp_span){-HUGE_VAL, HUGE_VAL};
}

static esp_span span_meet(esp_span a, esp_span b) {
    return (esp_span){esp_max(a.lower, b.lower), esp_min(a.upper, b.upper)};
}

esp_spans esp_triple_spans(const esp_triple *triple, int i) {
    esp_span f = span_of(triple->f, i), g = span_of(triple->g, i), d = span_of(triple->d, i);
    return (esp_spans){span_meet(f, span_add(g, 1, d)), span_meet(g, span_add(f, -1, d)), span_meet(d, span_add(f, -1, g))};
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

/* m (rows x ., stride ld, zero so far) gets `from` (rows x n) at column `at`. */
static void put(double *m, size_t ld, size_t at, size_t rows, size_t n, const double *from) {
    for (size_t i = 0; i < rows && n; i++) memcpy(m + i * ld + at, from + i * n, n * sizeof *m);
}

esp_code esp_maps_init(const esp_model *model, esp_maps *ret_maps, esp_error *reterr) {
    size_t n_x = (size_t)esp_model_n_x(model), n_v = (size_t)esp_net_inputs(model->net), n_f = (size_t)esp_net_outputs(model->net);
    size_t n_y = (size_t)esp_model_n_y(model), n_yh = (size_t)model->history * (size_t)model->ny, n_uh = n_x - n_yh;
    double *numbers = calloc(n_v * n_x + n_y * n_x + n_y * n_f, sizeof *numbers);
    if (!numbers) return esp_fail(reterr, ESP_NOMEM, "no memory for the frame of a model");
    esp_maps maps = {(int)n_x, (int)n_v, (int)n_f, (int)n_y, numbers, numbers + n_v * n_x, numbers + n_v * n_x + n_y * n_x};
    const esp_frame *frame = &model->frame;
    if (model->kind == ESP_MODEL_DYNAMICS && frame->kind == ESP_FRAME_LINEAR) {
        put(maps.v, n_x, 0, n_v, n_yh, frame->c);
        put(maps.v, n_x, n_yh, n_v, n_uh, frame->d);
        put(maps.k, n_x, 0, n_y, n_yh, frame->a);
        put(maps.k, n_x, n_yh, n_y, n_uh, frame->b);
        put(maps.g, n_f, 0, n_y, n_f, frame->g);
    } else {
        for (size_t i = 0; i < n_v; i++) maps.v[i * n_x + i] = 1;
        for (size_t i = 0; i < n_y; i++) maps.g[i * n_f + i] = 1;
        bool residual = model->kind == ESP_MODEL_DYNAMICS && frame->kind == ESP_FRAME_RESIDUAL;
        for (size_t i = 0; residual && i < n_y; i++) maps.k[i * n_x + n_yh - n_y + i] = 1;
    }
    *ret_maps = maps;
    return ESP_OK;
}

void esp_maps_done(esp_maps *maps) {
    free(maps->v);
    *maps = (esp_maps){0};
}

static bool same_shape(const esp_net *f, const esp_net *g) {
    bool same = f->n_layers == g->n_layers;
    for (int l = 0; same && l < f->n_layers; l++) same = f->layers[l].n_in == g->layers[l].n_in && f->layers[l].n_out == g->layers[l].n_out;
    return same;
}

static int widest(const esp_model *f, const esp_model *g) {
    const int sizes[] = {esp_net_widest(f->net), esp_net_inputs(f->net), esp_net_widest(g->net), esp_net_inputs(g->net)};
    int most = 0;
    for (int k = 0; k < 4; k++) most = sizes[k] > most ? sizes[k] : most;
    return most;
}

int esp_pair_rows(const esp_model *f, const esp_model *g) {
    return 6 * widest(f, g) + SCRATCH;
}

esp_code esp_pair_create(esp_space *space, const esp_model *f, const esp_model *g, double *blame, int n_blame, esp_pair **ret_pair,
                         esp_error *reterr) {
    if (f->kind != g->kind || f->ny != g->ny || f->nu != g->nu || f->history != g->history)
        return esp_fail(reterr, ESP_INVALID, "two models of other inputs or outputs cannot be compared");
    esp_pair *pair = calloc(1, sizeof *pair);
    if (!pair) return esp_fail(reterr, ESP_NOMEM, "no memory to compare two models");
    *pair = (esp_pair){.f = f, .g = g, .paired = same_shape(f->net, g->net), .blame = blame, .n_blame = n_blame};
    esp_code code = esp_maps_init(f, &pair->f_maps, reterr);
    if (!code) code = esp_maps_init(g, &pair->g_maps, reterr);
    if (!code) code = esp_triple_create(space, widest(f, g), &pair->now, reterr);
    if (!code) code = esp_triple_create(space, widest(f, g), &pair->next, reterr);
    if (!code) code = esp_forms_create(space, SCRATCH, &pair->scratch, reterr);
    if (code)
        esp_pair_free(pair);
    else
        *ret_pair = pair;
    return code;
}

void esp_pair_free(esp_pair *pair) {
    if (!pair) return;
    esp_maps_done(&pair->f_maps);
    esp_maps_done(&pair->g_maps);
    esp_triple_done(&pair->now);
    esp_triple_done(&pair->next);
    esp_forms_free(pair->scratch);
    free(pair);
}

/* ---- linear maps -------------------------------------------------------------------------------------------------- */

/* One row of a linear map: n weights over the rows first.. of a block. */
typedef struct strip {
    int n, first;
    const double *f, *g; /* the weights of each model */
    const esp_triple *in;
} strip;

static void add_strip(esp_sum *sum, const strip *s, const double *w, const esp_forms *from) {
    for (int j = 0; j < s->n; j++) esp_sum_add(sum, w[j], from, s->first + j);
}

static void single_row(const strip *strips, int n, bool of_f, double b, esp_forms *to, int i) {
    esp_sum sum = esp_sum_begin(to, i, b);
    for (int k = 0; k < n; k++) add_strip(&sum, &strips[k], of_f ? strips[k].f : strips[k].g, of_f ? strips[k].in->f : strips[k].in->g);
    esp_sum_end(&sum);
}

/* d = (b_f - b_g) + sum w_f d + (w_f - w_g) x_g. */
static void difference_row(const strip *strips, int n, double b_f, double b_g, esp_forms *to, int i) {
    esp_sum sum = esp_sum_begin(to, i, b_f - b_g);
    for (int k = 0; k < n; k++) {
        const strip *s = &strips[k];
        add_strip(&sum, s, s->f, s->in->d);
        for (int j = 0; j < s->n; j++) esp_sum_add(&sum, s->f[j] - s->g[j], s->in->g, s->first + j);
    }
    esp_sum_end(&sum);
}

static void triple_row(const strip *strips, int n, double b_f, double b_g, esp_triple *to, int i) {
    single_row(strips, n, true, b_f, to->f, i);
    single_row(strips, n, false, b_g, to->g, i);
    difference_row(strips, n, b_f, b_g, to->d, i);
}

/* ---- neurons ------------------------------------------------------------------------------------------------------ */

/* The first symbols answer for a relaxation of this radius in proportion to their share of the row. */
static void lay_blame(const esp_pair *pair, const esp_forms *z, int i, double radius) {
    if (!pair->blame || !(radius > 0) || !(radius <= DBL_MAX) || !(z->rad[i] > 0)) return;
    const double *a = z->a + (size_t)i * (size_t)z->space->most;
    int n = pair->n_blame < z->used[i] ? pair->n_blame : z->used[i];
    for (int k = 0; k < n; k++) pair->blame[k] += radius * fabs(a[k]) / z->rad[i];
}

static void activate(const esp_pair *pair, uint8_t act, const esp_forms *z, int j, esp_span span, esp_forms *to, int i) {
    if (act == ESP_ACT_ZERO) zero_row(to, i);
    if (act == ESP_ACT_IDENTITY) esp_forms_copy(z, j, to, i);
    if (act == ESP_ACT_RELU) lay_blame(pair, z, j, esp_forms_relu(z, j, span.lower, span.upper, to, i));
}

/* s d + [lower, upper] around the difference of two ReLUs, d in [l, u]. */
typedef struct wedge {
    double slope, lower, upper;
} wedge;

static wedge wedge_of(double l, double u) {
    bool inside = l < 0 && u > 0;
    double s = inside ? u / (u - l) : 0.5;
    double upper = esp_max(esp_max(l, 0) - s * l, esp_max(u, 0) - s * u), lower = esp_min(esp_min(l, 0) - s * l, esp_min(u, 0) - s * u);
    double slack = 4 * ESP_U * (fabs(l) + fabs(u));
    if (slack > 0) slack += 4 * ESP_TINY;
    if (inside) upper = esp_max(upper, 0), lower = esp_min(lower, 0);
    return (wedge){s, lower - slack, upper + slack};
}

/* row = sum of weight_k * row_k. */
static void combine(esp_forms *to, int i, int n, const double *weights, const esp_forms *const *from, const int *rows) {
    esp_sum sum = esp_sum_begin(to, i, 0);
    for (int k = 0; k < n; k++) esp_sum_add(&sum, weights[k], from[k], rows[k]);
    esp_sum_end(&sum);
}

static void wedge_row(esp_forms *to, int i, const esp_forms *d, int j, wedge w) {
    double mid = 0.5 * w.lower + 0.5 * w.upper, most = esp_max(w.upper - mid, mid - w.lower), radius = most > 0 ? esp_round_up(most, 2) : 0;
    esp_sum sum = esp_sum_begin(to, i, mid);
    esp_sum_add(&sum, w.slope, d, j);
    esp_sum_noise(&sum, radius);
    esp_sum_end(&sum);
}

/* The difference of two ReLUs whose forms stand in row i of `out` already: the narrowest that holds. */
static void relu_difference(esp_pair *pair, const esp_triple *z, int i, esp_spans span, esp_triple *out) {
    static const double signs[] = {1, -1, 1}, apart[] = {1, 1, -1};
    esp_forms *scratch = pair->scratch;
    int n = 1, best = 0;
    combine(scratch, 0, 2, signs, (const esp_forms *const[]){out->f, out->g}, (const int[]){i, i});
    if (span.f.lower >= 0) combine(scratch, n++, 3, apart, (const esp_forms *const[]){z->d, z->g, out->g}, (const int[]){i, i, i});
    if (span.g.lower >= 0) combine(scratch, n++, 3, apart, (const esp_forms *const[]){z->d, out->f, z->f}, (const int[]){i, i, i});
    for (int k = 1; k < n; k++)
        if (scratch->rad[k] < scratch->rad[best]) best = k;
    wedge w = wedge_of(span.d.lower, span.d.upper);
    double radius = w.slope * z->d->rad[i] + 0.5 * (w.upper - w.lower);
    if (span.d.upper - span.d.lower <= DBL_MAX && radius < scratch->rad[best]) {
        wedge_row(out->d, i, z->d, i, w);
        lay_blame(pair, z->d, i, 0.5 * (w.upper - w.lower));
    } else {
        esp_forms_copy(scratch, best, out->d, i);
    }
}

static void neuron(esp_pair *pair, uint8_t act_f, uint8_t act_g, const esp_triple *z, int i, esp_triple *out) {
    esp_spans span = esp_triple_spans(z, i);
    activate(pair, act_f, z->f, i, span.f, out->f, i);
    activate(pair, act_g, z->g, i, span.g, out->g, i);
    bool same = act_f == act_g, relu = same && act_f == ESP_ACT_RELU;
    bool on = span.f.lower >= 0 && span.g.lower >= 0, off = span.f.upper <= 0 && span.g.upper <= 0;
    if ((same && act_f == ESP_ACT_ZERO) || (relu && off))
        zero_row(out->d, i);
    else if ((same && act_f == ESP_ACT_IDENTITY) || (relu && on))
        esp_forms_copy(z->d, i, out->d, i);
    else if (relu)
        relu_difference(pair, z, i, span, out);
    else
        combine(out->d, i, 2, (const double[]){1, -1}, (const esp_forms *const[]){out->f, out->g}, (const int[]){i, i});
}

/* ---- a run -------------------------------------------------------------------------------------------------------- */

static void layers_paired(esp_pair *pair) {
    for (int l = 0; l < pair->f->net->n_layers; l++) {
        const esp_layer *f = &pair->f->net->layers[l], *g = &pair->g->net->layers[l];
        size_t n_in = (size_t)f->n_in;
        for (int i = 0; i < f->n_out; i++) {
            strip s = {f->n_in, 0, f->w + (size_t)i * n_in, g->w + (size_t)i * n_in, &pair->now};
            triple_row(&s, 1, f->b[i], g->b[i], &pair->next, i);
        }
        for (int i = 0; i < f->n_out; i++) neuron(pair, f->act[i], g->act[i], &pair->next, i, &pair->now);
    }
}

static void layers_single(esp_pair *pair, const esp_net *net, bool of_f) {
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        esp_forms *z = of_f ? pair->next.f : pair->next.g, *h = of_f ? pair->now.f : pair->now.g;
        for (int i = 0; i < layer->n_out; i++) {
            const double *w = layer->w + (size_t)i * (size_t)layer->n_in;
            strip s = {layer->n_in, 0, w, w, &pair->now};
            single_row(&s, 1, of_f, layer->b[i], z, i);
        }
        for (int i = 0; i < layer->n_out; i++) activate(pair, layer->act[i], z, i, span_of(z, i), h, i);
    }
}

static void inputs(esp_pair *pair, const esp_triple *in, int first) {
    const esp_maps *f = &pair->f_maps, *g = &pair->g_maps;
    size_t n_x = (size_t)f->n_x;
    for (int i = 0; i < f->n_v || i < g->n_v; i++) {
        strip s = {f->n_x, first, f->v + (size_t)(i < f->n_v ? i : 0) * n_x, g->v + (size_t)(i < g->n_v ? i : 0) * n_x, in};
        triple_row(&s, 1, 0, 0, &pair->now, i);
    }
}

void esp_pair_run(esp_pair *pair, const esp_triple *in, int first, esp_triple *out) {
    const esp_maps *f = &pair->f_maps, *g = &pair->g_maps;
    bool alike = pair->paired && f->n_v == g->n_v && f->n_f == g->n_f;
    inputs(pair, in, first);
    if (alike) layers_paired(pair);
    if (!alike) layers_single(pair, pair->f->net, true);
    if (!alike) layers_single(pair, pair->g->net, false);
    for (int i = 0; i < f->n_y; i++) {
        const double *gain_f = f->g + (size_t)i * (size_t)f->n_f, *gain_g = g->g + (size_t)i * (size_t)g->n_f;
        strip known = {f->n_x, first, f->k + (size_t)i * (size_t)f->n_x, g->k + (size_t)i * (size_t)f->n_x, in};
        strip of_f[] = {known, {f->n_f, 0, gain_f, gain_f, &pair->now}}, of_g[] = {known, {g->n_f, 0, gain_g, gain_g, &pair->now}};
        strip of_d[] = {known, {f->n_f, 0, gain_f, gain_g, &pair->now}};
        single_row(of_f, 2, true, 0, out->f, i);
        single_row(of_g, 2, false, 0, out->g, i);
        combine(pair->scratch, 0, 2, (const double[]){1, -1}, (const esp_forms *const[]){out->f, out->g}, (const int[]){i, i});
        if (alike) difference_row(of_d, 2, 0, 0, out->d, i);
        if (!alike || pair->scratch->rad[0] < out->d->rad[i]) esp_forms_copy(pair->scratch, 0, out->d, i);
    }
}
