/* SPDX-License-Identifier: Apache-2.0
 * The simplex method on its dense tableau against Clp: random programs in the shape of a planning problem's (equality
 * rows in time order, each with columns of its own; inequalities; every column limited), solved again and again under
 * other limits, costs and entries, from bases that are set and come back to; looks ahead against the optimum that they lead to, and what
 * they leave behind. The tableau against one that is pivoted at once. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "plan/simplex.h"
#include "plan/tableau.h"
#include "support/clp.h"
#include "support/models.h"

typedef struct program {
    esp_lp lp;
    double *lower, *upper, *work; /* columns, columns, rows */
    int *inequality, n_inequalities;
} program;

/* `steps` times: two free columns, then equality rows x_own - x_also = mix of what came before. */
static void add_step(program *p, esp_rng *rng) {
    esp_lp *lp = &p->lp;
    for (int k = 0; k < 2; k++) (void)esp_lp_add_col(lp, esp_rng_normal(rng), -1, 1, false);
    for (int k = 0; k < 3; k++) {
        int before = lp->n_cols;
        int own = esp_lp_add_col(lp, esp_rng_below(rng, 2) ? 1 : 0, esp_rng_below(rng, 3) ? 0 : -2, 5, false);
        int also = esp_rng_below(rng, 3) ? esp_lp_add_col(lp, esp_rng_below(rng, 2) ? 1 : 0, 0, 5, false) : -1;
        double b = esp_rng_normal(rng);
        (void)esp_lp_add_row(lp, b, b);
        for (int j = 0; j < before; j++)
            if (esp_rng_below(rng, 3) == 0) esp_lp_put(lp, j, 0.5 * esp_rng_normal(rng));
        esp_lp_put(lp, own, 1);
        if (also >= 0) esp_lp_put(lp, also, -1);
    }
}

static void add_inequalities(program *p, esp_rng *rng) {
    esp_lp *lp = &p->lp;
    p->n_inequalities = 4 + (int)esp_rng_below(rng, 6);
    p->inequality = calloc((size_t)p->n_inequalities, sizeof *p->inequality);
    for (int k = 0; k < p->n_inequalities; k++) {
        double side = esp_rng_range(rng, 0, 4);
        p->inequality[k] = esp_lp_add_row(lp, k % 3 == 0 ? -side : -INFINITY, side);
        for (int j = 0; j < lp->n_cols; j++)
            if (esp_rng_below(rng, 4) == 0) esp_lp_put(lp, j, esp_rng_normal(rng));
    }
}

static program make_program(esp_rng *rng) {
    program p = {0};
    int steps = 1 + (int)esp_rng_below(rng, 5);
    for (int t = 0; t < steps; t++) add_step(&p, rng);
    add_inequalities(&p, rng);
    ck_assert_int_eq(esp_lp_finish(&p.lp, NULL), ESP_OK);
    p.lower = calloc((size_t)p.lp.n_cols, sizeof *p.lower);
    p.upper = calloc((size_t)p.lp.n_cols, sizeof *p.upper);
    p.work = calloc((size_t)p.lp.n_rows, sizeof *p.work);
    memcpy(p.lower, p.lp.col_lower, (size_t)p.lp.n_cols * sizeof *p.lower);
    memcpy(p.upper, p.lp.col_upper, (size_t)p.lp.n_cols * sizeof *p.upper);
    return p;
}

static void drop_program(program *p) {
    esp_lp_done(&p->lp);
    free(p->lower);
    free(p->upper);
    free(p->work);
    free(p->inequality);
}

/* Limits narrower than the LP's, some columns fixed. */
static void draw_limits(program *p, esp_rng *rng) {
    for (int j = 0; j < p->lp.n_cols; j++) {
        double low = p->lp.col_lower[j], high = p->lp.col_upper[j];
        p->lower[j] = low;
        p->upper[j] = high;
        uint64_t kind = esp_rng_below(rng, 6);
        if (kind == 0) p->upper[j] = p->lower[j] = low + (high - low) * (esp_rng_below(rng, 2) ? 0 : esp_rng_uniform(rng));
        if (kind == 1) p->upper[j] = low + (high - low) * (0.3 + 0.7 * esp_rng_uniform(rng));
    }
}

/* Multiplies an inequality's entries, as a facet's are changed. */
static void change_entries(program *p, esp_rng *rng, esp_simplex *s, clp *oracle) {
    int row = p->inequality[esp_rng_below(rng, (uint64_t)p->n_inequalities)];
    for (int k = p->lp.row_start[row]; k < p->lp.row_start[row + 1]; k++) {
        double value = p->lp.value[k] * (0.5 + esp_rng_uniform(rng));
        esp_lp_set(&p->lp, row, p->lp.col[k], value);
        clp_coefficient(oracle, row, p->lp.col[k], value);
    }
    esp_simplex_row(s, row);
}

/* Both solved; the same answer, and a bound that proves it. */
static void compare(program *p, esp_simplex *s, clp *oracle, const double *cost, bool primal, uint64_t seed, int round) {
    esp_simplex_cost(s, cost);
    esp_simplex_limits(s, p->lower, p->upper);
    clp_cost(oracle, cost);
    clp_limits(oracle, p->lower, p->upper);
    esp_simplex_status status = primal ? esp_simplex_primal(s, -INFINITY, 0, NULL) : esp_simplex_dual(s, NULL);
    clp_status other = clp_solve(oracle);
    unsigned long long n = seed;
    if (other == CLP_INFEASIBLE) {
        ck_assert_msg(status == ESP_SIMPLEX_INFEASIBLE, "seed %llu round %d: %d, Clp finds no point", n, round, status);
        double *zero = calloc((size_t)p->lp.n_cols, sizeof *zero);
        double bound = esp_lp_safe_bound(&p->lp, zero, p->lower, p->upper, esp_simplex_ray(s), p->work);
        ck_assert_msg(bound > -1e-7, "seed %llu round %d: the ray proves only %g", n, round, bound);
        free(zero);
        return;
    }
    if (other != CLP_OPTIMAL) return;
    double value = clp_value(oracle), slack = 1e-6 * (1 + fabs(value));
    ck_assert_msg(status == ESP_SIMPLEX_OPTIMAL, "seed %llu round %d: %d, Clp's optimum is %g", n, round, status, value);
    ck_assert_msg(fabs(esp_simplex_value(s) - value) <= slack, "seed %llu round %d: %.12g, Clp %.12g", n, round, esp_simplex_value(s), value);
    double bound = esp_lp_safe_bound(&p->lp, cost, p->lower, p->upper, esp_simplex_duals(s), p->work);
    ck_assert_msg(bound <= value + slack && bound >= value - slack, "seed %llu round %d: bound %.12g of %.12g", n, round, bound, value);
    const double *x = esp_simplex_solution(s);
    for (int j = 0; j < p->lp.n_cols; j++) ck_assert(x[j] >= p->lower[j] - 1e-6 && x[j] <= p->upper[j] + 1e-6);
}

START_TEST(simplex__finds_what_clp_finds) {
    seed_range range = seeds(60);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 5);
        program p = make_program(&rng);
        esp_simplex *s = NULL;
        clp *oracle = NULL;
        ck_assert_int_eq(esp_simplex_create(&p.lp, 1 << 16, &s, NULL), ESP_OK);
        oracle = clp_create(&p.lp);
        double *cost = calloc((size_t)p.lp.n_cols, sizeof *cost);
        unsigned char *basis = calloc(2, esp_simplex_basis_bytes(s)), *earlier = basis + esp_simplex_basis_bytes(s);
        esp_simplex_basis_get(s, earlier);
        for (int round = 0; round < 25; round++) {
            for (int j = 0; j < p.lp.n_cols; j++) cost[j] = round % 5 < 3 ? p.lp.cost[j] : esp_rng_below(&rng, 4) ? 0 : esp_rng_normal(&rng);
            if (round % 2 == 0) draw_limits(&p, &rng);
            if (round % 7 == 6) change_entries(&p, &rng, s, oracle);
            if (round % 4 == 3) esp_simplex_basis_set(s, earlier);
            compare(&p, s, oracle, cost, round % 5 == 4, seed, round);
            if (round % 3 == 0) esp_simplex_basis_get(s, earlier);
        }
        esp_simplex_free(s);
        clp_free(oracle);
        free(basis);
        free(cost);
        drop_program(&p);
    }
}
END_TEST

START_TEST(simplex__stops_past_its_limit) {
    seed_range range = seeds(30);
    int cut = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 6);
        program p = make_program(&rng);
        esp_simplex *s = NULL;
        ck_assert_int_eq(esp_simplex_create(&p.lp, 0, &s, NULL), ESP_OK);
        if (esp_simplex_dual(s, NULL) == ESP_SIMPLEX_OPTIMAL) {
            double value = esp_simplex_value(s);
            esp_simplex_limit(s, value - 0.1 * (1 + fabs(value)));
            esp_simplex_basis_set(s, (unsigned char[4096]){0}); /* nothing basic: mended */
            ck_assert_int_eq(esp_simplex_dual(s, NULL), ESP_SIMPLEX_CUT);
            double bound = esp_lp_safe_bound(&p.lp, p.lp.cost, p.lower, p.upper, esp_simplex_duals(s), p.work);
            ck_assert(bound > value - 0.1 * (1 + fabs(value)) - 1e-6 && bound <= value + 1e-6 * (1 + fabs(value)));
            cut++;
        }
        esp_simplex_free(s);
        drop_program(&p);
    }
    ck_assert_int_gt(cut, 0);
}
END_TEST

/* What looking ahead must not change. */
typedef struct state {
    double value, *solution, *duals;
    unsigned char *basis;
} state;

static state take_state(const program *p, esp_simplex *s) {
    size_t n = (size_t)p->lp.n_cols, m = (size_t)p->lp.n_rows;
    state now = {esp_simplex_value(s), calloc(n, sizeof(double)), calloc(m, sizeof(double)), calloc(n + m, 1)};
    memcpy(now.solution, esp_simplex_solution(s), n * sizeof(double));
    memcpy(now.duals, esp_simplex_duals(s), m * sizeof(double));
    esp_simplex_basis_get(s, now.basis);
    return now;
}

static void drop_state(state *s) {
    free(s->solution);
    free(s->duals);
    free(s->basis);
}

static void assert_same(const program *p, esp_simplex *s, const state *was) {
    state now = take_state(p, s);
    size_t n = (size_t)p->lp.n_cols, m = (size_t)p->lp.n_rows;
    ck_assert(now.value == was->value);
    ck_assert_mem_eq(now.solution, was->solution, n * sizeof(double));
    ck_assert_mem_eq(now.duals, was->duals, m * sizeof(double));
    ck_assert_mem_eq(now.basis, was->basis, n + m);
    drop_state(&now);
}

/* One look, and all that it says: it rises, to nothing above the optimum with the column fixed, proved by its duals or its ray. True: by
 * more than rounding. */
static bool check_look(program *p, esp_simplex *s, clp *oracle, int col, unsigned long long seed) {
    double was = p->upper[col], value = esp_simplex_value(s);
    esp_simplex_status status = esp_simplex_look(s, col);
    double reached = esp_simplex_value(s), slack = 1e-6 * (1 + fabs(reached));
    p->upper[col] = p->lower[col];
    clp_limits(oracle, p->lower, p->upper);
    clp_status other = clp_solve(oracle);
    double optimum = other == CLP_OPTIMAL ? clp_value(oracle) : other == CLP_INFEASIBLE ? INFINITY : NAN;
    if (status == ESP_SIMPLEX_INFEASIBLE) {
        double *zero = calloc((size_t)p->lp.n_cols, sizeof *zero),
               bound = esp_lp_safe_bound(&p->lp, zero, p->lower, p->upper, esp_simplex_ray(s), p->work);
        ck_assert_msg(!(optimum < INFINITY) && bound > -1e-7, "seed %llu column %d: infeasible by %g, Clp's optimum is %g", seed, col, bound,
                      optimum);
        free(zero);
    } else {
        double bound = esp_lp_safe_bound(&p->lp, p->lp.cost, p->lower, p->upper, esp_simplex_duals(s), p->work);
        ck_assert_msg(fabs(bound - reached) <= slack, "seed %llu column %d: reached %.12g, proved %.12g", seed, col, reached, bound);
        ck_assert_msg(reached >= value - slack, "seed %llu column %d: %.12g, from %.12g", seed, col, reached, value);
        ck_assert_msg(!(reached > optimum + slack), "seed %llu column %d: %.12g, Clp's optimum is %.12g", seed, col, reached, optimum);
        ck_assert_msg(status != ESP_SIMPLEX_OPTIMAL || !(reached < optimum - slack), "seed %llu column %d: optimal at %.12g, Clp's is %.12g", seed,
                      col, reached, optimum);
    }
    p->upper[col] = was;
    esp_simplex_back(s);
    return reached > value + slack;
}

START_TEST(simplex__looks_ahead_and_is_back) {
    seed_range range = seeds(60);
    int rose = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 8);
        program p = make_program(&rng);
        esp_simplex *s = NULL;
        ck_assert_int_eq(esp_simplex_create(&p.lp, 1 << 16, &s, NULL), ESP_OK);
        clp *oracle = clp_create(&p.lp);
        for (int round = 0; round < 5; round++) {
            draw_limits(&p, &rng);
            esp_simplex_limits(s, p.lower, p.upper);
            if (esp_simplex_dual(s, NULL) != ESP_SIMPLEX_OPTIMAL) continue;
            state was = take_state(&p, s);
            for (int col = 0; col < p.lp.n_cols; col++) {
                rose += check_look(&p, s, oracle, col, seed);
                assert_same(&p, s, &was);
            }
            drop_state(&was);
        }
        esp_simplex_free(s);
        clp_free(oracle);
        drop_program(&p);
    }
    ck_assert_int_gt(rose, (int)(range.last - range.first + 1));
}
END_TEST

/* One column reaches the row's limit but for less than the tolerance: feasible, so there is an optimum. */
START_TEST(simplex__takes_a_row_just_to_its_limit) {
    for (int k = 0; k < 2; k++) {
        esp_lp lp = {0};
        esp_simplex *s = NULL;
        (void)esp_lp_add_col(&lp, 1, 0, k ? 1 - 1e-6 : 1 - 5e-9, false);
        (void)esp_lp_add_row(&lp, 1, INFINITY);
        esp_lp_put(&lp, 0, 1);
        ck_assert_int_eq(esp_lp_finish(&lp, NULL), ESP_OK);
        ck_assert_int_eq(esp_simplex_create(&lp, 0, &s, NULL), ESP_OK);
        ck_assert_int_eq(esp_simplex_dual(s, NULL), k ? ESP_SIMPLEX_INFEASIBLE : ESP_SIMPLEX_OPTIMAL);
        if (k == 0) ck_assert_double_eq_tol(esp_simplex_value(s), 1, 1e-8);
        esp_simplex_free(s);
        esp_lp_done(&lp);
    }
}
END_TEST

/* The row can be met to within 1e-7 only by a column whose entry is too small to pivot on: that is no reason to stop. */
START_TEST(simplex__keeps_a_point_that_is_nearly_feasible) {
    esp_lp lp = {0};
    esp_simplex *s = NULL;
    (void)esp_lp_add_col(&lp, 1, 0, 1 - 1e-7, false);
    (void)esp_lp_add_col(&lp, 1, 0, 100, false);
    (void)esp_lp_add_row(&lp, 1, INFINITY);
    esp_lp_put(&lp, 0, 1);
    esp_lp_put(&lp, 1, 1e-8);
    ck_assert_int_eq(esp_lp_finish(&lp, NULL), ESP_OK);
    ck_assert_int_eq(esp_simplex_create(&lp, 0, &s, NULL), ESP_OK);
    ck_assert_int_eq(esp_simplex_dual(s, NULL), ESP_SIMPLEX_OPTIMAL);
    double work[1], bound = esp_lp_safe_bound(&lp, lp.cost, lp.col_lower, lp.col_upper, esp_simplex_duals(s), work);
    ck_assert(bound > 1 - 1e-6 && bound <= 11 - 1e-7); /* the optimum is 1 - 1e-7 + 10 */
    esp_simplex_free(s);
    esp_lp_done(&lp);
}
END_TEST

/* A pivot at once on every row: what the tableau puts off. Columns ld: the constants. */
static void naive_pivot(double *t, int m, int ld, int row, int col) {
    int width = ld + 1;
    double *p = t + row * width, inverse = 1 / p[col];
    for (int c = 0; c < width; c++) p[c] *= -inverse;
    p[col] = inverse;
    for (int i = 0; i < m; i++) {
        double *other = t + i * width, f = other[col];
        if (i == row) continue;
        other[col] = 0;
        for (int c = 0; c < width; c++) other[c] += f * p[c];
    }
}

static double largest_difference(esp_tableau *t, const double *twin) {
    double most = 0;
    for (int i = 0; i < t->m; i++) {
        for (int c = 0; c < t->width; c++) most = fmax(most, fabs(esp_tableau_row(t, i)[c] - twin[i * (t->ld + 1) + c]));
        most = fmax(most, fabs(t->constant[i] - twin[i * (t->ld + 1) + t->ld]));
    }
    return most;
}

/* The largest entry of a column that is drawn, so that no pivot is small. */
static bool draw_pivot(const esp_tableau *t, esp_rng *rng, double *column, int *ret_row, int *ret_col) {
    *ret_col = (int)esp_rng_below(rng, (uint64_t)t->width);
    *ret_row = 0;
    esp_tableau_column(t, *ret_col, column);
    for (int i = 1; i < t->m; i++)
        if (fabs(column[i]) > fabs(column[*ret_row])) *ret_row = i;
    return fabs(column[*ret_row]) > 0.1;
}

/* A tableau of its base, and rows to be pivoted along. */
typedef struct pivoting {
    esp_rng rng;
    program p;
    esp_tableau *t;
    double *column, *d; /* m, ld */
} pivoting;

/* In place: the tableau borrows the program. */
static void open_pivoting(pivoting *g, uint64_t seed, uint64_t stream) {
    esp_rng_init(&g->rng, seed, stream);
    g->p = make_program(&g->rng);
    ck_assert_int_eq(esp_tableau_create(&g->p.lp, 0, &g->t, NULL), ESP_OK);
    esp_tableau_make(g->t, true);
    esp_tableau_weigh(g->t);
    g->column = calloc((size_t)g->t->m, sizeof *g->column);
    g->d = aligned_alloc(64, (size_t)g->t->ld * sizeof *g->d);
    for (int c = 0; c < g->t->ld; c++) g->d[c] = esp_rng_normal(&g->rng);
}

static void close_pivoting(pivoting *g) {
    free(g->column);
    free(g->d);
    esp_tableau_free(g->t);
    drop_program(&g->p);
}

START_TEST(tableau__is_that_of_a_pivot_at_once) {
    seed_range range = seeds(60);
    int64_t pivots = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        pivoting g;
        open_pivoting(&g, seed, 7);
        esp_tableau *t = g.t;
        double *twin = calloc((size_t)t->m * (size_t)(t->ld + 1), sizeof *twin), most = 0;
        for (int i = 0; i < t->m; i++) {
            memcpy(twin + i * (t->ld + 1), esp_tableau_row(t, i), (size_t)t->ld * sizeof *twin);
            twin[i * (t->ld + 1) + t->ld] = t->constant[i];
        }
        for (int k = 0; k < 30; k++) {
            int row, col;
            if (!draw_pivot(t, &g.rng, g.column, &row, &col)) continue;
            for (int i = 0; i < t->m; i++) ck_assert_double_eq_tol(g.column[i], twin[i * (t->ld + 1) + col], 1e-7 * (1 + most));
            naive_pivot(twin, t->m, t->ld, row, col);
            esp_tableau_renew_row(t, row);
            esp_tableau_pivot(t, row, col, g.column, g.d, true);
            pivots++;
            for (int i = 0; i < t->m * (t->ld + 1); i++) most = fmax(most, fabs(twin[i]));
            for (int c = 0; c < t->width; c++) ck_assert_double_eq_tol(esp_tableau_row(t, row)[c], twin[row * (t->ld + 1) + c], 1e-7 * (1 + most));
            if (esp_rng_below(&g.rng, 12) > 0) continue;
            esp_tableau_settle(t);
            ck_assert_double_le(largest_difference(t, twin), 1e-7 * (1 + most));
        }
        esp_tableau_settle(t);
        ck_assert_double_le(largest_difference(t, twin), 1e-7 * (1 + most));
        free(twin);
        close_pivoting(&g);
    }
    ck_assert_int_gt(pivots, 20 * (int64_t)(range.last - range.first + 1));
}
END_TEST

START_TEST(tableau__is_back_where_it_was_marked) {
    seed_range range = seeds(60);
    int64_t pivots = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        pivoting g;
        open_pivoting(&g, seed, 9);
        esp_tableau *t = g.t;
        size_t entries = (size_t)t->m * (size_t)t->ld;
        double *was = calloc(entries + (size_t)t->m, sizeof *was);
        for (int k = 0; k < 20; k++) {
            int row, col;
            esp_tableau_mark(t);
            memcpy(was, t->t, entries * sizeof *was);
            memcpy(was + entries, t->constant, (size_t)t->m * sizeof *was);
            while (esp_tableau_open(t) && esp_rng_below(&g.rng, 12) > 0) {
                if (!draw_pivot(t, &g.rng, g.column, &row, &col)) continue;
                esp_tableau_renew_row(t, row);
                if (esp_rng_below(&g.rng, 4) == 0) continue; /* looked at and left */
                esp_tableau_pivot(t, row, col, g.column, g.d, true);
                pivots++;
            }
            esp_tableau_back(t);
            ck_assert_mem_eq(t->t, was, entries * sizeof *was);
            ck_assert_mem_eq(t->constant, was + entries, (size_t)t->m * sizeof *was);
            if (!draw_pivot(t, &g.rng, g.column, &row, &col)) continue;
            esp_tableau_renew_row(t, row);
            esp_tableau_pivot(t, row, col, g.column, g.d, true); /* marked somewhere else next */
        }
        free(was);
        close_pivoting(&g);
    }
    ck_assert_int_gt(pivots, 20 * (int64_t)(range.last - range.first + 1));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("prop_simplex");
    TCase *tc = tcase_create("clp");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, simplex__finds_what_clp_finds);
    tcase_add_test(tc, simplex__stops_past_its_limit);
    tcase_add_test(tc, simplex__keeps_a_point_that_is_nearly_feasible);
    tcase_add_test(tc, simplex__takes_a_row_just_to_its_limit);
    tcase_add_test(tc, simplex__looks_ahead_and_is_back);
    tcase_add_test(tc, tableau__is_that_of_a_pivot_at_once);
    tcase_add_test(tc, tableau__is_back_where_it_was_marked);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
