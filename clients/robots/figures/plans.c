/* SPDX-License-Identifier: Apache-2.0
 * Open-loop plans (figures.h): the sparse-dynamics paper's figure 3b, exact planning against MPPI at each sparsity.
 *
 * A trial is a start and a goal; each method plans it once on each rung, and the plan is carried out in the simulator without looking. Two
 * costs come of it: the one that the plan promised by its model, which is what the planner minimises, and the one it had in the world. */
#include <math.h>
#include <string.h>

#include "robots/figures/figures.h"
#include "robots/service.h"

#define GRACE_MS   5000
#define TRIAL_SEED UINT64_C(2000003)

static int horizon_of(const esp_figures *f) {
    return f->opts->horizon > 0 ? f->opts->horizon : f->robot->horizon;
}

static json_t *task_json(const esp_figures *f, const char *model, const char *name, const char *method) {
    const esp_robot *r = f->robot;
    double lower[ESP_ROBOT_U_MAX], upper[ESP_ROBOT_U_MAX], safe[ESP_ROBOT_U_MAX] = {0.0};
    for (int i = 0; i < r->nu; i++) {
        lower[i] = -r->u_max;
        upper[i] = r->u_max;
    }
    json_t *planner = json_pack("{s:s}", "method", method);
    if (strcmp(method, "mip") == 0) json_object_set_new(planner, "gap", json_real(0.01));
    return json_pack("{s:s,s:s,s:i,s:{s:[{s:s,s:o,s:f,s:s,s:s}]},s:{s:o,s:o,s:o},s:o}", "name", name, "model", model, "horizon", horizon_of(f),
                     "cost", "stage", "on", "y", "index", esp_service_integers(r->goal_index, r->n_goal), "weight", 1.0, "norm", "l1", "target",
                     "goal", "input", "lower", esp_service_numbers(lower, r->nu), "upper", esp_service_numbers(upper, r->nu), "safe",
                     esp_service_numbers(safe, r->nu), "planner", planner);
}

bool esp_figures_task(const esp_figures *f, const char *model, const char *name, const char *method, char *ret_id, size_t cap,
                      esp_client_error *reterr) {
    json_t *task = task_json(f, model, name, method);
    if (f->robot->objects > 0) json_object_set_new(task, "objects", json_integer(f->robot->objects));
    return esp_service_task(f->client, task, ret_id, cap, reterr);
}

bool esp_figures_ask(const esp_figures *f, const char *task, const double *y, const double *goal, const char *session, json_t **ret_reply,
                     esp_client_error *reterr) {
    json_t *body = json_pack("{s:s,s:[o],s:o,s:i}", "task", task, "y", esp_service_numbers(y, f->robot->ny), "goal",
                             esp_service_numbers(goal, f->robot->n_goal), "deadline_ms", f->opts->deadline_ms);
    if (session != NULL) json_object_set_new(body, "session", json_string(session));
    esp_client_code code = esp_client_call(f->client, "POST", "/v1/plans", body, f->opts->deadline_ms + GRACE_MS, ret_reply, reterr);
    json_decref(body);
    return code == ESP_CLIENT_OK;
}

void *esp_figures_trial(const esp_figures *f, int trial, double *ret_goal) {
    esp_dice dice;
    esp_dice_init(&dice, TRIAL_SEED + f->opts->seed, (uint64_t)trial);
    return f->robot->start_task(&dice, ret_goal);
}

double esp_figures_cost(const esp_robot *r, const void *world, const double *goal) {
    double cost = 0.0, y[ESP_ROBOT_Y_MAX];
    r->observe(world, y);
    for (int k = 0; k < r->n_goal; k++) cost += fabs(y[r->goal_index[k]] - goal[k]);
    return cost;
}

/* Carries a plan out from the present on; the cost of the states that follow. */
static double carry_out(const esp_robot *r, void *world, const double *goal, const json_t *inputs, int horizon) {
    double cost = 0.0, u[ESP_ROBOT_U_MAX];
    for (int t = 0; t < horizon; t++) {
        if (!esp_service_read(json_array_get(inputs, (size_t)t), u, (size_t)r->nu)) return (double)NAN;
        r->step(world, u);
        cost += esp_figures_cost(r, world, goal);
    }
    return cost;
}

typedef struct subject {
    const esp_figures_model *model;
    const char *method;
    char task[96];
} subject;

static bool plan_once(esp_figures *f, const subject *s, int trial, FILE *table, esp_client_error *reterr) {
    const esp_robot *r = f->robot;
    double goal[ESP_ROBOT_GOAL_MAX], y[ESP_ROBOT_Y_MAX];
    json_t *reply = NULL;
    void *world = esp_figures_trial(f, trial, goal);
    if (world == NULL) return esp_service_fail(ESP_CLIENT_NOMEM, "no memory for a simulated world", reterr);
    r->observe(world, y);
    bool good = esp_figures_ask(f, s->task, y, goal, NULL, &reply, reterr);
    const char *status = json_string_value(json_object_get(reply, "status"));
    if (good)
        fprintf(table, "%s,%llu,%s,%d,%d,%s,%.6g,%.6g,%.6g,%.0f\n", r->name, (unsigned long long)f->opts->seed, s->method, s->model->relu, trial,
                status != NULL ? status : "", esp_service_number(reply, "objective"), esp_service_number(reply, "lower_bound"),
                carry_out(r, world, goal, json_object_get(reply, "inputs"), horizon_of(f)), esp_client_last_ms(f->client));
    json_decref(reply);
    r->free(world);
    return good && fflush(table) == 0;
}

bool esp_figures_plan(esp_figures *f, esp_client_error *reterr) {
    static const char *const methods[] = {"mip", "mppi"};
    char name[64];
    FILE *table = esp_figures_table(f, "plans.csv", "robot,seed,method,relu,trial,status,objective,lower_bound,cost,ms");
    bool good = table != NULL || esp_service_fail(ESP_CLIENT_FILE, "plans.csv cannot be written", reterr);
    for (int i = 0; good && i < f->n_models; i++) {
        if (f->model[i].relu > f->opts->plan_relu || f->opts->plans == 0) continue;
        for (int m = 0; good && m < 2; m++) {
            subject s = {.model = &f->model[i], .method = methods[m]};
            snprintf(name, sizeof name, "%s-%s-%d", f->robot->name, s.method, s.model->relu);
            good = esp_figures_task(f, s.model->id, name, s.method, s.task, sizeof s.task, reterr);
            for (int trial = 0; good && trial < f->opts->plans; trial++) good = plan_once(f, &s, trial, table, reterr);
        }
        printf("%-9s seed %llu  plans on %d ReLUs\n", f->robot->name, (unsigned long long)f->opts->seed, f->model[i].relu);
        fflush(stdout);
    }
    if (table != NULL) fclose(table);
    return good;
}
