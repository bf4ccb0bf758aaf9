/* SPDX-License-Identifier: Apache-2.0
 * Writing a problem as a linear program with integer marks. */
#include "plan/encode.h"

#include <assert.h>
#include <float.h>
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

void esp_encoding_range(const esp_encoding *e, int k, double low, double high, double *lower, double *upper) {
    int plus = e->y[k], minus = e->y_minus[k];
    if (plus < 0) return;
    if (minus >= 0) {
        low = nextafter(low - e->y_at[k], -INFINITY);
        high = nextafter(high - e->y_at[k], INFINITY);
        lower[minus] = fmax(0.0, -high);
        upper[minus] = fmax(0.0, -low);
    }
    lower[plus] = minus >= 0 ? fmax(0.0, low) : low;
    upper[plus] = minus >= 0 ? fmax(0.0, high) : high;
}

typedef struct writer {
    const esp_problem *p;
    const esp_ranges *ranges;
    esp_encoding *e;
    int horizon;
    bool big_m;
    int group;
    bool *needed; /* per output */
    double *weight; /* per output: of its l1 costs, which all have the target y_at; ALONE when it takes a single column */
    double *row; /* n_x: the difference of two rows of A */
} writer;

#define ALONE (-1.0)

/* ---- which outputs are needed, and how --------------------------------------------------------------------------- */

static void cost_uses(writer *w) {
    for (int c = 0; c < w->p->n_pieces; c++) {
        const esp_piece *piece = &w->p->pieces[c];
        if (piece->on != ESP_ON_Y || piece->t >= w->horizon) continue;
        for (int k = 0; k < piece->n; k++) {
            int at = piece->t * w->p->ny + piece->index[k];
            double *weight = &w->weight[at], *target = &w->e->y_at[at];
            if (!(piece->weight[k] > 0.0)) continue;
            w->needed[at] = true;
            bool joins = piece->norm == ESP_COST_L1 && (*weight == 0.0 || (*weight > 0.0 && *target == piece->target[k]));
            *weight = joins ? *weight + piece->weight[k] : ALONE;
            *target = piece->target[k];
        }
    }
}

static void limit_uses(writer *w) {
    const esp_problem *p = w->p;
    for (int k = 0; k < w->e->n_y; k++) {
        if (isfinite(p->y_lower[k]) || isfinite(p->y_upper[k])) w->needed[k] = true;
        for (int h = 0; h < p->n_halfspaces; h++)
            if (p->halfspaces[h].a[k % p->ny] != 0.0) w->needed[k] = true;
        for (int b = 0; b < p->n_avoid; b++)
            for (int i = 0; i < p->avoid[b].n; i++)
                if (p->avoid[b].index[i] == k % p->ny) {
                    w->needed[k] = true;
                    w->weight[k] = ALONE;
                }
    }
}

/* Only faces of a box to avoid need their outputs alone. */
static void soft_uses(writer *w) {
    for (int at = 0; at < w->horizon * w->p->n_softs; at++) {
        const esp_soft *soft = &w->p->softs[at % w->p->n_softs];
        for (int s = 0; s < soft->n_sides; s++) {
            for (int k = 0; k < soft->sides[s].n; k++) {
                int output = at / w->p->n_softs * w->p->ny + soft->sides[s].index[k];
                if (soft->sides[s].a[k] != 0.0) w->needed[output] = true;
                if (soft->n_sides > 1) w->weight[output] = ALONE;
            }
        }
    }
}

/* A cut over steps that the model has. */
static bool cut_fits(const writer *w, const esp_cut *cut) {
    return cut->at[cut->n - 1] < w->e->n_y;
}

static void cut_uses(writer *w) {
    for (int c = 0; c < w->p->cuts->n; c++) {
        const esp_cut *cut = &w->p->cuts->list[c];
        for (int k = 0; cut_fits(w, cut) && k < cut->n; k++) w->needed[cut->at[k]] = true;
    }
}

static void window_uses(writer *w, int t, const double *row) {
    for (int s = 0; s < w->p->history; s++, row += w->p->ny) {
        int at = esp_window_y(w->p, t, s);
        for (int i = 0; at >= 0 && i < w->p->ny; i++)
            if (row[i] != 0.0) w->needed[at * w->p->ny + i] = true;
    }
}

static void mark_uses(writer *w) {
    const esp_program *step = w->p->step;
    cost_uses(w);
    limit_uses(w);
    soft_uses(w);
    cut_uses(w);
    for (int t = w->horizon - 1; t >= 0; t--) {
        for (int j = 0; j < step->n_r; j++)
            if (w->ranges->p_upper[t * step->n_r + j] > 0.0) window_uses(w, t, step->c + (size_t)j * (size_t)step->n_x);
        for (int i = 0; i < w->p->ny; i++)
            if (w->needed[t * w->p->ny + i]) window_uses(w, t, step->a + (size_t)i * (size_t)step->n_x);
    }
}

/* ---- columns ----------------------------------------------------------------------------------------------------- */

static void input_columns(writer *w) {
    for (int k = 0; k < w->e->n_u; k++) w->e->u[k] = esp_lp_add_col(&w->e->lp, 0.0, w->p->u_lower[k], w->p->u_upper[k], false);
}

static void output_columns(writer *w) {
    esp_encoding *e = w->e;
    esp_lp *lp = &e->lp;
    for (int k = 0; k < w->e->n_y; k++) {
        double lower = fmax(w->ranges->y_lower[k], w->p->y_lower[k]), upper = fmin(w->ranges->y_upper[k], w->p->y_upper[k]);
        double weight = w->weight[k];
        e->y[k] = e->y_minus[k] = -1;
        if (!w->needed[k]) continue;
        e->y[k] = esp_lp_add_col(lp, fmax(0.0, weight), 0.0, 0.0, false);
        if (weight > 0.0)
            e->y_minus[k] = esp_lp_add_col(lp, weight, 0.0, 0.0, false);
        else
            e->y_at[k] = 0.0;
        if (!lp->failed) esp_encoding_range(e, k, lower, fmax(lower, upper), lp->col_lower, lp->col_upper);
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

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static void put_output(writer *w, int k, double scale) {
    const esp_encoding *e = w->e;
    if (scale == 0.0) return;
    assert(e->y[k] >= 0);
    esp_lp_put(&w->e->lp, e->y[k], scale);
    if (e->y_minus[k] < 0) return;
    esp_lp_put(&w->e->lp, e->y_minus[k], -scale);
    esp_lp_shift(&w->e->lp, scale * e->y_at[k], fabs(scale * e->y_at[k]));
}

/* Minus `row` of a matrix over x = [Y, U] of step t: columns, and constants for what lies in the past. */
static void put_window(writer *w, int t, const double *row) {
    const esp_problem *p = w->p;
    double constant = 0.0, size = 0.0;
    for (int s = 0; s < p->history; s++, row += p->ny) {
        int at = esp_window_y(p, t, s);
        for (int i = 0; i < p->ny; i++) {
            double past = at < 0 ? row[i] * p->y_past[(p->history + at) * p->ny + i] : 0.0;
            constant -= past;
            size += fabs(past);
            if (at >= 0) put_output(w, at * p->ny + i, -row[i]);
        }
    }
    for (int s = 0; s < p->history; s++, row += p->nu) {
        int at = esp_window_u(p, t, s);
        for (int i = 0; i < p->nu; i++) {
            double past = at < 0 ? row[i] * p->u_past[(p->history - 1 + at) * p->nu + i] : 0.0;
            constant -= past;
            size += fabs(past);
            if (at >= 0) esp_lp_put(&w->e->lp, w->e->u[at * p->nu + i], -row[i]);
        }
    }
    esp_lp_shift(&w->e->lp, constant, size * (p->step->n_x + 1));
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
    esp_lp_put(&e->lp, e->r[q], m / fmax(u, ESP_FACET_LEAST * m));
    esp_lp_put(&e->lp, e->w[q], m / fmax(l, ESP_FACET_LEAST * m));
}

/* a - b without rounding. */
static bool exact_difference(double a, double b, double *ret) {
    double d = a - b, back = a - d, error = (a - (d + back)) + (back - b);
    *ret = d;
    return error == 0.0;
}

/* An earlier output in use at step t with output i's row of B, and w->row = A_i - A_k; -1 when there is none. */
static int twin(writer *w, int t, int i) {
    const esp_program *step = w->p->step;
    size_t n_x = (size_t)step->n_x, n_r = (size_t)step->n_r;
    for (int k = 0; k < i; k++) {
        bool same = w->needed[t * w->p->ny + k] && n_r > 0;
        for (size_t j = 0; same && j < n_r; j++) same = step->b[(size_t)i * n_r + j] == step->b[(size_t)k * n_r + j];
        for (size_t j = 0; same && j < n_x; j++) same = exact_difference(step->a[(size_t)i * n_x + j], step->a[(size_t)k * n_x + j], &w->row[j]);
        if (same) return k;
    }
    return -1;
}

static void output_row(writer *w, int t, int i) {
    const esp_program *step = w->p->step;
    const double *a = step->a + (size_t)i * (size_t)step->n_x;
    int k = twin(w, t, i);
    (void)esp_lp_add_row(&w->e->lp, step->c0[i], step->c0[i]);
    put_output(w, t * w->p->ny + i, 1.0);
    if (k >= 0) {
        put_output(w, t * w->p->ny + k, -1.0);
        esp_lp_shift(&w->e->lp, step->c0[k], 0.0);
    }
    put_window(w, t, k >= 0 ? w->row : a);
    if (k < 0) put_relus(w, t, step->b + (size_t)i * (size_t)step->n_r, step->n_r);
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
    for (int i = 0; i < p->ny; i++)
        if (w->needed[t * p->ny + i]) output_row(w, t, i);
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
    for (int t = 0; t < w->horizon; t++) {
        int first = w->e->value[t] = lp->n_cols;
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
    for (int t = 0; t < w->horizon; t++) {
        for (int k = 0; k < p->n_halfspaces; k++) {
            (void)esp_lp_add_row(&w->e->lp, -INFINITY, p->halfspaces[k].b);
            for (int i = 0; i < p->ny; i++) put_output(w, t * p->ny + i, p->halfspaces[k].a[i]);
        }
    }
}

static void cut_rows(writer *w) {
    esp_encoding *e = w->e;
    for (int c = 0; c < w->p->cuts->n; c++) {
        const esp_cut *cut = &w->p->cuts->list[c];
        if (!cut_fits(w, cut)) continue;
        int row = e->cut[e->n_cuts] = esp_lp_add_row(&e->lp, -INFINITY, cut->most);
        for (int k = 0; k < cut->n; k++) put_output(w, cut->at[k], cut->weight[k]);
        e->cut_most[e->n_cuts++] = e->lp.row_upper[row];
    }
}

/* x[y] <= bound when z = 1, by the column's own limits when z = 0; the same for >=. */
static void add_face(writer *w, int output, int side, double bound) {
    esp_lp *lp = &w->e->lp;
    int y = w->e->y[output];
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
    w->e->faces[w->e->n_faces++] = (esp_face){w->group, z, y, side, output, bound};
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
    for (int t = 0; t < w->horizon; t++) {
        for (int b = 0; b < p->n_avoid; b++) {
            const esp_avoid *avoid = &p->avoid[b];
            if (clear_of(w, avoid, t)) continue;
            int first = w->e->n_faces;
            w->group++;
            for (int k = 0; k < avoid->n; k++) {
                int output = t * p->ny + avoid->index[k];
                add_face(w, output, -1, avoid->lower[k]);
                add_face(w, output, 1, avoid->upper[k]);
            }
            (void)esp_lp_add_row(&w->e->lp, 1.0, INFINITY);
            for (int f = first; f < w->e->n_faces; f++) esp_lp_put(&w->e->lp, w->e->faces[f].z, 1.0);
        }
    }
}

/* ---- limits that the present violates ---------------------------------------------------------------------------- */

/* z = 1: a y <= b + s for the side's one output; z = 0: no more than its own limits say. */
static void soft_face(writer *w, const esp_side *side, int output, int s) {
    esp_lp *lp = &w->e->lp;
    int y = w->e->y[output], z = esp_lp_add_col(lp, 0.0, 0.0, 1.0, true);
    double a = side->a[0], most = a > 0.0 ? lp->col_upper[y] : -lp->col_lower[y], room = fmax(0.0, nextafter(most - side->b, INFINITY));
    (void)esp_lp_add_row(lp, -INFINITY, side->b);
    esp_lp_put(lp, y, a);
    esp_lp_put(lp, s, -1.0);
    esp_lp_put(lp, z, room);
    esp_lp_shift(lp, -room, fabs(room) + fabs(side->b));
    w->e->faces[w->e->n_faces++] = (esp_face){w->group, z, y, a > 0.0 ? -1 : 1, output, a * side->b};
}

/* Inside a box to avoid: one of its faces is kept, give or take s. */
static void soft_avoid(writer *w, const esp_soft *soft, int t, int s) {
    esp_lp *lp = &w->e->lp;
    int first = w->e->n_faces;
    w->group++;
    for (int k = 0; k < soft->n_sides; k++) soft_face(w, &soft->sides[k], t * w->p->ny + soft->sides[k].index[0], s);
    (void)esp_lp_add_row(lp, 1.0, INFINITY);
    for (int f = first; f < w->e->n_faces; f++) esp_lp_put(lp, w->e->faces[f].z, 1.0);
}

/* s >= a'y - b, s >= 0; no larger than the ranges let it be. */
static void soft_rows(writer *w) {
    const esp_problem *p = w->p;
    for (int at = 0; at < w->horizon * p->n_softs; at++) {
        int t = at / p->n_softs;
        const esp_soft *soft = &p->softs[at % p->n_softs];
        double most = esp_soft_most(soft, w->ranges->y_lower + t * p->ny, w->ranges->y_upper + t * p->ny);
        w->e->soft[at] = -1;
        if (soft->n_sides > 1 && most <= 0.0) continue;
        w->e->soft[at] = esp_lp_add_col(&w->e->lp, p->penalty, 0.0, most, false);
        if (soft->n_sides > 1) {
            soft_avoid(w, soft, t, w->e->soft[at]);
            continue;
        }
        const esp_side *side = &soft->sides[0];
        (void)esp_lp_add_row(&w->e->lp, -INFINITY, side->b);
        for (int k = 0; k < side->n; k++) put_output(w, t * p->ny + side->index[k], side->a[k]);
        esp_lp_put(&w->e->lp, w->e->soft[at], -1.0);
    }
}

/* ---- cost -------------------------------------------------------------------------------------------------------- */

/* Columns and constant of a piece's component: d = x[col] - x[before] - shift. */
static esp_square component(const writer *w, const esp_piece *piece, int k) {
    const esp_problem *p = w->p;
    int i = piece->index[k];
    esp_square d = {.before = -1, .shift = piece->target[k]};
    esp_tighten_component(p, w->ranges, piece, k, &d.lower, &d.upper);
    d.lower = nextafter(d.lower - piece->target[k], -INFINITY);
    d.upper = nextafter(d.upper - piece->target[k], INFINITY);
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
    esp_lp_shift(&w->e->lp, -scale * d->shift, 2.0 * fabs(scale * d->shift));
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

/* Rows of heavy squares are scaled, by a power of 2 and so without rounding: what a solver's tolerance lets a row miss by
 * is then not more in cost. */
static double tangent_scale(double weight) {
    int exponent;
    (void)frexp(weight, &exponent);
    return ldexp(1.0, exponent > 0 ? exponent : 0);
}

static void cost_rows(writer *w) {
    for (int c = 0; c < w->p->n_pieces; c++) {
        const esp_piece *piece = &w->p->pieces[c];
        if (piece->t >= w->horizon) continue;
        if (piece->norm == ESP_COST_LINF) linf_piece(w, piece);
        for (int k = 0; piece->norm != ESP_COST_LINF && k < piece->n; k++) {
            bool paired = piece->on == ESP_ON_Y && w->e->y_minus[piece->t * w->p->ny + piece->index[k]] >= 0;
            if (!(piece->weight[k] > 0.0) || paired) continue;
            esp_square d = component(w, piece, k);
            if (piece->norm == ESP_COST_L1)
                l1_component(w, &d, piece->weight[k]);
            else {
                d.scale = tangent_scale(piece->weight[k]);
                d.s = esp_lp_add_col(&w->e->lp, piece->weight[k], 0.0, fmax(d.lower * d.lower, d.upper * d.upper), false);
                w->e->squares[w->e->n_squares++] = d;
            }
        }
    }
}

/* s >= 2 d0 d - d0^2. */
static void put_tangent(writer *w, const esp_square *d, double at) {
    (void)esp_lp_add_row(&w->e->lp, -d->scale * at * at, INFINITY);
    esp_lp_put(&w->e->lp, d->s, d->scale);
    put_component(w, d, -2.0 * d->scale * at);
}

static void tangent_rows(writer *w, const esp_tangents *tangents) {
    for (int k = 0; tangents && k < tangents->n; k++) {
        put_tangent(w, &w->e->squares[tangents->square[k]], tangents->point[k]);
    }
}

static void ring_rows(writer *w) {
    esp_encoding *e = w->e;
    for (int k = 0; !w->big_m && k < e->n_squares; k++) {
        esp_square *d = &e->squares[k];
        double at = 0.5 * (d->lower + d->upper);
        if (at == 0.0) at = 0.25 * d->upper + 1e-3; /* its entries must stand in the row */
        d->ring = e->lp.n_rows;
        for (int i = 0; i < ESP_SPARE_TANGENTS; i++) put_tangent(w, d, at);
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

static bool take(writer *w) {
    esp_encoding *e = w->e;
    const esp_problem *p = w->p;
    e->arena = esp_arena_create(0);
    if (!e->arena) return false;
    e->n_u = w->horizon * p->nu;
    e->n_y = w->horizon * p->ny;
    e->n_r = w->horizon * p->step->n_r;
    e->u = ESP_NEW(e->arena, int, e->n_u);
    e->y = ESP_NEW(e->arena, int, e->n_y);
    e->y_minus = ESP_NEW(e->arena, int, e->n_y);
    e->y_at = ESP_NEW(e->arena, double, e->n_y);
    e->value = p->task->values ? ESP_NEW(e->arena, int, w->horizon) : NULL;
    if (p->task->values && !e->value) return false;
    e->r = ESP_NEW(e->arena, int, e->n_r + 1);
    e->w = ESP_NEW(e->arena, int, e->n_r + 1);
    e->a = ESP_NEW(e->arena, int, e->n_r + 1);
    e->knap = ESP_NEW(e->arena, int, e->n_r + 1);
    e->n_soft = p->n_softs;
    e->soft = ESP_NEW(e->arena, int, w->horizon * p->n_softs + 1);
    e->squares = ESP_NEW(e->arena, esp_square, count_squares(p) + 1);
    e->faces = ESP_NEW(e->arena, esp_face, count_faces(p) + 1);
    e->cut = ESP_NEW(e->arena, int, p->cuts->n + 1);
    e->cut_most = ESP_NEW(e->arena, double, p->cuts->n + 1);
    w->needed = ESP_NEW(e->arena, bool, e->n_y);
    w->weight = ESP_NEW(e->arena, double, e->n_y);
    w->row = ESP_NEW(e->arena, double, p->step->n_x + 1);
    if (!e->u || !e->y || !e->y_minus || !e->y_at || !e->r || !e->w || !e->a || !e->knap || !e->soft || !e->squares || !e->faces || !w->needed ||
        !e->cut || !e->cut_most || !w->weight || !w->row)
        return false;
    for (int k = 0; k < e->n_y; k++) {
        w->needed[k] = false;
        w->weight[k] = e->y_at[k] = 0.0;
    }
    return true;
}

esp_code esp_encode(const esp_problem *problem, const esp_ranges *ranges, int horizon, bool big_m, const esp_tangents *tangents,
                    esp_encoding *ret_encoding, esp_error *reterr) {
    esp_encoding e = {0};
    writer w = {.p = problem, .ranges = ranges, .e = &e, .horizon = horizon, .big_m = big_m};
    assert(horizon <= problem->horizon && ranges->n_r >= horizon * problem->step->n_r && ranges->n_y >= horizon * problem->ny);
    if (!take(&w)) {
        esp_encoding_done(&e);
        return esp_fail(reterr, ESP_NOMEM, "a planning problem's columns");
    }
    mark_uses(&w);
    input_columns(&w);
    output_columns(&w);
    relu_columns(&w);
    for (int t = 0; t < horizon; t++) step_rows(&w, t);
    rate_rows(&w);
    value_rows(&w);
    halfspace_rows(&w);
    cut_rows(&w);
    avoid_rows(&w);
    soft_rows(&w);
    cost_rows(&w);
    tangent_rows(&w, tangents);
    ring_rows(&w);
    cutoff_row(&w);
    esp_code code = esp_lp_finish(&e.lp, reterr);
    if (code == ESP_OK)
        *ret_encoding = e;
    else
        esp_encoding_done(&e);
    return code;
}

esp_code esp_encode_tangents(const esp_problem *p, const esp_ranges *ranges, int horizon, esp_tangents *ret_tangents, esp_error *reterr) {
    static const double shares[] = {0.0, 0.25, 0.5, 0.75, 1.0};
    esp_tangents tangents = {0};
    bool ok = true;
    int square = 0;
    for (int c = 0; c < p->n_pieces; c++) {
        const esp_piece *piece = &p->pieces[c];
        if (piece->t >= horizon) continue;
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

void esp_encoding_tangent(esp_encoding *e, const esp_square *d, int row, double point) {
    esp_lp *lp = &e->lp;
    double square = d->scale * point * point, slope = 2.0 * d->scale * point, constant = slope * d->shift;
    esp_lp_set(lp, row, d->col, -slope);
    if (d->before >= 0) esp_lp_set(lp, row, d->before, slope);
    lp->row_lower[row] = -square - constant;
    lp->row_error[row] = DBL_EPSILON * (2.0 * fabs(constant) + 2.0 * square + fabs(lp->row_lower[row]));
}

void esp_encoding_faces(const esp_encoding *e, const double *predicted, double *x) {
    for (int f = 0; f < e->n_faces;) {
        int best = f, next = f;
        double most = -(double)INFINITY;
        for (; next < e->n_faces && e->faces[next].group == e->faces[f].group; next++) {
            double clear = e->faces[next].side * (predicted[e->faces[next].output] - e->faces[next].bound);
            x[e->faces[next].z] = 0.0;
            if (clear <= most) continue;
            most = clear;
            best = next;
        }
        x[e->faces[best].z] = 1.0;
        f = next;
    }
}

void esp_encoding_start(const esp_encoding *e, const esp_problem *p, const double *inputs, const double *predicted, const double *pre, double *x) {
    for (int q = 0; q < e->n_r; q++)
        if (e->a[q] >= 0) x[e->a[q]] = pre[q] > 0.0 ? 1.0 : 0.0;
    esp_encoding_faces(e, predicted, x);
    for (int t = 0; e->value && t < e->n_u / p->nu; t++) {
        const double *previous = esp_problem_rated(p, t) ? esp_problem_previous(p, inputs, t) : NULL;
        const double *value = esp_problem_nearest_value(p, inputs + t * p->nu, previous);
        for (int k = 0; k < p->task->n_values; k++) x[e->value[t] + k] = value == p->task->values + (size_t)k * (size_t)p->nu ? 1.0 : 0.0;
    }
}

double esp_square_at(const esp_square *square, const double *x) {
    return x[square->col] - (square->before >= 0 ? x[square->before] : 0.0) - square->shift;
}
