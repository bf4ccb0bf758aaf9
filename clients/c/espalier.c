/* SPDX-License-Identifier: Apache-2.0
 * The C client: connection, requests, uploads, errors (espalier.h). Waiting for jobs is in job.c. */
#include "c/espalier.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "c/private.h"

#define REPLY_CAP ((size_t)256 << 20)

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static void start_curl(void) {
    curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

esp_client_code esp_client_fail(esp_client_error *reterr, esp_client_code code, const char *format, ...) {
    if (reterr == NULL) return code;
    memset(reterr, 0, sizeof *reterr);
    reterr->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(reterr->message, sizeof reterr->message, format, args);
    va_end(args);
    return code;
}

esp_client_code esp_client_open(const char *url, const char *token, esp_client **ret_client, esp_client_error *reterr) {
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
        return esp_client_fail(reterr, ESP_CLIENT_FORMAT, "%s is not an http:// or https:// address", url);
    pthread_once(&curl_once, start_curl);
    esp_client *client = curl_ready == CURLE_OK ? calloc(1, sizeof *client) : NULL;
    if (client == NULL) return esp_client_fail(reterr, ESP_CLIENT_NOMEM, "no memory for a client");
    client->curl = curl_easy_init();
    client->url = strdup(url);
    bool complete = client->curl != NULL && client->url != NULL;
    if (complete && token != NULL) complete = asprintf(&client->authorization, "Authorization: Bearer %s", token) >= 0;
    if (!complete) {
        esp_client_close(client);
        return esp_client_fail(reterr, ESP_CLIENT_NOMEM, "no memory for a client");
    }
    size_t len = strlen(client->url);
    while (len > 0 && client->url[len - 1] == '/') client->url[--len] = '\0';
    *ret_client = client;
    return ESP_CLIENT_OK;
}

void esp_client_close(esp_client *client) {
    if (client == NULL) return;
    curl_easy_cleanup(client->curl);
    free(client->url);
    free(client->authorization);
    free(client);
}

double esp_client_last_ms(const esp_client *client) {
    return client->last_ms;
}

/* ---- one transfer ------------------------------------------------------------------------------------------------ */

static bool collect(esp_transfer *transfer, const char *bytes, size_t n) {
    if (transfer->reply_len + n + 1 > REPLY_CAP) return false;
    if (transfer->reply_len + n + 1 > transfer->reply_cap) {
        size_t want = 2 * (transfer->reply_len + n + 1);
        char *grown = realloc(transfer->reply, want);
        if (grown == NULL) return false;
        transfer->reply = grown;
        transfer->reply_cap = want;
    }
    memcpy(transfer->reply + transfer->reply_len, bytes, n);
    transfer->reply_len += n;
    transfer->reply[transfer->reply_len] = '\0';
    return true;
}

static size_t on_write(char *bytes, size_t size, size_t count, void *user) {
    (void)size; /* always 1 */
    void **pair = user;
    esp_client *client = pair[0];
    esp_transfer *transfer = pair[1];
    long status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (transfer->on_bytes != NULL && status == 200) {
        transfer->stopped = !transfer->on_bytes(transfer->user, bytes, count);
        return transfer->stopped ? 0 : count;
    }
    transfer->no_memory = !collect(transfer, bytes, count);
    return transfer->no_memory ? 0 : count;
}

static size_t on_read(char *bytes, size_t size, size_t count, void *user) {
    return fread(bytes, size, count, user);
}

static struct curl_slist *add_header(struct curl_slist *headers, const char *name, const char *value, bool *failed) {
    if (value == NULL || *failed) return headers;
    char line[256];
    snprintf(line, sizeof line, "%s%s", name, value);
    struct curl_slist *longer = curl_slist_append(headers, line);
    if (longer == NULL) *failed = true;
    return longer != NULL ? longer : headers;
}

static void set_body(CURL *curl, const esp_transfer *transfer) {
    if (transfer->file != NULL) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, transfer->file);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)transfer->body_len);
    } else if (transfer->body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, transfer->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)transfer->body_len);
    } else if (strcmp(transfer->method, "POST") == 0 || strcmp(transfer->method, "PUT") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, transfer->method);
}

static esp_client_code transfer_error(const esp_client *client, const esp_transfer *transfer, CURLcode code, const char *words,
                                      esp_client_error *reterr) {
    if (transfer->no_memory) return esp_client_fail(reterr, ESP_CLIENT_NOMEM, "%s %s: no memory for the reply", transfer->method, transfer->path);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return esp_client_fail(reterr, ESP_CLIENT_TIMEOUT, "%s %s: no reply within %d ms", transfer->method, transfer->path, transfer->timeout_ms);
    return esp_client_fail(reterr, ESP_CLIENT_NETWORK, "%s %s%s: %s", transfer->method, client->url, transfer->path,
                           words[0] != '\0' ? words : curl_easy_strerror(code));
}

esp_client_code esp_transfer_run(esp_client *client, esp_transfer *transfer, esp_client_error *reterr) {
    char url[1024], words[CURL_ERROR_SIZE] = "";
    snprintf(url, sizeof url, "%s%s", client->url, transfer->path);
    bool failed = false;
    struct curl_slist *headers = add_header(NULL, "Accept: ", transfer->accept, &failed);
    headers = add_header(headers, "Content-Type: ", transfer->content_type, &failed);
    headers = add_header(headers, "", transfer->header, &failed);
    headers = add_header(headers, "", client->authorization, &failed);
    headers = add_header(headers, "Expect:", "", &failed); /* the body goes at once */
    if (failed) {
        curl_slist_free_all(headers);
        return esp_client_fail(reterr, ESP_CLIENT_NOMEM, "no memory for a request");
    }
    void *pair[2] = {client, transfer};
    curl_easy_reset(client->curl); /* options go, the connection stays */
    curl_easy_setopt(client->curl, CURLOPT_URL, url);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client->curl, CURLOPT_TIMEOUT_MS, (long)transfer->timeout_ms);
    curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, words);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, (void *)pair);
    set_body(client->curl, transfer);
    CURLcode code = curl_easy_perform(client->curl);
    double seconds = 0.0;
    curl_easy_getinfo(client->curl, CURLINFO_TOTAL_TIME, &seconds);
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &transfer->status);
    client->last_ms = 1e3 * seconds;
    curl_slist_free_all(headers);
    if (code != CURLE_OK && !transfer->stopped) return transfer_error(client, transfer, code, words, reterr);
    return ESP_CLIENT_OK;
}

/* ---- replies ----------------------------------------------------------------------------------------------------- */

static void copy_string(char *to, size_t cap, const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    if (text != NULL) snprintf(to, cap, "%s", text);
}

static void add_text(char *message, size_t cap, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add_text(char *message, size_t cap, const char *format, ...) {
    size_t len = strlen(message);
    va_list args;
    va_start(args, format);
    vsnprintf(message + len, cap - len, format, args);
    va_end(args);
}

void esp_client_read_problem(long status, const char *body, size_t len, esp_client_error *ret_error) {
    memset(ret_error, 0, sizeof *ret_error);
    ret_error->code = ESP_CLIENT_REFUSED;
    ret_error->status = status;
    json_t *problem = body != NULL ? json_loadb(body, len, 0, NULL) : NULL;
    const size_t cap = sizeof ret_error->message;
    copy_string(ret_error->name, sizeof ret_error->name, problem, "code");
    copy_string(ret_error->request_id, sizeof ret_error->request_id, problem, "request_id");
    copy_string(ret_error->message, cap, problem, "title");
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    if (detail != NULL) add_text(ret_error->message, cap, "%s%s", ret_error->message[0] != '\0' ? ": " : "", detail);
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(problem, "errors"), i, item) {
        const char *pointer = json_string_value(json_object_get(item, "pointer")), *what = json_string_value(json_object_get(item, "detail"));
        add_text(ret_error->message, cap, "%s%s: %s", i == 0 ? " [" : "; ", pointer != NULL ? pointer : "?", what != NULL ? what : "?");
    }
    if (i > 0) add_text(ret_error->message, cap, "]");
    if (ret_error->message[0] == '\0') add_text(ret_error->message, cap, "HTTP status %ld", status);
    json_decref(problem);
}

/* The reply as JSON, or the problem it is. */
static esp_client_code read_reply(const esp_transfer *transfer, json_t **ret_reply, esp_client_error *reterr) {
    if (transfer->status < 200 || transfer->status > 299) {
        esp_client_error problem;
        esp_client_read_problem(transfer->status, transfer->reply, transfer->reply_len, &problem);
        if (reterr != NULL) *reterr = problem;
        return ESP_CLIENT_REFUSED;
    }
    json_error_t where;
    json_t *reply = transfer->reply_len == 0 ? json_null() : json_loadb(transfer->reply, transfer->reply_len, JSON_REJECT_DUPLICATES, &where);
    if (reply == NULL)
        return esp_client_fail(reterr, ESP_CLIENT_FORMAT, "%s %s: the reply is not JSON: %s", transfer->method, transfer->path, where.text);
    if (ret_reply != NULL)
        *ret_reply = reply;
    else
        json_decref(reply);
    return ESP_CLIENT_OK;
}

esp_client_code esp_client_call(esp_client *client, const char *method, const char *path, const json_t *body, int timeout_ms, json_t **ret_reply,
                                esp_client_error *reterr) {
    esp_transfer transfer = {.method = method, .path = path, .accept = "application/json", .timeout_ms = timeout_ms};
    char *text = NULL;
    if (body != NULL) {
        text = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(17));
        if (text == NULL) return esp_client_fail(reterr, ESP_CLIENT_NOMEM, "%s %s: the body cannot be written as JSON", method, path);
        transfer.body = text;
        transfer.body_len = strlen(text);
        transfer.content_type = "application/json";
    }
    esp_client_code code = esp_transfer_run(client, &transfer, reterr);
    if (code == ESP_CLIENT_OK) code = read_reply(&transfer, ret_reply, reterr);
    free(transfer.reply);
    free(text);
    return code;
}

esp_client_code esp_client_upload(esp_client *client, const char *path, const char *content_type, const char *file, int timeout_ms,
                                  json_t **ret_reply, esp_client_error *reterr) {
    esp_transfer transfer = {.method = "POST",
                             .path = path,
                             .accept = "application/json",
                             .content_type = content_type,
                             .timeout_ms = timeout_ms,
                             .file = fopen(file, "rb")};
    long len = -1;
    if (transfer.file != NULL && fseek(transfer.file, 0, SEEK_END) == 0) len = ftell(transfer.file);
    esp_client_code code;
    if (len < 0) {
        code = esp_client_fail(reterr, ESP_CLIENT_FILE, "%s cannot be read", file);
    } else {
        rewind(transfer.file);
        transfer.body_len = (size_t)len;
        code = esp_transfer_run(client, &transfer, reterr);
        if (code == ESP_CLIENT_OK) code = read_reply(&transfer, ret_reply, reterr);
    }
    if (transfer.file != NULL) fclose(transfer.file);
    free(transfer.reply);
    return code;
}
