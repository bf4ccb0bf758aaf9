/* SPDX-License-Identifier: Apache-2.0
 * Requests for datasets and jobs (service.h). */
#include "robots/service.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_MS 60000

bool esp_service_fail(esp_client_code code, const char *text, esp_client_error *reterr) {
    *reterr = (esp_client_error){.code = code};
    snprintf(reterr->message, sizeof reterr->message, "%s", text);
    return false;
}

static bool take_id(const json_t *reply, const char *key, char *ret_id, size_t cap) {
    const char *id = json_string_value(json_object_get(reply, key));
    if (id != NULL) snprintf(ret_id, cap, "%s", id);
    return id != NULL;
}

bool esp_service_upload(esp_client *client, const char *name, const char *file, char *ret_id, size_t cap, char *ret_sha256,
                        esp_client_error *reterr) {
    char path[128];
    json_t *reply = NULL;
    snprintf(path, sizeof path, "/v1/datasets?name=%s", name);
    if (esp_client_upload(client, path, "application/x-ndjson", file, TIMEOUT_MS, &reply, reterr) != ESP_CLIENT_OK) return false;
    bool good = take_id(reply, "id", ret_id, cap) && (ret_sha256 == NULL || take_id(reply, "sha256", ret_sha256, 65));
    json_decref(reply);
    return good || esp_service_fail(ESP_CLIENT_FORMAT, "the reply to the upload lacks id or sha256", reterr);
}

static bool create(esp_client *client, const char *path, json_t *body, const char *lacks, char *ret_id, size_t cap, esp_client_error *reterr) {
    json_t *reply = NULL;
    esp_client_code code = esp_client_call(client, "POST", path, body, TIMEOUT_MS, &reply, reterr);
    json_decref(body);
    if (code != ESP_CLIENT_OK) return false;
    bool good = take_id(reply, "id", ret_id, cap);
    json_decref(reply);
    return good || esp_service_fail(ESP_CLIENT_FORMAT, lacks, reterr);
}

bool esp_service_submit(esp_client *client, const char *kind, json_t *spec, char *ret_id, size_t cap, esp_client_error *reterr) {
    return create(client, "/v1/jobs", json_pack("{s:s,s:o}", "kind", kind, "spec", spec), "the reply to a new job lacks its id", ret_id, cap, reterr);
}

bool esp_service_task(esp_client *client, json_t *task, char *ret_id, size_t cap, esp_client_error *reterr) {
    return create(client, "/v1/tasks", task, "the reply to a new task lacks its id", ret_id, cap, reterr);
}

static json_t *matrix(int rows, int columns, double (*entry)(int i, int j)) {
    json_t *m = json_array();
    for (int i = 0; i < rows; i++) {
        json_t *row = json_array();
        for (int j = 0; j < columns; j++) json_array_append_new(row, json_real(entry(i, j)));
        json_array_append_new(m, row);
    }
    return m;
}

json_t *esp_service_frame(const esp_robot *r) {
    if (r->objects > 0) return json_string("residual");
    return json_pack("{s:o,s:o,s:o,s:o,s:o}", "a", matrix(r->ny, r->ny, r->a), "b", matrix(r->ny, r->nu, r->b), "c", matrix(r->n_in, r->ny, r->c),
                     "d", matrix(r->n_in, r->nu, r->d), "g", matrix(r->ny, r->n_out, r->g));
}

json_t *esp_service_graph(const esp_robot *r, int width) {
    return json_pack("{s:s,s:{s:i,s:i,s:[i,i]},s:[{s:s,s:[i,i]}],s:f,s:[i],s:[i],s:i,s:[i]}", "type", "graph", "objects", "count", r->objects, "size",
                     r->ny / r->objects, "position", 0, 1, "points", "on", "u", "index", 0, 1, "radius", r->radius, "node", width, "edge", width,
                     "width", width, "output", width);
}

json_t *esp_service_numbers(const double *values, int n) {
    json_t *array = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(array, json_real(values[i]));
    return array;
}

json_t *esp_service_integers(const int *values, int n) {
    json_t *array = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(array, json_integer(values[i]));
    return array;
}

double esp_service_number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

bool esp_service_read(const json_t *array, double *ret_values, size_t n) {
    if (json_array_size(array) != n) return false;
    for (size_t i = 0; i < n; i++)
        if (!json_is_number(json_array_get(array, i))) return false;
    for (size_t i = 0; i < n; i++) ret_values[i] = json_number_value(json_array_get(array, i));
    return true;
}
