/* SPDX-License-Identifier: Apache-2.0
 * Eight expressions side by side: what substitution and concretisation do in kernels.h, for that many targets at once. Private to
 * lib/certify.
 *
 * The ReLUs of a level are bounded from the same earlier ones, so one pass over those serves eight of them. A row is short (the
 * inputs, the level before), lanes are always full: the vectors run across the targets. Column k of an array is its
 * ESP_LANES entries from k * ESP_LANES on. The arithmetic of a lane is that of one expression alone. */
#ifndef ESP_CERTIFY_TILE_H
#define ESP_CERTIFY_TILE_H

#include <stdint.h>
#include <string.h>

#include "certify/kernels.h"

#define ESP_LANES 8

/* Written as vectors, since a compiler that must keep every comparison's trap does not make them. Memory is that of doubles. */
typedef double esp_vector __attribute__((vector_size(ESP_LANES * sizeof(double)), aligned(sizeof(double)), may_alias));
typedef int64_t esp_mask __attribute__((vector_size(ESP_LANES * sizeof(double)), aligned(sizeof(double))));

/* Macros: how a function returns a vector depends on the machine. */
#define ESP_AT(at)           (*(esp_vector *)(at)) /* the lanes from *at on */
#define ESP_ABS(v)           ((esp_vector)((esp_mask)(v)&INT64_MAX))
#define ESP_KEEP(mask, v)    ((esp_vector)((mask) & (esp_mask)(v))) /* v where the mask is set, 0 elsewhere */
#define ESP_PICK(mask, v, w) ((esp_vector)(((mask) & (esp_mask)(v)) | (~(mask) & (esp_mask)(w))))

/* What the three streams of every lane are multiplied by, or add up to. */
typedef struct esp_lanes {
    esp_vector up, lo, mag;
} esp_lanes;

/* The constants of the expressions, and what they have come to. */
typedef struct esp_tile {
    esp_vector up, lo, mag; /* constants */
    esp_vector error;
    esp_vector best_up, best_lo;
} esp_tile;

/* The three streams over some variables. */
typedef struct esp_streams {
    double *up, *lo, *mag; /* n x ESP_LANES each */
} esp_streams;

/* Lane `lane` becomes the row (n) in all three streams. */
static inline void esp_tile_put(int n, const double *restrict row, int lane, esp_streams s) {
    for (int k = 0; k < n; k++) {
        size_t at = (size_t)k * ESP_LANES + (size_t)lane;
        s.up[at] = s.lo[at] = row[k];
        s.mag[at] = fabs(row[k]);
    }
}

/* Streams from variable `at` on. */
static inline esp_streams esp_tile_from(esp_streams s, int at) {
    size_t skip = (size_t)at * ESP_LANES;
    return (esp_streams){s.up + skip, s.lo + skip, s.mag + skip};
}

/* The streams of the first of some variables. */
static inline void esp_tile_first(esp_streams s, esp_lanes *ret) {
    *ret = (esp_lanes){ESP_AT(s.up), ESP_AT(s.lo), ESP_AT(s.mag)};
}

/* esp_add_row in every lane. */
static inline void esp_tile_add(int n, const esp_lanes *restrict a, const double *restrict row, esp_streams s) {
    const esp_vector up = a->up, lo = a->lo, mag = a->mag;
    for (int k = 0; k < n; k++) {
        double w = row[k], size = fabs(w);
        size_t at = (size_t)k * ESP_LANES;
        if (w == 0) continue;
        ESP_AT(s.up + at) += up * w;
        ESP_AT(s.lo + at) += lo * w;
        ESP_AT(s.mag + at) += mag * size;
    }
}

/* esp_concretise in every lane, added to what is in ret. */
static inline void esp_tile_concretise(int n, esp_streams s, const double *restrict mid, const double *restrict rad, const double *restrict big,
                                       esp_lanes *restrict ret) {
    esp_vector sum_up = ret->up, sum_lo = ret->lo, sum_mag = ret->mag;
    for (int k = 0; k < n; k++) {
        size_t at = (size_t)k * ESP_LANES;
        esp_vector up = ESP_AT(s.up + at), lo = ESP_AT(s.lo + at);
        sum_up += up * mid[k] + ESP_ABS(up) * rad[k];
        sum_lo += lo * mid[k] - ESP_ABS(lo) * rad[k];
        sum_mag += ESP_AT(s.mag + at) * big[k];
    }
    *ret = (esp_lanes){sum_up, sum_lo, sum_mag};
}

/* What the lanes have come to, from the sums over their variables. */
static inline void esp_tile_best(double gamma, const esp_lanes *sums, esp_tile *tile) {
    esp_vector error = (tile->error + gamma * (tile->mag + sums->mag)) * (1 + gamma);
    esp_vector up = tile->up + sums->up + error, lo = tile->lo + sums->lo - error;
    tile->best_up = ESP_PICK(up < tile->best_up, up, tile->best_up);
    tile->best_lo = ESP_PICK(lo > tile->best_lo, lo, tile->best_lo);
}

/* Has any lane a coefficient? */
static inline bool esp_tile_any(const double *mag) {
    int any = 0;
    for (int t = 0; t < ESP_LANES; t++) any |= mag[t] != 0;
    return any;
}

/* The two lines of one variable, in every lane: above is `above` times the argument plus over, below it `under` times plus
 * below. Puts what the argument is to be multiplied by in ret; a lane without the variable stays as it is, whatever its ranges. */
static inline void esp_tile_lines(double above, double over, double under, double below, const esp_lanes *c, esp_lanes *restrict ret,
                                  esp_tile *restrict tile) {
    const esp_vector zero = {0};
    esp_mask there = c->mag != zero, up = c->up >= zero, lo = c->lo >= zero;
    ret->up = ESP_KEEP(there, c->up * ESP_PICK(up, above + zero, under + zero));
    ret->lo = ESP_KEEP(there, c->lo * ESP_PICK(lo, under + zero, above + zero));
    esp_vector u = ESP_ABS(ret->up), l = ESP_ABS(ret->lo);
    ret->mag = ESP_PICK(u > l, u, l);
    esp_vector k_up = ESP_KEEP(there, c->up * ESP_PICK(up, over + zero, below + zero));
    esp_vector k_lo = ESP_KEEP(there, c->lo * ESP_PICK(lo, below + zero, over + zero));
    tile->up += k_up;
    tile->lo += k_lo;
    tile->mag += ESP_ABS(k_up) + ESP_ABS(k_lo);
}

/* The constants of a row times the lanes' factors. */
static inline void esp_tile_constant(const esp_lanes *a, double d0, esp_tile *tile) {
    tile->up += a->up * d0;
    tile->lo += a->lo * d0;
    tile->mag += a->mag * fabs(d0);
}

#endif
