/* SPDX-License-Identifier: Apache-2.0
 * The tests' HTTP client. */
#include "support/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/schema.h"
#include "support/traffic.h"

/* ---- requests ------------------------------------------------------------------------------------------------------- */

/* One handle per process, so that connections are kept; check forks for each case. A parent's handle is left alone, its
 * connections are the parent's, but stays in the table, so that it is no leak. */
static CURL *handle(void) {
    static struct {
        pid_t owner;
        CURL *curl;
    } handles[8];
    size_t i = 0;
    while (i < 7 && handles[i].curl && handles[i].owner != getpid()) i++;
    if (!handles[i].curl || handles[i].owner != getpid()) handles[i].curl = curl_easy_init();
    handles[i].owner = getpid();
    curl_easy_reset(handles[i].curl);
    return handles[i].curl;
}

static size_t take(char *bytes, size_t size, size_t n, void *user) {
    esp_buf_put(user, bytes, size * n);
    return size * n;
}

typedef struct source {
    const char *bytes;
    size_t left;
} source;

static size_t give(char *out, size_t size, size_t n, void *user) {
    source *s = user;
    size_t len = size * n < s->left ? size * n : s->left;
    memcpy(out, s->bytes, len);
    s->bytes += len;
    s->left -= len;
    return len;
}

static struct curl_slist *header_list(const http_request *request) {
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    if (request->chunked) list = curl_slist_append(list, "Transfer-Encoding: chunked");
    for (const char *const *h = request->headers; h && *h; h++) list = curl_slist_append(list, *h);
    return list;
}

static void set_body(CURL *curl, const http_request *request, source *s) {
    if (!request->body) {
        if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) {
            curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
            curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, 0L);
        }
        return;
    }
    *s = (source){request->body, request->len};
    if (request->chunked) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, give);
        curl_easy_setopt(curl, CURLOPT_READDATA, s);
    } else {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->len);
    }
}

static const char *request_header(const http_request *request, const char *name) {
    size_t len = strlen(name);
    for (const char *const *h = request->headers; h && *h; h++) {
        if (strncasecmp(*h, name, len) == 0 && (*h)[len] == ':') return *h + len + 1 + strspn(*h + len + 1, " ");
    }
    return "";
}

/* Every exchange is held against schema/api/openapi.json, but those with what is no operation at all. */
static void check_schema(const http_request *request, const http_reply *reply) {
    char type[64], why[400] = "";
    http_header(reply, "Content-Type", type, sizeof type);
    if (reply->status == 405 || strstr(reply->body, "there is nothing at")) return;
    const schema_exchange exchange = {
        .method = request->method,
        .path = request->path,
        .request_type = request_header(request, "Content-Type"),
        .request = request->body,
        .request_len = request->len,
        .status = reply->status,
        .type = type,
        .body = reply->body,
        .len = reply->len,
    };
    bool good = schema_check_exchange(&exchange, why, sizeof why);
    ck_assert_msg(good, "%s %s -> %d is not as documented: %s\n%.600s", request->method, request->path, reply->status, why, reply->body);
}

void http_send(const test_daemon *daemon, const http_request *request, http_reply *ret_reply) {
    CURL *curl = handle();
    char url[4096];
    long status = 0;
    source s = {0};
    esp_buf headers = {0}, body = {0};
    struct curl_slist *list = header_list(request);
    snprintf(url, sizeof url, "%s%s", daemon->base, request->path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, request->timeout_ms ? request->timeout_ms : 30000L);
    set_body(curl, request, &s);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    if (strcmp(request->method, "HEAD") == 0) curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &headers);
    CURLcode rc = curl_easy_perform(curl);
    ck_assert_msg(rc == CURLE_OK, "%s %s: %s", request->method, request->path, curl_easy_strerror(rc));
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    memset(ret_reply, 0, sizeof *ret_reply);
    curl_easy_getinfo(curl, CURLINFO_TOTAL_TIME, &ret_reply->seconds);
    curl_slist_free_all(list);
    ret_reply->status = (int)status;
    esp_buf_put(&headers, "", 0);
    esp_buf_put(&body, "", 0);
    esp_buf_text(&headers);
    esp_buf_text(&body);
    ret_reply->headers = headers.len ? esp_buf_take(&headers, NULL) : strdup("");
    ret_reply->len = body.len;
    ret_reply->body = body.len ? esp_buf_take(&body, NULL) : strdup("");
    esp_buf_done(&headers);
    esp_buf_done(&body);
    if (ret_reply->len && esp_json_parse(ret_reply->body, ret_reply->len, &ret_reply->json, NULL)) ret_reply->json = NULL;
    check_schema(request, ret_reply);
}

void http_done(http_reply *reply) {
    free(reply->headers);
    free(reply->body);
    esp_json_free(reply->json);
    memset(reply, 0, sizeof *reply);
}

http_reply http_get(const test_daemon *daemon, const char *path) {
    http_reply reply;
    http_send(daemon, &(http_request){.method = "GET", .path = path}, &reply);
    return reply;
}

http_reply http_delete(const test_daemon *daemon, const char *path) {
    http_reply reply;
    http_send(daemon, &(http_request){.method = "DELETE", .path = path}, &reply);
    return reply;
}

http_reply http_json(const test_daemon *daemon, const char *method, const char *path, const char *json) {
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    http_reply reply;
    http_send(daemon, &(http_request){.method = method, .path = path, .headers = headers, .body = json, .len = strlen(json)}, &reply);
    return reply;
}

http_reply http_post(const test_daemon *daemon, const char *path, const char *content_type, const void *body, size_t len) {
    char header[128];
    const char *headers[] = {header, NULL};
    http_reply reply;
    snprintf(header, sizeof header, "Content-Type: %s", content_type);
    http_send(daemon, &(http_request){.method = "POST", .path = path, .headers = headers, .body = body, .len = len}, &reply);
    return reply;
}

const char *http_header(const http_reply *reply, const char *name, char *ret, size_t room) {
    size_t len = strlen(name);
    ret[0] = '\0';
    for (const char *line = reply->headers; line && *line;) {
        const char *end = strstr(line, "\r\n");
        if (!end) break;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            const char *value = line + len + 1;
            value += strspn(value, " ");
            snprintf(ret, room, "%.*s", (int)(end - value), value);
        }
        line = end + 2;
    }
    return ret;
}

/* ---- replies -------------------------------------------------------------------------------------------------------- */

static esp_reader at(const http_reply *reply, const char *pointer) {
    esp_reader value = esp_reader_root(reply->json);
    char key[256];
    while (value.value && *pointer == '/') {
        size_t len = strcspn(++pointer, "/");
        snprintf(key, sizeof key, "%.*s", (int)len, pointer);
        pointer += len;
        size_t n = 0;
        if (esp_reader_kind(&value) == ESP_JSON_OBJECT) {
            value = esp_read_member(&value, key);
        } else if (esp_reader_kind(&value) == ESP_JSON_ARRAY && !esp_read_array(&value, 0, SIZE_MAX, &n, NULL) && strtoul(key, NULL, 10) < n) {
            value = esp_read_element(&value, strtoul(key, NULL, 10));
        } else {
            value.value = NULL;
        }
        value.parent = NULL; /* what it points at is overwritten */
    }
    return value;
}

bool reply_has(const http_reply *reply, const char *pointer) {
    esp_reader value = at(reply, pointer);
    return value.value && esp_reader_kind(&value) != ESP_JSON_NULL;
}

const char *reply_text(const http_reply *reply, const char *pointer) {
    esp_reader value = at(reply, pointer);
    const char *text = NULL;
    bool good = value.value && esp_read_string(&value, SIZE_MAX, &text, NULL) == ESP_OK;
    ck_assert_msg(good, "no text at %s of %.600s", pointer, reply->body);
    return text;
}

double reply_number(const http_reply *reply, const char *pointer) {
    esp_reader value = at(reply, pointer);
    double number = 0;
    bool good = value.value && esp_read_number(&value, -1e300, 1e300, &number, NULL) == ESP_OK;
    ck_assert_msg(good, "no number at %s of %.600s", pointer, reply->body);
    return number;
}

size_t reply_count(const http_reply *reply, const char *pointer) {
    esp_reader value = at(reply, pointer);
    size_t n = 0;
    bool good = value.value && esp_read_array(&value, 0, SIZE_MAX, &n, NULL) == ESP_OK;
    ck_assert_msg(good, "no array at %s of %.600s", pointer, reply->body);
    return n;
}

void expect_problem(const http_reply *reply, int status, const char *code, const char *pointer) {
    char type[64];
    ck_assert_msg(reply->status == status, "status %d, not %d: %.600s", reply->status, status, reply->body);
    ck_assert_str_eq(http_header(reply, "Content-Type", type, sizeof type), "application/problem+json");
    ck_assert_str_eq(reply_text(reply, "/code"), code);
    ck_assert_int_eq((int)reply_number(reply, "/status"), status);
    ck_assert(strlen(reply_text(reply, "/type")) > 0 && strlen(reply_text(reply, "/title")) > 0 && strlen(reply_text(reply, "/detail")) > 0);
    ck_assert(strlen(reply_text(reply, "/request_id")) > 0);
    if (pointer) ck_assert_str_eq(reply_text(reply, "/errors/0/pointer"), pointer);
}

/* ---- raw ------------------------------------------------------------------------------------------------------------ */

/* What was sent at first on each connection, until the reply is read and the two are held against the description. */
enum { RAW_MAX = 1024 };
static esp_buf raw_sent[RAW_MAX];

static void check_raw(int fd, const char *text, size_t got, bool all) {
    char why[400] = "";
    if (fd < RAW_MAX && all) {
        bool good = traffic_check(raw_sent[fd].data, raw_sent[fd].len, text, got, why, sizeof why);
        ck_assert_msg(good, "not as documented: %s\n%.300s\n-> %.600s", why, esp_buf_text(&raw_sent[fd]), text);
    }
    if (fd < RAW_MAX) esp_buf_done(&raw_sent[fd]);
}

int http_raw_send(const test_daemon *daemon, const char *bytes, size_t len, bool half) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)daemon->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    for (size_t done = 0; done < len;) {
        ssize_t n = send(fd, bytes + done, len - done, MSG_NOSIGNAL);
        if (n <= 0) break; /* it has closed: what it said is still to be read */
        done += (size_t)n;
    }
    if (half) shutdown(fd, SHUT_WR);
    if (fd < RAW_MAX) esp_buf_done(&raw_sent[fd]);
    if (fd < RAW_MAX) esp_buf_put(&raw_sent[fd], bytes, len);
    return fd;
}

size_t http_raw_read(int fd, char *ret_text, size_t room) {
    size_t got = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (got + 1 < room && poll(&p, 1, 5000) == 1) {
        ssize_t n = recv(fd, ret_text + got, room - 1 - got, 0);
        if (n <= 0) break;
        got += (size_t)n;
    }
    ret_text[got] = '\0';
    close(fd);
    check_raw(fd, ret_text, got, got + 1 < room);
    return got;
}

int http_raw(const test_daemon *daemon, const char *bytes, size_t len, char *ret_text, size_t room) {
    int status = 0;
    http_raw_read(http_raw_send(daemon, bytes, len, false), ret_text, room);
    return sscanf(ret_text, "HTTP/1.%*d %d", &status) == 1 ? status : 0;
}

double http_metric(const test_daemon *daemon, const char *name) {
    http_reply reply = http_get(daemon, "/metrics");
    char line[128];
    snprintf(line, sizeof line, "\nespalier_%s ", name);
    const char *at = strstr(reply.body, line);
    ck_assert_msg(at != NULL, "no metric %s", name);
    double value = strtod(at + strlen(line), NULL);
    http_done(&reply);
    return value;
}

void http_await_metric(const test_daemon *daemon, const char *name, double value) {
    for (int turn = 0; turn < 1000 && http_metric(daemon, name) != value; turn++) usleep(5000);
    ck_assert_double_eq(http_metric(daemon, name), value);
}
