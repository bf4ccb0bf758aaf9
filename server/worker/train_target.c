/* SPDX-License-Identifier: Apache-2.0
 * The target of a ladder: which rung is far enough. An error is what training measures anyway; plan time is measured here, on presents
 * from the data: the rung's plans of the task are sought until they are proved to its gap, each for as much processor time as
 * the target allows.
 *
 * What a rung was found to be is read from the MODEL payload that announces it, so that a job which is taken up again judges
 * the rungs of before as they were judged then. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "plan/plan.h"
#include "worker/train_parts.h"

#define PRESENTS 20
#define ENOUGH   0.9 /* of the presents' plans are proved in time */

static double cpu_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

esp_code target_read(worker *w, const esp_reader *payload, const esp_dataset *data, const esp_train_opts *opts, esp_arena *arena, target *ret_target,
                     esp_error *reterr) {
    *ret_target = (target){.w = w, .data = data, .opts = opts, .chosen = -1};
    if (opts->target_plan_ms <= 0) return ESP_OK;
    esp_reader task = esp_read_member(payload, "task");
    esp_code code = esp_task_parse(&task, data->ny, data->nu, arena, &ret_target->task, reterr);
    if (code) return code;
    ret_target->goal = ESP_NEW(arena, double, ret_target->task->n_goal + 1);
    return ret_target->goal ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for a target");
}

typedef struct search {
    target *target;
    double until; /* of cpu_ms */
} search;

/* For esp_stop: the time is used up, or the job is not wanted any more. */
static bool used_up(void *user) {
    search *s = user;
    int64_t now = esp_clock_now_ns();
    if (now - s->target->told_ns > ESP_NS_PER_S / 2) {
        worker_progress(s->target->w, s->target->fraction, "planning");
        s->target->told_ns = now;
    }
    return worker_cancelled(s->target->w) || cpu_ms() >= s->until;
}

/* Where the data are a horizon later. What a goal is of inputs is 0. */
static void set_goal(target *t, const double *y_later) {
    memset(t->goal, 0, (size_t)t->task->n_goal * sizeof *t->goal);
    for (int k = 0; k < t->task->n_stage + t->task->n_terminal; k++) {
        const esp_term *term = k < t->task->n_stage ? &t->task->stage[k] : &t->task->terminal[k - t->task->n_stage];
        for (int i = 0; term->target_is_goal && term->on == ESP_ON_Y && i < term->n; i++) t->goal[i] = y_later[term->index[i]];
    }
}

/* Row r of the data is the present; its trajectory ends with row `last`. */
static esp_code plan_at(target *t, esp_planner *planner, size_t r, size_t last, bool *ret_proved, esp_error *reterr) {
    const esp_dataset *data = t->data;
    size_t ny = (size_t)data->ny, nu = (size_t)data->nu, h = (size_t)t->opts->history, later = r + (size_t)t->task->horizon;
    search s = {t, cpu_ms() + t->opts->target_plan_ms};
    const esp_stop stop = {esp_clock_now_ns() + (int64_t)(20 * t->opts->target_plan_ms * (double)ESP_NS_PER_MS), used_up, &s};
    const esp_plan_request request = {
        .y = data->y + (r + 1 - h) * ny, .u = h > 1 ? data->u + (r + 1 - h) * nu : NULL, .n_u = (int)h - 1, .goal = t->goal};
    esp_plan_result result;
    set_goal(t, data->y + (later < last ? later : last) * ny);
    esp_code code = esp_plan_run(planner, t->task, &request, NULL, &stop, &result, reterr);
    if (code) return code;
    *ret_proved = result.status == ESP_PLAN_INFEASIBLE || result.gap <= t->task->gap ||
                  (result.best.inputs && result.best.objective - result.lower_bound <= t->task->absolute_gap);
    esp_plan_result_done(&result);
    return worker_cancelled(t->w) ? esp_fail(reterr, ESP_CANCELLED, "training cancelled while plans were timed") : ESP_OK;
}

/* Presents are spread evenly over the trajectories that are long enough. */
static esp_code time_plans(target *t, esp_planner *planner, double *ret_share, esp_error *reterr) {
    const esp_dataset *data = t->data;
    size_t h = (size_t)t->opts->history, by = data->n_trajectories / PRESENTS + 1;
    int n = 0, proved = 0;
    for (size_t i = 0; i < data->n_trajectories; i += by) {
        size_t first = data->start[i], last = data->start[i + 1] - 1;
        if (last + 1 - first < h) continue;
        bool done = false;
        esp_code code = plan_at(t, planner, first + h - 1 + (last - first - h + 1) / 3, last, &done, reterr);
        if (code) return code;
        n++;
        proved += done;
    }
    *ret_share = n ? (double)proved / n : 0;
    return ESP_OK;
}

esp_code target_measure(target *t, const esp_model *model, const esp_box *box, double *ret_share, esp_error *reterr) {
    esp_planner *planner = NULL;
    *ret_share = NAN;
    if (!t->task) return ESP_OK;
    t->told_ns = esp_clock_now_ns();
    esp_code code = esp_planner_create(model, box->lower, box->upper, &planner, reterr);
    if (!code) code = time_plans(t, planner, ret_share, reterr);
    esp_planner_free(planner);
    return code;
}

/* A number of the payload's metrics; NaN for none. */
static double metric(const esp_reader *payload, const char *key) {
    double value = NAN;
    esp_reader metrics = esp_read_member(payload, "metrics"), member = esp_read_member(&metrics, key);
    if (esp_read_number(&member, 0, 1e300, &value, NULL)) value = NAN;
    return value;
}

void target_judge(target *t, const esp_buf *payload) {
    esp_json *json = NULL;
    int model = t->models++;
    if (esp_json_parse(payload->data, payload->len, &json, NULL)) return;
    esp_reader root = esp_reader_root(json);
    if (t->opts->target_rmse > 0) {
        bool good = metric(&root, "validation_rmse") <= t->opts->target_rmse;
        if (good) t->chosen = model;
        t->over = !good;
    } else if (t->opts->target_plan_ms > 0 && metric(&root, "plans_proved") >= ENOUGH) {
        t->chosen = model;
        t->over = true;
    }
    esp_json_free(json);
}

void target_put(const target *t, esp_jsonw *json) {
    if (t->opts->target_rmse <= 0 && t->opts->target_plan_ms <= 0) return;
    esp_jsonw_object(json, "target");
    esp_jsonw_bool(json, "met", t->chosen >= 0);
    if (t->chosen >= 0) esp_jsonw_integer(json, "model", t->chosen);
    esp_jsonw_object_end(json);
}
