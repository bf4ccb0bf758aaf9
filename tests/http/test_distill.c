/* SPDX-License-Identifier: Apache-2.0
 * Distill jobs over HTTP: a policy whose best form is known by hand, what is measured of it, what becomes of it after (pruned,
 * certified, as C), a job that is cancelled or loses its worker, and every way to be refused. */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "base/buf.h"
#include "support/rail.h"
#include "support/schema.h"

static test_daemon d;

#define TASK(more)                                                                                                                                   \
    "\"cost\":{\"stage\":[{\"on\":\"y\",\"weight\":1,\"norm\":\"l1\",\"target\":\"goal\"}]},\"input\":{\"lower\":[-1],\"upper\":[1]" more "}"
#define BOX "\"domain\":{\"lower\":[-2,-0.5],\"upper\":[2,0.5]}"

static void store(const char *json) {
    http_reply reply = http_json(&d, "POST", "/v1/tasks", json);
    expect_status(reply, 201);
    http_done(&reply);
}

static void submit(const char *spec, char ret_id[64]) {
    char why[1024] = "", body[2048];
    snprintf(body, sizeof body, "{\"kind\":\"distill\",\"spec\":%s}", spec);
    ck_assert_msg(schema_check_request("POST", "/v1/jobs", body, why, sizeof why), "%s: %s", body, why);
    rail_submit(&d, body, ret_id);
}

/* The job's reply after its end, held against the description of the interface. */
static http_reply run(const char *spec, const char *state) {
    char id[64], why[1024] = "", path[128];
    submit(spec, id);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_msg(strcmp(reply_text(&job, "/state"), state) == 0, "%.1500s", job.body);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    ck_assert_msg(schema_check_reply("GET", path, 200, job.body, why, sizeof why), "%s", why);
    return job;
}

static http_reply get(const char *format, const char *text) {
    char path[192];
    snprintf(path, sizeof path, format, text);
    http_reply reply = http_get(&d, path);
    expect_status(reply, 200);
    return reply;
}

/* ---- what works ---- */

/* y+ = y + 0.5 u, |u| <= 1, the sum of |y - goal|: the best input is 2 (goal - y), cut to the box, and no other is. */
START_TEST(distill__finds_the_known_policy) {
    http_reply job = run("{\"task\":\"reach\",\"name\":\"pi\"," BOX ",\"samples\":300,\"hidden\":[12],\"dagger_rounds\":1,\"round_samples\":100,"
                         "\"regret_states\":10,\"plan_ms\":20000,\"seed\":1}",
                         "succeeded");
    http_reply model = get("/v1/models/%s", reply_text(&job, "/result/model/id")), task = get("/v1/tasks/%s", "reach");
    ck_assert_str_eq(reply_text(&model, "/kind"), "policy");
    ck_assert_double_eq(reply_number(&model, "/ny"), 2); /* position and goal */
    ck_assert_double_eq(reply_number(&model, "/nu"), 1);
    ck_assert_double_eq(reply_number(&model, "/relu"), 12);
    ck_assert(!reply_has(&model, "/parent"));
    ck_assert(!reply_has(&model, "/dataset"));
    ck_assert_str_eq(reply_text(&model, "/spec/method"), "distill");
    ck_assert_str_eq(reply_text(&model, "/spec/distill/task"), reply_text(&task, "/id"));
    ck_assert_uint_eq(strlen(reply_text(&model, "/spec/distill/task_sha256")), 64);
    ck_assert_double_eq(reply_number(&model, "/spec/distill/samples"), 300);
    ck_assert_double_eq(reply_number(&model, "/spec/distill/domain/upper/1"), 0.5);
    /* The answers, all proved; the errors. */
    ck_assert_double_eq(reply_number(&job, "/result/answers"), 400);
    ck_assert_double_eq(reply_number(&job, "/result/optimal"), 400);
    ck_assert_double_eq(reply_number(&job, "/result/unplanned"), 0);
    ck_assert_uint_eq(reply_count(&job, "/result/rounds"), 2);
    ck_assert_double_lt(reply_number(&job, "/result/rounds/1/validation_rmse"), 0.05);
    /* Its regret: nothing to speak of, of a cost of about 2. */
    ck_assert_double_eq(reply_number(&job, "/result/regret/states"), 10);
    ck_assert_double_eq(reply_number(&job, "/result/regret/steps"), 4);
    ck_assert_double_lt(fabs(reply_number(&job, "/result/regret/mean")), 0.05);
    ck_assert_double_lt(reply_number(&job, "/result/regret/p90"), 0.1);
    ck_assert_double_le(reply_number(&job, "/result/regret/p50"), reply_number(&job, "/result/regret/p90"));
    ck_assert_double_le(reply_number(&job, "/result/regret/p90"), reply_number(&job, "/result/regret/largest"));
    ck_assert_double_ge(reply_number(&job, "/result/regret/policy_cost"), reply_number(&job, "/result/regret/plan_objective") * 0.99);
    ck_assert_double_eq(reply_number(&model, "/metrics/regret/mean"), reply_number(&job, "/result/regret/mean"));
    http_done(&task);
    http_done(&model);
    http_done(&job);
    /* What it says, beside what is known. */
    for (int i = 0; i <= 40; i++) {
        char body[64];
        double y = -2 + 0.1 * i, best = fmin(fmax(2 * (0.25 - y), -1), 1);
        snprintf(body, sizeof body, "{\"x\":[[%g,0.25]]}", y);
        http_reply said = http_json(&d, "POST", "/v1/models/pi/predict", body);
        expect_status(said, 200);
        ck_assert_double_eq_tol(reply_number(&said, "/y/0/0"), best, 0.2);
        http_done(&said);
    }
}
END_TEST

/* A term on du: the input applied last is a part of the policy's input, and a rate holds in its loops. */
START_TEST(distill__sees_the_last_input_where_it_matters) {
    http_reply job = run("{\"task\":\"smooth\",\"name\":\"smooth\",\"domain\":{\"lower\":[-1,-1,0],\"upper\":[1,1,0]},\"samples\":60,\"hidden\":[8],"
                         "\"dagger_rounds\":1,\"regret_states\":4,\"validation\":0}",
                         "succeeded");
    http_reply model = get("/v1/models/%s", reply_text(&job, "/result/model/id"));
    ck_assert_double_eq(reply_number(&model, "/ny"), 3);
    ck_assert(!reply_has(&job, "/result/rounds/0/validation_rmse"));
    ck_assert_double_eq(reply_number(&job, "/result/regret/violations"), 0);
    ck_assert_double_eq(reply_number(&job, "/result/regret/diverged"), 0);
    http_done(&model);
    http_done(&job);
}
END_TEST

static double least_bound(const http_reply *job) {
    double least = INFINITY;
    for (size_t i = 0; i < reply_count(job, "/result/certificates"); i++) {
        char pointer[64];
        snprintf(pointer, sizeof pointer, "/result/certificates/%zu/value", i);
        least = fmin(least, reply_number(job, pointer));
    }
    return least;
}

/* Down to the microcontroller: pruned within a budget, certified, compiled, its self-test run. */
START_TEST(distill__goes_on_to_c) {
    char command[512], path[128], id[64];
    esp_error error = {0};
    http_reply job =
        run("{\"task\":\"reach\",\"name\":\"small\"," BOX ",\"samples\":100,\"hidden\":[8],\"dagger_rounds\":0,\"regret_states\":0}", "succeeded");
    ck_assert(!reply_has(&job, "/result/regret"));
    http_done(&job);
    rail_submit(
        &d, "{\"kind\":\"prune\",\"spec\":{\"model\":\"small\",\"name\":\"small\",\"error_budget\":0.2,\"samples\":300,\"time_limit_s\":3," BOX "}}",
        id);
    job = rail_wait_end(&d, id, 60);
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_double_le(least_bound(&job), 0.2001);
    http_reply c = get("/v1/models/%s/artifact?format=c&precision=float", reply_text(&job, "/result/model/id"));
    snprintf(path, sizeof path, "%s/policy.c", d.dir);
    ck_assert_int_eq(esp_file_write(path, c.body, c.len, &error), ESP_OK);
    snprintf(command, sizeof command, "cc -std=c99 -O2 -ffp-contract=off -DESPALIER_SELF_TEST %s -o %s/policy && %s/policy >/dev/null", path, d.dir,
             d.dir);
    ck_assert_int_eq(system(command), 0);
    http_done(&c);
    http_done(&job);
}
END_TEST

/* ---- what ends otherwise ---- */

#define LONG                                                                                                                                         \
    "{\"task\":\"hard\",\"name\":\"long\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},\"samples\":5000,\"hidden\":[8],\"plan_ms\":%s}"

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Plans of a minute each do not hold it up, and it tells how far it is meanwhile. */
START_TEST(distill__is_cancelled) {
    char id[64], spec[512], path[128];
    snprintf(spec, sizeof spec, LONG, "60000");
    submit(spec, id);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    bool told = false;
    for (double until = now_s() + 20; !told && now_s() < until;) {
        http_reply job = http_get(&d, path);
        told = reply_has(&job, "/progress") && reply_has(&job, "/progress/stage") && strcmp(reply_text(&job, "/progress/stage"), "planning") == 0;
        http_done(&job);
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
    ck_assert(told);
    http_reply reply = http_delete(&d, path);
    ck_assert_int_lt(reply.status, 300);
    http_done(&reply);
    reply = rail_wait_end(&d, id, 20);
    ck_assert_str_eq(reply_text(&reply, "/state"), "cancelled");
    http_done(&reply);
}
END_TEST

static bool kill_while_running(const char *id) {
    char path[128];
    pid_t pids[8];
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    http_reply job = http_get(&d, path);
    bool running = strcmp(reply_text(&job, "/state"), "running") == 0, ended = strcmp(reply_text(&job, "/state"), "failed") == 0;
    http_done(&job);
    int n = running ? rail_workers(&d, RAIL_BATCH, pids, 8) : 0;
    for (int i = 0; i < n; i++) kill(pids[i], SIGKILL);
    return !ended;
}

/* Its workers die: it is run again, and then told as lost. One that dies before it has the job does not count. */
START_TEST(distill__that_loses_its_workers_fails_with_a_reason) {
    char id[64], spec[512];
    snprintf(spec, sizeof spec, LONG, "20");
    submit(spec, id);
    for (double until = now_s() + 90; kill_while_running(id) && now_s() < until;) nanosleep(&(struct timespec){0, 300000000}, NULL);
    http_reply job = rail_wait_end(&d, id, 1);
    ck_assert_str_eq(reply_text(&job, "/state"), "failed");
    ck_assert_str_eq(reply_text(&job, "/error/code"), "WORKER_LOST");
    ck_assert_double_eq(reply_number(&job, "/attempt"), 2);
    http_done(&job);
}
END_TEST

/* No state has a plan: the walls are too near for any input. */
START_TEST(distill__without_any_plan_fails_at_the_domain) {
    http_reply job =
        run("{\"task\":\"walled\",\"name\":\"none\",\"domain\":{\"lower\":[-0.05],\"upper\":[0.05]},\"samples\":5,\"hidden\":[4]}", "failed");
    ck_assert_str_eq(reply_text(&job, "/error/pointer"), "/spec/domain");
    http_done(&job);
}
END_TEST

/* ---- what is refused ---- */

#define GOOD "\"task\":\"reach\",\"name\":\"x\"," BOX ",\"samples\":10,\"hidden\":[4]"
static const struct {
    const char *spec, *pointer;
    int status;
} refused[] = {
    {"{}", "/spec/name", 400},
    {"{\"name\":\"x\"}", "/spec/task", 400},
    {"{\"task\":\"reach\",\"name\":\"no name\"," BOX ",\"samples\":10,\"hidden\":[4]}", "/spec/name", 400},
    {"{\"task\":\"nothing\",\"name\":\"x\"," BOX ",\"samples\":10,\"hidden\":[4]}", "/spec/task", 422},
    {"{\"task\":7,\"name\":\"x\"," BOX ",\"samples\":10,\"hidden\":[4]}", "/spec/task", 400},
    {"{\"task\":\"stepped\",\"name\":\"x\"," BOX ",\"samples\":10,\"hidden\":[4]}", "/spec/task", 422},
    {"{\"task\":\"reach\",\"name\":\"x\",\"samples\":10,\"hidden\":[4]}", "/spec/domain", 400},
    {"{\"task\":\"reach\",\"name\":\"x\",\"domain\":{\"lower\":[-2],\"upper\":[2]},\"samples\":10,\"hidden\":[4]}", "/spec/domain/lower", 400},
    {"{\"task\":\"reach\",\"name\":\"x\",\"domain\":{\"lower\":[-2,0],\"upper\":[2]},\"samples\":10,\"hidden\":[4]}", "/spec/domain/upper", 400},
    {"{\"task\":\"reach\",\"name\":\"x\"," BOX ",\"samples\":0,\"hidden\":[4]}", "/spec/samples", 400},
    {"{\"task\":\"reach\",\"name\":\"x\"," BOX ",\"hidden\":[4]}", "/spec/samples", 400},
    {"{\"task\":\"reach\",\"name\":\"x\"," BOX ",\"samples\":10}", "/spec/hidden", 400},
    {"{\"task\":\"reach\",\"name\":\"x\"," BOX ",\"samples\":10,\"hidden\":[]}", "/spec/hidden", 400},
    {"{\"task\":\"reach\",\"name\":\"x\"," BOX ",\"samples\":10,\"hidden\":[4,0]}", "/spec/hidden/1", 400},
    {"{" GOOD ",\"dagger_rounds\":51}", "/spec/dagger_rounds", 400},
    {"{" GOOD ",\"round_samples\":0}", "/spec/round_samples", 400},
    {"{" GOOD ",\"regret_states\":-1}", "/spec/regret_states", 400},
    {"{" GOOD ",\"plan_ms\":0.5}", "/spec/plan_ms", 400},
    {"{" GOOD ",\"validation\":0.95}", "/spec/validation", 400},
    {"{" GOOD ",\"batch\":0}", "/spec/batch", 400},
    {"{" GOOD ",\"model\":\"line\"}", "/spec/model", 400},
    {"{\"task\":\"reach\",\"name\":\"x\"," BOX ",\"samples\":1000000,\"round_samples\":1000000,\"dagger_rounds\":50,\"hidden\":[4]}", "/spec/samples",
     400},
};

START_TEST(distill__refuses_and_names_the_field) {
    char body[1024];
    snprintf(body, sizeof body, "{\"kind\":\"distill\",\"spec\":%s}", refused[_i].spec);
    http_reply reply = http_json(&d, "POST", "/v1/jobs", body);
    expect_problem(&reply, refused[_i].status, refused[_i].status == 422 ? "UNPROCESSABLE" : "INVALID", refused[_i].pointer);
    http_done(&reply);
}
END_TEST

static void setup(void) {
    rail_upload_line(&d, "line");
    rail_upload_random(&d, "hard", 32, 1);
    rail_store_task(&d, "hard", "hard", 16);
    store("{\"name\":\"reach\",\"model\":\"line\",\"horizon\":4," TASK("") "}");
    store("{\"name\":\"stepped\",\"model\":\"line\",\"horizon\":4," TASK(",\"values\":[[-1],[0],[1]]") "}");
    store(
        "{\"name\":\"smooth\",\"model\":\"line\",\"horizon\":4,\"cost\":{\"stage\":[{\"on\":\"y\",\"weight\":1,\"norm\":\"l1\",\"target\":\"goal\"},"
        "{\"on\":\"du\",\"weight\":0.1,\"norm\":\"l1\"}]},\"input\":{\"lower\":[-1],\"upper\":[1],\"rate\":[0.5]}}");
    store("{\"name\":\"walled\",\"model\":\"line\",\"horizon\":2,\"cost\":{\"stage\":[{\"on\":\"y\",\"weight\":1,\"norm\":\"l1\"}]},"
          "\"input\":{\"lower\":[0.5],\"upper\":[1]},\"state\":{\"lower\":[-0.1],\"upper\":[0.1]}}");
}

int main(void) {
    Suite *suite = suite_create("distill");
    TCase *tc = tcase_create("distill");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, distill__finds_the_known_policy);
    tcase_add_test(tc, distill__sees_the_last_input_where_it_matters);
    tcase_add_test(tc, distill__goes_on_to_c);
    tcase_add_test(tc, distill__is_cancelled);
    tcase_add_test(tc, distill__without_any_plan_fails_at_the_domain);
    tcase_add_loop_test(tc, distill__refuses_and_names_the_field, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(tc, distill__that_loses_its_workers_fails_with_a_reason);
    suite_add_tcase(suite, tc);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
