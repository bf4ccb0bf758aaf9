/* SPDX-License-Identifier: Apache-2.0
 * The planning stage: the present substituted, a plan at once, better ones and bounds after, a status at the end.
 *
 *   mip       starts -> bound by ranges -> short descent and CEM -> root and search (plan/mip.h)
 *   the rest  starts -> their own iterations -> bound by ranges, when there is time for it
 *
 * It ends as soon as the asked gap is met. Which engine searches is decided in run_mip only. */
#include "plan/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/gradient.h"
#include "plan/mip.h"
#include "plan/problem.h"
#include "plan/sample.h"
#include "plan/share.h"
#include "plan/tighten.h"
#include "plan/tree.h"
#include "plan/verify.h"

const char *const esp_plan_status_names[] = {"optimal", "feasible", "fallback", "infeasible", "unknown", NULL};

#define CROWN_SHARE    0.25 /* of the time left that ranges by CROWN may take */
#define CROWN_SECONDS  60.0 /* and never longer */
#define DESCENT_SHARE  0.3 /* of the time left that descent may take before the search */
#define CEM_SHARE      0.1 /* and sampling */
#define CONFIRM_STARTS 64 /* of the descent that a given plan has to stand up to */
#define CONFIRM_SHARE  1e-3 /* a plan this share better is another one */
#define UNHURRIED      1.0 /* seconds left from which they have more starts */

struct esp_planner {
    const esp_model *model;
    esp_program *step;
    esp_sampler *sampler;
    double *y_lower, *y_upper; /* ny: the data box of y, NULL when unknown */
};

void esp_plan_result_done(esp_plan_result *result) {
    esp_plan_done(&result->best);
}

/* The box of one y: the hull over the rows of the history. */
static bool take_data_box(esp_planner *planner, const double *x_lower, const double *x_upper) {
    int ny = planner->model->ny, rows = planner->model->history;
    planner->y_lower = malloc((size_t)ny * sizeof(double));
    planner->y_upper = malloc((size_t)ny * sizeof(double));
    if (!planner->y_lower || !planner->y_upper) return false;
    for (int i = 0; i < ny; i++) {
        planner->y_lower[i] = x_lower[i];
        planner->y_upper[i] = x_upper[i];
        for (int s = 1; s < rows; s++) {
            planner->y_lower[i] = fmin(planner->y_lower[i], x_lower[s * ny + i]);
            planner->y_upper[i] = fmax(planner->y_upper[i], x_upper[s * ny + i]);
        }
    }
    return true;
}

esp_code esp_planner_create(const esp_model *model, const double *x_lower, const double *x_upper, esp_planner **ret_planner, esp_error *reterr) {
    if (model->kind != ESP_MODEL_DYNAMICS)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/model", "planning needs a dynamics model, this is a policy");
    if (model->nu < 1) return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/model", "a model without inputs cannot be planned with");
    esp_planner *planner = calloc(1, sizeof *planner);
    if (!planner) return esp_fail(reterr, ESP_NOMEM, "a planner");
    planner->model = model;
    esp_code code = esp_program_lower(model, &planner->step, reterr);
    if (code == ESP_OK) code = esp_sampler_create(planner->step, &planner->sampler, reterr);
    if (code == ESP_OK && x_lower && x_upper && !take_data_box(planner, x_lower, x_upper)) code = esp_fail(reterr, ESP_NOMEM, "a planner");
    if (code == ESP_OK)
        *ret_planner = planner;
    else
        esp_planner_free(planner);
    return code;
}

void esp_planner_free(esp_planner *planner) {
    if (!planner) return;
    esp_program_free(planner->step);
    esp_sampler_free(planner->sampler);
    free(planner->y_lower);
    free(planner->y_upper);
    free(planner);
}

/* The plans that cost nothing to think of: the caller's, the safe input, zero, the middle of the box. */
static esp_code offer_starts(esp_track *track, const double *start, esp_error *reterr) {
    const esp_problem *p = track->problem;
    int hu = p->horizon * p->nu;
    double *inputs = calloc((size_t)hu, sizeof *inputs);
    if (!inputs) return esp_fail(reterr, ESP_NOMEM, "a plan");
    if (start) (void)esp_track_offer(track, start, "start");
    if (p->task->safe) {
        for (int k = 0; k < hu; k++) inputs[k] = p->task->safe[k % p->nu];
        (void)esp_track_offer(track, inputs, "safe");
    }
    memset(inputs, 0, (size_t)hu * sizeof *inputs);
    (void)esp_track_offer(track, inputs, "zero");
    for (int k = 0; k < hu; k++) inputs[k] = 0.5 * (p->u_lower[k] + p->u_upper[k]);
    (void)esp_track_offer(track, inputs, "middle");
    free(inputs);
    return ESP_OK;
}

typedef struct answer {
    bool infeasible; /* proved */
    int binaries;
    const char *method;
} answer;

/* Ranges and the bound they give; *ret_done when they settle the matter. Ranges that cannot be had (too many ReLUs,
 * not finite) leave `tightened` empty and are not an error. */
static esp_code bound_by_ranges(esp_track *track, esp_tightened *tightened, answer *ret, esp_error *reterr) {
    const esp_problem *p = track->problem;
    bool crown = esp_tighten_seconds(p) < fmin(CROWN_SHARE * esp_track_left(track), CROWN_SECONDS);
    esp_code code = esp_tighten(p, crown, tightened, reterr);
    if (code == ESP_NUMERIC || code == ESP_TOO_LARGE || code == ESP_UNPROCESSABLE) return ESP_OK;
    if (code != ESP_OK) return code;
    ret->binaries = esp_ranges_unstable(tightened->ranges);
    if (!track->found && esp_tighten_refutes(p, tightened->ranges))
        ret->infeasible = true;
    else
        esp_track_bound(track, esp_tighten_bound(p, tightened->ranges));
    return ESP_OK;
}

/* Descent from the plan at hand, which the caller gave, and from a few other points: *ret_confirmed when those find nothing better. A
 * robot's last plan, shifted, mostly is confirmed, in a tenth of the time that a search from nothing takes. */
static esp_code confirm_start(esp_planner *planner, esp_track *track, bool *ret_confirmed, esp_error *reterr) {
    esp_gradient_options descent = {.iterations = 200, .starts = 1, .repeats = 1, .rate = 0.1, .seed = track->problem->task->seed};
    descent.seconds = DESCENT_SHARE * esp_track_left(track);
    esp_code code = esp_gradient_run(planner->sampler, track, &descent, reterr);
    if (code != ESP_OK) return code;
    double own = track->best.objective;
    descent.starts = CONFIRM_STARTS;
    code = esp_gradient_run(planner->sampler, track, &descent, reterr);
    *ret_confirmed = track->best.objective >= own - CONFIRM_SHARE * fabs(own);
    return code;
}

/* Descent from many starts finds the basin, most often the best one; sampling also gets across the kinks of limits and
 * values. Without hurry both look further,
 * and a plan that the caller gave may do instead: under a short deadline the plan matters more than its proof. */
static esp_code improve_briefly(esp_planner *planner, esp_track *track, esp_error *reterr) {
    uint64_t seed = track->problem->task->seed;
    double left = esp_track_left(track);
    bool hurry = left < UNHURRIED, confirmed = false;
    bool smooth = esp_tree_takes(track->problem) && !esp_problem_limits_y(track->problem); /* else sampling is worth its time */
    if (!hurry && smooth && track->found && strcmp(track->best.found_by, "start") == 0) {
        esp_code done = confirm_start(planner, track, &confirmed, reterr);
        if (done != ESP_OK || confirmed) return done;
    }
    esp_gradient_options descent = {.iterations = 200, .starts = 1024, .repeats = 10, .rate = 0.1, .seconds = DESCENT_SHARE * left, .seed = seed};
    esp_sample_options cem = {.samples = 160, .iterations = 30, .starts = hurry ? 2 : 8, .patience = 6, .seconds = CEM_SHARE * left, .seed = seed};
    esp_code code = esp_gradient_run(planner->sampler, track, &descent, reterr);
    return code == ESP_OK ? esp_cem_run(planner->sampler, track, &cem, reterr) : code;
}

static esp_code run_mip(esp_planner *planner, esp_track *track, answer *ret, esp_error *reterr) {
    esp_tightened tightened = {0};
    ret->method = esp_mip_method(track->problem);
    esp_code code = bound_by_ranges(track, &tightened, ret, reterr);
    if (code == ESP_OK && !ret->infeasible) code = improve_briefly(planner, track, reterr);
    if (code == ESP_OK && !ret->infeasible && tightened.ranges && !esp_track_met(track) && !esp_track_stop(track)) {
        esp_mip_result result = {0};
        code = esp_mip_run(track, &tightened, &result, reterr);
        ret->infeasible = result.infeasible;
        ret->binaries = result.binaries;
    }
    esp_tightened_done(&tightened);
    return code;
}

static esp_code run_method(esp_planner *planner, esp_track *track, answer *ret, esp_error *reterr) {
    const esp_task *task = track->problem->task;
    esp_sample_options cem = esp_cem_defaults, mppi = esp_mppi_defaults;
    esp_gradient_options descent = esp_gradient_defaults;
    esp_code code = ESP_OK;
    cem.seed = mppi.seed = descent.seed = task->seed;
    ret->method = esp_method_names[task->method];
    switch (task->method) {
    case ESP_METHOD_MIP: return run_mip(planner, track, ret, reterr);
    case ESP_METHOD_MPPI: code = esp_mppi_run(planner->sampler, track, &mppi, reterr); break;
    case ESP_METHOD_CEM: code = esp_cem_run(planner->sampler, track, &cem, reterr); break;
    case ESP_METHOD_GRADIENT: code = esp_gradient_run(planner->sampler, track, &descent, reterr); break;
    }
    if (code != ESP_OK || esp_track_stop(track) || esp_tighten_seconds(track->problem) > 0.1) return code;
    esp_tightened tightened = {0};
    code = bound_by_ranges(track, &tightened, ret, reterr);
    esp_tightened_done(&tightened);
    return code;
}

static esp_plan_status status_of(const esp_track *track, const answer *a) {
    const esp_problem *p = track->problem;
    if (track->found) return p->ranges_sound && esp_track_met(track) ? ESP_PLAN_OPTIMAL : ESP_PLAN_FEASIBLE;
    return p->empty || (a->infeasible && p->ranges_sound) ? ESP_PLAN_INFEASIBLE : ESP_PLAN_UNKNOWN;
}

static void finish(esp_track *track, const answer *a, esp_plan_result *ret_result) {
    esp_plan_result result = {
        .status = status_of(track, a), .lower_bound = track->lower_bound, .gap = (double)NAN, .ranges_sound = track->problem->ranges_sound};
    result.nodes = track->nodes;
    result.binaries = a->binaries;
    result.method = a->method;
    if (track->found) {
        double objective = track->best.objective;
        result.lower_bound = fmin(result.lower_bound, objective); /* a plan found later may use a limit's tolerance */
        result.best = track->best;
        track->best = (esp_plan){0};
        if (isfinite(result.lower_bound)) result.gap = esp_relative_gap(objective, result.lower_bound);
    }
    *ret_result = result;
}

static esp_code check_task(const esp_planner *planner, const esp_task *task, esp_error *reterr) {
    if (task->ny != planner->model->ny || task->nu != planner->model->nu)
        return esp_fail_at(reterr, ESP_INVALID, "/model", "the task is for %d outputs and %d inputs, the model has %d and %d", task->ny, task->nu,
                           planner->model->ny, planner->model->nu);
    return ESP_OK;
}

esp_code esp_planner_problem(const esp_planner *planner, const esp_task *task, const esp_plan_request *request, esp_problem **ret_problem,
                             esp_error *reterr) {
    esp_code code = check_task(planner, task, reterr);
    if (code != ESP_OK) return code;
    return esp_problem_create(task, planner->step, planner->model->history, planner->y_lower, planner->y_upper, request, ret_problem, reterr);
}

/* Asked for by name, an engine is used or refused, never replaced. */
static esp_code check_engine(const esp_problem *problem, esp_error *reterr) {
    const esp_task *task = problem->task;
    if (task->method != ESP_METHOD_MIP || task->engine != ESP_ENGINE_TREE || esp_tree_takes(problem)) return ESP_OK;
    return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/planner/engine", "\"tree\" takes no input values and no boxes to avoid; \"cbc\" takes all");
}

esp_code esp_plan_run(esp_planner *planner, const esp_task *task, const esp_plan_request *request, const esp_plan_hooks *hooks, const esp_stop *stop,
                      esp_plan_result *ret_result, esp_error *reterr) {
    esp_problem *problem = NULL;
    esp_track track = {0};
    answer a = {.method = esp_method_names[task->method]};
    esp_code code = esp_planner_problem(planner, task, request, &problem, reterr);
    if (code == ESP_OK) code = esp_track_init(problem, hooks, stop, &track, reterr);
    if (code == ESP_OK) code = check_engine(problem, reterr);
    if (code != ESP_OK) goto out;
    esp_track_bound(&track, 0.0); /* no term of a cost is negative, and no penalty */
    if (!problem->empty) code = offer_starts(&track, request->start, reterr);
    if (code == ESP_OK && !problem->empty && !esp_track_met(&track) && !esp_track_stop(&track)) code = run_method(planner, &track, &a, reterr);
    if (code == ESP_OK) finish(&track, &a, ret_result);
out:
    esp_track_done(&track);
    esp_problem_free(problem);
    return code;
}

esp_code esp_plan_help(esp_planner *planner, const esp_task *task, const esp_plan_request *request, const void *nodes, size_t len,
                       const esp_plan_hooks *hooks, const esp_stop *stop, esp_share_result *ret_result, esp_error *reterr) {
    esp_problem *problem = NULL;
    esp_track track = {0};
    esp_code code = esp_planner_problem(planner, task, request, &problem, reterr);
    if (code == ESP_OK) code = esp_track_init(problem, hooks, stop, &track, reterr);
    if (code == ESP_OK) code = esp_share_search(&track, nodes, len, ret_result, reterr);
    esp_track_done(&track);
    esp_problem_free(problem);
    return code;
}
