/* SPDX-License-Identifier: Apache-2.0
 * This planner's side of the rollout benchmark: sampled plans a second. Driven by rollouts.py, which times the peers.
 *
 *     bench_rollouts NETWORK HORIZON       NETWORK: dense (push128-1, the pushing network before any pruning) or push24-1, ...
 *
 * Writes the model, a present, plans, what they cost by the replay in double and how far off our rollouts are, relatively, at the
 * most, one JSON object on one line. Then answers
 * "rollouts N SECONDS", "mppi N SECONDS" and "cem N SECONDS" on standard input each with a line of two rates, samples per
 * second of CPU and of wall time: of rollouts with their costs, or of whole iterations (draw, roll out, rank, update). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "bench/instances.h"
#include "plan/rollout.h"
#include "plan/verify.h"

#define CHECKS 64

static void must(esp_code code, const esp_error *error) {
    if (code == ESP_OK) return;
    fprintf(stderr, "bench_rollouts: %s %s\n", error->pointer, error->message);
    exit(1);
}

static esp_model *model_of(const char *network) {
    char path[128];
    esp_error error = {0};
    esp_model *model = NULL;
    (void)snprintf(path, sizeof path, "tests/bench/models/%s.espm", strcmp(network, "dense") == 0 ? "push128-1" : network);
    must(esp_model_load(path, &model, &error), &error);
    return model;
}

static double cpu(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

typedef struct bench {
    const esp_problem *problem;
    esp_track *track;
    esp_sampler *sampler;
} bench;

/* Plans drawn from the input box, n x H*nu, and what they cost in double. */
static void draw(const esp_problem *p, double *ret_plans, double *ret_costs) {
    size_t hu = (size_t)(p->horizon * p->nu);
    esp_plan plan;
    esp_error error = {0};
    esp_rng rng;
    esp_rng_init(&rng, 1, 0);
    must(esp_plan_create(p, &plan, &error), &error);
    for (int k = 0; k < CHECKS; k++) {
        for (size_t i = 0; i < hu; i++) ret_plans[(size_t)k * hu + i] = plan.inputs[i] = esp_rng_range(&rng, p->u_lower[i], p->u_upper[i]);
        (void)esp_verify(p, &plan);
        ret_costs[k] = plan.objective;
    }
    esp_plan_done(&plan);
}

/* The largest relative error of our rollouts' costs. */
static double worst_error(const bench *b, const double *plans, const double *costs) {
    esp_error error = {0};
    double worst = 0;
    int hu = b->problem->horizon * b->problem->nu;
    must(esp_sampler_reserve(b->sampler, b->problem, CHECKS, &error), &error);
    for (int k = 0; k < CHECKS; k++)
        for (int i = 0; i < hu; i++) *esp_sampler_at(b->sampler, b->problem, k, i) = (float)plans[k * hu + i];
    esp_sampler_rollout(b->sampler, b->problem, CHECKS);
    for (int k = 0; k < CHECKS; k++) worst = fmax(worst, fabs((double)b->sampler->cost[k] - costs[k]) / costs[k]);
    return worst;
}

static void introduce(const bench *b, const esp_model *model, const esp_plan_request *request) {
    const esp_problem *p = b->problem;
    size_t hu = (size_t)(p->horizon * p->nu);
    double plans[CHECKS * 256], costs[CHECKS];
    draw(p, plans, costs);
    esp_buf text = {0};
    esp_jsonw w = esp_jsonw_on(&text);
    esp_model_format_json(model, &w);
    esp_buf whole = {0};
    esp_jsonw all = esp_jsonw_on(&whole);
    esp_jsonw_object(&all, NULL);
    esp_jsonw_raw(&all, "model", esp_buf_text(&text), strlen(esp_buf_text(&text)));
    esp_jsonw_vector(&all, "y", request->y, (size_t)p->ny);
    esp_jsonw_vector(&all, "goal", request->goal, (size_t)p->task->n_goal);
    esp_jsonw_matrix(&all, "plans", plans, CHECKS, hu);
    esp_jsonw_vector(&all, "costs", costs, CHECKS);
    esp_jsonw_number(&all, "worst_error", worst_error(b, plans, costs));
    esp_jsonw_object_end(&all);
    printf("%s\n", esp_buf_text(&whole));
    (void)fflush(stdout);
    esp_buf_done(&text);
    esp_buf_done(&whole);
}

/* One batch or one search of 10 iterations; how many samples that were. */
static int once(bench *b, const char *what, int n) {
    esp_sample_options options = {.samples = n, .iterations = 10, .starts = 1, .seconds = (double)INFINITY, .seed = 1};
    esp_error error = {0};
    if (strcmp(what, "mppi") == 0) {
        must(esp_mppi_run(b->sampler, b->track, &options, &error), &error);
    } else if (strcmp(what, "cem") == 0) {
        must(esp_cem_run(b->sampler, b->track, &options, &error), &error);
    } else {
        esp_sampler_rollout(b->sampler, b->problem, n);
        return n;
    }
    return n * options.iterations;
}

static void measure(bench *b, const char *what, int n, double seconds) {
    esp_error error = {0};
    esp_sample_options warm = {.samples = n, .iterations = 1, .starts = 1, .seconds = (double)INFINITY, .seed = 1};
    must(esp_mppi_run(b->sampler, b->track, &warm, &error), &error); /* samples to roll out, and memory */
    (void)once(b, what, n);
    double cpu_start = cpu(), samples = 0;
    int64_t start = esp_clock_now_ns();
    while (esp_clock_seconds_since(start) < seconds) samples += once(b, what, n);
    printf("%.9g %.9g\n", samples / (cpu() - cpu_start), samples / esp_clock_seconds_since(start));
    (void)fflush(stdout);
}

int main(int argc, char **argv) {
    bench_size size;
    char text[32];
    if (argc != 3) return 2;
    (void)snprintf(text, sizeof text, "15x%d", atoi(argv[2]));
    if (!bench_size_parse(text, &size)) return 2;
    bench_instance instance = bench_instance_of(&size, 1, 0);
    plan_case task = bench_case(&instance, "{'method':'mppi','gap':0}");
    esp_model *model = model_of(argv[1]);
    esp_program *step = NULL;
    esp_problem *problem = NULL;
    esp_track track;
    esp_error error = {0};
    bench b = {0};
    esp_plan_request request = bench_request(&instance);
    must(esp_program_lower(model, &step, &error), &error);
    must(esp_problem_create(task.task, step, 1, NULL, NULL, &request, &problem, &error), &error);
    must(esp_track_init(problem, NULL, NULL, &track, &error), &error);
    must(esp_sampler_create(step, &b.sampler, &error), &error);
    b.problem = problem;
    b.track = &track;
    introduce(&b, model, &request);
    char what[16];
    int n;
    double seconds;
    while (scanf("%15s %d %lf", what, &n, &seconds) == 3 && n >= 2 && n <= ESP_SAMPLES) measure(&b, what, n, seconds);
    esp_sampler_free(b.sampler);
    esp_track_done(&track);
    esp_problem_free(problem);
    esp_program_free(step);
    esp_model_free(model);
    case_done(&task);
    return 0;
}
