/* SPDX-License-Identifier: Apache-2.0
 * Instances of the planner's benchmark. */
#include "bench/instances.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "plan/problem.h"
#include "plan/tighten.h"

#define PI 3.14159265358979323846

static void must(esp_code code, const esp_error *error) {
    if (code == ESP_OK) return;
    fprintf(stderr, "bench: %s %s\n", error->pointer, error->message);
    abort();
}

bool bench_size_parse(const char *text, bench_size *ret_size) {
    static const char *const families[] = {"", "cart", "random"};
    bench_size size = {0};
    int end = 0;
    if (strlen(text) >= sizeof size.text) return false;
    size.family = strncmp(text, "cart", 4) == 0 ? BENCH_CART : strncmp(text, "random", 6) == 0 ? BENCH_RANDOM : BENCH_PUSH;
    const char *numbers = text + strlen(families[size.family]);
    if (sscanf(numbers, "%dx%d%n", &size.relus, &size.horizon, &end) != 2 || numbers[end]) return false;
    if (size.relus < 4 || size.horizon < 1 || size.horizon > ESP_MAX_HORIZON) return false;
    memcpy(size.text, text, strlen(text) + 1);
    *ret_size = size;
    return true;
}

/* Start, goal and pusher of the follow-up's box-pushing tests; a box of 0.5, keypoints in the world, then relative. */
static void draw_push(bench_instance *instance) {
    esp_rng rng;
    esp_rng_init(&rng, (uint64_t)instance->seed, 5);
    double x = esp_rng_range(&rng, 2.3, 2.7), y = esp_rng_range(&rng, 1.6, 1.8), angle = esp_rng_range(&rng, 30, 60) * PI / 180;
    double goal_x = esp_rng_range(&rng, 2, 3), goal_y = esp_rng_range(&rng, 2.5, 3), goal_angle = esp_rng_range(&rng, 90, 120) * PI / 180;
    double pusher_x = esp_rng_range(&rng, 2.2, 2.8), pusher_y = esp_rng_range(&rng, 1.0, 1.1), radius = 0.25 * sqrt(2);
    for (int k = 0; k < 4; k++) {
        double corner = PI * (-0.75 + 0.5 * k);
        instance->y[2 * k] = x + radius * cos(angle + corner);
        instance->y[2 * k + 1] = y + radius * sin(angle + corner);
        instance->goal[2 * k] = goal_x + radius * cos(goal_angle + corner);
        instance->goal[2 * k + 1] = goal_y + radius * sin(goal_angle + corner);
        instance->y[8 + 2 * k] = instance->y[2 * k] - pusher_x;
        instance->y[9 + 2 * k] = instance->y[2 * k + 1] - pusher_y;
    }
}

static void draw_cart(bench_instance *instance) {
    esp_rng rng;
    esp_rng_init(&rng, (uint64_t)instance->seed, 6);
    instance->y[0] = esp_rng_range(&rng, -1, 1);
    instance->y[1] = esp_rng_range(&rng, -1, 1);
    instance->y[2] = esp_rng_range(&rng, -1.2, 1.2);
    instance->y[3] = esp_rng_range(&rng, -1, 1);
    instance->goal[0] = esp_rng_range(&rng, -0.5, 0.5);
}

static void draw_random(bench_instance *instance) {
    esp_rng rng;
    esp_rng_init(&rng, (uint64_t)instance->seed, 7);
    for (int i = 0; i < 4; i++) instance->y[i] = 0.5 * esp_rng_normal(&rng);
    for (int i = 0; i < 4; i++) instance->goal[i] = instance->y[i] + 0.5 * esp_rng_normal(&rng);
}

bench_instance bench_instance_of(const bench_size *size, int network, int seed) {
    bench_instance instance = {.size = *size, .network = network, .seed = seed};
    (void)snprintf(instance.name, sizeof instance.name, "%s-net%d-seed%d", size->text, network, seed);
    switch (size->family) {
    case BENCH_PUSH: draw_push(&instance); break;
    case BENCH_CART: draw_cart(&instance); break;
    case BENCH_RANDOM: draw_random(&instance); break;
    }
    return instance;
}

/* y = position, speed, angle, angular speed, in steps of 0.1 s. The network sees angle and speed and gives the kinks of
 * two terms: sin(angle), interpolated between knots drawn from the seed, and friction, linear up to a speed of 0.2 and
 * constant above. The slope of the first piece of the sine is in A. */
static esp_model *cart_model(int relus, int network) {
    const double dt = 0.1, gravity = 9.8, slip = 0.2, friction = 0.5, force = 5.0;
    double a[16] = {1, dt, 0, 0, 0, 1, 0, 0, 0, 0, 1, dt, 0, 0, 0, 1}, b[4] = {0, dt * force, 0, -dt * force}, g[8] = {0};
    double c[8] = {0, 0, 1, 0, 0, 1, 0, 0}, d[2] = {0};
    int widths[3] = {2, relus, 2}, knots = relus - 2;
    esp_error error = {0};
    esp_net *net = NULL;
    esp_model *model = NULL;
    esp_rng rng;
    esp_rng_init(&rng, (uint64_t)network, 8);
    must(esp_net_create(2, widths, &net, &error), &error);
    double *first = net->layers[0].w, *shift = net->layers[0].b, *second = net->layers[1].w;
    double width = 2 * PI / (knots + 1), before = -PI, slope = 0;
    for (int k = 0; k <= knots; k++) {
        double knot = k < knots ? -PI + width * (k + 1 + esp_rng_range(&rng, -0.3, 0.3)) : PI;
        double next = (sin(knot) - sin(before)) / (knot - before);
        if (k == 0) { /* sin(-pi) + slope (angle + pi) */
            a[14] = dt * gravity * next;
            net->layers[1].b[0] = next * PI;
        } else {
            first[2 * (k - 1)] = 1;
            shift[k - 1] = -before;
            second[k - 1] = next - slope;
        }
        slope = next;
        before = knot;
    }
    for (int k = 0; k < 2; k++) {
        first[2 * (knots + k) + 1] = 1 / slip;
        shift[knots + k] = k == 0 ? 1 : -1;
        second[relus + knots + k] = k == 0 ? 1 : -1;
    }
    net->layers[1].b[1] = -1;
    g[6] = dt * gravity;
    g[3] = -dt * friction;
    esp_frame frame = {.kind = ESP_FRAME_LINEAR, .a = a, .b = b, .c = c, .d = d, .g = g};
    must(esp_model_create(ESP_MODEL_DYNAMICS, 4, 1, 1, &frame, net, &model, &error), &error);
    return model;
}

static esp_model *random_residual(int relus, int network) {
    int widths[4] = {6, relus / 2, relus - relus / 2, 4};
    esp_error error = {0};
    esp_net *net = NULL;
    esp_model *model = NULL;
    esp_rng rng;
    esp_rng_init(&rng, (uint64_t)network, 9);
    must(esp_net_create(3, widths, &net, &error), &error);
    for (int l = 0; l < 3; l++) {
        esp_layer *layer = &net->layers[l];
        double scale = (l == 2 ? 0.5 : 1) / sqrt(layer->n_in);
        for (int k = 0; k < layer->n_out * layer->n_in; k++) layer->w[k] = scale * esp_rng_normal(&rng);
        for (int k = 0; k < layer->n_out; k++) layer->b[k] = l == 2 ? 0 : 0.3 * esp_rng_normal(&rng);
    }
    esp_frame frame = {.kind = ESP_FRAME_RESIDUAL};
    must(esp_model_create(ESP_MODEL_DYNAMICS, 4, 2, 1, &frame, net, &model, &error), &error);
    return model;
}

static esp_model *model_for(const bench_instance *instance) {
    if (instance->size.family == BENCH_CART) return cart_model(instance->size.relus, instance->network);
    if (instance->size.family == BENCH_RANDOM) return random_residual(instance->size.relus, instance->network);
    char path[128];
    esp_error error = {0};
    esp_model *model = NULL;
    (void)snprintf(path, sizeof path, "tests/bench/models/push%d-%d.espm", instance->size.relus, instance->network);
    must(esp_model_load(path, &model, &error), &error);
    return model;
}

plan_case bench_case(const bench_instance *instance, const char *planner) {
    static const char *const tasks[] = {
        "'cost':{'stage':[{'on':'y','index':[0,1,2,3,4,5,6,7],'weight':1,'norm':'l1','target':'goal'}]},"
        "'input':{'lower':[-0.3,-0.3],'upper':[0.3,0.3]}",
        "'cost':{'stage':[{'on':'y','index':[0],'weight':0.2,'norm':'l1','target':'goal'},{'on':'y','index':[2],'weight':1,'norm':'l1'}]},"
        "'input':{'lower':[-1],'upper':[1]}",
        "'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':'goal'}]},'input':{'lower':[-1,-1],'upper':[1,1]}"};
    char text[1024];
    (void)snprintf(text, sizeof text, "{'horizon':%d,%s,'planner':%s}", instance->size.horizon, tasks[instance->size.family], planner);
    return case_of(model_for(instance), text);
}

esp_plan_request bench_request(const bench_instance *instance) {
    return (esp_plan_request){.y = instance->y, .goal = instance->goal};
}

/* The least and largest p of each ReLU over rollouts from other starts, 10 % wider: lower, upper (n_r). */
static void sample_ranges(const esp_program *step, const bench_instance *instance, int ny, int nu, double *lower, double *upper) {
    double x[32], y[32], *p = calloc((size_t)step->n_r * 2, sizeof *p);
    if (!p) abort();
    for (int j = 0; j < step->n_r; j++) lower[j] = (double)INFINITY, upper[j] = -(double)INFINITY;
    esp_rng rng;
    esp_rng_init(&rng, (uint64_t)instance->network, 10);
    for (int episode = 0; episode < 4000; episode++) {
        bench_instance other = bench_instance_of(&instance->size, instance->network, 1000000 + episode);
        double reach = instance->size.family == BENCH_PUSH ? 0.3 : 1;
        memcpy(x, other.y, (size_t)ny * sizeof *x);
        for (int t = 0; t < instance->size.horizon; t++) {
            for (int i = 0; i < nu; i++) x[ny + i] = esp_rng_range(&rng, -reach, reach);
            esp_program_forward(step, x, y, p, p + step->n_r, p + step->n_r);
            for (int j = 0; j < step->n_r; j++) lower[j] = fmin(lower[j], p[j]), upper[j] = fmax(upper[j], p[j]);
            memcpy(x, y, (size_t)ny * sizeof *x);
        }
    }
    for (int j = 0; j < step->n_r; j++) {
        double margin = 0.1 * (upper[j] - lower[j]);
        lower[j] -= margin;
        upper[j] += margin;
    }
    free(p);
}

/* Ranges met with the sampled ones, but where they exclude each other. */
static void meet(const esp_program *step, const bench_instance *instance, int ny, int nu, esp_ranges *ranges) {
    double *limits = calloc((size_t)step->n_r * 2, sizeof *limits);
    if (!limits) abort();
    sample_ranges(step, instance, ny, nu, limits, limits + step->n_r);
    for (int q = 0; q < ranges->n_r; q++) {
        double lower = fmax(ranges->p_lower[q], limits[q % step->n_r]), upper = fmin(ranges->p_upper[q], limits[step->n_r + q % step->n_r]);
        if (lower >= upper) continue;
        ranges->p_lower[q] = lower;
        ranges->p_upper[q] = upper;
    }
    free(limits);
}

void bench_model(const plan_case *c, const bench_instance *instance, bool sampled, esp_encoding *ret_model) {
    esp_error error = {0};
    esp_program *step = NULL;
    esp_problem *problem = NULL;
    esp_tightened tightened = {0};
    esp_tangents tangents = {0};
    esp_plan_request request = bench_request(instance);
    must(esp_program_lower(c->model, &step, &error), &error);
    must(esp_problem_create(c->task, step, 1, NULL, NULL, &request, &problem, &error), &error);
    must(esp_tighten(problem, true, &tightened, &error), &error);
    if (sampled) meet(step, instance, c->model->ny, c->model->nu, tightened.ranges);
    must(esp_encode_tangents(problem, tightened.ranges, problem->horizon, &tangents, &error), &error);
    must(esp_encode(problem, tightened.ranges, c->task->horizon, true, &tangents, ret_model, &error), &error);
    esp_tangents_done(&tangents);
    esp_tightened_done(&tightened);
    esp_problem_free(problem);
    esp_program_free(step);
}

static char row_kind(const esp_lp *lp, int i) {
    if (lp->row_lower[i] == lp->row_upper[i]) return 'E';
    if (isfinite(lp->row_upper[i])) return 'L';
    return isfinite(lp->row_lower[i]) ? 'G' : 'N';
}

static void write_columns(const esp_lp *lp, FILE *out) {
    fprintf(out, "COLUMNS\n");
    for (int j = 0; j < lp->n_cols; j++) {
        if (lp->integer[j]) fprintf(out, " M%d 'MARKER' 'INTORG'\n", j);
        fprintf(out, " C%d OBJ %.17g\n", j, lp->cost[j]);
        for (int k = lp->col_start[j]; k < lp->col_start[j + 1]; k++) fprintf(out, " C%d R%d %.17g\n", j, lp->row[k], lp->col_value[k]);
        if (lp->integer[j]) fprintf(out, " N%d 'MARKER' 'INTEND'\n", j);
    }
}

bool bench_write_mps(const esp_lp *lp, const char *path) {
    FILE *out = fopen(path, "w");
    if (!out) return false;
    fprintf(out, "NAME plan FREE\nROWS\n N OBJ\n");
    for (int i = 0; i < lp->n_rows; i++) fprintf(out, " %c R%d\n", row_kind(lp, i), i);
    write_columns(lp, out);
    fprintf(out, "RHS\n");
    for (int i = 0; i < lp->n_rows; i++) {
        char kind = row_kind(lp, i);
        if (kind != 'N') fprintf(out, " RHS R%d %.17g\n", i, kind == 'G' ? lp->row_lower[i] : lp->row_upper[i]);
    }
    fprintf(out, "RANGES\n");
    for (int i = 0; i < lp->n_rows; i++)
        if (row_kind(lp, i) == 'L' && isfinite(lp->row_lower[i])) fprintf(out, " RNG R%d %.17g\n", i, lp->row_upper[i] - lp->row_lower[i]);
    fprintf(out, "BOUNDS\n");
    for (int j = 0; j < lp->n_cols; j++) fprintf(out, " LO BND C%d %.17g\n UP BND C%d %.17g\n", j, lp->col_lower[j], j, lp->col_upper[j]);
    fprintf(out, "ENDATA\n");
    return fclose(out) == 0;
}
