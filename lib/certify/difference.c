/* SPDX-License-Identifier: Apache-2.0
 * The largest |f(x) - g(x)|, or |f(x)|, over a box: interval, CROWN, differences of neurons, then input splitting (split.h).
 * Not a splitter of ReLU phases, and not for many inputs that all matter: each split halves one input.
 *
 * Every box: CROWN on both networks for the ranges of their ReLUs, starting from the parent's, so that ReLUs that are stable
 * stay so for free; then, with two networks, the differences of paired ReLUs and the outputs through them.
 *
 * Which input. A split pays by shrinking the ranges of unstable ReLUs that matter. A ReLU, with its argument in [l, u] and two
 * lines g apart, costs the bound about w g, w the size of its coefficient; input k makes the share |slope of the argument in
 * x_k| width_k / (u - l) of its range. The input with the largest sum over ReLUs of w g times share is split, with the
 * coefficients of the output that is the largest (Linf) or of all, weighted by their size (L2). What an input does to the
 * bound linearly counts too: for L2 because the norm of a box is taken per output, for Linf lest an input that no relaxation
 * seems to rest on is never halved. For paired neurons the shares in both
 * pre-activations and in their difference count. */
#include "certify/difference.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "certify/crown.h"
#include "certify/kernels.h"
#include "certify/lowering.h"
#include "certify/rounding.h"
#include "certify/split.h"
#include "certify/twin.h"
#include "certify/two_norm.h"
#include "certify/witness.h"

#define ROOT_POINTS   64
#define BOX_STEPS     3
#define JOINT_OUTPUTS 3 /* bounded side by side with their directions */
#define PROMISING     0.8 /* of the best: a corner worth climbing from */

typedef struct search {
    const esp_program *program; /* f, or the difference program: ReLUs of f, then of g */
    esp_program *owned; /* that difference program */
    esp_program *slack; /* of the difference program; owned */
    int n_f; /* ReLUs of f */
    const esp_certify_opts *opts;
    esp_norm norm; /* the cheaper one of one output, where both are the same */
    const esp_stop *stop;
    esp_crown *crown;
    esp_twin *twin; /* NULL with one network */
    esp_ranges *ranges; /* of the box at hand */
    esp_ranges *scratch; /* of a witness */
    double *d_lower, *d_upper; /* n_f: of the differences in the box at hand */
    double *point_lower, *point_upper; /* n_f: at a witness */
    double *slopes, *d_slopes; /* n_r x n_x, n_f x n_x */
    double *weight; /* n_r: coefficients of r, or of D and r_g */
    double *score; /* n_x */
    double *linear; /* n_x: linear share of the outputs, L2 */
    double *pull; /* weights of the outputs in sums of them */
    double norm_2; /* that bound */
    double *corner; /* n_x */
    bool *matters; /* n_x: does the input reach anything? */
    bool *seen; /* n_y: bounded already in this box */
    bool use_twin; /* in the box at hand */
    bool intervals_only; /* the stop came before the box at hand was done */
    esp_witness witness;
    esp_split split;
} search;

/* ---- life -------------------------------------------------------------------------------------------------------- */

/* Does input k reach anything? */
static bool input_matters(const esp_program *program, int k) {
    for (int j = 0; j < program->n_r; j++)
        if (fabs(program->c[(size_t)j * (size_t)program->n_x + (size_t)k]) > 0) return true;
    for (int i = 0; i < program->n_y; i++)
        if (fabs(program->a[(size_t)i * (size_t)program->n_x + (size_t)k]) > 0) return true;
    return false;
}

static esp_code search_memory(search *s, esp_error *reterr) {
    const esp_program *p = s->program;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r, n_y = (size_t)p->n_y, n_f = (size_t)s->n_f;
    s->slopes = calloc((n_r + n_f) * n_x + n_r + 4 * n_f + 3 * n_x + (JOINT_OUTPUTS + ESP_TWO_NORM_DIRECTIONS) * n_y + 1, sizeof *s->slopes);
    s->matters = calloc(n_x + n_y + 1, sizeof *s->matters);
    if (!s->slopes || !s->matters) return esp_fail(reterr, ESP_NOMEM, "no memory to split %d inputs", p->n_x);
    s->d_slopes = s->slopes + n_r * n_x;
    s->weight = s->d_slopes + n_f * n_x;
    s->d_lower = s->weight + n_r;
    s->d_upper = s->d_lower + n_f;
    s->point_lower = s->d_upper + n_f;
    s->point_upper = s->point_lower + n_f;
    s->score = s->point_upper + n_f;
    s->linear = s->score + n_x;
    s->corner = s->linear + n_x;
    s->pull = s->corner + n_x;
    s->seen = s->matters + n_x;
    for (int k = 0; k < p->n_x; k++) s->matters[k] = input_matters(p, k);
    return ESP_OK;
}

static void bound_box(void *user, esp_split_box *box);

/* The difference program, its slack and the twin. */
static esp_code search_pair(search *s, const esp_program *f, const esp_program *g, const int *pairs, esp_error *reterr) {
    int *none = malloc(((size_t)f->n_r + 1) * sizeof *none);
    if (!none) return esp_fail(reterr, ESP_NOMEM, "no memory for %d ReLUs", f->n_r);
    for (int i = 0; i < f->n_r; i++) none[i] = -1;
    esp_code code = esp_program_difference(f, g, &s->owned, reterr);
    if (!code) code = esp_twin_create(f, g, pairs ? pairs : none, &s->twin, reterr);
    if (!code) code = esp_lowering_slack_difference(f, g, s->opts->slack_f, s->opts->slack_g, &s->slack, reterr);
    free(none);
    return code;
}

static esp_code search_init(search *s, const esp_program *f, const esp_program *g, const int *pairs, esp_error *reterr) {
    s->n_f = f->n_r;
    esp_code code = g ? search_pair(s, f, g, pairs, reterr) : ESP_OK;
    s->program = g ? s->owned : f;
    const esp_program *p = s->program;
    s->norm = f->n_y == 1 ? ESP_NORM_INF : s->opts->norm;
    if (!code) code = esp_crown_create(p, &s->crown, reterr);
    if (!code) code = esp_ranges_create(p->n_r, p->n_y, &s->ranges, reterr);
    if (!code) code = esp_ranges_create(p->n_r, p->n_y, &s->scratch, reterr);
    if (!code) code = esp_witness_init(&s->witness, p, s->norm, reterr);
    if (!code) code = search_memory(s, reterr);
    if (code) return code;
    esp_crown_watch(s->crown, s->slopes);
    esp_crown_stop(s->crown, s->stop);
    esp_crown_slack(s->crown, g ? s->slack : s->opts->slack_f);
    if (s->twin) esp_twin_watch(s->twin, s->d_slopes);
    if (s->twin && s->slack) esp_twin_loose(s->twin, s->crown);
    size_t n_state = 2 * (size_t)(p->n_r + p->n_y) + (s->twin ? 2 * (size_t)s->n_f : 0);
    s->split = (esp_split){.n_x = p->n_x, .n_state = n_state, .gap = s->opts->gap, .stop = s->stop, .bound = bound_box, .user = s};
    return esp_split_init(&s->split, s->opts->max_boxes, reterr);
}

static void search_done(search *s) {
    esp_crown_free(s->crown);
    esp_twin_free(s->twin);
    esp_program_free(s->owned);
    esp_program_free(s->slack);
    esp_ranges_free(s->ranges);
    esp_ranges_free(s->scratch);
    esp_witness_done(&s->witness);
    esp_split_done(&s->split);
    free(s->slopes);
    free(s->matters);
}

/* ---- what a box inherits ------------------------------------------------------------------------------------------ */

static void state_store(const search *s, double *at) {
    size_t n_r = (size_t)s->program->n_r, n_y = (size_t)s->program->n_y, n_f = (size_t)s->n_f;
    memcpy(at, s->ranges->p_lower, n_r * sizeof *at);
    memcpy(at + n_r, s->ranges->p_upper, n_r * sizeof *at);
    memcpy(at + 2 * n_r, s->ranges->y_lower, n_y * sizeof *at);
    memcpy(at + 2 * n_r + n_y, s->ranges->y_upper, n_y * sizeof *at);
    if (!s->twin) return;
    memcpy(at + 2 * (n_r + n_y), s->d_lower, n_f * sizeof *at);
    memcpy(at + 2 * (n_r + n_y) + n_f, s->d_upper, n_f * sizeof *at);
}

static void state_fetch(search *s, const double *at) {
    size_t n_r = (size_t)s->program->n_r, n_y = (size_t)s->program->n_y, n_f = (size_t)s->n_f;
    memcpy(s->ranges->p_lower, at, n_r * sizeof *at);
    memcpy(s->ranges->p_upper, at + n_r, n_r * sizeof *at);
    memcpy(s->ranges->y_lower, at + 2 * n_r, n_y * sizeof *at);
    memcpy(s->ranges->y_upper, at + 2 * n_r + n_y, n_y * sizeof *at);
    if (!s->twin) return;
    memcpy(s->d_lower, at + 2 * (n_r + n_y), n_f * sizeof *at);
    memcpy(s->d_upper, at + 2 * (n_r + n_y) + n_f, n_f * sizeof *at);
}

/* ---- one box ------------------------------------------------------------------------------------------------------ */

/* The coefficients that the last target left, of its upper or its lower side. */
typedef struct side {
    const double *x, *r, *g; /* n_x; n_f with twins, else n_r; n_g with twins */
} side;

static side last_side(const search *s, bool above) {
    if (s->use_twin) {
        esp_twin_view v = esp_twin_last(s->twin);
        return above ? (side){v.up_x, v.up_f, v.up_g} : (side){v.lo_x, v.lo_f, v.lo_g};
    }
    esp_crown_view v = esp_crown_last(s->crown);
    return above ? (side){v.up_x, v.up_r, NULL} : (side){v.lo_x, v.lo_r, NULL};
}

/* The weights of the ReLUs from the last target. */
static void take_weights(search *s, bool above) {
    side c = last_side(s, above);
    int n_r = s->program->n_r, n = s->use_twin ? s->n_f : n_r;
    for (int j = 0; j < n; j++) s->weight[j] = fabs(c.r[j]);
    for (int j = n; j < n_r; j++) s->weight[j] = fabs(c.g[j - n]);
    for (int k = 0; k < s->program->n_x; k++) s->linear[k] = fabs(c.x[k]);
}

/* The corner of the box that the linear bound of the last target points at, into s->corner. */
static void point_corner(search *s, const double *lower, const double *upper, bool above) {
    side c = last_side(s, above);
    for (int k = 0; k < s->program->n_x; k++) {
        bool high = above ? c.x[k] > 0 : c.x[k] < 0;
        s->corner[k] = high ? upper[k] : lower[k];
    }
}

static double output_size(const search *s, int i) {
    return esp_max(esp_abs(s->ranges->y_upper[i]), esp_abs(s->ranges->y_lower[i]));
}

static bool bound_output(search *s, int i) {
    if (s->use_twin) return esp_twin_output(s->twin, true, i, &s->ranges->y_lower[i], &s->ranges->y_upper[i]);
    return esp_crown_output(s->crown, ESP_CROWN_BACKWARD, i, s->ranges);
}

/* Linf: the outputs by their inherited size, largest first; those that cannot be the largest keep what they have. */
static bool bound_largest(search *s, const double *lower, const double *upper) {
    double worst = -1;
    int n_y = s->program->n_y;
    memset(s->seen, 0, (size_t)n_y * sizeof *s->seen);
    for (;;) {
        int next = -1;
        for (int i = 0; i < n_y; i++)
            if (!s->seen[i] && (next < 0 || output_size(s, i) > output_size(s, next))) next = i;
        if (next < 0 || output_size(s, next) <= worst) return true;
        s->seen[next] = true;
        if (!bound_output(s, next)) return false;
        if (output_size(s, next) <= worst) continue;
        worst = output_size(s, next);
        bool above = esp_abs(s->ranges->y_upper[next]) >= esp_abs(s->ranges->y_lower[next]);
        take_weights(s, above);
        point_corner(s, lower, upper, above);
    }
}

static bool outputs_known(const search *s) {
    for (int i = 0; i < s->program->n_y; i++)
        if (!(output_size(s, i) <= DBL_MAX)) return false;
    return true;
}

/* Bounds of sums of outputs, of rows of s->pull: first, when `outputs`, the outputs themselves, then n_d directions. */
static bool bound_sums(search *s, bool outputs, int n_d, double *ret_h) {
    double lower[ESP_TWIN_COMBINATIONS], upper[ESP_TWIN_COMBINATIONS];
    int n_y = s->program->n_y, first = outputs ? n_y : 0;
    if (!s->use_twin) {
        ret_h[0] = esp_crown_combination(s->crown, s->pull);
        return true;
    }
    esp_twin_combinations(s->twin, first + n_d, s->pull, lower, upper);
    memcpy(ret_h, upper + first, (size_t)n_d * sizeof *ret_h);
    bool some = true;
    for (int i = 0; some && i < first; i++) some = esp_intersect(lower[i], upper[i], &s->ranges->y_lower[i], &s->ranges->y_upper[i]);
    return some;
}

/* L2: all outputs and some sums of them, in one go where directions are known from the box around (two_norm.h). */
static bool bound_all(search *s, const double *lower, const double *upper) {
    int n_y = s->program->n_y, k;
    bool twin = s->use_twin, joint = twin && n_y <= JOINT_OUTPUTS && outputs_known(s);
    double *directions = s->pull + (joint ? (size_t)n_y * (size_t)n_y : 0), h[ESP_TWO_NORM_DIRECTIONS];
    esp_ranges *r = s->ranges;
    for (int i = 0; !joint && i < n_y; i++)
        if (!bound_output(s, i)) return false;
    for (int i = 0; joint && i < n_y * n_y; i++) s->pull[i] = i % (n_y + 1) == 0;
    int n_d = esp_two_norm_directions(n_y, twin, r->y_lower, r->y_upper, directions);
    if (!bound_sums(s, joint, n_d, h)) return false;
    s->norm_2 = esp_two_norm(n_y, r->y_lower, r->y_upper, n_d, directions, h, &k);
    if (twin) (void)esp_twin_lane(s->twin, k + (joint ? n_y : 0));
    take_weights(s, true);
    point_corner(s, lower, upper, true);
    return true;
}

/* Adds factor * slope_k / width to the scores, for an argument in [l, u]. */
static void add_share(search *s, double factor, const double *slopes, double l, double u) {
    double width = u - l;
    factor = factor / width;
    if (!isfinite(factor)) return;
    for (int k = 0; k < s->program->n_x; k++) s->score[k] += factor * slopes[k];
}

/* What ReLU j of the program (its difference, when paired) costs; adds its shares. Is it relaxed at all? */
static bool add_relu(search *s, int j) {
    size_t n_x = (size_t)s->program->n_x;
    bool unstable = s->ranges->p_lower[j] < 0 && s->ranges->p_upper[j] > 0;
    double gap = !s->use_twin ? esp_crown_gap(s->crown, j) : j < s->n_f ? esp_twin_gap_f(s->twin, j) : esp_twin_gap_g(s->twin, j - s->n_f);
    if (!(gap > 0) || !(s->weight[j] > 0)) return false;
    double factor = s->weight[j] * gap;
    if (unstable) add_share(s, factor, s->slopes + (size_t)j * n_x, s->ranges->p_lower[j], s->ranges->p_upper[j]);
    int partner = s->use_twin && j < s->n_f ? esp_twin_partner(s->twin, j) : -1;
    if (partner < 0) return true;
    partner += s->n_f;
    add_share(s, factor, s->d_slopes + (size_t)j * n_x, s->d_lower[j], s->d_upper[j]);
    if (s->ranges->p_lower[partner] < 0 && s->ranges->p_upper[partner] > 0)
        add_share(s, factor, s->slopes + (size_t)partner * n_x, s->ranges->p_lower[partner], s->ranges->p_upper[partner]);
    return true;
}

/* The input whose split should pay most; -1 when none can: nothing that the bound rests on is relaxed any more. */
static int choose_split(search *s, const double *lower, const double *upper) {
    int n_x = s->program->n_x;
    bool relaxed = s->norm == ESP_NORM_2 || s->intervals_only;
    for (int k = 0; k < n_x; k++) s->score[k] = s->linear[k];
    for (int j = 0; j < s->program->n_r; j++) relaxed |= add_relu(s, j);
    if (!relaxed) return -1;
    int best = esp_split_choose(n_x, s->matters, s->score, lower, upper);
    return best < 0 ? esp_split_choose(n_x, s->matters, NULL, lower, upper) : best;
}

static void open_differences(const search *s, double *lower, double *upper) {
    for (int i = 0; i < s->n_f; i++) {
        lower[i] = -HUGE_VAL;
        upper[i] = HUGE_VAL;
    }
}

/* What exact arithmetic reaches at the best point at least: over the point as a box everything is all but exact. */
static void raise_lower(search *s) {
    if (s->witness.best < 0) return;
    double reached = esp_witness_reached(&s->witness, s->crown, s->scratch);
    if (s->twin) { /* through the differences, which are known to more digits than what they are differences of */
        esp_twin_box(s->twin, s->witness.best_x, s->witness.best_x);
        open_differences(s, s->point_lower, s->point_upper);
        bool some = esp_twin_run(s->twin, s->scratch, false, s->point_lower, s->point_upper);
        for (int i = 0; some && i < s->program->n_y; i++) some = esp_twin_output(s->twin, false, i, &s->scratch->y_lower[i], &s->scratch->y_upper[i]);
        if (some) reached = esp_max(reached, esp_witness_least(&s->witness, s->scratch));
    }
    if (reached > s->split.lower) s->split.lower = reached;
}

static void look_around(search *s, const double *lower, const double *upper, int steps) {
    double before = s->witness.best;
    if (esp_witness_try(&s->witness, s->corner) > PROMISING * before) {
        memcpy(s->witness.x, s->corner, (size_t)s->program->n_x * sizeof(double));
        esp_witness_ascend(&s->witness, lower, upper, steps);
    }
    if (s->witness.best > before) raise_lower(s);
}

static double box_norm(const search *s) {
    double norm = esp_ranges_norm(s->ranges, s->norm);
    return s->norm == ESP_NORM_2 ? esp_min(norm, s->norm_2) : norm;
}

/* The ranges of all ReLUs and differences over the box that the crown stands at. */
static bool bound_inner(search *s) {
    if (!esp_crown_run(s->crown, ESP_CROWN_BACKWARD, 0, false, s->ranges)) return false;
    s->intervals_only = esp_stop_now(s->stop);
    return !s->use_twin || esp_twin_run(s->twin, s->ranges, !s->intervals_only, s->d_lower, s->d_upper);
}

static void bound_box(void *user, esp_split_box *box) {
    search *s = user;
    const double *lower = box->lower, *upper = box->upper;
    state_fetch(s, box->state);
    esp_crown_box(s->crown, lower, upper);
    if (s->use_twin) esp_twin_box(s->twin, lower, upper);
    bool some = bound_inner(s);
    if (some) some = s->norm == ESP_NORM_INF ? bound_largest(s, lower, upper) : bound_all(s, lower, upper);
    assert(some); /* ranges of an enclosing box are never empty here */
    double value = some ? box_norm(s) : HUGE_VAL;
    if (value < box->value) {
        box->value = value;
        box->letter = s->use_twin ? 'd' : 'c';
    }
    s->intervals_only = s->intervals_only || esp_stop_now(s->stop);
    box->axis = choose_split(s, lower, upper);
    look_around(s, lower, upper, BOX_STEPS);
    state_store(s, box->state);
}

/* ---- the certificates --------------------------------------------------------------------------------------------- */

static void add_row(const search *s, const char *method, double value, const char *status, int64_t start_ns, esp_certified *made) {
    made->rows[made->n++] = (esp_certificate){.kind = s->twin ? "difference" : "range",
                                              .method = method,
                                              .norm = s->opts->norm,
                                              .value = value,
                                              .strength = ESP_PROVED,
                                              .status = status,
                                              .seconds = esp_clock_seconds_since(start_ns)};
}

static bool bound_outputs(search *s, const esp_box *box) {
    return s->norm == ESP_NORM_INF ? bound_largest(s, box->lower, box->upper) : bound_all(s, box->lower, box->upper);
}

/* One bound of the whole box by intervals, in s->ranges. */
static double whole_interval(search *s, const esp_box *box, esp_certified *made) {
    int64_t start = esp_clock_now_ns();
    esp_ranges_open(s->ranges);
    esp_crown_box(s->crown, box->lower, box->upper);
    bool some = esp_crown_run(s->crown, ESP_CROWN_INTERVAL, 0, true, s->ranges);
    assert(some);
    (void)some;
    double value = esp_ranges_norm(s->ranges, s->norm);
    add_row(s, "interval", value, "proved", start, made);
    return value;
}

/* CROWN over the whole box, from what intervals left. */
static double whole_crown(search *s, const esp_box *box, double value, esp_certified *made) {
    int64_t start = esp_clock_now_ns();
    s->use_twin = false;
    bool some = bound_inner(s) && bound_outputs(s, box);
    assert(some);
    if (some) value = esp_min(value, box_norm(s));
    add_row(s, "crown", value, esp_stop_now(s->stop) ? "time_limit" : "proved", start, made);
    return value;
}

/* Through the differences, the ranges of the ReLUs being those of CROWN but the outputs' its own. */
static double whole_twin(search *s, const esp_box *box, esp_certified *made) {
    int64_t start = esp_clock_now_ns();
    for (int i = 0; i < s->program->n_y; i++) {
        s->ranges->y_lower[i] = -HUGE_VAL;
        s->ranges->y_upper[i] = HUGE_VAL;
    }
    s->use_twin = true;
    open_differences(s, s->d_lower, s->d_upper);
    esp_twin_box(s->twin, box->lower, box->upper);
    bool some = esp_twin_run(s->twin, s->ranges, !esp_stop_now(s->stop), s->d_lower, s->d_upper) && bound_outputs(s, box);
    assert(some);
    double value = some ? box_norm(s) : HUGE_VAL;
    add_row(s, "twin", value, esp_stop_now(s->stop) ? "time_limit" : "proved", start, made);
    return value;
}

static esp_code whole_split(search *s, const esp_box *box, double value, char letter, esp_certified *made, esp_error *reterr) {
    int64_t start = esp_clock_now_ns();
    double *state = malloc((s->split.n_state + 1) * sizeof *state);
    if (!state) return esp_fail(reterr, ESP_NOMEM, "no memory for a box");
    state_store(s, state);
    esp_crown_within(s->crown);
    if (s->twin) esp_twin_within(s->twin);
    esp_split_root(&s->split, box->lower, box->upper, state, value, letter);
    free(state);
    esp_rng rng;
    esp_rng_init(&rng, s->opts->seed, 0);
    esp_witness_sample(&s->witness, box->lower, box->upper, ROOT_POINTS, &rng, s->stop);
    raise_lower(s);
    const char *status = esp_split_run(&s->split);
    add_row(s, "split", esp_split_value(&s->split), status, start, made);
    if (!esp_split_tree(&s->split, &made->tree, &made->leaves)) esp_buf_clear(&made->tree);
    made->boxes = s->split.boxes;
    return ESP_OK;
}

esp_code esp_certify_check(const esp_program *program, const esp_box *box, const esp_certify_opts *opts, esp_error *reterr) {
    if (box->n != program->n_x) return esp_fail(reterr, ESP_INVALID, "the box has %d numbers, the program %d inputs", box->n, program->n_x);
    for (int k = 0; k < box->n; k++) {
        if (!isfinite(box->lower[k]) || !isfinite(box->upper[k]) || box->lower[k] > box->upper[k])
            return esp_fail(reterr, ESP_INVALID, "input %d of the box is not a finite interval", k);
    }
    if (!(opts->gap >= 0)) return esp_fail_at(reterr, ESP_INVALID, "/gap", "the gap must not be negative");
    return ESP_OK;
}

void esp_certified_done(esp_certified *certified) {
    free(certified->witness);
    certified->witness = NULL;
    esp_buf_done(&certified->tree);
}

esp_code esp_certify_difference(const esp_program *f, const esp_program *g, const int *pairs, const esp_box *box, const esp_certify_opts *opts,
                                const esp_stop *stop, esp_certified *ret_certified, esp_error *reterr) {
    search s = {.opts = opts, .stop = stop};
    esp_certified made = {0};
    esp_code code = esp_certify_check(f, box, opts, reterr);
    if (!code) code = search_init(&s, f, g, pairs, reterr);
    if (code) goto out;
    made.witness = malloc(((size_t)box->n + 1) * sizeof *made.witness);
    if (!made.witness) {
        code = esp_fail(reterr, ESP_NOMEM, "no memory for a witness");
        goto out;
    }
    double value = whole_crown(&s, box, whole_interval(&s, box, &made), &made);
    char letter = value < made.rows[0].value ? 'c' : 'i';
    if (s.twin) {
        double twin = whole_twin(&s, box, &made);
        if (twin < value) letter = 'd';
        value = esp_min(value, twin);
    }
    code = whole_split(&s, box, value, letter, &made, reterr);
    if (code) goto out;
    for (int i = 0; i < made.n; i++) made.rows[i].lower = s.split.lower;
    memcpy(made.witness, s.witness.best < 0 ? box->lower : s.witness.best_x, (size_t)box->n * sizeof *made.witness);
    *ret_certified = made;
    made = (esp_certified){0};
out:
    esp_certified_done(&made);
    search_done(&s);
    return code;
}

esp_code esp_certify_norm(const esp_program *program, const esp_box *box, const esp_certify_opts *opts, const esp_stop *stop, esp_certificate ret[3],
                          int *ret_n, double *ret_witness, esp_error *reterr) {
    esp_certified made = {0};
    esp_code code = esp_certify_difference(program, NULL, NULL, box, opts, stop, &made, reterr);
    if (code) return code;
    memcpy(ret, made.rows, 3 * sizeof *ret);
    *ret_n = made.n;
    if (ret_witness) memcpy(ret_witness, made.witness, (size_t)box->n * sizeof *ret_witness);
    esp_certified_done(&made);
    return ESP_OK;
}
