/* SPDX-License-Identifier: Apache-2.0
 * Artifacts over HTTP: ONNX in and out, the C file with its certificates, compiled and run, conditions, refusals. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "support/http.h"

static test_daemon d;
#define ONNX_TYPE "application/onnx"
#define FLAGS     "-std=c99 -O2 -Wall -Wextra -Werror -pedantic -ffreestanding -ffp-contract=off"
static const char rail[] =
    "{\"layers\":[{\"w\":[[0,1,0],[0,-1,0],[0,0,1]],\"b\":[0,0,0],\"activation\":[\"relu\",\"relu\",\"identity\"]},"
    "{\"w\":[[0.1,-0.1,0],[-0.05,0.02,0.1]],\"b\":[0,0],\"activation\":\"identity\"}],\"history\":1,\"nu\":1,\"frame\":\"residual\"}";

static void upload(const char *name, const char *kind, const char *body) {
    char path[200];
    snprintf(path, sizeof path, "/v1/models?name=%s&kind=%s", name, kind);
    http_reply reply = http_json(&d, "POST", path, body);
    expect_status(reply, 201);
    http_done(&reply);
}

static http_reply upload_file(const char *query, const char *file) {
    esp_buf bytes = {0};
    esp_error error = {0};
    char path[300];
    ck_assert_msg(esp_file_read(file, 1 << 20, &bytes, &error) == ESP_OK, "%s", error.message);
    snprintf(path, sizeof path, "/v1/models?%s", query);
    http_reply reply = http_post(&d, path, ONNX_TYPE, bytes.data, bytes.len);
    esp_buf_done(&bytes);
    return reply;
}

/* ---- ONNX ---- */

START_TEST(artifact__onnx_comes_in_and_goes_out) {
    char type[64], path[200], hash[80];
    http_reply reply = upload_file("name=torch&kind=policy", "tests/golden/onnx_torch_policy.onnx");
    expect_status(reply, 201);
    ck_assert_int_eq((int)reply_number(&reply, "/relu"), 32);
    ck_assert_int_eq((int)reply_number(&reply, "/ny"), 4);
    ck_assert_int_eq((int)reply_number(&reply, "/nu"), 2);
    snprintf(hash, sizeof hash, "%s", reply_text(&reply, "/sha256"));
    http_done(&reply);
    reply = http_get(&d, "/v1/models/torch/artifact?format=onnx");
    expect_status(reply, 200);
    ck_assert_str_eq(http_header(&reply, "Content-Type", type, sizeof type), ONNX_TYPE);
    snprintf(path, sizeof path, "/v1/models?name=again"); /* the kind is in the file */
    http_reply back = http_post(&d, path, ONNX_TYPE, reply.body, reply.len);
    expect_status(back, 201);
    ck_assert_str_eq(reply_text(&back, "/sha256"), hash);
    http_done(&back);
    back = http_post(&d, "/v1/models?name=again&kind=dynamics", ONNX_TYPE, reply.body, reply.len);
    expect_problem(&back, 400, "INVALID", "?kind");
    http_done(&back);
    http_done(&reply);
    reply = upload_file("name=moves&kind=dynamics&history=1", "tests/golden/onnx_residual_dynamics.onnx");
    expect_status(reply, 201);
    ck_assert_int_eq((int)reply_number(&reply, "/nu"), 2);
    http_done(&reply);
}
END_TEST

START_TEST(artifact__onnx_that_is_not_understood_is_refused) {
    static const char softmax[] = /* one node, Softmax(x) -> y, x and y float [b, 2] */
        "\x08\x08\x3a\x40\x0a\x0f\x0a\x01\x78\x12\x01\x79\x22\x07\x53\x6f\x66\x74\x6d\x61\x78\x12\x01\x67\x5a\x14\x0a\x01"
        "\x78\x12\x0f\x0a\x0d\x08\x01\x12\x09\x0a\x03\x12\x01\x62\x0a\x02\x08\x02\x62\x14\x0a\x01\x79\x12\x0f\x0a\x0d\x08"
        "\x01\x12\x09\x0a\x03\x12\x01\x62\x0a\x02\x08\x02\x42\x04\x0a\x00\x10\x0d";
    http_reply reply = http_post(&d, "/v1/models?name=x&kind=policy", ONNX_TYPE, softmax, sizeof softmax - 1);
    expect_problem(&reply, 422, "UNPROCESSABLE", "/graph/node/0");
    ck_assert_ptr_nonnull(strstr(reply.body, "Softmax"));
    http_done(&reply);
    reply = http_post(&d, "/v1/models?name=x&kind=policy", ONNX_TYPE, "abc", 3);
    expect_problem(&reply, 400, "INVALID", NULL);
    http_done(&reply);
    reply = upload_file("name=x", "tests/golden/onnx_torch_policy.onnx");
    expect_problem(&reply, 400, "INVALID", "?kind");
    http_done(&reply);
    reply = upload_file("name=x&kind=dynamics&history=3", "tests/golden/onnx_torch_policy.onnx");
    expect_problem(&reply, 400, "INVALID", "?history");
    http_done(&reply);
    reply = upload_file("name=x&kind=dynamics&history=0", "tests/golden/onnx_torch_policy.onnx");
    expect_problem(&reply, 400, "INVALID", "?history");
    http_done(&reply);
    reply = http_get(&d, "/v1/models?name=x");
    ck_assert_uint_eq(reply_count(&reply, "/items"), 0);
    http_done(&reply);
}
END_TEST

/* ---- C ---- */

/* The file compiles in silence and its self-test passes. */
static void check_c(const http_reply *reply) {
    char path[600], command[4096];
    esp_error error = {0};
    snprintf(path, sizeof path, "%s/artifact.c", d.dir);
    ck_assert_msg(esp_file_write(path, reply->body, reply->len, &error) == ESP_OK, "%s", error.message);
    snprintf(command, sizeof command, "cc " FLAGS " -c -o %s.o %s && cc " FLAGS " -DESPALIER_SELF_TEST -o %s.x %s && %s.x", path, path, path, path,
             path);
    int status = system(command);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d: %.3000s", status, reply->body);
}

static void expect_text(const http_reply *reply, const char *text) {
    ck_assert_msg(strstr(reply->body, text) != NULL, "\"%s\" is not in %.3000s", text, reply->body);
}

START_TEST(artifact__c_compiles_and_passes_its_self_test) {
    upload("c-rail", "dynamics", rail);
    upload("c-policy", "policy", "{\"layers\":[{\"w\":[[1,2],[-1,0.5]],\"b\":[0.5,0]},{\"w\":[[1,-1]],\"b\":[0.25],\"activation\":\"identity\"}]}");
    upload("c-linear", "policy", "{\"layers\":[{\"w\":[[1,2]],\"b\":[0.5],\"activation\":\"identity\"}]}"); /* no ReLU */
    upload("c-nothing", "policy", "{\"layers\":[{\"w\":[[0,0]],\"b\":[0.5],\"activation\":\"relu\"}]}"); /* x is not looked at */
    static const char *const models[] = {"c-rail", "c-policy", "c-linear", "c-nothing"};
    static const char *const queries[] = {"", "&precision=float", "&precision=double&layout=dense", "&precision=float&layout=sparse"};
    for (int m = 0; m < 4; m++) {
        for (int q = 0; q < 4; q++) {
            char path[200], type[64];
            snprintf(path, sizeof path, "/v1/models/%s/artifact?format=c%s", models[m], queries[q]);
            http_reply reply = http_get(&d, path);
            expect_status(reply, 200);
            ck_assert_ptr_nonnull(strstr(http_header(&reply, "Content-Type", type, sizeof type), "text/x-c"));
            expect_text(&reply, "No certificates are registered");
            expect_text(&reply, strstr(queries[q], "float") ? "off by at most" : "the same bits");
            check_c(&reply);
            http_done(&reply);
        }
    }
}
END_TEST

START_TEST(artifact__c_names_certificates_and_domains) {
    char etag[128], later[128], header[160];
    upload("c-certified", "dynamics", rail);
    http_reply reply = http_get(&d, "/v1/models/c-certified/artifact?format=c&precision=float");
    expect_status(reply, 200);
    http_header(&reply, "ETag", etag, sizeof etag);
    http_done(&reply);
    snprintf(header, sizeof header, "If-None-Match: %s", etag);
    const char *headers[] = {header, NULL};
    const http_request again = {.method = "GET", .path = "/v1/models/c-certified/artifact?format=c&precision=float", .headers = headers};
    http_send(&d, &again, &reply);
    ck_assert_int_eq(reply.status, 304);
    http_done(&reply);
    const char *const wait[] = {"Prefer: wait=30", "Content-Type: application/json", NULL};
    const char job[] = "{\"kind\":\"certify\",\"spec\":{\"model\":\"c-certified\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,3]}}}";
    http_send(&d, &(http_request){.method = "POST", .path = "/v1/jobs", .headers = wait, .body = job, .len = sizeof job - 1}, &reply);
    ck_assert_str_eq(reply_text(&reply, "/state"), "succeeded");
    http_done(&reply);
    http_send(&d, &again, &reply);
    expect_status(reply, 200);
    ck_assert_str_ne(http_header(&reply, "ETag", later, sizeof later), etag);
    expect_text(&reply, "range, linf: at most 1.3");
    expect_text(&reply, "Domain 1: [-1, 1] x [-1, 1] x [-1, 3]");
    expect_text(&reply, "x in domain 1");
    check_c(&reply);
    http_done(&reply);
    reply = http_get(
        &d, "/v1/models/c-certified/artifact?format=c&precision=float&domain=%7B%22lower%22%3A%5B0%2C0%2C0%5D%2C%22upper%22%3A%5B1%2C1%2C1%5D%7D");
    expect_status(reply, 200);
    expect_text(&reply, "Domain 1, asked for: [0, 1] x [0, 1] x [0, 1]");
    expect_text(&reply, "x in domain 2");
    check_c(&reply);
    http_done(&reply);
}
END_TEST

START_TEST(artifact__refusals_name_the_parameter) {
    static const struct {
        const char *query, *pointer;
    } wrong[] = {
        {"format=exe", "?format"},
        {"format=c&precision=half", "?precision"},
        {"format=c&layout=round", "?layout"},
        {"format=json&precision=float", "?precision"},
        {"layout=dense", "?layout"},
        {"format=c&colour=red", "?colour"},
        {"format=c&domain=x", "?domain"},
        {"format=c&domain=%7B%22lower%22%3A%5B0%2C0%5D%2C%22upper%22%3A%5B1%2C1%2C1%5D%7D", "?domain/lower"},
        {"format=c&domain=%7B%22lower%22%3A%5B0%2C0%2C2%5D%2C%22upper%22%3A%5B1%2C1%2C1%5D%7D", NULL},
    };
    upload("refused", "dynamics", rail);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char path[300];
        snprintf(path, sizeof path, "/v1/models/refused/artifact?%s", wrong[i].query);
        http_reply reply = http_get(&d, path);
        expect_problem(&reply, 400, "INVALID", wrong[i].pointer);
        http_done(&reply);
    }
    http_reply reply = http_get(&d, "/v1/models/nobody/artifact?format=c");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
    esp_buf wide = {0};
    esp_buf_puts(&wide, "{\"layers\":[{\"w\":[");
    for (int i = 0; i < 2100; i++) esp_buf_puts(&wide, i ? ",[1]" : "[1]");
    esp_buf_puts(&wide, "],\"b\":[");
    for (int i = 0; i < 2100; i++) esp_buf_puts(&wide, i ? ",0" : "0");
    esp_buf_puts(&wide, "],\"activation\":\"relu\"}]}");
    upload("wide", "policy", esp_buf_text(&wide));
    esp_buf_done(&wide);
    reply = http_get(&d, "/v1/models/wide/artifact?format=c");
    expect_problem(&reply, 422, "UNPROCESSABLE", NULL);
    ck_assert_ptr_nonnull(strstr(reply.body, "2100 ReLUs"));
    http_done(&reply);
    upload("large", "policy", "{\"layers\":[{\"w\":[[1e300]],\"b\":[0],\"activation\":\"relu\"}]}");
    reply = http_get(&d, "/v1/models/large/artifact?format=c&precision=float");
    expect_problem(&reply, 422, "UNPROCESSABLE", NULL);
    http_done(&reply);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("artifact");
    TCase *c = tcase_create("artifact");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, artifact__onnx_comes_in_and_goes_out);
    tcase_add_test(c, artifact__onnx_that_is_not_understood_is_refused);
    tcase_add_test(c, artifact__c_compiles_and_passes_its_self_test);
    tcase_add_test(c, artifact__c_names_certificates_and_domains);
    tcase_add_test(c, artifact__refusals_name_the_parameter);
    suite_add_tcase(suite, c);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
