/* SPDX-License-Identifier: Apache-2.0
 * Enumeration of phases: the model run on linear forms of the inputs, a fork at every ReLU that can go both ways.
 *
 * A pattern is a list of choices, one a fork. The model is run from the start for each, and the last choice that was "on"
 * becomes "off" for the next, so that the patterns come in the order of a walk through the tree of forks. Squares are
 * replaced by tangents, and tangents added where the program's point lies until the two agree (Kelley). */
#include "support/phases.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/lp.h"
#include "support/clp.h"
#include "support/planning.h"

enum { WIDEST = 64, FORKS = 96, STEPS = 8, OUTPUTS = 8, ROUNDS = 60, SQUARES = 64 };

/* c'u + k over the plan's inputs u. */
typedef struct form {
    long double c[PHASES_INPUTS], k;
} form;

typedef struct walk {
    const esp_model *model;
    const esp_task *task;
    const esp_plan_request *request;
    double margin;
    int n_u, n_choices, n_forks; /* choices are those of the present pattern, forks those met so far */
    bool on[FORKS];
    form fork[FORKS]; /* the pre-activation: >= 0 where it is on */
    form y[STEPS][OUTPUTS];
} walk;

static form constant(double k) {
    form f = {.k = k};
    return f;
}

static form input(int k) {
    form f = {.k = 0};
    f.c[k] = 1;
    return f;
}

static void add(form *to, long double scale, const form *from) {
    for (int k = 0; k < PHASES_INPUTS; k++) to->c[k] += scale * from->c[k];
    to->k += scale * from->k;
}

static void range_of(const walk *w, const form *f, double *ret_least, double *ret_most) {
    long double least = f->k, most = f->k;
    for (int k = 0; k < w->n_u; k++) {
        long double a = f->c[k] * w->task->u_lower[k % w->task->nu], b = f->c[k] * w->task->u_upper[k % w->task->nu];
        least += a < b ? a : b;
        most += a < b ? b : a;
    }
    *ret_least = (double)least;
    *ret_most = (double)most;
}

/* ---- the model on forms ------------------------------------------------------------------------------------------ */

static void relu(walk *w, form *p) {
    double least, most;
    range_of(w, p, &least, &most);
    if (least >= 0) return;
    if (most > 0) {
        ck_assert_int_lt(w->n_forks, FORKS);
        int k = w->n_forks++;
        if (k == w->n_choices) w->on[w->n_choices++] = true;
        w->fork[k] = *p;
        if (w->on[k]) return;
    }
    *p = constant(0);
}

static void multiply(const double *matrix, int rows, int cols, const form *v, form *ret) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) add(&ret[i], matrix[i * cols + j], &v[j]);
}

static void run_net(walk *w, form *v) {
    const esp_net *net = w->model->net;
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        form out[WIDEST];
        ck_assert_int_le(layer->n_out, WIDEST);
        for (int i = 0; i < layer->n_out; i++) out[i] = constant(layer->b[i]);
        multiply(layer->w, layer->n_out, layer->n_in, v, out);
        for (int i = 0; i < layer->n_out; i++) {
            if (layer->act[i] == ESP_ACT_ZERO) out[i] = constant(0);
            if (layer->act[i] == ESP_ACT_RELU) relu(w, &out[i]);
        }
        memcpy(v, out, (size_t)layer->n_out * sizeof *v);
    }
}

static void window(const walk *w, int t, form *x) {
    const esp_model *m = w->model;
    for (int s = 0; s < m->history; s++) {
        int at = t - m->history + 1 + s; /* y(at), y(0) the present */
        for (int i = 0; i < m->ny; i++) *x++ = at > 0 ? w->y[at - 1][i] : constant(w->request->y[(m->history - 1 + at) * m->ny + i]);
    }
    for (int s = 0; s < m->history; s++) {
        int at = t - m->history + 1 + s;
        for (int i = 0; i < m->nu; i++) *x++ = at >= 0 ? input(at * m->nu + i) : constant(w->request->u[(w->request->n_u + at) * m->nu + i]);
    }
}

static void run_step(walk *w, int t) {
    const esp_model *m = w->model;
    const esp_frame *frame = &m->frame;
    int n_yh = m->history * m->ny, n_uh = m->history * m->nu;
    form x[WIDEST], v[WIDEST] = {0}, *out = w->y[t];
    ck_assert_int_le(n_yh + n_uh, WIDEST);
    window(w, t, x);
    memset(out, 0, (size_t)m->ny * sizeof *out);
    if (frame->kind == ESP_FRAME_LINEAR) {
        int f_in = m->net->layers[0].n_in;
        multiply(frame->a, m->ny, n_yh, x, out);
        multiply(frame->b, m->ny, n_uh, x + n_yh, out);
        multiply(frame->c, f_in, n_yh, x, v);
        multiply(frame->d, f_in, n_uh, x + n_yh, v);
        run_net(w, v);
        multiply(frame->g, m->ny, m->net->layers[m->net->n_layers - 1].n_out, v, out);
        return;
    }
    memcpy(v, x, (size_t)(n_yh + n_uh) * sizeof *v);
    run_net(w, v);
    for (int i = 0; i < m->ny; i++) {
        out[i] = v[i];
        if (frame->kind == ESP_FRAME_RESIDUAL) add(&out[i], 1, &x[n_yh - m->ny + i]);
    }
}

/* ---- one pattern's linear program -------------------------------------------------------------------------------- */

typedef struct square {
    form d;
    int col, n;
    double weight, point[ROUNDS + 3];
} square;

typedef struct pattern {
    const walk *w;
    esp_lp lp;
    int n_squares;
    square squares[SQUARES];
    bool empty; /* a constant lies outside its limits */
} pattern;

/* lower <= f - x[col] <= upper, scaled; col -1: f alone. */
static void put_row(pattern *p, const form *f, double lower, double upper, int col) {
    long double most = 0;
    for (int k = 0; k < p->w->n_u; k++) most = fmaxl(most, fabsl(f->c[k]));
    if (most == 0 && col < 0) {
        long double slack = 1e-12L * (1 + fabsl(f->k));
        p->empty = p->empty || f->k < lower - slack || f->k > upper + slack;
        return;
    }
    double scale = (double)(1 / (col >= 0 ? fmaxl(most, 1) : most));
    (void)esp_lp_add_row(&p->lp, (double)(scale * (lower - f->k)), (double)(scale * (upper - f->k)));
    for (int k = 0; k < p->w->n_u; k++) esp_lp_put(&p->lp, k, (double)(scale * f->c[k]));
    if (col >= 0) esp_lp_put(&p->lp, col, -scale);
}

static double size_of(double limit) {
    return fmax(1, fabs(limit));
}

static form minus(form f, double k) {
    f.k -= k;
    return f;
}

static form times(form f, double scale) {
    form g = {.k = 0};
    add(&g, scale, &f);
    return g;
}

/* f <= 0 where the present is at `then`: held, or charged for in units of `unit`. */
static void put_limit(pattern *p, form f, double then, double size, double unit, double penalty) {
    if (then <= 1e-6 * size) {
        put_row(p, &f, -INFINITY, -p->w->margin * size, -1);
        return;
    }
    double least, most;
    form g = times(f, 1 / unit);
    range_of(p->w, &g, &least, &most);
    put_row(p, &g, -INFINITY, 0, esp_lp_add_col(&p->lp, penalty, 0, fmax(0, most) + 1, false));
}

static void put_box(pattern *p, int t, const double *lower, const double *upper, const double *present, double penalty) {
    for (int i = 0; lower && i < p->w->model->ny; i++) {
        form y = p->w->y[t][i];
        if (isfinite(lower[i])) put_limit(p, times(minus(y, lower[i]), -1), lower[i] - present[i], size_of(lower[i]), 1, penalty);
        if (isfinite(upper[i])) put_limit(p, minus(y, upper[i]), present[i] - upper[i], size_of(upper[i]), 1, penalty);
    }
}

static void put_halfspace(pattern *p, int t, const esp_halfspace *h, const double *present, double penalty) {
    form f = constant(-h->b);
    double then = -h->b, size = fabs(h->b), norm = 0;
    for (int i = 0; i < p->w->model->ny; i++) {
        add(&f, h->a[i], &p->w->y[t][i]);
        then += h->a[i] * present[i];
        size = fmax(size, fabs(h->a[i]));
        norm += h->a[i] * h->a[i];
    }
    put_limit(p, f, then, size, sqrt(norm), penalty);
}

static form change_of(const walk *w, int t, int i) {
    int nu = w->task->nu;
    form f = input(t * nu + i), before = input((t - (t > 0)) * nu + i);
    if (t > 0)
        add(&f, -1, &before);
    else if (w->request->n_u > 0)
        f.k -= w->request->u[(w->request->n_u - 1) * nu + i];
    return f;
}

static void put_limits(pattern *p, int t) {
    const walk *w = p->w;
    const esp_task *task = w->task;
    const double *present = w->request->y + (w->model->history - 1) * w->model->ny;
    double penalty = oracle_penalty(task, present, w->request->goal);
    put_box(p, t, task->y_lower, task->y_upper, present, penalty);
    put_box(p, t, task->trust_lower, task->trust_upper, present, penalty);
    for (int k = 0; k < task->n_halfspaces; k++) put_halfspace(p, t, &task->halfspaces[k], present, penalty);
    for (int i = 0; task->rate && (t > 0 || w->request->n_u > 0) && i < task->nu; i++) {
        form du = change_of(w, t, i);
        double rate = fmax(0, task->rate[i] - w->margin);
        put_row(p, &du, -rate, rate, -1);
    }
}

static void put_tangent(pattern *p, const square *s, double point) {
    form f = minus(times(s->d, 2 * s->weight * point), s->weight * point * point);
    put_row(p, &f, -INFINITY, 0, s->col);
}

static void put_term(pattern *p, const esp_term *term, int t) {
    const walk *w = p->w;
    int shared = -1;
    for (int k = 0; k < term->n; k++) {
        int i = term->index[k];
        form d = term->on == ESP_ON_Y ? w->y[t][i] : term->on == ESP_ON_U ? input(t * w->task->nu + i) : change_of(w, t, i);
        d = minus(d, term->target_is_goal ? w->request->goal[k] : term->target[k]);
        double least, most;
        range_of(w, &d, &least, &most);
        double away = fmax(fabs(least), fabs(most)), weight = term->weight[k];
        if (weight == 0) continue;
        if (term->norm == ESP_COST_L2SQ) {
            ck_assert_int_lt(p->n_squares, SQUARES);
            square *s = &p->squares[p->n_squares++];
            *s = (square){.d = d, .col = esp_lp_add_col(&p->lp, 1, 0, weight * away * away + 1, false), .weight = weight};
            s->point[s->n++] = least;
            s->point[s->n++] = most;
            continue;
        }
        double size = weight * away + 1;
        if (term->norm == ESP_COST_L1 || shared < 0) shared = esp_lp_add_col(&p->lp, 1, 0, size, false);
        p->lp.col_upper[shared] = fmax(p->lp.col_upper[shared], size);
        form up = times(d, weight), down = times(d, -weight);
        put_row(p, &up, -INFINITY, 0, shared);
        put_row(p, &down, -INFINITY, 0, shared);
    }
}

static void build(pattern *p) {
    const walk *w = p->w;
    const esp_task *task = w->task;
    for (int k = 0; k < w->n_u; k++) (void)esp_lp_add_col(&p->lp, 0, task->u_lower[k % task->nu], task->u_upper[k % task->nu], false);
    for (int k = 0; k < w->n_forks; k++) put_row(p, &w->fork[k], w->on[k] ? 0 : -INFINITY, w->on[k] ? INFINITY : 0, -1);
    for (int t = 0; t < task->horizon; t++) {
        put_limits(p, t);
        for (int k = 0; k < task->n_stage; k++) put_term(p, &task->stage[k], t);
    }
    for (int k = 0; k < task->n_terminal; k++) put_term(p, &task->terminal[k], task->horizon - 1);
}

/* Tangents at a point (n_cols) where a square lies above its column; how far in all. */
static double refine(pattern *p, const double *x) {
    double sum = 0;
    for (int k = 0; k < p->n_squares; k++) {
        square *s = &p->squares[k];
        long double d = s->d.k;
        for (int j = 0; j < p->w->n_u; j++) d += s->d.c[j] * x[j];
        double above = s->weight * (double)(d * d) - x[s->col];
        if (above <= 0) continue;
        sum += above;
        s->point[s->n++] = (double)d;
    }
    return sum;
}

/* Solves the program with the tangents it has; x is the caller's to free. */
static clp_status solve(pattern *p, double *ret_value, double **ret_x) {
    esp_lp_done(&p->lp);
    square *kept = malloc(sizeof p->squares);
    ck_assert_ptr_nonnull(kept);
    memcpy(kept, p->squares, sizeof p->squares);
    p->n_squares = 0;
    build(p);
    for (int k = 0; k < p->n_squares; k++) {
        if (kept[k].n > p->squares[k].n) memcpy(&p->squares[k], &kept[k], sizeof *kept);
        for (int j = 0; j < p->squares[k].n; j++) put_tangent(p, &p->squares[k], p->squares[k].point[j]);
    }
    free(kept);
    *ret_x = NULL;
    if (p->empty) return CLP_INFEASIBLE;
    ck_assert_int_eq(esp_lp_finish(&p->lp, NULL), ESP_OK);
    clp *c = clp_create(&p->lp);
    clp_status status = clp_solve(c);
    if (status == CLP_OPTIMAL) {
        *ret_x = malloc((size_t)p->lp.n_cols * sizeof **ret_x);
        ck_assert_ptr_nonnull(*ret_x);
        *ret_value = clp_bound(c);
        clp_point(c, *ret_x);
    }
    clp_free(c);
    return status;
}

/* The inputs put into their box and rates, replayed. */
static void offer(const walk *w, const double *x, phases_optimum *best) {
    const esp_task *task = w->task;
    double inputs[PHASES_INPUTS], excess;
    for (int k = 0; k < w->n_u; k++) inputs[k] = fmin(fmax(x[k], task->u_lower[k % task->nu]), task->u_upper[k % task->nu]);
    double cost = oracle_plan(w->model, task, w->request, inputs, &excess);
    if (excess > 0 || !(cost < best->cost)) return;
    best->cost = cost;
    memcpy(best->inputs, inputs, sizeof inputs);
}

static void settle(walk *w, phases_optimum *best) {
    pattern *p = calloc(1, sizeof *p);
    ck_assert_ptr_nonnull(p);
    p->w = w;
    for (int round = 0; round < ROUNDS; round++) {
        double value = INFINITY, *x = NULL;
        clp_status status = solve(p, &value, &x);
        if (status == CLP_OTHER) best->whole = false;
        if (status != CLP_OPTIMAL) break;
        offer(w, x, best);
        double above = refine(p, x);
        free(x);
        bool last = above <= 1e-10 * (1 + fabs(value)) || round == ROUNDS - 1 || value >= best->cost;
        if (last) best->least = fmin(best->least, value);
        if (last) break;
    }
    esp_lp_done(&p->lp);
    free(p);
}

/* The next pattern of choices; false after the last. */
static bool next(walk *w) {
    while (w->n_choices > 0 && !w->on[w->n_choices - 1]) w->n_choices--;
    if (w->n_choices == 0) return false;
    w->on[w->n_choices - 1] = false;
    return true;
}

phases_optimum phases_enumerate(const esp_model *model, const esp_task *task, const esp_plan_request *request, double margin, int most) {
    phases_optimum best = {.whole = true, .least = INFINITY, .cost = INFINITY};
    walk *w = calloc(1, sizeof *w);
    ck_assert_ptr_nonnull(w);
    *w = (walk){.model = model, .task = task, .request = request, .margin = margin, .n_u = task->horizon * task->nu};
    ck_assert(w->n_u <= PHASES_INPUTS && task->horizon <= STEPS && model->ny <= OUTPUTS && !task->values && task->n_avoid == 0);
    do {
        if (++best.patterns > most) {
            best.whole = false;
            break;
        }
        w->n_forks = 0;
        for (int t = 0; t < task->horizon; t++) run_step(w, t);
        settle(w, &best);
    } while (next(w));
    free(w);
    return best;
}
