/* SPDX-License-Identifier: Apache-2.0
 * What libmicrohttpd refuses by itself - a request line or head that is too long, a Content-Length that is none, chunks that are none,
 * another version of HTTP - said as everything else is refused.
 *
 * Release 0.9.75 answers those with a page of HTML, with its head sent twice when the Content-Length was at fault, and tells nobody. It
 * queues the page with its public MHD_queue_response, which the dynamic linker looks for in the program before the library: so the
 * definition here is what it calls, and our own replies go out by the library's, which comes next. The problem is sent from here, and
 * the library told that it could not queue its page, upon which it closes. A build of the library that binds its own calls keeps its
 * pages; tests/http/test_framing.c shows which it is. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "access_log.h"
#include "http/call.h"
#include "metrics.h"
#include "registry/registry.h"

enum { UNREAD_MAX = 1 << 20 }; /* bytes; what is not read before the end makes the kernel take back what was sent */

typedef enum MHD_Result queue_fn(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response);
static queue_fn *library_queue;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find_library_queue(void) {
    void *found = dlsym(RTLD_NEXT, "MHD_queue_response");
    memcpy(&library_queue, &found, sizeof found); /* ISO C has no cast for it */
}

enum MHD_Result esp_queue(struct MHD_Connection *connection, int status, struct MHD_Response *response) {
    pthread_once(&once, find_library_queue);
    return library_queue ? library_queue(connection, (unsigned)status, response) : MHD_NO;
}

static void explain(unsigned status, esp_error *ret) {
    switch (status) {
    case 413: esp_fail(ret, ESP_TOO_LARGE, "the body says that it has more bytes than can be counted"); break;
    case 414: esp_fail(ret, ESP_URI_TOO_LONG, "the request's first line is too long"); break;
    case 431: esp_fail(ret, ESP_HEADERS_TOO_LARGE, "the request's headers are too long"); break;
    case 500:
    case 503: esp_fail(ret, ESP_NOMEM, "no memory for the request"); break;
    case 505: esp_fail(ret, ESP_HTTP_VERSION, "the version of HTTP must be 1.1 or 1.0"); break;
    default: esp_fail(ret, ESP_INVALID, "the request line, the Content-Length or a chunk of the body is malformed"); break;
    }
}

static void format_reply(const char *request_id, const esp_error *error, esp_buf *out, size_t *ret_body) {
    char date[40];
    struct tm tm;
    time_t now = time(NULL);
    esp_buf body = {0};
    esp_problem_format(request_id, error, &body);
    int status = esp_code_http(error->code);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    esp_buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: application/problem+json\r\nX-Request-Id: %s\r\n", status,
                   MHD_get_reason_phrase_for((unsigned)status), date, request_id);
    esp_buf_printf(out, "Connection: close\r\nContent-Length: %zu\r\n\r\n%s", body.len, esp_buf_text(&body));
    *ret_body = body.len;
    out->failed = out->failed || body.failed;
    esp_buf_done(&body);
}

static void send_and_end(int fd, const esp_buf *reply) {
    char unread[4096];
    ssize_t n = send(fd, reply->data, reply->len, MSG_NOSIGNAL | MSG_DONTWAIT); /* nothing else is on its way: there is room */
    shutdown(fd, SHUT_WR);
    for (size_t read = 0; n > 0 && read < UNREAD_MAX; read += (size_t)n) n = recv(fd, unread, sizeof unread, MSG_DONTWAIT);
}

/* A request that was refused in its body has a call, and is noted when that ends (on_completed). */
static void note(struct MHD_Connection *connection, esp_call *call, const char *request_id, int status, size_t sent) {
    esp_access access = {.request_id = request_id, .method = "", .path = "", .token = "", .status = status, .bytes_out = sent};
    if (call) {
        call->status = status;
        call->sent = sent;
        return;
    }
    esp_metric_http(-1, status, 0);
    esp_conn_address(connection, access.address);
    esp_access_log(&access);
}

/* The library's own refusals only: what this program queues goes through esp_queue. */
enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned status, struct MHD_Response *page) {
    char request_id[ESP_REQUEST_ID_MAX + 1];
    esp_call *call = esp_conn_call(connection);
    esp_error error = {0};
    esp_buf reply = {0};
    size_t body = 0;
    (void)page;
    explain(status, &error);
    if (call)
        strcpy(request_id, call->request_id);
    else
        esp_id_make("req", request_id);
    format_reply(request_id, &error, &reply, &body);
    if (!reply.failed) send_and_end(esp_connection_fd(connection), &reply);
    note(connection, call, request_id, esp_code_http(error.code), body);
    esp_buf_done(&reply);
    return MHD_NO;
}
