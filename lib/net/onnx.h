/* SPDX-License-Identifier: Apache-2.0
 * ONNX in and out: networks trained elsewhere, and ours for other tools. Not an ONNX runtime: chains of affine layers
 * and ReLUs, and a linear part around them, nothing else.
 *
 * Read: Gemm, MatMul, Add, Sub, Mul and Div with constants, Neg, Relu, Identity, Dropout (at rest), Flatten, Reshape and
 * Slice that keep the batch apart, BatchNormalization (at rest), Constant; on constants also Transpose, Cast and Reshape.
 * One input of shape [batch, n], float or double, one output. Weights are read as doubles; a
 * float file so becomes a double model of the same weights. A sum of something linear in the input and the network is the
 * frame of a dynamics model, residual when it is y(t). Any other operator is refused by its name.
 *
 * Written: double tensors, opset 13; a neuron-wise mix of activations as Relu(p) * mask + p * mask, the frame as
 * products without bias. Kind, history and frame stand in metadata_props (espalier.*), so that reading a written file gives
 * a model of the very same bytes: same function, same hash. */
#ifndef ESP_NET_ONNX_H
#define ESP_NET_ONNX_H

#include <stddef.h>

#include "base/buf.h"
#include "net/model.h"

/* kind: an esp_model_kind, or -1 for the file's own metadata. history: 0 for the metadata's, or 1 without; a file is a
 * stranger's, so memory, beside the model's own, stays below ten times the file and 64 MB, whatever it says. Of n inputs and ny outputs, dynamics get
 * nu = n / history - ny. Errors: INVALID (not ONNX, damaged, sizes that do not fit; a pointer names the node
 * or tensor, "?kind" or "?history" the argument), UNPROCESSABLE (an operator or a use of one that is not supported, by
 * name), NOMEM. */
ESP_MUST_CHECK esp_code esp_onnx_parse(const void *bytes, size_t len, int kind, int history, esp_model **ret_model, esp_error *reterr);

/* Appends the file. Deterministic: equal models, equal bytes. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_onnx_format(const esp_model *model, esp_buf *ret_bytes, esp_error *reterr);

#endif
