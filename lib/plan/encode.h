/* SPDX-License-Identifier: Apache-2.0
 * A planning problem as columns and rows: the model that the tree search and CBC both solve.
 *
 * One block per step, sparser than the unrolled program because y(t) are columns: with x(t) = [Y, U] of the step,
 *
 *     (pre)   r_q - w_q = C x + D r + d      p split into its positive part r >= 0 and its negative part w >= 0
 *     (dyn)   y(t+1) = A x + B r + c
 *
 * and, for a ReLU whose range l <= p <= u has l < 0 < u, one of
 *
 *     (knap)  r_q / u + w_q / -l <= 1        the triangle, in the relaxation: a phase is one column limit (w = 0 or r = 0)
 *     (big-M) r_q <= u a,  w_q <= -l (1 - a)   a binary: with (pre) this is eq. 11 of the sparse-dynamics paper,
 *                                             r <= p - l (1 - a), r >= p, r <= u a, r >= 0, with each dense row once
 *
 * An output that no cost, no limit, no ReLU and no later output in use depends on has neither column nor row. One with
 * l1 costs to one target g is a pair of columns, y = g + e - f with e, f >= 0 and the cost on both, which saves the
 * cost's own row. Where two outputs of a step have the same row of B (a position, and the same position seen from
 * elsewhere), the later one's (dyn) row is written as their difference, in which the ReLUs cancel exactly.
 *
 * A stable ReLU has no w (l >= 0) or no column at all (u <= 0). Cost: |v - g| by e+ - e- = v - g, the largest by its
 * epigraph, squares by tangents s >= 2 d0 d - d0^2, which lie below the square, so every bound stays a bound. Values,
 * boxes to avoid: binaries. A limit that the present violates is a column s >= a'y - b at each step, s >= 0, with the
 * penalty as its cost; for a box to avoid, s is what its faces may give way by. Ranges of y are limits of their columns. The columns are the same in number and order for
 * every set of ranges with the same ReLUs unstable and the same ones off. */
#ifndef ESP_PLAN_ENCODE_H
#define ESP_PLAN_ENCODE_H

#include "plan/lp.h"
#include "plan/tighten.h"

/* Rows per square for tangents where the plan lands, in the relaxed form: overwritten, so that the LP keeps its
 * size. At first they repeat a tangent in the middle. */
#define ESP_SPARE_TANGENTS 8

/* A (knap) row is written as if its smaller side were at least this share of the larger: looser, still valid, and without
 * entries so large that rounding shows. */
#define ESP_FACET_LEAST 1e-5

/* A squared component, v = (col) - (before) - shift, d = v - target folded into shift. */
typedef struct esp_square {
    int col, before; /* before -1: none */
    double shift; /* d = x[col] - x[before] - shift */
    int s; /* column of the square */
    double scale; /* of the rows of its tangents */
    int ring; /* relaxed form: first of ESP_SPARE_TANGENTS rows to be overwritten */
    double lower, upper; /* range of d */
} esp_square;

/* One way out of a box to avoid: z = 1 forces x[y] <= bound (side -1) or >= bound (side +1), give or take the slack of a
 * box that the present is inside of. */
typedef struct esp_face {
    int group; /* faces of one box at one step */
    int z, y, side;
    int output; /* y is the column of this one */
    double bound;
} esp_face;

/* Points at which squares have tangents; kept from one encoding to the next. */
typedef struct esp_tangents {
    int n, cap;
    int *square;
    double *point;
} esp_tangents;
void esp_tangents_done(esp_tangents *tangents);
bool esp_tangents_add(esp_tangents *tangents, int square, double point);

typedef struct esp_encoding {
    esp_lp lp;
    esp_arena *arena;
    int n_u, n_y, n_r; /* H * nu, H * ny, H * relus per step */
    int *u; /* columns */
    int *y, *y_minus; /* an output is x[y] - x[y_minus] + y_at; y -1: it has no column; y_minus -1: x[y] alone */
    double *y_at;
    int *r, *w, *a; /* columns of each ReLU, -1 where it has none */
    int *value; /* H: the first column of a step's choice among the values; NULL without values */
    int *knap; /* row, -1 where there is none */
    int n_soft; /* per step */
    int *soft; /* H * n_soft: the column of each limit that the present violates, -1 where it cannot be violated */
    int n_squares, n_faces;
    esp_square *squares;
    esp_face *faces;
    int binaries; /* unstable ReLUs */
    int n_cuts, *cut; /* rows of the problem's cuts over these steps */
    double *cut_most; /* their right sides */
    int cutoff_row; /* sum of the cost columns <= INFINITY; -1 in the big-M form */
} esp_encoding;

/* The first `horizon` steps (the problem's own, or fewer: what the later ones cost and forbid is left out, which only
 * relaxes). big_m false: the relaxation with (knap) rows and the cutoff row. Ranges as of esp_tighten, or tighter. */
ESP_MUST_CHECK esp_code esp_encode(const esp_problem *problem, const esp_ranges *ranges, int horizon, bool big_m, const esp_tangents *tangents,
                                   esp_encoding *ret_encoding, esp_error *reterr);
void esp_encoding_done(esp_encoding *encoding);
/* An output's range low <= high as limits of its columns, in arrays over all columns; widened by rounding at most. */
void esp_encoding_range(const esp_encoding *encoding, int output, double low, double high, double *lower, double *upper);

/* The marked columns of a plan, as values: phases of its ReLUs (pre: H * relus of p), faces it leaves boxes through,
 * values of its inputs (H x nu). x (n_cols) otherwise untouched: what CBC needs for a start. */
void esp_encoding_start(const esp_encoding *encoding, const esp_problem *problem, const double *inputs, const double *predicted, const double *pre,
                        double *x);
/* In each box's group the face that a prediction (H x ny) leaves it through most clearly: x[z] = 1 there, 0 elsewhere. */
void esp_encoding_faces(const esp_encoding *encoding, const double *predicted, double *x);

/* The first tangents of every square of the first `horizon` steps: ends, middle and quarters of its range. */
ESP_MUST_CHECK esp_code esp_encode_tangents(const esp_problem *problem, const esp_ranges *ranges, int horizon, esp_tangents *ret_tangents,
                                            esp_error *reterr);
/* Row `row` becomes the square's tangent at d = point: s >= 2 point d - point^2, scaled. A ring row of the relaxed form. */
void esp_encoding_tangent(esp_encoding *encoding, const esp_square *square, int row, double point);
/* d of a square at a point x (n_cols). */
double esp_square_at(const esp_square *square, const double *x);

#endif
