/* SPDX-License-Identifier: Apache-2.0
 * GET /v1/bounds: the table over certificates, its filters and forms, one certificate whole. The rows are put into the
 * registry directly, before the daemon starts on it: what makes certificates is tested elsewhere. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/registry.h"
#include "support/http.h"

static test_daemon d;
enum { ROWS = 250 };

static esp_code fill(esp_db *db, void *user, esp_error *reterr) {
    (void)user;
    esp_model_row models[2];
    esp_code code = ESP_OK;
    for (int i = 0; i < 2 && !code; i++) {
        models[i] = (esp_model_row){
            .kind = "dynamics", .name = "rung", .ny = 2, .nu = 1, .history = 1, .relu = 64 >> i, .parameters = 100, .nonzero = 100 >> i};
        memset(models[i].sha256, 'a' + i, 64);
        code = esp_model_insert(db, &models[i], reterr);
    }
    for (int i = 0; i < ROWS && !code; i++) {
        esp_certificate_row row = {.kind = "difference",
                                   .norm = "linf",
                                   .method = "interval",
                                   .strength = "proved",
                                   .status = "proved",
                                   .value = i * 0.01,
                                   .lower = i * 0.001,
                                   .tolerance = 0,
                                   .seconds = 0.5};
        if (i == ROWS - 1) row.value = INFINITY; /* nothing was found: no number in JSON, and last in order */
        if (i % 2) strcpy(row.method, "crown");
        strcpy(row.model, models[1].id);
        strcpy(row.reference, models[0].id);
        memset(row.domain_sha256, 'd', 64);
        row.record = strdup("{\"domain\":{\"lower\":[0],\"upper\":[1]}}");
        code = esp_certificate_insert(db, &row, reterr);
        esp_certificate_row_done(&row);
    }
    return code;
}

static int prepare(void) {
    esp_error error = {0};
    esp_registry *registry = NULL;
    char data[80];
    strcpy(d.dir, "/tmp/espalier-test-XXXXXX");
    if (!mkdtemp(d.dir)) return -1;
    snprintf(data, sizeof data, "%s/data", d.dir);
    esp_code code = esp_registry_open(data, &registry, &error);
    if (!code) code = esp_registry_write(registry, fill, NULL, &error);
    esp_registry_close(registry);
    if (code) fprintf(stderr, "%s\n", error.message);
    return code;
}

START_TEST(bounds__table_has_every_row_once) {
    char path[700] = "/v1/bounds?sort=-value&limit=100", last[64] = "";
    size_t seen = 0;
    double before = INFINITY;
    for (;;) {
        http_reply reply = http_get(&d, path);
        expect_status(reply, 200);
        size_t n = reply_count(&reply, "/items");
        for (size_t i = 0; i < n; i++) {
            char at[64];
            snprintf(at, sizeof at, "/items/%zu/value", i);
            if (seen + i == 0) {
                ck_assert(!reply_has(&reply, at)); /* the infinite one: null */
                continue;
            }
            ck_assert(reply_number(&reply, at) < before);
            before = reply_number(&reply, at);
        }
        ck_assert_int_eq((int)reply_number(&reply, "/items/0/relu"), 32);
        ck_assert_double_eq_tol(reply_number(&reply, "/items/0/sparsity"), 0.5, 1e-15);
        ck_assert_str_ne(reply_text(&reply, "/items/0/id"), last);
        strcpy(last, reply_text(&reply, "/items/0/id"));
        seen += n;
        if (!reply_has(&reply, "/next")) {
            http_done(&reply);
            break;
        }
        snprintf(path, sizeof path, "/v1/bounds?sort=-value&limit=100&cursor=%s", reply_text(&reply, "/next"));
        http_done(&reply);
    }
    ck_assert_uint_eq(seen, ROWS);
}
END_TEST

static size_t lines_of(const http_reply *reply) {
    size_t lines = 0;
    for (size_t i = 0; i < reply->len; i++) lines += reply->body[i] == '\n';
    return lines;
}

START_TEST(bounds__exports_are_whole) {
    char cursor[600];
    http_reply reply = http_get(&d, "/v1/bounds?format=csv");
    expect_status(reply, 200);
    ck_assert_uint_eq(lines_of(&reply), ROWS + 1);
    ck_assert(strncmp(reply.body, "id,model,", 9) == 0);
    http_done(&reply);
    reply = http_get(&d, "/v1/bounds?format=ndjson&method=crown");
    ck_assert_uint_eq(lines_of(&reply), ROWS / 2);
    http_done(&reply);
    reply = http_get(&d, "/v1/bounds?format=csv&limit=10");
    ck_assert_uint_eq(lines_of(&reply), 11);
    ck_assert_int_gt((int)strlen(http_header(&reply, "X-Next-Cursor", cursor, sizeof cursor)), 0);
    http_done(&reply);
}
END_TEST

START_TEST(bounds__filters) {
    http_reply reply = http_get(&d, "/v1/bounds?value__lte=0.05&model_name=rung&relu__lt=64&method__ne=crown&limit=1000");
    expect_status(reply, 200);
    ck_assert_uint_eq(reply_count(&reply, "/items"), 3); /* 0, 2, 4 */
    http_done(&reply);
    reply = http_get(&d, "/v1/bounds?eps=1");
    expect_problem(&reply, 400, "INVALID", "?eps");
    http_done(&reply);
    reply = http_get(&d, "/v1/bounds?value__lt=nan");
    expect_problem(&reply, 400, "INVALID", "?value__lt");
    http_done(&reply);
}
END_TEST

START_TEST(bounds__one_certificate_has_its_record) {
    char path[100];
    http_reply reply = http_get(&d, "/v1/bounds?limit=1");
    snprintf(path, sizeof path, "/v1/bounds/%s", reply_text(&reply, "/items/0/id"));
    http_done(&reply);
    reply = http_get(&d, path);
    expect_status(reply, 200);
    ck_assert_double_eq(reply_number(&reply, "/record/domain/upper/0"), 1);
    http_done(&reply);
    reply = http_get(&d, "/v1/models/rung/2");
    ck_assert_uint_eq(reply_count(&reply, "/certificates"), ROWS);
    http_done(&reply);
    reply = http_get(&d, "/v1/bounds/none");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
}
END_TEST

int main(void) {
    if (prepare()) return 1;
    Suite *suite = suite_create("bounds");
    TCase *c = tcase_create("bounds");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, bounds__table_has_every_row_once);
    tcase_add_test(c, bounds__exports_are_whole);
    tcase_add_test(c, bounds__filters);
    tcase_add_test(c, bounds__one_certificate_has_its_record);
    suite_add_tcase(suite, c);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
