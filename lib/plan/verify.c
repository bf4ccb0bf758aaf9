/* SPDX-License-Identifier: Apache-2.0
 * Replay and check. Compiled without contraction so that what is recomputed is what the formulas say. */
#include "plan/verify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double piece_value(const esp_problem *p, const esp_piece *piece, const double *inputs, const double *predicted, int k) {
    int i = piece->index[k];
    if (piece->on == ESP_ON_Y) return predicted[piece->t * p->ny + i];
    double u = inputs[piece->t * p->nu + i];
    return piece->on == ESP_ON_U ? u : u - esp_problem_previous(p, inputs, piece->t)[i];
}

static double piece_cost(const esp_problem *p, const esp_piece *piece, const double *inputs, const double *predicted) {
    double cost = 0.0;
    for (int k = 0; k < piece->n; k++) {
        double d = piece_value(p, piece, inputs, predicted, k) - piece->target[k], w = piece->weight[k];
        switch (piece->norm) {
        case ESP_COST_L1: cost += w * fabs(d); break;
        case ESP_COST_LINF: cost = fmax(cost, w * fabs(d)); break;
        case ESP_COST_L2SQ: cost += w * d * d; break;
        }
    }
    return cost;
}

static double terms_cost(const esp_problem *p, const double *inputs, const double *predicted) {
    double cost = 0.0;
    for (int k = 0; k < p->n_pieces; k++) cost += piece_cost(p, &p->pieces[k], inputs, predicted);
    return cost;
}

/* What y violates of the limits that the present violates, summed, and at most *most. */
static double step_slack(const esp_problem *p, const double *y, double *most) {
    double sum = 0.0;
    for (int k = 0; k < p->n_softs; k++) {
        double excess = esp_soft_excess(&p->softs[k], y);
        sum += excess;
        *most = fmax(*most, excess);
    }
    return sum;
}

static void measure_slack(const esp_problem *p, const double *predicted, esp_slack *slack) {
    slack->max = slack->total = 0.0;
    for (int t = 0; t < p->horizon; t++) {
        slack->steps[t] = step_slack(p, predicted + t * p->ny, &slack->max);
        slack->total += slack->steps[t];
    }
}

double esp_verify_objective(const esp_problem *p, const double *inputs, const double *predicted) {
    double total = 0.0, most = 0.0;
    for (int t = 0; t < p->horizon; t++) total += step_slack(p, predicted + t * p->ny, &most);
    return terms_cost(p, inputs, predicted) + p->penalty * total;
}

static double box_excess(const esp_problem *p, const double *predicted) {
    double worst = -INFINITY;
    for (int i = 0; i < p->horizon * p->ny; i++) {
        double lower = p->y_lower[i], upper = p->y_upper[i];
        if (isfinite(lower)) worst = fmax(worst, (lower - predicted[i]) / fmax(1.0, fabs(lower)));
        if (isfinite(upper)) worst = fmax(worst, (predicted[i] - upper) / fmax(1.0, fabs(upper)));
    }
    return worst;
}

double esp_verify_halfspace(const esp_halfspace *h, int ny, const double *y) {
    double sum = -h->b, scale = fabs(h->b);
    for (int i = 0; i < ny; i++) {
        sum += h->a[i] * y[i];
        scale = fmax(scale, fabs(h->a[i]));
    }
    return sum / (scale > 0.0 ? scale : 1.0);
}

double esp_verify_avoid(const esp_avoid *avoid, const double *y) {
    double depth = INFINITY;
    for (int k = 0; k < avoid->n; k++) {
        double v = y[avoid->index[k]];
        depth = fmin(depth, (v - avoid->lower[k]) / fmax(1.0, fabs(avoid->lower[k])));
        depth = fmin(depth, (avoid->upper[k] - v) / fmax(1.0, fabs(avoid->upper[k])));
    }
    return depth;
}

double esp_verify_limits_y(const esp_problem *p, const double *predicted) {
    double worst = box_excess(p, predicted);
    for (int t = 0; t < p->horizon; t++) {
        const double *y = predicted + t * p->ny;
        for (int k = 0; k < p->n_halfspaces; k++) worst = fmax(worst, esp_verify_halfspace(&p->halfspaces[k], p->ny, y));
        for (int k = 0; k < p->n_avoid; k++) worst = fmax(worst, esp_verify_avoid(&p->avoid[k], y));
    }
    return worst;
}

static bool is_value(const esp_task *task, const double *u) {
    for (int k = 0; k < task->n_values; k++) {
        bool same = true;
        for (int i = 0; i < task->nu; i++) same = same && u[i] == task->values[k * task->nu + i];
        if (same) return true;
    }
    return false;
}

bool esp_verify_limits_u(const esp_problem *p, const double *inputs) {
    const esp_task *task = p->task;
    for (int t = 0; t < p->horizon; t++) {
        const double *u = inputs + t * p->nu, *previous = esp_problem_rated(p, t) ? esp_problem_previous(p, inputs, t) : NULL;
        for (int i = 0; i < p->nu; i++) {
            if (!(u[i] >= task->u_lower[i] && u[i] <= task->u_upper[i])) return false;
            if (previous && !(fabs(u[i] - previous[i]) <= task->rate[i] + ESP_RATE_TOLERANCE * fmax(fabs(u[i]), fabs(previous[i])))) return false;
        }
        if (task->values && !is_value(task, u)) return false;
    }
    return true;
}

esp_code esp_plan_create(const esp_problem *p, esp_plan *ret_plan, esp_error *reterr) {
    esp_plan plan = {.horizon = p->horizon, .ny = p->ny, .nu = p->nu, .found_by = ""};
    plan.inputs = calloc((size_t)(p->horizon * p->nu), sizeof(double));
    plan.predicted = calloc((size_t)(p->horizon * p->ny), sizeof(double));
    plan.slack = (esp_slack){.n_limits = p->n_softs, .penalty = p->penalty};
    plan.slack.steps = calloc((size_t)p->horizon, sizeof(double));
    plan.slack.limits = calloc((size_t)p->n_softs + 1, sizeof(esp_limit));
    for (int k = 0; plan.slack.limits && k < p->n_softs; k++) plan.slack.limits[k] = p->softs[k].limit;
    if (!plan.inputs || !plan.predicted || !plan.slack.steps || !plan.slack.limits) {
        esp_plan_done(&plan);
        return esp_fail(reterr, ESP_NOMEM, "a plan of %d steps", p->horizon);
    }
    *ret_plan = plan;
    return ESP_OK;
}

void esp_plan_done(esp_plan *plan) {
    free(plan->inputs);
    free(plan->predicted);
    free(plan->slack.steps);
    free(plan->slack.limits);
    plan->inputs = plan->predicted = plan->slack.steps = NULL;
    plan->slack.limits = NULL;
}

bool esp_verify(const esp_problem *p, esp_plan *plan) {
    bool finite = true;
    for (int t = 0; t < p->horizon; t++) {
        esp_problem_window(p, t, plan->inputs, plan->predicted, p->x);
        esp_program_forward(p->step, p->x, plan->predicted + t * p->ny, NULL, NULL, p->r);
        for (int i = 0; i < p->ny; i++) finite = finite && isfinite(plan->predicted[t * p->ny + i]);
    }
    plan->cost = terms_cost(p, plan->inputs, plan->predicted);
    measure_slack(p, plan->predicted, &plan->slack);
    plan->objective = plan->cost + p->penalty * plan->slack.total;
    plan->violation = INFINITY;
    if (!finite || !isfinite(plan->objective) || !esp_verify_limits_u(p, plan->inputs)) return false;
    double violation = esp_verify_limits_y(p, plan->predicted);
    bool holds = violation <= ESP_LIMIT_TOLERANCE;
    plan->violation = holds ? 0.0 : violation;
    return holds;
}

esp_code esp_track_init(const esp_problem *problem, const esp_plan_hooks *hooks, const esp_stop *stop, esp_track *ret_track, esp_error *reterr) {
    esp_track track = {.problem = problem, .hooks = hooks, .stop = stop, .lower_bound = -INFINITY};
    esp_code code = esp_plan_create(problem, &track.best, reterr);
    if (code == ESP_OK) code = esp_plan_create(problem, &track.trial, reterr);
    if (code == ESP_OK)
        *ret_track = track;
    else
        esp_track_done(&track);
    return code;
}

void esp_track_done(esp_track *track) {
    esp_plan_done(&track->best);
    esp_plan_done(&track->trial);
}

bool esp_track_offer(esp_track *track, const double *inputs, const char *found_by) {
    const esp_problem *p = track->problem;
    if (p->empty) return false;
    memcpy(track->trial.inputs, inputs, (size_t)(p->horizon * p->nu) * sizeof *inputs);
    esp_problem_project(p, track->trial.inputs);
    if (!esp_verify(p, &track->trial)) return false;
    if (track->found && !(track->trial.objective < track->best.objective)) return false;
    esp_plan kept = track->best;
    track->best = track->trial;
    track->trial = kept;
    track->best.found_by = found_by;
    track->found = true;
    if (track->hooks && track->hooks->incumbent) track->hooks->incumbent(track->hooks->user, &track->best, track->nodes);
    return true;
}

void esp_track_bound(esp_track *track, double lower_bound) {
    if (track->found && lower_bound > track->best.objective) lower_bound = track->best.objective;
    if (!(lower_bound > track->lower_bound) || !isfinite(lower_bound)) return;
    track->lower_bound = lower_bound;
    if (track->hooks && track->hooks->bound) track->hooks->bound(track->hooks->user, lower_bound);
}

double esp_track_cutoff(const esp_track *track) {
    if (!track->found) return INFINITY;
    double best = track->best.objective;
    return best - fmax(track->problem->task->gap * fmax(fabs(best), ESP_LEAST_COST), track->problem->task->absolute_gap);
}

bool esp_track_met(const esp_track *track) {
    return track->found && track->lower_bound >= esp_track_cutoff(track);
}

double esp_track_left(const esp_track *track) {
    if (!track->stop || track->stop->deadline_ns == ESP_NEVER) return INFINITY;
    return (double)(track->stop->deadline_ns - esp_clock_now_ns()) * 1e-9;
}
