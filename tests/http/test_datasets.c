/* SPDX-License-Identifier: Apache-2.0
 * /v1/datasets: what is uploaded comes back byte for byte; what is wrong is named by its line and leaves nothing. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "support/http.h"

#define NDJSON "application/x-ndjson"
static test_daemon d;
static const char good[] = "{\"y\":[[0,0],[0,0.1],[0.01,0.195]],\"u\":[[1],[1]]}\n{\"y\":[[0.5,-0.5],[0.45,-0.49]],\"u\":[[0]]}\n";
static const char csv[] = "trajectory,step,y0,y1,u0\n0,0,0,0,1\n0,1,0,0.1,1\n0,2,0.01,0.195,\n1,0,0.5,-0.5,0\n1,1,0.45,-0.49,\n";

static http_reply upload(const char *name, const char *type, const char *body) {
    char path[200];
    snprintf(path, sizeof path, "/v1/datasets?name=%s", name);
    return http_post(&d, path, type, body, strlen(body));
}

static int files_in_tmp(void) {
    char path[128];
    int n = 0;
    snprintf(path, sizeof path, "%s/data/tmp", d.dir);
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void expect_nothing(const char *name) {
    char path[200];
    snprintf(path, sizeof path, "/v1/datasets?name=%s", name);
    http_reply reply = http_get(&d, path);
    expect_status(reply, 200);
    ck_assert_uint_eq(reply_count(&reply, "/items"), 0);
    http_done(&reply);
    /* Its file goes when the connection is done with, which may be a moment after the reply. */
    for (int turn = 0; turn < 500 && files_in_tmp() > 0; turn++) (void)usleep(10000);
    ck_assert_int_eq(files_in_tmp(), 0);
}

START_TEST(datasets__are_stored_and_come_back_byte_for_byte) {
    char location[200], path[260], hash[ESP_HASH_HEX];
    http_reply reply = upload("cart", NDJSON, good);
    expect_status(reply, 201);
    ck_assert_str_eq(reply_text(&reply, "/name"), "cart");
    ck_assert_int_eq((int)reply_number(&reply, "/version"), 1);
    ck_assert_int_eq((int)reply_number(&reply, "/trajectories"), 2);
    ck_assert_int_eq((int)reply_number(&reply, "/transitions"), 3);
    ck_assert_int_eq((int)reply_number(&reply, "/ny"), 2);
    ck_assert_int_eq((int)reply_number(&reply, "/nu"), 1);
    esp_hash_bytes(good, sizeof good - 1, hash);
    ck_assert_str_eq(reply_text(&reply, "/sha256"), hash);
    http_header(&reply, "Location", location, sizeof location);
    http_reply one = http_get(&d, location);
    expect_status(one, 200);
    ck_assert_str_eq(one.body, reply.body);
    snprintf(path, sizeof path, "%s/data", location);
    http_reply data = http_get(&d, path);
    expect_status(data, 200);
    ck_assert_uint_eq(data.len, sizeof good - 1);
    ck_assert_mem_eq(data.body, good, sizeof good - 1);
    http_done(&data);
    data = http_get(&d, "/v1/datasets/cart/1/data?format=csv");
    expect_status(data, 200);
    ck_assert_str_eq(data.body, csv);
    http_done(&data);
    http_done(&one);
    http_done(&reply);
}
END_TEST

START_TEST(datasets__equal_bytes_are_one_version_others_a_new_one) {
    http_reply a = upload("twice", NDJSON, good), b = upload("twice", NDJSON, good), c = upload("twice", "text/csv", csv);
    expect_status(a, 201);
    expect_status(b, 201);
    expect_status(c, 201);
    ck_assert_str_eq(reply_text(&a, "/id"), reply_text(&b, "/id"));
    ck_assert_int_eq((int)reply_number(&c, "/version"), 2);
    ck_assert_str_eq(reply_text(&c, "/format"), "csv");
    http_reply data = http_get(&d, "/v1/datasets/twice/data");
    ck_assert_str_eq(data.body, csv);
    http_done(&data);
    http_done(&a);
    http_done(&b);
    http_done(&c);
}
END_TEST

START_TEST(datasets__chunked_upload_of_many_pieces) {
    static const char *const headers[] = {"Content-Type: " NDJSON, NULL};
    esp_buf body = {0};
    http_reply reply;
    for (int i = 0; i < 20000; i++) esp_buf_printf(&body, "{\"y\":[[%d,0.5],[%d,0.25],[1,2]],\"u\":[[1],[%d]]}\n", i, i + 1, i % 7);
    http_send(
        &d,
        &(http_request){.method = "POST", .path = "/v1/datasets?name=many", .headers = headers, .body = body.data, .len = body.len, .chunked = true},
        &reply);
    expect_status(reply, 201);
    ck_assert_int_eq((int)reply_number(&reply, "/trajectories"), 20000);
    ck_assert_int_eq((int)reply_number(&reply, "/transitions"), 40000);
    http_done(&reply);
    reply = http_get(&d, "/v1/datasets/many/data");
    ck_assert_uint_eq(reply.len, body.len);
    ck_assert_mem_eq(reply.body, body.data, body.len);
    http_done(&reply);
    reply = http_get(&d, "/v1/datasets/many/data?format=csv"); /* streamed */
    size_t lines = 0;
    for (size_t i = 0; i < reply.len; i++) lines += reply.body[i] == '\n';
    ck_assert_uint_eq(lines, 60001);
    http_done(&reply);
    esp_buf_done(&body);
}
END_TEST

START_TEST(datasets__bad_line_is_named_and_nothing_is_kept) {
    static const struct {
        const char *type, *body, *pointer;
    } wrong[] = {
        {NDJSON, "{\"y\":[[0,0],[0,0.1]],\"u\":[[1]]}\n{\"y\":[[0.5,-0.5],[0.45", "line 2"}, /* cut short */
        {NDJSON, "{\"y\":[[0,0],[0,0.1]],\"u\":[[1]]}\n{\"y\":[[NaN,0],[0,0]],\"u\":[[1]]}\n", "line 2"}, /* not JSON */
        {NDJSON, "{\"y\":[[0,0],[0,1e999]],\"u\":[[1]]}\n", "line 1"}, /* not finite */
        {NDJSON, "{\"y\":[[0,0],[0,0.1]],\"u\":[[1]]}\n{\"y\":[[0,0,0],[0,0,0]],\"u\":[[1]]}\n", "line 2"}, /* another width */
        {NDJSON, "{\"y\":[[0,0],[0,0.1]],\"u\":[[1],[1]]}\n", "line 1"}, /* too many actions */
        {NDJSON, "{\"y\":[[0,0]],\"u\":[]}\n", "line 1"}, /* no transition */
        {NDJSON, "{\"y\":[[0,0],[0,0.1]],\"u\":[[1]],\"note\":1}\n", "line 1"}, /* unknown field */
        {NDJSON, "{\"y\":[[0,0],[0,0.1]],\"y\":[[0,0],[0,0.1]],\"u\":[[1]]}\n", "line 1"}, /* twice */
        {NDJSON, "[1,2]\n", "line 1"},
        {NDJSON, "{\"y\":[[0,0],[0,0.1]],\"u\":[[1]]}\n\xff\xfe\n", "line 2"}, /* not UTF-8 */
        {"text/csv", "trajectory,step,y0,u0\n0,0,1,1\n0,1,x,\n", "line 3"},
        {"text/csv", "trajectory,step,y0,u0\n0,0,1,1\n0,2,1,\n", "line 3"}, /* a step is missing */
        {"text/csv", "time,y0,u0\n0,1,1\n", "line 1"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        http_reply reply = upload("broken", wrong[i].type, wrong[i].body);
        expect_problem(&reply, 400, "INVALID", wrong[i].pointer);
        http_done(&reply);
        expect_nothing("broken");
    }
    http_reply reply = upload("broken", NDJSON, "");
    ck_assert_int_eq(reply.status, 400);
    http_done(&reply);
    expect_nothing("broken");
}
END_TEST

/* The error is in line 3, 30 MB go on behind it: the client is told all the same. */
START_TEST(datasets__early_error_of_a_long_upload_reaches_the_client) {
    esp_buf body = {0};
    esp_buf_puts(&body, "{\"y\":[[0],[1]],\"u\":[[1]]}\n{\"y\":[[0],[1]],\"u\":[[1]]}\nnonsense\n");
    while (body.len < 30 << 20) esp_buf_puts(&body, "{\"y\":[[0],[1]],\"u\":[[1]]}\n");
    http_reply reply = http_post(&d, "/v1/datasets?name=long", NDJSON, body.data, body.len);
    expect_problem(&reply, 400, "INVALID", "line 3");
    http_done(&reply);
    expect_nothing("long");
    esp_buf_done(&body);
}
END_TEST

START_TEST(datasets__request_is_checked_before_the_body) {
    http_reply reply = http_post(&d, "/v1/datasets", NDJSON, good, sizeof good - 1);
    expect_problem(&reply, 400, "INVALID", "?name");
    http_done(&reply);
    reply = upload("a%20b", NDJSON, good);
    expect_problem(&reply, 400, "INVALID", "?name");
    http_done(&reply);
    reply = http_post(&d, "/v1/datasets?name=x&colour=red", NDJSON, good, sizeof good - 1);
    expect_problem(&reply, 400, "INVALID", "?colour");
    http_done(&reply);
    reply = upload("x", "application/json", good);
    expect_problem(&reply, 415, "MEDIA_TYPE", NULL);
    http_done(&reply);
    reply = http_get(&d, "/v1/datasets/none");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
    reply = http_get(&d, "/v1/datasets/none/data");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
    reply = http_get(&d, "/v1/datasets/x%00y");
    expect_problem(&reply, 400, "INVALID", NULL);
    http_done(&reply);
    expect_nothing("x");
}
END_TEST

static void expect_part(const char *range, const char *if_range, int status, size_t first, size_t len) {
    char range_header[100], if_header[160], header[80], expected[80];
    const char *headers[] = {range_header, if_range ? if_header : NULL, NULL};
    http_reply reply;
    snprintf(range_header, sizeof range_header, "Range: %s", range);
    if (if_range) snprintf(if_header, sizeof if_header, "If-Range: %s", if_range);
    http_send(&d, &(http_request){.method = "GET", .path = "/v1/datasets/parts/data", .headers = headers}, &reply);
    ck_assert_msg(reply.status == status, "%s: %d", range, reply.status);
    http_header(&reply, "Content-Range", header, sizeof header);
    snprintf(expected, sizeof expected, "bytes %zu-%zu/%zu", first, first + len - 1, sizeof good - 1);
    if (status == 416) {
        snprintf(expected, sizeof expected, "bytes */%zu", sizeof good - 1);
        expect_problem(&reply, 416, "RANGE", "Range");
    } else {
        ck_assert_msg(reply.len == len && memcmp(reply.body, good + first, len) == 0, "%s: %zu bytes", range, reply.len);
    }
    ck_assert_str_eq(header, status == 200 ? "" : expected);
    http_done(&reply);
}

/* A download that broke goes on where it did. */
START_TEST(datasets__come_in_parts) {
    size_t all = sizeof good - 1;
    char etag[100];
    http_reply reply = upload("parts", NDJSON, good);
    expect_status(reply, 201);
    http_done(&reply);
    reply = http_get(&d, "/v1/datasets/parts/data");
    http_header(&reply, "ETag", etag, sizeof etag);
    http_done(&reply);
    expect_part("bytes=0-0", NULL, 206, 0, 1);
    expect_part("bytes=10-", NULL, 206, 10, all - 10);
    expect_part("Bytes=5-9", etag, 206, 5, 5);
    expect_part("bytes=5-100000", NULL, 206, 5, all - 5);
    expect_part("bytes=-7", NULL, 206, all - 7, 7);
    expect_part("bytes=-100000", NULL, 206, 0, all);
    expect_part("bytes=10-", "\"another\"", 200, 0, all);
    static const char *const ignored[] = {"bytes=9-5", "bytes=0-1,4-5", "lines=1-2",  "bytes=",     "bytes=-",
                                          "bytes=a-b", "bytes=1-2x",    "bytes=+1-2", "bytes= 1-2", "bytes=99999999999999999999-"};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) expect_part(ignored[i], NULL, 200, 0, all);
    char end[40];
    snprintf(end, sizeof end, "bytes=%zu-", all);
    expect_part(end, NULL, 416, 0, 0);
    expect_part("bytes=-0", NULL, 416, 0, 0);
}
END_TEST

START_TEST(datasets__idempotency_key_replays_and_refuses_another_request) {
    static const char *const headers[] = {"Content-Type: " NDJSON, "Idempotency-Key: k-1", NULL};
    char replayed[16];
    http_reply a, b, c;
    http_request request = {.method = "POST", .path = "/v1/datasets?name=idem", .headers = headers, .body = good, .len = sizeof good - 1};
    http_send(&d, &request, &a);
    http_send(&d, &request, &b);
    expect_status(a, 201);
    expect_status(b, 201);
    ck_assert_str_eq(a.body, b.body);
    ck_assert_str_eq(http_header(&b, "Idempotent-Replayed", replayed, sizeof replayed), "true");
    request.path = "/v1/datasets?name=other";
    http_send(&d, &request, &c);
    expect_problem(&c, 422, "UNPROCESSABLE", "Idempotency-Key");
    http_done(&a);
    http_done(&b);
    http_done(&c);
    expect_nothing("other");
}
END_TEST

START_TEST(datasets__deleted_ones_are_gone_and_their_version_too) {
    static const char line[] = "{\"y\":[[0],[5]],\"u\":[[1]]}\n", other[] = "{\"y\":[[0],[6]],\"u\":[[1]]}\n";
    http_reply reply = http_post(&d, "/v1/datasets?name=passing", "application/x-ndjson", line, sizeof line - 1);
    expect_status(reply, 201);
    http_done(&reply);
    reply = http_delete(&d, "/v1/datasets/passing/1");
    expect_status(reply, 204);
    http_done(&reply);
    reply = http_get(&d, "/v1/datasets/passing/1");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
    reply = http_delete(&d, "/v1/datasets/passing/1");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
    reply = http_post(&d, "/v1/datasets?name=passing", "application/x-ndjson", other, sizeof other - 1);
    expect_status(reply, 201);
    ck_assert_double_eq(reply_number(&reply, "/version"), 2);
    http_done(&reply);
}
END_TEST

START_TEST(datasets__list_in_every_form_with_etag) {
    static const char *const as_csv[] = {"Accept: text/csv", NULL}, *const as_nothing[] = {"Accept: image/png", NULL};
    char etag[128], header[160], type[64];
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "listed%d", i);
        http_reply reply = upload(name, NDJSON, good);
        expect_status(reply, 201);
        http_done(&reply);
    }
    http_reply page = http_get(&d, "/v1/datasets?name__glob=listed*&sort=name&limit=2");
    expect_status(page, 200);
    ck_assert_uint_eq(reply_count(&page, "/items"), 2);
    ck_assert_str_eq(reply_text(&page, "/items/0/name"), "listed0");
    char path[600];
    snprintf(path, sizeof path, "/v1/datasets?name__glob=listed*&sort=name&limit=2&cursor=%s", reply_text(&page, "/next"));
    http_reply rest = http_get(&d, path);
    expect_status(rest, 200);
    ck_assert_uint_eq(reply_count(&rest, "/items"), 1);
    ck_assert_str_eq(reply_text(&rest, "/items/0/name"), "listed2");
    ck_assert(!reply_has(&rest, "/next"));
    http_done(&rest);
    snprintf(path, sizeof path, "/v1/datasets?name__glob=other*&sort=name&limit=2&cursor=%s", reply_text(&page, "/next"));
    rest = http_get(&d, path);
    expect_problem(&rest, 400, "INVALID", "?cursor");
    http_done(&rest);
    http_header(&page, "ETag", etag, sizeof etag);
    snprintf(header, sizeof header, "If-None-Match: %s", etag);
    const char *known[] = {header, NULL};
    http_request again = {.method = "GET", .path = "/v1/datasets?name__glob=listed*&sort=name&limit=2", .headers = known};
    http_send(&d, &again, &rest);
    ck_assert_int_eq(rest.status, 304);
    ck_assert_uint_eq(rest.len, 0);
    http_done(&rest);
    rest = upload("listed9", NDJSON, good);
    http_done(&rest);
    http_send(&d, &again, &rest);
    expect_status(rest, 200); /* something was committed */
    http_done(&rest);
    http_send(&d, &(http_request){.method = "GET", .path = "/v1/datasets?name__glob=listed*", .headers = as_csv}, &rest);
    expect_status(rest, 200);
    ck_assert(strncmp(http_header(&rest, "Content-Type", type, sizeof type), "text/csv", 8) == 0);
    size_t lines = 0;
    for (size_t i = 0; i < rest.len; i++) lines += rest.body[i] == '\n';
    ck_assert_uint_eq(lines, 5);
    http_done(&rest);
    http_send(&d, &(http_request){.method = "GET", .path = "/v1/datasets", .headers = as_nothing}, &rest);
    expect_problem(&rest, 406, "NOT_ACCEPTABLE", NULL);
    http_done(&rest);
    http_send(&d, &(http_request){.method = "HEAD", .path = "/v1/datasets"}, &rest);
    ck_assert_int_eq(rest.status, 200);
    ck_assert_uint_eq(rest.len, 0);
    http_done(&rest);
    http_done(&page);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("datasets");
    TCase *c = tcase_create("datasets");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, datasets__are_stored_and_come_back_byte_for_byte);
    tcase_add_test(c, datasets__equal_bytes_are_one_version_others_a_new_one);
    tcase_add_test(c, datasets__chunked_upload_of_many_pieces);
    tcase_add_test(c, datasets__bad_line_is_named_and_nothing_is_kept);
    tcase_add_test(c, datasets__early_error_of_a_long_upload_reaches_the_client);
    tcase_add_test(c, datasets__request_is_checked_before_the_body);
    tcase_add_test(c, datasets__idempotency_key_replays_and_refuses_another_request);
    tcase_add_test(c, datasets__come_in_parts);
    tcase_add_test(c, datasets__deleted_ones_are_gone_and_their_version_too);
    tcase_add_test(c, datasets__list_in_every_form_with_etag);
    suite_add_tcase(suite, c);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
