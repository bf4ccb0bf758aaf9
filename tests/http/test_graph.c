/* SPDX-License-Identifier: Apache-2.0
 * A graph network over HTTP: trained on two discs and a finger, planned, predicted, evaluated and certified with three, taken along
 * as a plain network; and what it is refused for, by name. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/rng.h"
#include "support/rail.h"
#include "support/schema.h"

static test_daemon d;

enum { TRAJECTORIES = 150, STEPS = 8 };

/* A disc goes where the finger, half a length away at most, pushes it. */
static void step(int n, double *y, const double *u) {
    double *finger = y + 2 * n;
    for (int k = 0; k < 2; k++) finger[k] += u[k];
    for (int i = 0; i < n; i++) {
        double away[2] = {y[2 * i] - finger[0], y[2 * i + 1] - finger[1]}, near = hypot(away[0], away[1]);
        for (int k = 0; near < 0.5 && k < 2; k++) y[2 * i + k] += 0.5 * (0.5 - near) * away[k] / fmax(near, 1e-6);
    }
}

static void put_rows(esp_buf *text, const double *rows, int n, int width) {
    for (int r = 0; r < n; r++)
        for (int k = 0; k < width; k++) esp_buf_printf(text, "%s%.6f%s", k ? "," : r ? ",[" : "[[", rows[r * width + k], k == width - 1 ? "]" : "");
    esp_buf_puts(text, "]");
}

static void upload(const char *name, int n) {
    esp_buf text = {0};
    esp_rng rng;
    char path[64];
    int ny = 2 * n + 2;
    esp_rng_init(&rng, 7, (uint64_t)n);
    for (int t = 0; t < TRAJECTORIES; t++) {
        double y[STEPS + 1][10], u[STEPS][2];
        for (int k = 0; k < ny; k++) y[0][k] = esp_rng_range(&rng, -0.7, 0.7);
        for (int s = 0; s < STEPS; s++) {
            for (int k = 0; k < 2; k++) u[s][k] = esp_rng_range(&rng, -0.3, 0.3);
            memcpy(y[s + 1], y[s], sizeof y[s]);
            step(n, y[s + 1], u[s]);
        }
        double flat[(STEPS + 1) * 10];
        for (int s = 0; s <= STEPS; s++) memcpy(flat + s * ny, y[s], (size_t)ny * sizeof *flat);
        esp_buf_puts(&text, "{\"y\":");
        put_rows(&text, flat, STEPS + 1, ny);
        esp_buf_puts(&text, ",\"u\":");
        put_rows(&text, &u[0][0], STEPS, 2);
        esp_buf_puts(&text, "}\n");
    }
    snprintf(path, sizeof path, "/v1/datasets?name=%s", name);
    http_reply reply = http_post(&d, path, "application/x-ndjson", text.data, text.len);
    expect_status(reply, 201);
    http_done(&reply);
    esp_buf_done(&text);
}

/* The reply, held against the description of the interface. */
static http_reply post(const char *path, const char *body, int status) {
    char why[1024] = "";
    if (status < 400) ck_assert_msg(schema_check_request("POST", path, body, why, sizeof why), "%s: %s", body, why);
    http_reply reply = http_json(&d, "POST", path, body);
    expect_status(reply, status);
    if (status < 400) ck_assert_msg(schema_check_reply("POST", path, status, reply.body, why, sizeof why), "%s", why);
    return reply;
}

static http_reply run(const char *body) {
    char id[64], why[1024] = "";
    ck_assert_msg(schema_check_request("POST", "/v1/jobs", body, why, sizeof why), "%s: %s", body, why);
    rail_submit(&d, body, id);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_msg(strcmp(reply_text(&job, "/state"), "succeeded") == 0, "%.1500s", job.body);
    return job;
}

static const char train_job[] = "{\"kind\":\"train\",\"spec\":{\"dataset\":\"two\",\"name\":\"discs\",\"model\":{\"type\":\"graph\",\"objects\":{"
                                "\"count\":2,\"size\":2,\"position\":[0,1]},"
                                "\"points\":[{\"on\":\"y\",\"index\":[4,5]}],\"radius\":0.8,\"rounds\":1,\"node\":[12],\"edge\":[],\"width\":10,"
                                "\"output\":[]},\"frame\":\"residual\","
                                "\"epochs\":40,\"rung_epochs\":30,\"batch\":64,\"seed\":3,\"ladder\":[8]}}";

/* All that the other cases use. */
static void prepare(void) {
    rail_upload_data(&d, "cart", 4);
    rail_upload_line(&d, "line");
    upload("two", 2);
    upload("three", 3);
    http_reply job = run(train_job);
    ck_assert_uint_eq(reply_count(&job, "/result/models"), 2);
    http_done(&job);
}

START_TEST(graph__is_trained_and_registered) {
    char why[1024] = "";
    http_reply dense = http_get(&d, "/v1/models/discs/1"), rung = http_get(&d, "/v1/models/discs/2");
    expect_status(dense, 200);
    ck_assert_msg(schema_check_reply("GET", "/v1/models/discs/1", 200, dense.body, why, sizeof why), "%s", why);
    ck_assert_int_eq((int)reply_number(&dense, "/ny"), 6);
    ck_assert_int_eq((int)reply_number(&dense, "/graph/objects"), 2);
    ck_assert_int_eq((int)reply_number(&dense, "/graph/neurons"), 12 + 4 * 10);
    ck_assert_int_eq((int)reply_number(&dense, "/graph/relu_per_object"), 12 + 10 + 10);
    ck_assert_int_eq((int)reply_number(&dense, "/graph/relu_per_edge"), 10 + 10);
    ck_assert_int_eq((int)reply_number(&dense, "/relu"), 2 * 32 + 2 * 20);
    ck_assert_int_eq((int)reply_number(&rung, "/graph/neurons"), 8);
    ck_assert_str_eq(reply_text(&rung, "/parent"), reply_text(&dense, "/id"));
    ck_assert_str_eq(reply_text(&rung, "/spec/train/model/type"), "graph");
    ck_assert_double_lt(reply_number(&dense, "/metrics/validation_rmse"), 0.02);
    http_done(&dense);
    http_done(&rung);
}
END_TEST

/* One is pushed; of three that are one where it is and two where nothing reaches them, the same one is. */
START_TEST(graph__predicts_any_number) {
    http_reply two = post("/v1/models/discs%2F1/predict", "{\"x\":[[0.2,0,5,5,0,0,0.1,0]]}", 200);
    http_reply three = post("/v1/models/discs%2F1/predict", "{\"x\":[[5,5,0.2,0,-5,5,0,0,0.1,0],[0,9,0,0,9,0,1,1,0,0]]}", 200);
    ck_assert_uint_eq(reply_count(&three, "/y/1"), 8);
    ck_assert_double_eq_tol(reply_number(&three, "/y/0/2"), reply_number(&two, "/y/0/0"), 1e-12);
    ck_assert_double_gt(reply_number(&two, "/y/0/0"), 0.21);
    ck_assert_double_eq_tol(reply_number(&three, "/y/0/6"), 0.1, 1e-6); /* the finger moved as told */
    http_reply bad = http_json(&d, "POST", "/v1/models/discs%2F1/predict", "{\"x\":[[0,0,0,0,0,0,0]]}");
    expect_problem(&bad, 400, "INVALID", "/x/0");
    http_done(&two);
    http_done(&three);
    http_done(&bad);
}
END_TEST

static const char task3[] = "{\"name\":\"third\",\"model\":\"discs/"
                            "2\",\"objects\":3,\"horizon\":2,\"cost\":{\"terminal\":[{\"on\":\"y\",\"index\":[4,5],\"weight\":1,\"norm\":\"l1\","
                            "\"target\":\"goal\"}]},\"input\":{\"lower\":[-0.3,-0.3],\"upper\":[0.3,0.3],\"safe\":[0,0]}}";

START_TEST(graph__is_planned_with_three) {
    http_reply task = post("/v1/tasks", task3, 201);
    ck_assert_int_eq((int)reply_number(&task, "/objects"), 3);
    http_reply plan = post("/v1/plans", "{\"task\":\"third\",\"y\":[[-3,3,3,3,0.3,0,0,0]],\"goal\":[0.6,0],\"deadline_ms\":3000}", 200);
    ck_assert_msg(strcmp(reply_text(&plan, "/status"), "optimal") == 0 || strcmp(reply_text(&plan, "/status"), "feasible") == 0, "%.900s", plan.body);
    ck_assert(reply_number(&plan, "/objective") < 0.3); /* as it lies: 0.3 */
    ck_assert_uint_eq(reply_count(&plan, "/predicted/0"), 8);
    /* inline and without a number: as many as y has */
    http_reply four =
        post("/v1/plans",
             "{\"task\":{\"model\":\"discs/2\",\"horizon\":1,\"cost\":{\"terminal\":[{\"on\":\"y\",\"index\":[6,7],\"weight\":1,\"norm\":\"l1\","
             "\"target\":\"goal\"}]},\"input\":{\"lower\":[-0.3,-0.3],\"upper\":[0.3,0.3]},\"planner\":{\"method\":\"cem\"}},"
             "\"y\":[[-3,3,3,3,3,-3,0.3,0,0,0]],\"goal\":[0.6,0],\"deadline_ms\":2000}",
             200);
    ck_assert_uint_eq(reply_count(&four, "/predicted/0"), 10);
    http_reply wrong = http_json(&d, "POST", "/v1/plans", "{\"task\":\"third\",\"y\":[[0,0,0,0,0,0]],\"goal\":[0,0],\"deadline_ms\":100}");
    expect_problem(&wrong, 400, "INVALID", "/y/0");
    http_done(&task);
    http_done(&plan);
    http_done(&four);
    http_done(&wrong);
}
END_TEST

START_TEST(graph__is_evaluated_and_certified_with_three) {
    http_reply two = run("{\"kind\":\"evaluate\",\"spec\":{\"model\":\"discs/1\",\"dataset\":\"two\",\"horizon\":3}}");
    http_reply three = run("{\"kind\":\"evaluate\",\"spec\":{\"model\":\"discs/1\",\"dataset\":\"three\",\"horizon\":3}}");
    ck_assert(reply_number(&three, "/result/steps/0/mean") < 3 * reply_number(&two, "/result/steps/0/mean"));
    /* two close together, one far away */
    http_reply job = run("{\"kind\":\"certify\",\"spec\":{\"model\":\"discs/2\",\"reference\":\"discs/1\",\"time_limit_s\":2,\"domain\":{\"lower\":"
                         "[0,0,0.3,0,5,5,-0.4,0,-0.1,-0.1],\"upper\":[0.1,0.1,0.4,0.1,5.1,5.1,-0.3,0.1,0.1,0.1]}}}");
    ck_assert_uint_ge(reply_count(&job, "/result/certificates"), 3);
    http_done(&two);
    http_done(&three);
    http_done(&job);
}
END_TEST

/* Either method, from the dense network: versions of another name, each the child of the one before. */
START_TEST(graph__is_sparsified) {
    static const char *const methods[] = {"gumbel", "channel"};
    char spec[512], path[128];
    snprintf(spec, sizeof spec,
             "{\"kind\":\"sparsify\",\"spec\":{\"model\":\"discs/1\",\"dataset\":\"two\",\"name\":\"discs-%s\",\"method\":\"%s\",\"ladder\":[20,7],"
             "\"rung_epochs\":6,\"batch\":64,\"distill_weight\":0.2}}",
             methods[_i], methods[_i]);
    http_reply job = run(spec), dense = http_get(&d, "/v1/models/discs/1");
    ck_assert_uint_eq(reply_count(&job, "/result/models"), 2);
    char parent[64];
    snprintf(parent, sizeof parent, "%s", reply_text(&dense, "/id"));
    for (int k = 0; k < 2; k++) {
        snprintf(path, sizeof path, "/v1/models/discs-%s/%d", methods[_i], k + 1);
        http_reply rung = http_get(&d, path);
        expect_status(rung, 200);
        int object = (int)reply_number(&rung, "/graph/relu_per_object"), edge = (int)reply_number(&rung, "/graph/relu_per_edge");
        ck_assert_int_eq((int)reply_number(&rung, "/graph/neurons"), k ? 7 : 20);
        ck_assert_int_eq((int)reply_number(&rung, "/relu"), 2 * object + 2 * edge);
        ck_assert_str_eq(reply_text(&rung, "/parent"), parent);
        ck_assert_str_eq(reply_text(&rung, "/spec/method"), methods[_i]);
        ck_assert_int_eq((int)reply_number(&rung, "/spec/sparsify/seed"), 3); /* what validates is what validated */
        snprintf(parent, sizeof parent, "%s", reply_text(&rung, "/id"));
        http_done(&rung);
    }
    http_done(&job);
    http_done(&dense);
}
END_TEST

/* Near in one part of the box and far in another: no one program says what the model does there. */
START_TEST(graph__a_domain_with_several_graphs_is_refused) {
    char id[64];
    rail_submit(&d, "{\"kind\":\"certify\",\"spec\":{\"model\":\"discs/2\",\"domain\":{\"lower\":[0,0,0,0,0,0,0,0],\"upper\":[2,2,2,2,0,0,0,0]}}}",
                id);
    http_reply job = rail_wait_end(&d, id, 30);
    ck_assert_str_eq(reply_text(&job, "/state"), "failed");
    ck_assert_msg(strstr(job.body, "in part of the domain only") != NULL, "%.800s", job.body);
    http_done(&job);
}
END_TEST

/* The plain form is another dynamics model, with the same predictions. */
START_TEST(graph__has_a_plain_form_for_a_state) {
    http_reply file = http_get(&d, "/v1/models/discs%2F2/artifact?y=[0,0,0.3,0,5,5,-0.4,0]");
    expect_status(file, 200);
    http_reply made = http_post(&d, "/v1/models?name=plain", "application/vnd.espalier.model", file.body, file.len);
    expect_status(made, 201);
    ck_assert_int_eq((int)reply_number(&made, "/ny"), 8);
    ck_assert(!reply_has(&made, "/graph"));
    const char *x = "{\"x\":[[0,0.05,0.35,0,5,5,-0.4,0,0.1,0]]}";
    http_reply a = post("/v1/models/plain/predict", x, 200), b = post("/v1/models/discs%2F2/predict", x, 200);
    for (int k = 0; k < 8; k++) {
        char pointer[24];
        snprintf(pointer, sizeof pointer, "/y/0/%d", k);
        ck_assert_double_eq_tol(reply_number(&a, pointer), reply_number(&b, pointer), 1e-12);
    }
    http_reply onnx = http_get(&d, "/v1/models/discs%2F2/artifact?format=onnx&y=[0,0,0.3,0,0,0]");
    expect_status(onnx, 200);
    http_reply c = http_get(&d, "/v1/models/discs%2F2/artifact?format=c&y=[0,0,0.3,0,0,0]");
    expect_status(c, 200);
    ck_assert(strstr(c.body, "ESPALIER_SELF_TEST") != NULL);
    http_reply json = http_get(&d, "/v1/models/discs%2F2/artifact?format=json"), again;
    expect_status(json, 200);
    again = http_post(&d, "/v1/models?name=copy&kind=dynamics", "application/json", json.body, json.len);
    expect_status(again, 201);
    http_reply stored = http_get(&d, "/v1/models/discs%2F2");
    ck_assert_str_eq(reply_text(&again, "/sha256"), reply_text(&stored, "/sha256"));
    ck_assert_int_eq((int)reply_number(&again, "/graph/neurons"), 8);
    http_done(&file);
    http_done(&made);
    http_done(&a);
    http_done(&b);
    http_done(&onnx);
    http_done(&c);
    http_done(&json);
    http_done(&again);
    http_done(&stored);
}
END_TEST

static const struct {
    const char *method, *path, *body;
    int status;
    const char *code, *pointer;
} refusals[] = {
    {"GET", "/v1/models/discs%2F2/artifact?format=onnx", NULL, 422, "UNPROCESSABLE", "?y"},
    {"GET", "/v1/models/discs%2F2/artifact?format=c", NULL, 422, "UNPROCESSABLE", "?y"},
    {"GET", "/v1/models/discs%2F2/artifact?y=[0,0,0]", NULL, 400, "INVALID", "?y"},
    {"GET", "/v1/models/discs%2F2/artifact?y=[0,0,0,0,0,\"a\"]", NULL, 400, "INVALID", "?y/5"},
    {"POST", "/v1/jobs", "{\"kind\":\"sparsify\",\"spec\":{\"model\":\"discs/1\",\"dataset\":\"two\",\"ladder\":[52]}}", 400, "INVALID",
     "/spec/ladder/0"}, /* of its neurons, not of their copies */
    {"POST", "/v1/jobs", "{\"kind\":\"sparsify\",\"spec\":{\"model\":\"discs/1\",\"dataset\":\"three\",\"ladder\":[2]}}", 422, "UNPROCESSABLE",
     "/spec/dataset"},
    {"POST", "/v1/jobs", "{\"kind\":\"sparsify\",\"spec\":{\"model\":\"discs/1\",\"dataset\":\"two\",\"ladder\":[2],\"stable\":\"data_box\"}}", 400,
     "INVALID", "/spec/stable"},
    {"POST", "/v1/jobs", "{\"kind\":\"sparsify\",\"spec\":{\"model\":\"discs/1\",\"dataset\":\"two\",\"ladder\":[2],\"threads\":2}}", 400, "INVALID",
     "/spec/threads"},
    {"POST", "/v1/jobs", "{\"kind\":\"prune\",\"spec\":{\"model\":\"discs/1\",\"sparsity\":0.5,\"method\":\"magnitude\"}}", 422, "UNPROCESSABLE",
     "/spec/model"},
    {"POST", "/v1/jobs", "{\"kind\":\"certify\",\"spec\":{\"kind\":\"conformal\",\"model\":\"discs/1\",\"dataset\":\"two\",\"coverage\":0.9}}", 422,
     "UNPROCESSABLE", "/spec/model"},
    {"POST", "/v1/bounds/query", "{\"model\":\"discs/1\",\"states\":[[0,0,0,0,0,0,0,0]]}", 422, "UNPROCESSABLE", "/model"},
    {"POST", "/v1/jobs", "{\"kind\":\"evaluate\",\"spec\":{\"model\":\"discs/1\",\"dataset\":\"cart\",\"horizon\":1}}", 422, "UNPROCESSABLE",
     "/spec/dataset"},
    {"POST", "/v1/tasks",
     "{\"name\":\"t\",\"model\":\"discs/2\",\"objects\":0,\"horizon\":1,\"cost\":{},\"input\":{\"lower\":[0,0],\"upper\":[1,1]}}", 400, "INVALID",
     "/objects"},
    {"POST", "/v1/tasks", "{\"name\":\"t\",\"model\":\"line\",\"objects\":2,\"horizon\":1,\"cost\":{},\"input\":{\"lower\":[0],\"upper\":[1]}}", 400,
     "INVALID", "/objects"},
};

START_TEST(graph__what_it_cannot_do_is_named) {
    http_reply reply = refusals[_i].body ? http_json(&d, refusals[_i].method, refusals[_i].path, refusals[_i].body) : http_get(&d, refusals[_i].path);
    expect_problem(&reply, refusals[_i].status, refusals[_i].code, refusals[_i].pointer);
    http_done(&reply);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("graph");
    TCase *tc = tcase_create("graph");
    tcase_set_timeout(tc, 120);
    daemon_start(&d, NULL);
    tcase_add_unchecked_fixture(tc, prepare, NULL);
    tcase_add_test(tc, graph__is_trained_and_registered);
    tcase_add_test(tc, graph__predicts_any_number);
    tcase_add_test(tc, graph__is_planned_with_three);
    tcase_add_test(tc, graph__is_evaluated_and_certified_with_three);
    tcase_add_loop_test(tc, graph__is_sparsified, 0, 2);
    tcase_add_test(tc, graph__a_domain_with_several_graphs_is_refused);
    tcase_add_test(tc, graph__has_a_plain_form_for_a_state);
    tcase_add_loop_test(tc, graph__what_it_cannot_do_is_named, 0, sizeof refusals / sizeof *refusals);
    suite_add_tcase(suite, tc);
    return daemon_finish(&d, run_suite(suite));
}
