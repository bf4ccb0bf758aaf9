/* SPDX-License-Identifier: Apache-2.0
 * The recipes of clients/curl, each run against a daemon in the order of their README, and what they do when refused.
 * What the daemon then says of everything they left behind is held against schema/api/openapi.json. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "support/daemon.h"
#include "support/http.h"
#include "support/schema.h"
#include "support/traffic.h"

static traffic_relay relay; /* between them: every exchange of theirs is recorded and checked */
static test_daemon espalierd; /* the recipes' output goes into its directory */

static const char *read_text(const char *name) {
    static esp_buf text;
    char path[128];
    esp_error error = {0};
    snprintf(path, sizeof path, "%s/%s", espalierd.dir, name);
    esp_buf_done(&text);
    ck_assert_msg(esp_file_read(path, 1 << 20, &text, &error) == ESP_OK, "%s: %s", path, error.message);
    return esp_buf_text(&text);
}

/* Exit status of the recipe; its output and what it said are in the directory. */
static int run(const char *recipe) {
    char command[512];
    snprintf(command, sizeof command, "clients/curl/%s >%s/out 2>%s/said", recipe, espalierd.dir, espalierd.dir);
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

/* A recipe with a file in the daemon's directory. */
static const char *in_dir(const char *format) {
    static char text[256];
    const char *at = strstr(format, "%s");
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - format), format, espalierd.dir, at + 2);
    return text;
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
    {"POST", "/v1/jobs", "{\"kind\":\"sparsify\",\"spec\":{}}", 400},
    {"POST", "/v1/jobs", "{\"kind\":\"distill\",\"spec\":{}}", 400},
    {"POST", "/v1/jobs", "{\"kind\":\"train\"", 400},
    {"POST", "/v1/jobs",
     "{\"kind\":\"prune\",\"spec\":{\"model\":\"rail/1\",\"name\":\"rail-half\",\"method\":\"obs\",\"sparsity\":0.5,\"dataset\":\"rail\"}}", 202},
    {"GET", "/v1/jobs?kind=prune", NULL, 200},
    {"GET", "/v1/models/rail-pruned", NULL, 200},
    {"GET", "/v1/models?relu__lte=4&sort=-relu", NULL, 200},
    {"GET", "/v1/models/rail/3", NULL, 200},
    {"GET", "/v1/models/rail/3/artifact?format=json", NULL, 200},
    {"GET", "/v1/models/rail/3/artifact?format=exe", NULL, 400},
    {"POST", "/v1/models/rail/3/predict", "{\"x\":[[0,0.2,1],[0.5,-0.5,0]]}", 200},
    {"POST", "/v1/models/rail/3/predict", "{\"x\":[[0,0.2]]}", 400},
    {"PUT", "/v1/models/rail/aliases/best", "{\"version\":3}", 200},
    {"GET", "/v1/models/rail/aliases/best", NULL, 200},
    {"GET", "/v1/models/rail/aliases", NULL, 200},
    {"GET", "/v1/models/rail/3/lineage", NULL, 200},
    {"GET", "/v1/models?tag=nightly", NULL, 200},
    {"GET", "/v1/episodes?success_rate__gte=0.5", NULL, 200},
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
    char why[1024] = "";
    http_reply reply = body ? http_json(&espalierd, method, path, body) : http_get(&espalierd, path);
    expect_status(reply, expected);
    ck_assert_msg(schema_check_reply(method, path, expected, reply.body, why, sizeof why), "%s %s %d: %s; the reply: %s", method, path, expected, why,
                  reply.body);
    if (body && expected < 300) ck_assert_msg(schema_check_request(method, path, body, why, sizeof why), "%s %s: %s", method, path, why);
    http_done(&reply);
}

static void check_lines(const char *path, const char *lines) {
    char why[1024] = "";
    http_reply reply = http_post(&espalierd, path, "application/x-ndjson", lines, strlen(lines));
    expect_status(reply, 200);
    ck_assert_msg(schema_check_reply_lines("POST", path, 200, reply.body, why, sizeof why), "%s: %s; the reply: %s", path, why, reply.body);
    http_done(&reply);
}

START_TEST(recipes__run_in_order) {
    expect("upload.sh", "rail/1 ");
    expect("upload.sh", "rail/1 "); /* the same bytes are the same version */
    ck_assert_uint_eq(lines(expect("train.sh", "rail/3 ")), 3);
    ck_assert_uint_eq(lines(expect("sparsify.sh rail/1 rail rail-sparse", "rail-sparse/2 ")), 2);
    ck_assert_uint_eq(lines(expect("sparsify.sh rail/1 rail rail-channel channel", "rail-channel/2 ")), 2);
    expect("certify.sh rail/3 rail/1", "difference in linf: at most ");
    expect("prune.sh rail/1 0.05", "rail-pruned/1 ");
    ck_assert_uint_eq(lines(expect("prune.sh rail/1 0.000000001 rail-tight", "magnitude, layer: ")), 9);
    const char *table = expect("bounds.sh", "proved");
    ck_assert_msg(strncmp(table, "id,", 3) == 0, "no header: %s", table);
    ck_assert_uint_ge(lines(table), 2);
    ck_assert_uint_eq(lines(expect("bounds.sh kind=nothing", "id,")), 1);
    expect(in_dir("artifact.sh rail/3 %s/rail.c"), "self-test passed");
    expect(in_dir("artifact.sh rail/3 %s/rail.c c precision=float layout=dense"), "self-test passed");
    expect(in_dir("artifact.sh rail/3 %s/rail.onnx onnx"), "bytes");
    expect(in_dir("onnx.sh %s/rail.onnx rail-onnx"), "rail-onnx/1 ");
    expect("task.sh rail/3", "rail-stop/1 ");
    expect("distill.sh rail-stop rail-policy 60", "regret over 8 steps: mean ");
    expect(in_dir("policy_to_c.sh rail-stop rail-policy 0.1 %s/policy.c"), "self-test passed");
    ck_assert_uint_ge(lines(expect("tube.sh rail/3 rail/1 rail-stop", "closed_loop by tube: at most ")), 5);
    expect("check.sh method=tube", "verified: ");
    expect("check.sh kind=planning_loss method=program", "verified: ");
    expect("check.sh kind=difference", "verified: ");
    ck_assert_int_ne(run("check.sh kind=nothing"), 0);
    expect("plan.sh rail-stop 0.1 2000", "inputs ");
    expect("episode.sh rail/3 rail-stop 1.5 true", "rail,3,2,");
    expect("episode.sh rail/1 rail-stop 0.5 false", "rail,1,16,");
    expect("lineage.sh rail/2 nightly", "from   rail/1 ");
    ck_assert_uint_ge(lines(expect("list.sh", "mdl_")), 8);
    ck_assert_uint_ge(lines(expect("list.sh models relu__lte=4 sort=-relu", "mdl_")), 1);
    expect("download.sh", "the hash is right");
    expect("query.sh", "layer 2  weights may change by ");
    expect("alias.sh rail 1", "rail@live  version 1");
    expect("alias.sh rail 2", "before     version 1");
    ck_assert_uint_eq(lines(expect("plans.sh rail-stop 0.05 0.1", "optimal  objective ")), 2);
    expect("events.sh", "succeeded");
    ck_assert_ptr_nonnull(strstr(read_text("out"), "certificate  "));
    expect("delete.sh", "rail-passing/2 is there");
    expect("health.sh", "espalier_queue_depth{class=\"plan\"} ");
    ck_assert_uint_eq(lines(expect("batch.sh rail 1 2", "rail-seed-2/1 ")), 2);
    expect("cancel.sh", " cancelled");
    for (size_t i = 0; i < sizeof exchanges / sizeof exchanges[0]; i++)
        check_exchange(exchanges[i].method, exchanges[i].path, exchanges[i].body, exchanges[i].status);
    check_lines("/v1/plans/batch", "{\"task\":\"rail-stop\",\"y\":[[0,0]],\"goal\":[0.1],\"deadline_ms\":1000}\n"
                                   "{\"task\":\"nothing\",\"y\":[[0,0]],\"goal\":[0.1],\"deadline_ms\":1000}\n{\n");
    check_lines("/v1/jobs/batch", "{\"kind\":\"evaluate\",\"spec\":{\"model\":\"rail/3\",\"dataset\":\"rail\",\"horizon\":5}}\n{\"kind\":1}\n");
}
END_TEST

START_TEST(recipes__say_what_was_refused) {
    ck_assert_int_ne(run("plan.sh nothing"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "nothing"));
    ck_assert_ptr_nonnull(strstr(read_text("said"), "failed"));
    ck_assert_int_ne(run(in_dir("artifact.sh nothing %s/none.c")), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "NOT_FOUND"));
    ck_assert_int_ne(run("onnx.sh clients/curl/README.md x policy"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "not an ONNX file"));
    ck_assert_int_ne(run("train.sh nothing"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "/spec/dataset"));
    ck_assert_int_ne(run("batch.sh nothing 1"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "refused"));
    ck_assert_int_ne(run("episode.sh rail/3 nothing"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "/task"));
    ck_assert_int_ne(run("lineage.sh nothing"), 0);
    ck_assert_int_ne(run("download.sh nothing"), 0);
    ck_assert_int_ne(run("query.sh nothing"), 0);
    ck_assert_int_ne(run("alias.sh rail 99"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "99"));
    ck_assert_int_ne(run("events.sh rail/1 nothing"), 0);
    ck_assert_int_ne(run("list.sh models nonsense=1"), 0);
    expect("plans.sh nothing", "refused: ");
    ck_assert_int_ne(run("bounds.sh nonsense=1"), 0);
    ck_assert_ptr_nonnull(strstr(read_text("said"), "nonsense"));
    ck_assert_int_eq(setenv("ESPALIER", "http://127.0.0.1:1", 1), 0);
    ck_assert_int_ne(run("upload.sh"), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recipes");
    TCase *tcase = tcase_create("curl");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, recipes__run_in_order);
    tcase_add_test(tcase, recipes__say_what_was_refused);
    suite_add_tcase(suite, tcase);
    daemon_start(&espalierd, NULL);
    char check[128];
    const char *build = getenv("ESPALIER_BUILD");
    snprintf(check, sizeof check, "%s/espalier-check", build ? build : "build/release");
    traffic_relay_start(&relay, &espalierd);
    setenv("ESPALIER", relay.base, 1);
    setenv("ESPALIER_CHECK", check, 1);
    setenv("SAMPLES", "40", 1);
    return daemon_finish(&espalierd, traffic_relay_finish(&relay, run_suite(suite)));
}
