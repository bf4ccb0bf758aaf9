/* SPDX-License-Identifier: Apache-2.0
 * The present substituted into a task: windows, boxes and cost pieces. What a plan costs is verify.c. */
#include "plan/problem.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const double *copy(esp_arena *arena, const double *values, size_t n) {
    double *mine = ESP_NEW(arena, double, n + 1);
    if (mine && n > 0) memcpy(mine, values, n * sizeof *mine);
    return mine;
}

static esp_code check_finite(const double *values, size_t n, const char *pointer, esp_error *reterr) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return esp_fail_at(reterr, ESP_INVALID, pointer, "must have finite numbers only");
    return ESP_OK;
}

static esp_code check_request(const esp_task *task, int history, const esp_plan_request *request, esp_error *reterr) {
    if (!request->y) return esp_fail_at(reterr, ESP_INVALID, "/y", "is required");
    if (request->n_u < history - 1)
        return esp_fail_at(reterr, ESP_INVALID, "/u", "must have at least %d rows for a model of history %d, has %d", history - 1, history,
                           request->n_u);
    if (request->n_u > 0 && !request->u) return esp_fail_at(reterr, ESP_INVALID, "/u", "is required");
    if (task->n_goal > 0 && !request->goal) return esp_fail_at(reterr, ESP_INVALID, "/goal", "must have %d numbers for this task", task->n_goal);
    esp_code code = check_finite(request->y, (size_t)(history * task->ny), "/y", reterr);
    if (code == ESP_OK) code = check_finite(request->u, (size_t)(request->n_u * task->nu), "/u", reterr);
    if (code == ESP_OK && task->n_goal > 0) code = check_finite(request->goal, (size_t)task->n_goal, "/goal", reterr);
    if (code == ESP_OK && request->start) code = check_finite(request->start, (size_t)(task->horizon * task->nu), "/start", reterr);
    return code;
}

/* Box of u(t): the task's, the hull of the values, and what the rate can reach from the last input. */
static void input_box(esp_problem *p) {
    const esp_task *task = p->task;
    for (int t = 0; t < p->horizon; t++) {
        for (int i = 0; i < p->nu; i++) {
            double lower = task->u_lower[i], upper = task->u_upper[i];
            if (task->values) {
                double least = INFINITY, most = -INFINITY;
                for (int k = 0; k < task->n_values; k++) {
                    least = fmin(least, task->values[k * p->nu + i]);
                    most = fmax(most, task->values[k * p->nu + i]);
                }
                lower = least;
                upper = most;
            }
            if (task->rate && p->has_u_last) {
                double slack = ESP_RATE_TOLERANCE * (1.0 + fmax(fabs(lower), fabs(upper)) + fabs(p->u_last[i]));
                double reach = (t + 1) * (task->rate[i] + slack);
                lower = fmax(lower, p->u_last[i] - reach);
                upper = fmin(upper, p->u_last[i] + reach);
            }
            if (lower > upper) p->empty = true;
            p->u_lower[t * p->nu + i] = lower;
            p->u_upper[t * p->nu + i] = upper;
        }
    }
}

static void add_piece(esp_problem *p, const esp_term *term, int t, const double *goal) {
    p->pieces[p->n_pieces++] = (esp_piece){term->on, term->norm, t, term->n, term->index, term->weight, term->target_is_goal ? goal : term->target};
}

static void list_pieces(esp_problem *p, const double *goal) {
    const esp_task *task = p->task;
    for (int t = 0; t < p->horizon; t++)
        for (int k = 0; k < task->n_stage; k++) add_piece(p, &task->stage[k], t, goal);
    for (int k = 0; k < task->n_terminal; k++) add_piece(p, &task->terminal[k], p->horizon - 1, goal);
}

static bool take_memory(esp_problem *p) {
    size_t hu = (size_t)(p->horizon * p->nu), hy = (size_t)(p->horizon * p->ny);
    p->u_last = ESP_NEW(p->arena, double, p->nu);
    p->u_lower = ESP_NEW(p->arena, double, hu);
    p->u_upper = ESP_NEW(p->arena, double, hu);
    p->y_lower = ESP_NEW(p->arena, double, hy);
    p->y_upper = ESP_NEW(p->arena, double, hy);
    p->pieces = ESP_NEW(p->arena, esp_piece, p->horizon * p->task->n_stage + p->task->n_terminal + 1);
    p->cuts = ESP_NEW(p->arena, esp_cuts, 1);
    p->x = ESP_NEW(p->arena, double, p->step->n_x);
    p->r = ESP_NEW(p->arena, double, p->step->n_r + 1);
    p->y = ESP_NEW(p->arena, double, p->ny);
    return p->u_last && p->u_lower && p->u_upper && p->y_lower && p->y_upper && p->pieces && p->cuts && p->x && p->r && p->y;
}

static bool take_past(esp_problem *p, const esp_plan_request *request) {
    int nu = p->nu, behind = p->history - 1;
    const double *u_recent = behind > 0 ? request->u + (request->n_u - behind) * nu : NULL;
    p->y_past = (double *)(uintptr_t)copy(p->arena, request->y, (size_t)(p->history * p->ny));
    p->u_past = (double *)(uintptr_t)copy(p->arena, u_recent, (size_t)(behind * nu));
    p->has_u_last = request->n_u > 0;
    if (p->has_u_last) memcpy(p->u_last, request->u + (request->n_u - 1) * nu, (size_t)nu * sizeof(double));
    return p->y_past && p->u_past;
}

esp_code esp_problem_create(const esp_task *task, const esp_program *step, int history, const double *y_data_lower, const double *y_data_upper,
                            const esp_plan_request *request, esp_problem **ret_problem, esp_error *reterr) {
    assert(step->n_y == task->ny && step->n_x == history * (task->ny + task->nu));
    esp_code code = check_request(task, history, request, reterr);
    if (code != ESP_OK) return code;
    esp_arena *arena = esp_arena_create(0);
    esp_problem *p = arena ? ESP_NEW(arena, esp_problem, 1) : NULL;
    const double *goal = p ? copy(arena, request->goal, request->goal ? (size_t)task->n_goal : 0) : NULL;
    if (p)
        *p = (esp_problem){.arena = arena, .task = task, .step = step, .ny = task->ny, .nu = task->nu, .history = history, .horizon = task->horizon};
    if (!goal || !take_memory(p) || !take_past(p, request)) {
        esp_arena_free(arena);
        return esp_fail(reterr, ESP_NOMEM, "a planning problem of %d steps", task->horizon);
    }
    p->cuts->n = 0;
    input_box(p);
    list_pieces(p, goal);
    code = esp_limits_take(p, y_data_lower, y_data_upper, reterr);
    if (code == ESP_OK)
        *ret_problem = p;
    else
        esp_arena_free(arena);
    return code;
}

void esp_problem_free(esp_problem *problem) {
    if (problem) esp_arena_free(problem->arena);
}

esp_code esp_problem_cut(const esp_problem *p, int n, const int *at, const double *weight, double most, esp_error *reterr) {
    int *my_at = ESP_NEW(p->arena, int, n);
    double *my_weight = ESP_NEW(p->arena, double, n);
    if (!my_at || !my_weight || p->cuts->n == ESP_MAX_CUTS) return esp_fail(reterr, ESP_NOMEM, "%d cuts", p->cuts->n + 1);
    memcpy(my_at, at, (size_t)n * sizeof *at);
    memcpy(my_weight, weight, (size_t)n * sizeof *weight);
    p->cuts->list[p->cuts->n++] = (esp_cut){n, my_at, my_weight, most};
    return ESP_OK;
}

static bool within_rate(const esp_problem *p, const double *u, const double *previous) {
    for (int i = 0; i < p->nu; i++)
        if (fabs(u[i] - previous[i]) > p->task->rate[i] + ESP_RATE_TOLERANCE * fmax(fabs(u[i]), fabs(previous[i]))) return false;
    return true;
}

const double *esp_problem_nearest_value(const esp_problem *p, const double *u, const double *previous) {
    const esp_task *task = p->task;
    const double *best = task->values, *best_reached = NULL;
    double least = INFINITY, least_reached = INFINITY;
    for (int k = 0; k < task->n_values; k++) {
        const double *value = task->values + k * p->nu;
        double distance = 0.0;
        for (int i = 0; i < p->nu; i++) {
            double width = task->u_upper[i] - task->u_lower[i], d = (value[i] - u[i]) / (width > 0.0 ? width : 1.0);
            distance += d * d;
        }
        if (distance < least) {
            least = distance;
            best = value;
        }
        if (previous && distance < least_reached && within_rate(p, value, previous)) {
            least_reached = distance;
            best_reached = value;
        }
    }
    return best_reached ? best_reached : best;
}

void esp_problem_project(const esp_problem *p, double *inputs) {
    const esp_task *task = p->task;
    for (int t = 0; t < p->horizon; t++) {
        double *u = inputs + t * p->nu;
        const double *previous = esp_problem_rated(p, t) ? esp_problem_previous(p, inputs, t) : NULL;
        for (int i = 0; i < p->nu; i++) {
            double v = isnan(u[i]) ? 0.0 : u[i];
            if (previous) v = fmin(fmax(v, previous[i] - task->rate[i]), previous[i] + task->rate[i]);
            u[i] = fmin(fmax(v, task->u_lower[i]), task->u_upper[i]);
        }
        if (task->values) memcpy(u, esp_problem_nearest_value(p, u, previous), (size_t)p->nu * sizeof *u);
    }
}

void esp_problem_window(const esp_problem *p, int t, const double *inputs, const double *predicted, double *x) {
    for (int s = 0; s < p->history; s++, x += p->ny) {
        int at = esp_window_y(p, t, s);
        const double *row = at < 0 ? p->y_past + (p->history + at) * p->ny : predicted + at * p->ny;
        memcpy(x, row, (size_t)p->ny * sizeof *x);
    }
    for (int s = 0; s < p->history; s++, x += p->nu) {
        int at = esp_window_u(p, t, s);
        const double *row = at < 0 ? p->u_past + (p->history - 1 + at) * p->nu : inputs + at * p->nu;
        memcpy(x, row, (size_t)p->nu * sizeof *x);
    }
}

bool esp_problem_limits_y(const esp_problem *p) {
    if (p->n_halfspaces > 0 || p->n_avoid > 0) return true;
    for (int i = 0; i < p->horizon * p->ny; i++)
        if (isfinite(p->y_lower[i]) || isfinite(p->y_upper[i])) return true;
    return false;
}
