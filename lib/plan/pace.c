/* SPDX-License-Identifier: Apache-2.0
 * Cuts by small exact searches. What they are for and why they hold is in the header. */
#include "plan/pace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"
#include "plan/tree.h"

#define POLISH_SOLVES   20
#define TIGHTEN_SECONDS 0.3
#define TOLERANCE       0.05 /* of the best plan's largest step: a bound this near is near enough */
#define FAR             1.5 /* times that step: a bound that is further off ends the search for more */
#define PATIENCE        0.1 /* seconds, doubled again and again: by then the way to the bound must have */
#define SHRUNK          0.75 /* shrunk below this share of what it was */
#define INSTANT         0.01 /* seconds: what a search takes at least, for growth to be told from noise */
#define STEEPEST        8.0 /* growth from one search to the next that is reckoned with: one that is broken off has a bound too */

typedef struct finder {
    esp_root *root;
    int64_t end;
    double largest; /* step of the best plan */
    double *slope; /* ny: of a step's cost */
    int *at; /* 2 ny: a cut */
    double *weight; /* 2 ny */
} finder;

static const double *best_y(const finder *f, int t) {
    return f->root->track->best.predicted + t * f->root->problem->ny;
}

/* ---- the direction ----------------------------------------------------------------------------------------------- */

/* Adds the slope of one cost term at y. */
static void add_slope(const esp_piece *piece, const double *y, double *slope) {
    double most = 0.0;
    for (int k = 0; k < piece->n; k++) most = fmax(most, piece->weight[k] * fabs(y[piece->index[k]] - piece->target[k]));
    for (int k = 0; k < piece->n; k++) {
        double d = y[piece->index[k]] - piece->target[k], size = piece->weight[k];
        if (piece->norm == ESP_COST_L2SQ) size *= 2.0 * fabs(d);
        if (piece->norm == ESP_COST_LINF && size * fabs(d) < most) continue;
        slope[piece->index[k]] += d > 0.0 ? size : -size;
    }
}

/* Of step t's cost at the best plan's y(t-1). False: it costs nothing there. */
static bool take_slope(const finder *f, int t) {
    const esp_problem *p = f->root->problem;
    bool any = false;
    memset(f->slope, 0, (size_t)p->ny * sizeof *f->slope);
    for (int c = 0; c < p->n_pieces; c++)
        if (p->pieces[c].on == ESP_ON_Y && p->pieces[c].t == t) add_slope(&p->pieces[c], best_y(f, t - 1), f->slope);
    for (int i = 0; i < p->ny; i++) any = any || f->slope[i] != 0.0;
    return any;
}

static double best_step(const finder *f, int t) {
    double sum = 0.0;
    for (int i = 0; i < f->root->problem->ny; i++) sum += f->slope[i] * (best_y(f, t - 1)[i] - best_y(f, t)[i]);
    return sum;
}

/* ---- the search -------------------------------------------------------------------------------------------------- */

/* a'(y(t) - y(t-1)) as a cost: |y - end| is linear when `end` is an end of y's range. */
typedef struct reach {
    esp_task task;
    esp_problem problem;
    esp_cuts cuts; /* none */
    esp_piece pieces[2];
    double constant, size; /* a'(y(t) - y(t-1)) = cost + constant; what its rounding is charged by */
    int *index;
    double *memory;
} reach;

static bool reach_make(const finder *f, int t, reach *r) {
    const esp_root *root = f->root;
    const esp_problem *p = root->problem;
    int ny = p->ny, n = 0;
    *r = (reach){.task = *p->task, .problem = *p};
    r->index = malloc((size_t)ny * sizeof *r->index);
    r->memory = malloc(3 * (size_t)ny * sizeof *r->memory);
    if (!r->index || !r->memory) return false;
    double *weight = r->memory, *before = weight + ny, *after = before + ny;
    for (int i = 0; i < ny; i++) {
        double a = f->slope[i];
        if (a == 0.0) continue;
        r->index[n] = i;
        weight[n] = fabs(a);
        before[n] = a > 0.0 ? root->ranges->y_upper[(t - 1) * ny + i] : root->ranges->y_lower[(t - 1) * ny + i];
        after[n] = a > 0.0 ? root->ranges->y_lower[t * ny + i] : root->ranges->y_upper[t * ny + i];
        r->constant += a * (after[n] - before[n]);
        r->size += fabs(a) * (fabs(after[n]) + fabs(before[n]));
        n++;
    }
    r->pieces[0] = (esp_piece){ESP_ON_Y, ESP_COST_L1, t - 1, n, r->index, weight, before};
    r->pieces[1] = (esp_piece){ESP_ON_Y, ESP_COST_L1, t, n, r->index, weight, after};
    r->task.gap = 0.0;
    r->task.absolute_gap = TOLERANCE * f->largest;
    esp_problem *q = &r->problem;
    q->task = &r->task;
    q->horizon = t + 1;
    q->pieces = r->pieces;
    q->n_pieces = 2;
    q->cuts = &r->cuts;
    q->n_softs = 0; /* what limits that may be violated cost is not what is asked */
    q->penalty = 0.0;
    q->u_lower = root->u_lower;
    q->u_upper = root->u_upper;
    return true;
}

static void reach_done(reach *r) {
    free(r->index);
    free(r->memory);
}

/* When to give up: out of time, or the bound hardly moves. */
typedef struct patience {
    const esp_stop *stop; /* or NULL */
    const esp_track *track;
    int64_t begin, mark;
    double way; /* from the bound to the best, at the last mark */
} patience;

static bool impatient(void *user) {
    patience *p = user;
    int64_t now = esp_clock_now_ns();
    if (p->stop && p->stop->cancelled && p->stop->cancelled(p->stop->user)) return true;
    if (now < p->mark) return false;
    double way = p->track->best.objective - p->track->lower_bound;
    if (way > SHRUNK * p->way) return true;
    p->way = way;
    p->mark = p->begin + 2 * (now - p->begin);
    return false;
}

/* Root and tree over the small problem; its bound is the track's. */
static esp_code search(const finder *f, esp_track *track, const esp_tightened *tightened, esp_error *reterr) {
    esp_root *root = NULL;
    esp_tree_options options = ESP_TREE_OPTIONS_INIT;
    bool exhausted;
    esp_track_bound(track, 0.0);
    (void)esp_track_offer(track, f->root->track->best.inputs, "start");
    esp_code code = esp_root_create(track, tightened, &root, reterr);
    if (code == ESP_OK) code = esp_root_relax(root, reterr);
    if (code == ESP_OK && track->found) code = esp_root_polish(root, track->best.inputs, POLISH_SOLVES, reterr);
    if (code == ESP_OK && track->found && !esp_track_met(track)) {
        code = esp_root_tighten(root, esp_root_cutoff(track), TIGHTEN_SECONDS, reterr);
        if (code == ESP_OK && !root->nothing_below) code = esp_root_relax(root, reterr);
    }
    bool open = code == ESP_OK && track->found && !root->nothing_below && !esp_track_met(track) && !esp_track_stop(track);
    if (open) code = esp_tree_search(root, &options, &exhausted, reterr);
    esp_root_free(root);
    return code;
}

/* *ret_most: no plan below the cutoff steps further; INFINITY when nothing is known. */
static esp_code bound_step(const finder *f, int t, double *ret_most, esp_error *reterr) {
    const esp_problem *p = f->root->problem;
    esp_ranges *known = f->root->ranges;
    esp_ranges ranges = {(t + 1) * p->step->n_r, (t + 1) * p->ny, known->p_lower, known->p_upper, known->y_lower, known->y_upper};
    esp_tightened tightened = {NULL, &ranges};
    esp_track track = {0};
    reach r;
    int64_t now = esp_clock_now_ns();
    patience waits = {f->root->track->stop, &track, now, now + (int64_t)(PATIENCE * ESP_NS_PER_S), (double)INFINITY};
    esp_stop stop = {f->end, impatient, &waits};
    esp_code code = reach_make(f, t, &r) ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "a step's problem");
    if (code == ESP_OK) code = esp_program_unroll(p->step, p->ny, p->nu, p->history, t + 1, p->y_past, p->u_past, &tightened.unrolled, reterr);
    if (code == ESP_OK) code = esp_track_init(&r.problem, NULL, &stop, &track, reterr);
    if (code == ESP_OK) code = search(f, &track, &tightened, reterr);
    if (code == ESP_OK) {
        double size = r.size + fabs(track.lower_bound);
        *ret_most = track.found ? -(track.lower_bound + r.constant) + esp_gamma((size_t)(4 * p->ny + 16)) * size : (double)INFINITY;
    }
    esp_track_done(&track);
    esp_program_free(tightened.unrolled);
    reach_done(&r);
    return code;
}

/* ---- cuts -------------------------------------------------------------------------------------------------------- */

static esp_code add_cut(const finder *f, int t, double most, esp_error *reterr) {
    const esp_problem *p = f->root->problem;
    int n = 0;
    for (int side = 0; side <= 1; side++)
        for (int i = 0; i < p->ny; i++) {
            if (f->slope[i] == 0.0) continue;
            f->at[n] = (t - 1 + side) * p->ny + i;
            f->weight[n++] = side ? -f->slope[i] : f->slope[i];
        }
    return esp_problem_cut(p, n, f->at, f->weight, most, reterr);
}

/* One step's cut. *ret_go: the next may be worth it. */
static esp_code cut_step(finder *f, int t, bool *ret_go, esp_error *reterr) {
    double most = (double)INFINITY;
    *ret_go = true;
    if (!take_slope(f, t)) return ESP_OK;
    esp_code code = bound_step(f, t, &most, reterr);
    *ret_go = most <= FAR * f->largest;
    if (code != ESP_OK || !isfinite(most)) return code;
    code = add_cut(f, t, most, reterr);
    if (code == ESP_OK) code = esp_root_renew(f->root, reterr);
    return code == ESP_OK ? esp_root_relax(f->root, reterr) : code;
}

static bool finder_take(finder *f) {
    size_t ny = (size_t)f->root->problem->ny;
    f->slope = malloc(ny * sizeof *f->slope);
    f->at = malloc(2 * ny * sizeof *f->at);
    f->weight = malloc(2 * ny * sizeof *f->weight);
    return f->slope && f->at && f->weight;
}

/* Whether the next step is worth a search: each takes longer than the one before by a factor that hardly changes. *last, seconds, of this one's
 * search and before of the one's before. */
static bool affordable(const finder *f, int64_t began, double *last) {
    int64_t now = esp_clock_now_ns();
    double before = *last;
    *last = fmax(INSTANT, (double)(now - began) / (double)ESP_NS_PER_S);
    return *last * fmin(STEEPEST, fmax(1.0, *last / before)) * (double)ESP_NS_PER_S <= (double)(f->end - now);
}

static void find_largest(finder *f) {
    for (int t = 1; t < f->root->problem->horizon; t++)
        if (take_slope(f, t)) f->largest = fmax(f->largest, best_step(f, t));
}

esp_code esp_pace_find(esp_root *root, double seconds, esp_error *reterr) {
    const esp_problem *p = root->problem;
    finder f = {.root = root, .end = esp_clock_now_ns() + (int64_t)(seconds * 1e9)};
    esp_code code = finder_take(&f) ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "cuts");
    if (code == ESP_OK) find_largest(&f);
    bool go = f.largest > 0.0;
    double last = INSTANT;
    for (int t = 1; code == ESP_OK && go && t < p->horizon && p->cuts->n < ESP_MAX_CUTS; t++) {
        if (root->nothing_below || esp_track_stop(root->track) || esp_clock_now_ns() >= f.end) break;
        int64_t began = esp_clock_now_ns();
        code = cut_step(&f, t, &go, reterr);
        go = go && affordable(&f, began, &last);
    }
    free(f.slope);
    free(f.at);
    free(f.weight);
    return code;
}
