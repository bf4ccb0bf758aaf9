/* SPDX-License-Identifier: Apache-2.0
 * esp_relax over an encoding and a simplex. */
#include "plan/relax.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"

#define SHELF_BYTES ((size_t)1 << 27)
#define UNSEEN      2e-8 /* a tangent's row that a point misses by less is one that the simplex method does not see */

/* How the bound treats a column: an input (the region's range), half of a ReLU or of an output, or by its own limits. */
enum col_kind { COL_OTHER, COL_INPUT, COL_HALF };

struct esp_relax {
    const esp_problem *problem;
    esp_encoding e;
    esp_simplex *simplex;
    esp_arena *arena;
    unsigned char *kind; /* n_cols of col_kind */
    double *facet_lower, *facet_upper; /* n_r: what each facet was built from */
    double *aim; /* n_cols: the present objective */
    double *lower, *upper; /* n_cols: the present limits */
    double *dual; /* n_rows */
    double *step_cost; /* horizon */
    int horizon;
};

static bool allocate(esp_relax *relax) {
    const esp_lp *lp = &relax->e.lp;
    relax->arena = esp_arena_create(0);
    if (!relax->arena) return false;
    relax->kind = ESP_NEW(relax->arena, unsigned char, lp->n_cols + 1);
    relax->facet_lower = ESP_NEW(relax->arena, double, relax->e.n_r + 1);
    relax->facet_upper = ESP_NEW(relax->arena, double, relax->e.n_r + 1);
    relax->aim = ESP_NEW(relax->arena, double, lp->n_cols + 1);
    relax->lower = ESP_NEW(relax->arena, double, lp->n_cols + 1);
    relax->upper = ESP_NEW(relax->arena, double, lp->n_cols + 1);
    relax->dual = ESP_NEW(relax->arena, double, lp->n_rows + 1);
    relax->step_cost = ESP_NEW(relax->arena, double, relax->horizon);
    return relax->kind && relax->facet_lower && relax->facet_upper && relax->aim && relax->lower && relax->upper && relax->dual && relax->step_cost;
}

static void mark_columns(esp_relax *relax, const esp_ranges *root) {
    const esp_encoding *e = &relax->e;
    for (int k = 0; k < e->n_u; k++) relax->kind[e->u[k]] = COL_INPUT;
    for (int q = 0; q < e->n_r; q++) {
        if (e->r[q] >= 0) relax->kind[e->r[q]] = COL_HALF;
        if (e->w[q] >= 0) relax->kind[e->w[q]] = COL_HALF;
        relax->facet_lower[q] = root->p_lower[q];
        relax->facet_upper[q] = root->p_upper[q];
    }
    for (int k = 0; k < e->n_y; k++)
        if (e->y_minus[k] >= 0) relax->kind[e->y[k]] = relax->kind[e->y_minus[k]] = COL_HALF;
}

esp_code esp_relax_create(const esp_problem *problem, const esp_ranges *root, int horizon, esp_relax **ret_relax, esp_error *reterr) {
    esp_relax *relax = calloc(1, sizeof *relax);
    if (!relax) return esp_fail(reterr, ESP_NOMEM, "relaxation");
    relax->problem = problem;
    relax->horizon = horizon;
    esp_tangents tangents = {0};
    esp_code code = esp_encode_tangents(problem, root, horizon, &tangents, reterr);
    if (code == ESP_OK) code = esp_encode(problem, root, horizon, false, &tangents, &relax->e, reterr);
    esp_tangents_done(&tangents);
    if (code == ESP_OK && !allocate(relax)) code = esp_fail(reterr, ESP_NOMEM, "relaxation of %d ReLUs", relax->e.n_r);
    if (code == ESP_OK) code = esp_simplex_create(&relax->e.lp, horizon == problem->horizon ? SHELF_BYTES : 0, &relax->simplex, reterr);
    if (code != ESP_OK) {
        esp_relax_free(relax);
        return code;
    }
    mark_columns(relax, root);
    esp_relax_restore(relax);
    esp_relax_aim(relax, ESP_AIM_COST, 0, 1);
    *ret_relax = relax;
    return ESP_OK;
}

void esp_relax_free(esp_relax *relax) {
    if (!relax) return;
    esp_simplex_free(relax->simplex);
    esp_encoding_done(&relax->e);
    esp_arena_free(relax->arena);
    free(relax);
}

esp_simplex *esp_relax_simplex(esp_relax *relax) {
    return relax->simplex;
}

const esp_encoding *esp_relax_encoding(const esp_relax *relax) {
    return &relax->e;
}

void esp_relax_restore(esp_relax *relax) {
    size_t bytes = (size_t)relax->e.lp.n_cols * sizeof(double);
    memcpy(relax->lower, relax->e.lp.col_lower, bytes);
    memcpy(relax->upper, relax->e.lp.col_upper, bytes);
}

void esp_relax_output(esp_relax *relax, int k, double low, double high) {
    esp_encoding_range(&relax->e, k, low, high, relax->lower, relax->upper);
}

void esp_relax_faces(esp_relax *relax, const double *predicted) {
    esp_encoding_faces(&relax->e, predicted, relax->lower);
}

/* How far a square's column lies above the tangent in a row, scaled. */
static double above_tangent(const esp_relax *relax, int row, const double *z) {
    const esp_lp *lp = &relax->e.lp;
    double sum = -lp->row_lower[row];
    for (int k = lp->row_start[row]; k < lp->row_start[row + 1]; k++) sum += lp->value[k] * z[lp->col[k]];
    return sum;
}

/* The ring row that binds least at a point. To give up one that binds would lower the bound, and go in circles. */
static int idlest(const esp_relax *relax, const esp_square *square, const double *z) {
    int best = square->ring;
    double most = -INFINITY;
    for (int row = square->ring; row < square->ring + ESP_SPARE_TANGENTS; row++) {
        double above = above_tangent(relax, row, z);
        if (above <= most) continue;
        most = above;
        best = row;
    }
    return best;
}

int esp_relax_refine(esp_relax *relax, double least) {
    const double *z = esp_simplex_solution(relax->simplex);
    int n = 0;
    for (int k = 0; k < relax->e.n_squares; k++) {
        const esp_square *square = &relax->e.squares[k];
        double d = esp_square_at(square, z), below = d * d - z[square->s];
        if (square->scale * below <= UNSEEN || relax->e.lp.cost[square->s] * below <= least) continue;
        int row = idlest(relax, square, z);
        esp_encoding_tangent(&relax->e, square, row, d);
        esp_simplex_row(relax->simplex, row);
        n++;
    }
    return n;
}

void esp_relax_apply(esp_relax *relax, const esp_region *region) {
    const esp_encoding *e = &relax->e;
    double *lower = relax->lower, *upper = relax->upper;
    for (int q = 0; q < e->n_r; q++) {
        double l = region->p_lower[q], u = region->p_upper[q];
        if (e->r[q] >= 0) {
            lower[e->r[q]] = fmax(0, l);
            upper[e->r[q]] = fmax(0, u);
        }
        if (e->w[q] >= 0) {
            lower[e->w[q]] = fmax(0, -u);
            upper[e->w[q]] = fmax(0, -l);
        }
    }
    for (int k = 0; k < e->n_u; k++) {
        lower[e->u[k]] = region->u_lower[k];
        upper[e->u[k]] = region->u_upper[k];
    }
    esp_simplex_limits(relax->simplex, lower, upper);
}

void esp_relax_facet(esp_relax *relax, int q, double lower, double upper) {
    int row = relax->e.knap[q];
    if (row < 0 || (relax->facet_lower[q] == lower && relax->facet_upper[q] == upper)) return;
    double m = fmax(upper, -lower);
    relax->facet_lower[q] = lower;
    relax->facet_upper[q] = upper;
    lower = fmin(lower, -ESP_FACET_LEAST * m);
    upper = fmax(upper, ESP_FACET_LEAST * m);
    esp_lp_set(&relax->e.lp, row, relax->e.r[q], m / upper);
    esp_lp_set(&relax->e.lp, row, relax->e.w[q], m / -lower);
    relax->e.lp.row_upper[row] = m;
    esp_simplex_row(relax->simplex, row);
}

void esp_relax_aim(esp_relax *relax, esp_aim aim, int index, double sign) {
    const esp_encoding *e = &relax->e;
    size_t bytes = (size_t)e->lp.n_cols * sizeof(double);
    if (aim == ESP_AIM_COST)
        memcpy(relax->aim, e->lp.cost, bytes);
    else
        memset(relax->aim, 0, bytes);
    if (aim == ESP_AIM_P) {
        if (e->r[index] >= 0) relax->aim[e->r[index]] = sign;
        if (e->w[index] >= 0) relax->aim[e->w[index]] = -sign;
    }
    if (aim == ESP_AIM_U) relax->aim[e->u[index]] = sign;
    esp_simplex_cost(relax->simplex, relax->aim);
}

void esp_relax_cutoff(esp_relax *relax, double cutoff) {
    relax->e.lp.row_upper[relax->e.cutoff_row] = cutoff;
    esp_simplex_row(relax->simplex, relax->e.cutoff_row);
}

void esp_relax_cuts(esp_relax *relax, bool on) {
    esp_encoding *e = &relax->e;
    for (int k = 0; k < e->n_cuts; k++) {
        e->lp.row_upper[e->cut[k]] = on ? e->cut_most[k] : (double)INFINITY;
        esp_simplex_row(relax->simplex, e->cut[k]);
    }
}

/* ---- the proved bound -------------------------------------------------------------------------------------------- */

/* A sum, the sum of absolute values that its rounding is charged by, and what else is charged. */
typedef struct tally {
    double sum, size, charge;
} tally;

/* How many roundings any sum here has at most. */
static size_t roundings_of(const esp_lp *lp) {
    return (size_t)(lp->n_cols + lp->n_rows + 16);
}

#define SHRUNK 8 /* roundings */

/* Keeps the multipliers whose side of the row exists, facets left out, all a few roundings smaller: a column that costs something and is
 * in the basis, as the square of a wide range, then has a reduced cost that is above 0 for certain. Returns their constant part v'b. */
static tally clean_duals(esp_relax *relax, const double *duals) {
    const esp_lp *lp = &relax->e.lp;
    tally total = {0, 0, 0};
    double share = 1 - SHRUNK * esp_gamma(roundings_of(lp));
    for (int i = 0; i < lp->n_rows; i++) relax->dual[i] = share * duals[i];
    for (int q = 0; q < relax->e.n_r; q++)
        if (relax->e.knap[q] >= 0) relax->dual[relax->e.knap[q]] = 0;
    for (int i = 0; i < lp->n_rows; i++) {
        double v = relax->dual[i], side = v > 0 ? lp->row_lower[i] : lp->row_upper[i];
        if (v == 0) continue;
        if (!isfinite(side) || !isfinite(v)) {
            relax->dual[i] = 0;
            continue;
        }
        total.sum += v * side;
        total.size += fabs(v * side);
        total.charge += fabs(v) * lp->row_error[i];
    }
    return total;
}

/* d_j = cost_j - A_j'v; nothing for a column that is not there. */
static tally reduced(const esp_relax *relax, const double *cost, int col) {
    const esp_lp *lp = &relax->e.lp;
    tally d = {0, 0, 0};
    if (col < 0) return d;
    if (cost) d = (tally){cost[col], fabs(cost[col]), 0};
    for (int k = lp->col_start[col]; k < lp->col_start[col + 1]; k++) {
        double product = lp->col_value[k] * relax->dual[lp->row[k]];
        d.sum -= product;
        d.size += fabs(product);
    }
    return d;
}

/* What d is off by counts at the limit where it is least; where its sign is not certain, at either. */
static void add_single(const esp_relax *relax, tally *total, tally d, double lower, double upper) {
    bool certain = fabs(d.sum) > 2 * esp_gamma(roundings_of(&relax->e.lp)) * d.size;
    total->sum += d.sum > 0 ? d.sum * lower : d.sum * upper;
    total->size += d.size * (!certain ? esp_max(fabs(lower), fabs(upper)) : d.sum > 0 ? fabs(lower) : fabs(upper));
}

/* min of a max(0, p) + b max(0, -p) over lower <= p <= upper: linear on each side of 0, so at an end or at 0. */
static void add_graph(tally *total, tally plus, tally minus, double lower, double upper) {
    double at_lower = lower > 0 ? plus.sum * lower : -minus.sum * lower, at_upper = upper > 0 ? plus.sum * upper : -minus.sum * upper;
    double least = esp_min(at_lower, at_upper);
    if (lower < 0 && upper > 0) least = esp_min(least, 0);
    total->sum += least;
    total->size += plus.size * esp_max(0, upper) + minus.size * esp_max(0, -lower);
}

/* An output that is a pair of columns: its graph is a ReLU's. */
static void add_output(tally *total, const esp_relax *relax, const double *cost, int k) {
    const esp_lp *lp = &relax->e.lp;
    int plus = relax->e.y[k], minus = relax->e.y_minus[k];
    if (minus < 0) return;
    double lower = lp->col_lower[plus] > 0 ? lp->col_lower[plus] : -lp->col_upper[minus];
    double upper = lp->col_lower[minus] > 0 ? -lp->col_lower[minus] : lp->col_upper[plus];
    add_graph(total, reduced(relax, cost, plus), reduced(relax, cost, minus), lower, upper);
}

static double bound_of(esp_relax *relax, const double *cost, const esp_region *region, const double *duals) {
    const esp_encoding *e = &relax->e;
    const esp_lp *lp = &e->lp;
    tally total = clean_duals(relax, duals);
    for (int q = 0; q < e->n_r; q++)
        add_graph(&total, reduced(relax, cost, e->r[q]), reduced(relax, cost, e->w[q]), region->p_lower[q], region->p_upper[q]);
    for (int k = 0; k < e->n_y; k++) add_output(&total, relax, cost, k);
    for (int col = 0; col < lp->n_cols; col++)
        if (relax->kind[col] == COL_OTHER) add_single(relax, &total, reduced(relax, cost, col), lp->col_lower[col], lp->col_upper[col]);
    for (int k = 0; k < e->n_u; k++) add_single(relax, &total, reduced(relax, cost, e->u[k]), region->u_lower[k], region->u_upper[k]);
    size_t roundings = roundings_of(lp);
    double bound = total.sum - esp_round_up(total.size, roundings) * esp_gamma(roundings) - 1.001 * total.charge - ESP_TINY * (double)lp->nnz;
    return isnan(bound) ? -(double)INFINITY : bound;
}

double esp_relax_bound(esp_relax *relax, const esp_region *region, const double *duals) {
    return bound_of(relax, relax->aim, region, duals ? duals : esp_simplex_duals(relax->simplex));
}

/* A ray v whose bound of the zero cost is positive: nothing satisfies the rows. */
bool esp_relax_refuted(esp_relax *relax, const esp_region *region) {
    const double *ray = esp_simplex_ray(relax->simplex);
    return ray && bound_of(relax, NULL, region, ray) > 0;
}

/* ---- the LP's point ---------------------------------------------------------------------------------------------- */

double esp_relax_r(const esp_relax *relax, int q) {
    return relax->e.r[q] >= 0 ? esp_simplex_solution(relax->simplex)[relax->e.r[q]] : 0;
}

double esp_relax_w(const esp_relax *relax, int q) {
    return relax->e.w[q] >= 0 ? esp_simplex_solution(relax->simplex)[relax->e.w[q]] : 0;
}

double esp_relax_p(const esp_relax *relax, int q) {
    return esp_relax_r(relax, q) - esp_relax_w(relax, q);
}

void esp_relax_inputs(const esp_relax *relax, double *ret_u) {
    const double *z = esp_simplex_solution(relax->simplex);
    for (int k = 0; k < relax->e.n_u; k++) ret_u[k] = z[relax->e.u[k]];
}

/* The present value of what a piece's component k is on. */
static double component(const esp_relax *relax, const esp_piece *piece, int k, const double *z) {
    const esp_encoding *e = &relax->e;
    const esp_problem *p = relax->problem;
    int i = piece->index[k], at = piece->t * (piece->on == ESP_ON_Y ? p->ny : p->nu) + i;
    if (piece->on == ESP_ON_U) return z[e->u[at]];
    if (piece->on == ESP_ON_DU) return z[e->u[at]] - (piece->t > 0 ? z[e->u[at - p->nu]] : p->u_last[i]);
    return z[e->y[at]] - (e->y_minus[at] >= 0 ? z[e->y_minus[at]] : 0) + e->y_at[at];
}

int esp_relax_last_costly(const esp_relax *relax, double least) {
    const esp_problem *p = relax->problem;
    const double *z = esp_simplex_solution(relax->simplex);
    for (int t = 0; t < relax->horizon; t++) relax->step_cost[t] = 0;
    for (int at = 0; at < relax->horizon * p->n_softs; at++)
        relax->step_cost[at / p->n_softs] += relax->e.soft[at] >= 0 ? p->penalty * z[relax->e.soft[at]] : 0;
    for (int c = 0; c < p->n_pieces; c++) {
        const esp_piece *piece = &p->pieces[c];
        double most = 0, sum = 0;
        if (piece->t >= relax->horizon) continue;
        for (int k = 0; k < piece->n; k++) {
            if (!(piece->weight[k] > 0)) continue;
            double d = component(relax, piece, k, z) - piece->target[k], size = piece->weight[k] * (piece->norm == ESP_COST_L2SQ ? d * d : fabs(d));
            sum += size;
            most = fmax(most, size);
        }
        relax->step_cost[piece->t] += piece->norm == ESP_COST_LINF ? most : sum;
    }
    int last = relax->horizon - 1;
    while (last > 0 && relax->step_cost[last] <= least) last--;
    return last;
}

double esp_relax_penalty(esp_relax *relax, int q, bool on) {
    int col = on ? relax->e.w[q] : relax->e.r[q];
    return col < 0 ? 0 : esp_simplex_penalty(relax->simplex, col);
}

double esp_relax_look(esp_relax *relax, int q, bool on, const esp_region *region, double cutoff, bool *ret_closed) {
    esp_simplex *s = relax->simplex;
    esp_simplex_limit(s, cutoff);
    esp_simplex_status status = esp_simplex_look(s, on ? relax->e.w[q] : relax->e.r[q]);
    esp_simplex_limit(s, INFINITY);
    *ret_closed = (status == ESP_SIMPLEX_INFEASIBLE && esp_relax_refuted(relax, region)) ||
                  (status == ESP_SIMPLEX_CUT && esp_relax_bound(relax, region, NULL) >= cutoff);
    double value = esp_simplex_value(s);
    esp_simplex_back(s);
    return value;
}
