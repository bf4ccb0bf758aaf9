/* SPDX-License-Identifier: Apache-2.0
 * HTTP: the only folder that includes microhttpd.h. A request becomes an esp_call, goes through the route table to a
 * handler, and is answered once, from any thread, now or later.
 *
 * Threads: MHD's event threads only collect bodies, run routes marked INLINE, and send. One thread reads uploads, a piece at a
 * time. Every other handler runs on one of a few handler threads, where it may block on the registry. A handler either replies before it returns, or keeps
 * the call (a plan, a waiting job) and whoever finishes it replies: the connection stays suspended until then.
 *
 * Life of a call: made when the headers are complete; `run` gets it with its body; esp_call_reply* ends it exactly once
 * and the pointer is dead after. A client that hangs up while a call is kept: `hangup`, if set, runs on an HTTP thread;
 * the call must still be replied to. A reply waits for a
 * running `hangup` of the same call (so `user` may go once the reply has returned): do not reply with a lock held that
 * `hangup` takes. */
#ifndef ESP_SERVER_HTTP_H
#define ESP_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

struct esp_server; /* server.h: registry, pool, config, metrics: what handlers work with */
typedef struct esp_call esp_call;

typedef void esp_handler(struct esp_server *server, esp_call *call);

/* A body that is taken as it streams (datasets) instead of being collected. `begin` runs on an event thread, `chunk` on another, one
 * at a time. */
typedef struct esp_upload {
    void *(*begin)(struct esp_server *server, esp_call *call, esp_error *reterr); /* NULL on failure */
    esp_code (*chunk)(void *state, const char *bytes, size_t len, esp_error *reterr);
    void (*end)(void *state); /* always, after the reply or the hang-up: removes what is left */
} esp_upload;

/* INLINE: runs on an event thread, must not block. URGENT: waits for a handler thread ahead of all others, one of which
 * takes nothing else. */
enum { ESP_ROUTE_INLINE = 1, ESP_ROUTE_URGENT = 2 };
#define ESP_BODY_OWN_CAP SIZE_MAX /* the upload's begin and chunk refuse what is too large */
typedef enum esp_scope { ESP_SCOPE_NONE, ESP_SCOPE_READ, ESP_SCOPE_PLAN, ESP_SCOPE_SUBMIT, ESP_SCOPE_ADMIN } esp_scope;

typedef struct esp_route {
    const char *method; /* "GET" (answers HEAD too), "POST", "PUT", "DELETE" */
    const char *pattern; /* "/v1/models/{ref}"; {ref...} takes the rest including slashes up to the next literal segment */
    esp_scope scope;
    unsigned flags;
    size_t body_cap; /* bytes; 413 beyond */
    esp_handler *run;
    const esp_upload *upload; /* NULL: collect */
    /* On the event thread, before a handler thread is troubled: answers or keeps the call without blocking, or leaves it alone and says
     * false. NULL: not tried. */
    bool (*at_once)(struct esp_server *server, esp_call *call);
} esp_route;
extern const esp_route esp_routes[]; /* server/routes.c; ends with method NULL */

struct esp_token; /* tokens.h */

/* --- what a handler reads; all borrowed, valid until the reply --- */
const struct esp_token *esp_call_token(const esp_call *call); /* its id is "" when no token was needed */
const char *esp_call_request_id(const esp_call *call);
int64_t esp_call_arrived_ns(const esp_call *call); /* monotonic: the first byte's arrival as far as known */
const char *esp_call_route(const esp_call *call); /* the pattern of its route */
const char *esp_call_url(const esp_call *call); /* the decoded path */
const char *esp_call_path(const esp_call *call, const char *name); /* decoded path parameter */
const char *esp_call_query(const esp_call *call, const char *name); /* NULL when absent */
/* i-th query parameter in order; false past the end. */
bool esp_call_query_at(const esp_call *call, size_t index, const char **ret_name, const char **ret_value);
/* Refuses query parameters outside the NULL-terminated list. */
ESP_MUST_CHECK esp_code esp_call_query_check(const esp_call *call, const char *const *names, esp_error *reterr);
const char *esp_call_header(const esp_call *call, const char *name);
const char *esp_call_body(const esp_call *call, size_t *ret_len);
/* The body is said to be JSON. */
ESP_MUST_CHECK esp_code esp_call_json_check(const esp_call *call, esp_error *reterr);
void *esp_call_upload_state(const esp_call *call);
/* Parses the body as JSON; the value is freed with the call. */
ESP_MUST_CHECK esp_code esp_call_json(esp_call *call, const esp_json **ret_json, esp_error *reterr);

/* --- what it answers --- */
void esp_call_header_add(esp_call *call, const char *name, const char *value);
void esp_call_reply(esp_call *call, int status, const char *content_type, esp_buf *take_body); /* empties the buffer */
/* Bytes that many replies may send at once. */
typedef struct esp_shared esp_shared;
esp_shared *esp_shared_create(esp_buf *take_bytes); /* NULL: no memory */
esp_shared *esp_shared_ref(esp_shared *shared);
void esp_shared_unref(esp_shared *shared); /* NULL is fine */
size_t esp_shared_len(const esp_shared *shared);
void esp_call_reply_shared(esp_call *call, int status, const char *content_type, esp_shared *shared); /* takes a reference of its own */
void esp_call_reply_json(esp_call *call, int status, esp_buf *take_body);
/* What was made, with 200; or with a code the error. The buffer is empty afterwards either way. */
void esp_call_reply_made(esp_call *call, esp_code code, const esp_error *error, esp_buf *take_body);
void esp_call_reply_error(esp_call *call, const esp_error *error); /* problem+json */
void esp_problem_format(const char *request_id, const esp_error *error, esp_buf *out); /* the same for a line of a batch; no newline */
/* Adds the ETag; when If-None-Match names it, answers 304 and returns true. */
bool esp_call_not_modified(esp_call *call, const char *etag);
/* `list` is an If-Match or If-None-Match; "*" lists all. Weakly: a "W/" on either side does not matter (RFC 9110, 8.8.3.2). */
bool esp_etag_listed(const char *list, const char *etag, bool weakly);
/* range.c: the file, or the part of it that Range asks for; its strong ETag has been added. */
void esp_call_reply_file(esp_call *call, const char *content_type, const char *etag, const char *path);
/* A long reply produced piece by piece on an event thread: `next` appends up to about 64 KiB, returns 1 for more now,
 * 0 for the end, -1 for "nothing now": then esp_stream_wake (from any thread) asks again, -2 to cut the connection so
 * that the client sees a broken reply. `end` runs once. */
typedef struct esp_stream esp_stream;
typedef struct esp_producer {
    int (*next)(void *user, esp_buf *out);
    void (*end)(void *user);
    void *user;
} esp_producer;
/* `ret_stream`, may be NULL, is for esp_stream_wake; it is valid until `end` has returned. */
void esp_call_reply_stream(esp_call *call, const char *content_type, esp_producer producer, esp_stream **ret_stream);
void esp_stream_wake(esp_stream *stream);

/* Keep the call beyond the handler's return. The handler says so before it hands the call to whoever will reply. */
void esp_call_keep(esp_call *call, void (*hangup)(void *user), void *user);
/* The same for what is over in a moment, mostly: a client's going is noticed within a quarter of a second. */
void esp_call_keep_briefly(esp_call *call, void (*hangup)(void *user), void *user);

/* --- the listener --- */
typedef struct esp_http esp_http;
ESP_MUST_CHECK esp_code esp_http_start(struct esp_server *server, const char *host, int port, esp_http **ret_http, esp_error *reterr);
int esp_http_port(const esp_http *http);
void esp_http_quiesce(esp_http *http); /* no new connections */
/* After every kept call has been replied to. */
void esp_http_stop(esp_http *http);

#endif
