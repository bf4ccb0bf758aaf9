/* SPDX-License-Identifier: Apache-2.0
 * Lineage both ways, tags, deletion and episodes over HTTP, on a registry that was filled before the daemon started; each
 * reply held against schema/api/openapi.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/query.h"
#include "support/http.h"
#include "support/schema.h"

static test_daemon d;
static char ids[5][ESP_ID_MAX]; /* rail/1 dense, rail/2 and rail/3 down the ladder, half/1 from rail/1, lone/1 */

/* ---- before the daemon ---- */

static esp_code fill(esp_db *db, void *user, esp_error *reterr) {
    static const struct {
        const char *name;
        int parent;
    } models[] = {{"rail", -1}, {"rail", 0}, {"rail", 1}, {"half", 0}, {"lone", -1}};
    esp_dataset_row data = {.name = "rail", .format = "csv", .trajectories = 1, .transitions = 2, .ny = 2, .nu = 1, .bytes = 9};
    (void)user;
    memset(data.sha256, 'd', 64);
    esp_code code = esp_dataset_insert(db, &data, reterr);
    for (int i = 0; i < 5 && !code; i++) {
        esp_model_row row = {.kind = "dynamics", .ny = 2, .nu = 1, .history = 1, .relu = 16 >> i, .parameters = 20, .nonzero = 20 - i};
        strcpy(row.name, models[i].name);
        if (models[i].parent >= 0) strcpy(row.parent, ids[models[i].parent]);
        if (i < 3) strcpy(row.dataset, data.id);
        memset(row.sha256, 'a' + i, 64);
        code = esp_model_insert(db, &row, reterr);
        strcpy(ids[i], row.id);
    }
    for (int i = 0; i < 2 && !code; i++) { /* two tasks of rail/3 */
        char body[] = "{\"horizon\":5}";
        esp_task_row task = {.body = body};
        strcpy(task.name, i ? "turn" : "stop");
        strcpy(task.model, ids[2]);
        code = esp_task_insert(db, &task, reterr);
    }
    return code;
}

static int seed(void) {
    char data[100];
    esp_error error = {0};
    esp_registry *registry = NULL;
    strcpy(d.dir, "/tmp/espalier-test-XXXXXX");
    if (!mkdtemp(d.dir)) return 1;
    snprintf(data, sizeof data, "%s/data", d.dir);
    esp_code code = esp_registry_open(data, &registry, &error);
    if (!code) code = esp_registry_write(registry, fill, NULL, &error);
    if (code) fprintf(stderr, "%s\n", error.message);
    esp_registry_close(registry);
    return code != ESP_OK;
}

/* ---- requests ---- */

static http_reply ask(const char *method, const char *path, const char *body, int status) {
    char why[1024] = "";
    http_reply reply;
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    http_send(&d, &(http_request){.method = method, .path = path, .headers = headers, .body = body, .len = body ? strlen(body) : 0}, &reply);
    expect_status(reply, status);
    if (status != 204)
        ck_assert_msg(schema_check_reply(method, path, status, reply.body, why, sizeof why), "%s %s: %s; %s", method, path, why, reply.body);
    return reply;
}

static void expect(const char *method, const char *path, const char *body, int status, const char *text) {
    http_reply reply = ask(method, path, body, status);
    ck_assert_msg(!text || strstr(reply.body, text), "%s %s: no %s in %s", method, path, text, reply.body);
    http_done(&reply);
}

START_TEST(lineage__goes_both_ways) {
    http_reply reply = ask("GET", "/v1/models/rail/2/lineage", NULL, 200);
    ck_assert_str_eq(reply_text(&reply, "/model/id"), ids[1]);
    ck_assert_uint_eq(reply_count(&reply, "/ancestors"), 1);
    ck_assert_str_eq(reply_text(&reply, "/ancestors/0/id"), ids[0]);
    ck_assert_uint_eq(reply_count(&reply, "/descendants"), 1);
    ck_assert_str_eq(reply_text(&reply, "/descendants/0/id"), ids[2]);
    http_done(&reply);
    reply = ask("GET", "/v1/models/rail/1/lineage", NULL, 200);
    ck_assert_uint_eq(reply_count(&reply, "/ancestors"), 0);
    ck_assert_uint_eq(reply_count(&reply, "/descendants"), 3);
    ck_assert_str_eq(reply_text(&reply, "/descendants/0/id"), ids[1]);
    ck_assert_str_eq(reply_text(&reply, "/descendants/1/id"), ids[3]);
    ck_assert_str_eq(reply_text(&reply, "/descendants/2/id"), ids[2]);
    ck_assert_int_eq((int)reply_number(&reply, "/descendants/2/depth"), 2);
    http_done(&reply);
    reply = ask("GET", "/v1/models/half/lineage", NULL, 200); /* the data of its ancestors */
    ck_assert_uint_eq(reply_count(&reply, "/datasets"), 1);
    ck_assert_str_eq(reply_text(&reply, "/datasets/0/name"), "rail");
    http_done(&reply);
    expect("GET", "/v1/models/none/lineage", NULL, 404, NULL);
    expect("GET", "/v1/models/rail/lineage?depth=1", NULL, 400, "?depth");
}
END_TEST

START_TEST(tags__are_set_shown_filtered_by_and_taken_off) {
    expect("PUT", "/v1/models/rail/3/tags/robot=arm-3", NULL, 200, "[\"robot=arm-3\"]");
    expect("PUT", "/v1/models/rail/3/tags/nightly", NULL, 200, "[\"nightly\",\"robot=arm-3\"]");
    expect("PUT", "/v1/models/half/tags/nightly", NULL, 200, NULL);
    expect("GET", "/v1/models/rail/3/tags", NULL, 200, "nightly");
    expect("GET", "/v1/models/rail/3", NULL, 200, "\"tags\":[\"nightly\",\"robot=arm-3\"]");
    static const struct {
        const char *query;
        size_t n;
    } filters[] = {{"tag=nightly", 2}, {"tag=none", 0}, {"tag__glob=robot=*", 1}, {"tag__ne=nightly", 3}, {"tag=nightly&name=half", 1}};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        char path[200];
        snprintf(path, sizeof path, "/v1/models?%s", filters[i].query);
        http_reply reply = ask("GET", path, NULL, 200);
        ck_assert_msg(reply_count(&reply, "/items") == filters[i].n, "%s: %s", path, reply.body);
        http_done(&reply);
    }
    expect("GET", "/v1/models?tag__lt=x", NULL, 400, "?tag__lt");
    expect("GET", "/v1/models?sort=tag", NULL, 400, "?sort");
    expect("DELETE", "/v1/models/rail/3/tags/nightly", NULL, 200, "[\"robot=arm-3\"]");
    expect("DELETE", "/v1/models/rail/3/tags/nightly", NULL, 200, "[\"robot=arm-3\"]");
    expect("PUT", "/v1/models/rail/3/tags/a%20b", NULL, 400, "{tag}");
    expect("PUT", "/v1/models/none/tags/x", NULL, 404, NULL);
    http_reply csv = http_get(&d, "/v1/models?format=csv&limit=1");
    expect_status(csv, 200);
    ck_assert_msg(!strstr(csv.body, ",tag\r") && strstr(csv.body, ",tags,"), "%s", csv.body); /* filtered by, not shown */
    http_done(&csv);
}
END_TEST

START_TEST(delete__is_refused_by_name_and_then_final) {
    expect("DELETE", "/v1/models/rail/1", NULL, 409, "half/1");
    expect("DELETE", "/v1/models/rail/3", NULL, 409, "task stop/1, task turn/1");
    expect("DELETE", "/v1/datasets/rail", NULL, 409, "model rail/1");
    expect("DELETE", "/v1/models/lone/1", NULL, 204, NULL);
    expect("DELETE", "/v1/models/lone/1", NULL, 404, NULL);
    expect("GET", "/v1/models/lone", NULL, 404, NULL);
    expect("DELETE", "/v1/datasets/nothing", NULL, 404, NULL);
    expect("DELETE", "/v1/models/rail/1?force=1", NULL, 400, "?force");
}
END_TEST

START_TEST(episodes__are_told_and_add_up) {
    char location[200];
    http_reply reply =
        ask("POST", "/v1/episodes", "{\"model\":\"rail/3\",\"task\":\"stop\",\"robot\":\"arm-3\",\"steps\":10,\"cost\":4,\"success\":true}", 201);
    http_header(&reply, "Location", location, sizeof location);
    expect("GET", location, NULL, 200, "\"success\":true");
    http_done(&reply);
    expect("POST", "/v1/episodes",
           "{\"model\":\"rail/3\",\"task\":\"stop\",\"robot\":\"arm-3\",\"steps\":20,\"cost\":2,\"success\":false,\"metrics\":{\"e\":1}}", 201,
           "{\"e\":1}");
    expect("POST", "/v1/episodes", "{\"model\":\"rail/1\",\"task\":\"stop\",\"robot\":\"arm-4\",\"steps\":5,\"cost\":1}", 201, "\"success\":null");
    expect("POST", "/v1/episodes", "{\"model\":\"rail/3\",\"task\":\"turn\",\"robot\":\"arm-4\",\"steps\":5,\"cost\":9}", 201, NULL);
    reply = ask("GET", "/v1/episodes?task_name=stop&sort=-relu", NULL, 200);
    ck_assert_uint_eq(reply_count(&reply, "/items"), 2);
    ck_assert_str_eq(reply_text(&reply, "/items/1/model"), ids[2]);
    ck_assert_int_eq((int)reply_number(&reply, "/items/1/episodes"), 2);
    ck_assert_double_eq_tol(reply_number(&reply, "/items/1/success_rate"), 0.5, 1e-12);
    ck_assert_double_eq_tol(reply_number(&reply, "/items/1/cost_mean"), 3, 1e-12);
    ck_assert_double_eq_tol(reply_number(&reply, "/items/1/steps_mean"), 15, 1e-12);
    ck_assert(!reply_has(&reply, "/items/0/success_rate"));
    http_done(&reply);
    expect("GET", "/v1/episodes?sort=cost_mean&limit=1", NULL, 200, "\"next\":\"");
    expect("DELETE", "/v1/models/rail/3", NULL, 409, "2 episodes of task");
}
END_TEST

START_TEST(episodes__refusals_name_the_field) {
    static const struct {
        const char *body;
        int status;
        const char *pointer;
    } wrong[] = {
        {"{\"task\":\"stop\",\"robot\":\"a\",\"steps\":1,\"cost\":1}", 400, "/model"},
        {"{\"model\":\"none\",\"task\":\"stop\",\"robot\":\"a\",\"steps\":1,\"cost\":1}", 422, "/model"},
        {"{\"model\":\"rail\",\"task\":\"none\",\"robot\":\"a\",\"steps\":1,\"cost\":1}", 422, "/task"},
        {"{\"model\":\"rail\",\"task\":\"stop\",\"robot\":\"a b\",\"steps\":1,\"cost\":1}", 400, "/robot"},
        {"{\"model\":\"rail\",\"task\":\"stop\",\"robot\":\"a\",\"steps\":0,\"cost\":1}", 400, "/steps"},
        {"{\"model\":\"rail\",\"task\":\"stop\",\"robot\":\"a\",\"steps\":1}", 400, "/cost"},
        {"{\"model\":\"rail\",\"task\":\"stop\",\"robot\":\"a\",\"steps\":1,\"cost\":\"x\"}", 400, "/cost"},
        {"{\"model\":\"rail\",\"task\":\"stop\",\"robot\":\"a\",\"steps\":1,\"cost\":1,\"success\":1}", 400, "/success"},
        {"{\"model\":\"rail\",\"task\":\"stop\",\"robot\":\"a\",\"steps\":1,\"cost\":1,\"metrics\":[1]}", 400, "/metrics"},
        {"{\"model\":\"rail\",\"task\":\"stop\",\"robot\":\"a\",\"steps\":1,\"cost\":1,\"colour\":1}", 400, "/colour"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        http_reply reply = http_json(&d, "POST", "/v1/episodes", wrong[i].body);
        expect_problem(&reply, wrong[i].status, wrong[i].status == 422 ? "UNPROCESSABLE" : "INVALID", wrong[i].pointer);
        http_done(&reply);
    }
    expect("GET", "/v1/episodes/epi_nothing", NULL, 404, NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("lineage");
    TCase *tcase = tcase_create("lineage");
    tcase_add_test(tcase, lineage__goes_both_ways);
    tcase_add_test(tcase, tags__are_set_shown_filtered_by_and_taken_off);
    tcase_add_test(tcase, delete__is_refused_by_name_and_then_final);
    tcase_add_test(tcase, episodes__are_told_and_add_up);
    tcase_add_test(tcase, episodes__refusals_name_the_field);
    suite_add_tcase(suite, tcase);
    if (seed()) return 1;
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
