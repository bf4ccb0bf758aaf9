/* SPDX-License-Identifier: Apache-2.0
 * The table of open connections, for what MHD does not see: a client that went in the middle of a request (its epoll
 * mode may miss an end that comes together with data), and one that feeds a request so slowly that no pause is long
 * enough for the idle timeout, or reads its reply so; and for what one address may have (address.c).
 *
 * Such a socket is shut down, not closed: MHD then finds its end and cleans up by its own rules. A client that ends its
 * sending side early but still wants its answer gets it: nothing is shut down while a request runs, and one that has
 * just arrived has time to be seen. */
#include "http/call.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "metrics.h"
#include "server.h"

#define GONE_NS (300 * ESP_NS_PER_MS)
enum { BODY_RATE = 1024 }; /* bytes a second, on average over idle_s: a body that comes or is taken slower is not waited for */

struct esp_conn {
    esp_http *http;
    int fd;
    uint64_t watch_id;
    esp_conn_phase phase;
    int64_t since_ns; /* of the phase; in a body and a reply, of what is counted from `bytes` on */
    uint64_t bytes; /* of a body: come since then; of a reply: what the client had taken by then */
    bool behind; /* of a reply: since then there was always some that the client had not taken */
    esp_target target;
    esp_call *call; /* the event thread's */
    esp_address *address; /* NULL: it has too many */
    int64_t gone_ns; /* the client has ended its side; 0 = not yet */
    bool cut; /* shut down here */
    esp_conn *next, **prev;
};

static void conn_hangup(void *user) {
    esp_conn *conn = user;
    pthread_mutex_lock(&conn->http->conns_lock);
    conn->gone_ns = esp_clock_now_ns();
    pthread_mutex_unlock(&conn->http->conns_lock);
}

static const struct sockaddr *address_of(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info ? info->client_addr : NULL;
}

void esp_conn_address(struct MHD_Connection *connection, char ret_text[48]) {
    const struct sockaddr *from = address_of(connection);
    const void *v4 = from && from->sa_family == AF_INET ? &((const struct sockaddr_in *)(const void *)from)->sin_addr : NULL;
    const void *v6 = from && from->sa_family == AF_INET6 ? &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr : NULL;
    if ((!v4 && !v6) || !inet_ntop(from->sa_family, v4 ? v4 : v6, ret_text, 48)) snprintf(ret_text, 48, "?");
}

static void conn_open(esp_http *http, struct MHD_Connection *connection, void **context) {
    esp_metric_add(ESP_METRIC_CONNECTIONS, 1);
    esp_conn *conn = *context = calloc(1, sizeof *conn);
    if (!conn) return; /* then MHD's idle timeout is all there is */
    conn->http = http;
    conn->fd = esp_connection_fd(connection);
    conn->since_ns = esp_clock_now_ns();
    const struct sockaddr *from = address_of(connection);
    if (from && !(conn->address = esp_address_open(http->addresses, from))) shutdown(conn->fd, SHUT_RDWR);
    pthread_mutex_lock(&http->conns_lock);
    conn->next = http->conns;
    conn->prev = &http->conns;
    if (http->conns) http->conns->prev = &conn->next;
    http->conns = conn;
    pthread_mutex_unlock(&http->conns_lock);
    conn->watch_id = esp_watch_add(&http->watch, conn->fd, true, conn_hangup, conn);
}

/* Before MHD closes the socket, so that its number cannot mean another connection yet. */
static void conn_close(esp_http *http, void **context) {
    esp_conn *conn = *context;
    *context = NULL;
    esp_metric_add(ESP_METRIC_CONNECTIONS, -1);
    if (!conn) return;
    esp_watch_remove(&http->watch, conn->watch_id);
    pthread_mutex_lock(&http->conns_lock);
    *conn->prev = conn->next;
    if (conn->next) conn->next->prev = conn->prev;
    pthread_mutex_unlock(&http->conns_lock);
    if (conn->address) esp_address_close(http->addresses, conn->address);
    free(conn);
}

void esp_conn_notify(void *user, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode code) {
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        conn_open(user, connection, context);
    } else {
        conn_close(user, context);
    }
}

static esp_conn *conn_of(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

esp_target *esp_conn_target(struct MHD_Connection *connection) {
    esp_conn *conn = conn_of(connection);
    return conn ? &conn->target : NULL;
}

void esp_conn_set(struct MHD_Connection *connection, esp_conn_phase phase) {
    esp_conn *conn = conn_of(connection);
    if (!conn) return;
    pthread_mutex_lock(&conn->http->conns_lock);
    conn->phase = phase;
    conn->since_ns = esp_clock_now_ns();
    conn->bytes = 0;
    conn->behind = false;
    pthread_mutex_unlock(&conn->http->conns_lock);
}

void esp_conn_progress(struct MHD_Connection *connection, size_t bytes) {
    esp_conn *conn = conn_of(connection);
    if (!conn) return;
    pthread_mutex_lock(&conn->http->conns_lock);
    conn->bytes += bytes;
    pthread_mutex_unlock(&conn->http->conns_lock);
}

void esp_conn_set_call(struct MHD_Connection *connection, esp_call *call) {
    esp_conn *conn = conn_of(connection);
    if (conn) conn->call = call;
}

esp_call *esp_conn_call(struct MHD_Connection *connection) {
    const esp_conn *conn = conn_of(connection);
    return conn ? conn->call : NULL;
}

bool esp_conn_admit(struct MHD_Connection *connection) {
    esp_conn *conn = conn_of(connection);
    return !conn || !conn->address || esp_address_draw(conn->http->addresses, conn->address);
}

/* A body has come too slowly for idle_s; when it has not, the count begins anew. */
static bool drips(esp_conn *conn, int64_t now, int64_t idle_ns) {
    if (now - conn->since_ns < idle_ns) return false;
    bool slow = (double)conn->bytes < (double)(now - conn->since_ns) * 1e-9 * BODY_RATE;
    conn->since_ns = now;
    conn->bytes = 0;
    return slow;
}

/* What the client's side has acknowledged of all that was ever sent to it; 0 when the kernel does not say. */
static uint64_t taken(const esp_conn *conn) {
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    return getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_bytes_acked : 0;
}

/* A reply is taken too slowly. A client that has taken all there is waits for us, and the count begins anew. */
static bool sips(esp_conn *conn, int64_t now, int64_t idle_ns) {
    int waiting = 0;
    if (ioctl(conn->fd, SIOCOUTQ, &waiting) != 0 || waiting == 0) {
        conn->behind = false;
        return false;
    }
    if (!conn->behind) {
        conn->behind = true;
        conn->since_ns = now;
        conn->bytes = taken(conn);
    }
    if (now - conn->since_ns < idle_ns) return false;
    conn->behind = false;
    return (double)(taken(conn) - conn->bytes) < (double)(now - conn->since_ns) * 1e-9 * BODY_RATE;
}

static bool is_gone(const esp_conn *conn, int64_t now) {
    int64_t since = conn->gone_ns > conn->since_ns ? conn->gone_ns : conn->since_ns;
    return conn->phase != ESP_CONN_BUSY && conn->gone_ns && now - since > GONE_NS;
}

static bool is_slow(esp_conn *conn, int64_t now, int64_t idle_ns) {
    if (conn->phase == ESP_CONN_BUSY) return sips(conn, now, idle_ns);
    if (conn->phase == ESP_CONN_BODY) return drips(conn, now, idle_ns);
    return now - conn->since_ns > idle_ns;
}

static void reap(esp_conn *conn, int64_t now, int64_t idle_ns) {
    bool gone = is_gone(conn, now);
    if (conn->cut || (!gone && !is_slow(conn, now, idle_ns))) return;
    conn->cut = true;
    if (!gone) esp_metric_add(ESP_METRIC_CUT_HEADERS + conn->phase, 1); /* one counter a phase, in their order */
    shutdown(conn->fd, SHUT_RDWR);
}

void esp_conns_reap(void *user) {
    esp_http *http = user;
    int64_t now = esp_clock_now_ns(), idle_ns = (http->server->config.idle_s + 1) * ESP_NS_PER_S;
    pthread_mutex_lock(&http->conns_lock);
    for (esp_conn *conn = http->conns; conn; conn = conn->next) reap(conn, now, idle_ns);
    pthread_mutex_unlock(&http->conns_lock);
    esp_addresses_sweep(http->addresses);
}
