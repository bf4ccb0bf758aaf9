/* SPDX-License-Identifier: Apache-2.0
 * Functions of the plane with four linear pieces each, and how far a model is from one of them. No training here.
 *
 *     f(x) = a' x + c + b1 r1 + b2 r2,     r1 = max(0, w1' x + d1),     r2 = max(0, w2' x + d2 + e r1),     x in [-1, 1]^2
 *
 * two ReLUs, hence at most four pieces. SADDLE and VALLEY have e = 0, two straight lines that cross; SADDLE rises over one line and falls over
 * the other, VALLEY is convex. BENT is harder: its second line has a kink where it meets the first, so its ReLUs stand one after the other. */
#ifndef ESP_PAPER_PIECES_H
#define ESP_PAPER_PIECES_H

#include <stddef.h>

#include "net/program.h"

enum { ESP_PIECES_SADDLE, ESP_PIECES_VALLEY, ESP_PIECES_BENT, ESP_PIECES_FUNCTIONS };

typedef struct esp_pieces {
    const char *name;
    double a[2], c, b[2], w[2][2], d[2], e;
} esp_pieces;

extern const esp_pieces esp_pieces_functions[ESP_PIECES_FUNCTIONS];

/* f(x); *ret_piece (may be NULL): 0 .. 3, bit j set where r_j > 0; ret_slope (2, may be NULL): the gradient of that piece. */
double esp_pieces_value(const esp_pieces *f, const double x[2], int *ret_piece, double ret_slope[2]);

#define ESP_PIECES_GRID 201 /* points a side at which functions are compared */

/* How far a program (inputs y, u1, u2 with y unused; one output) is from f. All over the grid. */
typedef struct esp_pieces_distance {
    double rmse, largest; /* shares of f's range */
    double regions; /* share of the square in the wrong region: each of the model's regions counts for the piece that it shares most with */
    double slopes; /* root mean square distance of the gradients, a share of the largest step between two pieces of f */
    int n_regions; /* sets of ReLUs that are on, met on the grid */
} esp_pieces_distance;

/* NOMEM when the grid finds no room. */
ESP_MUST_CHECK esp_code esp_pieces_measure(const esp_pieces *f, const esp_program *program, esp_pieces_distance *ret_distance, esp_error *reterr);

#endif
