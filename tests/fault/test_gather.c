/* SPDX-License-Identifier: Apache-2.0
 * Small requests that come while no worker is free go to the next one together: each gets the answer that it gets alone, to the
 * byte, whatever is wrong with the others, and whoever dies or hangs up meanwhile. Workers are stopped by signal, so that what
 * comes has to wait. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "support/rail.h"

enum { MANY = 40, TEXT = 8192 };

static test_daemon d, two; /* with one worker, and with two */

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static int send_post(const test_daemon *on, const char *path, const char *body) {
    esp_buf text = {0};
    esp_buf_printf(&text, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", path, strlen(body), body);
    int fd = http_raw_send(on, text.data, text.len, false);
    esp_buf_done(&text);
    return fd;
}

/* The status, and the body in `ret` (TEXT). */
static int take_reply(int fd, char *ret) {
    static char text[TEXT];
    http_raw_read(fd, text, sizeof text);
    const char *body = strstr(text, "\r\n\r\n");
    ck_assert_msg(body != NULL, "no reply: %.200s", text);
    strcpy(ret, body + 4);
    return atoi(text + 9);
}

static pid_t stopped[8];
static int n_stopped;

static void stop_workers(const test_daemon *on, int n) {
    http_await_metric(on, "workers{state=\"idle\"}", n + 1); /* with the one for jobs: one that is stopped while it starts takes nothing */
    n_stopped = rail_workers(on, RAIL_PLAN, stopped, 8);
    ck_assert_int_eq(n_stopped, n);
    for (int i = 0; i < n; i++) kill(stopped[i], SIGSTOP);
}

static void hit_workers(int sig) {
    for (int i = 0; i < n_stopped; i++) kill(stopped[i], sig);
}

/* The worker is stopped with a request in hand. */
static int occupy(void) {
    stop_workers(&d, 1);
    int fd = send_post(&d, "/v1/models/wide/predict", "{\"x\":[[0,0,0]]}");
    http_await_metric(&d, "workers{state=\"busy\"}", 1);
    return fd;
}

static void set_free(int fd, int sig) {
    char text[TEXT];
    hit_workers(sig);
    ck_assert_int_eq(take_reply(fd, text), 200);
}

static void make_body(char *ret, size_t room, int i) {
    if (i % 2)
        snprintf(ret, room, "{\"x\":[[%g,%g,%g]]}", 0.37 * i, 1.0 / (i + 3), -0.11 * i);
    else
        snprintf(ret, room, "{\"model\":\"wide\",\"states\":[[%g,%g,%g],[0,%d,1]],\"error_threshold\":%g}", 0.37 * i, 1.0 / (i + 3), -0.11 * i, i,
                 0.1 * i);
}

static const char *path_of(int i) {
    return i % 2 ? "/v1/models/wide/predict" : "/v1/bounds/query";
}

START_TEST(gather__answers_are_those_that_each_gets_alone) {
    static char alone[MANY][TEXT], body[TEXT], together[TEXT];
    int fds[MANY];
    for (int i = 0; i < MANY; i++) {
        make_body(body, sizeof body, i);
        ck_assert_int_eq(take_reply(send_post(&d, path_of(i), body), alone[i]), 200);
    }
    int busy = occupy();
    double frames = http_metric(&d, "ask_frames_total"), asks = http_metric(&d, "asks_total");
    for (int i = 0; i < MANY; i++) {
        make_body(body, sizeof body, i);
        fds[i] = send_post(&d, path_of(i), body);
    }
    http_await_metric(&d, "queue_depth{class=\"ask\"}", 2); /* one frame of predictions, one of queries */
    sleep_ms(50); /* the last ones are still on their way */
    set_free(busy, SIGCONT);
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(take_reply(fds[i], together), 200);
        ck_assert_str_eq(together, alone[i]);
    }
    ck_assert_double_eq(http_metric(&d, "asks_total") - asks, MANY + 1); /* with the one that occupied it */
    ck_assert_double_le(http_metric(&d, "ask_frames_total") - frames, MANY / 2); /* a slow machine may give some back after 2 ms */
}
END_TEST

START_TEST(gather__a_bad_request_is_its_senders_alone) {
    static const char *const bodies[] = {"{\"x\":[[1,2,3]]}",           "{\"x\":[[1,2,3]",           "{\"x\":[[1,2]]}",   "{\"x\":[[1,2,3]]}", "",
                                         "{\"x\":[[1,2,3]],\"y\":[1]}", "{\"x\":[[1e308,2e307,3]]}", "{\"x\":[[1,2,3]]}", "[[[[]]]]"};
    static const int statuses[] = {200, 400, 400, 200, 400, 400, 422, 200, 400};
    static char text[9][TEXT];
    int fds[9], busy = occupy();
    for (int i = 0; i < 9; i++) fds[i] = send_post(&d, "/v1/models/steep/predict", bodies[i]);
    http_await_metric(&d, "queue_depth{class=\"ask\"}", 1);
    sleep_ms(50);
    set_free(busy, SIGCONT);
    for (int i = 0; i < 9; i++) {
        int status = take_reply(fds[i], text[i]);
        ck_assert_msg(status == statuses[i], "%d: %d %s", i, status, text[i]);
    }
    ck_assert_str_eq(text[0], text[3]);
    ck_assert_str_eq(text[0], text[7]);
    ck_assert(strstr(text[2], "\"pointer\":\"/x/0\"") != NULL);
    ck_assert(strstr(text[5], "\"pointer\":\"/y\"") != NULL);
}
END_TEST

START_TEST(gather__a_worker_that_dies_takes_nobody_with_it) {
    static char text[TEXT];
    int fds[MANY], busy = occupy();
    double asks = http_metric(&d, "asks_total");
    for (int i = 0; i < MANY; i++) fds[i] = send_post(&d, "/v1/models/wide/predict", "{\"x\":[[1,2,3]]}");
    http_await_metric(&d, "queue_depth{class=\"ask\"}", 1);
    set_free(busy, SIGKILL); /* what it had in hand is tried once more */
    for (int i = 0; i < MANY; i++) ck_assert_int_eq(take_reply(fds[i], text), 200);
    ck_assert_double_eq(http_metric(&d, "asks_total") - asks, MANY + 1);
}
END_TEST

START_TEST(gather__who_hangs_up_is_not_computed_for) {
    static char text[TEXT];
    int fds[MANY], busy = occupy();
    double asks = http_metric(&d, "asks_total");
    for (int i = 0; i < MANY; i++) fds[i] = send_post(&d, "/v1/models/wide/predict", "{\"x\":[[1,2,3]]}");
    http_await_metric(&d, "queue_depth{class=\"ask\"}", 1);
    sleep_ms(50);
    for (int i = 0; i < MANY / 2; i++) close(fds[i]);
    sleep_ms(700); /* it is seen within a quarter of a second */
    set_free(busy, SIGCONT);
    for (int i = MANY / 2; i < MANY; i++) ck_assert_int_eq(take_reply(fds[i], text), 200);
    ck_assert_double_eq(http_metric(&d, "asks_total") - asks, MANY - MANY / 2 + 1);
}
END_TEST

/* A body of more than 4 KiB is no small request. */
static int send_large(const char *model) {
    char path[100];
    esp_buf body = {0};
    esp_buf_puts(&body, "{\"x\":[");
    for (int i = 0; i < 1000; i++) esp_buf_printf(&body, "%s[%d,0.5,-0.25]", i ? "," : "", i);
    esp_buf_puts(&body, "]}");
    snprintf(path, sizeof path, "/v1/models/%s/predict", model);
    int fd = send_post(&two, path, esp_buf_text(&body));
    esp_buf_done(&body);
    return fd;
}

/* False: the idle worker was stopped with a ping in hand, and is asked nothing else before it answers. */
static bool small_passes_large(void) {
    static char text[1 << 20];
    stop_workers(&two, 2);
    int first = send_large("wide");
    http_await_metric(&two, "workers{state=\"busy\"}", 1);
    int second = send_large("wide");
    http_await_metric(&two, "queue_depth{class=\"ask\"}", 1); /* although a worker is idle */
    ck_assert_double_eq(http_metric(&two, "workers{state=\"busy\"}"), 1);
    int small = send_post(&two, "/v1/models/wide/predict", "{\"x\":[[1,2,3]]}");
    for (int turn = 0; turn < 30 && http_metric(&two, "workers{state=\"busy\"}") != 2; turn++) sleep_ms(10);
    bool passes = http_metric(&two, "workers{state=\"busy\"}") == 2;
    ck_assert_double_eq(http_metric(&two, "queue_depth{class=\"ask\"}"), passes ? 1 : 2);
    hit_workers(SIGCONT);
    const int fds[] = {first, second, small};
    for (int i = 0; i < 3; i++) {
        http_raw_read(fds[i], text, sizeof text);
        ck_assert_int_eq(atoi(text + 9), 200);
    }
    return passes;
}

START_TEST(gather__large_requests_leave_a_worker_to_plans) {
    bool passes = false;
    for (int turn = 0; turn < 4 && !passes; turn++) passes = small_passes_large();
    ck_assert(passes);
}
END_TEST

/* An alias that moves is seen by whoever asks afterwards. */
START_TEST(gather__a_name_is_what_it_is_now) {
    for (int turn = 0; turn < 6; turn++) {
        char body[100];
        snprintf(body, sizeof body, "{\"version\":%d}", 1 + turn % 2);
        http_reply reply = http_json(&d, "PUT", "/v1/models/moving/aliases/now", body);
        ck_assert_int_eq(reply.status / 100, 2);
        http_done(&reply);
        reply = http_json(&d, "POST", "/v1/models/moving@now/predict", "{\"x\":[[0,0]]}");
        expect_status(reply, 200);
        ck_assert_double_eq(reply_number(&reply, "/y/0/0"), 1 + turn % 2);
        http_done(&reply);
    }
}
END_TEST

static void upload(const char *name, const char *json) {
    char path[100];
    snprintf(path, sizeof path, "/v1/models?name=%s&kind=dynamics", name);
    http_reply reply = http_json(&d, "POST", path, json);
    expect_status(reply, 201);
    http_done(&reply);
}

static void setup(void) {
    rail_upload_random(&d, "wide", 16, 1);
    rail_upload_random(&two, "wide", 16, 1);
    upload("steep", "{\"layers\":[{\"w\":[[10,10,10]],\"b\":[0],\"activation\":\"identity\"}],\"nu\":2}");
    upload("moving", "{\"layers\":[{\"w\":[[0,0]],\"b\":[1],\"activation\":\"identity\"}],\"nu\":1}");
    upload("moving", "{\"layers\":[{\"w\":[[0,0]],\"b\":[2],\"activation\":\"identity\"}],\"nu\":1}");
}

int main(void) {
    static const char *const options[] = {"--workers", "1", NULL}, *const more[] = {"--workers", "2", NULL};
    daemon_start(&d, options);
    daemon_start(&two, more);
    Suite *suite = suite_create("gather");
    TCase *tc = tcase_create("gather");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, gather__answers_are_those_that_each_gets_alone);
    tcase_add_test(tc, gather__a_bad_request_is_its_senders_alone);
    tcase_add_test(tc, gather__a_worker_that_dies_takes_nobody_with_it);
    tcase_add_test(tc, gather__who_hangs_up_is_not_computed_for);
    tcase_add_test(tc, gather__large_requests_leave_a_worker_to_plans);
    tcase_add_test(tc, gather__a_name_is_what_it_is_now);
    suite_add_tcase(suite, tc);
    int failed = run_suite(suite);
    failed = daemon_finish(&two, failed);
    return daemon_finish(&d, failed);
}
