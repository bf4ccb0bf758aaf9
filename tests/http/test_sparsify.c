/* SPDX-License-Identifier: Apache-2.0
 * Sparsify jobs over HTTP: from a registered dynamics model down its ladder by either method, with lineage; and every way
 * to be refused. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/rail.h"
#include "support/schema.h"

static test_daemon d;

/* The job's reply after its end, held against the description of the interface. */
static http_reply run(const char *kind, const char *spec, const char *state) {
    char id[64], why[1024] = "", path[128], body[2048];
    snprintf(body, sizeof body, "{\"kind\":\"%s\",\"spec\":%s}", kind, spec);
    ck_assert_msg(schema_check_request("POST", "/v1/jobs", body, why, sizeof why), "%s: %s", body, why);
    rail_submit(&d, body, id);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_msg(strcmp(reply_text(&job, "/state"), state) == 0, "%.1500s", job.body);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    ck_assert_msg(schema_check_reply("GET", path, 200, job.body, why, sizeof why), "%s", why);
    return job;
}

static http_reply get_model(const char *ref) {
    char path[128];
    snprintf(path, sizeof path, "/v1/models/%s", ref);
    http_reply model = http_get(&d, path);
    expect_status(model, 200);
    return model;
}

static http_reply get_rung(const http_reply *job, int i) {
    char pointer[64];
    snprintf(pointer, sizeof pointer, "/result/models/%d/id", i);
    return get_model(reply_text(job, pointer));
}

/* The dense model of the tests, once a name. */
static void train_dense(const char *name) {
    char spec[512];
    snprintf(spec, sizeof spec,
             "{\"dataset\":\"cart\",\"name\":\"%s\",\"model\":{\"type\":\"mlp\",\"hidden\":[12,8]},\"frame\":\"residual\",\"epochs\":20,\"batch\":64,"
             "\"seed\":5,\"validation\":0.25}",
             name);
    http_reply job = run("train", spec, "succeeded");
    http_done(&job);
}

/* Either method: versions of the model's name, each the child of the one before, the first of the model itself. */
START_TEST(sparsify__rungs_come_from_the_model) {
    static const char *const methods[] = {"gumbel", "channel"}, *const names[] = {"by-gumbel", "by-channel"};
    char spec[512];
    train_dense(names[_i]);
    snprintf(spec, sizeof spec,
             "{\"model\":\"%s\",\"dataset\":\"cart\",\"method\":\"%s\",\"ladder\":[10,4],\"rung_epochs\":6,\"batch\":64,\"lambda\":0.001,"
             "\"lambda_id\":0.01,\"tau\":0.5,\"learning_rate\":0.01}",
             names[_i], methods[_i]);
    http_reply job = run("sparsify", spec, "succeeded"), dense = get_model(_i ? "by-channel/1" : "by-gumbel/1");
    ck_assert_uint_eq(reply_count(&job, "/result/models"), 2);
    ck_assert_int_eq((int)reply_number(&job, "/result/models/0/relu"), 10);
    ck_assert_int_eq((int)reply_number(&job, "/result/models/1/relu"), 4);
    ck_assert_int_eq((int)reply_number(&job, "/result/models/1/version"), 3);
    ck_assert_double_gt(reply_number(&job, "/result/models/1/validation_rmse"), 0);
    http_reply upper = get_rung(&job, 0), lower = get_rung(&job, 1);
    ck_assert_str_eq(reply_text(&upper, "/parent"), reply_text(&dense, "/id"));
    ck_assert_str_eq(reply_text(&lower, "/parent"), reply_text(&upper, "/id"));
    ck_assert_str_eq(reply_text(&lower, "/dataset"), reply_text(&dense, "/dataset"));
    ck_assert_str_eq(reply_text(&lower, "/name"), names[_i]);
    ck_assert_str_eq(reply_text(&lower, "/spec/method"), methods[_i]);
    ck_assert_int_eq((int)reply_number(&lower, "/spec/sparsify/seed"), 5); /* what validates is what validated */
    ck_assert(reply_number(&lower, "/spec/sparsify/validation") == 0.25);
    ck_assert_int_eq((int)reply_number(&lower, "/spec/sparsify/rung_epochs"), 6);
    ck_assert(reply_number(&lower, "/nonzero") < reply_number(&dense, "/nonzero"));
    http_done(&upper);
    http_done(&lower);
    http_done(&dense);
    http_done(&job);
}
END_TEST

/* A rung's rung: an identity stays one. Then the same ladder with stable neurons resolved: the same errors, fewer ReLUs. */
START_TEST(sparsify__a_rung_can_be_sparsified_and_resolved) {
    train_dense("again");
    http_reply first = run("sparsify", "{\"model\":\"again/1\",\"dataset\":\"cart\",\"ladder\":[12],\"rung_epochs\":4,\"batch\":64}", "succeeded");
    const char *spec = "{\"model\":\"again/2\",\"dataset\":\"cart\",\"name\":\"%s\",\"ladder\":[11,7],\"epochs\":4,\"batch\":64,\"seed\":3,"
                       "\"distill_weight\":0.5,\"stable\":\"%s\"}";
    char plain[512], resolved[512];
    snprintf(plain, sizeof plain, spec, "plain", "none");
    snprintf(resolved, sizeof resolved, spec, "resolved", "data_box");
    http_reply a = run("sparsify", plain, "succeeded"), b = run("sparsify", resolved, "succeeded");
    for (int i = 0; i < 2; i++) {
        char pointer[64];
        http_reply x = get_rung(&a, i), y = get_rung(&b, i);
        int gone = (int)reply_number(&y, "/spec/resolved/linear") + (int)reply_number(&y, "/spec/resolved/zero");
        ck_assert_str_eq(reply_text(&y, "/spec/resolved/domain"), "data_box");
        ck_assert_int_eq((int)reply_number(&x, "/relu"), i ? 7 : 11);
        ck_assert_int_eq((int)reply_number(&y, "/relu"), (i ? 7 : 11) - gone);
        snprintf(pointer, sizeof pointer, "/result/models/%d/validation_rmse", i); /* the data lie inside the box */
        ck_assert_double_eq_tol(reply_number(&a, pointer), reply_number(&b, pointer), 1e-9);
        ck_assert_int_eq((int)reply_number(&y, "/spec/sparsify/seed"), 3);
        ck_assert(reply_number(&y, "/spec/sparsify/distill_weight") == 0.5);
        http_done(&x);
        http_done(&y);
    }
    http_done(&a);
    http_done(&b);
    http_done(&first);
}
END_TEST

/* The newest "boxed" plans inside its box and nowhere else. */
static void expect_boxed(void) {
    static const struct {
        const char *more, *pointer; /* NULL: it plans */
    } tasks[] = {{"", "/task/trust_region"},
                 {",\"trust_region\":{\"kind\":\"data\",\"margin\":0.1}", "/task/trust_region"},
                 {",\"trust_region\":{\"kind\":\"box\",\"lower\":[-9,-9],\"upper\":[9,9]}", "/task/trust_region"},
                 {",\"trust_region\":{\"kind\":\"box\",\"lower\":[-0.1,-0.1],\"upper\":[0.1,0.1]}", NULL},
                 {",\"trust_region\":{\"kind\":\"data\"}", NULL}};
    char body[1024];
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        for (int wide = 0; wide < 2; wide++) {
            snprintf(body, sizeof body,
                     "{\"task\":{\"model\":\"boxed\",\"horizon\":2,\"cost\":{\"stage\":[{\"on\":\"y\",\"weight\":1,\"norm\":\"l1\"}]},"
                     "\"input\":{\"lower\":[-%g],\"upper\":[0.5]}%s},\"y\":[[0.05,0]],\"deadline_ms\":2000}",
                     wide ? 5 : 0.5, tasks[i].more);
            http_reply plan = http_json(&d, "POST", "/v1/plans", body);
            if (tasks[i].pointer || wide)
                expect_problem(&plan, 422, "UNPROCESSABLE", tasks[i].pointer ? tasks[i].pointer : "/task/input");
            else
                expect_status(plan, 200);
            http_done(&plan);
        }
}

/* Outside the box over which its neurons were resolved such a model says anything: a task must not let plans go there. */
START_TEST(sparsify__a_resolved_model_is_planned_with_inside_its_box_only) {
    train_dense("boxed");
    http_reply job = run("sparsify", "{\"model\":\"boxed\",\"dataset\":\"cart\",\"ladder\":[8],\"epochs\":4,\"stable\":\"data_box\"}", "succeeded");
    expect_boxed();
    http_done(&job);
    http_reply stored = http_json(&d, "POST", "/v1/tasks",
                                  "{\"name\":\"leaves\",\"model\":\"boxed\",\"horizon\":2,\"cost\":{\"stage\":[{\"on\":\"y\",\"weight\":1,"
                                  "\"norm\":\"l1\"}]},\"input\":{\"lower\":[-5],\"upper\":[0.5]},\"trust_region\":{\"kind\":\"data\"}}");
    expect_status(stored, 201);
    http_done(&stored);
    stored =
        http_json(&d, "POST", "/v1/jobs",
                  "{\"kind\":\"distill\",\"spec\":{\"task\":\"leaves\",\"name\":\"p\",\"hidden\":[4],\"domain\":{\"lower\":[0,0],\"upper\":[1,1]}}}");
    expect_problem(&stored, 422, "UNPROCESSABLE", "/spec/task");
    http_done(&stored);
    job = run("prune", "{\"model\":\"boxed\",\"method\":\"magnitude\",\"sparsity\":0.1}", "succeeded");
    http_reply pruned = get_model("boxed");
    ck_assert_str_eq(reply_text(&pruned, "/spec/method"), "magnitude");
    ck_assert_str_eq(reply_text(&pruned, "/spec/resolved/domain"), "data_box");
    expect_boxed();
    http_done(&pruned);
    http_done(&job);
}
END_TEST

START_TEST(sparsify__an_uploaded_network_will_do) {
    rail_upload_random(&d, "wide", 8, 3);
    http_reply job = run("sparsify",
                         "{\"model\":\"wide\",\"dataset\":\"cart\",\"name\":\"narrow\",\"method\":\"channel\",\"ladder\":[5],\"epochs\":2,"
                         "\"batch\":32}",
                         "succeeded");
    http_reply rung = get_rung(&job, 0), wide = get_model("wide");
    ck_assert_str_eq(reply_text(&rung, "/name"), "narrow");
    ck_assert_str_eq(reply_text(&rung, "/parent"), reply_text(&wide, "/id"));
    ck_assert_int_eq((int)reply_number(&rung, "/spec/sparsify/seed"), 0);
    http_done(&rung);
    http_done(&wide);
    http_done(&job);
}
END_TEST

static const struct refusal {
    const char *spec;
    int status;
    const char *code, *pointer;
} refusals[] = {
    {"{}", 400, "INVALID", "/spec/model"},
    {"{\"model\":\"rnd\"}", 400, "INVALID", "/spec/dataset"},
    {"{\"model\":\"rnd\",\"dataset\":\"cart\"}", 400, "INVALID", "/spec/ladder"},
    {"{\"model\":\"nobody\",\"dataset\":\"cart\",\"ladder\":[4]}", 422, "UNPROCESSABLE", "/spec/model"},
    {"{\"model\":\"rnd\",\"dataset\":\"nothing\",\"ladder\":[4]}", 422, "UNPROCESSABLE", "/spec/dataset"},
    {"{\"model\":\"line\",\"dataset\":\"cart\",\"ladder\":[4]}", 422, "UNPROCESSABLE", "/spec/dataset"}, /* ny 1, the data have 2 */
    {"{\"model\":\"policy\",\"dataset\":\"cart\",\"ladder\":[1]}", 422, "UNPROCESSABLE", "/spec/model"},
    {"{\"model\":\"rnd\",\"dataset\":\"cart\",\"ladder\":[12]}", 400, "INVALID", "/spec/ladder/0"},
    {"{\"model\":\"rnd\",\"dataset\":\"cart\",\"ladder\":[4,5]}", 400, "INVALID", "/spec/ladder/1"},
    {"{\"model\":\"rnd\",\"dataset\":\"cart\",\"ladder\":[4],\"method\":\"l1\"}", 400, "INVALID", "/spec/method"},
    {"{\"model\":\"rnd\",\"dataset\":\"cart\",\"ladder\":[4],\"name\":\"a b\"}", 400, "INVALID", "/spec/name"},
    {"{\"model\":\"rnd\",\"dataset\":\"cart\",\"ladder\":[4],\"epochs\":1,\"rung_epochs\":1}", 400, "INVALID", "/spec/epochs"},
    {"{\"model\":\"rnd\",\"dataset\":\"cart\",\"ladder\":[4],\"stable\":true}", 400, "INVALID", "/spec/stable"},
    {"{\"model\":\"rnd\",\"dataset\":\"cart\",\"ladder\":[4],\"distill_weight\":-1}", 400, "INVALID", "/spec/distill_weight"},
    {"{\"model\":\"rnd\",\"dataset\":\"cart\",\"ladder\":[4],\"hidden\":[8]}", 400, "INVALID", "/spec/hidden"},
};

START_TEST(sparsify__is_refused_by_field) {
    const struct refusal *r = &refusals[_i];
    char body[512], why[1024] = "";
    snprintf(body, sizeof body, "{\"kind\":\"sparsify\",\"spec\":%s}", r->spec);
    http_reply reply = http_json(&d, "POST", "/v1/jobs", body);
    ck_assert_msg(reply.status == r->status, "%s: %d %.500s", body, reply.status, reply.body);
    ck_assert_str_eq(reply_text(&reply, "/code"), r->code);
    ck_assert_str_eq(reply_text(&reply, "/errors/0/pointer"), r->pointer);
    ck_assert_msg(schema_check_reply("POST", "/v1/jobs", r->status, reply.body, why, sizeof why), "%s", why);
    http_done(&reply);
}
END_TEST

static void prepare(void) {
    rail_upload_data(&d, "cart", 40);
    rail_upload_line(&d, "line");
    rail_upload_random(&d, "rnd", 6, 1);
    http_reply reply = http_json(&d, "POST", "/v1/models?name=policy&kind=policy",
                                 "{\"layers\":[{\"w\":[[1,0],[0,1]],\"b\":[0,0],\"activation\":\"relu\"},{\"w\":[[1,1]],\"b\":[0],"
                                 "\"activation\":\"identity\"}]}");
    expect_status(reply, 201);
    http_done(&reply);
}

int main(void) {
    Suite *suite = suite_create("sparsify_http");
    TCase *tc = tcase_create("sparsify");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, prepare, NULL);
    tcase_add_loop_test(tc, sparsify__rungs_come_from_the_model, 0, 2);
    tcase_add_test(tc, sparsify__a_rung_can_be_sparsified_and_resolved);
    tcase_add_test(tc, sparsify__a_resolved_model_is_planned_with_inside_its_box_only);
    tcase_add_test(tc, sparsify__an_uploaded_network_will_do);
    tcase_add_loop_test(tc, sparsify__is_refused_by_field, 0, sizeof refusals / sizeof *refusals);
    suite_add_tcase(suite, tc);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
