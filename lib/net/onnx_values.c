/* SPDX-License-Identifier: Apache-2.0
 * What operators of an ONNX graph are made with: new values, and a node's inputs and attributes, checked. */
#include <onnx.pb-c.h>

#include <string.h>

#include "net/onnx_private.h"

/* ---- making values --------------------------------------------------------------------------------------------------- */

esp_code esp_onnx_no_memory(const esp_onnx_graph *g, esp_error *reterr) {
    return esp_onnx_refuse(g, "the graph takes more memory than is given to one");
}

esp_code esp_onnx_make(esp_onnx_graph *g, esp_onnx_value value, const esp_onnx_value **ret, esp_error *reterr) {
    esp_onnx_value *made = ESP_NEW(g->arena, esp_onnx_value, 1);
    if (!made) return esp_onnx_no_memory(g, reterr);
    *made = value;
    *ret = made;
    return ESP_OK;
}

esp_code esp_onnx_make_affine(esp_onnx_graph *g, size_t n, const esp_onnx_value *from, const double *w, const double *b, const esp_onnx_value **ret,
                              esp_error *reterr) {
    return esp_onnx_make(g, (esp_onnx_value){.kind = ESP_ONNX_AFFINE, .n = n, .rank = 2, .from = from, .w = w, .b = b}, ret, reterr);
}

esp_code esp_onnx_affine(esp_onnx_graph *g, const esp_onnx_value *value, const esp_onnx_value **ret, esp_error *reterr) {
    if (value->kind == ESP_ONNX_AFFINE) {
        *ret = value;
        return ESP_OK;
    }
    double *w = ESP_NEW(g->arena, double, value->n * value->n);
    if (!w) return esp_onnx_no_memory(g, reterr);
    for (size_t i = 0; i < value->n; i++) w[i * value->n + i] = 1;
    return esp_onnx_make_affine(g, value->n, value, w, NULL, ret, reterr);
}

esp_code esp_onnx_make_acted(esp_onnx_graph *g, const esp_onnx_value *affine, const uint8_t *act, const esp_onnx_value **ret, esp_error *reterr) {
    return esp_onnx_make(g, (esp_onnx_value){.kind = ESP_ONNX_ACTED, .n = affine->n, .rank = 2, .from = affine, .act = act}, ret, reterr);
}

/* ---- reading nodes --------------------------------------------------------------------------------------------------- */

const EspOnnx__AttributeProto *esp_onnx_attribute(const EspOnnx__NodeProto *node, const char *name) {
    for (size_t i = 0; i < node->n_attribute; i++)
        if (node->attribute[i]->name && strcmp(node->attribute[i]->name, name) == 0) return node->attribute[i];
    return NULL;
}

int64_t esp_onnx_int_attribute(const EspOnnx__NodeProto *node, const char *name, int64_t otherwise) {
    const EspOnnx__AttributeProto *a = esp_onnx_attribute(node, name);
    return a && a->has_i ? a->i : otherwise;
}

/* "f:alpha": the name, and the type that it must have: f a float, i an integer, l a list of integers. */
static bool is_known(const EspOnnx__AttributeProto *a, const char *const *known) {
    for (size_t k = 0; a->name && known && known[k]; k++)
        if (strcmp(known[k] + 2, a->name) == 0) return known[k][0] == 'f' ? a->has_f : known[k][0] == 'i' ? a->has_i : a->n_ints > 0;
    return false;
}

esp_code esp_onnx_check_node(const esp_onnx_graph *g, const EspOnnx__NodeProto *node, size_t min, size_t max, const char *const *known,
                             esp_error *reterr) {
    if (node->n_input < min || node->n_input > max)
        return esp_onnx_invalid(g, "%.64s with %zu inputs; %zu to %zu are expected", node->op_type, node->n_input, min, max);
    for (size_t i = 0; i < node->n_attribute; i++) {
        const char *name = node->attribute[i]->name ? node->attribute[i]->name : "";
        if (!is_known(node->attribute[i], known))
            return esp_onnx_refuse(g, "%.64s with the attribute \"%.64s\", or one of another type", node->op_type, name);
    }
    return ESP_OK;
}

esp_code esp_onnx_input(const esp_onnx_graph *g, const EspOnnx__NodeProto *node, size_t k, bool optional, const esp_onnx_value **ret,
                        esp_error *reterr) {
    const char *name = k < node->n_input ? node->input[k] : "";
    *ret = NULL;
    if (!name[0] && optional) return ESP_OK;
    *ret = esp_onnx_find(g, name);
    if (!*ret) return esp_onnx_invalid(g, "%.64s uses \"%.64s\", which nothing before it makes", node->op_type, name);
    return ESP_OK;
}

esp_code esp_onnx_computed(const esp_onnx_graph *g, const EspOnnx__NodeProto *node, size_t k, const esp_onnx_value **ret, esp_error *reterr) {
    esp_code code = esp_onnx_input(g, node, k, false, ret, reterr);
    if (code) return code;
    if ((*ret)->kind == ESP_ONNX_CONST) return esp_onnx_refuse(g, "%.64s with a constant where a computed value is expected", node->op_type);
    if ((*ret)->kind == ESP_ONNX_FRAMED) return esp_onnx_refuse(g, "%.64s after the sum of a linear part and the network", node->op_type);
    if ((*ret)->rank != 2) return esp_onnx_refuse(g, "%.64s of a value that is not flat", node->op_type);
    return ESP_OK;
}

esp_code esp_onnx_constant_input(const esp_onnx_graph *g, const EspOnnx__NodeProto *node, size_t k, bool optional, const esp_onnx_tensor **ret,
                                 esp_error *reterr) {
    const esp_onnx_value *value = NULL;
    *ret = NULL;
    esp_code code = esp_onnx_input(g, node, k, optional, &value, reterr);
    if (code || !value) return code;
    if (value->kind != ESP_ONNX_CONST) return esp_onnx_refuse(g, "%.64s whose input %zu is computed; a constant is expected", node->op_type, k);
    *ret = &value->tensor;
    return ESP_OK;
}
