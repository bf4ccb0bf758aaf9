/* SPDX-License-Identifier: Apache-2.0
 * What one address may have, and clients that are slow on purpose; and the log that says who they were. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/http.h"
#include "support/wire.h"

enum { CONNECTIONS = 4, RATE = 20 };
static test_daemon d;
static char text[1 << 20];

static int ask(int fd, const char **ret_body) {
    return wire_call(fd, &(wire_request){.method = "GET", .path = "/healthz"}, text, sizeof text, ret_body);
}

/* Bytes until the bucket has room again: each test begins with all of it. */
static void rest(void) {
    usleep(1100000);
}

START_TEST(addresses__have_so_many_connections) {
    int fds[CONNECTIONS];
    const char *body = "";
    rest();
    for (int i = 0; i < CONNECTIONS; i++) {
        fds[i] = wire_dial(d.port);
        ck_assert_int_eq(ask(fds[i], &body), 200);
    }
    int more = wire_dial(d.port); /* the kernel takes it, the daemon lets it go unheard */
    ck_assert_int_ge(more, 0);
    ck_assert_int_eq(ask(more, &body), 0);
    close(more);
    ck_assert_int_eq(wire_call(fds[0], &(wire_request){.method = "GET", .path = "/metrics"}, text, sizeof text, &body), 200);
    const char *refused = strstr(body, "\nespalier_http_connections_refused_total ");
    ck_assert_ptr_nonnull(refused);
    ck_assert_int_ge(atoi(refused + 41), 1);
    close(fds[1]);
    int status = 0;
    for (int turn = 0; turn < 100 && status != 200; turn++) { /* until it has been seen to go */
        usleep(20000);
        fds[1] = wire_dial(d.port);
        status = ask(fds[1], &body);
        if (status != 200) close(fds[1]);
    }
    ck_assert_int_eq(status, 200);
    for (int i = 0; i < CONNECTIONS; i++) close(fds[i]);
}
END_TEST

START_TEST(addresses__have_so_many_requests_a_second) {
    const char *body = "";
    int good = 0, refused = 0;
    rest();
    int fd = wire_dial(d.port);
    for (int i = 0; i < 3 * RATE; i++) {
        int status = ask(fd, &body);
        good += status == 200;
        refused += status == 429 && strstr(body, "\"code\":\"QUOTA\"") && strstr(body, "address_requests") && strstr(text, "\r\nRetry-After: 1\r\n");
    }
    ck_assert_int_eq(good + refused, 3 * RATE);
    ck_assert_int_ge(good, RATE);
    ck_assert_int_gt(refused, 0);
    close(fd);
    rest();
    fd = wire_dial(d.port);
    ck_assert_int_eq(ask(fd, &body), 200);
    close(fd);
}
END_TEST

static const char head[] = "POST /v1/datasets?name=slow HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n";

/* So many bytes every tenth of a second; how often before the connection was cut, `turns` when it was not. */
static int drip(size_t bytes, int turns) {
    static const char line[] = "{\"y\":[[0],[1]],\"u\":[[1]]}\n";
    int fd = http_raw_send(&d, head, sizeof head - 1, false), turn = 0;
    size_t at = 0;
    for (; turn < turns; turn++) {
        bool sent = true;
        for (size_t i = 0; sent && i < bytes; i++, at = (at + 1) % (sizeof line - 1)) sent = send(fd, line + at, 1, MSG_NOSIGNAL) == 1;
        if (!sent) break;
        usleep(100000);
    }
    close(fd);
    return turn;
}

START_TEST(slow__bodies_are_cut) {
    rest();
    ck_assert_int_lt(drip(1, 100), 100);
    ck_assert_int_eq(drip(300, 40), 40); /* some 3 KB/s is slow, and good enough */
}
END_TEST

START_TEST(access_log__has_a_line_for_each_request) {
    char path[100], line[2000];
    const char *id = "who-asked-this";
    const char *const headers[] = {"X-Request-Id: who-asked-this", NULL};
    http_reply reply;
    rest();
    http_send(&d, &(http_request){.method = "GET", .path = "/v1/models/no.thing", .headers = headers}, &reply);
    expect_status(reply, 404);
    size_t len = reply.len;
    http_done(&reply);
    snprintf(path, sizeof path, "%s/data/access.log", d.dir);
    esp_json *json = NULL;
    for (int turn = 0; turn < 100 && !json; turn++) {
        usleep(20000);
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file)) {
            if (strstr(line, id)) ck_assert_int_eq(esp_json_parse(line, strlen(line), &json, NULL), ESP_OK);
        }
        if (file) fclose(file);
    }
    ck_assert_ptr_nonnull(json);
    http_reply as = {.json = json, .body = line}; /* to read it like a reply */
    ck_assert_str_eq(reply_text(&as, "/address"), "127.0.0.1");
    ck_assert_str_eq(reply_text(&as, "/method"), "GET");
    ck_assert_str_eq(reply_text(&as, "/path"), "/v1/models/no.thing");
    ck_assert_str_eq(reply_text(&as, "/route"), "/v1/models/{ref...}");
    ck_assert_int_eq((int)reply_number(&as, "/status"), 404);
    ck_assert_uint_eq((size_t)reply_number(&as, "/bytes_out"), len);
    ck_assert(reply_number(&as, "/ms") >= 0 && !reply_has(&as, "/token") && strlen(reply_text(&as, "/time")) == 24);
    esp_json_free(json);
}
END_TEST

START_TEST(addresses__exempt_ones_are_checked_at_the_start) {
    static const char *const bad[] = {"127.0.0.1/33", "localhost", "::1 10.0.0.0/x", "1.2.3.4/"};
    char said[1024], data[100];
    snprintf(data, sizeof data, "%s/other", d.dir);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *const options[] = {"--listen", "127.0.0.1:0", "--data", data, "--workers", "1", "--address-exempt", bad[i], NULL};
        ck_assert_int_eq(daemon_try(options, said, sizeof said), 2);
        ck_assert_msg(strstr(said, "address_exempt") != NULL, "%s: %s", bad[i], said);
    }
}
END_TEST

int main(void) {
    wire_checks = true;
    static const char *const options[] = {
        "--address-exempt", "10.0.0.0/8 fd00::1", "--address-connections", "4", "--address-requests", "20", "--idle-s", "1", "--workers", "1", NULL};
    Suite *suite = suite_create("addresses");
    TCase *c = tcase_create("addresses");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, addresses__have_so_many_connections);
    tcase_add_test(c, addresses__have_so_many_requests_a_second);
    tcase_add_test(c, slow__bodies_are_cut);
    tcase_add_test(c, access_log__has_a_line_for_each_request);
    tcase_add_test(c, addresses__exempt_ones_are_checked_at_the_start);
    suite_add_tcase(suite, c);
    daemon_start(&d, options);
    return daemon_finish(&d, run_suite(suite));
}
