/* SPDX-License-Identifier: Apache-2.0
 * HTTP on a bare socket, for clients whose daemon may die under them: a broken connection is an answer, not a failed test. */
#ifndef ESP_TESTS_WIRE_H
#define ESP_TESTS_WIRE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct wire_request {
    const char *method, *path;
    const char *headers; /* NULL, or whole lines, each with its CRLF */
    const void *body; /* NULL: none */
    size_t len;
} wire_request;

/* Set by tests: every exchange is held against schema/api/openapi.json (traffic.h). Benchmarks have no time for it. */
extern bool wire_checks;

/* A connection to 127.0.0.1, -1 when nobody is there. */
int wire_dial(int port);
/* The whole reply, headers and all, in `ret`; *ret_body points into it. The status; 0 when the connection broke or `room` is too
 * little. A reply must have a Content-Length, or end with the connection. */
int wire_call(int fd, const wire_request *request, char *ret, size_t room, const char **ret_body);

#endif
