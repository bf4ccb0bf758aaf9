/* SPDX-License-Identifier: Apache-2.0
 * The table of open connections, for what MHD does not see: a client that went in the middle of a request (its epoll
 * mode may miss an end that comes together with data), and one that feeds a request so slowly that no pause is long
 * enough for the idle timeout.
 *
 * Such a socket is shut down, not closed: MHD then finds its end and cleans up by its own rules. A client that ends its
 * sending side early but still wants its answer gets it: nothing is shut down while a request runs, and one that has
 * just arrived has time to be seen. */
#include "http/call.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "metrics.h"
#include "server.h"

#define GONE_NS (300 * ESP_NS_PER_MS)

struct esp_conn {
    esp_http *http;
    int fd;
    uint64_t watch_id;
    esp_conn_phase phase;
    int64_t since_ns; /* of the phase */
    int64_t gone_ns; /* the client has ended its side; 0 = not yet */
    esp_conn *next, **prev;
};

static void conn_hangup(void *user) {
    esp_conn *conn = user;
    pthread_mutex_lock(&conn->http->conns_lock);
    conn->gone_ns = esp_clock_now_ns();
    pthread_mutex_unlock(&conn->http->conns_lock);
}

static void conn_open(esp_http *http, struct MHD_Connection *connection, void **context) {
    esp_metric_add(ESP_METRIC_CONNECTIONS, 1);
    esp_conn *conn = *context = calloc(1, sizeof *conn);
    if (!conn) return; /* then MHD's idle timeout is all there is */
    conn->http = http;
    conn->fd = esp_connection_fd(connection);
    conn->since_ns = esp_clock_now_ns();
    pthread_mutex_lock(&http->conns_lock);
    conn->next = http->conns;
    conn->prev = &http->conns;
    if (http->conns) http->conns->prev = &conn->next;
    http->conns = conn;
    pthread_mutex_unlock(&http->conns_lock);
    conn->watch_id = esp_watch_add(&http->watch, conn->fd, conn_hangup, conn);
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
    free(conn);
}

void esp_conn_notify(void *user, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode code) {
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        conn_open(user, connection, context);
    } else {
        conn_close(user, context);
    }
}

void esp_conn_set(struct MHD_Connection *connection, esp_conn_phase phase) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    esp_conn *conn = info ? info->socket_context : NULL;
    if (!conn) return;
    pthread_mutex_lock(&conn->http->conns_lock);
    conn->phase = phase;
    conn->since_ns = esp_clock_now_ns();
    pthread_mutex_unlock(&conn->http->conns_lock);
}

static bool overdue(const esp_conn *conn, int64_t now, int64_t idle_ns) {
    int64_t since = conn->gone_ns > conn->since_ns ? conn->gone_ns : conn->since_ns;
    if (conn->phase == ESP_CONN_BUSY) return false;
    if (conn->gone_ns && now - since > GONE_NS) return true;
    return conn->phase == ESP_CONN_HEADERS && now - conn->since_ns > idle_ns;
}

void esp_conns_reap(void *user) {
    esp_http *http = user;
    int64_t now = esp_clock_now_ns(), idle_ns = (http->server->config.idle_s + 1) * ESP_NS_PER_S;
    pthread_mutex_lock(&http->conns_lock);
    for (esp_conn *conn = http->conns; conn; conn = conn->next) {
        if (overdue(conn, now, idle_ns)) shutdown(conn->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&http->conns_lock);
}
