/* SPDX-License-Identifier: Apache-2.0
 * Operators of an ONNX graph that move or keep numbers: shapes, constants, slices. None of them computes. */
#include <onnx.pb-c.h>

#include <math.h>
#include <string.h>

#include "net/onnx_private.h"

static esp_code flattened(esp_onnx_graph *g, const esp_onnx_value *x, const esp_onnx_value **ret, esp_error *reterr) {
    esp_onnx_value flat = *x;
    flat.rank = 2;
    if (x->rank != 2) return esp_onnx_make(g, flat, ret, reterr);
    *ret = x;
    return ESP_OK;
}

esp_code esp_onnx_op_identity(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    esp_code code = esp_onnx_check_node(g, node, 1, 1, NULL, reterr);
    return code ? code : esp_onnx_input(g, node, 0, false, ret, reterr);
}

esp_code esp_onnx_op_dropout(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"f:ratio", "i:seed", NULL};
    const esp_onnx_tensor *training = NULL;
    esp_code code = esp_onnx_check_node(g, node, 1, 3, known, reterr);
    if (!code) code = esp_onnx_constant_input(g, node, 2, true, &training, reterr);
    if (!code && training && training->v[0] != 0) code = esp_onnx_refuse(g, "Dropout in training");
    return code ? code : esp_onnx_computed(g, node, 0, ret, reterr);
}

esp_code esp_onnx_op_flatten(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"i:axis", NULL};
    const esp_onnx_value *x = NULL;
    esp_code code = esp_onnx_check_node(g, node, 1, 1, known, reterr);
    if (!code) code = esp_onnx_input(g, node, 0, false, &x, reterr);
    if (code) return code;
    int64_t axis = esp_onnx_int_attribute(node, "axis", 1);
    if (x->kind == ESP_ONNX_CONST || (axis != 1 && axis != 1 - x->rank)) return esp_onnx_refuse(g, "Flatten of a constant, or into the batch");
    return flattened(g, x, ret, reterr);
}

/* A constant's dimensions from a shape with 0 (as it was) and one -1 (the rest). */
static esp_code reshape_constant(esp_onnx_graph *g, const esp_onnx_tensor *t, const esp_onnx_tensor *shape, const esp_onnx_value **ret,
                                 esp_error *reterr) {
    esp_onnx_tensor made = *t;
    size_t product = 1;
    int open = -1;
    if (shape->n > ESP_ONNX_MAX_RANK) return esp_onnx_refuse(g, "Reshape to %zu dimensions", shape->n);
    made.rank = (int)shape->n;
    for (int i = 0; i < made.rank; i++) {
        double dim = shape->v[i] == 0 && i < t->rank ? (double)t->dims[i] : shape->v[i];
        if (dim == -1 && open < 0) {
            open = i;
            made.dims[i] = 1;
        } else if (dim >= 1 && dim <= (double)t->n) {
            made.dims[i] = (size_t)dim;
        } else {
            return esp_onnx_invalid(g, "Reshape to a shape that does not fit");
        }
        if (product > t->n / made.dims[i]) return esp_onnx_invalid(g, "Reshape to a shape that does not fit");
        product *= made.dims[i];
    }
    if (open >= 0) made.dims[open] = t->n / product;
    if (open >= 0 ? t->n % product != 0 : t->n != product) return esp_onnx_invalid(g, "Reshape to a shape that does not fit");
    return esp_onnx_make(g, (esp_onnx_value){.kind = ESP_ONNX_CONST, .tensor = made}, ret, reterr);
}

esp_code esp_onnx_op_reshape(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"i:allowzero", NULL};
    const esp_onnx_value *x = NULL;
    const esp_onnx_tensor *shape = NULL;
    esp_code code = esp_onnx_check_node(g, node, 2, 2, known, reterr);
    if (!code) code = esp_onnx_input(g, node, 0, false, &x, reterr);
    if (!code) code = esp_onnx_constant_input(g, node, 1, false, &shape, reterr);
    if (!code && esp_onnx_int_attribute(node, "allowzero", 0)) code = esp_onnx_refuse(g, "Reshape with allowzero");
    if (code) return code;
    if (x->kind == ESP_ONNX_CONST) return reshape_constant(g, &x->tensor, shape, ret, reterr);
    bool keeps = shape->n == 2 && (shape->v[1] == (double)x->n || (shape->v[1] == -1 && shape->v[0] >= 0) || (shape->v[1] == 0 && x->rank == 2));
    if (!keeps) return esp_onnx_refuse(g, "Reshape of a computed value that does not keep batch and features apart");
    return flattened(g, x, ret, reterr);
}

esp_code esp_onnx_op_transpose(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"l:perm", NULL};
    const esp_onnx_tensor *t = NULL;
    const EspOnnx__AttributeProto *perm = esp_onnx_attribute(node, "perm");
    esp_code code = esp_onnx_check_node(g, node, 1, 1, known, reterr);
    if (!code) code = esp_onnx_constant_input(g, node, 0, false, &t, reterr);
    if (code) return code;
    if (t->rank != 2 || (perm && (perm->n_ints != 2 || perm->ints[0] != 1 || perm->ints[1] != 0)))
        return esp_onnx_refuse(g, "Transpose other than of a constant matrix");
    double *v = ESP_NEW(g->arena, double, t->n);
    if (!v) return esp_onnx_no_memory(g, reterr);
    for (size_t i = 0; i < t->dims[0]; i++)
        for (size_t j = 0; j < t->dims[1]; j++) v[j * t->dims[0] + i] = t->v[i * t->dims[1] + j];
    esp_onnx_tensor made = {2, {t->dims[1], t->dims[0]}, t->n, v};
    return esp_onnx_make(g, (esp_onnx_value){.kind = ESP_ONNX_CONST, .tensor = made}, ret, reterr);
}

esp_code esp_onnx_op_cast(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"i:to", NULL};
    const esp_onnx_tensor *t = NULL;
    int64_t to = esp_onnx_int_attribute(node, "to", 0);
    esp_code code = esp_onnx_check_node(g, node, 1, 1, known, reterr);
    if (!code) code = esp_onnx_constant_input(g, node, 0, false, &t, reterr);
    if (code) return code;
    bool single = to == ESP_ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    if (!single && to != ESP_ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE) return esp_onnx_refuse(g, "Cast to data type %lld", (long long)to);
    double *v = ESP_NEW(g->arena, double, t->n);
    if (!v) return esp_onnx_no_memory(g, reterr);
    for (size_t i = 0; i < t->n; i++) v[i] = single ? (double)(float)t->v[i] : t->v[i];
    esp_onnx_tensor made = *t;
    made.v = v;
    return esp_onnx_make(g, (esp_onnx_value){.kind = ESP_ONNX_CONST, .tensor = made}, ret, reterr);
}

esp_code esp_onnx_op_constant(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    esp_onnx_value value = {.kind = ESP_ONNX_CONST};
    esp_code code =
        node->n_input ? esp_onnx_invalid(g, "Constant has no inputs") : esp_onnx_constant(node, g->where, g->arena, &value.tensor, reterr);
    return code ? code : esp_onnx_make(g, value, ret, reterr);
}

/* Features begin, begin + step, ... of the value: rows of its W. */
static esp_code take_rows(esp_onnx_graph *g, const esp_onnx_value *x, size_t begin, size_t step, size_t n, const esp_onnx_value **ret,
                          esp_error *reterr) {
    esp_code code = x->kind == ESP_ONNX_INPUT ? esp_onnx_affine(g, x, &x, reterr) : ESP_OK;
    if (code) return code;
    const esp_onnx_value *a = esp_onnx_below(x), *rows = NULL;
    size_t n_in = a->from->n;
    double *w = ESP_NEW(g->arena, double, n *n_in), *b = a->b ? ESP_NEW(g->arena, double, n) : NULL;
    uint8_t *acts = ESP_NEW(g->arena, uint8_t, n);
    if (!w || !acts || (a->b && !b)) return esp_onnx_no_memory(g, reterr);
    for (size_t i = 0; i < n; i++) {
        memcpy(w + i * n_in, a->w + (begin + i * step) * n_in, n_in * sizeof *w);
        if (b) b[i] = a->b[begin + i * step];
        acts[i] = esp_onnx_act_of(x, begin + i * step);
    }
    code = esp_onnx_make_affine(g, n, a->from, w, b, &rows, reterr);
    if (code || x->kind != ESP_ONNX_ACTED) {
        if (!code) *ret = rows;
        return code;
    }
    return esp_onnx_make_acted(g, rows, acts, ret, reterr);
}

/* starts, ends, axes and steps are constants of one number each. */
esp_code esp_onnx_op_slice(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL;
    double number[4] = {0, 0, 0, 1};
    esp_code code = esp_onnx_check_node(g, node, 3, 5, NULL, reterr);
    if (!code) code = esp_onnx_computed(g, node, 0, &x, reterr);
    for (size_t k = 0; k < 4 && !code; k++) {
        const esp_onnx_tensor *t = NULL;
        code = esp_onnx_constant_input(g, node, k + 1, k >= 2, &t, reterr);
        if (!code && t && t->n != 1) code = esp_onnx_refuse(g, "Slice of more than one axis");
        if (!code && t) number[k] = t->v[0];
    }
    if (code) return code;
    double n = (double)x->n, start = number[0] < 0 ? number[0] + n : number[0], end = number[1] < 0 ? number[1] + n : fmin(number[1], n);
    if (number[2] != 1 && number[2] != -1) return esp_onnx_refuse(g, "Slice of the batch");
    if (!(number[3] >= 1) || !(start >= 0) || !(end > start))
        return esp_onnx_refuse(g, "Slice from %g to %g in steps of %g", number[0], number[1], number[3]);
    size_t begin = (size_t)start, step = (size_t)fmin(number[3], n);
    return take_rows(g, x, begin, step, ((size_t)end - begin + step - 1) / step, ret, reterr);
}
