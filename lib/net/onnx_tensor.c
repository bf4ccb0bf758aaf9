/* SPDX-License-Identifier: Apache-2.0
 * Constants of an ONNX file: a TensorProto, in any of its ways to hold numbers, as doubles.
 *
 * Nothing is believed: dimensions must multiply to the number of elements that are there, before memory is taken for
 * them. External data is refused; it would be a file of ours that a stranger names. */
#include <onnx.pb-c.h>

#include <string.h>

#include "net/onnx_private.h"

#define TYPE(name) ESP_ONNX__TENSOR_PROTO__DATA_TYPE__##name

static esp_code read_dims(const EspOnnx__TensorProto *tensor, const char *where, esp_onnx_tensor *ret, esp_error *reterr) {
    if (tensor->n_dims > ESP_ONNX_MAX_RANK) return esp_fail_at(reterr, ESP_UNPROCESSABLE, where, "a tensor of %zu dimensions", tensor->n_dims);
    ret->rank = (int)tensor->n_dims;
    ret->n = 1;
    for (size_t i = 0; i < tensor->n_dims; i++) {
        int64_t dim = tensor->dims[i];
        if (dim < 1 || dim > ESP_MAX_PARAMETERS || (uint64_t)dim * ret->n > ESP_MAX_PARAMETERS)
            return esp_fail_at(reterr, ESP_INVALID, where, "a tensor has 1 to %d elements; dimension %zu is %lld", ESP_MAX_PARAMETERS, i,
                               (long long)dim);
        ret->dims[i] = (size_t)dim;
        ret->n *= (size_t)dim;
    }
    return ESP_OK;
}

static uint64_t little(const uint8_t *bytes, size_t n) {
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

/* Element i of `size` bytes. */
static double raw_element(const uint8_t *raw, size_t i, int type, size_t size) {
    uint64_t bits = little(raw + i * size, size);
    double d;
    float f;
    uint32_t half = (uint32_t)bits;
    switch (type) {
    case TYPE(DOUBLE): memcpy(&d, &bits, sizeof d); return d;
    case TYPE(FLOAT): memcpy(&f, &half, sizeof f); return (double)f;
    case TYPE(INT64): return (double)(int64_t)bits;
    case TYPE(INT32): return (double)(int32_t)half;
    default: return (double)bits;
    }
}

static double typed_element(const EspOnnx__TensorProto *tensor, size_t i) {
    switch (tensor->data_type) {
    case TYPE(DOUBLE): return tensor->double_data[i];
    case TYPE(FLOAT): return (double)tensor->float_data[i];
    case TYPE(INT64): return (double)tensor->int64_data[i];
    default: return (double)tensor->int32_data[i];
    }
}

/* Bytes of an element, and how many elements the typed field has. */
static esp_code measure(const EspOnnx__TensorProto *tensor, const char *where, size_t *ret_size, size_t *ret_typed, esp_error *reterr) {
    switch (tensor->data_type) {
    case TYPE(DOUBLE): *ret_size = 8, *ret_typed = tensor->n_double_data; return ESP_OK;
    case TYPE(FLOAT): *ret_size = 4, *ret_typed = tensor->n_float_data; return ESP_OK;
    case TYPE(INT64): *ret_size = 8, *ret_typed = tensor->n_int64_data; return ESP_OK;
    case TYPE(INT32): *ret_size = 4, *ret_typed = tensor->n_int32_data; return ESP_OK;
    case TYPE(BOOL): *ret_size = 1, *ret_typed = tensor->n_int32_data; return ESP_OK;
    default:
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, where, "a tensor of data type %d; float, double, int32, int64 and bool are read",
                           (int)tensor->data_type);
    }
}

esp_code esp_onnx_tensor_read(const EspOnnx__TensorProto *tensor, const char *where, esp_arena *arena, esp_onnx_tensor *ret, esp_error *reterr) {
    esp_onnx_tensor made = {0};
    size_t size = 0, typed = 0;
    if (tensor->n_external_data || (tensor->has_data_location && tensor->data_location != ESP_ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT))
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, where, "a tensor's data lies outside the file");
    if (tensor->segment) return esp_fail_at(reterr, ESP_UNPROCESSABLE, where, "a tensor in segments");
    esp_code code = measure(tensor, where, &size, &typed, reterr);
    if (!code) code = read_dims(tensor, where, &made, reterr);
    if (code) return code;
    bool raw = tensor->has_raw_data;
    if (raw ? tensor->raw_data.len != made.n * size : typed != made.n)
        return esp_fail_at(reterr, ESP_INVALID, where, "a tensor of %zu elements with the data of %zu", made.n,
                           raw ? tensor->raw_data.len / size : typed);
    double *v = ESP_NEW(arena, double, made.n);
    if (!v) return esp_fail_at(reterr, ESP_UNPROCESSABLE, where, "the graph takes more memory than is given to one");
    for (size_t i = 0; i < made.n; i++) v[i] = raw ? raw_element(tensor->raw_data.data, i, tensor->data_type, size) : typed_element(tensor, i);
    made.v = v;
    *ret = made;
    return ESP_OK;
}

/* n numbers of a list attribute, or one of a scalar's. */
static esp_code from_list(size_t n, const float *floats, const int64_t *ints, int rank, esp_arena *arena, esp_onnx_tensor *ret, esp_error *reterr) {
    double *v = ESP_NEW(arena, double, n + 1);
    if (!v) return esp_fail(reterr, ESP_UNPROCESSABLE, "the graph takes more memory than is given to one");
    for (size_t i = 0; i < n; i++) v[i] = floats ? (double)floats[i] : (double)ints[i];
    *ret = (esp_onnx_tensor){rank, {n}, n, v};
    return ESP_OK;
}

esp_code esp_onnx_constant(const EspOnnx__NodeProto *node, const char *where, esp_arena *arena, esp_onnx_tensor *ret, esp_error *reterr) {
    if (node->n_attribute != 1) return esp_fail_at(reterr, ESP_INVALID, where, "Constant has one attribute");
    const EspOnnx__AttributeProto *a = node->attribute[0];
    const char *name = a->name ? a->name : "";
    if (strcmp(name, "value") == 0 && a->t) return esp_onnx_tensor_read(a->t, where, arena, ret, reterr);
    if (strcmp(name, "value_float") == 0 && a->has_f) return from_list(1, &a->f, NULL, 0, arena, ret, reterr);
    if (strcmp(name, "value_int") == 0 && a->has_i) return from_list(1, NULL, &a->i, 0, arena, ret, reterr);
    if (strcmp(name, "value_floats") == 0 && a->n_floats) return from_list(a->n_floats, a->floats, NULL, 1, arena, ret, reterr);
    if (strcmp(name, "value_ints") == 0 && a->n_ints) return from_list(a->n_ints, NULL, a->ints, 1, arena, ret, reterr);
    return esp_fail_at(reterr, ESP_UNPROCESSABLE, where, "Constant with the attribute \"%.64s\"", name);
}
