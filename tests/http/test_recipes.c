/* SPDX-License-Identifier: Apache-2.0
 * The recipes of clients/curl, each run against a daemon in the order of their README, and what they do when refused.
 * What the daemon then says of everything they left behind is held against schema/api/openapi.json. */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "support/schema.h"

static char dir[64]; /* of the daemon's data, its log and the recipes' output */
static pid_t daemon_pid;

static const char *read_text(const char *name) {
    static esp_buf text;
    char path[128];
    esp_error error = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    esp_buf_done(&text);
    ck_assert_msg(esp_file_read(path, 1 << 20, &text, &error) == ESP_OK, "%s: %s", path, error.message);
    return esp_buf_text(&text);
}

/* In the child: the daemon with its log in the directory and its ready line on `out`. */
static void run_daemon(int out) {
    char path[512], log[128], data[128];
    const char *build = getenv("ESPALIER_BUILD");
    snprintf(path, sizeof path, "%s/espalierd", build ? build : "build/release");
    snprintf(log, sizeof log, "%s/log", dir);
    snprintf(data, sizeof data, "%s/data", dir);
    int fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0) _exit(126);
    execl(path, path, "--listen", "127.0.0.1:0", "--data", data, "--workers", "1", (char *)NULL);
    _exit(127);
}

static void start_daemon(void) {
    static const char ready[] = "espalierd ready on ";
    int ends[2];
    char line[256] = "";
    strcpy(dir, "/tmp/espalier-recipes.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    daemon_pid = fork();
    ck_assert_int_ge(daemon_pid, 0);
    if (daemon_pid == 0) run_daemon(ends[1]);
    close(ends[1]);
    FILE *out = fdopen(ends[0], "r");
    ck_assert_ptr_nonnull(out);
    bool said = fgets(line, sizeof line, out) != NULL;
    fclose(out);
    ck_assert_msg(said && strncmp(line, ready, sizeof ready - 1) == 0, "no ready line but \"%s\"; log: %s", line, read_text("log"));
    line[strcspn(line, "\n")] = '\0';
    ck_assert_int_eq(setenv("ESPALIER", line + sizeof ready - 1, 1), 0);
}

static void stop_daemon(void) {
    char command[128];
    int status = -1;
    if (daemon_pid > 0) {
        kill(daemon_pid, SIGTERM);
        ck_assert_int_eq(waitpid(daemon_pid, &status, 0), daemon_pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the daemon ended with status %d; log: %s", status, read_text("log"));
    }
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

/* Exit status of the recipe; its output and what it said are in the directory. */
static int run(const char *recipe) {
    char command[512];
    snprintf(command, sizeof command, "clients/curl/%s >%s/out 2>%s/said", recipe, dir, dir);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The recipe succeeds and its output has the text. */
static const char *expect(const char *recipe, const char *text) {
    int status = run(recipe);
    ck_assert_msg(status == 0, "%s ended with %d: %s", recipe, status, read_text("said"));
    const char *out = read_text("out");
    ck_assert_msg(strstr(out, text) != NULL, "%s: \"%s\" is not in: %s", recipe, text, out);
    return out;
}

static size_t lines(const char *text) {
    size_t n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

/* What the daemon says of what the recipes left behind, held against the interface's description. */
static const struct {
    const char *method, *path, *body; /* body NULL for none */
    int status;
} exchanges[] = {
    {"GET", "/v1/datasets", NULL, 200},
    {"GET", "/v1/datasets/rail", NULL, 200},
    {"GET", "/v1/datasets/nothing", NULL, 404},
    {"GET", "/v1/jobs?limit=3", NULL, 200},
    {"GET", "/v1/jobs?state=cancelled", NULL, 200},
    {"GET", "/v1/jobs/job_nothing", NULL, 404},
    {"POST", "/v1/jobs", "{\"kind\":\"prune\",\"spec\":{}}", 422},
    {"POST", "/v1/jobs", "{\"kind\":\"train\"", 400},
    {"GET", "/v1/models?relu__lte=4&sort=-relu", NULL, 200},
    {"GET", "/v1/models/rail/3", NULL, 200},
    {"GET", "/v1/models/rail/3/artifact?format=json", NULL, 200},
    {"GET", "/v1/models/rail/3/artifact?format=onnx", NULL, 422},
    {"POST", "/v1/models/rail/3/predict", "{\"x\":[[0,0.2,1],[0.5,-0.5,0]]}", 200},
    {"POST", "/v1/models/rail/3/predict", "{\"x\":[[0,0.2]]}", 400},
    {"PUT", "/v1/models/rail/aliases/best", "{\"version\":3}", 200},
    {"GET", "/v1/models/rail/aliases/best", NULL, 200},
    {"GET", "/v1/models/rail/aliases", NULL, 200},
    {"GET", "/v1/bounds?kind=difference", NULL, 200},
    {"POST", "/v1/bounds/query", "{\"model\":\"rail/1\",\"states\":[[0,0.2,1]],\"error_threshold\":0.01}", 200},
    {"POST", "/v1/bounds/query", "{\"model\":\"rail/1\",\"states\":[[0,0.2,1]],\"candidate\":\"rail/1\"}", 200},
    {"POST", "/v1/bounds/query", "{\"model\":\"rail/1\",\"states\":[[0,0.2,1]],\"candidate\":\"rail/3\"}", 422},
    {"GET", "/v1/tasks", NULL, 200},
    {"GET", "/v1/tasks/rail-stop", NULL, 200},
    {"POST", "/v1/tasks", "{\"name\":\"x\",\"model\":\"rail\",\"horizon\":0}", 400},
    {"POST", "/v1/plans", "{\"task\":\"rail-stop\",\"y\":[[0,0]],\"goal\":[0.1],\"deadline_ms\":1000}", 200},
    {"POST", "/v1/plans", "{\"task\":\"rail-stop\",\"y\":[[0]],\"goal\":[0.1],\"deadline_ms\":1000}", 400},
    {"GET", "/healthz", NULL, 200},
    {"GET", "/readyz", NULL, 200},
    {"GET", "/openapi.json", NULL, 200},
    {"GET", "/v2/health/live", NULL, 200},
    {"GET", "/v2/health/ready", NULL, 200},
    {"GET", "/v2/models/rail", NULL, 200},
    {"GET", "/v2/models/rail/ready", NULL, 200},
};

static void check_exchange(const char *method, const char *path, const char *body, int expected) {
    char command[1024], why[1024] = "";
    int status = 0;
    snprintf(command, sizeof command, "curl -sS -X %s %s%s%s -o %s/reply -w '%%{http_code}' \"$ESPALIER%s\" >%s/out", method,
             body ? "-H 'Content-Type: application/json' -d '" : "", body ? body : "", body ? "'" : "", dir, path, dir);
    ck_assert_msg(system(command) == 0, "%s", command);
    ck_assert_int_eq(sscanf(read_text("out"), "%d", &status), 1);
    const char *reply = read_text("reply");
    ck_assert_msg(status == expected, "%s %s: %d, expected %d: %s", method, path, status, expected, reply);
    ck_assert_msg(schema_check_reply(method, path, status, reply, why, sizeof why), "%s %s %d: %s; the reply: %s", method, path, status, why, reply);
    if (body && status < 300) ck_assert_msg(schema_check_request(method, path, body, why, sizeof why), "%s %s: %s", method, path, why);
}

START_TEST(recipes__run_in_order) {
    expect("upload.sh", "rail/1 ");
    expect("upload.sh", "rail/1 "); /* the same bytes are the same version */
    ck_assert_uint_eq(lines(expect("train.sh", "rail/3 ")), 3);
    expect("certify.sh rail/3 rail/1", "difference in linf: at most ");
    const char *table = expect("bounds.sh", "proved");
    ck_assert_msg(strncmp(table, "id,", 3) == 0, "no header: %s", table);
    ck_assert_uint_ge(lines(table), 2);
    ck_assert_uint_eq(lines(expect("bounds.sh kind=nothing", "id,")), 1);
    expect("task.sh rail/3", "rail-stop/1 ");
    expect("plan.sh rail-stop 0.1 2000", "inputs ");
    ck_assert_uint_eq(lines(expect("batch.sh rail 1 2", "rail-seed-2/1 ")), 2);
    expect("cancel.sh", " cancelled");
    for (size_t i = 0; i < sizeof exchanges / sizeof exchanges[0]; i++)
        check_exchange(exchanges[i].method, exchanges[i].path, exchanges[i].body, exchanges[i].status);
}
END_TEST

START_TEST(recipes__say_what_was_refused) {
    ck_assert_int_ne(run("plan.sh nothing"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "nothing"));
    ck_assert_ptr_nonnull(strstr(read_text("said"), "failed"));
    ck_assert_int_ne(run("train.sh nothing"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "/spec/dataset"));
    ck_assert_int_ne(run("batch.sh nothing 1"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "refused"));
    ck_assert_int_ne(run("bounds.sh nonsense=1"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "nonsense"));
    ck_assert_int_eq(setenv("ESPALIER", "http://127.0.0.1:1", 1), 0);
    ck_assert_int_ne(run("upload.sh"), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recipes");
    TCase *tcase = tcase_create("curl");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, start_daemon, stop_daemon);
    tcase_add_test(tcase, recipes__run_in_order);
    tcase_add_test(tcase, recipes__say_what_was_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
