/* SPDX-License-Identifier: Apache-2.0
 * Tokens over HTTP: who is let in where, quotas, changes beside a running daemon, and listening beyond loopback. */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "c/espalier.h"
#include "http/http.h"
#include "support/http.h"
#include "support/traffic.h"
#include "tokens.h"

static test_daemon d;
static char reader[80], planner[80], submitter[80], root[80]; /* secrets */

/* `espalierd token VERB ...`; what it printed, without the line's end. */
static int token(const char *verb, const char *name, const char *scopes, const char *option, const char *value, char ret[4096]) {
    char data[100];
    const char *argv[16] = {"token", verb, "--data", data};
    size_t n = 4;
    snprintf(data, sizeof data, "%s/data", d.dir);
    if (name) argv[n++] = "--name", argv[n++] = name;
    if (scopes) argv[n++] = "--scopes", argv[n++] = scopes;
    if (option) argv[n++] = option, argv[n++] = value;
    int status = daemon_try(argv, ret, 4096);
    ret[strcspn(ret, "\n")] = '\0';
    return status;
}

/* Ends the program when there is none: main, where a check cannot fail, makes some too. */
static void make(const char *name, const char *scopes, const char *option, const char *value, char ret[80]) {
    char text[4096];
    int status = token("create", name, scopes, option, value, text);
    if (status != 0 || strlen(text) != ESP_TOKEN_TEXT - 1) {
        fprintf(stderr, "token create %s: %d %s\n", name, status, text);
        exit(1);
    }
    strcpy(ret, text);
}

static http_reply ask(const char *method, const char *path, const char *secret, const char *body) {
    char header[200];
    const char *headers[] = {"Content-Type: application/json", header, NULL};
    http_reply reply;
    snprintf(header, sizeof header, "Authorization: Bearer %s", secret ? secret : "");
    if (!secret) headers[1] = NULL;
    http_send(&d, &(http_request){.method = method, .path = path, .headers = headers, .body = body, .len = body ? strlen(body) : 0}, &reply);
    return reply;
}

static int status_of(const char *method, const char *path, const char *secret, const char *body) {
    http_reply reply = ask(method, path, secret, body);
    int status = reply.status;
    http_done(&reply);
    return status;
}

/* A change of the file holds at the latest a second later. */
static void hup(void) {
    ck_assert_int_eq(kill(d.pid, SIGHUP), 0);
}

static void wait_status(const char *secret, int wanted) {
    int status = 0;
    for (int i = 0; i < 100 && (status = status_of("GET", "/v1/models", secret, NULL)) != wanted; i++) usleep(50000);
    ck_assert_int_eq(status, wanted);
}

/* A path of the pattern: {ref...} is "x". */
static void path_of(const char *pattern, char ret[200]) {
    size_t n = 0;
    for (const char *p = pattern; *p; p++) {
        ret[n++] = *p == '{' ? 'x' : *p;
        if (*p == '{') p = strchr(p, '}');
    }
    ret[n] = '\0';
}

START_TEST(tokens__guard_every_route_by_its_scope) {
    const char *const lacking[] = {[ESP_SCOPE_READ] = planner, [ESP_SCOPE_PLAN] = reader, [ESP_SCOPE_SUBMIT] = planner, [ESP_SCOPE_ADMIN] = reader};
    char path[200], header[200], named[60];
    for (const esp_route *r = esp_routes; r->method; r++) {
        path_of(r->pattern, path);
        http_reply reply = ask(r->method, path, NULL, NULL);
        if (r->scope == ESP_SCOPE_NONE) {
            ck_assert_msg(reply.status != 401 && reply.status != 403, "%s %s: %d", r->method, path, reply.status);
            http_done(&reply);
            continue;
        }
        expect_problem(&reply, 401, "UNAUTHORIZED", NULL);
        ck_assert(strncmp(http_header(&reply, "WWW-Authenticate", header, sizeof header), "Bearer", 6) == 0);
        http_done(&reply);
        reply = ask(r->method, path, lacking[r->scope], NULL);
        expect_problem(&reply, 403, "FORBIDDEN", NULL);
        snprintf(named, sizeof named, "scope=\"%s\"", esp_scope_names[r->scope]);
        ck_assert_msg(strstr(http_header(&reply, "WWW-Authenticate", header, sizeof header), named), "%s %s: %s", r->method, path, header);
        ck_assert_ptr_nonnull(strstr(reply_text(&reply, "/detail"), esp_scope_names[r->scope]));
        http_done(&reply);
        int status = status_of(r->method, path, root, NULL); /* admin includes the others */
        ck_assert_msg(status != 401 && status != 403, "%s %s: %d as admin", r->method, path, status);
    }
}
END_TEST

START_TEST(tokens__health_stays_open) {
    static const char *const paths[] = {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/openapi.json"};
    for (size_t i = 0; i < 5; i++) ck_assert_int_eq(status_of("GET", paths[i], NULL, NULL), 200);
}
END_TEST

START_TEST(tokens__refuse_what_is_not_one) {
    static const char *const wrong[] = {"Authorization: Bearer", "Authorization: Bearer ", "Authorization: Basic eDp5", "Authorization: esp_",
                                        "Authorization: Bearer esp_0000000000000000000000000000000000000000000000000000000000000000"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *headers[] = {wrong[i], NULL};
        http_reply reply;
        http_send(&d, &(http_request){.method = "GET", .path = "/v1/models", .headers = headers}, &reply);
        expect_problem(&reply, 401, "UNAUTHORIZED", NULL);
        http_done(&reply);
    }
    char near[80];
    strcpy(near, reader);
    near[40] = near[40] == '0' ? '1' : '0';
    ck_assert_int_eq(status_of("GET", "/v1/models", near, NULL), 401);
    ck_assert_int_eq(status_of("GET", "/v1/models", reader, NULL), 200);
}
END_TEST

START_TEST(tokens__come_and_go_beside_the_daemon) {
    char secret[80], text[4096], short_lived[80];
    make("passing", "read", NULL, NULL, secret);
    wait_status(secret, 200); /* noticed without a signal */
    ck_assert_int_eq(token("revoke", "passing", NULL, NULL, NULL, text), 0);
    hup();
    wait_status(secret, 401);
    ck_assert_int_ne(token("revoke", "passing", NULL, NULL, NULL, text), 0);
    make("brief", "read", "--expires", "2s", short_lived);
    hup();
    wait_status(short_lived, 200);
    wait_status(short_lived, 401);
    ck_assert_int_eq(token("list", NULL, NULL, NULL, NULL, text), 0);
    ck_assert_ptr_nonnull(strstr(text, "requests_per_minute"));
}
END_TEST

START_TEST(tokens__command_refuses_and_names_the_option) {
    char text[4096];
    static const struct {
        const char *verb, *name, *scopes, *option, *value, *said;
    } wrong[] = {
        {"create", NULL, "read", NULL, NULL, "--name"},
        {"create", "a b", "read", NULL, NULL, "--name"},
        {"create", "x", NULL, NULL, NULL, "--scopes"},
        {"create", "x", "read,fly", NULL, NULL, "fly"},
        {"create", "x", "read", "--expires", "never", "expires"},
        {"create", "x", "read", "--expires", "2001-01-01T00:00:00Z", "expires"},
        {"create", "x", "read", "--rate", "0", "rate"},
        {"create", "x", "read", "--jobs", "many", "jobs"},
        {"create", "reader", "read", NULL, NULL, "already"},
        {"revoke", "nobody", NULL, NULL, NULL, "nobody"},
        {"mint", "x", "read", NULL, NULL, "usage"},
        {"create", "x", "read", "--wrokers", "3", "--wrokers"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int status = token(wrong[i].verb, wrong[i].name, wrong[i].scopes, wrong[i].option, wrong[i].value, text);
        ck_assert_msg(status != 0 && strstr(text, wrong[i].said), "%zu: %d %s", i, status, text);
    }
}
END_TEST

START_TEST(tokens__requests_per_minute) {
    char secret[80], header[60];
    make("slow", "read", "--rate", "3", secret);
    hup();
    wait_status(secret, 200);
    int status = 200;
    for (int i = 0; i < 4 && status == 200; i++) status = status_of("GET", "/v1/models", secret, NULL);
    ck_assert_int_eq(status, 429);
    http_reply reply = ask("GET", "/v1/models", secret, NULL);
    expect_problem(&reply, 429, "QUOTA", "requests_per_minute");
    int seconds = atoi(http_header(&reply, "Retry-After", header, sizeof header));
    ck_assert_int_ge(seconds, 1);
    ck_assert_int_le(seconds, 20);
    http_done(&reply);
    ck_assert_int_eq(status_of("GET", "/v1/models", reader, NULL), 200); /* another's is untouched */
    hup();
    usleep(200000);
    ck_assert_int_eq(status_of("GET", "/v1/models", secret, NULL), 429); /* a reload does not fill it */
}
END_TEST

START_TEST(tokens__queued_jobs) {
    static const char job[] = "{\"kind\":\"evaluate\",\"spec\":{\"model\":\"q\",\"dataset\":\"q\",\"horizon\":1}}";
    static const char data[] = "{\"y\":[[0],[1],[2]],\"u\":[[1],[1]]}\n";
    static const char net[] = "{\"layers\":[{\"w\":[[1,1]],\"b\":[0],\"activation\":\"identity\"}],\"history\":1,\"nu\":1,\"frame\":\"residual\"}";
    char secret[80], text[4096], header[200];
    make("modest", "read,submit", "--jobs", "1", secret);
    hup();
    wait_status(secret, 200);
    ck_assert_int_eq(status_of("POST", "/v1/models?name=q&kind=dynamics", secret, net), 201);
    snprintf(header, sizeof header, "Authorization: Bearer %s", secret);
    const char *headers[] = {"Content-Type: application/x-ndjson", header, NULL};
    http_reply reply;
    http_send(&d, &(http_request){.method = "POST", .path = "/v1/datasets?name=q", .headers = headers, .body = data, .len = sizeof data - 1}, &reply);
    expect_status(reply, 201);
    http_done(&reply);
    snprintf(text, sizeof text, "%s\n%s\n%s\n", job, job, job); /* one transaction: nothing is claimed in between */
    http_send(&d, &(http_request){.method = "POST", .path = "/v1/jobs/batch", .headers = headers, .body = text, .len = strlen(text)}, &reply);
    expect_status(reply, 200);
    ck_assert_ptr_nonnull(strstr(reply.body, "\"state\":\"queued\""));
    const char *first = strstr(reply.body, "\"pointer\":\"queued_jobs\"");
    ck_assert_msg(first && strstr(first + 1, "\"pointer\":\"queued_jobs\""), "%s", reply.body);
    http_done(&reply);
    ck_assert_int_eq(status_of("POST", "/v1/jobs", root, job), 202); /* another's queue is another's */
}
END_TEST

START_TEST(tokens__idempotency_keys_are_a_tokens_own) {
    static const char net[] = "{\"layers\":[{\"w\":[[2,1]],\"b\":[0],\"activation\":\"identity\"}]}";
    static const char other[] = "{\"layers\":[{\"w\":[[3,1]],\"b\":[0],\"activation\":\"identity\"}]}";
    const char *const secrets[] = {submitter, root}, *const bodies[] = {net, other};
    for (int i = 0; i < 2; i++) {
        char header[200];
        snprintf(header, sizeof header, "Authorization: Bearer %s", secrets[i]);
        const char *headers[] = {"Content-Type: application/json", "Idempotency-Key: one", header, NULL};
        http_reply reply;
        http_send(&d,
                  &(http_request){
                      .method = "POST", .path = "/v1/models?name=own&kind=policy", .headers = headers, .body = bodies[i], .len = strlen(bodies[i])},
                  &reply);
        expect_status(reply, 201);
        http_done(&reply);
    }
}
END_TEST

static int expect_private(const char *path, const struct stat *st, int kind, struct FTW *walk) {
    (void)kind, (void)walk;
    ck_assert_msg((st->st_mode & 077) == 0, "%s has mode %o", path, (unsigned)st->st_mode & 0777);
    return 0;
}

START_TEST(tokens__data_are_their_owners_to_read) {
    static const char body[] = "{\"layers\":[{\"w\":[[1]],\"b\":[0],\"activation\":\"relu\"}]}";
    char path[100];
    snprintf(path, sizeof path, "%s/data", d.dir);
    ck_assert_int_eq(status_of("POST", "/v1/models?name=own&kind=policy", submitter, body), 201);
    ck_assert_int_eq(nftw(path, expect_private, 16, FTW_PHYS), 0);
}
END_TEST

START_TEST(tokens__damaged_file_changes_nothing) {
    char path[100], kept[8192];
    snprintf(path, sizeof path, "%s/data/tokens", d.dir);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    size_t n = fread(kept, 1, sizeof kept, file);
    fclose(file);
    file = fopen(path, "w");
    fputs("{\"tokens\":[{]}", file);
    fclose(file);
    hup();
    usleep(300000);
    ck_assert_int_eq(status_of("GET", "/v1/models", reader, NULL), 200);
    ck_assert_int_eq(status_of("GET", "/v1/models", NULL, NULL), 401);
    unlink(path); /* nor does its going open the door */
    hup();
    usleep(300000);
    ck_assert_int_eq(status_of("GET", "/v1/models", NULL, NULL), 401);
    file = fopen(path, "w");
    fwrite(kept, 1, n, file);
    fclose(file);
    hup();
    wait_status(reader, 200);
}
END_TEST

START_TEST(tokens__clients_take_them) {
    esp_client *client = NULL;
    esp_client_error error = {0};
    json_t *reply = NULL;
    traffic_relay relay;
    traffic_relay_start(&relay, &d);
    ck_assert_int_eq(esp_client_open(relay.base, reader, &client, &error), ESP_CLIENT_OK);
    ck_assert_int_eq(esp_client_call(client, "GET", "/v1/models", NULL, 5000, &reply, &error), ESP_CLIENT_OK);
    json_decref(reply);
    ck_assert_int_eq(esp_client_call(client, "POST", "/v1/plans", NULL, 5000, NULL, &error), ESP_CLIENT_REFUSED);
    ck_assert_int_eq((int)error.status, 403);
    esp_client_close(client);
    setenv("ESPALIER", relay.base, 1);
    setenv("ESPALIER_TOKEN", reader, 1);
    ck_assert_int_eq(system("clients/curl/bounds.sh >/dev/null 2>&1"), 0);
    unsetenv("ESPALIER_TOKEN");
    ck_assert_int_ne(system("clients/curl/bounds.sh >/dev/null 2>&1"), 0);
    ck_assert_int_eq(traffic_relay_finish(&relay, 0), 0);
}
END_TEST

/* The first line that a daemon on all addresses prints. */
static void first_line(const char *data, char ret[256]) {
    const char *build = getenv("ESPALIER_BUILD");
    char path[512];
    int fds[2];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/espalierd", build ? build : "build/release");
    ck_assert_int_eq(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        execl(path, path, "--listen", "0.0.0.0:0", "--data", data, "--workers", "1", (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    while (n < 255 && read(fds[0], ret + n, 1) == 1 && ret[n] != '\n') n++;
    ret[n] = '\0';
    close(fds[0]);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

START_TEST(tokens__let_it_listen_elsewhere) {
    char data[100], text[256], made[4096];
    snprintf(data, sizeof data, "%s/elsewhere", d.dir);
    first_line(data, text);
    ck_assert_str_eq(text, "");
    const char *argv[] = {"token", "create", "--data", data, "--name", "x", "--scopes", "read", NULL};
    ck_assert_int_eq(daemon_try(argv, made, sizeof made), 0);
    first_line(data, text);
    ck_assert_msg(strncmp(text, "espalierd ready on http://0.0.0.0:", 34) == 0, "'%s'", text);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tokens");
    TCase *tcase = tcase_create("tokens");
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, tokens__data_are_their_owners_to_read);
    tcase_add_test(tcase, tokens__guard_every_route_by_its_scope);
    tcase_add_test(tcase, tokens__health_stays_open);
    tcase_add_test(tcase, tokens__refuse_what_is_not_one);
    tcase_add_test(tcase, tokens__come_and_go_beside_the_daemon);
    tcase_add_test(tcase, tokens__command_refuses_and_names_the_option);
    tcase_add_test(tcase, tokens__requests_per_minute);
    tcase_add_test(tcase, tokens__queued_jobs);
    tcase_add_test(tcase, tokens__idempotency_keys_are_a_tokens_own);
    tcase_add_test(tcase, tokens__damaged_file_changes_nothing);
    tcase_add_test(tcase, tokens__clients_take_them);
    tcase_add_test(tcase, tokens__let_it_listen_elsewhere);
    suite_add_tcase(suite, tcase);
    strcpy(d.dir, "/tmp/espalier-test-XXXXXX");
    if (!mkdtemp(d.dir)) return 1;
    make("reader", "read", NULL, NULL, reader);
    make("planner", "plan", NULL, NULL, planner);
    make("submitter", "submit", NULL, NULL, submitter);
    make("root", "admin", NULL, NULL, root);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
