/* SPDX-License-Identifier: Apache-2.0
 * From a model to an ONNX file that the reader takes back to the same model.
 *
 *     v = x [C D]'                       linear frame only: Gemm without bias
 *     p_k = h_(k-1) W_k' + b_k           Gemm with bias, always, even when it is zero
 *     h_k = Relu(p_k)                    all ReLU;  nothing when all are identity;
 *           Relu(p_k) * m + p_k * n      masks m, n of zeros and ones when neurons differ, a part left out when empty
 *     y = h_L,  h_L + x [0 I]',  or  h_L G' + x [A B]'      without, residual and linear frame
 *
 * All tensors are double, raw. The messages borrow what they can and live in one arena until they are packed. */
#include "net/onnx.h"

#include <onnx.pb-c.h>

#include <stdio.h>
#include <string.h>

#include "base/arena.h"

enum { IR_VERSION = 8, OPSET = 13, NAME_ROOM = 32, NODES = 6 * ESP_MAX_LAYERS + 8, TENSORS = 4 * ESP_MAX_LAYERS + 8 };

typedef struct writer {
    esp_arena *arena;
    bool failed;
    EspOnnx__NodeProto *nodes[NODES];
    EspOnnx__TensorProto *tensors[TENSORS];
    size_t n_nodes, n_tensors;
} writer;

static void *take(writer *w, size_t size) {
    void *piece = w->failed ? NULL : esp_arena_take(w->arena, size);
    if (!piece) w->failed = true;
    return piece;
}

/* "W3" and the like; a shared empty text when memory is out. */
static char *name(writer *w, const char *what, int k) {
    static char none[1];
    char *text = take(w, NAME_ROOM);
    if (!text) return none;
    if (k)
        snprintf(text, NAME_ROOM, "%s%d", what, k);
    else
        snprintf(text, NAME_ROOM, "%s", what);
    return text;
}

/* rows x cols, or a vector when rows is 0. Bytes are written in little-endian order whatever the machine has. */
static char *put_tensor(writer *w, char *called, size_t rows, size_t cols, const double *values) {
    size_t n = (rows ? rows : 1) * cols;
    EspOnnx__TensorProto *t = take(w, sizeof *t);
    int64_t *dims = take(w, 2 * sizeof *dims);
    uint8_t *raw = take(w, n * 8);
    if (!t || !dims || !raw) return called;
    esp_onnx__tensor_proto__init(t);
    dims[0] = (int64_t)(rows ? rows : cols);
    dims[1] = (int64_t)cols;
    t->dims = dims;
    t->n_dims = rows ? 2 : 1;
    t->has_data_type = 1;
    t->data_type = ESP_ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE;
    t->name = called;
    t->has_raw_data = 1;
    t->raw_data = (ProtobufCBinaryData){n * 8, raw};
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        for (int k = 0; k < 8; k++) raw[8 * i + (size_t)k] = (uint8_t)(bits >> (8 * k));
    }
    w->tensors[w->n_tensors++] = t;
    return called;
}

/* output = type(a, b, c); b and c may be NULL. */
static char *put_node(writer *w, const char *type, char *a, char *b, char *c, char *output) {
    EspOnnx__NodeProto *node = take(w, sizeof *node);
    char **in = take(w, 3 * sizeof *in), **out = take(w, sizeof *out);
    if (!node || !in || !out) return output;
    esp_onnx__node_proto__init(node);
    in[0] = a;
    in[1] = b;
    in[2] = c;
    out[0] = output;
    node->input = in;
    node->n_input = c ? 3 : b ? 2 : 1;
    node->output = out;
    node->n_output = 1;
    node->name = output;
    node->op_type = name(w, type, 0);
    w->nodes[w->n_nodes++] = node;
    return output;
}

static char *put_gemm(writer *w, char *x, char *weights, char *bias, char *output) {
    put_node(w, "Gemm", x, weights, bias, output);
    EspOnnx__AttributeProto *trans = take(w, sizeof *trans), **list = take(w, sizeof *list);
    if (!trans || !list) return output;
    esp_onnx__attribute_proto__init(trans);
    trans->name = name(w, "transB", 0);
    trans->has_type = 1;
    trans->type = ESP_ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    trans->has_i = 1;
    trans->i = 1;
    list[0] = trans;
    w->nodes[w->n_nodes - 1]->attribute = list;
    w->nodes[w->n_nodes - 1]->n_attribute = 1;
    return output;
}

/* value * mask, 1 where the neuron has the activation. */
static char *put_masked(writer *w, const esp_layer *layer, esp_act act, char *value, const char *mask_name, const char *part, int k) {
    double *mask = take(w, (size_t)layer->n_out * sizeof *mask);
    for (int i = 0; mask && i < layer->n_out; i++) mask[i] = layer->act[i] == act ? 1 : 0;
    if (!mask) return value;
    char *constant = put_tensor(w, name(w, mask_name, k), 0, (size_t)layer->n_out, mask);
    return put_node(w, "Mul", value, constant, NULL, name(w, part, k));
}

static char *put_activation(writer *w, const esp_layer *layer, char *p, int k) {
    int count[3] = {0};
    for (int i = 0; i < layer->n_out; i++) count[layer->act[i]]++;
    if (count[ESP_ACT_IDENTITY] == layer->n_out) return p;
    char *on = NULL, *linear = NULL;
    if (count[ESP_ACT_RELU]) on = put_node(w, "Relu", p, NULL, NULL, name(w, "relu", k));
    if (count[ESP_ACT_RELU] == layer->n_out) return on;
    if (on) on = put_masked(w, layer, ESP_ACT_RELU, on, "is_relu", "relu_part", k);
    if (count[ESP_ACT_IDENTITY] || !on) linear = put_masked(w, layer, ESP_ACT_IDENTITY, p, "is_identity", "identity_part", k);
    return on && linear ? put_node(w, "Add", on, linear, NULL, name(w, "h", k)) : on ? on : linear;
}

/* [P Q] side by side, Q possibly without columns. */
static char *put_pair(writer *w, const char *called, size_t rows, const double *p, size_t n_p, const double *q, size_t n_q) {
    double *both = take(w, rows * (n_p + n_q) * sizeof *both);
    for (size_t i = 0; both && i < rows; i++) {
        memcpy(both + i * (n_p + n_q), p + i * n_p, n_p * sizeof *both);
        if (n_q) memcpy(both + i * (n_p + n_q) + n_p, q + i * n_q, n_q * sizeof *both);
    }
    return put_tensor(w, name(w, called, 0), rows, n_p + n_q, both ? both : p);
}

static char *put_known(writer *w, const esp_model *model, size_t n_yh, size_t n_uh, char *x) {
    size_t ny = (size_t)model->ny, n_x = n_yh + n_uh;
    char *matrix;
    if (model->frame.kind == ESP_FRAME_LINEAR) {
        matrix = put_pair(w, "AB", ny, model->frame.a, n_yh, model->frame.b, n_uh);
    } else {
        double *newest = take(w, ny * n_x * sizeof *newest);
        for (size_t i = 0; newest && i < ny; i++) newest[i * n_x + n_yh - ny + i] = 1;
        if (!newest) return x;
        matrix = put_tensor(w, name(w, "newest", 0), ny, n_x, newest);
    }
    return put_gemm(w, x, matrix, NULL, name(w, "known", 0));
}

/* All nodes; the name of the last value. */
static char *put_nodes(writer *w, const esp_model *model, char *x) {
    size_t n_yh = (size_t)model->history * (size_t)model->ny, n_uh = (size_t)esp_model_n_x(model) - n_yh;
    const esp_net *net = model->net;
    const esp_frame *frame = &model->frame;
    bool linear = frame->kind == ESP_FRAME_LINEAR;
    char *h = x;
    if (linear) h = put_gemm(w, x, put_pair(w, "CD", (size_t)esp_net_inputs(net), frame->c, n_yh, frame->d, n_uh), NULL, name(w, "v", 0));
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        char *weights = put_tensor(w, name(w, "W", l + 1), (size_t)layer->n_out, (size_t)layer->n_in, layer->w);
        char *bias = put_tensor(w, name(w, "b", l + 1), 0, (size_t)layer->n_out, layer->b);
        h = put_activation(w, layer, put_gemm(w, h, weights, bias, name(w, "p", l + 1)), l + 1);
    }
    if (frame->kind == ESP_FRAME_NONE) return h;
    if (linear) h = put_gemm(w, h, put_tensor(w, name(w, "G", 0), (size_t)model->ny, (size_t)esp_net_outputs(net), frame->g), NULL, name(w, "Gf", 0));
    return put_node(w, "Add", h, put_known(w, model, n_yh, n_uh, x), NULL, name(w, "sum", 0));
}

/* ---- the file around the nodes --------------------------------------------------------------------------------------- */

/* double [batch, n] */
static EspOnnx__ValueInfoProto *value_info(writer *w, char *called, int n) {
    EspOnnx__ValueInfoProto *info = take(w, sizeof *info);
    EspOnnx__TypeProto *type = take(w, sizeof *type);
    EspOnnx__TypeProto__Tensor *tensor = take(w, sizeof *tensor);
    EspOnnx__TensorShapeProto *shape = take(w, sizeof *shape);
    EspOnnx__TensorShapeProto__Dimension **dims = take(w, 2 * sizeof *dims), *dim = take(w, 2 * sizeof *dim);
    if (w->failed) return NULL;
    esp_onnx__value_info_proto__init(info);
    esp_onnx__type_proto__init(type);
    esp_onnx__type_proto__tensor__init(tensor);
    esp_onnx__tensor_shape_proto__init(shape);
    for (int i = 0; i < 2; i++) {
        esp_onnx__tensor_shape_proto__dimension__init(&dim[i]);
        dims[i] = &dim[i];
    }
    dim[0].value_case = ESP_ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    dim[0].dim_param = name(w, "batch", 0);
    dim[1].value_case = ESP_ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    dim[1].dim_value = n;
    shape->n_dim = 2;
    shape->dim = dims;
    tensor->has_elem_type = 1;
    tensor->elem_type = ESP_ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE;
    tensor->shape = shape;
    type->value_case = ESP_ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    info->name = called;
    info->type = type;
    return info;
}

static void put_metadata(writer *w, const esp_model *model, EspOnnx__ModelProto *file) {
    static const char *const frames[] = {"none", "residual", "linear"};
    static const char *const keys[] = {"espalier.kind", "espalier.history", "espalier.frame"};
    EspOnnx__StringStringEntryProto **list = take(w, 3 * sizeof *list), *entries = take(w, 3 * sizeof *entries);
    if (w->failed) return;
    for (int i = 0; i < 3; i++) {
        esp_onnx__string_string_entry_proto__init(&entries[i]);
        entries[i].key = name(w, keys[i], 0);
        list[i] = &entries[i];
    }
    entries[0].value = name(w, esp_model_kind_names[model->kind], 0);
    entries[1].value = name(w, "", model->history);
    entries[2].value = name(w, frames[model->frame.kind], 0);
    file->metadata_props = list;
    file->n_metadata_props = 3;
}

typedef struct sink {
    ProtobufCBuffer base;
    esp_buf *out;
} sink;

static void append(ProtobufCBuffer *buffer, size_t len, const uint8_t *bytes) {
    esp_buf_put(((sink *)(void *)buffer)->out, bytes, len);
}

static void pack(writer *w, const esp_model *model, EspOnnx__ValueInfoProto *in, EspOnnx__ValueInfoProto *out, esp_buf *ret_bytes) {
    EspOnnx__ModelProto file = ESP_ONNX__MODEL_PROTO__INIT;
    EspOnnx__GraphProto graph = ESP_ONNX__GRAPH_PROTO__INIT;
    EspOnnx__OperatorSetIdProto opset = ESP_ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[1] = {&opset};
    sink to = {{append}, ret_bytes};
    opset.has_version = 1;
    opset.version = OPSET;
    graph.name = name(w, "espalier", 0);
    graph.n_node = w->n_nodes;
    graph.node = w->nodes;
    graph.n_initializer = w->n_tensors;
    graph.initializer = w->tensors;
    graph.n_input = graph.n_output = 1;
    graph.input = &in;
    graph.output = &out;
    file.has_ir_version = 1;
    file.ir_version = IR_VERSION;
    file.producer_name = graph.name;
    file.n_opset_import = 1;
    file.opset_import = opsets;
    file.graph = &graph;
    put_metadata(w, model, &file);
    if (!w->failed) protobuf_c_message_pack_to_buffer(&file.base, &to.base);
}

esp_code esp_onnx_format(const esp_model *model, esp_buf *ret_bytes, esp_error *reterr) {
    writer w = {.arena = esp_arena_create(0)};
    size_t before = ret_bytes->len;
    if (!w.arena) return esp_fail(reterr, ESP_NOMEM, "no memory for an ONNX file");
    char *x = name(&w, "x", 0), *last = put_nodes(&w, model, x);
    char *y = put_node(&w, "Identity", last, NULL, NULL, name(&w, "y", 0));
    EspOnnx__ValueInfoProto *in = value_info(&w, x, esp_model_n_x(model)), *out = value_info(&w, y, esp_model_n_y(model));
    if (!w.failed) pack(&w, model, in, out, ret_bytes);
    bool failed = w.failed || ret_bytes->failed;
    esp_arena_free(w.arena);
    if (!failed) return ESP_OK;
    if (!ret_bytes->failed) ret_bytes->len = before;
    return esp_fail(reterr, ESP_NOMEM, "no memory for an ONNX file");
}
