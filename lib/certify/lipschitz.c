/* SPDX-License-Identifier: Apache-2.0
 * The Lipschitz constant of a program over a box.
 *
 * Backwards, output by output: g over the ReLUs starts as the output's row of B; from the last ReLU to the first, g_j is
 * multiplied by the slope of ReLU j - 1 when p_j >= 0 on the whole box, 0 when p_j <= 0, [0, 1] else - and its rows of C and D,
 * times that, are added. What has gathered over x, with the row of A, is the output's row of the Jacobian. Intervals are kept as
 * centre and radius; g_j = m +- r with M the sum of absolute values of the products in m: r is widened by gamma (M + r) when
 * g_j is used, which pays for all its roundings as in bounds.c. A row whose entries are not exact has radii of its own
 * (esp_crown_slack).
 *
 * The two-norm of an interval matrix is at most |centre|_2 + |radius|_2, and at most the norm of its entrywise largest
 * absolute values; of one row both are sums of squares. The largest row sum is taken from the latter.
 *
 * Intervals alone never close on a kink that stays in the box however small it is: the entries have their largest values at
 * different slopes. Where few ReLUs can be either, all combinations of their slopes 0 and 1 are gone through instead: the
 * Jacobian is affine in each slope, its norm convex, so the largest norm is at one of them.
 *
 * Which input to halve: the one with the largest share in the ranges of unstable ReLUs, each weighted by what it adds to the
 * radii, |g_j| times the size of p_j's gradient. */
#include "certify/lipschitz.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "certify/crown.h"
#include "certify/kernels.h"
#include "certify/norms.h"
#include "certify/split.h"

#define ROOT_POINTS 200
#define CORNERS     6 /* ReLUs of which all combinations are tried */

typedef struct lipschitz {
    const esp_program *program;
    const esp_certify_opts *opts;
    const esp_stop *stop;
    esp_crown *crown;
    esp_ranges *ranges, *scratch;
    double gamma, tiny;
    double *slopes; /* n_r x n_x */
    double *weight; /* n_r: |g_j| times the size of p_j's gradient, over all outputs */
    double *g_mid, *g_rad, *g_mag; /* n_r */
    double *mid, *rad, *mag; /* n_y x n_x: the Jacobian */
    double *score, *point, *best, *v; /* n_x */
    double *jv; /* n_y */
    void *norm_work;
    bool *matters; /* n_x: a variable that reaches something */
    esp_split split;
} lipschitz;

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void bound_box(void *user, esp_split_box *box);

static esp_code lipschitz_init(lipschitz *s, const esp_box *box, esp_error *reterr) {
    const esp_program *p = s->program;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r, n_y = (size_t)p->n_y;
    esp_code code = esp_crown_create(p, &s->crown, reterr);
    if (!code) code = esp_ranges_create(p->n_r, p->n_y, &s->ranges, reterr);
    if (!code) code = esp_ranges_create(p->n_r, p->n_y, &s->scratch, reterr);
    if (code) return code;
    double *at = calloc(n_r * n_x + 4 * n_r + 3 * n_y * n_x + 4 * n_x + n_y + 1, sizeof *at);
    s->matters = calloc(n_x + 1, sizeof *s->matters);
    s->norm_work = malloc(esp_norm_work(n_y, n_x));
    s->slopes = at;
    if (!at || !s->matters || !s->norm_work) return esp_fail(reterr, ESP_NOMEM, "no memory for a derivative of %d by %d", p->n_y, p->n_x);
    (void)esp_carve(&at, n_r * n_x);
    double **of_r[] = {&s->weight, &s->g_mid, &s->g_rad, &s->g_mag}, **of_xy[] = {&s->mid, &s->rad, &s->mag};
    double **of_x[] = {&s->score, &s->point, &s->best, &s->v};
    for (int k = 0; k < 4; k++) *of_r[k] = esp_carve(&at, n_r);
    for (int k = 0; k < 3; k++) *of_xy[k] = esp_carve(&at, n_x * n_y);
    for (int k = 0; k < 4; k++) *of_x[k] = esp_carve(&at, n_x);
    s->jv = esp_carve(&at, n_y);
    size_t roundings = 2 * n_r + n_x + n_y + 64;
    s->gamma = esp_gamma(roundings);
    s->tiny = (double)roundings * ESP_TINY;
    for (int k = 0; k < p->n_x; k++) s->matters[k] = box->lower[k] < box->upper[k];
    esp_crown_watch(s->crown, s->slopes);
    esp_crown_stop(s->crown, s->stop);
    esp_crown_slack(s->crown, s->opts->slack_f);
    s->split = (esp_split){.n_x = p->n_x, .n_state = 2 * n_r, .gap = s->opts->gap, .stop = s->stop, .bound = bound_box, .user = s};
    return esp_split_init(&s->split, s->opts->max_boxes, reterr);
}

static void lipschitz_done(lipschitz *s) {
    esp_crown_free(s->crown);
    esp_ranges_free(s->ranges);
    esp_ranges_free(s->scratch);
    esp_split_done(&s->split);
    free(s->slopes);
    free(s->matters);
    free(s->norm_work);
}

/* ---- the Jacobian ------------------------------------------------------------------------------------------------- */

/* mid += m row, rad += r |row| + |m| loose, mag += |m row|; loose, when not NULL, holds what the row's entries can be off by. */
static void add_row(int n, double m, double r, const double *restrict row, const double *restrict loose, double *restrict mid, double *restrict rad,
                    double *restrict mag) {
    double size = fabs(m), most = size + r;
    for (int k = 0; k < n; k++) {
        mid[k] += m * row[k];
        rad[k] += r * fabs(row[k]);
        mag[k] += size * fabs(row[k]);
    }
    for (int k = 0; loose && k < n; k++) rad[k] += most * loose[k];
}

static void start_row(int n, const double *row, const double *loose, double *mid, double *rad, double *mag) {
    for (int k = 0; k < n; k++) {
        mid[k] = row[k];
        rad[k] = loose ? loose[k] : 0;
        mag[k] = fabs(row[k]);
    }
}

/* The radius that pays for the centre's roundings and its own. An entry that nothing was added to is exact. */
static double widened(const lipschitz *s, double rad, double mag) {
    return mag > 0 || rad > 0 ? (rad + s->gamma * (mag + rad)) * (1 + s->gamma) + s->tiny : 0;
}

/* Replaces g_j by g_j times the slopes of ReLU j; adds its weight. False when nothing is left of it. */
static bool through_relu(lipschitz *s, int j, const esp_ranges *ranges, double *ret_m, double *ret_r) {
    double l = ranges->p_lower[j], u = ranges->p_upper[j], m = s->g_mid[j], r = widened(s, s->g_rad[j], s->g_mag[j]);
    if (u <= 0 || (m == 0 && r == 0)) return false;
    if (l < 0) { /* [0, 1] times [m - r, m + r], and 0 is in it */
        double most = esp_max(0, m + r), least = esp_min(0, m - r), rounding = 4 * ESP_U * (fabs(m) + r) + ESP_TINY;
        s->weight[j] += esp_max(most, -least);
        m = 0.5 * (most + least);
        r = esp_max(most - m, m - least) * (1 + 4 * ESP_U) + rounding;
    }
    *ret_m = m;
    *ret_r = r;
    return true;
}

/* Row i of the Jacobian for ReLUs in the ranges. */
static void jacobian_row(lipschitz *s, int i, const esp_ranges *ranges) {
    const esp_program *p = s->program, *slack = s->opts->slack_f;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r, at = (size_t)i * n_x;
    start_row(p->n_r, p->b + (size_t)i * n_r, slack ? slack->b + (size_t)i * n_r : NULL, s->g_mid, s->g_rad, s->g_mag);
    start_row(p->n_x, p->a + at, slack ? slack->a + at : NULL, s->mid + at, s->rad + at, s->mag + at);
    for (int level = p->n_levels - 1; level >= 0; level--) {
        int start = level ? p->level_end[level - 1] : 0, begin = p->level_begin[level];
        for (int j = p->level_end[level] - 1; j >= start; j--) {
            double m, r;
            size_t c = (size_t)j * n_x, d = (size_t)j * n_r + (size_t)begin;
            if (!through_relu(s, j, ranges, &m, &r)) continue;
            add_row(p->n_x, m, r, p->c + c, slack ? slack->c + c : NULL, s->mid + at, s->rad + at, s->mag + at);
            add_row(start - begin, m, r, p->d + d, slack ? slack->d + d : NULL, s->g_mid + begin, s->g_rad + begin, s->g_mag + begin);
        }
    }
    for (size_t k = at; k < at + n_x; k++) {
        bool varies = s->matters[k - at];
        s->rad[k] = varies ? widened(s, s->rad[k], s->mag[k]) : 0;
        if (!varies) s->mid[k] = 0;
    }
}

static void jacobian(lipschitz *s, const esp_ranges *ranges) {
    memset(s->weight, 0, (size_t)s->program->n_r * sizeof *s->weight);
    for (int i = 0; i < s->program->n_y; i++) jacobian_row(s, i, ranges);
}

/* An upper bound of the norm of every matrix within mid +- rad; uses mag. */
static double norm_above(lipschitz *s) {
    size_t n_x = (size_t)s->program->n_x, n_y = (size_t)s->program->n_y, n = n_x * n_y;
    double largest = 0;
    for (size_t k = 0; k < n; k++) s->mag[k] = esp_round_up(fabs(s->mid[k]) + s->rad[k], 1);
    if (s->opts->norm == ESP_NORM_INF) {
        for (size_t i = 0; i < n_y; i++) {
            double sum = 0;
            for (size_t k = 0; k < n_x; k++) sum += s->mag[i * n_x + k];
            largest = esp_max(largest, esp_abs(sum));
        }
        return largest > 0 ? esp_round_up(largest, n_x + 1) : 0;
    }
    if (n_x == 1 || n_y == 1) return esp_norm2_up(n, s->mag);
    double apart = esp_add_up(esp_norm_upper_in(n_y, n_x, s->mid, s->norm_work), esp_norm_upper_in(n_y, n_x, s->rad, s->norm_work));
    return esp_min(apart, esp_norm_upper_in(n_y, n_x, s->mag, s->norm_work));
}

/* A lower bound of the norm of every matrix within mid +- rad: |J v| / |v| for a v of some power steps, or a row sum. */
static double norm_below(lipschitz *s) {
    size_t n_x = (size_t)s->program->n_x, n_y = (size_t)s->program->n_y;
    double largest = 0;
    if (s->opts->norm == ESP_NORM_INF) {
        for (size_t i = 0; i < n_y; i++) {
            double sum = 0;
            for (size_t k = i * n_x; k < (i + 1) * n_x; k++) sum += esp_max(0, fabs(s->mid[k]) - s->rad[k]);
            largest = esp_max(largest, sum);
        }
        return largest * (1 - esp_gamma(n_x + 4));
    }
    for (size_t k = 0; k < n_x; k++) s->v[k] = s->matters[k] ? 1 + 0.25 * (double)(k % 3) : 0;
    for (int step = 0; step < 30; step++) {
        for (size_t i = 0; i < n_y; i++) {
            s->jv[i] = 0;
            for (size_t k = 0; k < n_x; k++) s->jv[i] += s->mid[i * n_x + k] * s->v[k];
        }
        double size = esp_norm2_up(n_y, s->jv);
        if (!(size > 0) || !isfinite(size)) return 0;
        memset(s->v, 0, n_x * sizeof *s->v);
        for (size_t i = 0; i < n_y; i++)
            for (size_t k = 0; k < n_x; k++) s->v[k] += s->mid[i * n_x + k] * s->jv[i] / size;
    }
    for (size_t i = 0; i < n_y; i++) { /* the least that |(J v)_i| can be */
        double sum = 0, off = 0;
        for (size_t k = 0; k < n_x; k++) {
            double size = fabs(s->v[k]);
            sum += s->mid[i * n_x + k] * s->v[k];
            off += s->rad[i * n_x + k] * size + s->gamma * fabs(s->mid[i * n_x + k]) * size;
        }
        s->jv[i] = esp_max(0, fabs(sum) - off * (1 + s->gamma) - s->tiny);
    }
    double up = esp_norm2_up(n_x, s->v);
    return up > 0 && isfinite(up) ? esp_norm2_down(n_y, s->jv) / up * (1 - 4 * ESP_U) : 0;
}

/* ---- the search ---------------------------------------------------------------------------------------------------- */

static int choose(lipschitz *s, const double *lower, const double *upper) {
    int n_x = s->program->n_x;
    bool relaxed = false;
    memset(s->score, 0, (size_t)n_x * sizeof *s->score);
    for (int j = 0; j < s->program->n_r; j++) {
        double l = s->ranges->p_lower[j], u = s->ranges->p_upper[j], size = 0;
        if (!(l < 0 && u > 0) || !(s->weight[j] > 0)) continue;
        relaxed = true;
        const double *slopes = s->slopes + (size_t)j * (size_t)n_x;
        for (int k = 0; k < n_x; k++) size += slopes[k];
        double factor = s->weight[j] * size / (u - l);
        if (!isfinite(factor)) continue;
        for (int k = 0; k < n_x; k++) s->score[k] += factor * slopes[k];
    }
    int best = esp_split_choose(n_x, s->matters, s->score, lower, upper);
    return best < 0 && relaxed ? esp_split_choose(n_x, s->matters, NULL, lower, upper) : best;
}

/* The slope at s->point, kept when it is the largest so far. */
static void try_point(lipschitz *s) {
    esp_ranges_open(s->scratch);
    esp_crown_box(s->crown, s->point, s->point);
    if (!esp_crown_run(s->crown, ESP_CROWN_INTERVAL, 0, false, s->scratch)) return;
    jacobian(s, s->scratch);
    double reached = norm_below(s);
    if (!(reached > s->split.lower)) return;
    s->split.lower = reached;
    memcpy(s->best, s->point, (size_t)s->program->n_x * sizeof *s->best);
}

static void sample(lipschitz *s, const esp_box *box) {
    esp_rng rng;
    esp_rng_init(&rng, s->opts->seed, 0);
    memcpy(s->best, box->lower, (size_t)box->n * sizeof *s->best);
    for (int n = 0; n < ROOT_POINTS && !(n > 0 && esp_stop_now(s->stop)); n++) {
        for (int k = 0; k < box->n; k++)
            s->point[k] = esp_min(box->upper[k], esp_max(box->lower[k], esp_rng_range(&rng, box->lower[k], box->upper[k])));
        for (int k = 0; k < box->n; k++)
            if (!s->matters[k]) s->point[k] = box->lower[k];
        try_point(s);
    }
}

/* The largest norm over all combinations of the slopes of ReLUs that can be either, -1 when those are too many. */
static double corners(lipschitz *s) {
    int which[CORNERS], n = 0;
    double largest = 0;
    for (int j = 0; j < s->program->n_r; j++) {
        if (!(s->ranges->p_lower[j] < 0 && s->ranges->p_upper[j] > 0)) continue;
        if (n == CORNERS) return -1;
        which[n++] = j;
    }
    esp_ranges_copy(s->ranges, s->scratch);
    for (int c = 0; c < 1 << n; c++) {
        for (int k = 0; k < n; k++) {
            bool on = c >> k & 1;
            s->scratch->p_lower[which[k]] = on ? 0 : -1;
            s->scratch->p_upper[which[k]] = on ? 1 : 0;
        }
        jacobian(s, s->scratch);
        largest = esp_max(largest, norm_above(s));
    }
    return largest;
}

/* The bound at hand by all combinations, where that is worth it. */
static double refine(lipschitz *s, double value, char *letter) {
    if (!(value > s->split.lower * (1 + s->opts->gap))) return value;
    double best = corners(s);
    if (!(best >= 0 && best < value)) return value;
    *letter = 'v';
    return best;
}

static void bound_box(void *user, esp_split_box *box) {
    lipschitz *s = user;
    size_t n_r = (size_t)s->program->n_r;
    memcpy(s->ranges->p_lower, box->state, n_r * sizeof(double));
    memcpy(s->ranges->p_upper, box->state + n_r, n_r * sizeof(double));
    esp_crown_box(s->crown, box->lower, box->upper);
    bool some = esp_crown_run(s->crown, ESP_CROWN_BACKWARD, 0, false, s->ranges);
    assert(some); /* ranges of an enclosing box are never empty here */
    (void)some;
    jacobian(s, s->ranges);
    double value = norm_above(s);
    box->axis = choose(s, box->lower, box->upper); /* while the weights are those of the box */
    for (int k = 0; k < s->program->n_x; k++) s->point[k] = esp_split_middle(box->lower[k], box->upper[k]);
    if (value > s->split.lower) try_point(s);
    char letter = 'j';
    value = refine(s, value, &letter);
    if (value < box->value) {
        box->value = value;
        box->letter = letter;
    }
    memcpy(box->state, s->ranges->p_lower, n_r * sizeof(double));
    memcpy(box->state + n_r, s->ranges->p_upper, n_r * sizeof(double));
}

static void add_result(const lipschitz *s, const char *method, double value, const char *status, int64_t start_ns, esp_certified *made) {
    made->rows[made->n++] = (esp_certificate){.kind = "lipschitz",
                                              .method = method,
                                              .norm = s->opts->norm,
                                              .value = value,
                                              .strength = ESP_PROVED,
                                              .status = status,
                                              .seconds = esp_clock_seconds_since(start_ns)};
}

/* The whole box by intervals, then the search from there. */
static esp_code lipschitz_run(lipschitz *s, const esp_box *box, esp_certified *made, esp_error *reterr) {
    int64_t start = esp_clock_now_ns();
    size_t n_r = (size_t)s->program->n_r;
    double *state = malloc((2 * n_r + 1) * sizeof *state);
    made->witness = malloc(((size_t)box->n + 1) * sizeof *made->witness);
    if (!state || !made->witness) {
        free(state);
        return esp_fail(reterr, ESP_NOMEM, "no memory for a box");
    }
    esp_ranges_open(s->ranges);
    esp_crown_box(s->crown, box->lower, box->upper);
    bool some = esp_crown_run(s->crown, ESP_CROWN_INTERVAL, 0, false, s->ranges);
    assert(some);
    (void)some;
    jacobian(s, s->ranges);
    double value = norm_above(s);
    add_result(s, "interval", value, "proved", start, made);
    start = esp_clock_now_ns();
    memcpy(state, s->ranges->p_lower, n_r * sizeof *state);
    memcpy(state + n_r, s->ranges->p_upper, n_r * sizeof *state);
    sample(s, box);
    esp_split_root(&s->split, box->lower, box->upper, state, value, 'j');
    const char *status = esp_split_run(&s->split);
    add_result(s, "split", esp_split_value(&s->split), status, start, made);
    for (int i = 0; i < made->n; i++) made->rows[i].lower = s->split.lower;
    memcpy(made->witness, s->best, (size_t)box->n * sizeof *made->witness);
    if (!esp_split_tree(&s->split, &made->tree, &made->leaves)) esp_buf_clear(&made->tree);
    made->boxes = s->split.boxes;
    free(state);
    return ESP_OK;
}

esp_code esp_certify_lipschitz(const esp_program *program, const esp_box *box, const esp_certify_opts *opts, const esp_stop *stop,
                               esp_certified *ret_certified, esp_error *reterr) {
    lipschitz s = {.program = program, .opts = opts, .stop = stop};
    esp_certified made = {0};
    esp_code code = esp_certify_check(program, box, opts, reterr);
    if (!code) code = lipschitz_init(&s, box, reterr);
    if (!code) code = lipschitz_run(&s, box, &made, reterr);
    if (!code) {
        *ret_certified = made;
        made = (esp_certified){0};
    }
    esp_certified_done(&made);
    lipschitz_done(&s);
    return code;
}
