/* SPDX-License-Identifier: Apache-2.0
 * The tube between two closed loops. Not how one step or one box is bounded: loop.c, contraction.c.
 *
 * The program bound splits the box of presents; every leaf gives a radius for each step and the ranges of both loops'
 * outputs, of which the largest over all leaves count. Those ranges are the sets X^(t), X(t) of the product formula: they hold
 * both loops whatever the radius is, so no circle is closed; cutting one to the other's radius is the induction over t.
 *
 * For ever. A box S that both loops map into itself and that holds the domain holds both loops at all times, so that one
 * stretch M >= |d z+/d z| and one push b >= |B| eps do for all steps: |delta(t+1)| <= M |delta(t)| + b entry by entry. With
 * weights w > 0 and rho = max (M w)_i / w_i < 1, delta stays within w max(b_i / w_i) / (1 - rho) by induction from 0. The
 * weights are a power iteration's guess, and all ones; whatever they are, the inequality holds. In the norm of the options
 * rho and L_u eps / (1 - rho) do the same. S is guessed from the steps that were bounded and grown until its image fits. */
#include "certify/closed_loop.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "certify/contraction.h"
#include "certify/rounding.h"
#include "certify/splits.h"

enum { WITNESSES = 96, STEP_PIECES = 8, SET_PIECES = 16, FOREVER_PIECES = 64, GROWTHS = 40, POWERS = 60 };

typedef struct tubing {
    esp_loop_models models;
    esp_loop *loop;
    esp_contractor *contractor;
    const esp_box *box;
    const esp_tube_opts *opts;
    const esp_stop *stop;
    esp_tube *tube;
    int steps, ny, nu, history, n, seen; /* seen: numbers of a step whose ranges are kept: y, and u with a history */
    double *values; /* steps x (1 + 4 seen): radii, then of each step the ends of f's and g's numbers, the lower ones negated */
    double *trial, *wide; /* n each; wide: 2 n */
    double *blame;
} tubing;

/* ---- life --------------------------------------------------------------------------------------------------------- */

static esp_code tube_create(int steps, int n, esp_tube **ret_tube, esp_error *reterr) {
    size_t t = (size_t)steps, z = (size_t)n;
    esp_tube *tube = calloc(1, sizeof *tube);
    double *at = calloc(7 * t + 3 * z, sizeof *at);
    if (!tube || !at) {
        free(tube);
        free(at);
        return esp_fail(reterr, ESP_NOMEM, "no memory for a tube of %d steps", steps);
    }
    *tube = (esp_tube){.steps = steps, .n_present = n, .status = "proved", .memory = at};
    double **arrays[] = {&tube->radius, &tube->program, &tube->product, &tube->rho, &tube->gain, &tube->epsilon, &tube->lower};
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++, at += t) *arrays[k] = at;
    tube->witness = at;
    tube->forever = (esp_forever){.rho = HUGE_VAL, .gain = HUGE_VAL, .epsilon = HUGE_VAL, .radius = HUGE_VAL, .lower = at + z, .upper = at + 2 * z};
    *ret_tube = tube;
    return ESP_OK;
}

void esp_tube_free(esp_tube *tube) {
    if (!tube) return;
    esp_buf_done(&tube->tree);
    free(tube->memory);
    free(tube);
}

static void tubing_done(tubing *t) {
    esp_loop_free(t->loop);
    esp_contractor_free(t->contractor);
    esp_tube_free(t->tube);
    free(t->values);
    free(t->trial);
}

static esp_code tubing_init(tubing *t, const esp_model *dynamics, esp_error *reterr) {
    t->ny = dynamics->ny;
    t->nu = dynamics->nu;
    t->history = dynamics->history;
    t->n = esp_loop_present(&t->models);
    t->seen = t->ny + (t->history > 1 ? t->nu : 0);
    esp_code code = esp_loop_create(&t->models, t->steps, &t->loop, reterr);
    if (!code && t->box->n != t->n) code = esp_fail(reterr, ESP_INVALID, "the box has %d numbers, a present of these models %d", t->box->n, t->n);
    for (int k = 0; !code && k < t->n; k++)
        if (!isfinite(t->box->lower[k]) || !isfinite(t->box->upper[k]) || t->box->lower[k] > t->box->upper[k])
            code = esp_fail(reterr, ESP_INVALID, "number %d of the box is not a finite interval", k);
    if (!code) code = esp_contractor_create(&t->models, &t->contractor, reterr);
    if (!code) code = tube_create(t->steps, t->n, &t->tube, reterr);
    if (code) return code;
    t->values = calloc((size_t)t->steps * (1 + 4 * (size_t)t->seen), sizeof *t->values);
    t->trial = calloc(4 * (size_t)t->n, sizeof *t->trial);
    if (!t->values || !t->trial) return esp_fail(reterr, ESP_NOMEM, "no memory for a tube");
    t->wide = t->trial + t->n;
    return ESP_OK;
}

/* ---- what is reached ---------------------------------------------------------------------------------------------- */

/* The loops from the point in t->trial: what each step's distance is at least. */
static void try_point(tubing *t, double *best) {
    double largest = 0;
    esp_loop_begin(t->loop, t->trial, t->trial);
    for (int k = 0; k < t->steps; k++) {
        esp_loop_step(t->loop);
        double reached = esp_loop_reached(t->loop, t->opts->norm);
        t->tube->lower[k] = esp_max(t->tube->lower[k], reached);
        largest = esp_max(largest, reached);
    }
    if (largest < *best) return;
    *best = largest;
    memcpy(t->tube->witness, t->trial, (size_t)t->n * sizeof *t->trial);
}

static void find_witness(tubing *t) {
    esp_rng rng;
    double best = 0;
    esp_rng_init(&rng, t->opts->seed, 0);
    for (int round = 0; round < WITNESSES && (round == 0 || !esp_stop_now(t->stop)); round++) {
        for (int i = 0; i < t->n; i++) {
            double lower = t->box->lower[i], upper = t->box->upper[i];
            double share = round % 2 ? esp_rng_uniform(&rng) : (double)esp_rng_below(&rng, 2);
            t->trial[i] = esp_min(upper, esp_max(lower, (1 - share) * lower + share * upper));
        }
        try_point(t, &best);
    }
}

/* ---- the program bound -------------------------------------------------------------------------------------------- */

static double *ends_of(const tubing *t, double *values, int step) {
    return values + t->steps + (size_t)step * 4 * (size_t)t->seen;
}

static void put_ends(double *ends, esp_spans spans) {
    ends[0] = spans.f.upper;
    ends[1] = -spans.f.lower;
    ends[2] = spans.g.upper;
    ends[3] = -spans.g.lower;
}

static void bound_leaf(void *user, const double *lower, const double *upper, double *ret_values, double *ret_blame) {
    tubing *t = user;
    esp_loop_begin(t->loop, lower, upper);
    for (int k = 0; k < t->steps; k++) {
        esp_loop_step(t->loop);
        double *ends = ends_of(t, ret_values, k);
        ret_values[k] = esp_loop_distance(t->loop, t->opts->norm);
        for (int i = 0; i < t->ny; i++, ends += 4) put_ends(ends, esp_loop_output(t->loop, i));
        for (int i = t->ny; i < t->seen; i++, ends += 4) put_ends(ends, esp_loop_input(t->loop, i - t->ny));
    }
    memcpy(ret_blame, esp_loop_blame(t->loop), (size_t)t->n * sizeof *ret_blame);
}

/* Splitting leaves a part of the time to what comes after it. */
static esp_stop first_part(const esp_stop *stop) {
    if (!stop) return (esp_stop){0};
    esp_stop part = *stop;
    int64_t now = esp_clock_now_ns();
    if (part.deadline_ns > now) part.deadline_ns = now + (part.deadline_ns - now) * 7 / 10;
    return part;
}

static esp_code bound_program(tubing *t, esp_error *reterr) {
    const esp_stop part = first_part(t->stop);
    const esp_splits_problem problem = {.n_in = t->n,
                                        .n_values = t->steps * (1 + 4 * t->seen),
                                        .n_goals = t->steps,
                                        .bound = bound_leaf,
                                        .user = t,
                                        .reached = t->tube->lower,
                                        .gap = t->opts->gap,
                                        .max_leaves = t->opts->max_leaves};
    esp_code code =
        esp_splits_run(&problem, t->box, t->stop ? &part : NULL, 'p', t->values, &t->tube->tree, &t->tube->leaves, &t->tube->status, reterr);
    if (!code) memcpy(t->tube->program, t->values, (size_t)t->steps * sizeof *t->values);
    return code;
}

/* ---- the product formula ------------------------------------------------------------------------------------------ */

/* Where number i (y, then u) of step k + 1 can be, in both loops: hull of f's and g's ranges, each cut to the other's
 * within the radius. Ends of infinite ranges stay infinite. */
static esp_span hull_of(tubing *t, int k, int i, double radius) {
    const double *ends = ends_of(t, t->values, k) + 4 * i;
    double f_up = ends[0], f_lo = -ends[1], g_up = ends[2], g_lo = -ends[3];
    if (i < t->ny && radius <= DBL_MAX) {
        double slack = 4 * ESP_U * (radius + fabs(f_up) + fabs(f_lo) + fabs(g_up) + fabs(g_lo));
        double f_up_cut = g_up + radius + slack, f_lo_cut = g_lo - radius - slack, g_up_cut = f_up + radius + slack, g_lo_cut = f_lo - radius - slack;
        f_up = esp_min(f_up, f_up_cut);
        g_up = esp_min(g_up, g_up_cut);
        f_lo = esp_max(f_lo, f_lo_cut);
        g_lo = esp_max(g_lo, g_lo_cut);
    }
    return (esp_span){esp_min(f_lo, g_lo), esp_max(f_up, g_up)};
}

/* The box of presents at step k, from t->wide on (n lower ends, n upper ones); false when it is not finite. */
static bool present_box(tubing *t, int k) {
    int n_y = t->history * t->ny;
    double *lower = t->wide, *upper = t->wide + t->n;
    bool finite = true;
    for (int z = 0; z < t->n; z++) {
        bool of_y = z < n_y;
        int width = of_y ? t->ny : t->nu, lags = of_y ? t->history : t->history - 1, at = of_y ? z : z - n_y;
        int from = k - lags + at / width; /* output y(from + 1), input u(from): row `from` of the steps */
        if (from < 0) {
            int older = z + k * width; /* still a number of the present at 0 */
            lower[z] = t->box->lower[older];
            upper[z] = t->box->upper[older];
        } else {
            esp_span span = hull_of(t, from, of_y ? at % width : t->ny + at % width, of_y ? t->tube->radius[from] : HUGE_VAL);
            lower[z] = span.lower;
            upper[z] = span.upper;
        }
        finite = finite && isfinite(lower[z]) && isfinite(upper[z]);
    }
    return finite;
}

static esp_code bound_product(tubing *t, esp_error *reterr) {
    esp_tube *tube = t->tube;
    double delta = 0;
    for (int k = 0; k < t->steps; k++) {
        const esp_contraction *step = NULL;
        double rho = HUGE_VAL, gain = HUGE_VAL, epsilon = HUGE_VAL;
        if (delta <= DBL_MAX && present_box(t, k)) {
            esp_code code = esp_contractor_run(t->contractor, t->wide, t->wide + t->n, STEP_PIECES, t->opts->norm, t->stop, &step, reterr);
            if (code) return code;
            rho = step->rho;
            gain = step->gain;
            epsilon = step->epsilon;
        }
        delta = esp_add_up(esp_mul_up(rho, delta), esp_mul_up(gain, epsilon));
        tube->rho[k] = rho;
        tube->gain[k] = gain;
        tube->epsilon[k] = epsilon;
        tube->product[k] = delta;
        tube->radius[k] = esp_min(tube->program[k], delta);
    }
    return ESP_OK;
}

/* ---- for ever ----------------------------------------------------------------------------------------------------- */

/* A box with room for everything seen so far, the same at every lag; false when it is not finite. */
static bool first_set(tubing *t, double *lower, double *upper) {
    int n_y = t->history * t->ny;
    bool finite = true;
    for (int i = 0; i < t->seen; i++) {
        bool of_y = i < t->ny;
        int first = of_y ? i : n_y + i - t->ny, end = of_y ? n_y : t->n, width = of_y ? t->ny : t->nu;
        double lo = HUGE_VAL, up = -HUGE_VAL;
        for (int z = first; z < end; z += width) {
            lo = esp_min(lo, t->box->lower[z]);
            up = esp_max(up, t->box->upper[z]);
        }
        for (int k = 0; k < t->steps; k++) {
            esp_span span = hull_of(t, k, i, of_y ? t->tube->radius[k] : HUGE_VAL);
            lo = esp_min(lo, span.lower);
            up = esp_max(up, span.upper);
        }
        for (int z = first; z < end; z += width) lower[z] = lo, upper[z] = up;
        finite = finite && isfinite(lo) && isfinite(up);
    }
    return finite;
}

/* Does the image lie in the box? If not the box grows to it and a tenth beyond, at every lag. */
static bool image_fits(const tubing *t, const esp_contraction *step, double *lower, double *upper) {
    int n_y = t->history * t->ny;
    bool fits = true;
    for (int i = 0; i < t->seen; i++) {
        bool of_y = i < t->ny;
        int width = of_y ? t->ny : t->nu, first = of_y ? i : n_y + i - t->ny, end = of_y ? n_y : t->n, newest = end - width + (of_y ? i : i - t->ny);
        double below = lower[newest] - step->image_lower[newest], above = step->image_upper[newest] - upper[newest];
        if (below <= 0 && above <= 0) continue;
        fits = false;
        for (int z = first; z < end; z += width) {
            if (below > 0) lower[z] -= 1.1 * below + 1e-12;
            if (above > 0) upper[z] += 1.1 * above + 1e-12;
        }
    }
    return fits;
}

static esp_code find_set(tubing *t, esp_error *reterr) {
    esp_forever *forever = &t->tube->forever;
    bool finite = first_set(t, forever->lower, forever->upper);
    for (int round = 0; finite && !forever->invariant && round < GROWTHS && !esp_stop_now(t->stop); round++) {
        const esp_contraction *step = NULL;
        esp_code code = esp_contractor_run(t->contractor, forever->lower, forever->upper, SET_PIECES, t->opts->norm, t->stop, &step, reterr);
        if (code) return code;
        if (!isfinite(step->rho)) return ESP_OK;
        forever->invariant = image_fits(t, step, forever->lower, forever->upper);
        for (int z = 0; z < t->n; z++) finite = finite && fabs(forever->lower[z]) < 1e100 && fabs(forever->upper[z]) < 1e100;
    }
    return ESP_OK;
}

/* max (M w)_i / w_i, and max b_i / w_i. */
static double weighted_rho(const esp_contraction *step, const double *w, double *ret_push) {
    double rho = 0, push = 0;
    for (int i = 0; i < step->n; i++) {
        double sum = 0;
        for (int k = 0; k < step->n; k++) sum = esp_add_up(sum, esp_mul_up(step->stretch[i * step->n + k], w[k]));
        rho = esp_max(rho, esp_round_up(sum / w[i], 1));
        push = esp_max(push, esp_round_up(step->push[i] / w[i], 1));
    }
    *ret_push = push;
    return rho;
}

/* a / (1 - rho), rounded up; rho < 1. */
static double over_rest(double a, double rho) {
    return a > 0 ? esp_round_up(a / ((1 - rho) * (1 - 2 * ESP_U)), 2) : 0;
}

static void try_weights(tubing *t, const esp_contraction *step, const double *w) {
    esp_forever *forever = &t->tube->forever;
    int newest = (t->history - 1) * t->ny;
    double push = 0, size = 0, rho = weighted_rho(step, w, &push);
    if (!(rho < 1)) {
        forever->rho = esp_min(forever->rho, rho);
        return;
    }
    for (int i = 0; i < t->ny; i++) {
        double entry = w[newest + i];
        size = t->opts->norm == ESP_NORM_INF ? esp_max(size, entry) : esp_add_up(size, esp_mul_up(entry, entry));
    }
    if (t->opts->norm == ESP_NORM_2) size = esp_round_up(sqrt(size), 1);
    double radius = esp_mul_up(over_rest(push, rho), size);
    forever->rho = esp_min(forever->rho, rho);
    forever->radius = esp_min(forever->radius, radius);
}

/* A guess at the weights that shrink M most: its largest eigenvector, with a little of everything. */
static void guess_weights(const esp_contraction *step, double *w, double *next) {
    for (int i = 0; i < step->n; i++) w[i] = 1;
    for (int round = 0; round < POWERS; round++) {
        double largest = 0;
        for (int i = 0; i < step->n; i++) {
            next[i] = 0;
            for (int k = 0; k < step->n; k++) next[i] += step->stretch[i * step->n + k] * w[k];
            largest = esp_max(largest, next[i]);
        }
        if (!(largest > 0) || !(largest <= DBL_MAX)) return;
        for (int i = 0; i < step->n; i++) w[i] = next[i] / largest + 1e-3;
    }
}

static esp_code bound_forever(tubing *t, esp_error *reterr) {
    esp_forever *forever = &t->tube->forever;
    const esp_contraction *step = NULL;
    esp_code code = find_set(t, reterr);
    if (code || !forever->invariant) return code;
    code = esp_contractor_run(t->contractor, forever->lower, forever->upper, FOREVER_PIECES, t->opts->norm, t->stop, &step, reterr);
    if (code) return code;
    forever->gain = step->gain;
    forever->epsilon = step->epsilon;
    forever->rho = step->rho;
    if (step->rho < 1) forever->radius = over_rest(esp_mul_up(step->gain, step->epsilon), step->rho);
    double *w = t->wide, *next = t->wide + t->n;
    guess_weights(step, w, next);
    try_weights(t, step, w);
    for (int i = 0; i < t->n; i++) w[i] = 1;
    try_weights(t, step, w);
    forever->holds = forever->rho < 1 && forever->radius <= DBL_MAX;
    for (int k = 0; forever->holds && k < t->steps; k++) t->tube->radius[k] = esp_min(t->tube->radius[k], forever->radius);
    return ESP_OK;
}

/* ---- all of it ---------------------------------------------------------------------------------------------------- */

esp_code esp_tube_run(const esp_model *policy, const esp_model *reference, const esp_model *dynamics, int steps, const esp_box *box,
                      const esp_tube_opts *opts, const esp_stop *stop, esp_tube **ret_tube, esp_error *reterr) {
    tubing t = {.models = {policy, reference, dynamics, dynamics}, .box = box, .opts = opts, .stop = stop, .steps = steps};
    if (steps < 1 || steps > ESP_MAX_LOOP_STEPS) return esp_fail(reterr, ESP_INVALID, "%d steps; 1 to %d are handled", steps, ESP_MAX_LOOP_STEPS);
    esp_code code = tubing_init(&t, dynamics, reterr);
    if (!code) find_witness(&t);
    if (!code) code = bound_program(&t, reterr);
    if (!code) code = bound_product(&t, reterr);
    if (!code) code = bound_forever(&t, reterr);
    if (!code) {
        *ret_tube = t.tube;
        t.tube = NULL;
    }
    tubing_done(&t);
    return code;
}
