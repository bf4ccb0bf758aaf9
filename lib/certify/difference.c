/* SPDX-License-Identifier: Apache-2.0
 * The largest |program(x)| over a box: interval, CROWN, then input splitting, best first and anytime. Not a splitter of
 * ReLU phases, and not for many inputs that all matter: each split halves one input.
 *
 * An open box carries a proved upper bound, the ranges of its ReLUs (a child starts from its parent's, so ReLUs that
 * are stable stay so for free) and the input to split next. The bound of the whole is the largest over open boxes and
 * over those put away: boxes whose bound is within the gap of what a witness reaches, and boxes that no split can
 * improve. At every moment it is a bound, so the search may stop at any.
 *
 * Which input. A split pays by shrinking the pre-activation ranges of unstable ReLUs that matter. ReLU j, with range
 * [l, u], costs the bound about w_j = |coefficient of r_j| * (-l u / (u - l)); input k makes the share
 * |slope of p_j in x_k| width_k / (u - l) of its range. The input with the largest sum_j w_j share_jk is split, with the
 * coefficients of the output that is the largest (Linf) or of all, weighted by their size (L2, which also gains from
 * splits of inputs that act linearly, since the norm of a box is taken per output). */
#include "certify/difference.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "certify/crown.h"
#include "certify/rounding.h"
#include "certify/witness.h"

#define POOL_BYTES  ((size_t)64 << 20) /* of boxes held, whatever max_boxes says */
#define ROOT_POINTS 64
#define BOX_STEPS   3
#define PROMISING   0.8 /* of the best: a corner worth climbing from */

typedef struct search {
    const esp_program *program;
    const esp_certify_opts *opts;
    const esp_stop *stop;
    esp_crown *crown;
    esp_ranges *ranges; /* of the box at hand */
    esp_ranges *scratch; /* of a witness */
    double *slopes; /* n_r x n_x */
    double *weight; /* n_r: w_j without the gap */
    double *linear; /* n_x: linear share of the output, L2 */
    double *pull; /* n_y: weights of the outputs in the bound of their squares */
    double norm_2; /* that bound */
    double *corner; /* n_x */
    bool *matters; /* n_x: does the input reach anything? */
    bool *seen; /* n_y: bounded already in this box */
    bool intervals_only; /* the stop came before the box at hand was done */
    esp_witness witness;
    double lower; /* reached, certified */
    double aside; /* largest bound among boxes put away */
    size_t stride; /* doubles per box: lower, upper, p_lower, p_upper, y_lower, y_upper */
    int capacity, n_free, n_heap;
    double *pool, *upper; /* capacity x stride, capacity */
    int *split, *spare, *heap; /* capacity each */
} search;

/* ---- life -------------------------------------------------------------------------------------------------------- */

static esp_code search_pool(search *s, esp_error *reterr) {
    size_t n_x = (size_t)s->program->n_x, n_r = (size_t)s->program->n_r, n_y = (size_t)s->program->n_y;
    s->stride = 2 * (n_x + n_r + n_y);
    size_t most = POOL_BYTES / (s->stride * sizeof(double)), boxes = (size_t)(s->opts->max_boxes > 2 ? s->opts->max_boxes : 2);
    if (boxes > most) boxes = most > 2 ? most : 2;
    s->capacity = (int)boxes;
    s->pool = malloc(boxes * s->stride * sizeof *s->pool);
    s->upper = malloc(boxes * sizeof *s->upper);
    s->split = malloc(3 * boxes * sizeof *s->split);
    if (!s->pool || !s->upper || !s->split) return esp_fail(reterr, ESP_NOMEM, "no memory for %zu boxes", boxes);
    s->spare = s->split + boxes;
    s->heap = s->spare + boxes;
    for (int i = 0; i < s->capacity; i++) s->spare[i] = i;
    s->n_free = s->capacity;
    return ESP_OK;
}

/* Does input k reach anything? */
static bool input_matters(const esp_program *program, int k) {
    for (int j = 0; j < program->n_r; j++)
        if (fabs(program->c[(size_t)j * (size_t)program->n_x + (size_t)k]) > 0) return true;
    for (int i = 0; i < program->n_y; i++)
        if (fabs(program->a[(size_t)i * (size_t)program->n_x + (size_t)k]) > 0) return true;
    return false;
}

static esp_code search_init(search *s, const esp_program *program, const esp_certify_opts *opts, const esp_stop *stop, esp_error *reterr) {
    size_t n_x = (size_t)program->n_x, n_r = (size_t)program->n_r;
    *s = (search){.program = program, .opts = opts, .stop = stop};
    esp_code code = esp_crown_create(program, &s->crown, reterr);
    if (!code) code = esp_ranges_create(program->n_r, program->n_y, &s->ranges, reterr);
    if (!code) code = esp_ranges_create(program->n_r, program->n_y, &s->scratch, reterr);
    if (!code) code = esp_witness_init(&s->witness, program, opts->norm, reterr);
    if (code) return code;
    s->slopes = calloc(n_r * n_x + n_r + 2 * n_x + (size_t)program->n_y + 1, sizeof *s->slopes);
    if (!s->slopes) return esp_fail(reterr, ESP_NOMEM, "no memory to split %d inputs", program->n_x);
    s->weight = s->slopes + n_r * n_x;
    s->linear = s->weight + n_r;
    s->corner = s->linear + n_x;
    s->pull = s->corner + n_x;
    s->matters = calloc(n_x + (size_t)program->n_y + 1, sizeof *s->matters);
    if (!s->matters) return esp_fail(reterr, ESP_NOMEM, "no memory to split %d inputs", program->n_x);
    s->seen = s->matters + n_x;
    for (int k = 0; k < program->n_x; k++) s->matters[k] = input_matters(program, k);
    esp_crown_watch(s->crown, s->slopes);
    esp_crown_stop(s->crown, stop);
    return search_pool(s, reterr);
}

static void search_done(search *s) {
    esp_crown_free(s->crown);
    esp_ranges_free(s->ranges);
    esp_ranges_free(s->scratch);
    esp_witness_done(&s->witness);
    free(s->slopes);
    free(s->matters);
    free(s->pool);
    free(s->upper);
    free(s->split);
}

/* ---- the open boxes: a heap on the upper bound -------------------------------------------------------------------- */

static double *box_lower(search *s, int box) {
    return s->pool + (size_t)box * s->stride;
}

static double *box_upper(search *s, int box) {
    return box_lower(s, box) + s->program->n_x;
}

static double *box_ranges(search *s, int box) {
    return box_upper(s, box) + s->program->n_x;
}

static void ranges_store(const esp_ranges *ranges, double *at) {
    size_t n_r = (size_t)ranges->n_r, n_y = (size_t)ranges->n_y;
    memcpy(at, ranges->p_lower, n_r * sizeof *at);
    memcpy(at + n_r, ranges->p_upper, n_r * sizeof *at);
    memcpy(at + 2 * n_r, ranges->y_lower, n_y * sizeof *at);
    memcpy(at + 2 * n_r + n_y, ranges->y_upper, n_y * sizeof *at);
}

static void ranges_fetch(const double *at, esp_ranges *ranges) {
    size_t n_r = (size_t)ranges->n_r, n_y = (size_t)ranges->n_y;
    memcpy(ranges->p_lower, at, n_r * sizeof *at);
    memcpy(ranges->p_upper, at + n_r, n_r * sizeof *at);
    memcpy(ranges->y_lower, at + 2 * n_r, n_y * sizeof *at);
    memcpy(ranges->y_upper, at + 2 * n_r + n_y, n_y * sizeof *at);
}

static void heap_push(search *s, int box) {
    int i = s->n_heap++;
    for (; i > 0 && s->upper[s->heap[(i - 1) / 2]] < s->upper[box]; i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = box;
}

static int heap_pop(search *s) {
    int top = s->heap[0], last = s->heap[--s->n_heap], i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child + 1 < s->n_heap && s->upper[s->heap[child + 1]] > s->upper[s->heap[child]]) child++;
        if (child >= s->n_heap || s->upper[s->heap[child]] <= s->upper[last]) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* ---- one box ------------------------------------------------------------------------------------------------------ */

/* The weights of the ReLUs for output i, whose larger side is `above`; added with a factor. */
static void add_weights(search *s, double factor, bool above) {
    esp_crown_view view = esp_crown_last(s->crown);
    const double *r = above ? view.up_r : view.lo_r, *x = above ? view.up_x : view.lo_x;
    for (int j = 0; j < s->program->n_r; j++) s->weight[j] += factor * fabs(r[j]);
    for (int k = 0; k < s->program->n_x; k++) s->linear[k] += factor * fabs(x[k]);
}

/* The corner of the box that the linear bound of the largest output points at, into s->corner. */
static void point_corner(search *s, const double *lower, const double *upper, bool above) {
    esp_crown_view view = esp_crown_last(s->crown);
    for (int k = 0; k < s->program->n_x; k++) {
        bool high = above ? view.up_x[k] > 0 : view.lo_x[k] < 0;
        s->corner[k] = high ? upper[k] : lower[k];
    }
}

static double output_size(const search *s, int i) {
    return esp_max(esp_abs(s->ranges->y_upper[i]), esp_abs(s->ranges->y_lower[i]));
}

/* Bounds output i; what the crown then holds is of the side that is the larger. */
static bool bound_output(search *s, int i, bool *ret_above) {
    if (!esp_crown_output(s->crown, ESP_CROWN_BACKWARD, i, s->ranges)) return false;
    *ret_above = esp_abs(s->ranges->y_upper[i]) >= esp_abs(s->ranges->y_lower[i]);
    return true;
}

/* Linf: the outputs by their inherited size, largest first; those that cannot be the largest keep what they have. */
static bool bound_largest(search *s, const double *lower, const double *upper) {
    double worst = -1;
    int n_y = s->program->n_y;
    memset(s->seen, 0, (size_t)n_y * sizeof *s->seen);
    for (;;) {
        int next = -1;
        bool above;
        for (int i = 0; i < n_y; i++)
            if (!s->seen[i] && (next < 0 || output_size(s, i) > output_size(s, next))) next = i;
        if (next < 0 || output_size(s, next) <= worst) return true;
        s->seen[next] = true;
        if (!bound_output(s, next, &above)) return false;
        if (output_size(s, next) <= worst) continue;
        worst = output_size(s, next);
        memset(s->weight, 0, (size_t)s->program->n_r * sizeof *s->weight);
        add_weights(s, 1, above);
        point_corner(s, lower, upper, above);
    }
}

/* L2: all outputs, then their squares together. On [l, u] a square lies below its chord, y^2 <= w y + k with w = l + u and
 * k = max(l^2 - w l, u^2 - w u) (for any w), so |y|^2 <= sum k + max sum w y: one linear functional, in which the outputs
 * may no longer be at their ends all at once. */
static bool bound_all(search *s, const double *lower, const double *upper) {
    int n_y = s->program->n_y;
    double constant = 0, size = 0;
    for (int i = 0; i < n_y; i++) {
        if (!esp_crown_output(s->crown, ESP_CROWN_BACKWARD, i, s->ranges)) return false;
        double l = s->ranges->y_lower[i], u = s->ranges->y_upper[i], w = l + u;
        s->pull[i] = w;
        constant += esp_max(l * l - w * l, u * u - w * u);
        size += l * l + u * u + fabs(w) * esp_max(fabs(l), fabs(u));
    }
    double square = esp_crown_combination(s->crown, s->pull) + constant + esp_gamma((size_t)n_y + 8) * size + 8 * n_y * ESP_TINY;
    s->norm_2 = square >= 0 ? esp_round_up(sqrt(esp_round_up(square, 4)), 1) : HUGE_VAL;
    add_weights(s, 1, true);
    point_corner(s, lower, upper, true);
    return true;
}

/* Bounds the outputs over the box that the crown stands at; leaves the weights and the corner of the worst. */
static bool bound_outputs(search *s, const double *lower, const double *upper) {
    memset(s->weight, 0, (size_t)s->program->n_r * sizeof *s->weight);
    memset(s->linear, 0, (size_t)s->program->n_x * sizeof *s->linear);
    return s->opts->norm == ESP_NORM_INF ? bound_largest(s, lower, upper) : bound_all(s, lower, upper);
}

/* The largest score times width among the inputs that can be halved, -1 when all are 0; a NULL score counts as 1. */
static int choose_largest(const search *s, const double *score, const double *lower, const double *upper) {
    int best = -1;
    double best_value = 0;
    for (int k = 0; k < s->program->n_x; k++) {
        double middle = 0.5 * lower[k] + 0.5 * upper[k], value = (score ? score[k] : 1) * (upper[k] - lower[k]);
        if (!(middle > lower[k] && middle < upper[k]) || !(value > best_value) || !s->matters[k]) continue;
        best_value = value;
        best = k;
    }
    return best;
}

/* The input whose split should pay most; -1 when none can: nothing that the bound rests on is relaxed any more. */
static int choose_split(search *s, const double *lower, const double *upper) {
    int n_x = s->program->n_x;
    double *score = s->linear; /* for Linf a linear share cannot be split away */
    bool relaxed = s->opts->norm == ESP_NORM_2 || s->intervals_only;
    if (s->opts->norm == ESP_NORM_INF) memset(score, 0, (size_t)n_x * sizeof *score);
    for (int j = 0; j < s->program->n_r; j++) {
        double width = s->ranges->p_upper[j] - s->ranges->p_lower[j], gap = esp_crown_gap(s->crown, j);
        if (!(gap > 0) || !(s->weight[j] > 0)) continue;
        relaxed = true;
        double factor = s->weight[j] * gap / width;
        if (!isfinite(factor)) factor = s->weight[j];
        const double *slopes = s->slopes + (size_t)j * (size_t)n_x;
        for (int k = 0; k < n_x; k++) score[k] += factor * slopes[k];
    }
    int best = choose_largest(s, score, lower, upper);
    return best < 0 && relaxed ? choose_largest(s, NULL, lower, upper) : best;
}

static void look_around(search *s, const double *lower, const double *upper, int steps) {
    double before = s->witness.best;
    if (esp_witness_try(&s->witness, s->corner) > PROMISING * before) {
        memcpy(s->witness.x, s->corner, (size_t)s->program->n_x * sizeof(double));
        esp_witness_ascend(&s->witness, lower, upper, steps);
    }
    if (s->witness.best <= before) return;
    double reached = esp_witness_reached(&s->witness, s->crown, s->scratch);
    if (reached > s->lower) s->lower = reached;
}

static double cutoff(const search *s) {
    return s->lower * (1 + s->opts->gap);
}

static double box_norm(const search *s) {
    double norm = esp_ranges_norm(s->ranges, s->opts->norm);
    return s->opts->norm == ESP_NORM_2 ? esp_min(norm, s->norm_2) : norm;
}

/* Bounds a box whose ends and inherited ranges stand in its slot, then keeps it open or puts it away. */
static void box_run(search *s, int box) {
    const double *lower = box_lower(s, box), *upper = box_upper(s, box);
    double inherited = s->upper[box];
    ranges_fetch(box_ranges(s, box), s->ranges);
    esp_crown_box(s->crown, lower, upper);
    bool some = esp_crown_run(s->crown, ESP_CROWN_BACKWARD, 0, false, s->ranges) && bound_outputs(s, lower, upper);
    assert(some); /* ranges of an enclosing box are never empty here */
    if (some) s->upper[box] = esp_min(inherited, box_norm(s));
    s->intervals_only = esp_stop_now(s->stop);
    s->split[box] = choose_split(s, lower, upper);
    look_around(s, lower, upper, BOX_STEPS);
    if (s->split[box] >= 0 && s->upper[box] > cutoff(s)) {
        ranges_store(s->ranges, box_ranges(s, box));
        heap_push(s, box);
    } else {
        s->aside = esp_max(s->aside, s->upper[box]);
        s->spare[s->n_free++] = box;
    }
}

static void box_divide(search *s, int box) {
    int other = s->spare[--s->n_free], k = s->split[box];
    memcpy(box_lower(s, other), box_lower(s, box), s->stride * sizeof(double));
    s->upper[other] = s->upper[box];
    double middle = 0.5 * box_lower(s, box)[k] + 0.5 * box_upper(s, box)[k];
    box_upper(s, box)[k] = middle;
    box_lower(s, other)[k] = middle;
    box_run(s, box);
    box_run(s, other);
}

/* ---- the certificates --------------------------------------------------------------------------------------------- */

static esp_certificate certificate(const search *s, const char *method, double value, const char *status, int64_t start_ns) {
    return (esp_certificate){.kind = "range",
                             .method = method,
                             .norm = s->opts->norm,
                             .value = value,
                             .strength = ESP_PROVED,
                             .status = status,
                             .seconds = esp_clock_seconds_since(start_ns)};
}

/* One bound of the whole box by intervals, in s->ranges. */
static void whole_interval(search *s, const esp_box *box, esp_certificate *ret) {
    int64_t start = esp_clock_now_ns();
    esp_ranges_open(s->ranges);
    esp_crown_box(s->crown, box->lower, box->upper);
    bool some = esp_crown_run(s->crown, ESP_CROWN_INTERVAL, 0, true, s->ranges);
    assert(some);
    (void)some;
    *ret = certificate(s, "interval", esp_ranges_norm(s->ranges, s->opts->norm), "proved", start);
}

/* The root: CROWN over the whole box, opened as the first box of the search. */
static void whole_crown(search *s, const esp_box *box, double interval, esp_certificate *ret) {
    int64_t start = esp_clock_now_ns();
    int root = s->spare[--s->n_free];
    memcpy(box_lower(s, root), box->lower, (size_t)box->n * sizeof(double));
    memcpy(box_upper(s, root), box->upper, (size_t)box->n * sizeof(double));
    ranges_store(s->ranges, box_ranges(s, root));
    s->upper[root] = interval;
    box_run(s, root);
    *ret = certificate(s, "crown", s->upper[root], s->intervals_only ? "time_limit" : "proved", start);
}

static double whole_bound(const search *s) {
    return s->n_heap > 0 ? esp_max(s->aside, s->upper[s->heap[0]]) : s->aside;
}

static const char *split_run(search *s) {
    while (s->n_heap > 0 && s->upper[s->heap[0]] > esp_max(cutoff(s), s->aside)) {
        if (esp_stop_now(s->stop)) return "time_limit";
        if (s->n_free < 1) return "box_limit";
        box_divide(s, heap_pop(s));
    }
    return "proved";
}

static void whole_split(search *s, const esp_box *box, esp_certificate *ret) {
    int64_t start = esp_clock_now_ns();
    esp_rng rng;
    esp_rng_init(&rng, s->opts->seed, 0);
    esp_witness_sample(&s->witness, box->lower, box->upper, ROOT_POINTS, &rng, s->stop);
    double reached = esp_witness_reached(&s->witness, s->crown, s->scratch);
    if (reached > s->lower) s->lower = reached;
    const char *status = split_run(s);
    *ret = certificate(s, "split", whole_bound(s), status, start);
}

static esp_code certify_check(const esp_program *program, const esp_box *box, const esp_certify_opts *opts, esp_error *reterr) {
    if (box->n != program->n_x) return esp_fail(reterr, ESP_INVALID, "the box has %d numbers, the program %d inputs", box->n, program->n_x);
    for (int k = 0; k < box->n; k++) {
        if (!isfinite(box->lower[k]) || !isfinite(box->upper[k]) || box->lower[k] > box->upper[k])
            return esp_fail(reterr, ESP_INVALID, "input %d of the box is not a finite interval", k);
    }
    if (!(opts->gap >= 0)) return esp_fail_at(reterr, ESP_INVALID, "/gap", "the gap must not be negative");
    return ESP_OK;
}

esp_code esp_certify_norm(const esp_program *program, const esp_box *box, const esp_certify_opts *opts, const esp_stop *stop, esp_certificate ret[3],
                          int *ret_n, double *ret_witness, esp_error *reterr) {
    esp_certificate made[3];
    search s = {0};
    esp_code code = certify_check(program, box, opts, reterr);
    if (!code) code = search_init(&s, program, opts, stop, reterr);
    if (code) goto out;
    whole_interval(&s, box, &made[0]);
    whole_crown(&s, box, made[0].value, &made[1]);
    whole_split(&s, box, &made[2]);
    for (int i = 0; i < 3; i++) {
        made[i].lower = s.lower;
        ret[i] = made[i];
    }
    *ret_n = 3;
    if (ret_witness) memcpy(ret_witness, s.witness.best < 0 ? box->lower : s.witness.best_x, (size_t)box->n * sizeof *ret_witness);
out:
    search_done(&s);
    return code;
}
