/* SPDX-License-Identifier: Apache-2.0
 * Writing a problem as a linear program with integer marks. */
#include "plan/encode.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

void esp_tangents_done(esp_tangents *t) {
    free(t->square);
    free(t->point);
    *t = (esp_tangents){0};
}

bool esp_tangents_add(esp_tangents *t, int square, double point) {
    if (t->n == t->cap) {
        int cap = t->cap ? 2 * t->cap : 256;
        int *squares = realloc(t->square, (size_t)cap * sizeof *squares);
        if (!squares) return false;
        t->square = squares;
        double *points = realloc(t->point, (size_t)cap * sizeof *points);
        if (!points) return false;
        t->point = points;
        t->cap = cap;
    }
    t->square[t->n] = square;
    t->point[t->n++] = point;
    return true;
}

void esp_encoding_done(esp_encoding *e) {
    esp_lp_done(&e->lp);
    esp_arena_free(e->arena);
    e->arena = NULL;
}

typedef struct writer {
    const esp_problem *p;
    const esp_ranges *ranges;
    esp_encoding *e;
    bool big_m;
    int group;
} writer;

static void input_columns(writer *w) {
    for (int k = 0; k < w->e->n_u; k++) w->e->u[k] = esp_lp_add_col(&w->e->lp, 0.0, w->p->u_lower[k], w->p->u_upper[k], false);
}

static void output_columns(writer *w) {
    for (int k = 0; k < w->e->n_y; k++) {
        double lower = fmax(w->ranges->y_lower[k], w->p->y_lower[k]), upper = fmin(w->ranges->y_upper[k], w->p->y_upper[k]);
        w->e->y[k] = esp_lp_add_col(&w->e->lp, 0.0, lower, upper, false);
    }
}

static void relu_columns(writer *w) {
    esp_encoding *e = w->e;
    for (int q = 0; q < e->n_r; q++) {
        double l = w->ranges->p_lower[q], u = w->ranges->p_upper[q];
        e->r[q] = e->w[q] = e->a[q] = e->knap[q] = -1;
        if (u <= 0.0) continue;
        e->r[q] = esp_lp_add_col(&e->lp, 0.0, fmax(0.0, l), u, false);
        if (l >= 0.0) continue;
        e->w[q] = esp_lp_add_col(&e->lp, 0.0, 0.0, -l, false);
        e->binaries++;
        if (w->big_m) e->a[q] = esp_lp_add_col(&e->lp, 0.0, 0.0, 1.0, true);
    }
}

/* Minus `row` of a matrix over x = [Y, U] of step t: columns, and constants for what lies in the past. */
static void put_window(writer *w, int t, const double *row) {
    const esp_problem *p = w->p;
    double constant = 0.0;
    for (int s = 0; s < p->history; s++, row += p->ny) {
        int at = esp_window_y(p, t, s);
        for (int i = 0; i < p->ny; i++) {
            if (at < 0)
                constant -= row[i] * p->y_past[(p->history + at) * p->ny + i];
            else
                esp_lp_put(&w->e->lp, w->e->y[at * p->ny + i], -row[i]);
        }
    }
    for (int s = 0; s < p->history; s++, row += p->nu) {
        int at = esp_window_u(p, t, s);
        for (int i = 0; i < p->nu; i++) {
            if (at < 0)
                constant -= row[i] * p->u_past[(p->history - 1 + at) * p->nu + i];
            else
                esp_lp_put(&w->e->lp, w->e->u[at * p->nu + i], -row[i]);
        }
    }
    esp_lp_shift(&w->e->lp, constant);
}

static void put_relus(writer *w, int t, const double *row, int n) {
    const int *r = w->e->r + t * w->p->step->n_r;
    for (int j = 0; j < n; j++)
        if (r[j] >= 0) esp_lp_put(&w->e->lp, r[j], -row[j]);
}

/* Scaled by the larger side, so that a dual of the row compares between ReLUs. */
static void relu_rows(writer *w, int q) {
    esp_encoding *e = w->e;
    double u = w->ranges->p_upper[q], l = -w->ranges->p_lower[q];
    if (w->big_m) {
        (void)esp_lp_add_row(&e->lp, -INFINITY, 0.0);
        esp_lp_put(&e->lp, e->r[q], 1.0);
        esp_lp_put(&e->lp, e->a[q], -u);
        (void)esp_lp_add_row(&e->lp, -INFINITY, l);
        esp_lp_put(&e->lp, e->w[q], 1.0);
        esp_lp_put(&e->lp, e->a[q], l);
        return;
    }
    double m = fmax(u, l);
    e->knap[q] = esp_lp_add_row(&e->lp, -INFINITY, m);
    esp_lp_put(&e->lp, e->r[q], m / u);
    esp_lp_put(&e->lp, e->w[q], m / l);
}

static void step_rows(writer *w, int t) {
    const esp_problem *p = w->p;
    const esp_program *step = p->step;
    esp_encoding *e = w->e;
    for (int j = 0; j < step->n_r; j++) {
        int q = t * step->n_r + j;
        if (e->r[q] < 0) continue;
        (void)esp_lp_add_row(&e->lp, step->d0[j], step->d0[j]);
        esp_lp_put(&e->lp, e->r[q], 1.0);
        if (e->w[q] >= 0) esp_lp_put(&e->lp, e->w[q], -1.0);
        put_window(w, t, step->c + (size_t)j * (size_t)step->n_x);
        put_relus(w, t, step->d + (size_t)j * (size_t)step->n_r, j);
        if (e->w[q] >= 0) relu_rows(w, q);
    }
    for (int i = 0; i < p->ny; i++) {
        (void)esp_lp_add_row(&e->lp, step->c0[i], step->c0[i]);
        esp_lp_put(&e->lp, e->y[t * p->ny + i], 1.0);
        put_window(w, t, step->a + (size_t)i * (size_t)step->n_x);
        put_relus(w, t, step->b + (size_t)i * (size_t)step->n_r, step->n_r);
    }
}

static void rate_rows(writer *w) {
    const esp_problem *p = w->p;
    if (!p->task->rate) return;
    for (int k = p->nu; k < w->e->n_u; k++) {
        double rate = p->task->rate[k % p->nu];
        (void)esp_lp_add_row(&w->e->lp, -rate, rate);
        esp_lp_put(&w->e->lp, w->e->u[k], 1.0);
        esp_lp_put(&w->e->lp, w->e->u[k - p->nu], -1.0);
    }
}

/* u(t) = sum_k b_k value_k, exactly one b_k = 1. */
static void value_rows(writer *w) {
    const esp_problem *p = w->p;
    const esp_task *task = p->task;
    esp_lp *lp = &w->e->lp;
    if (!task->values) return;
    for (int t = 0; t < p->horizon; t++) {
        int first = lp->n_cols;
        for (int k = 0; k < task->n_values; k++) (void)esp_lp_add_col(lp, 0.0, 0.0, 1.0, true);
        (void)esp_lp_add_row(lp, 1.0, 1.0);
        for (int k = 0; k < task->n_values; k++) esp_lp_put(lp, first + k, 1.0);
        for (int i = 0; i < p->nu; i++) {
            (void)esp_lp_add_row(lp, 0.0, 0.0);
            esp_lp_put(lp, w->e->u[t * p->nu + i], 1.0);
            for (int k = 0; k < task->n_values; k++) esp_lp_put(lp, first + k, -task->values[k * p->nu + i]);
        }
    }
}

static void halfspace_rows(writer *w) {
    const esp_problem *p = w->p;
    for (int t = 0; t < p->horizon; t++) {
        for (int k = 0; k < p->task->n_halfspaces; k++) {
            (void)esp_lp_add_row(&w->e->lp, -INFINITY, p->task->halfspaces[k].b);
            for (int i = 0; i < p->ny; i++) esp_lp_put(&w->e->lp, w->e->y[t * p->ny + i], p->task->halfspaces[k].a[i]);
        }
    }
}

/* x[y] <= bound when z = 1, by the column's own limits when z = 0; the same for >=. */
static void add_face(writer *w, int y, int side, double bound) {
    esp_lp *lp = &w->e->lp;
    double lower = lp->col_lower[y], upper = lp->col_upper[y];
    if (side < 0 ? lower > bound : upper < bound) return;
    int z = esp_lp_add_col(lp, 0.0, 0.0, 1.0, true);
    if (side < 0) {
        (void)esp_lp_add_row(lp, -INFINITY, upper);
        esp_lp_put(lp, y, 1.0);
        esp_lp_put(lp, z, upper - bound);
    } else {
        (void)esp_lp_add_row(lp, lower, INFINITY);
        esp_lp_put(lp, y, 1.0);
        esp_lp_put(lp, z, lower - bound);
    }
    w->e->faces[w->e->n_faces++] = (esp_face){w->group, z, y, side, bound};
}

/* Already outside by the ranges alone: no binaries. */
static bool clear_of(const writer *w, const esp_avoid *avoid, int t) {
    const esp_lp *lp = &w->e->lp;
    for (int k = 0; k < avoid->n; k++) {
        int y = w->e->y[t * w->p->ny + avoid->index[k]];
        if (lp->col_upper[y] <= avoid->lower[k] || lp->col_lower[y] >= avoid->upper[k]) return true;
    }
    return false;
}

static void avoid_rows(writer *w) {
    const esp_problem *p = w->p;
    for (int t = 0; t < p->horizon; t++) {
        for (int b = 0; b < p->task->n_avoid; b++) {
            const esp_avoid *avoid = &p->task->avoid[b];
            if (clear_of(w, avoid, t)) continue;
            int first = w->e->n_faces;
            w->group++;
            for (int k = 0; k < avoid->n; k++) {
                int y = w->e->y[t * p->ny + avoid->index[k]];
                add_face(w, y, -1, avoid->lower[k]);
                add_face(w, y, 1, avoid->upper[k]);
            }
            (void)esp_lp_add_row(&w->e->lp, 1.0, INFINITY);
            for (int f = first; f < w->e->n_faces; f++) esp_lp_put(&w->e->lp, w->e->faces[f].z, 1.0);
        }
    }
}

/* Columns and constant of a piece's component: d = x[col] - x[before] - shift. */
static esp_square component(const writer *w, const esp_piece *piece, int k) {
    const esp_problem *p = w->p;
    int i = piece->index[k];
    esp_square d = {.before = -1, .shift = piece->target[k]};
    esp_tighten_component(p, w->ranges, piece, k, &d.lower, &d.upper);
    d.lower -= piece->target[k];
    d.upper -= piece->target[k];
    if (piece->on == ESP_ON_Y)
        d.col = w->e->y[piece->t * p->ny + i];
    else
        d.col = w->e->u[piece->t * p->nu + i];
    if (piece->on == ESP_ON_DU && piece->t > 0) d.before = w->e->u[(piece->t - 1) * p->nu + i];
    if (piece->on == ESP_ON_DU && piece->t == 0) d.shift += p->u_last[i];
    return d;
}

static void put_component(writer *w, const esp_square *d, double scale) {
    esp_lp_put(&w->e->lp, d->col, scale);
    if (d->before >= 0) esp_lp_put(&w->e->lp, d->before, -scale);
    esp_lp_shift(&w->e->lp, -scale * d->shift);
}

static void l1_component(writer *w, const esp_square *d, double weight) {
    esp_lp *lp = &w->e->lp;
    int over = esp_lp_add_col(lp, weight, 0.0, fmax(0.0, d->upper), false), under = esp_lp_add_col(lp, weight, 0.0, fmax(0.0, -d->lower), false);
    (void)esp_lp_add_row(lp, 0.0, 0.0);
    put_component(w, d, 1.0);
    esp_lp_put(lp, over, -1.0);
    esp_lp_put(lp, under, 1.0);
}

static void linf_piece(writer *w, const esp_piece *piece) {
    esp_lp *lp = &w->e->lp;
    double most = 0.0;
    for (int k = 0; k < piece->n; k++) {
        esp_square d = component(w, piece, k);
        most = fmax(most, piece->weight[k] * fmax(fabs(d.lower), fabs(d.upper)));
    }
    int z = esp_lp_add_col(lp, 1.0, 0.0, most, false);
    for (int k = 0; k < piece->n; k++) {
        if (!(piece->weight[k] > 0.0)) continue;
        esp_square d = component(w, piece, k);
        for (int side = -1; side <= 1; side += 2) {
            (void)esp_lp_add_row(lp, -INFINITY, 0.0);
            put_component(w, &d, side * piece->weight[k]);
            esp_lp_put(lp, z, -1.0);
        }
    }
}

static void cost_rows(writer *w) {
    for (int c = 0; c < w->p->n_pieces; c++) {
        const esp_piece *piece = &w->p->pieces[c];
        if (piece->norm == ESP_COST_LINF) linf_piece(w, piece);
        for (int k = 0; piece->norm != ESP_COST_LINF && k < piece->n; k++) {
            if (!(piece->weight[k] > 0.0)) continue;
            esp_square d = component(w, piece, k);
            if (piece->norm == ESP_COST_L1)
                l1_component(w, &d, piece->weight[k]);
            else {
                d.s = esp_lp_add_col(&w->e->lp, piece->weight[k], 0.0, fmax(d.lower * d.lower, d.upper * d.upper), false);
                w->e->squares[w->e->n_squares++] = d;
            }
        }
    }
}

/* s >= 2 d0 d - d0^2. */
static void tangent_rows(writer *w, const esp_tangents *tangents) {
    for (int k = 0; tangents && k < tangents->n; k++) {
        const esp_square *d = &w->e->squares[tangents->square[k]];
        double at = tangents->point[k];
        (void)esp_lp_add_row(&w->e->lp, -at * at, INFINITY);
        esp_lp_put(&w->e->lp, d->s, 1.0);
        put_component(w, d, -2.0 * at);
    }
}

static void cutoff_row(writer *w) {
    esp_lp *lp = &w->e->lp;
    w->e->cutoff_row = -1;
    if (w->big_m) return;
    w->e->cutoff_row = esp_lp_add_row(lp, -INFINITY, INFINITY);
    for (int j = 0; j < lp->n_cols; j++) esp_lp_put(lp, j, lp->cost[j]);
}

static int count_squares(const esp_problem *p) {
    int n = 0;
    for (int c = 0; c < p->n_pieces; c++)
        for (int k = 0; p->pieces[c].norm == ESP_COST_L2SQ && k < p->pieces[c].n; k++) n += p->pieces[c].weight[k] > 0.0;
    return n;
}

static int count_faces(const esp_problem *p) {
    int n = 0;
    for (int b = 0; b < p->task->n_avoid; b++) n += 2 * p->task->avoid[b].n;
    return n * p->horizon;
}

static bool take(esp_encoding *e, const esp_problem *p) {
    e->arena = esp_arena_create(0);
    if (!e->arena) return false;
    e->n_u = p->horizon * p->nu;
    e->n_y = p->horizon * p->ny;
    e->n_r = p->horizon * p->step->n_r;
    e->u = ESP_NEW(e->arena, int, e->n_u);
    e->y = ESP_NEW(e->arena, int, e->n_y);
    e->r = ESP_NEW(e->arena, int, e->n_r + 1);
    e->w = ESP_NEW(e->arena, int, e->n_r + 1);
    e->a = ESP_NEW(e->arena, int, e->n_r + 1);
    e->knap = ESP_NEW(e->arena, int, e->n_r + 1);
    e->squares = ESP_NEW(e->arena, esp_square, count_squares(p) + 1);
    e->faces = ESP_NEW(e->arena, esp_face, count_faces(p) + 1);
    return e->u && e->y && e->r && e->w && e->a && e->knap && e->squares && e->faces;
}

esp_code esp_encode(const esp_problem *problem, const esp_ranges *ranges, bool big_m, const esp_tangents *tangents, esp_encoding *ret_encoding,
                    esp_error *reterr) {
    esp_encoding e = {0};
    writer w = {.p = problem, .ranges = ranges, .e = &e, .big_m = big_m};
    assert(ranges->n_r == problem->horizon * problem->step->n_r && ranges->n_y == problem->horizon * problem->ny);
    if (!take(&e, problem)) {
        esp_encoding_done(&e);
        return esp_fail(reterr, ESP_NOMEM, "a planning problem's columns");
    }
    input_columns(&w);
    output_columns(&w);
    relu_columns(&w);
    for (int t = 0; t < problem->horizon; t++) step_rows(&w, t);
    rate_rows(&w);
    value_rows(&w);
    halfspace_rows(&w);
    avoid_rows(&w);
    cost_rows(&w);
    tangent_rows(&w, tangents);
    cutoff_row(&w);
    esp_code code = esp_lp_finish(&e.lp, reterr);
    if (code == ESP_OK)
        *ret_encoding = e;
    else
        esp_encoding_done(&e);
    return code;
}

esp_code esp_encode_tangents(const esp_problem *p, const esp_ranges *ranges, esp_tangents *ret_tangents, esp_error *reterr) {
    static const double shares[] = {0.0, 0.25, 0.5, 0.75, 1.0};
    esp_tangents tangents = {0};
    bool ok = true;
    int square = 0;
    for (int c = 0; c < p->n_pieces; c++) {
        const esp_piece *piece = &p->pieces[c];
        for (int k = 0; piece->norm == ESP_COST_L2SQ && k < piece->n; k++) {
            if (!(piece->weight[k] > 0.0)) continue;
            double lower, upper;
            esp_tighten_component(p, ranges, piece, k, &lower, &upper);
            lower -= piece->target[k];
            upper -= piece->target[k];
            for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
                ok = ok && esp_tangents_add(&tangents, square, lower + shares[i] * (upper - lower));
            square++;
        }
    }
    if (ok) {
        *ret_tangents = tangents;
        return ESP_OK;
    }
    esp_tangents_done(&tangents);
    return esp_fail(reterr, ESP_NOMEM, "tangents");
}

double esp_square_at(const esp_square *square, const double *x) {
    return x[square->col] - (square->before >= 0 ? x[square->before] : 0.0) - square->shift;
}
