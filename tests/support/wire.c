/* SPDX-License-Identifier: Apache-2.0
 * HTTP on a bare socket (wire.h). */
#include "support/wire.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "support/traffic.h"

int wire_dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

static bool send_all(int fd, const char *bytes, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = send(fd, bytes + done, len - done, MSG_NOSIGNAL);
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

/* Bytes of the reply in all, once its head is there; 0 before, SIZE_MAX when only its end will tell. */
static size_t whole(const char *text, const char **ret_body) {
    const char *end = strstr(text, "\r\n\r\n");
    if (!end) return 0;
    *ret_body = end + 4;
    if (strncmp(text, "HTTP/1.1 204", 12) == 0) return (size_t)(end + 4 - text);
    const char *length = strcasestr(text, "\r\nContent-Length:");
    if (!length || length > end) return SIZE_MAX;
    return (size_t)(end + 4 - text) + strtoull(length + 17, NULL, 10);
}

bool wire_checks;

/* Ends the process when it is not as documented: this may be a thread or a child of the test. */
static void check(const char *head, size_t n, const wire_request *request, const char *got, size_t len) {
    char why[400] = "";
    esp_buf sent = {0};
    esp_buf_put(&sent, head, n);
    if (request->body) esp_buf_put(&sent, request->body, request->len);
    if (!traffic_check(sent.data, sent.len, got, len, why, sizeof why)) {
        fprintf(stderr, "not as documented: %s\n%.600s\n-> %.600s\n", why, esp_buf_text(&sent), got);
        abort();
    }
    esp_buf_done(&sent);
}

int wire_call(int fd, const wire_request *request, char *ret, size_t room, const char **ret_body) {
    char head[2048];
    int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s", request->method, request->path,
                     request->headers ? request->headers : "");
    if (n < 0 || (size_t)n + 64 >= sizeof head) return 0;
    n += request->body ? snprintf(head + n, sizeof head - (size_t)n, "Content-Length: %zu\r\n\r\n", request->len)
                       : snprintf(head + n, sizeof head - (size_t)n, "\r\n");
    if (!send_all(fd, head, (size_t)n) || (request->body && !send_all(fd, request->body, request->len))) return 0;
    size_t got = 0, wanted = 0;
    while (!wanted || got < wanted) {
        ssize_t more = got + 1 < room ? recv(fd, ret + got, room - 1 - got, 0) : -1;
        if (more == 0 && wanted == SIZE_MAX) break;
        if (more <= 0) return 0;
        got += (size_t)more;
        ret[got] = '\0';
        if (!wanted) wanted = whole(ret, ret_body);
    }
    if (wire_checks) check(head, (size_t)n, request, ret, got);
    return strncmp(ret, "HTTP/1.1 ", 9) == 0 ? atoi(ret + 9) : 0;
}
