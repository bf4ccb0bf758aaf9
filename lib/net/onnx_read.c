/* SPDX-License-Identifier: Apache-2.0
 * From an ONNX file to a model: the graph's values in order, then the chain of layers that ends in its output.
 *
 * Nodes come in an order in which each uses earlier values only, as ONNX demands; a cycle or a missing tensor is then a
 * name that nothing before makes. A name made twice is refused. Values point to what they were computed from, so the
 * layers are found by walking back from the output; what the output does not need is dropped. */
#include "net/onnx.h"

#include <onnx.pb-c.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/onnx_private.h"

/* Caps of the message (beside the file's own size: raw numbers are copied once, integers grow eightfold) and of the
 * values made from it (a matrix, its transpose, one scaled). */
#define MESSAGE_BYTES(len) (2 * (len) + ((size_t)16 << 20))
#define VALUE_BYTES(len)   (6 * (len) + ((size_t)32 << 20))

enum { OPSET_MIN = 7, OPSET_MAX = 99 };

/* What the file says of itself in metadata_props; the frame is only ever "linear" or not. */
typedef struct metadata {
    int kind; /* -1 when it does not say */
    int history; /* 0 */
    bool linear;
} metadata;

typedef struct layers {
    const esp_onnx_value *affine[ESP_MAX_LAYERS];
    const uint8_t *act[ESP_MAX_LAYERS]; /* NULL: identity */
    int n;
} layers;

/* ---- names ----------------------------------------------------------------------------------------------------------- */

const esp_onnx_value *esp_onnx_find(const esp_onnx_graph *graph, const char *name) {
    for (size_t i = graph->n_values; name[0] && i-- > 0;)
        if (strcmp(graph->names[i], name) == 0) return graph->values[i];
    return NULL;
}

static esp_code add_value(esp_onnx_graph *graph, const char *name, const esp_onnx_value *value, esp_error *reterr) {
    if (!name || !name[0] || strlen(name) > ESP_ONNX_MAX_NAME)
        return esp_fail_at(reterr, ESP_INVALID, graph->where, "a value's name has 1 to %d bytes", ESP_ONNX_MAX_NAME);
    if (esp_onnx_find(graph, name)) return esp_fail_at(reterr, ESP_INVALID, graph->where, "the name \"%.64s\" is made twice", name);
    graph->names[graph->n_values] = name;
    graph->values[graph->n_values++] = value;
    return ESP_OK;
}

/* ---- the file's head ------------------------------------------------------------------------------------------------- */

static esp_code check_opset(const EspOnnx__ModelProto *file, esp_error *reterr) {
    for (size_t i = 0; i < file->n_opset_import; i++) {
        const EspOnnx__OperatorSetIdProto *set = file->opset_import[i];
        if (set->domain && set->domain[0] && strcmp(set->domain, "ai.onnx") != 0) continue;
        if (set->version >= OPSET_MIN && set->version <= OPSET_MAX) return ESP_OK;
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/opset_import", "operators of version %lld; %d and later are read", (long long)set->version,
                           OPSET_MIN);
    }
    return esp_fail_at(reterr, ESP_INVALID, "/opset_import", "the file does not say which operators it uses");
}

static esp_code read_metadata(const EspOnnx__ModelProto *file, metadata *ret, esp_error *reterr) {
    *ret = (metadata){-1, 0, false};
    for (size_t i = 0; i < file->n_metadata_props; i++) {
        const char *key = file->metadata_props[i]->key, *value = file->metadata_props[i]->value;
        if (!key || !value) continue;
        for (int k = 0; strcmp(key, "espalier.kind") == 0 && esp_model_kind_names[k]; k++)
            if (strcmp(value, esp_model_kind_names[k]) == 0) ret->kind = k;
        if (strcmp(key, "espalier.frame") == 0) ret->linear = strcmp(value, "linear") == 0;
        if (strcmp(key, "espalier.history") != 0) continue;
        long history = strtol(value, NULL, 10);
        if (history < 1 || history > ESP_MAX_HISTORY)
            return esp_fail_at(reterr, ESP_INVALID, "/metadata_props", "espalier.history must lie in [1, %d]", ESP_MAX_HISTORY);
        ret->history = (int)history;
    }
    return ESP_OK;
}

/* ---- the graph ------------------------------------------------------------------------------------------------------- */

static esp_code read_initializers(esp_onnx_graph *graph, const EspOnnx__GraphProto *proto, esp_error *reterr) {
    for (size_t i = 0; i < proto->n_initializer; i++) {
        snprintf(graph->where, sizeof graph->where, "/graph/initializer/%zu", i);
        esp_onnx_value *value = ESP_NEW(graph->arena, esp_onnx_value, 1);
        if (!value) return esp_fail_at(reterr, ESP_UNPROCESSABLE, graph->where, "the graph takes more memory than is given to one");
        esp_code code = esp_onnx_tensor_read(proto->initializer[i], graph->where, graph->arena, &value->tensor, reterr);
        if (!code) code = add_value(graph, proto->initializer[i]->name, value, reterr);
        if (code) return code;
    }
    return ESP_OK;
}

/* [batch, n] or more dimensions, all but the batch known, of floats or doubles. */
static esp_code read_input(esp_onnx_graph *graph, const EspOnnx__ValueInfoProto *info, esp_error *reterr) {
    const EspOnnx__TypeProto *type = info->type;
    if (!type || type->value_case != ESP_ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !type->tensor_type || !type->tensor_type->shape)
        return esp_fail_at(reterr, ESP_INVALID, graph->where, "the input has no tensor type and shape");
    int element = type->tensor_type->elem_type;
    const EspOnnx__TensorShapeProto *shape = type->tensor_type->shape;
    if (element != ESP_ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT && element != ESP_ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, graph->where, "the input is of data type %d; float and double are read", element);
    if (shape->n_dim < 2 || shape->n_dim > 8) return esp_fail_at(reterr, ESP_UNPROCESSABLE, graph->where, "the input's shape must be [batch, n]");
    size_t n = 1;
    for (size_t i = 1; i < shape->n_dim; i++) {
        const EspOnnx__TensorShapeProto__Dimension *dim = shape->dim[i];
        bool known = dim->value_case == ESP_ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        if (!known || dim->dim_value < 1 || dim->dim_value > ESP_MAX_WIDTH || (size_t)dim->dim_value * n > ESP_MAX_WIDTH)
            return esp_fail_at(reterr, ESP_UNPROCESSABLE, graph->where, "the input must have 1 to %d features, a number known in the file",
                               ESP_MAX_WIDTH);
        n *= (size_t)dim->dim_value;
    }
    esp_onnx_value *value = ESP_NEW(graph->arena, esp_onnx_value, 1);
    if (!value) return esp_fail(reterr, ESP_NOMEM, "no memory for a graph");
    *value = (esp_onnx_value){.kind = ESP_ONNX_INPUT, .n = n, .rank = (int)shape->n_dim};
    return add_value(graph, info->name, value, reterr);
}

/* The inputs that are not initialisers: exactly one. */
static esp_code read_inputs(esp_onnx_graph *graph, const EspOnnx__GraphProto *proto, const esp_onnx_value **ret, esp_error *reterr) {
    size_t found = 0;
    for (size_t i = 0; i < proto->n_input; i++) {
        const char *name = proto->input[i]->name ? proto->input[i]->name : "";
        snprintf(graph->where, sizeof graph->where, "/graph/input/%zu", i);
        const esp_onnx_value *known = esp_onnx_find(graph, name);
        if (known && known->kind == ESP_ONNX_CONST) continue;
        if (found++) return esp_fail_at(reterr, ESP_UNPROCESSABLE, graph->where, "a second input; one that holds all features is read");
        esp_code code = read_input(graph, proto->input[i], reterr);
        if (code) return code;
        *ret = esp_onnx_find(graph, name);
    }
    return found ? ESP_OK : esp_fail_at(reterr, ESP_INVALID, "/graph/input", "the graph has no input");
}

static esp_code read_nodes(esp_onnx_graph *graph, const EspOnnx__GraphProto *proto, esp_error *reterr) {
    for (size_t i = 0; i < proto->n_node; i++) {
        const EspOnnx__NodeProto *node = proto->node[i];
        const esp_onnx_value *value = NULL;
        snprintf(graph->where, sizeof graph->where, "/graph/node/%zu", i);
        esp_code code = esp_onnx_node(graph, node, &value, reterr);
        if (!code && node->n_output < 1) code = esp_fail_at(reterr, ESP_INVALID, graph->where, "%.64s without an output", node->op_type);
        if (!code) code = add_value(graph, node->output[0], value, reterr);
        if (code) return code;
    }
    return ESP_OK;
}

static esp_code check_counts(const EspOnnx__GraphProto *proto, esp_error *reterr) {
    if (!proto) return esp_fail_at(reterr, ESP_INVALID, "/graph", "the file has no graph");
    if (proto->n_node > ESP_ONNX_MAX_NODES)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/graph/node", "%zu nodes; at most %d are read", proto->n_node, ESP_ONNX_MAX_NODES);
    if (proto->n_initializer + proto->n_input > ESP_ONNX_MAX_TENSORS)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/graph/initializer", "more than %d tensors", ESP_ONNX_MAX_TENSORS);
    if (proto->n_sparse_initializer) return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/graph/sparse_initializer", "sparse tensors are not supported");
    if (proto->n_output != 1) return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/graph/output", "%zu outputs; exactly one is read", proto->n_output);
    return ESP_OK;
}

static esp_code read_graph(esp_onnx_graph *graph, const EspOnnx__GraphProto *proto, const esp_onnx_value **ret_in, const esp_onnx_value **ret_out,
                           esp_error *reterr) {
    esp_code code = check_counts(proto, reterr);
    if (code) return code;
    graph->room = proto->n_node + proto->n_initializer + proto->n_input + 1;
    graph->names = ESP_NEW(graph->arena, const char *, graph->room);
    graph->values = ESP_NEW(graph->arena, const esp_onnx_value *, graph->room);
    if (!graph->names || !graph->values) return esp_fail(reterr, ESP_NOMEM, "no memory for a graph");
    code = read_initializers(graph, proto, reterr);
    if (!code) code = read_inputs(graph, proto, ret_in, reterr);
    if (!code) code = read_nodes(graph, proto, reterr);
    if (code) return code;
    *ret_out = esp_onnx_find(graph, proto->output[0]->name ? proto->output[0]->name : "");
    if (!*ret_out) return esp_fail_at(reterr, ESP_INVALID, "/graph/output/0", "nothing makes the output");
    if ((*ret_out)->kind == ESP_ONNX_CONST) return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/graph/output/0", "the output is a constant");
    snprintf(graph->where, sizeof graph->where, "/graph/output/0");
    return ESP_OK;
}

/* ---- from values to a model ------------------------------------------------------------------------------------------ */

/* The chain from the input to `out`, first layer first. */
static esp_code find_layers(esp_onnx_graph *graph, const esp_onnx_value *out, layers *ret, esp_error *reterr) {
    esp_code code = out->kind == ESP_ONNX_INPUT ? esp_onnx_affine(graph, out, &out, reterr) : ESP_OK;
    const esp_onnx_value *v = out;
    int n = 0;
    for (v = out; !code && v->kind != ESP_ONNX_INPUT; v = v->from) {
        const uint8_t *act = v->kind == ESP_ONNX_ACTED ? v->act : NULL;
        if (v->kind == ESP_ONNX_ACTED) v = v->from;
        if (n == ESP_MAX_LAYERS) return esp_fail(reterr, ESP_UNPROCESSABLE, "more than %d layers", ESP_MAX_LAYERS);
        ret->affine[n] = v;
        ret->act[n++] = act;
    }
    for (int i = 0; i < n / 2; i++) {
        const esp_onnx_value *swap = ret->affine[i];
        const uint8_t *act = ret->act[i];
        ret->affine[i] = ret->affine[n - 1 - i];
        ret->act[i] = ret->act[n - 1 - i];
        ret->affine[n - 1 - i] = swap;
        ret->act[n - 1 - i] = act;
    }
    ret->n = n;
    return code;
}

static esp_code make_net(const layers *chain, int first, int n, esp_net **ret_net, esp_error *reterr) {
    int widths[ESP_MAX_LAYERS + 1];
    esp_net *net = NULL;
    for (int l = 0; l < n; l++) {
        if (chain->affine[first + l]->n > ESP_MAX_WIDTH)
            return esp_fail(reterr, ESP_UNPROCESSABLE, "a layer of %zu neurons; at most %d are read", chain->affine[first + l]->n, ESP_MAX_WIDTH);
        widths[l] = (int)chain->affine[first + l]->from->n;
        widths[l + 1] = (int)chain->affine[first + l]->n;
    }
    esp_code code = esp_net_create(n, widths, &net, reterr);
    if (code) return code;
    for (int l = 0; l < n; l++) {
        const esp_onnx_value *from = chain->affine[first + l];
        const uint8_t *act = chain->act[first + l];
        esp_layer *layer = &net->layers[l];
        memcpy(layer->w, from->w, from->n * from->from->n * sizeof *layer->w);
        if (from->b) memcpy(layer->b, from->b, from->n * sizeof *layer->b);
        if (act)
            memcpy(layer->act, act, from->n);
        else
            memset(layer->act, ESP_ACT_IDENTITY, from->n);
    }
    *ret_net = net;
    return ESP_OK;
}

static bool is_residual(const esp_onnx_value *known, int ny, int history) {
    size_t n_x = known->from->n, first = (size_t)(history - 1) * (size_t)ny;
    for (size_t k = 0; k < known->n; k++)
        for (size_t j = 0; j < n_x; j++)
            if (known->w[k * n_x + j] != (j == first + k ? 1 : 0)) return false;
    return true;
}

/* [P | Q] (m x (p + q)) into P and Q. */
static void split(const double *both, size_t m, size_t p, size_t q, double *ret_p, double *ret_q) {
    for (size_t i = 0; i < m; i++) {
        memcpy(ret_p + i * p, both + i * (p + q), p * sizeof *both);
        if (q) memcpy(ret_q + i * q, both + i * (p + q) + p, q * sizeof *both);
    }
}

/* The matrices of a linear frame from the known part [A B] and, NULL for identities, the layers [C D] and G. */
static esp_code linear_frame(esp_arena *arena, const esp_onnx_value *known, const esp_onnx_value *in, const esp_onnx_value *out, size_t n_yh,
                             esp_frame *ret, esp_error *reterr) {
    size_t ny = known->n, n_x = known->from->n, n_uh = n_x - n_yh, f_in = in ? in->n : n_x, f_out = out ? out->from->n : ny;
    esp_frame frame = {ESP_FRAME_LINEAR,
                       ESP_NEW(arena, double, ny *n_yh + 1),
                       ESP_NEW(arena, double, ny *n_uh + 1),
                       ESP_NEW(arena, double, f_in *n_yh + 1),
                       ESP_NEW(arena, double, f_in *n_uh + 1),
                       ESP_NEW(arena, double, ny *f_out + 1)};
    if (!frame.a || !frame.b || !frame.c || !frame.d || !frame.g)
        return esp_fail(reterr, ESP_UNPROCESSABLE, "the frame takes more memory than is given to a graph");
    split(known->w, ny, n_yh, n_uh, frame.a, frame.b);
    if (in) split(in->w, f_in, n_yh, n_uh, frame.c, frame.d);
    for (size_t i = 0; !in && i < n_x; i++) *(i < n_yh ? frame.c + i * n_yh + i : frame.d + i * n_uh + i - n_yh) = 1;
    if (out) memcpy(frame.g, out->w, ny * f_out * sizeof *frame.g);
    for (size_t i = 0; !out && i < ny; i++) frame.g[i * ny + i] = 1;
    *ret = frame;
    return ESP_OK;
}

/* ny, nu and history of n_x inputs and n_y outputs. */
static esp_code find_sizes(esp_model_kind kind, size_t n_x, size_t n_y, int history, int *ret_ny, int *ret_nu, esp_error *reterr) {
    if (kind == ESP_MODEL_POLICY) {
        *ret_ny = (int)n_x;
        *ret_nu = (int)n_y;
        return history == 1 ? ESP_OK : esp_fail_at(reterr, ESP_INVALID, "?history", "a policy has history 1");
    }
    size_t h = (size_t)history;
    if (n_x % h != 0 || n_x / h < n_y)
        return esp_fail_at(reterr, ESP_INVALID, "?history", "%zu inputs are not history %d times (%zu outputs and some inputs)", n_x, history, n_y);
    *ret_ny = (int)n_y;
    *ret_nu = (int)(n_x / h - n_y);
    return ESP_OK;
}

static esp_code make_model(esp_onnx_graph *graph, const esp_onnx_value *in, const esp_onnx_value *out, int history, bool linear, esp_model **ret,
                           esp_error *reterr) {
    layers chain = {.n = 0};
    esp_frame frame = {.kind = ESP_FRAME_NONE};
    esp_net *net = NULL;
    int ny = 0, nu = 0, inner = 0;
    const esp_onnx_value *known = out->kind == ESP_ONNX_FRAMED ? out->known : NULL;
    if (out->n > ESP_MAX_WIDTH) return esp_fail(reterr, ESP_UNPROCESSABLE, "%zu outputs; at most %d are read", out->n, ESP_MAX_WIDTH);
    esp_code code = find_sizes(graph->model_kind, in->n, out->n, history, &ny, &nu, reterr);
    if (!code) code = find_layers(graph, known ? out->from : out, &chain, reterr);
    if (code) return code;
    size_t n_yh = (size_t)history * (size_t)ny;
    if (known && linear) {
        int last = chain.n - 1;
        if (chain.n < 3 || chain.act[0] || chain.act[last] || chain.affine[0]->b || chain.affine[last]->b)
            return esp_fail_at(reterr, ESP_INVALID, "/metadata_props", "espalier.frame is linear, but the graph has none");
        inner = 1;
        code = linear_frame(graph->arena, known, chain.affine[0], chain.affine[last], n_yh, &frame, reterr);
    } else if (known && is_residual(known, ny, history)) {
        frame.kind = ESP_FRAME_RESIDUAL;
    } else if (known) {
        code = linear_frame(graph->arena, known, NULL, NULL, n_yh, &frame, reterr);
    }
    if (!code) code = make_net(&chain, inner, chain.n - 2 * inner, &net, reterr);
    return code ? code : esp_model_create(graph->model_kind, ny, nu, history, &frame, net, ret, reterr);
}

/* What the caller said and what the file says. */
static esp_code settle(const metadata *meta, int kind, int history, esp_model_kind *ret_kind, int *ret_history, esp_error *reterr) {
    if (kind < 0 && meta->kind < 0) return esp_fail_at(reterr, ESP_INVALID, "?kind", "a kind is needed: dynamics or policy");
    if (kind >= 0 && meta->kind >= 0 && kind != meta->kind)
        return esp_fail_at(reterr, ESP_INVALID, "?kind", "the file holds a model of kind %s", esp_model_kind_names[meta->kind]);
    if (history && meta->history && history != meta->history)
        return esp_fail_at(reterr, ESP_INVALID, "?history", "the file says history %d", meta->history);
    *ret_kind = (esp_model_kind)(kind >= 0 ? kind : meta->kind);
    *ret_history = history ? history : meta->history ? meta->history : 1;
    return ESP_OK;
}

esp_code esp_onnx_parse(const void *bytes, size_t len, int kind, int history, esp_model **ret_model, esp_error *reterr) {
    EspOnnx__ModelProto *file = NULL;
    const esp_onnx_value *in = NULL, *out = NULL;
    metadata meta = {0};
    int settled = 1;
    esp_onnx_graph graph = {.arena = esp_arena_create(VALUE_BYTES(len))};
    esp_arena *message = esp_arena_create(MESSAGE_BYTES(len));
    esp_code code = graph.arena && message ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for an ONNX file");
    if (!code) code = esp_onnx_unpack(bytes, len, message, &file, reterr);
    if (!code) code = check_opset(file, reterr);
    if (!code) code = read_metadata(file, &meta, reterr);
    if (!code) code = settle(&meta, kind, history, &graph.model_kind, &settled, reterr);
    if (!code) code = read_graph(&graph, file->graph, &in, &out, reterr);
    if (!code) code = make_model(&graph, in, out, settled, meta.linear, ret_model, reterr);
    esp_arena_free(message);
    esp_arena_free(graph.arena);
    return code;
}
