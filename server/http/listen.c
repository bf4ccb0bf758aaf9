/* SPDX-License-Identifier: Apache-2.0
 * The listener: MHD's event threads, and the way of a request from its headers to a handler and back.
 *
 * A request that is refused by its headers alone (no such route, too large, a bad content type) still has its body read
 * and dropped, up to a limit, before the answer: a client that is busy sending would otherwise see a reset instead of
 * the problem. A client that asked with `Expect: 100-continue` is answered at once, and so is one that declares more
 * than the limit. */
#include "http/call.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "access_log.h"
#include "base/clock.h"
#include "log.h"
#include "metrics.h"
#include "ontime.h"
#include "server.h"

/* ---- collecting ----------------------------------------------------------------------------------------------------- */

static void refuse(esp_call *call, esp_code code, const char *message) {
    if (call->refused) return;
    esp_fail(&call->refusal, code, "%s", message);
    call->refused = true;
    esp_buf_done(&call->body);
}

/* Such a connection is closed unread. */
static bool check_framing(esp_call *call, const char *method, const char *version) {
    const char *wrong = esp_framing_wrong(call->connection, method, version);
    if (!wrong) return true;
    call->refused = false;
    refuse(call, ESP_INVALID, wrong);
    return false;
}

static uint64_t declared_length(const esp_call *call) {
    const char *text = esp_call_header(call, "Content-Length");
    return text ? strtoull(text, NULL, 10) : 0;
}

static uint64_t discard_max(const esp_call *call) {
    esp_code code = call->refused ? call->refusal.code : ESP_OK;
    if (code == ESP_UNAUTHORIZED || code == ESP_QUOTA) return ESP_DISCARD_STRANGER;
    uint64_t upload_max = (uint64_t)esp_config_live(call->http->server->config.dataset_mib) << 20;
    return call->route && call->route->upload && upload_max > ESP_DISCARD_MAX ? upload_max : ESP_DISCARD_MAX;
}

/* Before anything else is looked at: it costs less than any of that. */
static void check_address(esp_call *call) {
    if (call->refused || esp_conn_admit(call->connection)) return;
    call->refused = true;
    esp_fail_at(&call->refusal, ESP_QUOTA, "address_requests", "this address has used up its requests, %d a second",
                esp_config_live(call->http->server->config.address_requests));
}

/* Who may ask for this. What is refused is refused before its body is looked at. */
static void check_token(esp_call *call) {
    int retry_s = 1;
    char text[100];
    if (!call->route || call->refused) return;
    const char *header = esp_call_header(call, "Authorization");
    esp_code code = esp_tokens_check(call->http->server->tokens, header, call->route->scope, &call->token, &retry_s, &call->refusal);
    if (!code) return;
    call->refused = true;
    if (code == ESP_QUOTA) {
        snprintf(text, sizeof text, "%d", retry_s);
        esp_call_header_add(call, "Retry-After", text);
        return;
    }
    const char *scope = code == ESP_FORBIDDEN ? esp_scope_names[call->route->scope] : "";
    snprintf(text, sizeof text, "Bearer realm=\"espalier\"%s%s%s",
             *scope   ? ", error=\"insufficient_scope\", scope=\""
             : header ? ", error=\"invalid_token\""
                      : "",
             scope, *scope ? "\"" : "");
    esp_call_header_add(call, "WWW-Authenticate", text);
}

static void check_draining(esp_call *call) {
    bool writes = call->route && strcmp(call->route->method, "GET") != 0;
    if (writes && atomic_load(&call->http->server->draining)) refuse(call, ESP_DRAINING, "the service is shutting down");
}

/* Answers at once from the event thread, before the body has been read. */
static enum MHD_Result answer_refusal(esp_call *call) {
    call->state = ESP_CALL_RUNNING;
    atomic_fetch_add(&call->refs, 1);
    esp_error refusal = call->refusal;
    esp_call_reply_error(call, &refusal);
    return esp_call_send(call);
}

/* Of a target in absolute form ("http://host/path"), which a client may use without a proxy too (RFC 9112, 3.2.2). */
static const char *path_of(const char *url) {
    if (strncasecmp(url, "http://", 7) != 0) return url;
    const char *path = strchr(url + 7, '/');
    return path ? path : "/";
}

/* The first time MHD shows a request: its headers are there. */
static enum MHD_Result on_headers(esp_http *http, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                  void **context) {
    esp_call *call = esp_call_create(http, connection, path_of(url));
    if (!call) return MHD_NO;
    esp_ontime_pace(ESP_URGENCY_HTTP, call->arrived_ns);
    *context = call;
    esp_conn_set_call(connection, call);
    esp_conn_set(connection, ESP_CONN_BODY);
    snprintf(call->method, sizeof call->method, "%s", method);
    esp_call_match(call, method);
    bool framed = check_framing(call, method, version);
    check_address(call);
    check_token(call);
    check_draining(call);
    uint64_t length = declared_length(call);
    if (!call->refused && length > call->route->body_cap) {
        refuse(call, ESP_TOO_LARGE, call->route->body_cap ? "the body is larger than this takes" : "this takes no body");
    }
    if (!call->refused && call->route->upload) {
        call->upload = call->route->upload->begin(http->server, call, &call->refusal);
        call->refused = !call->upload;
    }
    bool collects = !call->refused || (framed && !call->expects_continue && length <= discard_max(call));
    bool unread = !collects && (length > 0 || !framed || call->expects_continue);
    if (unread || esp_call_header(call, "Transfer-Encoding")) esp_call_header_add(call, "Connection", "close"); /* the latter: see framing.c */
    return collects ? MHD_YES : answer_refusal(call);
}

/* Another thread reads the piece; until then nothing more is taken from the connection. */
static void hand_over_piece(esp_call *call) {
    esp_conn_set(call->connection, ESP_CONN_BUSY);
    MHD_suspend_connection(call->connection);
    if (esp_handlers_push_piece(call->http, call)) return;
    refuse(call, ESP_BUSY, "too many requests are waiting");
    esp_call_piece_done(call);
}

esp_code esp_call_piece(esp_call *call) {
    if (call->refused || call->body.len == 0) return ESP_OK;
    call->refused = call->route->upload->chunk(call->upload, call->body.data, call->body.len, &call->refusal) != ESP_OK;
    esp_buf_clear(&call->body);
    return call->refused ? call->refusal.code : ESP_OK;
}

void esp_call_piece_done(esp_call *call) {
    esp_conn_set(call->connection, ESP_CONN_BODY);
    MHD_resume_connection(call->connection);
}

static enum MHD_Result on_body(esp_call *call, const char *bytes, size_t len) {
    call->received += len;
    esp_conn_progress(call->connection, len);
    if (!call->refused && call->received > call->route->body_cap) {
        refuse(call, ESP_TOO_LARGE, call->route->body_cap ? "the body is larger than this takes" : "this takes no body");
    } else if (!call->refused) {
        esp_buf_put(&call->body, bytes, len);
        if (call->body.failed) refuse(call, ESP_NOMEM, "no memory for the body");
    }
    if (!call->refused && call->upload && call->body.len >= ESP_PIECE) {
        hand_over_piece(call);
        return MHD_YES; /* the call is the other thread's now */
    }
    if (!call->refused) return MHD_YES;
    bool enough = call->received > discard_max(call) || esp_clock_now_ns() - call->arrived_ns > ESP_DISCARD_NS;
    return enough ? MHD_NO : MHD_YES;
}

/* ---- running -------------------------------------------------------------------------------------------------------- */

static enum MHD_Result after_inline(esp_call *call) {
    pthread_mutex_lock(&call->lock);
    bool replied = call->state == ESP_CALL_REPLIED;
    if (!replied) {
        assert(call->kept);
        MHD_suspend_connection(call->connection);
        call->state = ESP_CALL_SUSPENDED;
    }
    pthread_mutex_unlock(&call->lock);
    return replied ? esp_call_send(call) : MHD_YES;
}

/* The request is all there. */
static enum MHD_Result on_complete(esp_call *call) {
    esp_conn_set(call->connection, ESP_CONN_BUSY);
    if (call->refused) return answer_refusal(call);
    atomic_fetch_add(&call->refs, 1); /* the handler's */
    call->state = ESP_CALL_RUNNING;
    if (call->route->flags & ESP_ROUTE_INLINE) {
        call->route->run(call->http->server, call);
        return after_inline(call);
    }
    if (call->route->at_once && call->route->at_once(call->http->server, call)) return after_inline(call);
    pthread_mutex_lock(&call->lock);
    MHD_suspend_connection(call->connection);
    call->state = ESP_CALL_SUSPENDED;
    pthread_mutex_unlock(&call->lock);
    if (!esp_handlers_push(call->http, call)) {
        esp_error error = {0};
        esp_fail(&error, ESP_BUSY, "too many requests are waiting");
        esp_call_reply_error(call, &error);
    }
    return MHD_YES;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                  const char *bytes, size_t *len, void **context) {
    esp_call *call = *context;
    if (!call) return on_headers(user, connection, url, method, version, context);
    pthread_mutex_lock(&call->lock);
    esp_call_state state = call->state;
    pthread_mutex_unlock(&call->lock);
    if (state == ESP_CALL_REPLIED) return esp_call_send(call);
    assert(state == ESP_CALL_COLLECTING);
    if (*len == 0) return on_complete(call);
    enum MHD_Result result = on_body(call, bytes, *len);
    *len = 0;
    return result;
}

static void log_access(const esp_call *call, struct MHD_Connection *connection, double seconds, bool cut) {
    esp_access access = {
        .request_id = call->request_id,
        .method = call->method,
        .path = call->path,
        .route = call->route ? call->route->pattern : NULL,
        .token = call->token.name,
        .status = call->status,
        .bytes_in = call->received,
        .bytes_out = call->sent,
        .ms = seconds * 1e3,
        .cut = cut,
    };
    esp_conn_address(connection, access.address);
    esp_access_log(&access);
}

/* The reply has been sent, or the client has gone: MHD lets go of the call. */
static void on_completed(void *user, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode how) {
    (void)user;
    esp_call *call = *context;
    *context = NULL;
    esp_conn_set_call(connection, NULL);
    esp_conn_set(connection, ESP_CONN_HEADERS);
    if (!call) return;
    if (call->response) MHD_destroy_response(call->response);
    call->response = NULL;
    double seconds = esp_clock_seconds_since(call->arrived_ns);
    esp_metric_http(call->route ? (int)(call->route - esp_routes) : -1, call->status, seconds);
    log_access(call, connection, seconds, how != MHD_REQUEST_TERMINATED_COMPLETED_OK);
    esp_call_unref(call);
}

/* ---- MHD's odds and ends -------------------------------------------------------------------------------------------- */

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The request target, as it was sent. */
static void *on_target(void *user, const char *target, struct MHD_Connection *connection) {
    (void)user;
    esp_target *kept = esp_conn_target(connection);
    if (kept) esp_target_note(kept, target);
    return NULL; /* the request's context: none yet */
}

/* Percent-decoding in place. %00 and what is not an escape stay as they are: a text with a NUL inside would be cut. */
static size_t on_unescape(void *user, struct MHD_Connection *connection, char *text) {
    (void)user, (void)connection;
    char *out = text;
    for (const char *in = text; *in; in++) {
        int high = *in == '%' ? hex(in[1]) : -1;
        int low = high >= 0 ? hex(in[2]) : -1;
        if (low >= 0 && (high | low)) {
            *out++ = (char)(high << 4 | low);
            in += 2;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
    return (size_t)(out - text);
}

static void on_log(void *user, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void on_log(void *user, const char *format, va_list args) {
    (void)user;
    char text[256];
    vsnprintf(text, sizeof text, format, args);
    esp_log(ESP_LOG_DEBUG, "mhd", "text=\"%s\"", text);
}

/* ---- start and stop ------------------------------------------------------------------------------------------------- */

typedef union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address;

/* Loopback only, as long as there are no tokens: whoever may reach the port may do everything. */
static esp_code parse_host(const char *host, int port, bool tokens, address *ret_address, esp_error *reterr) {
    address a;
    memset(&a, 0, sizeof a);
    const char *text = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    bool loopback;
    if (inet_pton(AF_INET, text, &a.v4.sin_addr) == 1) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons((uint16_t)port);
        loopback = ntohl(a.v4.sin_addr.s_addr) >> 24 == 127;
    } else if (inet_pton(AF_INET6, text, &a.v6.sin6_addr) == 1) {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons((uint16_t)port);
        loopback = IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr);
    } else {
        return esp_fail_at(reterr, ESP_INVALID, "listen", "'%.100s' is not an IPv4 or IPv6 address", host);
    }
    if (!loopback && !tokens) {
        return esp_fail_at(reterr, ESP_FORBIDDEN, "listen",
                           "refusing to listen on %.100s: no tokens are configured, so only a loopback address is safe (espalierd token create)",
                           host);
    }
    *ret_address = a;
    return ESP_OK;
}

/* The kernel is given no more than this ahead: a client that does not read holds little memory, and one that reads slowly but well enough
 * is seen to (MHD's idle timeout starts anew whenever some can be written). */
enum { UNSENT = 16 << 10 };

static esp_code open_socket(const address *a, int *ret_fd, int *ret_port, esp_error *reterr) {
    address bound;
    socklen_t len = a->any.sa_family == AF_INET ? sizeof a->v4 : sizeof a->v6, bound_len = sizeof bound;
    int yes = 1, unsent = UNSENT;
    int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return esp_fail_errno(reterr, ESP_IO, "make a socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent); /* the connections have it from here */
    if (bind(fd, &a->any, len) != 0 || listen(fd, 1024) != 0 || getsockname(fd, &bound.any, &bound_len) != 0) {
        esp_code code = esp_fail_errno(reterr, ESP_IO, "listen on port %d", ntohs(a->v4.sin_port));
        close(fd);
        return code;
    }
    *ret_fd = fd;
    *ret_port = ntohs(bound.any.sa_family == AF_INET ? bound.v4.sin_port : bound.v6.sin6_port);
    return ESP_OK;
}

static esp_code start_mhd(esp_http *http, const address *a, int fd, esp_error *reterr) {
    const esp_config *config = &http->server->config;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    if (a->any.sa_family == AF_INET6) flags |= MHD_USE_IPv6;
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, http}, /* first, for the others' complaints */
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, config->connections, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, config->idle_s, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, 32 << 10, NULL},
        /* Strictness is ours (framing.c): MHD's own answer to a request without Host is a page inside its own headers. */
        {MHD_OPTION_STRICT_FOR_CLIENT, 0, NULL},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_target, http},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, http},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)esp_conn_notify, http},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)on_unescape, http},
        /* A pool of one is refused by MHD: without the option there is one thread. */
        {config->http_threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, config->http_threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    esp_ontime_enter(ESP_URGENCY_HTTP); /* for the threads it starts */
    http->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, http, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    esp_ontime_leave();
    return http->daemon ? ESP_OK
                        : esp_fail(reterr, ESP_IO, "the HTTP listener did not start (connections = %d, http_threads = %d)", config->connections,
                                   config->http_threads);
}

esp_code esp_http_start(struct esp_server *server, const char *host, int port, esp_http **ret_http, esp_error *reterr) {
    address a;
    int fd = -1;
    esp_code code = parse_host(host, port, esp_tokens_required(server->tokens), &a, reterr);
    if (code) return code;
    esp_http *http = calloc(1, sizeof *http);
    if (!http) return esp_fail(reterr, ESP_NOMEM, "no memory for the listener");
    http->server = server;
    http->quiesced_fd = -1;
    pthread_mutex_init(&http->lock, NULL);
    esp_ontime_lock_init(&http->conns_lock);
    code = esp_addresses_create(&server->config, &http->addresses, reterr);
    if (!code) code = esp_watch_start(&http->watch, esp_conns_reap, http, reterr);
    if (!code) code = esp_handlers_start(http, server->config.handler_threads, reterr);
    if (!code) code = open_socket(&a, &fd, &http->port, reterr);
    if (!code) code = start_mhd(http, &a, fd, reterr);
    if (code) {
        if (fd >= 0) close(fd);
        esp_http_stop(http);
        return code;
    }
    *ret_http = http;
    return ESP_OK;
}

int esp_http_port(const esp_http *http) {
    return http->port;
}

void esp_http_quiesce(esp_http *http) {
    if (http->quiesced_fd < 0) http->quiesced_fd = MHD_quiesce_daemon(http->daemon);
}

void esp_http_stop(esp_http *http) {
    if (!http) return;
    esp_handlers_stop(http);
    esp_streams_end(http);
    if (http->daemon) MHD_stop_daemon(http->daemon);
    esp_handlers_done(http);
    if (http->quiesced_fd >= 0) close(http->quiesced_fd); /* quiescing made it ours; otherwise MHD has closed it */
    esp_watch_stop(&http->watch);
    esp_addresses_free(http->addresses);
    pthread_mutex_destroy(&http->conns_lock);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
