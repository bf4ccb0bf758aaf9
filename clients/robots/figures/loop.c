/* SPDX-License-Identifier: Apache-2.0
 * Closed-loop episodes of any robot (figures.h): observe, ask for a plan, carry out its first input, again. A step without a plan is a step
 * with the input zero, and is counted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "robots/figures/figures.h"
#include "robots/service.h"
#include "robots/stats.h"

typedef struct episode {
    double first, cost, last; /* the cost of the state at the start, summed over the steps, and at the end */
    int without; /* steps without a plan */
} episode;

static bool play(esp_figures *f, const char *task, int trial, episode *ret, double *ret_ms, esp_client_error *reterr) {
    const esp_robot *r = f->robot;
    double goal[ESP_ROBOT_GOAL_MAX], y[ESP_ROBOT_Y_MAX];
    char session[128];
    void *world = esp_figures_trial(f, trial, goal);
    if (world == NULL) return esp_service_fail(ESP_CLIENT_NOMEM, "no memory for a simulated world", reterr);
    snprintf(session, sizeof session, "%s-%d", task, trial);
    bool good = true;
    *ret = (episode){.first = esp_figures_cost(r, world, goal)};
    for (int t = 0; good && t < f->opts->steps; t++) {
        double u[ESP_ROBOT_U_MAX] = {0.0};
        json_t *reply = NULL;
        r->observe(world, y);
        good = esp_figures_ask(f, task, y, goal, session, &reply, reterr);
        ret_ms[t] = esp_client_last_ms(f->client);
        ret->without += !esp_service_read(json_array_get(json_object_get(reply, "inputs"), 0), u, (size_t)r->nu);
        json_decref(reply);
        r->step(world, u);
        ret->last = esp_figures_cost(r, world, goal);
        ret->cost += ret->last;
    }
    r->free(world);
    return good;
}

bool esp_figures_loop(esp_figures *f, esp_client_error *reterr) {
    const esp_figures_opts *o = f->opts;
    char task[96], name[64];
    double *ms = calloc((size_t)o->plans * (size_t)o->steps + 1, sizeof *ms);
    episode sum = {0}, one = {0};
    if (ms == NULL) return esp_service_fail(ESP_CLIENT_NOMEM, "no memory for the latencies", reterr);
    snprintf(name, sizeof name, "%s-%s-loop", f->robot->name, o->method);
    bool good = esp_figures_task(f, o->model, name, o->method, task, sizeof task, reterr);
    for (int i = 0; good && i < o->plans; i++) {
        good = play(f, task, i, &one, ms + i * o->steps, reterr);
        if (!good) break;
        printf("episode %3d: cost %8.3f, of the state %.3f at first, %.3f at last%s\n", i, one.cost, one.first, one.last,
               one.without > 0 ? ", steps without a plan" : "");
        fflush(stdout);
        sum.first += one.first / o->plans;
        sum.cost += one.cost / o->plans;
        sum.last += one.last / o->plans;
        sum.without += one.without;
    }
    size_t n = (size_t)o->plans * (size_t)o->steps;
    if (good)
        printf("mean of %d: cost %.3f, of the state %.3f at first, %.3f at last; %d of %zu steps without a plan; plans took %.0f ms (median), %.0f "
               "(p99)\n",
               o->plans, sum.cost, sum.first, sum.last, sum.without, n, esp_stats_quantile(ms, n, 0.5), esp_stats_quantile(ms, n, 0.99));
    free(ms);
    return good;
}
