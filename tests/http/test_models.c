/* SPDX-License-Identifier: Apache-2.0
 * /v1/models and aliases: upload in both forms, download, references, conditions, refusals that name the field. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "support/http.h"

static test_daemon d;
#define JSON_TYPE  "application/json"
#define MODEL_TYPE "application/vnd.espalier.model"
static const char rail[] =
    "{\"layers\":[{\"w\":[[0,1,0],[0,-1,0],[0,0,1]],\"b\":[0,0,0],\"activation\":[\"relu\",\"relu\",\"identity\"]},"
    "{\"w\":[[0.1,-0.1,0],[-0.05,0.02,0.1]],\"b\":[0,0],\"activation\":\"identity\"}],\"history\":1,\"nu\":1,\"frame\":\"residual\"}";

static http_reply post(const char *query, const char *body) {
    char path[300];
    snprintf(path, sizeof path, "/v1/models?%s", query);
    return http_post(&d, path, JSON_TYPE, body, strlen(body));
}

START_TEST(models__upload_is_described_and_comes_back) {
    char location[200], path[300], hash[ESP_HASH_HEX];
    http_reply reply = post("name=rail&kind=dynamics", rail);
    expect_status(reply, 201);
    ck_assert_int_eq((int)reply_number(&reply, "/relu"), 2);
    ck_assert_int_eq((int)reply_number(&reply, "/parameters"), 9 + 3 + 6 + 2);
    ck_assert_int_eq((int)reply_number(&reply, "/nonzero"), 8);
    ck_assert_double_eq_tol(reply_number(&reply, "/sparsity"), 1 - 8.0 / 20, 1e-15);
    ck_assert_int_eq((int)reply_number(&reply, "/ny"), 2);
    ck_assert_uint_eq(reply_count(&reply, "/certificates"), 0);
    ck_assert_uint_eq(reply_count(&reply, "/aliases"), 0);
    ck_assert(!reply_has(&reply, "/parent") && !reply_has(&reply, "/dataset"));
    http_header(&reply, "Location", location, sizeof location);
    http_reply one = http_get(&d, location);
    expect_status(one, 200);
    ck_assert_str_eq(one.body, reply.body);
    http_done(&one);

    snprintf(path, sizeof path, "%s/artifact", location);
    http_reply file = http_get(&d, path);
    expect_status(file, 200);
    esp_hash_bytes(file.body, file.len, hash);
    ck_assert_str_eq(hash, reply_text(&reply, "/sha256"));
    one = http_post(&d, "/v1/models?name=again", MODEL_TYPE, file.body, file.len); /* the kind is in the file */
    expect_status(one, 201);
    ck_assert_str_eq(reply_text(&one, "/sha256"), hash);
    ck_assert_str_eq(reply_text(&one, "/kind"), "dynamics");
    http_done(&one);
    http_done(&file);

    file = http_get(&d, "/v1/models/rail/artifact?format=json");
    expect_status(file, 200);
    one = post("name=third&kind=dynamics", file.body); /* there and back: the same bytes */
    expect_status(one, 201);
    ck_assert_str_eq(reply_text(&one, "/sha256"), hash);
    http_done(&one);
    http_done(&file);
    http_done(&reply);
}
END_TEST

START_TEST(models__references) {
    http_reply a = post("name=refs&kind=dynamics", rail), again = post("name=refs&kind=dynamics", rail);
    http_reply b = post("name=refs&kind=policy", "{\"layers\":[{\"w\":[[1,2]],\"b\":[0.5],\"activation\":\"relu\"}]}");
    expect_status(a, 201);
    expect_status(again, 201);
    expect_status(b, 201);
    ck_assert_str_eq(reply_text(&a, "/id"), reply_text(&again, "/id"));
    ck_assert_int_eq((int)reply_number(&b, "/version"), 2);
    ck_assert_str_eq(reply_text(&b, "/kind"), "policy");
    static const char *const second[] = {"/v1/models/refs", "/v1/models/refs/2", "/v1/models/refs%2F2"};
    for (size_t i = 0; i < 3; i++) {
        http_reply r = http_get(&d, second[i]);
        expect_status(r, 200);
        ck_assert_str_eq(reply_text(&r, "/id"), reply_text(&b, "/id"));
        http_done(&r);
    }
    http_reply r = http_get(&d, "/v1/models/refs/1/artifact?format=json");
    expect_status(r, 200);
    http_done(&r);
    static const char *const missing[] = {"/v1/models/refs/3", "/v1/models/none", "/v1/models/refs@none", "/v1/models/mdl_0000000000000000000000",
                                          "/v1/models/none/artifact"};
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++) {
        r = http_get(&d, missing[i]);
        expect_problem(&r, 404, "NOT_FOUND", NULL);
        http_done(&r);
    }
    r = http_get(&d, "/v1/models/refs/0");
    expect_problem(&r, 400, "INVALID", NULL);
    http_done(&r);
    http_done(&a);
    http_done(&b);
    http_done(&again);
}
END_TEST

START_TEST(models__refusals_name_the_field) {
    static const struct {
        const char *query, *body, *pointer;
    } wrong[] = {
        {"kind=dynamics", rail, "?name"},
        {"name=x", rail, "?kind"},
        {"name=x&kind=tree", rail, "?kind"},
        {"name=x&kind=dynamics&parent=y", rail, "?parent"},
        {"name=x&name=y&kind=dynamics", rail, "?name"},
        {"name=x&kind=dynamics&history=2", rail, "?history"},
        {"name=x&kind=dynamics", "{\"layers\":[]}", "/layers"},
        {"name=x&kind=dynamics", "{\"layers\":[{\"w\":[[1,2],[3]],\"b\":[0,0],\"activation\":\"relu\"}]}", "/layers/0/w/1"},
        {"name=x&kind=dynamics", "{\"layers\":[{\"w\":[[1,2]],\"b\":[0,0],\"activation\":\"relu\"}]}", "/layers/0/b"},
        {"name=x&kind=dynamics", "{\"layers\":[{\"w\":[[1,2]],\"b\":[0],\"activation\":\"tanh\"}]}", "/layers/0/activation"},
        {"name=x&kind=dynamics", "{\"layers\":[{\"w\":[[1,\"2\"]],\"b\":[0],\"activation\":\"relu\"}]}", "/layers/0/w/0/1"},
        {"name=x&kind=dynamics", "{\"layers\":[{\"w\":[[1,2]],\"b\":[0],\"activation\":\"relu\"}],\"colour\":1}", "/colour"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        http_reply reply = post(wrong[i].query, wrong[i].body);
        expect_problem(&reply, 400, "INVALID", wrong[i].pointer);
        http_done(&reply);
    }
    static const char *const broken[] = {"", "{", "[]", "null", "{\"layers\":[{\"w\":[[1,NaN]]}]}", "{\"layers\":1,\"layers\":2}", "{} {}", "\xff"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        http_reply reply = post("name=x&kind=dynamics", broken[i]);
        expect_problem(&reply, 400, "INVALID", NULL);
        http_done(&reply);
    }
    http_reply reply = http_post(&d, "/v1/models?name=x&kind=dynamics", "application/onnx", "abc", 3);
    expect_problem(&reply, 400, "INVALID", NULL);
    http_done(&reply);
    reply = http_post(&d, "/v1/models?name=x&kind=dynamics", "text/plain", rail, sizeof rail - 1);
    expect_problem(&reply, 415, "MEDIA_TYPE", NULL);
    http_done(&reply);
    reply = http_post(&d, "/v1/models?name=x", MODEL_TYPE, "not a model file at all", 23);
    expect_problem(&reply, 400, "INVALID", NULL);
    http_done(&reply);
    reply = http_get(&d, "/v1/models?name=x");
    ck_assert_uint_eq(reply_count(&reply, "/items"), 0);
    http_done(&reply);
}
END_TEST

START_TEST(models__etag_changes_with_an_alias) {
    char etag[128], header[160];
    http_reply reply = post("name=tagged&kind=dynamics", rail);
    expect_status(reply, 201);
    http_done(&reply);
    reply = http_get(&d, "/v1/models/tagged");
    http_header(&reply, "ETag", etag, sizeof etag);
    ck_assert_int_gt((int)strlen(etag), 0);
    http_done(&reply);
    snprintf(header, sizeof header, "If-None-Match: \"other\", %s", etag);
    const char *headers[] = {header, NULL};
    http_request request = {.method = "GET", .path = "/v1/models/tagged", .headers = headers};
    http_send(&d, &request, &reply);
    ck_assert_int_eq(reply.status, 304);
    http_done(&reply);
    reply = http_json(&d, "PUT", "/v1/models/tagged/aliases/best", "{\"version\":1}");
    expect_status(reply, 200);
    http_done(&reply);
    http_send(&d, &request, &reply);
    expect_status(reply, 200);
    ck_assert_str_eq(reply_text(&reply, "/aliases/0"), "best");
    http_done(&reply);
}
END_TEST

static http_reply put_alias(const char *path, const char *body, const char *condition) {
    const char *headers[] = {"Content-Type: application/json", condition, NULL};
    http_reply reply;
    http_send(&d, &(http_request){.method = "PUT", .path = path, .headers = headers, .body = body, .len = strlen(body)}, &reply);
    return reply;
}

static http_reply put(const char *body, const char *condition) {
    return put_alias("/v1/models/moved/aliases/live", body, condition);
}

static int status_if_none(const char *path, const char *etag) {
    char header[160];
    const char *headers[] = {header, NULL};
    http_reply reply;
    snprintf(header, sizeof header, "If-None-Match: %s", etag);
    http_send(&d, &(http_request){.method = "GET", .path = path, .headers = headers}, &reply);
    int status = reply.status;
    http_done(&reply);
    return status;
}

/* The alias has moved on since `old`. */
static void expect_conditions_are_lists(const char *old) {
    char now[64], condition[200];
    http_reply reply = http_get(&d, "/v1/models/moved/aliases/live");
    http_header(&reply, "ETag", now, sizeof now);
    http_done(&reply);
    snprintf(condition, sizeof condition, "If-Match: %s, %s", old, now);
    reply = put("{\"version\":2}", condition);
    expect_status(reply, 200);
    http_done(&reply);
    snprintf(condition, sizeof condition, "If-Match: W/%s", now); /* weak tags are not for this */
    reply = put("{\"version\":2}", condition);
    expect_problem(&reply, 412, "PRECONDITION", NULL);
    http_done(&reply);
    reply = put("{\"version\":2}", "If-Match: *");
    expect_status(reply, 200);
    http_done(&reply);
    reply = put_alias("/v1/models/moved/aliases/new", "{\"version\":2}", "If-Match: *");
    expect_problem(&reply, 412, "PRECONDITION", NULL);
    http_done(&reply);
    ck_assert_int_eq(status_if_none("/v1/models/moved/aliases/live", now), 304);
    ck_assert_int_eq(status_if_none("/v1/models/moved/aliases/live", old), 200);
}

START_TEST(aliases__move_under_conditions_and_remember) {
    char etag[64], condition[100], path[200];
    for (int i = 0; i < 2; i++) {
        char body[200];
        snprintf(body, sizeof body, "{\"layers\":[{\"w\":[[%d,2]],\"b\":[0],\"activation\":\"relu\"}]}", i + 1);
        http_reply reply = post("name=moved&kind=policy", body);
        expect_status(reply, 201);
        http_done(&reply);
    }
    http_reply one = put("{\"version\":1}", "If-None-Match: *");
    expect_status(one, 200);
    http_header(&one, "ETag", etag, sizeof etag);
    http_reply reply = put("{\"version\":2}", "If-None-Match: *");
    expect_problem(&reply, 412, "PRECONDITION", NULL);
    http_done(&reply);
    reply = put("{\"version\":2}", "If-Match: \"99999\"");
    expect_problem(&reply, 412, "PRECONDITION", NULL);
    http_done(&reply);
    reply = put("{\"version\":2}", "If-Match: nonsense");
    expect_problem(&reply, 412, "PRECONDITION", NULL);
    http_done(&reply);
    usleep(20000);
    snprintf(condition, sizeof condition, "If-Match: %s", etag);
    reply = put("{\"version\":2}", condition);
    expect_status(reply, 200);
    http_done(&reply);
    reply = put("{\"version\":2}", condition); /* its time is over */
    expect_problem(&reply, 412, "PRECONDITION", NULL);
    http_done(&reply);
    expect_conditions_are_lists(etag);
    reply = http_get(&d, "/v1/models/moved@live");
    ck_assert_int_eq((int)reply_number(&reply, "/version"), 2);
    http_done(&reply);
    snprintf(path, sizeof path, "/v1/models/moved/aliases/live?at=%s", reply_text(&one, "/at"));
    reply = http_get(&d, path);
    expect_status(reply, 200);
    ck_assert_int_eq((int)reply_number(&reply, "/version"), 1);
    http_done(&reply);
    reply = http_get(&d, "/v1/models/moved/aliases/live?at=2001-01-01T00:00:00Z");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
    reply = http_get(&d, "/v1/models/moved/aliases/live?at=now");
    expect_problem(&reply, 400, "INVALID", "?at");
    http_done(&reply);
    reply = http_get(&d, "/v1/models/moved/aliases");
    ck_assert_uint_eq(reply_count(&reply, "/items"), 1);
    http_done(&reply);
    reply = http_get(&d, "/v1/models/nobody/aliases");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
    static const struct {
        const char *body;
        int status;
        const char *code, *pointer;
    } wrong[] = {{"{\"version\":3}", 404, "NOT_FOUND", "/version"},
                 {"{\"version\":0}", 400, "INVALID", "/version"},
                 {"{\"version\":1.5}", 400, "INVALID", "/version"},
                 {"{}", 400, "INVALID", "/version"},
                 {"{\"version\":1,\"x\":1}", 400, "INVALID", "/x"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        reply = put(wrong[i].body, "X-Nothing: 1");
        expect_problem(&reply, wrong[i].status, wrong[i].code, wrong[i].pointer);
        http_done(&reply);
    }
    http_done(&one);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("models");
    TCase *c = tcase_create("models");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, models__upload_is_described_and_comes_back);
    tcase_add_test(c, models__references);
    tcase_add_test(c, models__refusals_name_the_field);
    tcase_add_test(c, models__etag_changes_with_an_alias);
    tcase_add_test(c, aliases__move_under_conditions_and_remember);
    suite_add_tcase(suite, c);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
