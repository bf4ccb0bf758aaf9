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

/* ---- constants of a node ------------------------------------------------------------------------------------------- */

static double float_attribute(const EspOnnx__NodeProto *node, const char *name, double otherwise) {
    const EspOnnx__AttributeProto *a = esp_onnx_attribute(node, name);
    return a && a->has_f ? (double)a->f : otherwise;
}

/* The constant as n numbers: it has one element, or n in its last dimension. */
static esp_code broadcast(esp_onnx_graph *g, const char *op, const esp_onnx_tensor *t, size_t n, double **ret, esp_error *reterr) {
    bool row = t->rank >= 1 && t->rank <= 2 && t->n == n && t->dims[t->rank - 1] == n;
    if (t->rank > 2 || (t->n != 1 && !row)) return esp_onnx_refuse(g, "%.64s of %zu features with a constant of another shape", op, n);
    double *all = ESP_NEW(g->arena, double, n);
    if (!all) return esp_onnx_no_memory(g, reterr);
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
    return esp_onnx_make_affine(g, a->n, a->from, a->w, t, ret, reterr);
}

/* value * s, or value / s. */
static esp_code scale(esp_onnx_graph *g, const esp_onnx_value *value, const double *s, bool divide, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *a = NULL;
    esp_code code = esp_onnx_affine(g, value, &a, reterr);
    if (code) return code;
    size_t n_in = a->from->n;
    double *w = ESP_NEW(g->arena, double, a->n *n_in), *b = a->b ? ESP_NEW(g->arena, double, a->n) : NULL;
    if (!w || (a->b && !b)) return esp_onnx_no_memory(g, reterr);
    for (size_t i = 0; i < a->n; i++) {
        for (size_t j = 0; j < n_in; j++) w[i * n_in + j] = divide ? a->w[i * n_in + j] / s[i] : a->w[i * n_in + j] * s[i];
        if (b) b[i] = divide ? a->b[i] / s[i] : a->b[i] * s[i];
    }
    return esp_onnx_make_affine(g, a->n, a->from, w, b, ret, reterr);
}

/* W (n x k) as it stands in a constant of k x n, or of n x k when it is there transposed; alpha times. */
static esp_code weights(esp_onnx_graph *g, const esp_onnx_tensor *t, bool transposed, double alpha, size_t k, const double **ret, size_t *ret_n,
                        esp_error *reterr) {
    if (t->rank != 2 || t->dims[transposed ? 1 : 0] != k)
        return esp_onnx_invalid(g, "a matrix of %zu rows is needed, the constant has another shape", k);
    size_t n = t->dims[transposed ? 0 : 1];
    *ret_n = n;
    *ret = t->v;
    if (transposed && alpha == 1) return ESP_OK;
    double *w = ESP_NEW(g->arena, double, n *k);
    if (!w) return esp_onnx_no_memory(g, reterr);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < k; j++) w[i * k + j] = alpha * (transposed ? t->v[i * k + j] : t->v[j * n + i]);
    *ret = w;
    return ESP_OK;
}

static esp_code op_gemm(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"f:alpha", "f:beta", "i:transA", "i:transB", NULL};
    const esp_onnx_value *x = NULL;
    const esp_onnx_tensor *t = NULL, *c = NULL;
    const double *w = NULL;
    double *b = NULL, beta = float_attribute(node, "beta", 1);
    size_t n = 0;
    esp_code code = esp_onnx_check_node(g, node, 2, 3, known, reterr);
    if (!code) code = esp_onnx_computed(g, node, 0, &x, reterr);
    if (!code) code = esp_onnx_constant_input(g, node, 1, false, &t, reterr);
    if (!code) code = esp_onnx_constant_input(g, node, 2, true, &c, reterr);
    if (!code && esp_onnx_int_attribute(node, "transA", 0)) code = esp_onnx_refuse(g, "Gemm with transA of a computed value");
    if (!code) code = weights(g, t, esp_onnx_int_attribute(node, "transB", 0) != 0, float_attribute(node, "alpha", 1), x->n, &w, &n, reterr);
    if (!code && c) code = broadcast(g, "Gemm", c, n, &b, reterr);
    for (size_t i = 0; !code && b && i < n; i++) b[i] *= beta;
    return code ? code : esp_onnx_make_affine(g, n, x, w, b, ret, reterr);
}

static esp_code op_matmul(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL;
    const esp_onnx_tensor *t = NULL;
    const double *w = NULL;
    size_t n = 0;
    esp_code code = esp_onnx_check_node(g, node, 2, 2, NULL, reterr);
    if (!code) code = esp_onnx_computed(g, node, 0, &x, reterr);
    if (!code) code = esp_onnx_constant_input(g, node, 1, false, &t, reterr);
    if (!code) code = weights(g, t, false, 1, x->n, &w, &n, reterr);
    return code ? code : esp_onnx_make_affine(g, n, x, w, NULL, ret, reterr);
}

/* ---- activations ----------------------------------------------------------------------------------------------------- */

/* Each neuron's activation after ReLU, or after a mask of zeros and ones. */
static esp_code act(esp_onnx_graph *g, const esp_onnx_value *value, const double *mask, const esp_onnx_value **ret, esp_error *reterr) {
    esp_code code = ESP_OK;
    if (value->kind == ESP_ONNX_INPUT) code = esp_onnx_affine(g, value, &value, reterr);
    uint8_t *acts = ESP_NEW(g->arena, uint8_t, value->n);
    if (!code && !acts) code = esp_onnx_no_memory(g, reterr);
    if (code) return code;
    for (size_t i = 0; i < value->n; i++) {
        uint8_t was = esp_onnx_act_of(value, i);
        acts[i] = mask ? (mask[i] == 0 ? ESP_ACT_ZERO : was) : was == ESP_ACT_ZERO ? ESP_ACT_ZERO : ESP_ACT_RELU;
    }
    return esp_onnx_make_acted(g, esp_onnx_below(value), acts, ret, reterr);
}

static esp_code op_relu(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL;
    esp_code code = esp_onnx_check_node(g, node, 1, 1, NULL, reterr);
    if (!code) code = esp_onnx_computed(g, node, 0, &x, reterr);
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
        uint8_t a = esp_onnx_act_of(p, i), b = esp_onnx_act_of(q, i);
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
    if (p->n != q->n) return esp_onnx_invalid(g, "Add of %zu and %zu features", p->n, q->n);
    if (p->kind != ESP_ONNX_INPUT && q->kind != ESP_ONNX_INPUT && esp_onnx_below(p) == esp_onnx_below(q)) {
        uint8_t *acts = ESP_NEW(g->arena, uint8_t, p->n);
        if (!acts) return esp_onnx_no_memory(g, reterr);
        if (unite(p, q, acts)) return esp_onnx_make_acted(g, esp_onnx_below(p), acts, ret, reterr);
    }
    if (!is_known_part(p)) {
        const esp_onnx_value *swap = p;
        p = q;
        q = swap;
    }
    if (!is_known_part(p)) return esp_onnx_refuse(g, "Add of two computed values, neither of them linear in the input");
    if (g->model_kind == ESP_MODEL_POLICY) return esp_onnx_refuse(g, "Add of two computed values in a policy");
    esp_code code = esp_onnx_affine(g, p, &p, reterr);
    if (!code) code = esp_onnx_make(g, (esp_onnx_value){.kind = ESP_ONNX_FRAMED, .n = p->n, .rank = 2, .from = q, .known = p}, ret, reterr);
    return code;
}

/* The computed and the constant input of an elementwise operator, the constant broadcast; *ret_t NULL when both are computed. */
static esp_code operands(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret_x, const esp_onnx_value **ret_other,
                         double **ret_t, bool *ret_swapped, esp_error *reterr) {
    const esp_onnx_value *in[2] = {NULL, NULL};
    esp_code code = esp_onnx_check_node(g, node, 2, 2, NULL, reterr);
    for (size_t k = 0; k < 2 && !code; k++) code = esp_onnx_input(g, node, k, false, &in[k], reterr);
    if (code) return code;
    size_t x = in[0]->kind == ESP_ONNX_CONST;
    *ret_swapped = x == 1;
    *ret_t = NULL;
    code = esp_onnx_computed(g, node, x, ret_x, reterr);
    if (code) return code;
    if (in[1 - x]->kind != ESP_ONNX_CONST) return esp_onnx_computed(g, node, 1 - x, ret_other, reterr);
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
    if (!minus) return esp_onnx_no_memory(g, reterr);
    for (size_t i = 0; i < x->n; i++) minus[i] = -1;
    return scale(g, x, minus, false, ret, reterr);
}

static esp_code op_sub(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL, *other = NULL;
    double *t = NULL;
    bool swapped;
    esp_code code = operands(g, node, &x, &other, &t, &swapped, reterr);
    if (code) return code;
    if (!t) return esp_onnx_refuse(g, "Sub of two computed values");
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
    if (!t) return esp_onnx_refuse(g, "Mul of two computed values");
    return is_mask(t, x->n) ? act(g, x, t, ret, reterr) : scale(g, x, t, false, ret, reterr);
}

static esp_code op_div(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL, *other = NULL;
    double *t = NULL;
    bool swapped;
    esp_code code = operands(g, node, &x, &other, &t, &swapped, reterr);
    if (code) return code;
    if (!t || swapped) return esp_onnx_refuse(g, "Div by a computed value");
    for (size_t i = 0; i < x->n; i++)
        if (t[i] == 0) return esp_onnx_invalid(g, "Div by zero");
    return scale(g, x, t, true, ret, reterr);
}

static esp_code op_neg(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const esp_onnx_value *x = NULL;
    esp_code code = esp_onnx_check_node(g, node, 1, 1, NULL, reterr);
    if (!code) code = esp_onnx_computed(g, node, 0, &x, reterr);
    return code ? code : negate(g, x, ret, reterr);
}

/* (x - mean) / sqrt(var + epsilon) * scale + shift, with the numbers that training left. */
static esp_code op_batch_normalization(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    static const char *const known[] = {"f:epsilon", "f:momentum", "i:spatial", "i:training_mode", NULL};
    const esp_onnx_value *x = NULL;
    double *p[4] = {NULL}, epsilon = float_attribute(node, "epsilon", (double)1e-5f);
    esp_code code = esp_onnx_check_node(g, node, 5, 5, known, reterr);
    if (!code) code = esp_onnx_computed(g, node, 0, &x, reterr);
    if (!code && esp_onnx_int_attribute(node, "training_mode", 0)) code = esp_onnx_refuse(g, "BatchNormalization in training");
    for (size_t k = 0; k < 4 && !code; k++) {
        const esp_onnx_tensor *t = NULL;
        code = esp_onnx_constant_input(g, node, k + 1, false, &t, reterr);
        if (!code) code = broadcast(g, "BatchNormalization", t, x->n, &p[k], reterr);
    }
    if (code) return code;
    for (size_t i = 0; i < x->n; i++) {
        if (!(p[3][i] + epsilon > 0)) return esp_onnx_invalid(g, "BatchNormalization with a variance below 0");
        p[0][i] /= sqrt(p[3][i] + epsilon);
        p[1][i] -= p[2][i] * p[0][i];
    }
    code = scale(g, x, p[0], false, &x, reterr);
    return code ? code : shift(g, x, p[1], ret, reterr);
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    esp_onnx_operator *run;
} operators[] = {
    {"Add", op_add},
    {"BatchNormalization", op_batch_normalization},
    {"Cast", esp_onnx_op_cast},
    {"Constant", esp_onnx_op_constant},
    {"Div", op_div},
    {"Dropout", esp_onnx_op_dropout},
    {"Flatten", esp_onnx_op_flatten},
    {"Gemm", op_gemm},
    {"Identity", esp_onnx_op_identity},
    {"MatMul", op_matmul},
    {"Mul", op_mul},
    {"Neg", op_neg},
    {"Relu", op_relu},
    {"Reshape", esp_onnx_op_reshape},
    {"Slice", esp_onnx_op_slice},
    {"Sub", op_sub},
    {"Transpose", esp_onnx_op_transpose},
};

esp_code esp_onnx_node(esp_onnx_graph *g, const EspOnnx__NodeProto *node, const esp_onnx_value **ret, esp_error *reterr) {
    const char *domain = node->domain ? node->domain : "";
    if (!node->op_type) return esp_onnx_invalid(g, "a node without an operator");
    if (domain[0] && strcmp(domain, "ai.onnx") != 0) return esp_onnx_refuse(g, "the operator %.64s.%.64s is not supported", domain, node->op_type);
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (strcmp(operators[i].name, node->op_type) == 0) return operators[i].run(g, node, ret, reterr);
    return esp_onnx_refuse(g, "the operator %.64s is not supported", node->op_type);
}
