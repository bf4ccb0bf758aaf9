/* SPDX-License-Identifier: Apache-2.0
 * Models kept between tasks, by content: the least recently used of 16 makes room. */
#include "worker/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MODEL_BYTES_MAX = 1 << 28 };

static void drop(worker *w, worker_model *m) {
    for (int i = 0; i < CACHE_CAP; i++) {
        worker_model *other = &w->cache[i];
        if (other != m && other->paired != m) continue;
        esp_candidate_free(other->pair);
        other->pair = NULL;
        other->paired = NULL;
    }
    esp_planner_free(m->planner);
    esp_closed_form_free(m->form);
    esp_program_free(m->program);
    esp_model_free(m->model);
    free(m->x_lower);
    free(m->x_upper);
    *m = (worker_model){0};
}

void worker_cache_done(worker *w) {
    for (int i = 0; i < CACHE_CAP; i++) drop(w, &w->cache[i]);
}

/* "sha256" alone, or "sha256/hash of the data box". */
static void make_key(const char *sha256, const esp_reader *box, char ret_key[2 * ESP_HASH_HEX]) {
    size_t len = strlen(sha256);
    memcpy(ret_key, sha256, len + 1);
    if (!box->value) return;
    esp_buf text = {0};
    esp_json_canonical(box->value, &text);
    ret_key[len] = '/';
    esp_hash_bytes(text.data, text.len, ret_key + len + 1);
    esp_buf_done(&text);
}

/* The bytes must be those that the registry named. */
static esp_code load(const char *path, const char *sha256, esp_model **ret_model, esp_error *reterr) {
    esp_buf bytes = {0};
    char hash[ESP_HASH_HEX];
    esp_code code = esp_file_read(path, MODEL_BYTES_MAX, &bytes, reterr);
    if (!code) {
        esp_hash_bytes(bytes.data, bytes.len, hash);
        if (strcmp(hash, sha256) != 0) code = esp_fail(reterr, ESP_CORRUPT, "%.200s has the hash %.12s..., not %.12s...", path, hash, sha256);
    }
    if (!code) code = esp_model_decode(bytes.data, bytes.len, ret_model, reterr);
    esp_buf_done(&bytes);
    return code;
}

static esp_code load_box(const esp_reader *box, worker_model *m, esp_error *reterr) {
    size_t n = (size_t)esp_model_n_x(m->model);
    m->x_lower = calloc(n, sizeof *m->x_lower);
    m->x_upper = calloc(n, sizeof *m->x_upper);
    if (!m->x_lower || !m->x_upper) return esp_fail(reterr, ESP_NOMEM, "no memory for the data box");
    esp_reader lower = esp_read_member(box, "lower"), upper = esp_read_member(box, "upper");
    esp_code code = esp_read_vector(&lower, n, m->x_lower, reterr);
    return code ? code : esp_read_vector(&upper, n, m->x_upper, reterr);
}

/* The slot with this key, or NULL. */
static worker_model *find(worker *w, const char *key) {
    for (int i = 0; i < CACHE_CAP; i++) {
        worker_model *m = &w->cache[i];
        if (!m->used || strcmp(m->key, key) != 0) continue;
        m->used = ++w->tick;
        return m;
    }
    return NULL;
}

static worker_model *oldest(worker *w) {
    worker_model *found = &w->cache[0];
    for (int i = 1; i < CACHE_CAP; i++)
        if (w->cache[i].used < found->used) found = &w->cache[i];
    return found;
}

esp_code worker_model_get(worker *w, const esp_reader *reader, worker_model **ret_model, esp_error *reterr) {
    char key[2 * ESP_HASH_HEX];
    const char *path = NULL, *sha256 = NULL;
    esp_code code = worker_text(reader, "path", &path, reterr);
    if (!code) code = worker_text(reader, "sha256", &sha256, reterr);
    if (!code && strlen(sha256) != ESP_HASH_HEX - 1) code = esp_fail(reterr, ESP_INTERNAL, "a model came without its hash");
    if (code) return code;
    esp_reader box = esp_read_member(reader, "data_box");
    make_key(sha256, &box, key);
    worker_model *m = find(w, key);
    if (m) {
        *ret_model = m;
        return ESP_OK;
    }
    m = oldest(w);
    drop(w, m);
    code = load(path, sha256, &m->model, reterr);
    if (!code && box.value) code = load_box(&box, m, reterr);
    if (code) {
        drop(w, m);
        return code;
    }
    memcpy(m->key, key, sizeof key);
    m->used = ++w->tick;
    *ret_model = m;
    return ESP_OK;
}

/* ---- graph networks for a state -------------------------------------------------------------------------------------- */

/* The stored key's hash, and that of all that makes the state's model. */
static void state_key(const worker_model *m, const esp_model *bound, bool plain, char ret_key[2 * ESP_HASH_HEX]) {
    esp_buf text = {0};
    esp_buf_puts(&text, m->key);
    esp_buf_put_u32(&text, (uint32_t)bound->ny);
    esp_buf_put_u32(&text, plain);
    esp_buf_put(&text, bound->edges, (size_t)bound->n_edges * sizeof *bound->edges);
    memcpy(ret_key, m->key, ESP_HASH_HEX - 1);
    ret_key[ESP_HASH_HEX - 1] = '/';
    esp_hash_bytes(text.data, text.len, ret_key + ESP_HASH_HEX);
    esp_buf_done(&text);
}

/* The data box of so many objects: each may be where any of those of the data was. */
static esp_code spread_box(const worker_model *from, worker_model *to, esp_error *reterr) {
    const esp_graph_layout *l = &from->model->graph->layout;
    int n = esp_graph_objects(l, to->model->ny), nu = l->nu, ny = to->model->ny;
    if (!from->x_lower) return ESP_OK;
    to->x_lower = calloc((size_t)(ny + nu), sizeof *to->x_lower);
    to->x_upper = calloc((size_t)(ny + nu), sizeof *to->x_upper);
    if (!to->x_lower || !to->x_upper) return esp_fail(reterr, ESP_NOMEM, "no memory for the data box");
    for (int k = 0; k < n * l->size; k++) {
        int at = l->first + k, first = l->first + k % l->size;
        to->x_lower[at] = from->x_lower[first];
        to->x_upper[at] = from->x_upper[first];
        for (int i = 1; i < l->objects; i++) {
            to->x_lower[at] = fmin(to->x_lower[at], from->x_lower[first + i * l->size]);
            to->x_upper[at] = fmax(to->x_upper[at], from->x_upper[first + i * l->size]);
        }
    }
    for (int k = 0; k < l->n_shared + nu; k++) { /* u is behind all of y */
        int there = k < l->n_shared ? esp_graph_shared(l, n, k) : ny + k - l->n_shared;
        int here = k < l->n_shared ? esp_graph_shared(l, l->objects, k) : from->model->ny + k - l->n_shared;
        to->x_lower[there] = from->x_lower[here];
        to->x_upper[there] = from->x_upper[here];
    }
    return ESP_OK;
}

static esp_code bind(const esp_model *graph, const worker_state *at, esp_model **ret, esp_error *reterr) {
    return at->lower ? esp_model_bind_box(graph, at->ny, at->lower, at->upper, ret, reterr) : esp_model_bind(graph, at->ny, at->y, ret, reterr);
}

esp_code worker_model_at(worker *w, worker_model *m, const worker_state *at, worker_model **ret_model, esp_error *reterr) {
    char key[2 * ESP_HASH_HEX];
    esp_model *bound = NULL, *flat = NULL;
    if (!m->model->graph) {
        if (at->ny != m->model->ny) return esp_fail(reterr, ESP_UNPROCESSABLE, "%d observed numbers; the model has %d", at->ny, m->model->ny);
        *ret_model = m;
        return ESP_OK;
    }
    esp_code code = bind(m->model, at, &bound, reterr);
    if (code) return code;
    state_key(m, bound, at->plain, key);
    worker_model *found = find(w, key);
    if (!found) {
        if (at->plain) code = esp_model_flatten(bound, &flat, reterr);
        if (!code) {
            found = oldest(w); /* not m, which was used last */
            drop(w, found);
            found->model = at->plain ? flat : bound;
            if (!at->plain) bound = NULL;
            code = spread_box(m, found, reterr);
            if (code) drop(w, found);
        }
    }
    esp_model_free(bound);
    if (code) return code;
    memcpy(found->key, key, sizeof key);
    found->used = ++w->tick;
    *ret_model = found;
    return ESP_OK;
}

esp_code worker_model_program(worker_model *m, const esp_program **ret_program, esp_error *reterr) {
    esp_code code = m->program ? ESP_OK : esp_program_lower(m->model, &m->program, reterr);
    if (!code) *ret_program = m->program;
    return code;
}

esp_code worker_model_planner(worker_model *m, esp_planner **ret_planner, esp_error *reterr) {
    esp_code code = m->planner ? ESP_OK : esp_planner_create(m->model, m->x_lower, m->x_upper, &m->planner, reterr);
    if (!code) *ret_planner = m->planner;
    return code;
}

esp_code worker_model_form(worker_model *m, const esp_closed_form **ret_form, esp_error *reterr) {
    esp_code code = m->form ? ESP_OK : esp_closed_form_create(m->model, &m->form, reterr);
    if (!code) *ret_form = m->form;
    return code;
}

esp_code worker_model_pair(worker_model *m, worker_model *other, const esp_candidate **ret_pair, esp_error *reterr) {
    const esp_closed_form *form = NULL;
    esp_candidate *pair = NULL;
    if (m->paired != other) {
        esp_code code = worker_model_form(m, &form, reterr);
        if (!code) code = esp_candidate_create(form, other->model, &pair, reterr);
        if (code) return code;
        esp_candidate_free(m->pair);
        m->pair = pair;
        m->paired = other;
    }
    *ret_pair = m->pair;
    return ESP_OK;
}
