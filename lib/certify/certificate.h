/* SPDX-License-Identifier: Apache-2.0
 * A certificate: one bound, with everything needed to say what it means.
 *
 * strength: `proved`      rounding accounted for (outward rounding or a verified inequality)
 *           `solver`      holds up to the stated tolerance of an LP or MIP solver
 *           `statistical` with coverage and sample
 *           `empirical`   sampled; never called a bound
 * `lower` is what is known to be reached (a witness input evaluated), so that value/lower says how tight it is. */
#ifndef ESP_CERTIFY_CERTIFICATE_H
#define ESP_CERTIFY_CERTIFICATE_H

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "net/program.h"

/* Of the record that goes with a certificate, schema/formats/certificate.md. */
#define ESP_RECORD_VERSION 1

typedef enum esp_strength { ESP_PROVED, ESP_SOLVER, ESP_STATISTICAL, ESP_EMPIRICAL } esp_strength;
extern const char *const esp_strength_names[];

typedef enum esp_norm { ESP_NORM_2, ESP_NORM_INF } esp_norm;
extern const char *const esp_norm_names[]; /* "l2", "linf", NULL */

typedef struct esp_box {
    int n;
    double *lower, *upper; /* each n; finite, lower <= upper */
} esp_box;

/* Identity of the set: hash of its canonical JSON. */
void esp_box_hash(const esp_box *box, char ret_hex[ESP_HASH_HEX]);
/* {"lower":[..],"upper":[..]} of n numbers each, into the arena. */
ESP_MUST_CHECK esp_code esp_box_parse(const esp_reader *reader, int n, esp_arena *arena, esp_box *ret_box, esp_error *reterr);

typedef struct esp_certificate {
    const char *kind; /* "difference", "range", "lipschitz", static storage */
    const char *method; /* "interval", "crown", "twin", "split", "closed_form", ..., static storage */
    esp_norm norm;
    double value; /* the upper bound */
    double lower; /* reached by the witness; 0 when none is known */
    esp_strength strength;
    double tolerance; /* 0 for proved */
    const char *status; /* "proved", "time_limit", "box_limit", static storage */
    double seconds;
} esp_certificate;

#endif
