/* SPDX-License-Identifier: Apache-2.0
 * Operators of an ONNX graph: what each makes of values that exist already. The graph around them is onnx_read.c.
 *
 * A value says by pointers what it was computed from (onnx_private.h). A product opens an affine value over its input, so
 * that each product stays a layer of its own and no two weights are ever multiplied; an addition of a constant gives the
 * affine value its bias, exactly when it had none; ReLU closes it. Scaling by constants goes into the rows, rounded once. Two
 * special forms keep what export writes to the bit:
 *
 *     Mul by a mask of zeros and ones          neurons with 0 become ZERO
 *     Add of two with the same pre-activation  neuron by neuron the one that is not ZERO
 *
 * An Add whose one side is linear in the graph's input ends a dynamics model: that side is its frame. */
#include <onnx.pb-c.h>

#include <math.h>
#include <string.h>

#include "net/onnx_private.h"

#define refuse(g, ...)  esp_fail_at(reterr, ESP_UNPROCESSABLE, (g)->where, __VA_ARGS__)
#define invalid(g, ...) esp_fail_at(reterr, ESP_INVALID, (g)->where, __VA_ARGS__)

typedef esp_code operator_fn(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr);

/* ---- making values --------------------------------------------------------------------------------------------------- */

static esp_code no_memory(const esp_onnx_graph *g, esp_error *reterr) {
    return refuse(g, "the graph takes more memory than is given to one");
}

static esp_code make(esp_onnx_graph *g, esp_onnx_value value, const esp_onnx_value **ret, esp_error *reterr) {
    esp_onnx_value *made = ESP_NEW(g->arena, esp_onnx_value, 1);
    if (!made) return no_memory(g, reterr);
    *made = value;
    *ret = made;
    return ESP_OK;
}

static esp_code make_affine(esp_onnx_graph *g, size_t n, const esp_onnx_value *from, const double *w, const double *b, const esp_onnx_value **ret,
                            esp_error *reterr) {
    return make(g, (esp_onnx_value){.kind = ESP_ONNX_AFFINE, .n = n, .rank = 2, .from = from, .w = w, .b = b}, ret, reterr);
}

esp_code esp_onnx_affine(esp_onnx_graph *g, const esp_onnx_value *value, const esp_onnx_value **ret, esp_error *reterr) {
    if (value->kind == ESP_ONNX_AFFINE) {
        *ret = value;
        return ESP_OK;
    }
    double *w = ESP_NEW(g->arena, double, value->n * value->n);
    if (!w) return no_memory(g, reterr);
    for (size_t i = 0; i < value->n; i++) w[i * value->n + i] = 1;
    return make_affine(g, value->n, value, w, NULL, ret, reterr);
}

static esp_code make_acted(esp_onnx_graph *g, const esp_onnx_value *affine, const uint8_t *act, const esp_onnx_value **ret, esp_error *reterr) {
    return make(g, (esp_onnx_value){.kind = ESP_ONNX_ACTED, .n = affine->n, .rank = 2, .from = affine, .act = act}, ret, reterr);
}

/* Neuron i of a value that is AFFINE or ACTED. */
static uint8_t act_of(const esp_onnx_value *value, size_t i) {
    return value->kind == ESP_ONNX_ACTED ? value->act[i] : ESP_ACT_IDENTITY;
}
static const esp_onnx_value *below(const esp_onnx_value *value) {
    return value->kind == ESP_ONNX_ACTED ? value->from : value;
}

/* ---- reading nodes --------------------------------------------------------------------------------------------------- */

static const EspOnnx__AttributeProto *attribute(const EspOnnx__NodeProto *node, const char *name) {
    for (size_t i = 0; i < node->n_attribute; i++)
        if (node->attribute[i]->name && strcmp(node->attribute[i]->name, name) == 0) return node->attribute[i];
    return NULL;
}

static int64_t int_attribute(const EspOnnx__NodeProto *node, const char *name, int64_t otherwise) {
    const EspOnnx__AttributeProto *a = attribute(node, name);
    return a && a->has_i ? a->i : otherwise;
}

static double float_attribute(const EspOnnx__NodeProto *node, const char *name, double otherwise) {
    const EspOnnx__AttributeProto *a = attribute(node, name);
    return a && a->has_f ? (double)a->f : otherwise;
}

/* The node has at least `min` and at most `max` inputs, one output that counts, and no attributes but those named. */
static esp_code check_node(const esp_onnx_graph *g, const EspOnnx__NodeProto *node, size_t min, size_t max, const char *const *known,
                           esp_error *reterr) {
    if (node->n_input < min || node->n_input > max)
        return invalid(g, "%.64s with %zu inputs; %zu to %zu are expected", node->op_type, node->n_input, min, max);
    for (size_t i = 0; i < node->n_attribute; i++) {
        const char *name = node->attribute[i]->name ? node->attribute[i]->name : "";
        size_t k = 0;
        while (known && known[k] && strcmp(known[k], name) != 0) k++;
        if (!known || !known[k]) return refuse(g, "%.64s with the attribute \"%.64s\"", node->op_type, name);
    }
    return ESP_OK;
}

/* Input k. An absent one gives NULL when it may be absent. */
static esp_code input(const esp_onnx_graph *g, const EspOnnx__NodeProto *node, size_t k, bool optional, const esp_onnx_value **ret,
                      esp_error *reterr) {
    const char *name = k < node->n_input ? node->input[k] : "";
    *ret = NULL;
    if (!name[0] && optional) return ESP_OK;
    *ret = esp_onnx_find(g, name);
    if (!*ret) return invalid(g, "%.64s uses \"%.64s\", which nothing before it makes", node->op_type, name);
    return ESP_OK;
}

/* Input k as a computed value that is flat. */
static esp_code computed(const esp_onnx_graph *g, const EspOnnx__NodeProto *node, size_t k, const esp_onnx_value **ret, esp_error *reterr) {
    esp_code code = input(g, node, k, false, ret, reterr);
    if (code) return code;
    if ((*ret)->kind == ESP_ONNX_CONST) return refuse(g, "%.64s with a constant where a computed value is expected", node->op_type);
    if ((*ret)->kind == ESP_ONNX_FRAMED) return refuse(g, "%.64s after the sum of a linear part and the network", node->op_type);
    if ((*ret)->rank != 2) return refuse(g, "%.64s of a value that is not flat", node->op_type);
    return ESP_OK;
}

static esp_code constant(const esp_onnx_graph *g, const EspOnnx__NodeProto *node, size_t k, bool optional, const esp_onnx_tensor **ret,
                         esp_error *reterr) {
    const esp_onnx_value *value = NULL;
    *ret = NULL;
    esp_code code = input(g, node, k, optional, &value, reterr);
    if (code || !value) return code;
    if (value->kind != ESP_ONNX_CONST) return refuse(g, "%.64s whose input %zu is computed; a constant is expected", node->op_type, k);
    *ret = &value->tensor;
    return ESP_OK;
}

/* The constant as n numbers: it has one element, or n in its last dimension. */
static esp_code broadcast(esp_onnx_graph *g, const char *op, const esp_onnx_tensor *t, size_t n, double **ret, esp_error *reterr) {
    bool row = t->rank >= 1 && t->rank <= 2 && t->n == n && t->dims[t->rank - 1] == n;
    if (t->rank > 2 || (t->n != 1 && !row)) return refuse(g, "%.64s of %zu features with a constant of another shape", op, n);
    double *all = ESP_NEW(g->arena, double, n);
    if (!all) return no_memory(g, reterr);
    for (size_t i = 0; i < n; i++) all[i] = t->v[t->n == 1 ? 0 : i];
    *ret = all;
    return ESP_OK;
}

/* ---- affine ---------------------------------------------------------------------------------------------------------- */

/* value + t. */
static esp_code shift(esp_onnx_graph *g, const esp_onnx_value *value, double *t, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *a = NULL;
    esp_code code = esp_onnx_affine(g, value, &a, reterr);
    if (code) return code;
    for (size_t i = 0; a->b && i < a->n; i++) t[i] += a->b[i];
    return make_affine(g, a->n, a->from, a->w, t, ret, reterr);
}

/* value * s, or value / s. */
static esp_code scale(esp_onnx_graph *g, const esp_onnx_value *value, const double *s, bool divide, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *a = NULL;
    esp_code code = esp_onnx_affine(g, value, &a, reterr);
    if (code) return code;
    size_t n_in = a->from->n;
    double *w = ESP_NEW(g->arena, double, a->n *n_in), *b = a->b ? ESP_NEW(g->arena, double, a->n) : NULL;
    if (!w || (a->b && !b)) return no_memory(g, reterr);
    for (size_t i = 0; i < a->n; i++) {
        for (size_t j = 0; j < n_in; j++) w[i * n_in + j] = divide ? a->w[i * n_in + j] / s[i] : a->w[i * n_in + j] * s[i];
        if (b) b[i] = divide ? a->b[i] / s[i] : a->b[i] * s[i];
    }
    return make_affine(g, a->n, a->from, w, b, ret, reterr);
}

/* W (n x k) as it stands in a constant of k x n, or of n x k when it is there transposed; alpha times. */
static esp_code weights(esp_onnx_graph *g, const esp_onnx_tensor *t, bool transposed, double alpha, size_t k, const double **ret, size_t *ret_n,
                        esp_error *reterr) {
    if (t->rank != 2 || t->dims[transposed ? 1 : 0] != k) return invalid(g, "a matrix of %zu rows is needed, the constant has another shape", k);
    size_t n = t->dims[transposed ? 0 : 1];
    *ret_n = n;
    *ret = t->v;
    if (transposed && alpha == 1) return ESP_OK;
    double *w = ESP_NEW(g->arena, double, n *k);
    if (!w) return no_memory(g, reterr);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < k; j++) w[i * k + j] = alpha * (transposed ? t->v[i * k + j] : t->v[j * n + i]);
    *ret = w;
    return ESP_OK;
}

static esp_code op_gemm(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"alpha", "beta", "transA", "transB", NULL};
    const esp_onnx_value *x = NULL;
    const esp_onnx_tensor *t = NULL, *c = NULL;
    const double *w = NULL;
    double *b = NULL, beta = float_attribute(node, "beta", 1);
    size_t n = 0;
    esp_code code = check_node(g, node, 2, 3, known, reterr);
    if (!code) code = computed(g, node, 0, &x, reterr);
    if (!code) code = constant(g, node, 1, false, &t, reterr);
    if (!code) code = constant(g, node, 2, true, &c, reterr);
    if (!code && int_attribute(node, "transA", 0)) code = refuse(g, "Gemm with transA of a computed value");
    if (!code) code = weights(g, t, int_attribute(node, "transB", 0) != 0, float_attribute(node, "alpha", 1), x->n, &w, &n, reterr);
    if (!code && c) code = broadcast(g, "Gemm", c, n, &b, reterr);
    for (size_t i = 0; !code && b && i < n; i++) b[i] *= beta;
    return code ? code : make_affine(g, n, x, w, b, ret, reterr);
}

static esp_code op_matmul(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL;
    const esp_onnx_tensor *t = NULL;
    const double *w = NULL;
    size_t n = 0;
    esp_code code = check_node(g, node, 2, 2, NULL, reterr);
    if (!code) code = computed(g, node, 0, &x, reterr);
    if (!code) code = constant(g, node, 1, false, &t, reterr);
    if (!code) code = weights(g, t, false, 1, x->n, &w, &n, reterr);
    return code ? code : make_affine(g, n, x, w, NULL, ret, reterr);
}

/* ---- activations ----------------------------------------------------------------------------------------------------- */

/* Each neuron's activation after ReLU, or after a mask of zeros and ones. */
static esp_code act(esp_onnx_graph *g, const esp_onnx_value *value, const double *mask, const esp_onnx_value **ret, esp_error *reterr) {
    esp_code code = ESP_OK;
    if (value->kind == ESP_ONNX_INPUT) code = esp_onnx_affine(g, value, &value, reterr);
    uint8_t *acts = ESP_NEW(g->arena, uint8_t, value->n);
    if (!code && !acts) code = no_memory(g, reterr);
    if (code) return code;
    for (size_t i = 0; i < value->n; i++) {
        uint8_t was = act_of(value, i);
        acts[i] = mask ? (mask[i] == 0 ? ESP_ACT_ZERO : was) : was == ESP_ACT_ZERO ? ESP_ACT_ZERO : ESP_ACT_RELU;
    }
    return make_acted(g, below(value), acts, ret, reterr);
}

static esp_code op_relu(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL;
    esp_code code = check_node(g, node, 1, 1, NULL, reterr);
    if (!code) code = computed(g, node, 0, &x, reterr);
    return code ? code : act(g, x, NULL, ret, reterr);
}

static bool is_mask(const double *s, size_t n) {
    bool zero = false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] != 0 && s[i] != 1) return false;
        zero = zero || s[i] == 0;
    }
    return zero;
}

/* Of two with the same pre-activation: the one that is not zero, neuron by neuron. False when both are. */
static bool unite(const esp_onnx_value *p, const esp_onnx_value *q, uint8_t *acts) {
    for (size_t i = 0; i < p->n; i++) {
        uint8_t a = act_of(p, i), b = act_of(q, i);
        if (a != ESP_ACT_ZERO && b != ESP_ACT_ZERO) return false;
        acts[i] = a == ESP_ACT_ZERO ? b : a;
    }
    return true;
}

/* ---- sums and products ----------------------------------------------------------------------------------------------- */

static bool is_known_part(const esp_onnx_value *value) {
    return value->kind == ESP_ONNX_INPUT || (value->kind == ESP_ONNX_AFFINE && value->from->kind == ESP_ONNX_INPUT && !value->b);
}

static esp_code add_computed(esp_onnx_graph *g, const esp_onnx_value *p, const esp_onnx_value *q, const esp_onnx_value **ret, esp_error *reterr) {
    if (p->n != q->n) return invalid(g, "Add of %zu and %zu features", p->n, q->n);
    if (p->kind != ESP_ONNX_INPUT && q->kind != ESP_ONNX_INPUT && below(p) == below(q)) {
        uint8_t *acts = ESP_NEW(g->arena, uint8_t, p->n);
        if (!acts) return no_memory(g, reterr);
        if (unite(p, q, acts)) return make_acted(g, below(p), acts, ret, reterr);
    }
    if (!is_known_part(p)) {
        const esp_onnx_value *swap = p;
        p = q;
        q = swap;
    }
    if (!is_known_part(p)) return refuse(g, "Add of two computed values, neither of them linear in the input");
    if (g->model_kind == ESP_MODEL_POLICY) return refuse(g, "Add of two computed values in a policy");
    esp_code code = esp_onnx_affine(g, p, &p, reterr);
    if (!code) code = make(g, (esp_onnx_value){.kind = ESP_ONNX_FRAMED, .n = p->n, .rank = 2, .from = q, .known = p}, ret, reterr);
    return code;
}

/* The computed and the constant input of an elementwise operator, the constant broadcast; *ret_t NULL when both are computed. */
static esp_code operands(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret_x, const esp_onnx_value **ret_other,
                         double **ret_t, bool *ret_swapped, esp_error *reterr) {
    const esp_onnx_value *in[2] = {NULL, NULL};
    esp_code code = check_node(g, node, 2, 2, NULL, reterr);
    for (size_t k = 0; k < 2 && !code; k++) code = input(g, node, k, false, &in[k], reterr);
    if (code) return code;
    size_t x = in[0]->kind == ESP_ONNX_CONST;
    *ret_swapped = x == 1;
    *ret_t = NULL;
    code = computed(g, node, x, ret_x, reterr);
    if (code) return code;
    if (in[1 - x]->kind != ESP_ONNX_CONST) return computed(g, node, 1 - x, ret_other, reterr);
    return broadcast(g, node->op_type, &in[1 - x]->tensor, (*ret_x)->n, ret_t, reterr);
}

static esp_code op_add(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL, *other = NULL;
    double *t = NULL;
    bool swapped;
    esp_code code = operands(g, node, &x, &other, &t, &swapped, reterr);
    if (code) return code;
    return t ? shift(g, x, t, ret, reterr) : add_computed(g, x, other, ret, reterr);
}

static esp_code negate(esp_onnx_graph *g, const esp_onnx_value *x, const esp_onnx_value **ret, esp_error *reterr) {
    double *minus = ESP_NEW(g->arena, double, x->n);
    if (!minus) return no_memory(g, reterr);
    for (size_t i = 0; i < x->n; i++) minus[i] = -1;
    return scale(g, x, minus, false, ret, reterr);
}

static esp_code op_sub(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL, *other = NULL;
    double *t = NULL;
    bool swapped;
    esp_code code = operands(g, node, &x, &other, &t, &swapped, reterr);
    if (code) return code;
    if (!t) return refuse(g, "Sub of two computed values");
    if (swapped) code = negate(g, x, &x, reterr);
    for (size_t i = 0; !swapped && i < x->n; i++) t[i] = -t[i];
    return code ? code : shift(g, x, t, ret, reterr);
}

static esp_code op_mul(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL, *other = NULL;
    double *t = NULL;
    bool swapped;
    esp_code code = operands(g, node, &x, &other, &t, &swapped, reterr);
    if (code) return code;
    if (!t) return refuse(g, "Mul of two computed values");
    return is_mask(t, x->n) ? act(g, x, t, ret, reterr) : scale(g, x, t, false, ret, reterr);
}

static esp_code op_div(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL, *other = NULL;
    double *t = NULL;
    bool swapped;
    esp_code code = operands(g, node, &x, &other, &t, &swapped, reterr);
    if (code) return code;
    if (!t || swapped) return refuse(g, "Div by a computed value");
    for (size_t i = 0; i < x->n; i++)
        if (t[i] == 0) return invalid(g, "Div by zero");
    return scale(g, x, t, true, ret, reterr);
}

static esp_code op_neg(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL;
    esp_code code = check_node(g, node, 1, 1, NULL, reterr);
    if (!code) code = computed(g, node, 0, &x, reterr);
    return code ? code : negate(g, x, ret, reterr);
}

/* (x - mean) / sqrt(var + epsilon) * scale + shift, with the numbers that training left. */
static esp_code op_batch_normalization(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"epsilon", "momentum", "spatial", "training_mode", NULL};
    const esp_onnx_value *x = NULL;
    double *p[4] = {NULL}, epsilon = float_attribute(node, "epsilon", (double)1e-5f);
    esp_code code = check_node(g, node, 5, 5, known, reterr);
    if (!code) code = computed(g, node, 0, &x, reterr);
    if (!code && int_attribute(node, "training_mode", 0)) code = refuse(g, "BatchNormalization in training");
    for (size_t k = 0; k < 4 && !code; k++) {
        const esp_onnx_tensor *t = NULL;
        code = constant(g, node, k + 1, false, &t, reterr);
        if (!code) code = broadcast(g, "BatchNormalization", t, x->n, &p[k], reterr);
    }
    if (code) return code;
    for (size_t i = 0; i < x->n; i++) {
        if (!(p[3][i] + epsilon > 0)) return invalid(g, "BatchNormalization with a variance below 0");
        p[0][i] /= sqrt(p[3][i] + epsilon);
        p[1][i] -= p[2][i] * p[0][i];
    }
    code = scale(g, x, p[0], false, &x, reterr);
    return code ? code : shift(g, x, p[1], ret, reterr);
}

/* ---- shapes ---------------------------------------------------------------------------------------------------------- */

static esp_code flattened(esp_onnx_graph *g, const esp_onnx_value *x, const esp_onnx_value **ret, esp_error *reterr) {
    esp_onnx_value flat = *x;
    flat.rank = 2;
    if (x->rank != 2) return make(g, flat, ret, reterr);
    *ret = x;
    return ESP_OK;
}

static esp_code op_identity(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    esp_code code = check_node(g, node, 1, 1, NULL, reterr);
    return code ? code : input(g, node, 0, false, ret, reterr);
}

static esp_code op_dropout(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"ratio", "seed", NULL};
    const esp_onnx_tensor *training = NULL;
    esp_code code = check_node(g, node, 1, 3, known, reterr);
    if (!code) code = constant(g, node, 2, true, &training, reterr);
    if (!code && training && training->v[0] != 0) code = refuse(g, "Dropout in training");
    return code ? code : computed(g, node, 0, ret, reterr);
}

static esp_code op_flatten(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"axis", NULL};
    const esp_onnx_value *x = NULL;
    esp_code code = check_node(g, node, 1, 1, known, reterr);
    if (!code) code = input(g, node, 0, false, &x, reterr);
    if (code) return code;
    int64_t axis = int_attribute(node, "axis", 1);
    if (x->kind == ESP_ONNX_CONST || (axis != 1 && axis != 1 - x->rank)) return refuse(g, "Flatten of a constant, or into the batch");
    return flattened(g, x, ret, reterr);
}

/* A constant's dimensions from a shape with 0 (as it was) and one -1 (the rest). */
static esp_code reshape_constant(esp_onnx_graph *g, const esp_onnx_tensor *t, const esp_onnx_tensor *shape, const esp_onnx_value **ret,
                                 esp_error *reterr) {
    esp_onnx_tensor made = *t;
    size_t product = 1;
    int open = -1;
    if (shape->n > ESP_ONNX_MAX_RANK) return refuse(g, "Reshape to %zu dimensions", shape->n);
    made.rank = (int)shape->n;
    for (int i = 0; i < made.rank; i++) {
        double dim = shape->v[i] == 0 && i < t->rank ? (double)t->dims[i] : shape->v[i];
        if (dim == -1 && open < 0) {
            open = i;
            made.dims[i] = 1;
        } else if (dim >= 1 && dim <= (double)t->n) {
            made.dims[i] = (size_t)dim;
        } else {
            return invalid(g, "Reshape to a shape that does not fit");
        }
        if (product > t->n / made.dims[i]) return invalid(g, "Reshape to a shape that does not fit");
        product *= made.dims[i];
    }
    if (open >= 0) made.dims[open] = t->n / product;
    if (open >= 0 ? t->n % product != 0 : t->n != product) return invalid(g, "Reshape to a shape that does not fit");
    return make(g, (esp_onnx_value){.kind = ESP_ONNX_CONST, .tensor = made}, ret, reterr);
}

static esp_code op_reshape(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"allowzero", NULL};
    const esp_onnx_value *x = NULL;
    const esp_onnx_tensor *shape = NULL;
    esp_code code = check_node(g, node, 2, 2, known, reterr);
    if (!code) code = input(g, node, 0, false, &x, reterr);
    if (!code) code = constant(g, node, 1, false, &shape, reterr);
    if (!code && int_attribute(node, "allowzero", 0)) code = refuse(g, "Reshape with allowzero");
    if (code) return code;
    if (x->kind == ESP_ONNX_CONST) return reshape_constant(g, &x->tensor, shape, ret, reterr);
    bool keeps = shape->n == 2 && (shape->v[1] == (double)x->n || (shape->v[1] == -1 && shape->v[0] >= 0) || (shape->v[1] == 0 && x->rank == 2));
    if (!keeps) return refuse(g, "Reshape of a computed value that does not keep batch and features apart");
    return flattened(g, x, ret, reterr);
}

static esp_code op_transpose(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"perm", NULL};
    const esp_onnx_tensor *t = NULL;
    const EspOnnx__AttributeProto *perm = attribute(node, "perm");
    esp_code code = check_node(g, node, 1, 1, known, reterr);
    if (!code) code = constant(g, node, 0, false, &t, reterr);
    if (code) return code;
    if (t->rank != 2 || (perm && (perm->n_ints != 2 || perm->ints[0] != 1 || perm->ints[1] != 0)))
        return refuse(g, "Transpose other than of a constant matrix");
    double *v = ESP_NEW(g->arena, double, t->n);
    if (!v) return no_memory(g, reterr);
    for (size_t i = 0; i < t->dims[0]; i++)
        for (size_t j = 0; j < t->dims[1]; j++) v[j * t->dims[0] + i] = t->v[i * t->dims[1] + j];
    esp_onnx_tensor made = {2, {t->dims[1], t->dims[0]}, t->n, v};
    return make(g, (esp_onnx_value){.kind = ESP_ONNX_CONST, .tensor = made}, ret, reterr);
}

static esp_code op_cast(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"to", NULL};
    const esp_onnx_tensor *t = NULL;
    int64_t to = int_attribute(node, "to", 0);
    esp_code code = check_node(g, node, 1, 1, known, reterr);
    if (!code) code = constant(g, node, 0, false, &t, reterr);
    if (code) return code;
    bool single = to == ESP_ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    if (!single && to != ESP_ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE) return refuse(g, "Cast to data type %lld", (long long)to);
    double *v = ESP_NEW(g->arena, double, t->n);
    if (!v) return no_memory(g, reterr);
    for (size_t i = 0; i < t->n; i++) v[i] = single ? (double)(float)t->v[i] : t->v[i];
    esp_onnx_tensor made = *t;
    made.v = v;
    return make(g, (esp_onnx_value){.kind = ESP_ONNX_CONST, .tensor = made}, ret, reterr);
}

static esp_code op_constant(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    esp_onnx_value value = {.kind = ESP_ONNX_CONST};
    esp_code code = node->n_input ? invalid(g, "Constant has no inputs") : esp_onnx_constant(node, g->where, g->arena, &value.tensor, reterr);
    return code ? code : make(g, value, ret, reterr);
}

/* Features begin, begin + step, ... of the value: rows of its W. */
static esp_code take_rows(esp_onnx_graph *g, const esp_onnx_value *x, size_t begin, size_t step, size_t n, const esp_onnx_value **ret,
                          esp_error *reterr) {
    esp_code code = x->kind == ESP_ONNX_INPUT ? esp_onnx_affine(g, x, &x, reterr) : ESP_OK;
    if (code) return code;
    const esp_onnx_value *a = below(x), *rows = NULL;
    size_t n_in = a->from->n;
    double *w = ESP_NEW(g->arena, double, n *n_in), *b = a->b ? ESP_NEW(g->arena, double, n) : NULL;
    uint8_t *acts = ESP_NEW(g->arena, uint8_t, n);
    if (!w || !acts || (a->b && !b)) return no_memory(g, reterr);
    for (size_t i = 0; i < n; i++) {
        memcpy(w + i * n_in, a->w + (begin + i * step) * n_in, n_in * sizeof *w);
        if (b) b[i] = a->b[begin + i * step];
        acts[i] = act_of(x, begin + i * step);
    }
    code = make_affine(g, n, a->from, w, b, &rows, reterr);
    if (code || x->kind != ESP_ONNX_ACTED) {
        if (!code) *ret = rows;
        return code;
    }
    return make_acted(g, rows, acts, ret, reterr);
}

/* starts, ends, axes and steps are constants of one number each. */
static esp_code op_slice(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL;
    double number[4] = {0, 0, 0, 1};
    esp_code code = check_node(g, node, 3, 5, NULL, reterr);
    if (!code) code = computed(g, node, 0, &x, reterr);
    for (size_t k = 0; k < 4 && !code; k++) {
        const esp_onnx_tensor *t = NULL;
        code = constant(g, node, k + 1, k >= 2, &t, reterr);
        if (!code && t && t->n != 1) code = refuse(g, "Slice of more than one axis");
        if (!code && t) number[k] = t->v[0];
    }
    if (code) return code;
    double n = (double)x->n, start = number[0] < 0 ? number[0] + n : number[0], end = number[1] < 0 ? number[1] + n : fmin(number[1], n);
    if (number[2] != 1 && number[2] != -1) return refuse(g, "Slice of the batch");
    if (!(number[3] >= 1) || !(start >= 0) || !(end > start)) return refuse(g, "Slice from %g to %g in steps of %g", number[0], number[1], number[3]);
    size_t begin = (size_t)start, step = (size_t)fmin(number[3], n);
    return take_rows(g, x, begin, step, ((size_t)end - begin + step - 1) / step, ret, reterr);
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    operator_fn *run;
} operators[] = {
    {"Add", op_add},
    {"BatchNormalization", op_batch_normalization},
    {"Cast", op_cast},
    {"Constant", op_constant},
    {"Div", op_div},
    {"Dropout", op_dropout},
    {"Flatten", op_flatten},
    {"Gemm", op_gemm},
    {"Identity", op_identity},
    {"MatMul", op_matmul},
    {"Mul", op_mul},
    {"Neg", op_neg},
    {"Relu", op_relu},
    {"Reshape", op_reshape},
    {"Slice", op_slice},
    {"Sub", op_sub},
    {"Transpose", op_transpose},
};

esp_code esp_onnx_node(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const char *domain = node->domain ? node->domain : "";
    if (!node->op_type) return invalid(g, "a node without an operator");
    if (domain[0] && strcmp(domain, "ai.onnx") != 0) return refuse(g, "the operator %.64s.%.64s is not supported", domain, node->op_type);
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (strcmp(operators[i].name, node->op_type) == 0) return operators[i].run(g, node, ret, reterr);
    return refuse(g, "the operator %.64s is not supported", node->op_type);
}
