/* SPDX-License-Identifier: Apache-2.0
 * Health, metrics, the interface's description, the open inference protocol, request ids, HEAD; and the daemon's start. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/http.h"

static test_daemon d;

START_TEST(ops__healthy_and_ready) {
    static const char *const paths[] = {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"};
    for (int i = 0; i < 4; i++) {
        http_reply reply = http_get(&d, paths[i]);
        expect_status(reply, 200);
        http_done(&reply);
    }
}
END_TEST

START_TEST(ops__metrics_count_requests_by_route) {
    http_reply reply = http_get(&d, "/v1/models");
    http_done(&reply);
    reply = http_get(&d, "/metrics");
    expect_status(reply, 200);
    ck_assert_ptr_nonnull(strstr(reply.body, "espalier_http_requests_total"));
    ck_assert_ptr_nonnull(strstr(reply.body, "route=\"GET /v1/models\",code=\"200\""));
    ck_assert_ptr_nonnull(strstr(reply.body, "espalier_sqlite_commit_seconds"));
    ck_assert_ptr_nonnull(strstr(reply.body, "espalier_http_connections"));
    http_done(&reply);
}
END_TEST

START_TEST(ops__serves_its_description_and_a_page) {
    char type[64];
    http_reply reply = http_get(&d, "/openapi.json");
    expect_status(reply, 200);
    ck_assert_str_eq(reply_text(&reply, "/openapi"), "3.1.0");
    http_done(&reply);
    reply = http_get(&d, "/");
    expect_status(reply, 200);
    ck_assert(strncmp(http_header(&reply, "Content-Type", type, sizeof type), "text/html", 9) == 0);
    http_done(&reply);
}
END_TEST

START_TEST(ops__open_inference_protocol_describes_models) {
    http_reply reply = http_json(&d, "POST", "/v1/models?name=oip&kind=policy", "{\"layers\":[{\"w\":[[1,2]],\"b\":[0],\"activation\":\"relu\"}]}");
    expect_status(reply, 201);
    http_done(&reply);
    reply = http_get(&d, "/v2/models/oip");
    expect_status(reply, 200);
    ck_assert_str_eq(reply_text(&reply, "/versions/0"), "1");
    ck_assert_int_eq((int)reply_number(&reply, "/inputs/0/shape/1"), 2);
    ck_assert_int_eq((int)reply_number(&reply, "/outputs/0/shape/1"), 1);
    http_done(&reply);
    reply = http_get(&d, "/v2/models/oip/ready");
    expect_status(reply, 200);
    http_done(&reply);
    reply = http_get(&d, "/v2/models/none/ready");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
}
END_TEST

START_TEST(ops__request_id_is_kept_or_made) {
    static const char *const good[] = {"X-Request-Id: robot-7.42", NULL}, *const bad[] = {"X-Request-Id: a b\"c", NULL};
    char id[100];
    http_reply reply;
    http_send(&d, &(http_request){.method = "GET", .path = "/v1/none", .headers = good}, &reply);
    ck_assert_str_eq(http_header(&reply, "X-Request-Id", id, sizeof id), "robot-7.42");
    ck_assert_str_eq(reply_text(&reply, "/request_id"), "robot-7.42");
    http_done(&reply);
    http_send(&d, &(http_request){.method = "GET", .path = "/v1/none", .headers = bad}, &reply);
    ck_assert(strncmp(http_header(&reply, "X-Request-Id", id, sizeof id), "req_", 4) == 0);
    ck_assert_str_eq(reply_text(&reply, "/request_id"), id);
    http_done(&reply);
}
END_TEST

START_TEST(ops__refuses_to_listen_beyond_loopback) {
    static const char *const addresses[] = {"0.0.0.0:0", "[::]:0", "192.0.2.1:0"};
    char dir[100], said[4096];
    for (int i = 0; i < 3; i++) {
        snprintf(dir, sizeof dir, "%s/other%d", d.dir, i);
        const char *options[] = {"--listen", addresses[i], "--data", dir, NULL};
        ck_assert_int_ne(daemon_try(options, said, sizeof said), 0);
        ck_assert_msg(strstr(said, "loopback") && !strstr(said, "espalierd ready"), "%s", said);
    }
}
END_TEST

START_TEST(ops__second_daemon_on_the_directory_is_refused) {
    char dir[100], said[4096];
    snprintf(dir, sizeof dir, "%s/data", d.dir);
    const char *options[] = {"--listen", "127.0.0.1:0", "--data", dir, NULL};
    ck_assert_int_ne(daemon_try(options, said, sizeof said), 0);
    ck_assert_msg(strstr(said, "in use"), "%s", said);
}
END_TEST

/* The events of a queued job never end by themselves; clients who go must not leave their streams behind. */
START_TEST(ops__clients_who_leave_free_their_connections) {
    static const char request[] = "GET /v1/datasets?format=ndjson HTTP/1.1\r\nHost: x\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)d.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 200; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        ck_assert_int_eq(send(fd, request, i % 3 ? sizeof request - 1 : 20, MSG_NOSIGNAL), i % 3 ? (ssize_t)sizeof request - 1 : 20);
        close(fd);
    }
    double open = 1000;
    for (int tries = 0; tries < 100 && (open = http_metric(&d, "http_connections")) > 3; tries++) usleep(20000);
    ck_assert_msg(open <= 3, "%g connections are still open", open);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ops");
    TCase *c = tcase_create("ops");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, ops__healthy_and_ready);
    tcase_add_test(c, ops__metrics_count_requests_by_route);
    tcase_add_test(c, ops__serves_its_description_and_a_page);
    tcase_add_test(c, ops__open_inference_protocol_describes_models);
    tcase_add_test(c, ops__request_id_is_kept_or_made);
    tcase_add_test(c, ops__refuses_to_listen_beyond_loopback);
    tcase_add_test(c, ops__second_daemon_on_the_directory_is_refused);
    tcase_add_test(c, ops__clients_who_leave_free_their_connections);
    suite_add_tcase(suite, c);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
