/* SPDX-License-Identifier: Apache-2.0
 * Closed-loop episodes (demo.h): observe, ask for a plan, carry out its first input, again.
 *
 * Several episodes run at once, each thread with a connection of its own, as several robots would. Every method plays the same
 * episodes: the start, the goal and the pusher are drawn from the seed and the episode's number alone. When no plan comes, the
 * robot stands still for that step; the report counts it. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "robots/pushing/demo.h"
#include "robots/random.h"
#include "robots/service.h"
#include "robots/stats.h"

#define TERMINAL_WEIGHT 2.0 /* on top of the last step's 1: a short horizon has to look at where it ends */
#define GRACE_MS        2000 /* how long past the deadline the robot still waits, so that a late reply is seen and counted */

void esp_push_draw_episode(uint64_t seed, int index, esp_push_episode *ret_episode) {
    esp_dice dice;
    esp_dice_init(&dice, seed, UINT64_C(1) << 32 | (uint64_t)index);
    memset(ret_episode, 0, sizeof *ret_episode);
    esp_push_draw_task(&dice, &ret_episode->start, &ret_episode->goal, ret_episode->pusher);
}

double esp_push_error(const double *y, esp_pose goal) {
    double corners[ESP_PUSH_NK], sum = 0.0;
    esp_push_corners(goal, corners);
    for (int k = 0; k < ESP_PUSH_NK; k += 2) sum += hypot(y[k] - corners[k], y[k + 1] - corners[k + 1]);
    return sum / ESP_PUSH_KEYPOINTS;
}

static double l1_error(const double *y, esp_pose goal) {
    double corners[ESP_PUSH_NK], sum = 0.0;
    esp_push_corners(goal, corners);
    for (int k = 0; k < ESP_PUSH_NK; k++) sum += fabs(y[k] - corners[k]);
    return sum;
}

/* ---- one plan ---------------------------------------------------------------------------------------------------- */

static void read_plan(const json_t *reply, esp_push_record *record) {
    static const char *const names[] = {"optimal", "feasible", "fallback", "infeasible", "unknown"};
    const char *status = json_string_value(json_object_get(reply, "status"));
    record->status = ESP_PUSH_NO_REPLY;
    for (int i = 0; status != NULL && i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(status, names[i]) == 0) record->status = (esp_push_status)i;
    record->objective = esp_service_number(reply, "objective");
    record->gap = esp_service_number(reply, "gap");
    if (!esp_service_read(json_array_get(json_object_get(reply, "inputs"), 0), record->u, ESP_PUSH_NU)) {
        memset(record->u, 0, sizeof record->u);
        if (record->status <= ESP_PUSH_FALLBACK) record->status = ESP_PUSH_NO_REPLY;
    }
    const json_t *predicted = json_object_get(reply, "predicted");
    for (size_t i = 0; i < json_array_size(predicted) && i < ESP_PUSH_MAX_HORIZON; i++, record->n_predicted++)
        if (!esp_service_read(json_array_get(predicted, i), record->predicted + i * ESP_PUSH_NY, ESP_PUSH_NY)) break;
}

typedef struct stage {
    const esp_push_demo *demo;
    esp_push_run *run;
    atomic_int next;
    atomic_bool broken;
    esp_client_error error; /* of the first thread that gave up */
    pthread_mutex_t lock;
} stage;

/* True unless the request itself is wrong, which no later step would mend. */
static bool ask_plan(stage *s, esp_client *client, int index, const double *goal, esp_push_record *record, esp_client_error *reterr) {
    const esp_push_opts *opts = s->demo->opts;
    char session[96];
    snprintf(session, sizeof session, "pushing-%s-%d-%d", s->run->method, s->demo->model[s->run->model].relu, index);
    json_t *body = json_pack("{s:s,s:[o],s:o,s:i,s:s}", "task", s->run->task, "y", esp_service_numbers(record->y, ESP_PUSH_NY), "goal",
                             esp_service_numbers(goal, ESP_PUSH_NK), "deadline_ms", opts->deadline_ms, "session", session);
    json_t *reply = NULL;
    esp_client_code code = esp_client_call(client, "POST", "/v1/plans", body, opts->deadline_ms + GRACE_MS, &reply, reterr);
    json_decref(body);
    record->latency_ms = esp_client_last_ms(client);
    record->objective = record->gap = (double)NAN;
    record->status = ESP_PUSH_NO_REPLY;
    if (code == ESP_CLIENT_OK) read_plan(reply, record);
    json_decref(reply);
    return !(code == ESP_CLIENT_REFUSED && reterr->status >= 400 && reterr->status < 500 && reterr->status != 429);
}

/* ---- one episode ------------------------------------------------------------------------------------------------- */

static bool play(stage *s, esp_client *client, int index, esp_push_episode *episode, esp_client_error *reterr) {
    double goal[ESP_PUSH_NK];
    esp_push_draw_episode(s->demo->opts->seed, index, episode);
    esp_push_corners(episode->goal, goal);
    esp_push_world *world = esp_push_create(episode->start, episode->pusher[0], episode->pusher[1]);
    bool good = world != NULL;
    if (!good) *reterr = (esp_client_error){.code = ESP_CLIENT_NOMEM, .message = "no memory for a simulated world"};
    for (int t = 0; good && t < s->demo->opts->steps; t++) {
        esp_push_record *record = &episode->step[t];
        esp_push_observe(world, record->y);
        good = ask_plan(s, client, index, goal, record, reterr);
        esp_push_step(world, record->u);
        esp_push_observe(world, episode->y_end);
        episode->cost += l1_error(episode->y_end, episode->goal);
        episode->n_steps = t + 1;
    }
    episode->error = esp_push_error(episode->y_end, episode->goal);
    esp_push_free(world);
    return good;
}

/* A control loop goes before what else the machine does, where that is allowed (root, or a limit on rtprio). It only waits
 * and steps its world; without it what is counted as late would be its own waiting for a processor. */
static void go_first(void) {
    struct sched_param lowest = {.sched_priority = 1};
    (void)pthread_setschedparam(pthread_self(), SCHED_RR, &lowest);
}

static void *robot(void *user) {
    stage *s = user;
    go_first();
    esp_client *client = NULL;
    esp_client_error error;
    bool good = esp_client_open(s->demo->opts->server, NULL, &client, &error) == ESP_CLIENT_OK;
    while (good && !atomic_load(&s->broken)) {
        int index = atomic_fetch_add(&s->next, 1);
        if (index >= s->run->n_episodes) break;
        good = play(s, client, index, &s->run->episode[index], &error);
    }
    if (!good) {
        pthread_mutex_lock(&s->lock);
        if (!atomic_load(&s->broken)) s->error = error;
        atomic_store(&s->broken, true);
        pthread_mutex_unlock(&s->lock);
    }
    esp_client_close(client);
    return NULL;
}

static bool play_all(const esp_push_demo *demo, esp_push_run *run, esp_client_error *reterr) {
    stage s = {.demo = demo, .run = run};
    pthread_mutex_init(&s.lock, NULL);
    pthread_t thread[16];
    int n = 0;
    while (n < demo->opts->threads && n < 16 && pthread_create(&thread[n], NULL, robot, &s) == 0) n++;
    if (n == 0) {
        s.error = (esp_client_error){.code = ESP_CLIENT_NOMEM, .message = "no thread can be started"};
        atomic_store(&s.broken, true);
    }
    for (int i = 0; i < n; i++) pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&s.lock);
    if (atomic_load(&s.broken)) *reterr = s.error;
    return !atomic_load(&s.broken);
}

/* ---- all episodes of a method ------------------------------------------------------------------------------------ */

/* Root mean square, per keypoint coordinate, of what the model said one step ahead against what happened. */
static double one_step_error(const esp_push_run *run) {
    double sum = 0.0;
    int n = 0;
    for (int e = 0; e < run->n_episodes; e++) {
        const esp_push_episode *episode = &run->episode[e];
        for (int t = 0; t < episode->n_steps; t++) {
            const double *happened = t + 1 < episode->n_steps ? episode->step[t + 1].y : episode->y_end, *said = episode->step[t].predicted;
            if (episode->step[t].n_predicted == 0) continue;
            for (int k = 0; k < ESP_PUSH_NK; k++, n++) sum += (said[k] - happened[k]) * (said[k] - happened[k]);
        }
    }
    return n > 0 ? sqrt(sum / n) : (double)NAN;
}

static bool sum_up(const esp_push_opts *opts, esp_push_run *run) {
    double *latency = calloc((size_t)ESP_PUSH_MAX_EPISODES * ESP_PUSH_MAX_STEPS, sizeof *latency), error[ESP_PUSH_MAX_EPISODES];
    if (latency == NULL) return false;
    for (int e = 0; e < run->n_episodes; e++) {
        const esp_push_episode *episode = &run->episode[e];
        for (int t = 0; t < episode->n_steps; t++) {
            const esp_push_record *record = &episode->step[t];
            latency[run->calls++] = record->latency_ms;
            run->optimal += record->status == ESP_PUSH_OPTIMAL;
            run->feasible += record->status == ESP_PUSH_FEASIBLE;
            run->fallback += record->status == ESP_PUSH_FALLBACK;
            run->failed += record->status > ESP_PUSH_FALLBACK;
            run->late += record->latency_ms > opts->deadline_ms + ESP_PUSH_LATE_MS;
        }
        error[e] = episode->error;
        run->cost_mean += episode->cost / run->n_episodes;
        run->success += (episode->error <= ESP_PUSH_SUCCESS) / (double)run->n_episodes;
    }
    run->p50_ms = esp_stats_quantile(latency, (size_t)run->calls, 0.5);
    run->p99_ms = esp_stats_quantile(latency, (size_t)run->calls, 0.99);
    run->max_ms = esp_stats_quantile(latency, (size_t)run->calls, 1.0);
    run->error_mean = esp_stats_mean(error, (size_t)run->n_episodes);
    for (int q = 0; q < 3; q++) run->error_quartile[q] = esp_stats_quantile(error, (size_t)run->n_episodes, 0.25 * (q + 1));
    run->model_error = one_step_error(run);
    free(latency);
    return true;
}

/* The L1 distance of the keypoints in the world to the goal's. */
static json_t *keypoint_term(double weight) {
    json_t *index = json_array();
    for (int i = 0; i < ESP_PUSH_NK; i++) json_array_append_new(index, json_integer(i));
    return json_pack("{s:s,s:o,s:f,s:s,s:s}", "on", "y", "index", index, "weight", weight, "norm", "l1", "target", "goal");
}

static bool store_task(esp_push_demo *demo, esp_push_run *run, esp_client_error *reterr) {
    const esp_push_model *model = &demo->model[run->model];
    char name[64];
    snprintf(name, sizeof name, "pushing-%s-%d", run->method, model->relu);
    json_t *planner = json_pack("{s:s}", "method", run->method);
    if (strcmp(run->method, "mip") == 0) {
        json_object_set_new(planner, "gap", json_real(0.01));
        json_object_set_new(planner, "absolute_gap", json_real(0.02)); /* at the goal 1 % of nearly nothing would never be met */
    }
    json_t *task = json_pack("{s:s,s:s,s:i,s:{s:[o],s:[o]},s:{s:[f,f],s:[f,f],s:[f,f]},s:o}", "name", name, "model", model->id, "horizon",
                             demo->opts->horizon, "cost", "stage", keypoint_term(1.0), "terminal", keypoint_term(TERMINAL_WEIGHT), "input", "lower",
                             -ESP_PUSH_U_MAX, -ESP_PUSH_U_MAX, "upper", ESP_PUSH_U_MAX, ESP_PUSH_U_MAX, "safe", 0.0, 0.0, "planner", planner);
    return esp_service_task(demo->client, task, run->task, sizeof run->task, reterr);
}

bool esp_push_run_method(esp_push_demo *demo, const char *method, int model, int *ret_run, esp_client_error *reterr) {
    esp_push_run *run = &demo->run[demo->n_runs];
    *run = (esp_push_run){.method = method, .model = model, .n_episodes = demo->opts->episodes};
    run->episode = calloc((size_t)run->n_episodes, sizeof *run->episode);
    if (run->episode == NULL) {
        *reterr = (esp_client_error){.code = ESP_CLIENT_NOMEM, .message = "no memory for the episodes"};
        return false;
    }
    demo->n_runs++; /* the demo frees it from here on */
    printf("episodes   %-11s on %3d ReLUs:", esp_push_method_name(method), demo->model[model].relu);
    fflush(stdout);
    if (!store_task(demo, run, reterr) || !play_all(demo, run, reterr)) {
        printf("\n");
        return false;
    }
    if (!sum_up(demo->opts, run)) return false;
    printf(" final error %5.1f px (median %5.1f), %3.0f %% within %.0f px, plan %3.0f ms, %3.0f %% proved optimal\n", 100 * run->error_mean,
           100 * run->error_quartile[1], 100 * run->success, 100 * ESP_PUSH_SUCCESS, run->p50_ms, 100.0 * run->optimal / run->calls);
    *ret_run = demo->n_runs - 1;
    return true;
}
