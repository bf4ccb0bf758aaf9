/* SPDX-License-Identifier: Apache-2.0
 * The C client against canned replies on a loopback socket: what goes out, what is made of what comes back, how failures are
 * told apart. The service itself is not involved. */
#include <arpa/inet.h>
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "c/espalier.h"
#include "c/events.h"

/* ---- a server that answers from a list --------------------------------------------------------------------------- */

typedef struct canned {
    int listener, port, connections;
    const char *const *reply; /* raw HTTP, one per request; NULL ends; "" = say nothing and keep the line open */
    char request[8][4096];
    int n_requests;
    pthread_t thread;
    esp_client *client;
} canned;

/* Head and body of one request; false when the connection is over. */
static int read_request(int fd, char *text, size_t cap) {
    size_t len = 0, want = 0;
    for (;;) {
        ssize_t n = recv(fd, text + len, cap - 1 - len, 0);
        if (n <= 0) return 0;
        text[len += (size_t)n] = '\0';
        char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "content-length:");
        if (end == NULL) continue;
        want = (size_t)(end + 4 - text) + (length != NULL && length < end ? strtoul(length + 15, NULL, 10) : 0);
        if (len >= want) return 1;
    }
}

static void *serve(void *user) {
    canned *c = user;
    int fd = -1;
    for (const char *const *reply = c->reply; *reply != NULL; reply++) {
        if (fd < 0) {
            fd = accept(c->listener, NULL, NULL);
            c->connections++;
        }
        if (fd < 0 || !read_request(fd, c->request[c->n_requests], sizeof c->request[0])) {
            close(fd);
            fd = -1;
            reply--;
            continue;
        }
        c->n_requests++;
        if (**reply != '\0') (void)!write(fd, *reply, strlen(*reply));
        if (**reply == '\0' || strstr(*reply, "Connection: close") != NULL) {
            if (**reply == '\0') usleep(300000);
            close(fd);
            fd = -1;
        }
    }
    if (fd >= 0) close(fd);
    return NULL;
}

static canned *start(const char *const *replies) {
    canned *c = calloc(1, sizeof *c);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    c->reply = replies;
    c->listener = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(c->listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(c->listener, 4), 0);
    ck_assert_int_eq(getsockname(c->listener, (struct sockaddr *)&address, &len), 0);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(address.sin_port));
    ck_assert_int_eq(esp_client_open(url, "secret", &c->client, NULL), ESP_CLIENT_OK);
    pthread_create(&c->thread, NULL, serve, c);
    return c;
}

static void stop(canned *c) {
    pthread_join(c->thread, NULL);
    esp_client_close(c->client);
    close(c->listener);
    free(c);
}

#define JSON_REPLY(status, length, body) "HTTP/1.1 " status "\r\nContent-Type: application/json\r\nContent-Length: " length "\r\n\r\n" body

/* ---- calls ------------------------------------------------------------------------------------------------------- */

START_TEST(client__sends_json_and_reads_json_on_one_connection) {
    const char *const replies[] = {JSON_REPLY("200 OK", "9", "{\"a\":1.5}"), JSON_REPLY("201 Created", "2", "[]"), "HTTP/1.1 204 No Content\r\n\r\n",
                                   NULL};
    canned *c = start(replies);
    json_t *body = json_pack("{s:f,s:[i,i]}", "x", 0.1, "n", 1, 2), *reply = NULL;
    ck_assert_int_eq(esp_client_call(c->client, "POST", "/v1/plans", body, 2000, &reply, NULL), ESP_CLIENT_OK);
    ck_assert_double_eq_tol(json_real_value(json_object_get(reply, "a")), 1.5, 1e-15);
    ck_assert_double_gt(esp_client_last_ms(c->client), 0.0);
    json_decref(reply);
    ck_assert_int_eq(esp_client_call(c->client, "GET", "/v1/jobs", NULL, 2000, &reply, NULL), ESP_CLIENT_OK);
    ck_assert(json_is_array(reply));
    json_decref(reply);
    ck_assert_int_eq(esp_client_call(c->client, "DELETE", "/v1/jobs/7", NULL, 2000, &reply, NULL), ESP_CLIENT_OK);
    ck_assert(json_is_null(reply));
    json_decref(body);
    ck_assert_int_eq(c->connections, 1);
    ck_assert_ptr_nonnull(strstr(c->request[0], "POST /v1/plans HTTP/1.1\r\n"));
    ck_assert_ptr_nonnull(strstr(c->request[0], "Content-Type: application/json\r\n"));
    ck_assert_ptr_nonnull(strstr(c->request[0], "Authorization: Bearer secret\r\n"));
    ck_assert_ptr_null(strstr(c->request[0], "Expect:"));
    ck_assert_ptr_nonnull(strstr(c->request[0], "\r\n\r\n{\"x\":0.10000000000000001,\"n\":[1,2]}"));
    ck_assert_ptr_nonnull(strstr(c->request[1], "GET /v1/jobs HTTP/1.1\r\n"));
    ck_assert_ptr_null(strstr(c->request[1], "Content-Type"));
    ck_assert_ptr_nonnull(strstr(c->request[2], "DELETE /v1/jobs/7 HTTP/1.1\r\n"));
    stop(c);
}
END_TEST

START_TEST(client__tells_failures_apart) {
    const char *const replies[] = {JSON_REPLY("404 Not Found", "53", "{\"title\":\"There is no such thing\",\"code\":\"NOT_FOUND\"}"),
                                   JSON_REPLY("200 OK", "5", "{\"a\":"), JSON_REPLY("200 OK", "13", "{\"a\":1,\"a\":2}"), "", NULL};
    canned *c = start(replies);
    esp_client_error error;
    json_t *reply = NULL;
    ck_assert_int_eq(esp_client_call(c->client, "GET", "/x", NULL, 2000, &reply, &error), ESP_CLIENT_REFUSED);
    ck_assert_int_eq(error.status, 404);
    ck_assert_str_eq(error.name, "NOT_FOUND");
    ck_assert_int_eq(esp_client_call(c->client, "GET", "/x", NULL, 2000, &reply, &error), ESP_CLIENT_FORMAT);
    ck_assert_int_eq(esp_client_call(c->client, "GET", "/x", NULL, 2000, &reply, &error), ESP_CLIENT_FORMAT);
    ck_assert_int_eq(esp_client_call(c->client, "GET", "/x", NULL, 50, &reply, &error), ESP_CLIENT_TIMEOUT);
    ck_assert_ptr_null(reply);
    stop(c);
}
END_TEST

START_TEST(client__refuses_what_cannot_work) {
    esp_client *client = NULL;
    esp_client_error error;
    ck_assert_int_eq(esp_client_open("localhost:8787", NULL, &client, &error), ESP_CLIENT_FORMAT);
    ck_assert_ptr_null(client);
    ck_assert_int_eq(esp_client_open("http://127.0.0.1:1", NULL, &client, &error), ESP_CLIENT_OK);
    ck_assert_int_eq(esp_client_call(client, "GET", "/healthz", NULL, 2000, NULL, &error), ESP_CLIENT_NETWORK);
    ck_assert_int_eq(esp_client_upload(client, "/v1/datasets", "text/csv", "/nonexistent.csv", 2000, NULL, &error), ESP_CLIENT_FILE);
    esp_client_close(client);
    esp_client_close(NULL);
}
END_TEST

START_TEST(client__uploads_a_file_as_it_is) {
    const char *const replies[] = {JSON_REPLY("201 Created", "12", "{\"id\":\"d-1\"}"), NULL};
    char path[] = "/tmp/test_client_XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_eq(write(fd, "one\ntwo\n", 8), 8);
    close(fd);
    canned *c = start(replies);
    json_t *reply = NULL;
    ck_assert_int_eq(esp_client_upload(c->client, "/v1/datasets?name=n", "application/x-ndjson", path, 2000, &reply, NULL), ESP_CLIENT_OK);
    ck_assert_str_eq(json_string_value(json_object_get(reply, "id")), "d-1");
    ck_assert_ptr_nonnull(strstr(c->request[0], "Content-Length: 8\r\n"));
    ck_assert_ptr_nonnull(strstr(c->request[0], "Content-Type: application/x-ndjson\r\n"));
    ck_assert_ptr_nonnull(strstr(c->request[0], "\r\n\r\none\ntwo\n"));
    json_decref(reply);
    unlink(path);
    stop(c);
}
END_TEST

/* ---- jobs -------------------------------------------------------------------------------------------------------- */

typedef struct heard {
    int n;
    double fraction[8];
    int stop_after;
} heard;

static int listen_in(void *user, const char *state, const json_t *progress) {
    (void)state;
    heard *h = user;
    if (progress != NULL && h->n < 8) h->fraction[h->n++] = json_number_value(json_object_get(progress, "fraction"));
    return h->stop_after > 0 && h->n >= h->stop_after;
}

#define STREAM      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define JOB_RUNNING JSON_REPLY("200 OK", "31", "{\"id\":\"7\",   \"state\":\"running\"}")
#define JOB_DONE    JSON_REPLY("200 OK", "48", "{\"id\":\"7\",\"state\":\"succeeded\",\"result\":{\"n\":3}} ")

START_TEST(wait__follows_the_stream_and_resumes_it) {
    const char *const replies[] = {STREAM "id: 4\nevent: progress\ndata: {\"fraction\":0.25,\"stage\":\"dense\"}\n\n", JOB_RUNNING,
                                   STREAM "id: 5\ndata: {\"state\":\"succeeded\",\"progress\":{\"fraction\":1}}\n\n", JOB_DONE, NULL};
    canned *c = start(replies);
    heard h = {0};
    json_t *job = NULL;
    ck_assert_int_eq(esp_client_wait(c->client, "7", 5000, listen_in, &h, &job, NULL), ESP_CLIENT_OK);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(job, "result"), "n")), 3);
    ck_assert_int_eq(h.n, 2);
    ck_assert_double_eq_tol(h.fraction[0], 0.25, 1e-15);
    ck_assert_ptr_null(strstr(c->request[0], "Last-Event-ID"));
    ck_assert_ptr_nonnull(strstr(c->request[2], "Last-Event-ID: 4\r\n"));
    json_decref(job);
    stop(c);
}
END_TEST

START_TEST(wait__asks_where_there_is_no_stream) {
    const char *const replies[] = {JSON_REPLY("404 Not Found", "2", "{}"), JOB_RUNNING, JSON_REPLY("404 Not Found", "2", "{}"), JOB_DONE, NULL};
    canned *c = start(replies);
    json_t *job = NULL;
    ck_assert_int_eq(esp_client_wait(c->client, "7", 5000, NULL, NULL, &job, NULL), ESP_CLIENT_OK);
    json_decref(job);
    stop(c);
}
END_TEST

START_TEST(wait__reports_a_failed_job) {
    const char *const replies[] = {STREAM "data: {\"state\":\"failed\"}\n\n",
                                   JSON_REPLY("200 OK", "62", "{\"id\":\"7\",\"state\":\"failed\",\"error\":{\"detail\":\"loss is not 1\"}}"), NULL};
    canned *c = start(replies);
    esp_client_error error;
    json_t *job = NULL;
    ck_assert_int_eq(esp_client_wait(c->client, "7", 5000, NULL, NULL, &job, &error), ESP_CLIENT_JOB);
    ck_assert_ptr_nonnull(strstr(error.message, "loss is not 1"));
    ck_assert_ptr_null(job);
    stop(c);
}
END_TEST

START_TEST(wait__stops_when_asked) {
    const char *const replies[] = {STREAM "data: {\"fraction\":0.5}\n\ndata: {\"fraction\":0.6}\n\n", NULL};
    canned *c = start(replies);
    heard h = {.stop_after = 1};
    json_t *job = NULL;
    ck_assert_int_eq(esp_client_wait(c->client, "7", 5000, listen_in, &h, &job, NULL), ESP_CLIENT_STOPPED);
    ck_assert_int_eq(h.n, 1);
    stop(c);
}
END_TEST

/* ---- problems and events ----------------------------------------------------------------------------------------- */

START_TEST(problem__names_the_field) {
    const char body[] =
        "{\"title\":\"The request is not valid\",\"status\":400,\"detail\":\"two fields are wrong\",\"code\":\"INVALID\",\"request_id\":\"r-9\","
        "\"errors\":[{\"pointer\":\"/horizon\",\"detail\":\"is 0\"},{\"pointer\":\"/cost\",\"detail\":\"is missing\"}]}";
    esp_client_error error;
    esp_client_read_problem(400, body, strlen(body), &error);
    ck_assert_int_eq(error.code, ESP_CLIENT_REFUSED);
    ck_assert_int_eq(error.status, 400);
    ck_assert_str_eq(error.name, "INVALID");
    ck_assert_str_eq(error.request_id, "r-9");
    ck_assert_str_eq(error.message, "The request is not valid: two fields are wrong [/horizon: is 0; /cost: is missing]");
}
END_TEST

START_TEST(problem__survives_any_body) {
    esp_client_error error;
    static const char *const bodies[] = {"", "<html>Bad gateway</html>", "[1,2]", "{\"title\":5,\"errors\":[7]}", NULL};
    for (int i = 0; bodies[i] != NULL; i++) {
        esp_client_read_problem(502, bodies[i], strlen(bodies[i]), &error);
        ck_assert_int_eq(error.status, 502);
        ck_assert_str_ne(error.message, "");
    }
    esp_client_read_problem(502, NULL, 0, &error);
    ck_assert_str_eq(error.message, "HTTP status 502");
    char *longest = malloc(5000);
    memset(longest, 'x', 5000);
    memcpy(longest, "{\"title\":\"", 10);
    memcpy(longest + 4998, "\"}", 2);
    esp_client_read_problem(500, longest, 5000, &error);
    ck_assert_uint_eq(strlen(error.message), sizeof error.message - 1);
    free(longest);
}
END_TEST

typedef struct caught {
    char text[512];
    int limit;
} caught;

static bool catch_event(void *user, const char *id, const char *event, const char *data) {
    caught *c = user;
    size_t len = strlen(c->text);
    snprintf(c->text + len, sizeof c->text - len, "(%s|%s|%s)", id, event, data);
    return --c->limit != 0;
}

START_TEST(events__do_not_depend_on_how_bytes_arrive) {
    static const char stream[] =
        ": hello\n\nid: 1\nevent: progress\ndata: {\"a\":\ndata: 1}\n\nid:2\r\ndata:x\r\n\r\nretry: 10\ndata\n\nevent: lost\n\ndata: half";
    for (size_t piece = 1; piece <= sizeof stream - 1; piece++) {
        caught c = {{0}, 0};
        esp_events events;
        esp_events_init(&events, catch_event, &c);
        for (size_t at = 0; at < sizeof stream - 1; at += piece)
            ck_assert(esp_events_feed(&events, stream + at, at + piece < sizeof stream - 1 ? piece : sizeof stream - 1 - at));
        ck_assert_str_eq(c.text, "(1|progress|{\"a\":\n1})(2|message|x)(2|message|)");
        ck_assert_str_eq(events.id, "2");
        esp_events_restart(&events);
        ck_assert(esp_events_feed(&events, "data: y\n\n", 9));
        ck_assert_ptr_nonnull(strstr(c.text, "(2|message|y)"));
        esp_events_done(&events);
    }
}
END_TEST

START_TEST(events__stop_and_cap) {
    caught c = {{0}, 1};
    esp_events events;
    esp_events_init(&events, catch_event, &c);
    ck_assert(!esp_events_feed(&events, "data: a\n\ndata: b\n\n", 18));
    ck_assert_str_eq(c.text, "(|message|a)");
    esp_events_done(&events);
    esp_events_init(&events, catch_event, &c);
    char *big = malloc(2 << 20);
    memset(big, 'x', 2 << 20);
    ck_assert(!esp_events_feed(&events, big, 2 << 20));
    free(big);
    esp_events_done(&events);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client");
    TCase *calls = tcase_create("calls"), *jobs = tcase_create("jobs"), *parts = tcase_create("parts");
    tcase_add_test(calls, client__sends_json_and_reads_json_on_one_connection);
    tcase_add_test(calls, client__tells_failures_apart);
    tcase_add_test(calls, client__refuses_what_cannot_work);
    tcase_add_test(calls, client__uploads_a_file_as_it_is);
    tcase_add_test(jobs, wait__follows_the_stream_and_resumes_it);
    tcase_add_test(jobs, wait__asks_where_there_is_no_stream);
    tcase_add_test(jobs, wait__reports_a_failed_job);
    tcase_add_test(jobs, wait__stops_when_asked);
    tcase_add_test(parts, problem__names_the_field);
    tcase_add_test(parts, problem__survives_any_body);
    tcase_add_test(parts, events__do_not_depend_on_how_bytes_arrive);
    tcase_add_test(parts, events__stop_and_cap);
    suite_add_tcase(suite, calls);
    suite_add_tcase(suite, jobs);
    suite_add_tcase(suite, parts);
    return run_suite(suite);
}
