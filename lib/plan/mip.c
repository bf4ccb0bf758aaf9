/* SPDX-License-Identifier: Apache-2.0
 * Root and CBC, in rounds. */
#include "plan/mip.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/tree.h"

#define ROUNDS          12 /* searches, each with more tangents than the last */
#define POLISH_SOLVES   60
#define TIGHTEN_SHARE   0.35 /* of the time left */
#define TIGHTEN_SECONDS 30.0 /* and never longer */
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

typedef enum outcome { SEARCH_AGAIN, SEARCH_OVER } outcome;

/* One search. Over when the gap is met, time is up, or another round would change nothing. */
static esp_code search(esp_root *root, const esp_encoding *e, double *x, esp_mip_result *result, outcome *ret_outcome, esp_error *reterr) {
    esp_track *track = root->track;
    const esp_task *task = root->problem->task;
    bool bounded = track->found;
    double cutoff = fmin(root->cutoff, esp_root_cutoff(track)), share = e->n_squares > 0 ? 0.25 : 0.5;
    esp_cbc_options options = {
        .cutoff = cutoff, .gap = share * task->gap, .absolute_gap = share * task->absolute_gap, .seconds = search_seconds(track)};
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
        esp_track_bound(track, fmin(answer.bound, cutoff) - esp_solver_tolerance(answer.bound));
    if (code == ESP_OK && answer.status == ESP_CBC_COMPLETE && !esp_track_met(track) && add_tangents(root, e, x) > 0) *ret_outcome = SEARCH_AGAIN;
    return code;
}

static esp_code search_in_rounds(esp_root *root, esp_mip_result *result, esp_error *reterr) {
    esp_code code = ESP_OK;
    outcome next = SEARCH_AGAIN;
    for (int round = 0; code == ESP_OK && next == SEARCH_AGAIN && round < ROUNDS && !esp_track_stop(root->track) && !esp_track_met(root->track);
         round++) {
        esp_encoding e = {0};
        code = encode(root, &e, reterr);
        if (code != ESP_OK) return code;
        result->binaries = e.binaries;
        double *x = malloc((size_t)e.lp.n_cols * sizeof *x);
        code = x ? search(root, &e, x, result, &next, reterr) : esp_fail(reterr, ESP_NOMEM, "a search's solution");
        free(x);
        esp_encoding_done(&e);
    }
    return code;
}

static esp_code prepare(esp_root *root, esp_error *reterr) {
    esp_track *track = root->track;
    esp_code code = esp_root_relax(root, reterr);
    if (code != ESP_OK || root->infeasible || esp_track_met(track) || !track->found) return code;
    code = esp_root_polish(root, track->best.inputs, POLISH_SOLVES, reterr);
    if (code != ESP_OK || esp_track_met(track) || root->encoding.binaries == 0) return code;
    double left = esp_track_left(track), seconds = fmin(TIGHTEN_SHARE * left, TIGHTEN_SECONDS);
    code = esp_root_tighten(root, seconds, reterr);
    if (code == ESP_OK && !root->nothing_below) code = esp_root_relax(root, reterr);
    return code;
}

static bool uses_tree(const esp_problem *problem) {
    return problem->task->engine != ESP_ENGINE_CBC && esp_tree_takes(problem);
}

const char *esp_mip_method(const esp_problem *problem) {
    return uses_tree(problem) ? "mip/tree" : "mip/cbc";
}

static esp_code run_engine(esp_root *root, esp_mip_result *result, esp_error *reterr) {
    if (!uses_tree(root->problem)) return search_in_rounds(root, result, reterr);
    esp_tree_options options = ESP_TREE_OPTIONS_INIT;
    bool exhausted = false;
    result->binaries = root->encoding.binaries;
    esp_code code = esp_tree_search(root, &options, &exhausted, reterr);
    if (code == ESP_OK) result->infeasible = exhausted && !root->track->found;
    return code;
}

esp_code esp_mip_run(esp_track *track, const esp_tightened *tightened, esp_mip_result *ret_result, esp_error *reterr) {
    esp_root *root = NULL;
    esp_mip_result result = {.binaries = esp_ranges_unstable(tightened->ranges)};
    esp_code code = esp_root_create(track, tightened, &root, reterr);
    if (code == ESP_OK) code = prepare(root, reterr);
    if (code == ESP_OK) result.infeasible = root->infeasible && !track->found;
    if (code == ESP_OK && !result.infeasible && !root->nothing_below) code = run_engine(root, &result, reterr);
    esp_root_free(root);
    if (code == ESP_OK) *ret_result = result;
    return code;
}
