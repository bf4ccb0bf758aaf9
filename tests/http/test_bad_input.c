/* SPDX-License-Identifier: Apache-2.0
 * What a hostile or broken client may send: every time a well-formed problem or a closed connection, and a daemon that
 * goes on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/rng.h"
#include "support/http.h"

static test_daemon d;

static void expect_alive(void) {
    http_reply reply = http_get(&d, "/healthz");
    expect_status(reply, 200);
    http_done(&reply);
}

START_TEST(bad_input__unknown_paths_and_methods) {
    char allow[100];
    static const char *const nowhere[] = {"/v1",
                                          "/v2",
                                          "/v1/",
                                          "/v1/modelsx",
                                          "/v1/models/",
                                          "/V1/models",
                                          "//v1/models",
                                          "/v1/models/a/aliases/b/c",
                                          "/v1/../v1/models",
                                          "/v1/jobs/a/b",
                                          "/favicon.ico",
                                          "/%2e%2e/etc/passwd"};
    for (size_t i = 0; i < sizeof nowhere / sizeof nowhere[0]; i++) {
        http_reply reply = http_get(&d, nowhere[i]);
        ck_assert_msg(reply.status == 404 || reply.status == 400, "%s: %d", nowhere[i], reply.status);
        expect_problem(&reply, reply.status, reply.status == 404 ? "NOT_FOUND" : "INVALID", NULL);
        http_done(&reply);
    }
    http_reply reply = http_delete(&d, "/v1/bounds");
    expect_problem(&reply, 405, "METHOD", NULL);
    ck_assert_str_eq(http_header(&reply, "Allow", allow, sizeof allow), "GET, HEAD");
    http_done(&reply);
    reply = http_json(&d, "PATCH", "/v1/tasks", "{}");
    expect_problem(&reply, 405, "METHOD", NULL);
    ck_assert_str_eq(http_header(&reply, "Allow", allow, sizeof allow), "POST, GET, HEAD");
    http_done(&reply);
    reply = http_get(&d, "/v1/plans");
    expect_problem(&reply, 405, "METHOD", NULL);
    http_done(&reply);
}
END_TEST

START_TEST(bad_input__bodies_over_the_cap_are_refused_with_a_problem) {
    static const char *const paths[] = {"/v1/tasks", "/v1/plans", "/v1/jobs"};
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    size_t len = (size_t)100 << 20;
    char *body = malloc(len);
    memset(body, ' ', len);
    for (int i = 0; i < 3; i++) {
        http_reply reply;
        http_request request = {.method = "POST", .path = paths[i], .headers = headers, .body = body, .len = len};
        http_send(&d, &request, &reply);
        expect_problem(&reply, 413, "TOO_LARGE", NULL);
        http_done(&reply);
        request.chunked = true; /* nothing declared: found out on the way */
        request.len = 40 << 20;
        http_send(&d, &request, &reply);
        expect_problem(&reply, 413, "TOO_LARGE", NULL);
        http_done(&reply);
    }
    static const char *const patient[] = {"Content-Type: application/json", "Expect: 100-continue", NULL};
    http_reply reply;
    http_send(&d, &(http_request){.method = "POST", .path = "/v1/tasks", .headers = patient, .body = body, .len = len}, &reply);
    expect_problem(&reply, 413, "TOO_LARGE", NULL); /* and the body is not read at all */
    http_done(&reply);
    static const char *const get_headers[] = {"Content-Type: application/json", NULL};
    http_send(&d, &(http_request){.method = "GET", .path = "/v1/models", .headers = get_headers, .body = "{}", .len = 2}, &reply);
    expect_problem(&reply, 413, "TOO_LARGE", NULL);
    http_done(&reply);
    free(body);
    char text[4096];
    static const char endless[] = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n";
    ck_assert_int_eq(http_raw(&d, endless, sizeof endless - 1, text, sizeof text), 413);
    expect_alive();
}
END_TEST

START_TEST(bad_input__memory_stays_small_while_a_large_body_is_refused) {
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    size_t len = (size_t)100 << 20;
    char *body = calloc(1, len), path[64], line[256];
    long before = 0, after = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)d.pid);
    for (int round = 0; round < 2; round++) {
        FILE *status = fopen(path, "r");
        ck_assert_ptr_nonnull(status);
        while (fgets(line, sizeof line, status)) {
            if (sscanf(line, "VmHWM: %ld", round ? &after : &before) == 1) break;
        }
        fclose(status);
        if (round) break;
        http_reply reply;
        http_send(&d, &(http_request){.method = "POST", .path = "/v1/plans", .headers = headers, .body = body, .len = len}, &reply);
        expect_problem(&reply, 413, "TOO_LARGE", NULL);
        http_done(&reply);
    }
    ck_assert_msg(after - before < 20 << 10, "grew by %ld KiB", after - before);
    free(body);
}
END_TEST

START_TEST(bad_input__two_ways_to_frame_a_body_are_refused) {
    static const char *const wrong[] = {
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        "GET /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: x\r\nX(y): z\r\n\r\n",
    };
    char text[4096];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int status = http_raw(&d, wrong[i], strlen(wrong[i]), text, sizeof text);
        ck_assert_msg(status == 400 || status == 0, "%zu: %.300s", i, text);
        ck_assert_msg(!strstr(text + 1, "HTTP/1.1 2"), "a second reply: %.600s", text);
    }
    expect_alive();
}
END_TEST

START_TEST(bad_input__broken_requests) {
    static const char *const wrong[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "nonsense nonsense nonsense\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\n\r\n" /* no Host */,
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n",
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    };
    char text[4096];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int status = http_raw(&d, wrong[i], strlen(wrong[i]), text, sizeof text);
        ck_assert_msg(status == 0 || status >= 400, "%zu: %.300s", i, text);
    }
    esp_buf long_header = {0};
    esp_buf_puts(&long_header, "GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Long: ");
    for (int i = 0; i < 64 << 10; i++) esp_buf_put(&long_header, "a", 1);
    esp_buf_puts(&long_header, "\r\n\r\n");
    int status = http_raw(&d, esp_buf_text(&long_header), long_header.len, text, sizeof text);
    ck_assert_msg(status == 0 || status >= 400, "%.300s", text);
    esp_buf_done(&long_header);
    expect_alive();
}
END_TEST

START_TEST(bad_input__json_that_is_none) {
    static const char *const wrong[] = {"",
                                        "{",
                                        "{\"name\":",
                                        "nul",
                                        "{\"name\":\"\xc3\x28\"}",
                                        "{\"name\":\"a\\u0000b\"}",
                                        "{\"name\":NaN}",
                                        "{\"name\":1e999}",
                                        "{\"a\":1,\"a\":1}",
                                        "[1,]"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        http_reply reply = http_json(&d, "POST", "/v1/tasks", wrong[i]);
        expect_problem(&reply, 400, "INVALID", NULL);
        http_done(&reply);
    }
    esp_buf deep = {0};
    for (int i = 0; i < 100000; i++) esp_buf_put(&deep, "[", 1);
    http_reply reply = http_json(&d, "POST", "/v1/tasks", esp_buf_text(&deep));
    expect_problem(&reply, 400, "INVALID", NULL);
    http_done(&reply);
    esp_buf_done(&deep);
    static const char *const types[] = {"text/csv", "application/jsonx", "application/json; charset=utf-16", "application/json;charset=\"latin1\""};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        reply = http_post(&d, "/v1/tasks", types[i], "{}", 2);
        expect_problem(&reply, 415, "MEDIA_TYPE", NULL);
        http_done(&reply);
    }
    reply = http_post(&d, "/v1/tasks", "Application/JSON; charset=UTF-8", "{}", 2);
    expect_problem(&reply, 400, "INVALID", "/name");
    http_done(&reply);
}
END_TEST

START_TEST(bad_input__awkward_queries) {
    static const char *const wrong[] = {"/v1/models?limit=%00",     "/v1/models?limit=5&limit=6x", "/v1/models?=1",
                                        "/v1/models?%ff=1",         "/v1/models?sort=%27%3B--",    "/v1/models?relu=1%27",
                                        "/v1/models?cursor=%ff%fe", "/v1/models?id__lt__gt=1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        http_reply reply = http_get(&d, wrong[i]);
        ck_assert_msg(reply.status == 400, "%s: %d %.200s", wrong[i], reply.status, reply.body);
        expect_problem(&reply, 400, "INVALID", NULL);
        http_done(&reply);
    }
    esp_buf many = {0};
    esp_buf_puts(&many, "/v1/models?a=1");
    for (int i = 0; i < 200; i++) esp_buf_printf(&many, "&a%d=1", i);
    http_reply reply = http_get(&d, esp_buf_text(&many));
    expect_problem(&reply, 400, "INVALID", NULL);
    http_done(&reply);
    esp_buf_done(&many);
}
END_TEST

/* A slip in a name of few is refused, not an empty list; and so is what has two values and can have one. */
START_TEST(bad_input__parameters_of_lists_that_cannot_be_meant) {
    static const char *const wrong[][2] = {
        {"/v1/jobs?state=runing", "?state"},
        {"/v1/jobs?state__ne=Queued", "?state__ne"},
        {"/v1/jobs?kind=training", "?kind"},
        {"/v1/models?kind=robot", "?kind"},
        {"/v1/bounds?strength=proven", "?strength"},
        {"/v1/bounds?norm=l1", "?norm"},
        {"/v1/datasets?format__ne=x", "?format__ne"},
        {"/v1/tasks?method=cbc", "?method"},
        {"/v1/models?limit=2&limit=3", "?limit"},
        {"/v1/models?sort=id&sort=id", "?sort"},
        {"/v1/models?format=csv&format=csv", "?format"},
        {"/v1/episodes?kind=", "?kind"},
    };
    static const char *const right[] = {"/v1/jobs?state=timed_out&kind=evaluate",       "/v1/jobs?state__glob=run*",   "/v1/models?kind__ne=policy",
                                        "/v1/bounds?strength=proved&norm=linf",         "/v1/bounds?kind=one_to_come", "/v1/tasks?method=mppi",
                                        "/v1/episodes?kind=dynamics&sort=-success_rate"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        http_reply reply = http_get(&d, wrong[i][0]);
        expect_problem(&reply, 400, "INVALID", wrong[i][1]);
        http_done(&reply);
    }
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        http_reply reply = http_get(&d, right[i]);
        expect_status(reply, 200);
        http_done(&reply);
    }
}
END_TEST

START_TEST(bad_input__two_requests_in_one_packet_are_both_answered) {
    char text[8192];
    static const char two[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    http_raw(&d, two, sizeof two - 1, text, sizeof text);
    char *second = strstr(text + 1, "HTTP/1.1 200");
    ck_assert_msg(strncmp(text, "HTTP/1.1 200", 12) == 0 && second && strstr(second, "\"items\""), "%.600s", text);
}
END_TEST

/* Any bytes at all: sound requests with a few of them changed. */
START_TEST(bad_input__mutated_requests) {
    static const char *const seeds[] = {
        "GET /v1/models?limit=3&sort=-relu&relu__gte=1 HTTP/1.1\r\nHost: x\r\nAccept: text/csv\r\nConnection: close\r\n\r\n",
        "POST /v1/datasets?name=fuzz HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 25\r\nConnection: "
        "close\r\n\r\n{\"y\":[[0],[1]],\"u\":[[1]]}",
        "POST /v1/models?name=f&kind=policy HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: "
        "close\r\n\r\n"
        "3d\r\n{\"layers\":[{\"w\":[[1,2]],\"b\":[0],\"activation\":\"relu\"}]}      \r\n0\r\n\r\n",
    };
    const char *only = getenv("ESP_SEED");
    uint64_t first = only ? strtoull(only, NULL, 10) : 0, n = only ? 1 : 150;
    int fds[150];
    char bytes[1024], text[8192];
    for (uint64_t i = 0; i < n; i++) {
        esp_rng rng;
        esp_rng_init(&rng, first + i, 0);
        const char *base = seeds[(first + i) % 3];
        size_t len = strlen(base), changes = 1 + esp_rng_below(&rng, 4);
        memcpy(bytes, base, len);
        for (size_t k = 0; k < changes; k++) bytes[esp_rng_below(&rng, len)] = (char)esp_rng_u64(&rng);
        if ((first + i) % 5 == 0) len = esp_rng_below(&rng, len);
        fds[i] = http_raw_send(&d, bytes, len, true);
    }
    for (uint64_t i = 0; i < n; i++) {
        http_raw_read(fds[i], text, sizeof text);
        ck_assert_msg(text[0] == '\0' || strncmp(text, "HTTP/1.", 7) == 0, "seed %llu: %.200s", (unsigned long long)(first + i), text);
    }
    expect_alive();
}
END_TEST

/* A byte now and then never lets the idle timeout run out: the whole of the headers has a time too. */
START_TEST(bad_input__dripped_headers_are_cut) {
    static const char *const options[] = {"--idle-s", "1", "--workers", "1", NULL};
    test_daemon slow = {0};
    char text[256];
    daemon_start(&slow, options);
    int fd = http_raw_send(&slow, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Drip: ", 41, false), sent = 0;
    while (sent < 100 && send(fd, "a", 1, MSG_NOSIGNAL) == 1) {
        usleep(100000);
        sent++;
    }
    ck_assert_int_lt(sent, 100);
    close(fd);
    fd = http_raw_send(&slow, "", 0, false); /* and one that says nothing */
    ck_assert_uint_eq(http_raw_read(fd, text, sizeof text), 0);
    ck_assert_int_eq(daemon_finish(&slow, 0), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bad_input");
    TCase *c = tcase_create("bad_input");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, bad_input__unknown_paths_and_methods);
    tcase_add_test(c, bad_input__memory_stays_small_while_a_large_body_is_refused);
    tcase_add_test(c, bad_input__bodies_over_the_cap_are_refused_with_a_problem);
    tcase_add_test(c, bad_input__two_ways_to_frame_a_body_are_refused);
    tcase_add_test(c, bad_input__broken_requests);
    tcase_add_test(c, bad_input__json_that_is_none);
    tcase_add_test(c, bad_input__awkward_queries);
    tcase_add_test(c, bad_input__parameters_of_lists_that_cannot_be_meant);
    tcase_add_test(c, bad_input__two_requests_in_one_packet_are_both_answered);
    tcase_add_test(c, bad_input__mutated_requests);
    tcase_add_test(c, bad_input__dripped_headers_are_cut);
    suite_add_tcase(suite, c);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
