/* SPDX-License-Identifier: Apache-2.0
 * pruning.h. */
#include "support/pruning.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/rng.h"
#include "support/schema.h"

void pruning_upload_policy(const test_daemon *daemon, const char *name) {
    static const int widths[] = {4, 12, 12, 2};
    char path[128];
    esp_buf text = {0};
    esp_rng rng;
    esp_rng_init(&rng, 5, 5);
    esp_jsonw w = esp_jsonw_on(&text);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_array(&w, "layers");
    for (int k = 0; k < 3; k++) {
        double weights[144], biases[12];
        for (int i = 0; i < widths[k + 1]; i++) {
            for (int j = 0; j < widths[k]; j++) weights[i * widths[k] + j] = esp_rng_normal(&rng) / sqrt(widths[k]);
            biases[i] = 0.3 * esp_rng_normal(&rng);
        }
        esp_jsonw_object(&w, NULL);
        esp_jsonw_matrix(&w, "w", weights, (size_t)widths[k + 1], (size_t)widths[k]);
        esp_jsonw_vector(&w, "b", biases, (size_t)widths[k + 1]);
        esp_jsonw_string(&w, "activation", k == 2 ? "identity" : "relu");
        esp_jsonw_object_end(&w);
    }
    esp_jsonw_array_end(&w);
    esp_jsonw_object_end(&w);
    snprintf(path, sizeof path, "/v1/models?name=%s&kind=policy", name);
    http_reply reply = http_json(daemon, "POST", path, esp_buf_text(&text));
    expect_status(reply, 201);
    http_done(&reply);
    esp_buf_done(&text);
}

http_reply pruning_run(const test_daemon *daemon, const char *spec, const char *state) {
    char id[64], why[1024] = "", path[128], body[2048];
    snprintf(body, sizeof body, "{\"kind\":\"prune\",\"spec\":%s}", spec);
    ck_assert_msg(schema_check_request("POST", "/v1/jobs", body, why, sizeof why), "%s: %s", body, why);
    rail_submit(daemon, body, id);
    http_reply job = rail_wait_end(daemon, id, 60);
    ck_assert_msg(strcmp(reply_text(&job, "/state"), state) == 0, "%.1500s", job.body);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    ck_assert_msg(schema_check_reply("GET", path, 200, job.body, why, sizeof why), "%s", why);
    return job;
}

http_reply pruning_model(const test_daemon *daemon, const http_reply *job) {
    char path[128];
    snprintf(path, sizeof path, "/v1/models/%s", reply_text(job, "/result/model/id"));
    http_reply model = http_get(daemon, path);
    expect_status(model, 200);
    return model;
}

void pruning_check(const test_daemon *daemon, const http_reply *job) {
    const char *build = getenv("ESPALIER_BUILD");
    size_t n = reply_count(job, "/result/certificates");
    for (size_t i = 0; i < n; i++) {
        char pointer[64], path[128], command[512];
        esp_error error = {0};
        snprintf(pointer, sizeof pointer, "/result/certificates/%zu/id", i);
        snprintf(path, sizeof path, "/v1/bounds/%s", reply_text(job, pointer));
        http_reply row = http_get(daemon, path);
        expect_status(row, 200);
        snprintf(path, sizeof path, "%s/certificate", daemon->dir);
        ck_assert_int_eq(esp_file_write(path, row.body, row.len, &error), ESP_OK);
        snprintf(command, sizeof command, "%s/espalier-check --models %s/data/blobs %s/certificate >%s/checked 2>&1", build ? build : "build/release",
                 daemon->dir, daemon->dir, daemon->dir);
        ck_assert_msg(system(command) == 0, "%.1000s", row.body);
        http_done(&row);
    }
}
