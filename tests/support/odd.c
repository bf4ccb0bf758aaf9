/* SPDX-License-Identifier: Apache-2.0
 * Drawing odd problems. */
#include "support/odd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/models.h"

typedef struct draft {
    esp_rng rng;
    esp_model *model;
    int ny, nu, history, horizon;
    odd *o;
    double reached[ODD_ROWS], around[ODD_ROWS]; /* y after the first step of the start; what limits are drawn around */
    double lower[2], upper[2]; /* the input box */
    esp_buf text;
} draft;

static int between(draft *d, int least, int most) {
    return least + (int)esp_rng_below(&d->rng, (uint64_t)(most - least + 1));
}

static bool chance(draft *d, double p) {
    return esp_rng_uniform(&d->rng) < p;
}

/* ---- model ------------------------------------------------------------------------------------------------------- */

static void scale_row(esp_layer *layer, int i, double scale) {
    for (int j = 0; j < layer->n_in; j++) layer->w[i * layer->n_in + j] *= scale;
    layer->b[i] *= scale;
}

static void copy_row(esp_layer *layer, int to, int from, double scale) {
    for (int j = 0; j < layer->n_in; j++) layer->w[to * layer->n_in + j] = scale * layer->w[from * layer->n_in + j];
    layer->b[to] = scale * layer->b[from];
    layer->act[to] = layer->act[from];
}

static void bend(draft *d, esp_layer *layer, int i) {
    switch (between(d, 0, 19)) {
    case 0: layer->b[i] = -50; break; /* dead */
    case 1: layer->b[i] = 50; break; /* stuck */
    case 2: layer->b[i] = 0; break;
    case 3: scale_row(layer, i, 1e-6); break;
    case 4: scale_row(layer, i, 1e-12); break;
    case 5: scale_row(layer, i, 300); break;
    case 6: copy_row(layer, i, 0, 1); break; /* twins */
    case 7: copy_row(layer, i, 0, -1); break;
    case 8: scale_row(layer, i, 0); break;
    default: break;
    }
}

/* One ReLU of the first layer on its kink where the start's first step is. */
static void put_on_kink(draft *d, const double *x) {
    double p[256], y[ODD_ROWS];
    int n = 0;
    esp_layer *layer = &d->model->net->layers[0];
    if (esp_net_relus(d->model->net) > 256) return;
    oracle_step(d->model, x, y, p);
    for (int i = 0; i < layer->n_out; i++)
        if (layer->act[i] == ESP_ACT_RELU) layer->b[i] -= n++ == 0 ? p[0] : 0;
}

static void first_window(const draft *d, double *x) {
    int h = d->history, past = (h - 1) * d->nu;
    memcpy(x, d->o->y, (size_t)(h * d->ny) * sizeof *x);
    if (past > 0) memcpy(x + h * d->ny, d->o->u + (d->o->request.n_u - (h - 1)) * d->nu, (size_t)past * sizeof *x);
    memcpy(x + h * d->ny + past, d->o->start, (size_t)d->nu * sizeof *x);
}

/* The start's outputs stay where rounding is no matter; without this, some of the models with huge weights reach 1e16. */
static bool calm(const draft *d) {
    int h = d->history, ny = d->ny, nu = d->nu;
    double x[4 * ODD_ROWS], y[ODD_ROWS];
    first_window(d, x);
    for (int t = 0; t < d->horizon; t++) {
        memcpy(x + h * ny + (h - 1) * nu, d->o->start + t * nu, (size_t)nu * sizeof *x);
        oracle_step(d->model, x, y, NULL);
        memmove(x, x + ny, (size_t)((h - 1) * ny) * sizeof *x);
        memcpy(x + (h - 1) * ny, y, (size_t)ny * sizeof *x);
        memmove(x + h * ny, x + h * ny + nu, (size_t)((h - 1) * nu) * sizeof *x);
        for (int i = 0; i < ny; i++)
            if (!(fabs(y[i]) < 1e4)) return false;
    }
    return true;
}

static void draw_net(draft *d, int relus) {
    do {
        esp_model_free(d->model);
        d->model = random_dynamics(&d->rng, d->ny, d->nu, d->history);
    } while (esp_net_relus(d->model->net) * d->horizon > relus || (esp_net_relus(d->model->net) == 0 && chance(d, 0.9)));
    esp_net *net = d->model->net;
    for (int l = 0; l + 1 < net->n_layers; l++)
        for (int i = 0; i < net->layers[l].n_out; i++) bend(d, &net->layers[l], i);
    while (esp_net_relus(net) * d->horizon > relus) { /* twins of ReLUs */
        esp_layer *layer = &net->layers[between(d, 0, net->n_layers - 1)];
        layer->act[between(d, 0, layer->n_out - 1)] = ESP_ACT_IDENTITY;
    }
}

static void draw_model(draft *d, int relus) {
    double x[4 * ODD_ROWS];
    first_window(d, x);
    do {
        draw_net(d, relus);
        if (chance(d, 0.3)) put_on_kink(d, x);
    } while (!calm(d));
    oracle_step(d->model, x, d->reached, NULL);
}

/* ---- task -------------------------------------------------------------------------------------------------------- */

static void put(draft *d, const char *text) {
    esp_buf_puts(&d->text, text);
}

static void put_numbers(draft *d, const double *values, int n) {
    put(d, "[");
    for (int i = 0; i < n; i++) esp_buf_printf(&d->text, isfinite(values[i]) ? "%s%.17g" : "%snull", i ? "," : "", values[i]);
    put(d, "]");
}

static void put_term(draft *d) {
    static const char *const ons[] = {"y", "y", "y", "u", "du"}, *const norms[] = {"l1", "l1", "linf", "l2sq"};
    int on = between(d, 0, 4), n = on < 3 ? d->ny : d->nu, kind = between(d, 0, 9);
    double weight[ODD_ROWS], target[ODD_ROWS];
    for (int i = 0; i < n; i++) {
        weight[i] = chance(d, 0.15) ? 0 : chance(d, 0.1) ? 1e-4 : chance(d, 0.1) ? 100 : esp_rng_range(&d->rng, 0.1, 2);
        target[i] = esp_rng_range(&d->rng, -1, 1);
        if (kind < 3 && on < 3) target[i] = d->reached[i];
        if (kind == 3) target[i] = 0;
        if (kind == 4) target[i] *= 50;
        if (kind < 3 && on == 3) target[i] = d->o->start[i];
        if (kind < 3 && on == 4) target[i] = 0;
    }
    esp_buf_printf(&d->text, "{'on':'%s','norm':'%s','weight':", ons[on], norms[between(d, 0, 3)]);
    put_numbers(d, weight, n);
    put(d, ",'target':");
    if (kind == 5 && on < 3) {
        memcpy(d->o->goal, target, sizeof target);
        put(d, "'goal'");
    } else {
        put_numbers(d, target, n);
    }
    put(d, "}");
}

static void put_cost(draft *d) {
    put(d, "'cost':{'stage':[");
    for (int n = between(d, 1, 3), k = 0; k < n; k++) {
        if (k) put(d, ",");
        put_term(d);
    }
    put(d, "],'terminal':[");
    if (chance(d, 0.4)) put_term(d);
    put(d, "]}");
}

static void draw_box(draft *d) {
    for (int i = 0; i < d->nu; i++) {
        d->lower[i] = chance(d, 0.1) ? 0 : chance(d, 0.05) ? -30 : -1;
        d->upper[i] = chance(d, 0.1) ? d->lower[i] : chance(d, 0.05) ? d->lower[i] + 1e-7 : 1;
    }
}

static void put_input(draft *d) {
    double rate[2];
    put(d, ",'input':{'lower':");
    put_numbers(d, d->lower, d->nu);
    put(d, ",'upper':");
    put_numbers(d, d->upper, d->nu);
    for (int i = 0; i < d->nu; i++) rate[i] = chance(d, 0.1) ? 0 : chance(d, 0.1) ? 1e-3 : esp_rng_range(&d->rng, 0.1, 1.5);
    if (chance(d, 0.3)) {
        put(d, ",'rate':");
        put_numbers(d, rate, d->nu);
    }
    put(d, "}");
}

/* Near what the start reaches, so that the limits bite; the present may be outside. */
static void put_box(draft *d) {
    double lower[ODD_ROWS], upper[ODD_ROWS];
    for (int i = 0; i < d->ny; i++) {
        double around = d->around[i];
        lower[i] = chance(d, 0.4) ? -(double)INFINITY : around - esp_rng_range(&d->rng, 0, 1);
        upper[i] = chance(d, 0.4) ? (double)INFINITY : fmax(around, lower[i]) + (chance(d, 0.1) ? 1e-3 : esp_rng_range(&d->rng, 0, 1));
    }
    put(d, "'lower':");
    put_numbers(d, lower, d->ny);
    put(d, ",'upper':");
    put_numbers(d, upper, d->ny);
}

static void put_state(draft *d) {
    for (int i = 0; i < d->ny; i++) d->around[i] = chance(d, 0.8) ? d->reached[i] : esp_rng_normal(&d->rng);
    put(d, ",'state':{");
    bool box = chance(d, 0.7);
    if (box) put_box(d);
    if (!box || chance(d, 0.4)) {
        double a[ODD_ROWS], b = esp_rng_range(&d->rng, -0.3, 0.6);
        for (int i = 0; i < d->ny; i++) {
            a[i] = esp_rng_range(&d->rng, -2, 2);
            b += a[i] * d->reached[i];
        }
        esp_buf_printf(&d->text, "%s'halfspaces':[{'a':", box ? "," : "");
        put_numbers(d, a, d->ny);
        esp_buf_printf(&d->text, ",'b':%.17g}]", b);
    }
    if (chance(d, 0.3)) esp_buf_printf(&d->text, ",'penalty':%.3f", esp_rng_range(&d->rng, 0.2, 20));
    put(d, "}");
    if (!chance(d, 0.2)) return;
    put(d, ",'trust_region':{'kind':'box',");
    put_box(d);
    put(d, "}");
}

static void put_task(draft *d, const char *engine) {
    esp_buf_printf(&d->text, "{'horizon':%d,", d->horizon);
    put_cost(d);
    put_input(d);
    if (chance(d, 0.55)) put_state(d);
    double gap = chance(d, 0.1) ? 0.01 : 1e-4, absolute = chance(d, 0.15) ? 0 : chance(d, 0.15) ? 1e-2 : 1e-5;
    esp_buf_printf(&d->text, ",'planner':{'engine':'%s','gap':%g,'absolute_gap':%g,'seed':%d}}", engine, gap, absolute, between(d, 0, 1000));
}

void odd_draw(odd *o, uint64_t seed, int relus, const char *engine) {
    *o = (odd){0};
    draft d = {.o = o};
    esp_rng_init(&d.rng, seed, 41);
    d.ny = between(&d, 1, 3);
    d.nu = between(&d, 1, 2);
    d.history = chance(&d, 0.3) ? 2 : 1;
    d.horizon = between(&d, 1, 4);
    draw_box(&d);
    for (int i = 0; i < d.history * d.ny; i++) o->y[i] = chance(&d, 0.1) ? 0 : esp_rng_normal(&d.rng);
    for (int i = 0; i < ODD_ROWS; i++) o->u[i] = esp_rng_range(&d.rng, d.lower[i % d.nu], d.upper[i % d.nu]);
    for (int i = 0; i < d.horizon * d.nu; i++) {
        double low = d.lower[i % d.nu], high = d.upper[i % d.nu];
        o->start[i] = i >= d.nu && chance(&d, 0.5) ? o->start[i - d.nu] : chance(&d, 0.3) ? low : esp_rng_range(&d.rng, low, high);
    }
    o->request = (esp_plan_request){.y = o->y, .u = o->u, .n_u = d.history - 1 + between(&d, 0, 1), .goal = o->goal};
    draw_model(&d, relus);
    if (chance(&d, 0.5)) o->request.start = o->start;
    put_task(&d, engine);
    size_t len;
    o->text = esp_buf_take(&d.text, &len);
    o->c = case_of(d.model, o->text);
}

void odd_done(odd *o) {
    case_done(&o->c);
    free(o->text);
}
