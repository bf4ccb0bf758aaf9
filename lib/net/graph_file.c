/* SPDX-License-Identifier: Apache-2.0
 * A graph network as bytes: what follows the version in a model file of version 2 (schema/formats/model.md). Reading
 * trusts nothing: sizes against the caps and against the bytes that are left come before memory. */
#include <stdlib.h>

#include "net/graph.h"
#include "net/net_bytes.h"

static void put_layout(const esp_graph_layout *l, esp_buf *out) {
    const int words[] = {l->objects, l->first, l->size, l->n_shared, l->nu, l->rounds, l->n_position, l->n_points};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) esp_buf_put_u32(out, (uint32_t)words[i]);
    for (int d = 0; d < l->n_position; d++) esp_buf_put_u32(out, (uint32_t)l->position[d]);
    for (int p = 0; p < l->n_points; p++) {
        esp_buf_put_u32(out, l->points[p].on_u);
        for (int d = 0; d < l->n_position; d++) esp_buf_put_u32(out, (uint32_t)l->points[p].index[d]);
    }
    esp_buf_put_doubles(out, &l->radius, 1);
}

void esp_graph_put(const esp_graph *graph, esp_buf *out) {
    size_t q = (size_t)graph->layout.n_shared;
    put_layout(&graph->layout, out);
    for (int k = 0; k < ESP_BLOCKS; k++) esp_net_put_shape(graph->block[k], out);
    for (int k = 0; k < ESP_BLOCKS; k++) esp_net_put_acts(graph->block[k], out);
    esp_buf_put_doubles(out, graph->a, q * (q + (size_t)graph->layout.nu + 1)); /* with b and c */
    for (int k = 0; k < ESP_BLOCKS; k++) esp_net_put_numbers(graph->block[k], out);
}

/* A word below the cap; out of range it fails the cursor. */
static int take_word(esp_cursor *cursor, int cap) {
    uint32_t word = esp_cursor_u32(cursor);
    if (word > (uint32_t)cap) cursor->failed = true;
    return word > (uint32_t)cap ? 0 : (int)word;
}

static esp_code take_layout(esp_cursor *cursor, esp_graph_layout *l, esp_error *reterr) {
    esp_error why = {0};
    int *const words[] = {&l->objects, &l->first, &l->size, &l->n_shared, &l->nu, &l->rounds};
    *l = (esp_graph_layout){0};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) *words[i] = take_word(cursor, ESP_MAX_WIDTH);
    l->n_position = take_word(cursor, ESP_MAX_DIMENSIONS);
    l->n_points = take_word(cursor, ESP_MAX_POINTS);
    for (int d = 0; d < l->n_position; d++) l->position[d] = take_word(cursor, ESP_MAX_WIDTH);
    for (int p = 0; p < l->n_points; p++) {
        l->points[p].on_u = take_word(cursor, 1) == 1;
        for (int d = 0; d < l->n_position; d++) l->points[p].index[d] = take_word(cursor, ESP_MAX_WIDTH);
    }
    esp_cursor_doubles(cursor, &l->radius, 1);
    if (cursor->failed) return esp_fail(reterr, ESP_CORRUPT, "the model file's layout of objects is cut short or out of range");
    esp_code code = esp_graph_layout_check(l, &why);
    return code == ESP_OK ? ESP_OK : esp_fail(reterr, ESP_CORRUPT, "model file: %s: %s", why.pointer, why.message);
}

static esp_code take_shapes(esp_cursor *cursor, const esp_graph_layout *l, esp_net_shape shapes[ESP_BLOCKS], esp_error *reterr) {
    size_t q = (size_t)l->n_shared, due = 8 * q * (q + (size_t)l->nu + 1);
    for (int k = 0; k < ESP_BLOCKS; k++) {
        esp_code code = esp_net_take_shape(cursor, &shapes[k], reterr);
        if (code != ESP_OK) return code;
        due += shapes[k].n_act + 8 * shapes[k].n_numbers;
    }
    size_t left = cursor->len - cursor->pos;
    if (!cursor->failed && left == due) return ESP_OK;
    return esp_fail(reterr, ESP_CORRUPT, "%zu bytes follow the model file's head; its sizes ask for %zu", left, due);
}

esp_code esp_graph_take(esp_cursor *cursor, esp_graph **ret_graph, esp_error *reterr) {
    esp_graph_layout layout;
    esp_net_shape shapes[ESP_BLOCKS];
    esp_net *blocks[ESP_BLOCKS] = {NULL};
    double *shared = NULL;
    esp_error why = {0};
    esp_code code = take_layout(cursor, &layout, reterr);
    if (code == ESP_OK) code = take_shapes(cursor, &layout, shapes, reterr);
    for (int k = 0; code == ESP_OK && k < ESP_BLOCKS; k++) code = esp_net_take_acts(cursor, &shapes[k], &blocks[k], reterr);
    size_t q = (size_t)layout.n_shared, n = code == ESP_OK ? q * (q + (size_t)layout.nu + 1) : 0;
    if (code == ESP_OK) {
        shared = malloc(n * sizeof *shared + 1);
        if (!shared) code = esp_fail(reterr, ESP_NOMEM, "%zu shared numbers", n);
    }
    if (code != ESP_OK) {
        for (int k = 0; k < ESP_BLOCKS; k++) esp_net_free(blocks[k]);
        return code;
    }
    esp_cursor_doubles(cursor, shared, n);
    for (int k = 0; k < ESP_BLOCKS; k++) esp_net_take_numbers(cursor, blocks[k]);
    code = esp_graph_create(&layout, blocks, shared, shared + q * q, shared + q * (q + (size_t)layout.nu), ret_graph, &why);
    free(shared);
    return code == ESP_OK ? ESP_OK : esp_fail(reterr, code == ESP_INVALID ? ESP_CORRUPT : code, "model file: %s", why.message);
}
