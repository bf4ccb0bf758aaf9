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

/* Over the limits on y: the largest excess of those that `present` satisfies, the sum of those that it violates. */
typedef struct excess {
    double held, violated;
} excess;

static void add_limit(excess *e, double present, double now, double scale) {
    if (present > 1e-6 * scale)
        e->violated += largest(0, now);
    else
        e->held = largest(e->held, now);
}

static void add_box(excess *e, int ny, const double *lower, const double *upper, const double *present, const double *y) {
    for (int i = 0; lower && i < ny; i++) {
        if (isfinite(lower[i])) add_limit(e, lower[i] - present[i], lower[i] - y[i], largest(1, fabs(lower[i])));
        if (isfinite(upper[i])) add_limit(e, present[i] - upper[i], y[i] - upper[i], largest(1, fabs(upper[i])));
    }
}

static double depth_in(const esp_avoid *a, const double *y, bool scaled) {
    double depth = 1e300;
    for (int c = 0; c < a->n; c++) {
        double above = y[a->index[c]] - a->lower[c], below = a->upper[c] - y[a->index[c]];
        if (scaled) above /= largest(1, fabs(a->lower[c]));
        if (scaled) below /= largest(1, fabs(a->upper[c]));
        if (above < depth) depth = above;
        if (below < depth) depth = below;
    }
    return depth;
}

static excess limit_excess(const esp_task *task, const double *present, const double *y) {
    excess e = {-1e300, 0};
    add_box(&e, task->ny, task->y_lower, task->y_upper, present, y);
    add_box(&e, task->ny, task->trust_lower, task->trust_upper, present, y);
    for (int k = 0; k < task->n_halfspaces; k++) {
        const esp_halfspace *h = &task->halfspaces[k];
        double then = -h->b, now = -h->b, square = 0, scale = fabs(h->b);
        for (int i = 0; i < task->ny; i++) {
            then += h->a[i] * present[i];
            now += h->a[i] * y[i];
            square += h->a[i] * h->a[i];
            scale = largest(scale, fabs(h->a[i]));
        }
        bool violated = then > 1e-6 * scale;
        add_limit(&e, then, violated ? now / sqrt(square) : now, scale);
    }
    for (int k = 0; k < task->n_avoid; k++) add_limit(&e, depth_in(&task->avoid[k], present, true), depth_in(&task->avoid[k], y, false), 1);
    return e;
}

/* What the documentation of state.penalty says. */
static double slopes(const esp_task *task, const esp_term *term, const double *present, const double *goal) {
    double sum = 0;
    for (int k = 0; k < term->n; k++) {
        int i = term->index[k];
        double target = term->target_is_goal ? goal[k] : term->target[k], away = 1;
        if (term->on == ESP_ON_Y)
            away = fabs(present[i] - target);
        else if (term->on == ESP_ON_U)
            away = largest(fabs(task->u_lower[i] - target), fabs(task->u_upper[i] - target));
        else
            away = task->u_upper[i] - task->u_lower[i] + fabs(target);
        sum += term->weight[k] * (term->norm == ESP_COST_L2SQ ? 2 * largest(1, away) : 1);
    }
    return sum;
}

double oracle_penalty(const esp_task *task, const double *present, const double *goal) {
    double sum = 0;
    for (int k = 0; k < task->n_stage; k++) sum += task->horizon * slopes(task, &task->stage[k], present, goal);
    for (int k = 0; k < task->n_terminal; k++) sum += slopes(task, &task->terminal[k], present, goal);
    return task->penalty > 0 ? task->penalty : sum > 0 ? 10 * sum : 1;
}

double oracle_plan(const esp_model *model, const esp_task *task, const esp_plan_request *request, const double *inputs, double *ret_excess) {
    rollout r = replay(model, task, request, inputs);
    const double *present = request->y + (model->history - 1) * model->ny;
    double cost = 0, violated = 0;
    *ret_excess = -1e300;
    for (int t = 0; t < task->horizon; t++) {
        for (int k = 0; k < task->n_stage; k++) cost += term_cost(&task->stage[k], &r, t, request->goal);
        excess e = limit_excess(task, present, r.y + t * r.ny);
        *ret_excess = largest(*ret_excess, e.held);
        violated += e.violated;
        for (int i = 0; task->rate && (t > 0 || request->n_u > 0) && i < r.nu; i++)
            *ret_excess = largest(*ret_excess, fabs(r.du[t * r.nu + i]) - task->rate[i]);
    }
    for (int k = 0; k < task->n_terminal; k++) cost += term_cost(&task->terminal[k], &r, task->horizon - 1, request->goal);
    if (violated > 0) cost += oracle_penalty(task, present, request->goal) * violated;
    free(r.y);
    free(r.u);
    free(r.du);
    return cost;
}
