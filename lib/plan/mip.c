/* SPDX-License-Identifier: Apache-2.0
 * Root and CBC, in rounds. */
#include "plan/mip.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/cbc.h"
#include "plan/pace.h"
#include "plan/tree.h"

#define ROUNDS          12 /* searches, each with more tangents than the last */
#define POLISH_SOLVES   60
#define TIGHTEN_SHARE   0.35 /* of the time left */
#define TIGHTEN_SECONDS 30.0 /* and never longer */
#define PACE_SHARE      0.45 /* of the time left, for cuts */
#define PACE_SECONDS    15.0 /* and never longer */
#define PACE_LEAST      0.5 /* with less they do not come in time to be of use */
#define MARGIN_SHARE    0.1 /* of the time left, kept back: CBC's limit is soft */
#define MARGIN_SECONDS  0.005
#define LEAST_SECONDS   0.01 /* less is not worth starting CBC for, which would overrun it */

/* Seconds CBC may have. */
static double search_seconds(const esp_track *track) {
    double left = esp_track_left(track);
    return isfinite(left) ? left - MARGIN_SECONDS - MARGIN_SHARE * left : left;
}

/* The big-M model over the root's ranges and input box. */
static esp_code encode(esp_root *root, esp_encoding *ret_encoding, esp_error *reterr) {
    esp_code code = esp_encode(root->problem, root->ranges, root->problem->horizon, true, &root->tangents, ret_encoding, reterr);
    for (int k = 0; code == ESP_OK && k < ret_encoding->n_u; k++) {
        ret_encoding->lp.col_lower[ret_encoding->u[k]] = root->u_lower[k];
        ret_encoding->lp.col_upper[ret_encoding->u[k]] = root->u_upper[k];
    }
    return code;
}

/* Tangents at a model's solution where it lies under the squares; how many. */
static int add_tangents(esp_root *root, const esp_encoding *e, const double *x) {
    int added = 0;
    for (int k = 0; k < e->n_squares; k++) {
        double d = esp_square_at(&e->squares[k], x), s = x[e->squares[k].s];
        if (d * d - s <= 1e-7 * fmax(1e-3, d * d)) continue;
        if (!esp_tangents_add(&root->tangents, k, d)) return added;
        added++;
    }
    return added;
}

/* The solution's inputs, replayed; and its phases polished, which repairs a plan that is outside by a hair. */
static esp_code take_solution(esp_root *root, const esp_encoding *e, const double *x, esp_error *reterr) {
    double *inputs = malloc((size_t)e->n_u * sizeof *inputs);
    if (!inputs) return esp_fail(reterr, ESP_NOMEM, "a plan");
    for (int k = 0; k < e->n_u; k++) inputs[k] = x[e->u[k]];
    bool better = esp_track_offer(root->track, inputs, "cbc");
    esp_code code = ESP_OK;
    if (!better && !esp_track_met(root->track)) {
        esp_problem_project(root->problem, inputs);
        code = esp_root_polish(root, inputs, 1, reterr);
    }
    free(inputs);
    return code;
}

/* A second search, without cutoff and with other settings, agrees that there is no plan. */
static bool confirmed(esp_root *root, const esp_lp *lp, double *x) {
    esp_cbc_options options = {.cutoff = (double)INFINITY, .seconds = search_seconds(root->track), .second_look = true};
    esp_cbc_result result;
    if (root->track->found || !(options.seconds > 0.0)) return false;
    return esp_cbc_solve(lp, &options, x, &result, NULL) == ESP_OK && result.status == ESP_CBC_INFEASIBLE;
}

/* The marked columns of the best plan, into x. */
static const double *start_of(esp_root *root, const esp_encoding *e, double *x) {
    esp_root_replay(root, root->track->best.inputs);
    esp_encoding_start(e, root->problem, root->track->best.inputs, root->predicted, root->pre, x);
    return x;
}

/* How much of the asked gap CBC may leave: all but what its tolerances are charged with. */
static double gap_share(const esp_track *track) {
    if (!track->found) return 0.5;
    const esp_task *task = track->problem->task;
    double best = track->best.objective, gap = fmax(task->gap * fabs(best), task->absolute_gap);
    return fmax(0.5, 1.0 - 3.0 * esp_solver_tolerance(best) / fmax(gap, 1e-12));
}

/* Now and then CBC ends at its start, claiming its optimality with a bound far below: the search is then repeated without
 * one, for plans below what proves the gap. */
typedef enum outcome { SEARCH_AGAIN, SEARCH_WITHOUT_START, SEARCH_OVER } outcome;

/* One search. Over when the gap is met, time is up, or another round would change nothing. */
static esp_code search(esp_root *root, const esp_encoding *e, double *x, bool without_start, esp_mip_result *result, outcome *ret_outcome,
                       esp_error *reterr) {
    esp_track *track = root->track;
    const esp_task *task = root->problem->task;
    bool bounded = track->found;
    bool start = bounded && !without_start;
    double best = bounded ? track->best.objective : (double)INFINITY;
    double cutoff = fmin(root->cutoff, start ? best + esp_solver_tolerance(best) : esp_root_cutoff(track));
    double share = e->n_squares > 0 ? 0.25 : gap_share(track);
    esp_cbc_options options = {
        .cutoff = cutoff, .gap = share * task->gap, .absolute_gap = share * task->absolute_gap, .seconds = search_seconds(track)};
    if (start) options.start = start_of(root, e, x);
    esp_cbc_result answer = {0};
    *ret_outcome = SEARCH_OVER;
    if (!(options.seconds > LEAST_SECONDS)) return ESP_OK;
    esp_code code = esp_cbc_solve(&e->lp, &options, x, &answer, reterr);
    if (code != ESP_OK) return code;
    track->nodes += answer.nodes;
    if (answer.found) code = take_solution(root, e, x, reterr);
    if (answer.status == ESP_CBC_INFEASIBLE && !bounded)
        result->infeasible = confirmed(root, &e->lp, x);
    else if (isfinite(answer.bound))
        esp_track_bound(track, fmin(answer.bound, options.cutoff) - esp_solver_tolerance(answer.bound));
    bool ended = answer.status == ESP_CBC_COMPLETE || answer.status == ESP_CBC_FAILED, unmet = code == ESP_OK && ended && !esp_track_met(track);
    if (unmet && answer.found && add_tangents(root, e, x) > 0)
        *ret_outcome = SEARCH_AGAIN;
    else if (unmet && start)
        *ret_outcome = SEARCH_WITHOUT_START;
    return code;
}

static esp_code search_in_rounds(esp_root *root, esp_mip_result *result, esp_error *reterr) {
    esp_code code = ESP_OK;
    outcome next = SEARCH_AGAIN;
    for (int round = 0; code == ESP_OK && next != SEARCH_OVER && round < ROUNDS && !esp_track_stop(root->track) && !esp_track_met(root->track);
         round++) {
        esp_encoding e = {0};
        code = encode(root, &e, reterr);
        if (code != ESP_OK) return code;
        result->binaries = e.binaries;
        double *x = malloc((size_t)e.lp.n_cols * sizeof *x);
        code = x ? search(root, &e, x, next == SEARCH_WITHOUT_START, result, &next, reterr) : esp_fail(reterr, ESP_NOMEM, "a search's solution");
        free(x);
        esp_encoding_done(&e);
    }
    return code;
}

static bool uses_tree(const esp_problem *problem) {
    return problem->task->engine != ESP_ENGINE_CBC && esp_tree_takes(problem);
}

/* What ranges are tightened under. CBC gets the best plan as its start, which must then lie inside. */
static double tightening_cutoff(const esp_root *root) {
    double best = root->track->best.objective;
    return uses_tree(root->problem) ? esp_root_cutoff(root->track) : best + esp_solver_tolerance(best);
}

/* Pays where the tree is large. CBC does without, so that each is the other's check. */
static esp_code cut(esp_root *root, esp_error *reterr) {
    const esp_tree_options options = ESP_TREE_OPTIONS_INIT;
    double seconds = fmin(PACE_SHARE * esp_track_left(root->track), PACE_SECONDS);
    bool large = esp_ranges_unstable(root->ranges) >= options.lazy_from;
    if (!uses_tree(root->problem) || !large || seconds < PACE_LEAST || esp_track_met(root->track)) return ESP_OK;
    return esp_pace_find(root, seconds, reterr);
}

static esp_code prepare(esp_root *root, esp_error *reterr) {
    esp_track *track = root->track;
    esp_code code = esp_root_relax(root, reterr);
    if (code != ESP_OK || root->infeasible || esp_track_met(track) || !track->found) return code;
    code = esp_root_polish(root, track->best.inputs, POLISH_SOLVES, reterr);
    if (code != ESP_OK || esp_track_met(track) || esp_ranges_unstable(root->ranges) == 0) return code;
    double left = esp_track_left(track), seconds = fmin(TIGHTEN_SHARE * left, TIGHTEN_SECONDS);
    code = esp_root_tighten(root, tightening_cutoff(root), seconds, reterr);
    if (code == ESP_OK && !root->nothing_below) code = esp_root_relax(root, reterr);
    return code == ESP_OK && !root->nothing_below ? cut(root, reterr) : code;
}

const char *esp_mip_method(const esp_problem *problem) {
    return uses_tree(problem) ? "mip/tree" : "mip/cbc";
}

static esp_code run_engine(esp_root *root, esp_mip_result *result, esp_error *reterr) {
    if (!uses_tree(root->problem)) return search_in_rounds(root, result, reterr);
    esp_tree_options options = ESP_TREE_OPTIONS_INIT;
    bool exhausted = false;
    result->binaries = esp_ranges_unstable(root->ranges);
    esp_code code = esp_tree_search(root, &options, &exhausted, reterr);
    if (code == ESP_OK) result->infeasible = exhausted && !root->track->found;
    return code;
}

/* A dense tableau of more than this many entries (256 MiB) is not worth making: no search over so many ReLUs ends. */
#define MOST_ENTRIES 3.3e7

static bool too_large(const esp_problem *problem, const esp_ranges *ranges) {
    double rows = 2.0 * esp_ranges_unstable(ranges) + problem->horizon * problem->ny;
    return rows * rows > MOST_ENTRIES;
}

esp_code esp_mip_run(esp_track *track, const esp_tightened *tightened, esp_mip_result *ret_result, esp_error *reterr) {
    esp_root *root = NULL;
    esp_mip_result result = {.binaries = esp_ranges_unstable(tightened->ranges)};
    if (too_large(track->problem, tightened->ranges)) {
        *ret_result = result;
        return ESP_OK;
    }
    esp_code code = esp_root_create(track, tightened, &root, reterr);
    if (code == ESP_OK) code = prepare(root, reterr);
    if (code == ESP_OK) result.infeasible = root->infeasible && !track->found;
    if (code == ESP_OK && !result.infeasible && !root->nothing_below) code = run_engine(root, &result, reterr);
    esp_root_free(root);
    if (code == ESP_OK) *ret_result = result;
    return code;
}
