/* SPDX-License-Identifier: Apache-2.0
 * What the files of the ONNX reader share: constants, computed values, and the graph under construction. Private. */
#ifndef ESP_NET_ONNX_PRIVATE_H
#define ESP_NET_ONNX_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "net/model.h"

struct EspOnnx__ModelProto;
struct EspOnnx__AttributeProto;
struct EspOnnx__NodeProto;
struct EspOnnx__TensorProto;

enum { ESP_ONNX_MAX_RANK = 4, ESP_ONNX_MAX_NODES = 1024, ESP_ONNX_MAX_TENSORS = 1024, ESP_ONNX_MAX_NAME = 256 };

/* A constant, as doubles whatever it was (float, double, int64, int32, bool). Row-major. */
typedef struct esp_onnx_tensor {
    int rank;
    size_t dims[ESP_ONNX_MAX_RANK];
    size_t n; /* product of dims, 1 for rank 0 */
    const double *v;
} esp_onnx_tensor;

/* A value of the graph. All but constants have a batch dimension in front and n features:
 *   INPUT   what goes in
 *   AFFINE  W h + b of the value `from`: W n x from->n; b NULL when no bias was ever added
 *   ACTED   an activation for each neuron of the AFFINE value `from`
 *   FRAMED  known + from, known an AFFINE of the input without bias: the end of a dynamics model */
typedef enum esp_onnx_kind { ESP_ONNX_CONST, ESP_ONNX_INPUT, ESP_ONNX_AFFINE, ESP_ONNX_ACTED, ESP_ONNX_FRAMED } esp_onnx_kind;
typedef struct esp_onnx_value {
    esp_onnx_kind kind;
    esp_onnx_tensor tensor; /* CONST */
    size_t n;
    int rank; /* with the batch; over 2 only until it is flattened */
    const struct esp_onnx_value *from, *known;
    const double *w, *b;
    const uint8_t *act;
} esp_onnx_value;

typedef struct esp_onnx_graph {
    esp_arena *arena; /* of the values, capped */
    esp_model_kind model_kind;
    const char **names; /* n_values of them, borrowed from the message */
    const esp_onnx_value **values;
    size_t n_values, room;
    char where[64]; /* the node in hand, as an error's pointer */
} esp_onnx_graph;

/* onnx_wire.c: the message in memory taken from the arena, or why not. */
ESP_MUST_CHECK esp_code esp_onnx_unpack(const void *bytes, size_t len, esp_arena *arena, struct EspOnnx__ModelProto **ret, esp_error *reterr);

/* onnx_tensor.c */
ESP_MUST_CHECK esp_code esp_onnx_tensor_read(const struct EspOnnx__TensorProto *tensor, const char *where, esp_arena *arena, esp_onnx_tensor *ret,
                                             esp_error *reterr);
/* The value of a Constant node. */
ESP_MUST_CHECK esp_code esp_onnx_constant(const struct EspOnnx__NodeProto *node, const char *where, esp_arena *arena, esp_onnx_tensor *ret,
                                          esp_error *reterr);

/* onnx_read.c: the value of that name, NULL when there is none. */
const esp_onnx_value *esp_onnx_find(const esp_onnx_graph *graph, const char *name);

#define esp_onnx_refuse(g, ...)  esp_fail_at(reterr, ESP_UNPROCESSABLE, (g)->where, __VA_ARGS__)
#define esp_onnx_invalid(g, ...) esp_fail_at(reterr, ESP_INVALID, (g)->where, __VA_ARGS__)

/* onnx_values.c: new values in the graph's arena. */
esp_code esp_onnx_no_memory(const esp_onnx_graph *graph, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_onnx_make(esp_onnx_graph *graph, esp_onnx_value value, const esp_onnx_value **ret, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_onnx_make_affine(esp_onnx_graph *graph, size_t n, const esp_onnx_value *from, const double *w, const double *b,
                                             const esp_onnx_value **ret, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_onnx_make_acted(esp_onnx_graph *graph, const esp_onnx_value *affine, const uint8_t *act, const esp_onnx_value **ret,
                                            esp_error *reterr);
/* The value as W h + b; one that is something else is put behind an identity matrix. */
ESP_MUST_CHECK esp_code esp_onnx_affine(esp_onnx_graph *graph, const esp_onnx_value *value, const esp_onnx_value **ret, esp_error *reterr);

/* Neuron i of a value that is AFFINE or ACTED. */
static inline uint8_t esp_onnx_act_of(const esp_onnx_value *value, size_t i) {
    return value->kind == ESP_ONNX_ACTED ? value->act[i] : ESP_ACT_IDENTITY;
}
static inline const esp_onnx_value *esp_onnx_below(const esp_onnx_value *value) {
    return value->kind == ESP_ONNX_ACTED ? value->from : value;
}

/* onnx_values.c: a node's parts. NULL, or `otherwise`, when the attribute is absent. */
const struct EspOnnx__AttributeProto *esp_onnx_attribute(const struct EspOnnx__NodeProto *node, const char *name);
int64_t esp_onnx_int_attribute(const struct EspOnnx__NodeProto *node, const char *name, int64_t otherwise);
/* The node has at least `min` and at most `max` inputs, and no attributes but those named: "f:alpha", a type (f a float, i an integer, l a
 * list of integers) and the name. */
ESP_MUST_CHECK esp_code esp_onnx_check_node(const esp_onnx_graph *graph, const struct EspOnnx__NodeProto *node, size_t min, size_t max,
                                            const char *const *known, esp_error *reterr);
/* Input k, of any kind; computed and flat; constant. An absent one gives NULL when it may be absent. */
ESP_MUST_CHECK esp_code esp_onnx_input(const esp_onnx_graph *graph, const struct EspOnnx__NodeProto *node, size_t k, bool optional,
                                       const esp_onnx_value **ret, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_onnx_computed(const esp_onnx_graph *graph, const struct EspOnnx__NodeProto *node, size_t k, const esp_onnx_value **ret,
                                          esp_error *reterr);
ESP_MUST_CHECK esp_code esp_onnx_constant_input(const esp_onnx_graph *graph, const struct EspOnnx__NodeProto *node, size_t k, bool optional,
                                                const esp_onnx_tensor **ret, esp_error *reterr);

/* onnx_shape.c */
typedef esp_code esp_onnx_operator(esp_onnx_graph *graph, const struct EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr);
esp_onnx_operator esp_onnx_op_identity, esp_onnx_op_dropout, esp_onnx_op_flatten, esp_onnx_op_reshape, esp_onnx_op_transpose, esp_onnx_op_cast,
    esp_onnx_op_constant, esp_onnx_op_slice;

/* onnx_ops.c: the node's first output, from values that exist already. */
esp_onnx_operator esp_onnx_node;

#endif
