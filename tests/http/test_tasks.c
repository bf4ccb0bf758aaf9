/* SPDX-License-Identifier: Apache-2.0
 * /v1/tasks: stored as given, found by reference, refused by field. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/http.h"

static test_daemon d;
static const char model[] =
    "{\"layers\":[{\"w\":[[0,1,0],[0,-1,0]],\"b\":[0,0],\"activation\":\"relu\"},{\"w\":[[0.1,-0.1],[-0.05,0.02]],\"b\":[0,0],"
    "\"activation\":\"identity\"}],\"history\":1,\"nu\":1,\"frame\":\"residual\"}";
#define TASK(name, horizon, extra)                                                                                                                   \
    "{\"name\":\"" name "\",\"model\":\"rail\",\"horizon\":" horizon ",\"cost\":{\"stage\":[{\"on\":\"y\",\"weight\":[1,0.1],\"norm\":\"l1\"}],"     \
    "\"terminal\":[{\"on\":\"y\",\"index\":[0],\"weight\":10,\"norm\":\"linf\",\"target\":\"goal\"}]},\"input\":{\"lower\":[-1],\"upper\":[1]" extra \
    "}}"

static void upload_model(void) {
    http_reply reply = http_json(&d, "POST", "/v1/models?name=rail&kind=dynamics", model);
    expect_status(reply, 201);
    http_done(&reply);
}

START_TEST(tasks__are_stored_and_found) {
    char location[200];
    http_reply a = http_json(&d, "POST", "/v1/tasks", TASK("reach", "5", ""));
    expect_status(a, 201);
    ck_assert_int_eq((int)reply_number(&a, "/version"), 1);
    ck_assert_int_eq((int)reply_number(&a, "/horizon"), 5);
    ck_assert_str_eq(reply_text(&a, "/cost/terminal/0/target"), "goal");
    ck_assert(strncmp(reply_text(&a, "/model"), "mdl_", 4) == 0);
    http_header(&a, "Location", location, sizeof location);
    http_reply again = http_json(&d, "POST", "/v1/tasks", TASK("reach", "5", ""));
    ck_assert_str_eq(reply_text(&again, "/id"), reply_text(&a, "/id"));
    http_reply b = http_json(&d, "POST", "/v1/tasks", TASK("reach", "6", ",\"safe\":[0]"));
    expect_status(b, 201);
    ck_assert_int_eq((int)reply_number(&b, "/version"), 2);
    const char *const paths[] = {location, "/v1/tasks/reach/1"};
    for (int i = 0; i < 2; i++) {
        http_reply one = http_get(&d, paths[i]);
        expect_status(one, 200);
        ck_assert_str_eq(one.body, a.body);
        http_done(&one);
    }
    http_reply list = http_get(&d, "/v1/tasks?name=reach&sort=-version");
    ck_assert_uint_eq(reply_count(&list, "/items"), 2);
    ck_assert_int_eq((int)reply_number(&list, "/items/0/horizon"), 6);
    http_done(&list);
    http_done(&a);
    http_done(&again);
    http_done(&b);
}
END_TEST

START_TEST(tasks__refusals_name_the_field) {
    static const struct {
        const char *body;
        int status;
        const char *code, *pointer;
    } wrong[] = {
        {TASK("t", "0", ""), 400, "INVALID", "/horizon"},
        {TASK("t", "65", ""), 400, "INVALID", "/horizon"},
        {TASK("t", "\"5\"", ""), 400, "INVALID", "/horizon"},
        {TASK("a b", "5", ""), 400, "INVALID", "/name"},
        {TASK("t", "5", ",\"safe\":[0,0]"), 400, "INVALID", "/input/safe"},
        {TASK("t", "5", ",\"colour\":1"), 400, "INVALID", "/input/colour"},
        {"{\"model\":\"rail\"}", 400, "INVALID", "/name"},
        {"{\"name\":\"t\"}", 400, "INVALID", "/model"},
        {"{\"name\":\"t\",\"model\":\"none\"}", 422, "UNPROCESSABLE", "/model"},
        {"{\"name\":\"t\",\"model\":\"rail/9\"}", 422, "UNPROCESSABLE", "/model"},
        {"{\"name\":\"t\",\"model\":\"//\"}", 400, "INVALID", "/model"},
        {"{\"name\":\"t\",\"model\":\"rail\",\"colour\":1}", 400, "INVALID", "/colour"},
        {"[]", 400, "INVALID", NULL},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        http_reply reply = http_json(&d, "POST", "/v1/tasks", wrong[i].body);
        expect_problem(&reply, wrong[i].status, wrong[i].code, wrong[i].pointer);
        http_done(&reply);
    }
    http_reply reply = http_get(&d, "/v1/tasks?name=t");
    ck_assert_uint_eq(reply_count(&reply, "/items"), 0);
    http_done(&reply);
    reply = http_get(&d, "/v1/tasks/none");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
    reply = http_json(&d, "POST", "/v1/models?name=pol&kind=policy", "{\"layers\":[{\"w\":[[1,2]],\"b\":[0],\"activation\":\"relu\"}]}");
    expect_status(reply, 201);
    http_done(&reply);
    reply = http_json(&d, "POST", "/v1/tasks", "{\"name\":\"t\",\"model\":\"pol\"}");
    expect_problem(&reply, 422, "UNPROCESSABLE", "/model");
    http_done(&reply);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tasks");
    TCase *c = tcase_create("tasks");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, upload_model, NULL);
    tcase_add_test(c, tasks__are_stored_and_found);
    tcase_add_test(c, tasks__refusals_name_the_field);
    suite_add_tcase(suite, c);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
