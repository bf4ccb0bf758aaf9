/* SPDX-License-Identifier: Apache-2.0
 * espalier-check: proves a stored certificate again, from its record and the model files alone.
 *
 *     main.c      arguments, the search over the tree, the verdict     model.c    the model file (schema/formats/model.md)
 *     record.c    the certificate (schema/formats/certificate.md)      forms.c    affine forms, rounded by the processor
 *     network.c   networks and loops in affine forms                   slopes.c   Jacobians
 *     norms.c     norms of interval matrices                          claims.c   what each kind claims on a box
 *     forever.c   what holds of two loops for ever                    product.c  a planning loss step by step
 *
 * It shares no code with the library that made the certificate: it reads both formats itself, and where the prover charges a
 * rounding by an analysis, everything here is computed with the processor rounding upwards, lower ends as negated upper
 * ones. All numeric code must be compiled with -frounding-math and runs between chk_round_up and chk_round_nearest. */
#ifndef ESP_CHECK_H
#define ESP_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* ---- model.c ---- */

typedef struct chk_layer {
    int n_in, n_out;
    const double *w, *b; /* n_out x n_in, n_out */
    const unsigned char *act; /* n_out: 0 zero, 1 relu, 2 identity */
} chk_layer;

typedef struct chk_model {
    bool policy;
    int ny, nu, history, n_x, n_y; /* n_x, n_y: what the model takes and gives */
    int n_layers, n_v, n_f; /* n_v, n_f: what its network takes and gives */
    chk_layer layers[64];
    double *v, *k, *g; /* v = V x, y = K x + G f(v): n_v x n_x, n_y x n_x, n_y x n_f */
    char sha256[65]; /* of the file */
    void *memory[3];
} chk_model;

/* NULL with the reason in `why` (200 bytes). */
chk_model *chk_model_read(const char *path, char *why);
void chk_model_free(chk_model *model);
/* The whole file, malloc'ed; NULL with the reason. */
unsigned char *chk_file_read(const char *path, size_t most, size_t *ret_len, char *why);
void chk_sha256(const void *bytes, size_t len, char ret_hex[65]);

/* ---- record.c ---- */

typedef enum chk_kind { CHK_DIFFERENCE, CHK_RANGE, CHK_LIPSCHITZ, CHK_CLOSED_LOOP, CHK_PLANNING_LOSS, CHK_CLOSED_FORM } chk_kind;
typedef enum chk_cost { CHK_L1, CHK_LINF, CHK_L2SQ } chk_cost;

typedef struct chk_term {
    chk_cost norm;
    int first, last, n;
    int *index;
    double *weight, *target_lower, *target_upper; /* n each */
} chk_term;

typedef struct chk_claim {
    chk_kind kind;
    bool two_norm;
    double value, reached; /* reached: the row's `lower` */
    char model_sha256[65], reference_sha256[65], dynamics_sha256[65]; /* "" for none */
    int n_box; /* numbers of the box that the tree splits: the domain, and the inputs of a planning loss */
    double *lower, *upper; /* n_box */
    int n_domain;
    double *witness; /* n_box, or NULL */
    const char *tree; /* NULL: none */
    int leaves;
    double *out_lower, *out_upper; /* of a range, or NULL */
    int n_out;
    int steps; /* of a loop */
    double *radius; /* steps: of a closed loop, or the deviations of a planning loss */
    bool forever; /* of a closed loop: it holds in the set, at all steps, within the radius */
    bool stepwise; /* nothing is claimed of single steps of a closed loop; of a planning loss: proved from step to step */
    double forever_radius, *set_lower, *set_upper; /* n_domain */
    double eta;
    int n_terms;
    chk_term *terms;
    int n_layers;
    double *constants; /* n_layers: of a closed form */
    void *json;
} chk_claim;

/* 0, or 1 (the certificate contradicts itself) or 2 (it cannot be checked), with the reason in `why`. */
int chk_claim_read(const char *path, chk_claim *ret_claim, char *why);
void chk_claim_done(chk_claim *claim);

/* ---- forms.c ---- */

void chk_round_up(void);
void chk_round_nearest(void);
/* 0.5 * l + 0.5 * u to nearest, as the tree's boxes are halved; in any rounding mode. */
double chk_middle(double lower, double upper);

/* c + sum a_k s_k + [-e, e], s_k in [-1, 1]. */
typedef struct chk_form {
    double c, e;
    int n;
    double *a;
} chk_form;

typedef struct chk_space {
    int n, most;
    double *up, *down; /* most each: a sum in the making, upper ends and negated lower ends */
    double c_up, c_down, e;
    int used;
} chk_space;

typedef struct chk_range {
    double lower, upper;
} chk_range;

chk_form *chk_forms_create(int rows, int most); /* NULL when memory is out */
void chk_forms_free(chk_form *forms);
void chk_form_box(chk_space *space, chk_form *form, int symbol, double lower, double upper);
void chk_form_copy(chk_form *to, const chk_form *from);
void chk_form_zero(chk_form *form);
chk_range chk_form_range(const chk_form *form);
double chk_form_radius(const chk_form *form);
void chk_sum_begin(chk_space *space, double lower, double upper);
void chk_sum_add(chk_space *space, double w_lower, double w_upper, const chk_form *form);
void chk_sum_end(chk_space *space, chk_form *to, double noise);
/* The error of a form becomes a symbol. */
void chk_form_settle(chk_space *space, chk_form *form);
/* to = max(0, from), from within the range. */
void chk_form_relu(chk_space *space, const chk_form *from, chk_range range, chk_form *to);
/* to = w x + b (n numbers); to = a neuron's output, zero, relu or identity. */
void chk_form_row(chk_space *space, int n, const double *w, double b, const chk_form *x, chk_form *to);
void chk_form_activate(chk_space *space, int act, const chk_form *from, chk_range range, chk_form *to);

/* ---- network.c ---- */

/* A number in f, in g, and f's less g's. */
typedef struct chk_triple {
    chk_form *f, *g, *d; /* blocks of rows; g and d NULL for one model */
} chk_triple;

typedef struct chk_pair chk_pair;
chk_pair *chk_pair_create(chk_space *space, const chk_model *f, const chk_model *g); /* g may be NULL */
void chk_pair_free(chk_pair *pair);
void chk_pair_run(chk_pair *pair, const chk_triple *in, int first, chk_triple *out);
bool chk_triple_create(chk_triple *triple, int rows, int most, bool two);
void chk_triple_free(chk_triple *triple);
chk_range chk_triple_d(const chk_triple *triple, int i);
chk_range chk_triple_f(const chk_triple *triple, int i);
chk_range chk_triple_g(const chk_triple *triple, int i);

/* ---- slopes.c ---- */

/* An upper bound of the norm of df/dx over the box; `active` (n_x): inputs that vary. Infinite when nothing is known. */
typedef struct chk_slopes chk_slopes;
chk_slopes *chk_slopes_create(const chk_model *model);
void chk_slopes_free(chk_slopes *slopes);
double chk_slopes_norm(chk_slopes *slopes, const double *lower, const double *upper, bool two_norm);
/* df/dx itself (n_y x n_x), upper ends and negated lower ends; borrowed until the next. */
void chk_slopes_run(chk_slopes *slopes, const double *lower, const double *upper, const double **ret_up, const double **ret_down);

/* ---- norms.c ---- */

/* Upper bounds of the largest sum of a row and of the two-norm of an m x n matrix of intervals, of the columns that move (NULL: all). */
double chk_norm_rows(int m, int n, const double *up, const double *down, const bool *moves);
double chk_norm_2(int m, int n, const double *up, const double *down, const bool *moves);

void chk_interval_times(double a_up, double a_down, double b_up, double b_down, double *up, double *down); /* added to both */

/* ---- constants.c ---- */

typedef struct chk_constants chk_constants;
chk_constants *chk_constants_create(const chk_model *model);
void chk_constants_free(chk_constants *constants);
/* For every layer k, |f(x; W_k + D) - f(x)|_2 <= ret_c[k] |D|_2 on the box; blame (n_x) grows by what each input does to it. */
void chk_constants_run(chk_constants *constants, const double *lower, const double *upper, double *ret_c, double *blame);

/* ---- claims.c ---- */

typedef struct chk_limits {
    long boxes, boxes_most;
    double seconds_most;
    clock_t start;
} chk_limits;
/* "the most boxes" or "the time" when one of them is over, else NULL; counts a box. */
const char *chk_limits_over(chk_limits *limits);

typedef struct chk_prover chk_prover;
/* f, g, dynamics as the claim's kind needs them. NULL with the reason when they do not fit. */
chk_prover *chk_prover_create(const chk_claim *claim, const chk_model *f, const chk_model *g, const chk_model *dynamics, char *why);
void chk_prover_free(chk_prover *prover);
/* Does the claim hold on this part of its box? How far off it is otherwise, relative (1 or less: proved), and the input to halve. */
double chk_prove(chk_prover *prover, const double *lower, const double *upper, int *ret_axis);
/* Is `reached` reached at the witness? */
bool chk_prove_reached(chk_prover *prover);

/* What is left to do when the claim is no claim on parts of its box: in more and more pieces, within the limits. */
bool chk_prove_forever(chk_prover *prover, chk_limits *limits); /* forever.c */
bool chk_prove_stepwise(chk_prover *prover, chk_limits *limits); /* product.c */

#endif
