/* SPDX-License-Identifier: Apache-2.0
 * The dual and the primal simplex method on a dense tableau. */
#include "plan/simplex.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"
#include "plan/tableau.h"

#define FEASIBLE   1e-8 /* a basic variable may be outside its limits by this much */
#define NEARLY     1e-4 /* and by this much, when no pivot is left to move it with: the point is checked where it is used */
#define PRICE      1e-9 /* a reduced cost of this size has no sign */
#define ENTRY      1e-9 /* a smaller entry takes no part in a ratio test */
#define PIVOT      1e-6 /* a smaller pivot is avoided */
#define SAME_RATIO 1e-10
#define RESIDUAL   1e-6 /* x may miss a row by this share of its size before the tableau is made anew */
#define LONG_LIFE  400 /* pivots after which a tableau is made anew in any case */
#define STALLED    20 /* pivots of the dual method without a gain, after which costs are perturbed */
#define NUDGE      1e-6 /* by this share of the largest */
#define LOOK       16 /* pivots between two looks at the clock */

typedef struct candidate {
    int col;
    double ratio, size; /* of the row's entry */
} candidate;

struct esp_simplex {
    const esp_lp *lp;
    esp_tableau *t;
    esp_arena *arena;
    double *cost; /* n + m, zero for slacks */
    double *d; /* width: reduced costs of the nonbasic variables */
    double *side, *room; /* width: 1 at the lower limit, -1 at the upper, 0 fixed; from limit to limit */
    double *beta; /* m: values of the basic ones */
    double *row_lower, *row_upper; /* m: their limits */
    double *move; /* width: flips of a step, when there are many */
    double *column; /* m: entries of the nonbasic variable at hand */
    double *devex; /* width: weights of the primal method's prices */
    double *x, *dual;
    double *kept; /* before a look ahead: d, side, room, beta, row_lower, row_upper */
    unsigned char *kept_status; /* n + m */
    double kept_value, kept_upper; /* that of the column looked at */
    int looked_at;
    candidate *candidates;
    bool *barred; /* m: rows without a usable pivot, till the next one */
    double limit, value;
    bool made; /* the tableau is that of its statuses and of the LP's entries */
    bool nudged; /* d is of perturbed costs */
    bool doubted; /* its rounding was too large */
    int ray_row; /* of the last INFEASIBLE */
    double ray_sign;
};

static bool take(esp_simplex *s) {
    int m = s->t->m + 1, all = s->t->n + s->t->m + 1, ld = s->t->base_ld + 8;
    s->cost = ESP_NEW(s->arena, double, all);
    s->d = ESP_NEW(s->arena, double, ld);
    s->side = ESP_NEW(s->arena, double, ld);
    s->room = ESP_NEW(s->arena, double, ld);
    s->move = ESP_NEW(s->arena, double, ld);
    s->devex = ESP_NEW(s->arena, double, ld);
    s->column = ESP_NEW(s->arena, double, m + 8);
    s->beta = ESP_NEW(s->arena, double, m);
    s->row_lower = ESP_NEW(s->arena, double, m);
    s->row_upper = ESP_NEW(s->arena, double, m);
    s->kept = ESP_NEW(s->arena, double, 3 * (m + ld));
    s->kept_status = ESP_NEW(s->arena, unsigned char, all);
    s->x = ESP_NEW(s->arena, double, s->t->n + 1);
    s->dual = ESP_NEW(s->arena, double, m);
    s->candidates = ESP_NEW(s->arena, candidate, ld);
    s->barred = ESP_NEW(s->arena, bool, m);
    return s->cost && s->d && s->side && s->room && s->move && s->column && s->devex && s->kept && s->kept_status && s->beta && s->row_lower &&
           s->row_upper && s->x && s->dual && s->candidates && s->barred;
}

esp_code esp_simplex_create(const esp_lp *lp, size_t shelf_bytes, esp_simplex **ret_simplex, esp_error *reterr) {
    esp_simplex *s = calloc(1, sizeof *s);
    if (!s) return esp_fail(reterr, ESP_NOMEM, "a simplex method");
    *s = (esp_simplex){.lp = lp, .limit = (double)INFINITY, .ray_row = -1};
    esp_code code = esp_tableau_create(lp, shelf_bytes, &s->t, reterr);
    if (code == ESP_OK) {
        s->arena = esp_arena_create(0);
        if (!s->arena || !take(s)) code = esp_fail(reterr, ESP_NOMEM, "a linear program of %d columns and %d rows", lp->n_cols, lp->n_rows);
    }
    if (code != ESP_OK) {
        esp_simplex_free(s);
        return code;
    }
    memcpy(s->cost, lp->cost, (size_t)lp->n_cols * sizeof *s->cost);
    *ret_simplex = s;
    return ESP_OK;
}

void esp_simplex_free(esp_simplex *s) {
    if (!s) return;
    esp_tableau_free(s->t);
    esp_arena_free(s->arena);
    free(s);
}

void esp_simplex_limits(esp_simplex *s, const double *lower, const double *upper) {
    memcpy(s->t->lower, lower, (size_t)s->t->n * sizeof *lower);
    memcpy(s->t->upper, upper, (size_t)s->t->n * sizeof *upper);
}

void esp_simplex_cost(esp_simplex *s, const double *cost) {
    memcpy(s->cost, cost, (size_t)s->t->n * sizeof *cost);
}

void esp_simplex_row(esp_simplex *s, int row) {
    if (esp_tableau_changed(s->t, row)) s->made = false;
}

void esp_simplex_limit(esp_simplex *s, double value) {
    s->limit = value;
}

size_t esp_simplex_basis_bytes(const esp_simplex *s) {
    return (size_t)(s->t->n + s->t->m);
}

void esp_simplex_basis_get(const esp_simplex *s, unsigned char *ret_basis) {
    memcpy(ret_basis, s->t->status, esp_simplex_basis_bytes(s));
}

void esp_simplex_basis_set(esp_simplex *s, const unsigned char *basis) {
    size_t bytes = esp_simplex_basis_bytes(s);
    for (size_t v = 0; s->made && v < bytes; v++) s->made = (basis[v] == ESP_BASIC) == (s->t->status[v] == ESP_BASIC);
    memcpy(s->t->status, basis, bytes);
}

/* ---- state ------------------------------------------------------------------------------------------------------- */

static void ready(esp_simplex *s) {
    bool old = s->t->pivots >= LONG_LIFE;
    if (s->made && !old && !esp_tableau_outdated(s->t)) return;
    esp_tableau_make(s->t, old || s->doubted);
    s->made = true;
    s->doubted = false;
}

/* Reduced costs from scratch. */
static void price(esp_simplex *s, bool with_cost) {
    const esp_tableau *t = s->t;
    if (with_cost) esp_tableau_settle(s->t);
    for (int c = 0; c < t->ld; c++) s->d[c] = c < t->width && with_cost ? s->cost[t->col_var[c]] : 0.0;
    for (int i = 0; with_cost && i < t->m; i++) {
        double cost = s->cost[t->row_var[i]];
        const double *row = esp_tableau_row(t, i);
        for (int c = 0; cost != 0.0 && c < t->ld; c++) s->d[c] += cost * row[c];
    }
}

/* Each nonbasic variable to the limit that its reduced cost prefers. */
static void place(esp_simplex *s) {
    esp_tableau *t = s->t;
    for (int c = 0; c < t->width; c++) {
        if (s->d[c] > PRICE) t->status[t->col_var[c]] = ESP_AT_LOWER;
        if (s->d[c] < -PRICE) t->status[t->col_var[c]] = ESP_AT_UPPER;
    }
}

/* Limits that the row's variable must keep. One that only the columns imply is kept when they are. */
static void guard(esp_simplex *s, int row) {
    const esp_tableau *t = s->t;
    int v = t->row_var[row];
    bool slack = v >= t->n;
    s->row_lower[row] = slack && !isfinite(s->lp->row_lower[v - t->n]) ? -(double)INFINITY : t->lower[v];
    s->row_upper[row] = slack && !isfinite(s->lp->row_upper[v - t->n]) ? (double)INFINITY : t->upper[v];
}

/* Where the column's variable stands. */
static void stand(esp_simplex *s, int col) {
    const esp_tableau *t = s->t;
    int v = t->col_var[col];
    s->room[col] = t->upper[v] - t->lower[v];
    s->side[col] = s->room[col] > 0.0 ? t->status[v] == ESP_AT_UPPER ? -1.0 : 1.0 : 0.0;
}

/* Values of the basic variables and of the objective from scratch. */
static void evaluate(esp_simplex *s) {
    const esp_tableau *t = s->t;
    esp_tableau_settle(s->t);
    for (int c = 0; c < t->ld; c++) s->move[c] = c < t->width ? esp_tableau_limit(t, t->col_var[c]) : 0.0;
    for (int c = 0; c < t->width; c++) stand(s, c);
    for (int i = 0; i < t->m; i++) {
        const double *row = esp_tableau_row(t, i);
        double sum[8] = {0};
        for (int c = 0; c < t->ld; c += 8)
            for (int k = 0; k < 8; k++) sum[k] += row[c + k] * s->move[c + k];
        s->beta[i] = t->constant[i] + (((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])));
        guard(s, i);
    }
    s->value = 0.0;
    for (int v = 0; v < t->n; v++)
        if (s->cost[v] != 0.0) s->value += s->cost[v] * (t->at[v] >= 0 ? s->beta[t->at[v]] : esp_tableau_limit(t, v));
}

/* A column lies across all rows of the tableau: read once, it is at hand for the ratio test and the step. */
static void gather(esp_simplex *s, int col) {
    esp_tableau_column(s->t, col, s->column);
}

/* Moves the gathered column's variable. */
static void shift_column(esp_simplex *s, int col, double by) {
    double *restrict beta = s->beta;
    const double *restrict column = s->column;
    for (int i = 0; i < s->t->m; i++) beta[i] += column[i] * by;
    s->value += s->d[col] * by;
}

/* The gathered column's variable to its other limit. */
static void flip(esp_simplex *s, int col) {
    esp_tableau *t = s->t;
    int v = t->col_var[col];
    shift_column(s, col, t->status[v] == ESP_AT_UPPER ? -s->room[col] : s->room[col]);
    t->status[v] = t->status[v] == ESP_AT_UPPER ? ESP_AT_LOWER : ESP_AT_UPPER;
    stand(s, col);
}

/* Basic variable of `row` to one of its limits, the nonbasic one of the gathered column in. */
static void exchange(esp_simplex *s, int row, int col, bool to_upper, bool weigh) {
    esp_tableau *t = s->t;
    int out = t->row_var[row], in = t->col_var[col];
    esp_tableau_renew_row(t, row);
    double by = ((to_upper ? t->upper[out] : t->lower[out]) - s->beta[row]) / esp_tableau_row(t, row)[col];
    double entering = esp_tableau_limit(t, in) + by;
    shift_column(s, col, by);
    esp_tableau_pivot(t, row, col, s->column, s->d, weigh);
    s->beta[row] = entering;
    guard(s, row);
    t->status[in] = ESP_BASIC;
    t->status[out] = to_upper ? ESP_AT_UPPER : ESP_AT_LOWER;
    stand(s, col);
}

/* Takes x from the tableau. False when it misses the LP's rows by more than it should. */
static bool take_point(esp_simplex *s) {
    const esp_tableau *t = s->t;
    esp_tableau_settle(s->t);
    const esp_lp *lp = s->lp;
    double *x = s->x;
    for (int v = 0; v < t->n; v++) x[v] = t->at[v] >= 0 ? s->beta[t->at[v]] : esp_tableau_limit(t, v);
    for (int i = 0; i < t->m; i++) {
        double sum = 0.0, size = 1.0;
        for (int k = lp->row_start[i]; k < lp->row_start[i + 1]; k++) {
            sum += lp->value[k] * x[lp->col[k]];
            size += fabs(lp->value[k] * x[lp->col[k]]);
        }
        int slack = t->n + i;
        double is = t->own[i] >= 0 ? lp->row_lower[i] : t->at[slack] >= 0 ? s->beta[t->at[slack]] : esp_tableau_limit(t, slack);
        if (!(fabs(sum - is) <= RESIDUAL * size)) return false;
    }
    return true;
}

/* ---- dual -------------------------------------------------------------------------------------------------------- */

/* The row furthest outside for its length; -1: none. */
static int leaving(const esp_simplex *s) {
    int best = -1;
    double most = 0.0;
    for (int i = 0; i < s->t->m; i++) {
        double out = esp_max(s->row_lower[i] - s->beta[i], s->beta[i] - s->row_upper[i]);
        if (out <= FEASIBLE || s->barred[i]) continue;
        double score = out * out / (1.0 + s->t->weight[i]);
        if (score <= most) continue;
        most = score;
        best = i;
    }
    return best;
}

/* Nonbasic variables that can move the row's variable the way it must go; sign +1: up. */
static int collect(const esp_simplex *s, int row, double sign) {
    const double *entries = esp_tableau_row(s->t, row);
    int n = 0;
    for (int c = 0; c < s->t->width; c++) {
        double size = sign * s->side[c] * entries[c];
        if (size > ENTRY) s->candidates[n++] = (candidate){c, esp_max(0.0, s->side[c] * s->d[c]) / size, size};
    }
    return n;
}

/* Moves the next candidate, by ratio and then by size, to place k. */
static void select_next(candidate *list, int k, int n) {
    double least = (double)INFINITY;
    int best = k;
    for (int i = k; i < n; i++) least = esp_min(least, list[i].ratio);
    double size = -1.0;
    for (int i = k; i < n; i++) {
        if (list[i].ratio > least + SAME_RATIO || list[i].size <= size) continue;
        size = list[i].size;
        best = i;
    }
    candidate found = list[best];
    list[best] = list[k];
    list[k] = found;
}

typedef enum ratio_result { RATIO_FOUND, RATIO_NONE, RATIO_UNBOUNDED } ratio_result;

/* The long-step ratio test: how many candidates are flipped, and then which one enters. */
static ratio_result ratio_test(esp_simplex *s, double out, int n, int *ret_flips) {
    candidate *list = s->candidates;
    int k = 0;
    for (double slope = out;; k++) {
        if (k == n && slope > FEASIBLE) return RATIO_UNBOUNDED;
        if (k == n) break; /* all of them together take the row just to its limit: the last one enters, at its own */
        select_next(list, k, n);
        slope -= list[k].size * s->room[list[k].col];
        if (slope <= 0.0) break;
    }
    if (k == n) k--;
    while (k >= 0 && list[k].size < PIVOT) k--; /* an earlier one is as valid, only shorter */
    if (k < 0) return RATIO_NONE;
    *ret_flips = k;
    return RATIO_FOUND;
}

static void apply_flips(esp_simplex *s, int flips) {
    for (int k = 0; k < flips; k++) {
        gather(s, s->candidates[k].col);
        flip(s, s->candidates[k].col);
    }
}

static bool any_barred(const esp_simplex *s) {
    for (int i = 0; i < s->t->m; i++)
        if (s->barred[i]) return true;
    return false;
}

/* Many optimal bases with reduced costs of zero, and the dual method goes round among them: costs a little dearer, each by
 * another amount, on the side that its variable stands on, lead out. */
static void nudge(esp_simplex *s) {
    const esp_tableau *t = s->t;
    double largest = 0.0, share = 0.0;
    for (int v = 0; v < t->n; v++) largest = esp_max(largest, fabs(s->cost[v]));
    for (int c = 0; c < t->width; c++) {
        share += 0.6180339887498949;
        share -= floor(share);
        double by = NUDGE * largest * (1.0 + share);
        s->d[c] += t->status[t->col_var[c]] == ESP_AT_UPPER ? -by : by;
    }
    s->nudged = true;
}

/* The true costs again. */
static void settle(esp_simplex *s, bool with_cost) {
    price(s, with_cost);
    place(s);
    evaluate(s);
    s->nudged = false;
}

/* Until it ends, or a marked tableau takes no more. */
static esp_simplex_status dual_loop(esp_simplex *s, bool with_cost, double limit, const esp_stop *stop) {
    esp_tableau *t = s->t;
    int most = 200 + 5 * (t->m + t->width), stalled = 0;
    esp_tableau_weigh(t);
    memset(s->barred, 0, (size_t)t->m * sizeof *s->barred);
    s->nudged = false;
    for (int k = 0; k < most; k++) {
        if (s->value > limit && s->nudged) settle(s, with_cost);
        if (s->value > limit) return ESP_SIMPLEX_CUT;
        if (k % LOOK == LOOK - 1 && esp_stop_now(stop)) return ESP_SIMPLEX_STOPPED;
        int row = leaving(s), flips = 0;
        if (row < 0) return any_barred(s) ? ESP_SIMPLEX_STOPPED : ESP_SIMPLEX_OPTIMAL;
        if (!esp_tableau_open(t)) break;
        bool below = s->beta[row] < s->row_lower[row];
        double out = below ? s->row_lower[row] - s->beta[row] : s->beta[row] - s->row_upper[row], before = s->value;
        esp_tableau_renew_row(t, row);
        int n = collect(s, row, below ? 1.0 : -1.0);
        ratio_result found = ratio_test(s, out, n, &flips);
        if (found == RATIO_UNBOUNDED) {
            s->ray_row = row;
            s->ray_sign = below ? 1.0 : -1.0;
            return ESP_SIMPLEX_INFEASIBLE;
        }
        if (found == RATIO_NONE) {
            s->barred[row] = true;
            continue;
        }
        apply_flips(s, flips);
        gather(s, s->candidates[flips].col);
        exchange(s, row, s->candidates[flips].col, !below, true);
        memset(s->barred, 0, (size_t)t->m * sizeof *s->barred);
        stalled = s->value > before + 1e-12 * fabs(before) ? 0 : stalled + 1;
        if (stalled < STALLED || s->nudged) continue;
        nudge(s);
        evaluate(s);
    }
    return ESP_SIMPLEX_STOPPED;
}

/* What rounding kept from its limits is not worth losing the point for. */
static bool nearly_feasible(const esp_simplex *s) {
    for (int i = 0; i < s->t->m; i++)
        if (s->beta[i] < s->row_lower[i] - NEARLY || s->beta[i] > s->row_upper[i] + NEARLY) return false;
    return true;
}

static esp_simplex_status primal_loop(esp_simplex *s, double enough, double within, const esp_stop *stop);

/* What the value must pass. */
static double limit_of(const esp_simplex *s) {
    return s->limit + 1e-9 * fabs(s->limit);
}

esp_simplex_status esp_simplex_dual(esp_simplex *s, const esp_stop *stop) {
    esp_simplex_status status = ESP_SIMPLEX_STOPPED;
    for (int attempt = 0; attempt < 3; attempt++) {
        ready(s);
        price(s, true);
        place(s);
        evaluate(s);
        status = dual_loop(s, true, limit_of(s), stop);
        if (status == ESP_SIMPLEX_STOPPED && nearly_feasible(s)) status = ESP_SIMPLEX_OPTIMAL;
        if (s->nudged) {
            price(s, true);
            evaluate(s);
            if (status == ESP_SIMPLEX_OPTIMAL) status = primal_loop(s, -(double)INFINITY, 1e-7 * esp_max(1.0, fabs(s->value)), stop);
        }
        if (take_point(s)) return status;
        s->made = false;
        s->doubted = true;
    }
    return status == ESP_SIMPLEX_OPTIMAL ? ESP_SIMPLEX_STOPPED : status;
}

/* ---- looking ahead ----------------------------------------------------------------------------------------------- */

static void carry_state(esp_simplex *s, bool back) {
    size_t wide = (size_t)s->t->ld * sizeof(double), high = (size_t)s->t->m * sizeof(double);
    struct {
        double *at;
        size_t bytes;
    } parts[] = {{s->d, wide}, {s->side, wide}, {s->room, wide}, {s->beta, high}, {s->row_lower, high}, {s->row_upper, high}};
    unsigned char *kept = (unsigned char *)s->kept;
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        memcpy(back ? (void *)parts[k].at : kept, back ? kept : (void *)parts[k].at, parts[k].bytes);
        kept += parts[k].bytes;
    }
    memcpy(back ? s->t->status : s->kept_status, back ? s->kept_status : s->t->status, (size_t)(s->t->n + s->t->m));
}

/* The column's upper limit comes down to its lower one, its variable with it. */
static void fix(esp_simplex *s, int v) {
    esp_tableau *t = s->t;
    int at = t->at[v], col = -1 - at;
    s->looked_at = v;
    s->kept_upper = t->upper[v];
    if (at < 0 && at != ESP_TABLEAU_OUT && t->status[v] == ESP_AT_UPPER) {
        gather(s, col);
        flip(s, col);
    }
    t->upper[v] = t->lower[v];
    if (at >= 0) guard(s, at);
    if (at < 0 && at != ESP_TABLEAU_OUT) stand(s, col);
}

esp_simplex_status esp_simplex_look(esp_simplex *s, int col) {
    s->kept_value = s->value;
    carry_state(s, false);
    esp_tableau_mark(s->t);
    fix(s, col);
    return dual_loop(s, true, limit_of(s), NULL);
}

void esp_simplex_back(esp_simplex *s) {
    esp_tableau_back(s->t);
    carry_state(s, true);
    s->t->upper[s->looked_at] = s->kept_upper;
    s->value = s->kept_value;
}

double esp_simplex_penalty(esp_simplex *s, int col) {
    const esp_tableau *t = s->t;
    int row = t->at[col];
    if (row < 0) return 0.0;
    double slope = s->beta[row] - t->lower[col], gain = 0.0, at = 0.0;
    if (slope <= FEASIBLE) return 0.0;
    int n = collect(s, row, -1.0);
    candidate *list = s->candidates;
    for (int k = 0; slope > 0.0; k++) {
        if (k == n) return (double)INFINITY;
        select_next(list, k, n);
        gain += slope * (list[k].ratio - at);
        at = list[k].ratio;
        slope -= list[k].size * s->room[list[k].col];
    }
    return gain;
}

/* ---- primal ------------------------------------------------------------------------------------------------------ */

/* The column whose price gains most for its weight (Devex); *ret_off: no point is better by more than this. */
static int cheapest(const esp_simplex *s, double *ret_off) {
    int best = -1;
    double most = 0.0, off = 0.0;
    for (int c = 0; c < s->t->width; c++) {
        double gain = -s->side[c] * s->d[c];
        if (gain <= PRICE) continue;
        off += gain * s->room[c];
        if (gain * gain <= most * s->devex[c]) continue;
        most = gain * gain / s->devex[c];
        best = c;
    }
    *ret_off = off;
    return best;
}

/* How far the gathered column's variable may go, sign +1: up; the row that stops it, -1 when its own other limit does. */
static int stopping(const esp_simplex *s, int col, double sign, bool *ret_to_upper) {
    const esp_tableau *t = s->t;
    const double *restrict column = s->column, *restrict beta = s->beta, *restrict lower = s->row_lower, *restrict upper = s->row_upper;
    int best = -1, m = t->m;
    double room = s->room[col], longest = room, largest = ENTRY;
#pragma omp simd reduction(min : longest)
    for (int i = 0; i < m; i++) {
        double a = sign * column[i], end = a > 0.0 ? upper[i] + FEASIBLE : lower[i] - FEASIBLE, step = (end - beta[i]) / a;
        step = fabs(a) > ENTRY ? step : room;
        longest = esp_min(longest, step);
    }
    if (longest >= room) return -1;
    for (int i = 0; i < m; i++) {
        double a = sign * column[i];
        if (fabs(a) <= largest) continue;
        double end = a > 0.0 ? upper[i] : lower[i];
        if ((end - beta[i]) / a > longest) continue;
        largest = fabs(a);
        best = i;
        *ret_to_upper = a > 0.0;
    }
    return best;
}

static bool feasible(const esp_simplex *s) {
    for (int i = 0; i < s->t->m; i++)
        if (s->beta[i] < s->row_lower[i] - FEASIBLE || s->beta[i] > s->row_upper[i] + FEASIBLE) return false;
    return true;
}

/* After an exchange in `row`: weights in the frame of where the method began. */
static void weigh_columns(esp_simplex *s, int row, int col) {
    const double *restrict entries = esp_tableau_row(s->t, row);
    double *restrict devex = s->devex, weight = devex[col], own = esp_max(1.0, weight * entries[col] * entries[col]);
    for (int c = 0; c < s->t->width; c++) devex[c] = esp_max(devex[c], entries[c] * entries[c] * weight);
    devex[col] = own;
}

static esp_simplex_status primal_loop(esp_simplex *s, double enough, double within, const esp_stop *stop) {
    esp_tableau *t = s->t;
    int most = 100 + 3 * (t->m + t->width);
    for (int c = 0; c < t->width; c++) s->devex[c] = 1.0;
    for (int k = 0; k < most; k++) {
        double off;
        if (k % LOOK == LOOK - 1 && esp_stop_now(stop)) return ESP_SIMPLEX_STOPPED;
        if (s->value <= enough) return ESP_SIMPLEX_CUT;
        int col = cheapest(s, &off);
        if (col < 0 || off <= within) return ESP_SIMPLEX_OPTIMAL;
        bool to_upper = false;
        gather(s, col);
        int row = stopping(s, col, t->status[t->col_var[col]] == ESP_AT_LOWER ? 1.0 : -1.0, &to_upper);
        if (row < 0) {
            flip(s, col);
            continue;
        }
        exchange(s, row, col, to_upper, false);
        weigh_columns(s, row, col);
    }
    return ESP_SIMPLEX_STOPPED;
}

esp_simplex_status esp_simplex_primal(esp_simplex *s, double enough, double within, const esp_stop *stop) {
    esp_simplex_status status = ESP_SIMPLEX_STOPPED;
    for (int attempt = 0; attempt < 2; attempt++) {
        ready(s);
        price(s, false);
        evaluate(s);
        status = feasible(s) ? ESP_SIMPLEX_OPTIMAL : dual_loop(s, false, (double)INFINITY, stop);
        if (status == ESP_SIMPLEX_OPTIMAL) {
            price(s, true);
            evaluate(s);
            status = primal_loop(s, enough, within, stop);
        }
        if (take_point(s)) return status;
        s->made = false;
        s->doubted = true;
    }
    return status == ESP_SIMPLEX_OPTIMAL ? ESP_SIMPLEX_STOPPED : status;
}

/* ---- what comes out ---------------------------------------------------------------------------------------------- */

double esp_simplex_value(const esp_simplex *s) {
    return s->value;
}

const double *esp_simplex_solution(const esp_simplex *s) {
    return s->x;
}

/* A reduced-cost vector: of nonbasic variables scale * d, of the basic variable of one row `of_row`, of others 0. */
typedef struct reduced {
    const double *d;
    double scale;
    int row;
    double of_row;
} reduced;

static double reduced_of(const esp_tableau *t, const reduced *r, int var) {
    int at = t->at[var];
    if (at >= 0) return at == r->row ? r->of_row : 0.0;
    return r->scale * r->d[-1 - at];
}

/* See tableau.h: row by row from the last. */
static const double *multipliers(esp_simplex *s, const double *cost, const reduced *r) {
    const esp_tableau *t = s->t;
    const esp_lp *lp = s->lp;
    for (int i = t->m - 1; i >= 0; i--) {
        if (t->own[i] < 0) {
            s->dual[i] = reduced_of(t, r, t->n + i);
            continue;
        }
        int k = t->at[t->own[i]] != ESP_TABLEAU_OUT ? t->own[i] : t->also[i];
        double sum = (cost ? cost[k] : 0.0) - reduced_of(t, r, k), own = 1.0;
        for (int e = lp->col_start[k]; e < lp->col_start[k + 1]; e++) {
            if (lp->row[e] == i)
                own = lp->col_value[e];
            else
                sum -= lp->col_value[e] * s->dual[lp->row[e]];
        }
        s->dual[i] = sum / own;
    }
    return s->dual;
}

const double *esp_simplex_duals(esp_simplex *s) {
    reduced r = {s->d, 1.0, -1, 0.0};
    return multipliers(s, s->cost, &r);
}

const double *esp_simplex_ray(esp_simplex *s) {
    if (s->ray_row < 0) return NULL;
    reduced r = {esp_tableau_row(s->t, s->ray_row), -s->ray_sign, s->ray_row, s->ray_sign};
    return multipliers(s, NULL, &r);
}
