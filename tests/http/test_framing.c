/* SPDX-License-Identifier: Apache-2.0
 * Requests that hide something from libmicrohttpd's parser are refused, and sound ones that look odd are not; and clients that read a
 * reply too slowly are let go. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/rail.h"

#define REQUEST "GET /healthz HTTP/1.1\r\nHost: x\r\n"
#define LAST    "Connection: close\r\n\r\n"

static test_daemon d;

typedef struct bytes {
    const char *text;
    size_t len;
} bytes;
#define BYTES(text)                                                                                                                                  \
    { text, sizeof(text) - 1 }

START_TEST(framing__hidden_bytes_are_refused) {
    static const bytes wrong[] = {
        BYTES(REQUEST "X-A: b\r\n c\r\n" LAST), /* folded: the token "c" would join the name */
        BYTES(REQUEST "X-A: b\r\n\tc\r\n\r\n"),
        BYTES("GET /healthz HTTP/1.1\r\n Host: x\r\n\r\n"),
        BYTES(REQUEST "X-A: b\0c\r\n" LAST),
        BYTES(REQUEST "X-A: b\0\r\n" LAST),
        BYTES(REQUEST "X-A: b\0c\r\n\r\n"),
        BYTES(REQUEST "X-A: b\0\0\0c\r\n\r\n"),
        BYTES(REQUEST "X-A: b\0\0\0\0c\r\n\r\n"),
        BYTES(REQUEST "X-A: b\0\0\0\0\0\0\0\0\r\n\r\n"),
        BYTES(REQUEST "X-A: b\0c\n\n"),
        BYTES(REQUEST "X-A: b\r\n\n\0"),
        BYTES(REQUEST "X-A: b\n\r\n\0"),
        BYTES("GET /healthz HTTP/1.1\r\nX-A: b\r\nHost: x\0\0\0\0y\r\n\r\n"),
        BYTES("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 2\0\0\0\0 7\r\n\r\n{}"),
        BYTES(REQUEST "X-A:\0b\r\n" LAST),
        BYTES(REQUEST "X-A: b\001c\r\n" LAST),
        BYTES(REQUEST "X-A: b\177c\r\n" LAST),
        BYTES(REQUEST "X-A: b\rc\r\n" LAST),
        BYTES(REQUEST "X-A: b\n" LAST),
        BYTES("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 2\0 2\r\nConnection: close\r\n\r\n{}"),
        BYTES("POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\0gzip\r\nConnection: close\r\n\r\n0\r\n\r\n"),
        BYTES("GET /healthz\0/../v1/models HTTP/1.1\r\nHost: x\r\n" LAST),
        BYTES("GET /v1/models?limit=1\0&limit=2 HTTP/1.1\r\nHost: x\r\n" LAST),
        BYTES("GET\0 /healthz HTTP/1.1\r\nHost: x\r\n" LAST),
        BYTES("GET  /healthz HTTP/1.1\r\nHost: x\r\n" LAST),
        BYTES("GET /healthz /v1/models HTTP/1.1\r\nHost: x\r\n" LAST),
        BYTES("GET /v1/models?name=a\tb HTTP/1.1\r\nHost: x\r\n" LAST),
        BYTES("GET /healthz HTTP/1.1\r\n" LAST), /* no Host */
    };
    char text[4096];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int status = http_raw(&d, wrong[i].text, wrong[i].len, text, sizeof text);
        ck_assert_msg(status == 400 && strstr(text, "\"code\":\"INVALID\"") && strstr(text, "\r\nConnection: close\r\n"), "%zu: %.400s", i, text);
        ck_assert_msg(!strstr(text + 1, "HTTP/1.1 "), "%zu, a second reply: %.600s", i, text);
    }
}
END_TEST

/* Where a chunked body ends is seen otherwise by who takes a bare LF for a part of a line: nothing is read behind it. */
START_TEST(framing__nothing_follows_a_chunked_body) {
    static const char post[] = "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const char *const bodies[] = {"2\r\n{}\r\n0\r\n\r\n", "2\r\n{}\r\n0\r\nX: a\n\n", "2\r\n{}\r\n0\r\nX: a\r\n b\r\n\r\n", "2\n{}\n0\n\n",
                                         "2;x\ny\r\n{}\r\n0\r\n\r\n"};
    char text[4096];
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        esp_buf request = {0};
        esp_buf_printf(&request, "%s%s" REQUEST LAST, post, bodies[i]);
        http_raw(&d, esp_buf_text(&request), request.len, text, sizeof text);
        ck_assert_msg(strncmp(text, "HTTP/1.1 400 ", 13) == 0 && !strstr(text + 1, "HTTP/1.1 "), "%zu: %.600s", i, text);
        esp_buf_done(&request);
    }
}
END_TEST

/* Found out by libmicrohttpd, which has a page of its own for each. */
START_TEST(framing__what_the_library_refuses_is_a_problem_too) {
    enum { LONG = 100000 };
    static const struct {
        const char *before, *after; /* of LONG times "a" */
        int status;
        const char *code;
    } wrong[] = {
        {"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", NULL, 400, "INVALID"},
        {"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\n{}", NULL, 400, "INVALID"},
        {"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\n\r\n{}", NULL, 400, "INVALID"},
        {"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", NULL, 400, "INVALID"},
        {"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", NULL, 413, "TOO_LARGE"},
        {"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", NULL, 400, "INVALID"},
        {"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", NULL, 413, "TOO_LARGE"},
        {"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", NULL, 505, "HTTP_VERSION"},
        {"GET /", " HTTP/1.1\r\nHost: x\r\n\r\n", 414, "URI_TOO_LONG"},
        {REQUEST "X-A: ", "\r\n\r\n", 431, "HEADERS_TOO_LARGE"},
    };
    static char padding[LONG + 1];
    memset(padding, 'a', LONG);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[4096], expected[80];
        esp_buf request = {0};
        esp_buf_printf(&request, "%s%s%s", wrong[i].before, wrong[i].after ? padding : "", wrong[i].after ? wrong[i].after : "");
        int status = http_raw(&d, esp_buf_text(&request), request.len, text, sizeof text);
        ck_assert_msg(status == wrong[i].status && !strstr(text + 1, "HTTP/1.1 "), "%zu: %.600s", i, text);
        snprintf(expected, sizeof expected, "\"status\":%d", status);
        ck_assert_msg(strstr(text, "Content-Type: application/problem+json\r\n") && strstr(text, expected), "%zu: %.600s", i, text);
        snprintf(expected, sizeof expected, "\"code\":\"%s\"", wrong[i].code);
        ck_assert_msg(strstr(text, expected) && strstr(text, "\r\nConnection: close\r\n"), "%zu: %.600s", i, text);
        esp_buf_done(&request);
    }
}
END_TEST

START_TEST(framing__odd_but_sound_requests_are_answered) {
    static const char *const good[] = {
        REQUEST "X-Empty:\r\nX-Blank:   \r\nX-Tab:\tb\tc \t\r\n" LAST,
        REQUEST "X-High: caf\xc3\xa9\r\nCookie: a=b; c=\"d\"\r\nX-Bare:b:c\r\n" LAST,
        REQUEST "X-A: b\r\nX-A: c\r\nx-a: d\r\n" LAST,
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET http://somewhere:80/healthz HTTP/1.1\r\nHost: somewhere:80\r\n" LAST,
        "GET /v1/models?name=%61%20%00b&limit=1 HTTP/1.1\r\nHost: x\r\n" LAST,
        "GET /v1/%6d%6Fdels?limit=1 HTTP/1.1\r\nHost: x\r\n" LAST,
        "GET /v1/models?limit=1&sort=-id HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" LAST,
    };
    char text[4096];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int status = http_raw(&d, good[i], strlen(good[i]), text, sizeof text);
        ck_assert_msg(status == 200, "%zu: %.400s", i, text);
    }
    esp_buf large = {0};
    esp_buf_puts(&large, REQUEST);
    for (int i = 0; i < 100; i++) esp_buf_printf(&large, "X-%d: %0200d\r\n", i, i);
    esp_buf_puts(&large, LAST);
    int status = http_raw(&d, esp_buf_text(&large), large.len, text, sizeof text);
    ck_assert_msg(status == 200, "%.400s", text);
    esp_buf_done(&large);
}
END_TEST

/* The parser's buffer grows and moves while a request comes in pieces: nothing of that is to look like a hidden byte. */
START_TEST(framing__requests_in_pieces_are_answered) {
    esp_buf request = {0};
    char text[8192];
    int kept = 0;
    for (int k = 0; k < 2; k++) {
        esp_buf_puts(&request, "POST /v1/models?kind=policy&name=%70 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
        for (int i = 0; i < 12; i++) esp_buf_printf(&request, "X-%d: %0*d\r\n", i, 150 * i + 1, i);
        esp_buf_printf(&request, "Content-Length: 2\r\n%s\r\n{}", k ? "Connection: close\r\n" : "");
    }
    int fd = http_raw_send(&d, "", 0, false), yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    for (size_t at = 0, n = 1; at < request.len; at += n, n = n % 97 + 13) {
        if (n > request.len - at) n = request.len - at;
        ck_assert_int_eq(send(fd, request.data + at, n, MSG_NOSIGNAL), (ssize_t)n);
        usleep(300);
    }
    http_raw_read(fd, text, sizeof text);
    for (const char *at = text; (at = strstr(at, "HTTP/1.1 400 ")); at++) kept++;
    ck_assert_msg(kept == 2 && !strstr(text, "header") && strstr(text, "layers"), "%s", text); /* refused for what the body says */
    esp_buf_done(&request);
}
END_TEST

/* ---- slow readers --------------------------------------------------------------------------------------------------- */

/* A client with a small window, so that little of the reply is with the kernels. */
static int read_slowly(const test_daemon *daemon, const char *request) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)daemon->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), room = 2048, segment = 88;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
    return fd;
}

/* Reads what makes up `rate` bytes a second since the start, however long the last turn took. */
static void read_at(int fd, double rate, int64_t start_ns, size_t *taken) {
    char text[4096];
    size_t due = (size_t)(rate * esp_clock_seconds_since(start_ns));
    while (*taken < due) {
        size_t most = due - *taken < sizeof text ? due - *taken : sizeof text;
        ssize_t n = recv(fd, text, most, 0);
        if (n <= 0) return;
        *taken += (size_t)n;
    }
}

/* 4 KB/s is slow, and good enough; 0.7 KB/s is not, though the connection is never idle. The idle timeout, which starts anew with
 * each piece that the kernel takes, would let go of it much later if ever, and is not counted. */
START_TEST(slow__readers_are_cut) {
    static const char *const options[] = {"--idle-s", "20", "--workers", "1", NULL};
    static const char request[] = "GET /v1/datasets/rail/data HTTP/1.1\r\nHost: x\r\n\r\n";
    test_daemon own = {0};
    char text[4096];
    daemon_start(&own, options);
    rail_upload_data(&own, "rail", 2000);
    int slow = read_slowly(&own, request), slower = read_slowly(&own, request), cut = 0;
    int64_t start_ns = esp_clock_now_ns();
    for (size_t some = 0, few = 0; !cut && esp_clock_seconds_since(start_ns) < 60;) {
        read_at(slow, 4000, start_ns, &some);
        read_at(slower, 700, start_ns, &few);
        usleep(100000);
        cut = (int)http_metric(&own, "http_connections_cut_total{phase=\"reply\"}");
    }
    ck_assert_int_eq(cut, 1);
    http_await_metric(&own, "http_connections", 2);
    for (int i = 0; i < 50; i++) ck_assert_int_gt(recv(slow, text, sizeof text, 0), 0);
    close(slow);
    close(slower);
    ck_assert_int_eq(daemon_finish(&own, 0), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("framing");
    TCase *c = tcase_create("framing");
    tcase_set_timeout(c, 90);
    tcase_add_test(c, framing__hidden_bytes_are_refused);
    tcase_add_test(c, framing__nothing_follows_a_chunked_body);
    tcase_add_test(c, framing__what_the_library_refuses_is_a_problem_too);
    tcase_add_test(c, framing__odd_but_sound_requests_are_answered);
    tcase_add_test(c, framing__requests_in_pieces_are_answered);
    tcase_add_test(c, slow__readers_are_cut);
    suite_add_tcase(suite, c);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
