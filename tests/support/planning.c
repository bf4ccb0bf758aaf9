/* SPDX-License-Identifier: Apache-2.0
 * Planning cases and their oracle. */
#include "support/planning.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/models.h"

static void must(esp_code code, const esp_error *error) {
    if (code == ESP_OK) return;
    fprintf(stderr, "planning case: %s: %s\n", error->pointer, error->message);
    abort();
}

static esp_model *model_of(int ny, int nu, int history, esp_frame_kind kind, esp_net *net) {
    esp_error error = {0};
    esp_frame frame = {.kind = kind};
    esp_model *model = NULL;
    must(esp_model_create(ESP_MODEL_DYNAMICS, ny, nu, history, &frame, net, &model, &error), &error);
    return model;
}

esp_model *linear_model(int ny, int nu, int history, const double *w) {
    esp_error error = {0};
    int widths[2] = {history * (ny + nu), ny};
    esp_net *net = NULL;
    must(esp_net_create(1, widths, &net, &error), &error);
    memcpy(net->layers[0].w, w, (size_t)(widths[0] * ny) * sizeof *w);
    return model_of(ny, nu, history, ESP_FRAME_NONE, net);
}

esp_model *residual_model(int ny, int nu, int hidden, const double *w1, const double *b1, const double *w2, const double *b2) {
    esp_error error = {0};
    int widths[3] = {ny + nu, hidden, ny};
    esp_net *net = NULL;
    must(esp_net_create(2, widths, &net, &error), &error);
    memcpy(net->layers[0].w, w1, (size_t)(widths[0] * hidden) * sizeof *w1);
    memcpy(net->layers[0].b, b1, (size_t)hidden * sizeof *b1);
    memcpy(net->layers[1].w, w2, (size_t)(hidden * ny) * sizeof *w2);
    memcpy(net->layers[1].b, b2, (size_t)ny * sizeof *b2);
    return model_of(ny, nu, 1, ESP_FRAME_RESIDUAL, net);
}

esp_code task_of(const char *text, int ny, int nu, esp_json **ret_json, esp_arena **ret_arena, esp_task **ret_task, esp_error *reterr) {
    char *proper = strdup(text);
    for (char *c = proper; *c; c++)
        if (*c == '\'') *c = '"';
    *ret_json = NULL;
    *ret_arena = esp_arena_create(0);
    esp_code code = esp_json_parse(proper, strlen(proper), ret_json, reterr);
    free(proper);
    if (code != ESP_OK) return code;
    esp_reader reader = esp_reader_root(*ret_json);
    return esp_task_parse(&reader, ny, nu, *ret_arena, ret_task, reterr);
}

plan_case case_of(esp_model *model, const char *text) {
    esp_error error = {0};
    plan_case c = {.model = model};
    must(task_of(text, model->ny, model->nu, &c.json, &c.arena, &c.task, &error), &error);
    must(esp_planner_create(model, NULL, NULL, &c.planner, &error), &error);
    return c;
}

void case_done(plan_case *c) {
    esp_planner_free(c->planner);
    esp_model_free(c->model);
    esp_arena_free(c->arena);
    esp_json_free(c->json);
}

esp_code case_run(plan_case *c, const esp_plan_request *request, double seconds, esp_plan_result *ret_result, esp_error *reterr) {
    esp_stop stop = {.deadline_ns = isfinite(seconds) ? esp_clock_now_ns() + (int64_t)(seconds * 1e9) : ESP_NEVER};
    return esp_plan_run(c->planner, c->task, request, NULL, &stop, ret_result, reterr);
}

static double largest(double a, double b) {
    return a > b ? a : b;
}

/* Everything in the plan's own rows: y(1..H), u(0..H-1), du(0..H-1). */
typedef struct rollout {
    int ny, nu, horizon;
    double *y, *u, *du;
} rollout;

static rollout replay(const esp_model *model, const esp_task *task, const esp_plan_request *request, const double *inputs) {
    int ny = model->ny, nu = model->nu, h = model->history, horizon = task->horizon;
    rollout r = {ny, nu, horizon, calloc((size_t)(horizon * ny), 8), calloc((size_t)(horizon * nu), 8), calloc((size_t)(horizon * nu), 8)};
    double *ys = calloc((size_t)((h + horizon) * ny), 8), *us = calloc((size_t)((h + horizon) * nu), 8), *x = calloc((size_t)(h * (ny + nu)), 8);
    memcpy(ys, request->y, (size_t)(h * ny) * 8);
    if (h > 1) memcpy(us, request->u + (request->n_u - (h - 1)) * nu, (size_t)((h - 1) * nu) * 8);
    for (int t = 0; t < horizon; t++) {
        memcpy(us + (h - 1 + t) * nu, inputs + t * nu, (size_t)nu * 8);
        memcpy(x, ys + t * ny, (size_t)(h * ny) * 8);
        memcpy(x + h * ny, us + t * nu, (size_t)(h * nu) * 8);
        oracle_step(model, x, ys + (h + t) * ny, NULL);
        memcpy(r.y + t * ny, ys + (h + t) * ny, (size_t)ny * 8);
        for (int i = 0; i < nu; i++) {
            double before = t > 0 ? inputs[(t - 1) * nu + i] : request->n_u > 0 ? request->u[(request->n_u - 1) * nu + i] : 0;
            r.u[t * nu + i] = inputs[t * nu + i];
            r.du[t * nu + i] = inputs[t * nu + i] - before;
        }
    }
    free(ys);
    free(us);
    free(x);
    return r;
}

static double term_cost(const esp_term *term, const rollout *r, int t, const double *goal) {
    const double *row = term->on == ESP_ON_Y ? r->y + t * r->ny : (term->on == ESP_ON_U ? r->u : r->du) + t * r->nu;
    double sum = 0, most = 0;
    for (int k = 0; k < term->n; k++) {
        double d = row[term->index[k]] - (term->target_is_goal ? goal[k] : term->target[k]);
        if (term->norm == ESP_COST_L2SQ)
            sum += term->weight[k] * d * d;
        else
            sum += term->weight[k] * fabs(d);
        most = largest(most, term->weight[k] * fabs(d));
    }
    return term->norm == ESP_COST_LINF ? most : sum;
}

static double limit_excess(const esp_task *task, const double *y) {
    double excess = -1e300;
    for (int i = 0; task->y_lower && i < task->ny; i++) excess = largest(excess, largest(task->y_lower[i] - y[i], y[i] - task->y_upper[i]));
    for (int k = 0; k < task->n_halfspaces; k++) {
        double sum = -task->halfspaces[k].b;
        for (int i = 0; i < task->ny; i++) sum += task->halfspaces[k].a[i] * y[i];
        excess = largest(excess, sum);
    }
    for (int k = 0; k < task->n_avoid; k++) {
        const esp_avoid *a = &task->avoid[k];
        double depth = 1e300;
        for (int c = 0; c < a->n; c++) {
            double v = y[a->index[c]], inside = v - a->lower[c] < a->upper[c] - v ? v - a->lower[c] : a->upper[c] - v;
            if (inside < depth) depth = inside;
        }
        excess = largest(excess, depth);
    }
    return excess;
}

double oracle_plan(const esp_model *model, const esp_task *task, const esp_plan_request *request, const double *inputs, double *ret_excess) {
    rollout r = replay(model, task, request, inputs);
    double cost = 0;
    *ret_excess = -1e300;
    for (int t = 0; t < task->horizon; t++) {
        for (int k = 0; k < task->n_stage; k++) cost += term_cost(&task->stage[k], &r, t, request->goal);
        *ret_excess = largest(*ret_excess, limit_excess(task, r.y + t * r.ny));
        for (int i = 0; task->rate && (t > 0 || request->n_u > 0) && i < r.nu; i++)
            *ret_excess = largest(*ret_excess, fabs(r.du[t * r.nu + i]) - task->rate[i]);
    }
    for (int k = 0; k < task->n_terminal; k++) cost += term_cost(&task->terminal[k], &r, task->horizon - 1, request->goal);
    free(r.y);
    free(r.u);
    free(r.du);
    return cost;
}
