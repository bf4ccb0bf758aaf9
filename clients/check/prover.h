/* SPDX-License-Identifier: Apache-2.0
 * What claims.c, forever.c and product.c share: the models of a claim in affine forms, and loops of them step by step. Functions run
 * with the processor rounding upwards. */
#ifndef ESP_CHECK_PROVER_H
#define ESP_CHECK_PROVER_H

#include <float.h>
#include <math.h>

#include "check/check.h"

struct chk_prover {
    const chk_claim *claim; /* borrowed, as the models */
    const chk_model *f, *g, *dynamics; /* dynamics: of the loop; for a loss f itself */
    chk_space space;
    chk_pair *pair, *step; /* the models or policies; the dynamics */
    chk_triple x, u, y, free;
    chk_slopes *slopes;
    chk_constants *constants;
    double *layers; /* a closed form's constants on a box */
    bool forever; /* has been proved: steps that claim no less are too */
    double *blame; /* n_box */
    chk_range *ranges[3]; /* outputs of f, of g, and their difference */
    double eta;
};

static inline double chk_larger(double a, double b) {
    return a > b ? a : b;
}

/* The largest |number| of the range; what is not finite is infinite. */
static inline double chk_range_size(chk_range range) {
    double size = chk_larger(range.upper, -range.lower);
    return size <= DBL_MAX ? size : HUGE_VAL;
}

/* Which parts of which sides: `parts` doubles side after side until `most` pieces would be passed; how many there are. */
long chk_grid_parts(int n, const double *lower, const double *upper, long most, int *parts);
/* Piece `at` of the grid (n numbers, from 0) into piece_lower and piece_upper. Pieces side by side share their ends. */
void chk_grid_piece(int n, const double *lower, const double *upper, const int *parts, const int *at, double *piece_lower, double *piece_upper);
/* The next one; false after the last. */
bool chk_grid_next(int n, const int *parts, int *at);

/* A triple's row is a number in [lower, upper], the symbol's own, the same in both models. */
void chk_set_input(chk_prover *p, chk_triple *to, int row, int symbol, double lower, double upper);
/* Loops: from a box (n_box numbers), a step (from 0) into p->y, everything one step older. */
void chk_loop_begin(chk_prover *p, const double *lower, const double *upper);
void chk_loop_step(chk_prover *p, int k);
void chk_loop_shift(chk_prover *p);
/* What a term of the cost changes by at most, outputs within f and g and apart by d (a range an output each). */
double chk_term_change(const chk_term *term, const chk_range *f, const chk_range *g, const chk_range *d);

#endif
