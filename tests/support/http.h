/* SPDX-License-Identifier: Apache-2.0
 * An HTTP client for tests, on libcurl. A transport failure fails the test that made the request. */
#ifndef ESP_TESTS_HTTP_H
#define ESP_TESTS_HTTP_H

#include <check.h>
#include <stddef.h>

#include "base/json.h"
#include "support/daemon.h"

typedef struct http_reply {
    int status;
    char *headers, *body; /* NUL-terminated */
    size_t len;
    esp_json *json; /* NULL when the body is not JSON */
    double seconds;
} http_reply;

typedef struct http_request {
    const char *method, *path;
    const char *const *headers; /* NULL, or "Name: value" ending with NULL; "Name:" leaves out one that curl adds */
    const void *body; /* NULL: none */
    size_t len;
    bool chunked; /* without Content-Length */
    long timeout_ms; /* 0: 30 s */
} http_request;

void http_send(const test_daemon *daemon, const http_request *request, http_reply *ret_reply);
void http_done(http_reply *reply);

http_reply http_get(const test_daemon *daemon, const char *path);
http_reply http_delete(const test_daemon *daemon, const char *path);
/* `method` with a JSON body. */
http_reply http_json(const test_daemon *daemon, const char *method, const char *path, const char *json);
http_reply http_post(const test_daemon *daemon, const char *path, const char *content_type, const void *body, size_t len);

/* The value of a reply header in `ret`, "" when absent. */
const char *http_header(const http_reply *reply, const char *name, char *ret, size_t room);

/* What stands at a JSON Pointer of the body ("/items/0/name"); the test fails when it is absent or of another type. */
bool reply_has(const http_reply *reply, const char *pointer); /* present and not null */
const char *reply_text(const http_reply *reply, const char *pointer);
double reply_number(const http_reply *reply, const char *pointer);
size_t reply_count(const http_reply *reply, const char *pointer); /* of an array */

/* The value of the metric espalier_`name`, labels with it ("workers{state=\"busy\"}"). */
double http_metric(const test_daemon *daemon, const char *name);
/* Until it has this value, for 5 s. */
void http_await_metric(const test_daemon *daemon, const char *name, double value);

/* Bytes as they stand on a fresh connection, and everything that comes back until the other side closes or 5 s pass; the status of the
 * first reply, 0 for none. */
int http_raw(const test_daemon *daemon, const char *bytes, size_t len, char *ret_text, size_t room);

/* Its two halves, for many at a time. `half`: our side says that it has no more to send, so that a request cut short is
 * not waited for. The read closes the connection. */
int http_raw_send(const test_daemon *daemon, const char *bytes, size_t len, bool half);
size_t http_raw_read(int fd, char *ret_text, size_t room);

#define expect_status(reply, wanted) ck_assert_msg((reply).status == (wanted), "status %d, not %d: %.600s", (reply).status, (wanted), (reply).body)
/* A problem of this status and code; and, when pointer is not NULL, with errors[0].pointer equal to it. */
void expect_problem(const http_reply *reply, int status, const char *code, const char *pointer);

#endif
