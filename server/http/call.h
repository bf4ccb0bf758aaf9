/* SPDX-License-Identifier: Apache-2.0
 * The inside of a call and of the listener. Private to server/http.
 *
 * Who holds what. MHD holds one reference to a call from its headers to the completion callback; whoever must reply
 * holds another, and gives it up with the reply, so that a client's going never pulls a call away from under it.
 *
 *     COLLECTING --body complete--> RUNNING --reply--> REPLIED      (a connection whose upload reads a piece is suspended too)
 *                                      |                  ^
 *                                      +--> SUSPENDED ----+   (reply resumes the connection)
 *
 * Locks, outermost first: http->lock (streams), watch->lock, call->lock, stream->lock, conns_lock, the addresses'. None is held while a
 * handler, a producer or a hangup runs. */
#ifndef ESP_SERVER_CALL_H
#define ESP_SERVER_CALL_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "config.h"
#include "http/http.h"
#include "tokens.h"

enum { ESP_LANES = 3, ESP_PIECE = 256 << 10 }; /* bytes of an upload that are read at once */
enum { ESP_PARAMS_MAX = 4, ESP_QUERY_MAX = 64, ESP_HEADERS_OUT_MAX = 8, ESP_REQUEST_ID_MAX = 64 };
#define ESP_DISCARD_MAX      ((uint64_t)128 << 20) /* a refused body is read and dropped up to here, so that the client sees why */
#define ESP_DISCARD_STRANGER ((uint64_t)1 << 20) /* the same without a token */
#define ESP_DISCARD_NS       (60 * INT64_C(1000000000))

typedef enum esp_call_state { ESP_CALL_COLLECTING, ESP_CALL_RUNNING, ESP_CALL_SUSPENDED, ESP_CALL_REPLIED } esp_call_state;

typedef struct esp_pair {
    const char *name, *value;
} esp_pair;

/* A connection watched for the client's going, and what to do then. */
typedef struct esp_watch_entry {
    int fd;
    uint64_t id; /* 0: not watched */
    void (*hangup)(void *user);
    void *user;
} esp_watch_entry;

struct esp_call {
    esp_http *http;
    struct MHD_Connection *connection;
    atomic_int refs;
    pthread_mutex_t lock; /* state */
    esp_call_state state;

    const esp_route *route; /* NULL: none matched */
    bool head, kept, expects_continue;
    char method[16];
    int64_t arrived_ns;
    esp_token token; /* zeroed: none was needed */
    char request_id[ESP_REQUEST_ID_MAX + 1];
    char *path; /* owned; the parameters point into `params_text` */
    char *params_text;
    const char *param_names[ESP_PARAMS_MAX];
    size_t param_name_lens[ESP_PARAMS_MAX];
    const char *param_values[ESP_PARAMS_MAX];
    int n_params;
    esp_pair query[ESP_QUERY_MAX];
    size_t n_query;

    esp_buf body; /* of an upload: what it was not given yet */
    esp_json *json;
    void *upload;
    uint64_t received;
    bool refused; /* `refusal` is the answer, known before the body was all there; the rest of the body is dropped */
    esp_error refusal;
    char allow[64]; /* of a 405 */

    uint64_t watch_id;
    uint64_t sent; /* bytes of the reply's body, as far as they have been produced */
    esp_pair out[ESP_HEADERS_OUT_MAX]; /* owned texts */
    size_t n_out;
    int status;
    struct MHD_Response *response;
    int64_t resumed_ns; /* an event thread was asked to send the reply; 0: it made it itself */
    struct esp_call *next; /* in the handlers' queue */
};

struct esp_stream {
    esp_http *http;
    esp_call *call; /* a reference */
    struct MHD_Connection *connection;
    pthread_mutex_t lock;
    esp_producer producer;
    esp_buf buf;
    size_t sent;
    bool suspended, woken, gone, ended;
    uint64_t watch_id;
    struct esp_stream *next, **prev; /* in http->streams */
};

/* Where a connection is with its request: before the end of its headers, in its body, being answered. */
typedef enum esp_conn_phase { ESP_CONN_HEADERS, ESP_CONN_BODY, ESP_CONN_BUSY } esp_conn_phase;
typedef struct esp_conn esp_conn;
typedef struct esp_target { /* a request's, as it was sent, in MHD's buffer; it ends before the first byte that has no place in one */
    const char *begin, *end;
} esp_target;
typedef struct esp_addresses esp_addresses;
typedef struct esp_address esp_address; /* one client's */

typedef struct esp_watch {
    void (*tick)(void *user); /* about every 250 ms */
    void *user;
    pthread_t thread;
    bool started, stopping;
    int wake_fd;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    esp_watch_entry *entries;
    size_t n, cap;
    uint64_t next_id, running; /* running: id whose hangup runs right now */
} esp_watch;

typedef struct esp_handlers {
    pthread_mutex_t lock;
    pthread_cond_t any, urgent, pieces;
    struct esp_call *head[ESP_LANES], **tail[ESP_LANES]; /* urgent, the rest, pieces of uploads */
    int queued, n_threads;
    bool stopping, urgent_busy; /* the urgent thread has a call in hand: others may take urgent ones */
    pthread_t *threads;
} esp_handlers;

struct esp_http {
    struct esp_server *server;
    struct MHD_Daemon *daemon;
    int port, quiesced_fd;
    esp_watch watch;
    esp_handlers handlers;
    pthread_mutex_t lock;
    esp_stream *streams;
    bool stopping;
    pthread_mutex_t conns_lock;
    esp_conn *conns;
    esp_addresses *addresses;
};

/* call.c */
esp_call *esp_call_create(esp_http *http, struct MHD_Connection *connection, const char *path); /* NULL: no memory */
void esp_call_unref(esp_call *call);
/* listen.c */
esp_code esp_call_piece(esp_call *call); /* gives the upload what has been collected; the refusal is in the call */
void esp_call_piece_done(esp_call *call); /* its connection goes on with the rest */
/* reply.c: the connection of a refused, unread request is closed after the reply. */
enum MHD_Result esp_call_send(esp_call *call); /* on the event thread, in state REPLIED */
void esp_call_set_response(esp_call *call, int status, const char *content_type, struct MHD_Response *response);
void esp_call_finish(esp_call *call); /* the second half of a reply: resumes what is suspended, drops the reference */
/* match.c: fills route and parameters, or the refusal (404, 405). */
void esp_call_match(esp_call *call, const char *method);
/* Parameters of a pattern in a path; -1 no match, else the number of literal bytes. Values are copied to `text`. */
int esp_pattern_match(const char *pattern, const char *path);
/* handlers.c */
ESP_MUST_CHECK esp_code esp_handlers_start(esp_http *http, int n_threads, esp_error *reterr);
bool esp_handlers_push(esp_http *http, esp_call *call); /* false: full */
bool esp_handlers_push_piece(esp_http *http, esp_call *call);
void esp_handlers_stop(esp_http *http); /* runs what is queued first; what comes later is not taken */
void esp_handlers_done(esp_http *http); /* when nothing comes any more */
/* watch.c */
/* `tick` runs on the thread about every 250 ms. */
ESP_MUST_CHECK esp_code esp_watch_start(esp_watch *watch, void (*tick)(void *user), void *user, esp_error *reterr);
/* 0 when memory is out. Without `soon` the thread is not woken for it, and looks at it from the next tick on. */
uint64_t esp_watch_add(esp_watch *watch, int fd, bool soon, void (*hangup)(void *user), void *user);
/* After this the hangup does not run; waits for one that is running, unless called from within it. */
void esp_watch_remove(esp_watch *watch, uint64_t id);
void esp_watch_stop(esp_watch *watch);
int esp_connection_fd(struct MHD_Connection *connection);
/* conn.c */
void esp_conn_notify(void *user, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode code);
void esp_conn_set(struct MHD_Connection *connection, esp_conn_phase phase);
void esp_conn_progress(struct MHD_Connection *connection, size_t bytes); /* of a body */
bool esp_conn_admit(struct MHD_Connection *connection); /* one request more; false: its address has had too many */
void esp_conn_set_call(struct MHD_Connection *connection, esp_call *call); /* of the request under way; NULL: none any more */
esp_call *esp_conn_call(struct MHD_Connection *connection); /* on its event thread */
void esp_conn_address(struct MHD_Connection *connection, char ret_text[48]);
esp_target *esp_conn_target(struct MHD_Connection *connection); /* of its request under way; NULL: no memory for it */
void esp_conns_reap(void *user); /* the http */
/* framing.c */
void esp_target_note(esp_target *target, const char *text);
/* What could be read as another request elsewhere, or NULL. */
const char *esp_framing_wrong(struct MHD_Connection *connection, const char *method, const char *version);
/* refusal.c */
enum MHD_Result esp_queue(struct MHD_Connection *connection, int status, struct MHD_Response *response);
/* range.c: one range of `size` bytes; NONE: nothing that is to be looked at, BEYOND: none of it is there. */
typedef enum esp_range_kind { ESP_RANGE_NONE, ESP_RANGE_ONE, ESP_RANGE_BEYOND } esp_range_kind;
esp_range_kind esp_range_parse(const char *text, uint64_t size, uint64_t *ret_first, uint64_t *ret_len);
/* address.c */
ESP_MUST_CHECK esp_code esp_addresses_create(const esp_config *config, esp_addresses **ret, esp_error *reterr);
void esp_addresses_free(esp_addresses *a);
esp_address *esp_address_open(esp_addresses *a, const struct sockaddr *from); /* a connection more; NULL: too many */
void esp_address_close(esp_addresses *a, esp_address *address);
bool esp_address_draw(esp_addresses *a, esp_address *address);
void esp_addresses_sweep(esp_addresses *a);
/* stream.c */
void esp_streams_end(esp_http *http); /* wakes every stream to its end */

#endif
