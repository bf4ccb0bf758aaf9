#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ONNX files as other tools write them, what onnxruntime answers for them, and files that must be refused.

    python3 tests/golden/onnx_models.py          (onnx 1.12, onnxruntime 1.15 or later; rewrites tests/golden/onnx_*)

onnx_<name>.onnx   the files that are accepted; weights seeded
onnx_models.json   for each: kind, history, sizes, inputs x, outputs y; then `refused`: bytes in hex, taken `repeat` times, code, pointer, a word of the message
"""
import json
import os

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))
F, D = TensorProto.FLOAT, TensorProto.DOUBLE
rng = np.random.default_rng(20)


def tensor(name, values, dtype, raw=True):
    values = np.asarray(values, dtype=helper.tensor_dtype_to_np_dtype(dtype))
    if raw:
        return numpy_helper.from_array(values, name)
    return helper.make_tensor(name, dtype, values.shape, values.flatten().tolist())


def make(nodes, tensors, n_in, n_out, dtype=F, opset=17, batch="batch", shape=None, as_inputs=False, **more):
    x = helper.make_tensor_value_info("input", dtype, shape or [batch, n_in])
    y = helper.make_tensor_value_info("output", dtype, [batch, n_out])
    inputs = [x]
    if as_inputs:
        inputs = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors] + inputs
    graph = helper.make_graph(nodes, "main_graph", inputs, [y], tensors, **more)
    model = helper.make_model(graph, producer_name="golden", opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def weights(n_out, n_in):
    return rng.normal(size=(n_out, n_in)) / np.sqrt(n_in)


def torch_policy():
    """torch.nn.Sequential(Linear, ReLU, Linear, ReLU, Linear) as torch.onnx.export writes it."""
    sizes, nodes, tensors, h = [4, 16, 16, 2], [], [], "input"
    for k in range(3):
        i = 2 * k
        tensors += [tensor(f"{i}.weight", weights(sizes[k + 1], sizes[k]), F), tensor(f"{i}.bias", 0.1 * rng.normal(size=sizes[k + 1]), F)]
        out = "output" if k == 2 else f"/{i}/Gemm_output_0"
        nodes.append(helper.make_node("Gemm", [h, f"{i}.weight", f"{i}.bias"], [out], f"/{i}/Gemm", alpha=1.0, beta=1.0, transB=1))
        if k < 2:
            h = f"/{i + 1}/Relu_output_0"
            nodes.append(helper.make_node("Relu", [out], [h], f"/{i + 1}/Relu"))
    return make(nodes, tensors, 4, 2)


def keras_policy():
    """Dense layers as converters from Keras write them: MatMul and Add, weights in x out, typed fields, initialisers among the inputs."""
    tensors = [tensor("dense/kernel", weights(8, 3).T, F, raw=False), tensor("dense/bias", 0.1 * rng.normal(size=8), F, raw=False),
               tensor("out/kernel", weights(2, 8).T, F, raw=False), tensor("out/bias", 0.1 * rng.normal(size=2), F, raw=False)]
    nodes = [helper.make_node("MatMul", ["input", "dense/kernel"], ["m0"]), helper.make_node("Add", ["m0", "dense/bias"], ["a0"]),
             helper.make_node("Relu", ["a0"], ["r0"]), helper.make_node("MatMul", ["r0", "out/kernel"], ["m1"]),
             helper.make_node("Add", ["out/bias", "m1"], ["output"])]
    return make(nodes, tensors, 3, 2, opset=9, batch=1, as_inputs=True)


def residual_dynamics():
    """y+ = y + std_y * net((x - mean) / std_x) + mean_y over x = [y, u], in double."""
    tensors = [tensor("mean", rng.normal(size=5), D), tensor("std", rng.uniform(0.5, 2, size=(1, 5)), D), tensor("w1", weights(12, 5), D),
               tensor("b1", 0.1 * rng.normal(size=(1, 12)), D), tensor("w2", weights(3, 12).T, D), tensor("scale", rng.uniform(0.1, 1, size=3), D),
               tensor("shift", 0.1 * rng.normal(size=3), D), tensor("zero", [0], TensorProto.INT64), tensor("three", [3], TensorProto.INT64),
               tensor("one", [1], TensorProto.INT64)]
    nodes = [helper.make_node("Sub", ["input", "mean"], ["centred"]), helper.make_node("Div", ["centred", "std"], ["normal"]),
             helper.make_node("Gemm", ["normal", "w1", "b1"], ["p1"], transB=1, beta=0.5), helper.make_node("Relu", ["p1"], ["h1"]),
             helper.make_node("Gemm", ["h1", "w2"], ["f"], alpha=2.0), helper.make_node("Mul", ["scale", "f"], ["scaled"]),
             helper.make_node("Add", ["scaled", "shift"], ["change"]),
             helper.make_node("Slice", ["input", "zero", "three", "one"], ["y"]), helper.make_node("Add", ["y", "change"], ["output"])]
    return make(nodes, tensors, 5, 3, dtype=D)


def assorted_policy():
    """One of everything else: flattened input, reshape, batch normalisation, constants made by nodes, a mask, Neg, Dropout, Identity."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 6])
    tensors = [tensor("w1t", weights(6, 6), F), tensor("b1", 0.1 * rng.normal(size=6), F), tensor("bn_scale", rng.uniform(0.5, 2, size=6), F),
               tensor("bn_shift", rng.normal(size=6), F), tensor("bn_mean", rng.normal(size=6), F), tensor("bn_var", rng.uniform(0.5, 2, size=6), F),
               tensor("mask", [1, 1, 0, 1, 1, 0], F), tensor("w2", weights(2, 6), F)]
    nodes = [helper.make_node("Flatten", ["input"], ["flat"], axis=1), helper.make_node("Transpose", ["w1t"], ["w1"], perm=[1, 0]),
             helper.make_node("MatMul", ["flat", "w1"], ["m1"]), helper.make_node("Add", ["m1", "b1"], ["p1"]),
             helper.make_node("BatchNormalization", ["p1", "bn_scale", "bn_shift", "bn_mean", "bn_var"], ["n1"], epsilon=0.001),
             helper.make_node("Relu", ["n1"], ["h1"]), helper.make_node("Dropout", ["h1"], ["d1"]),
             helper.make_node("Constant", [], ["shape"], value=shape), helper.make_node("Reshape", ["d1", "shape"], ["s1"]),
             helper.make_node("Mul", ["s1", "mask"], ["k1"]), helper.make_node("Constant", [], ["half"], value_float=0.5),
             helper.make_node("Mul", ["k1", "half"], ["k2"]), helper.make_node("Gemm", ["k2", "w2"], ["g"], transB=1),
             helper.make_node("Neg", ["g"], ["n"]), helper.make_node("Constant", [], ["ones"], value_floats=[1.0, 2.0]),
             helper.make_node("Sub", ["ones", "n"], ["s"]), helper.make_node("Identity", ["s"], ["output"])]
    return make(nodes, tensors, 6, 2, opset=13, shape=["batch", 2, 3])


def identity(name="output", x="input"):
    return helper.make_node("Identity", [x], [name])


def one_layer(**more):
    return make([helper.make_node("Gemm", ["input", "w"], ["output"], transB=1)], [tensor("w", weights(2, 3), F)], 3, 2, **more)


def refused():
    """name, model or bytes, code, pointer, a part of the message"""
    w = tensor("w", weights(2, 2), F)
    out = [("softmax", make([helper.make_node("Softmax", ["input"], ["output"])], [], 2, 2), "UNPROCESSABLE", "/graph/node/0", "Softmax")]
    out.append(("another domain", make([helper.make_node("Fused", ["input"], ["output"], domain="com.example")], [], 2, 2), "UNPROCESSABLE",
                "/graph/node/0", "com.example.Fused"))
    out.append(("cycle", make([helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), identity(x="b")], [], 2, 2),
                "INVALID", "/graph/node/0", "\"b\""))
    out.append(("missing tensor", make([helper.make_node("Gemm", ["input", "gone"], ["output"])], [], 2, 2), "INVALID", "/graph/node/0", "gone"))
    out.append(("duplicate value", make([identity("a"), identity("a"), identity(x="a")], [], 2, 2), "INVALID", "/graph/node/1", "twice"))
    out.append(("duplicate tensor", make([identity()], [w, w], 2, 2), "INVALID", "/graph/initializer/1", "twice"))
    out.append(("transA", make([helper.make_node("Gemm", ["input", "w"], ["output"], transA=1)], [w], 2, 2), "UNPROCESSABLE", "/graph/node/0", "transA"))
    out.append(("attribute of another type", make([helper.make_node("Gemm", ["input", "w"], ["output"], alpha=1)], [w], 2, 2), "UNPROCESSABLE",
                "/graph/node/0", "alpha"))
    out.append(("Gemm of another operator set's form", make([helper.make_node("Gemm", ["input", "w"], ["output"], broadcast=1)], [w], 2, 2),
                "UNPROCESSABLE", "/graph/node/0", "broadcast"))
    out.append(("product of two", make([helper.make_node("Mul", ["input", "input"], ["output"])], [], 2, 2), "UNPROCESSABLE", "/graph/node/0", "Mul"))
    out.append(("wrong shape", make([helper.make_node("MatMul", ["input", "w"], ["output"])], [w], 3, 2), "INVALID", "/graph/node/0", "3 rows"))
    out.append(("weight on the left", make([helper.make_node("MatMul", ["w", "input"], ["output"])], [w], 2, 2), "UNPROCESSABLE", "/graph/node/0", "MatMul"))
    out.append(("reshape into the batch", make([helper.make_node("Reshape", ["input", "s"], ["output"])],
                                               [tensor("s", [-1, 1], TensorProto.INT64)], 2, 1), "UNPROCESSABLE", "/graph/node/0", "Reshape"))
    skip = make([helper.make_node("Gemm", ["input", "w"], ["p"]), helper.make_node("Relu", ["p"], ["r"]),
                 helper.make_node("Add", ["r", "p"], ["output"])], [w], 2, 2)
    out.append(("skip connection", skip, "UNPROCESSABLE", "/graph/node/2", "Add"))
    out.append(("nan", one_layer(), "INVALID", "", "finite"))
    out[-1][1].graph.initializer[0].raw_data = np.array([[1, np.nan, 0], [0, 0, 0]], np.float32).tobytes()
    out.append(("external data", one_layer(), "UNPROCESSABLE", "/graph/initializer/0", "outside"))
    out[-1][1].graph.initializer[0].data_location = TensorProto.EXTERNAL
    entry = out[-1][1].graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "../weights.bin"
    out.append(("huge dimensions", one_layer(), "INVALID", "/graph/initializer/0", "elements"))
    out[-1][1].graph.initializer[0].dims[:] = [2**40, 2**40]
    out.append(("too few numbers", one_layer(), "INVALID", "/graph/initializer/0", "elements"))
    out[-1][1].graph.initializer[0].dims[:] = [4000, 4000]
    out.append(("half floats", one_layer(), "UNPROCESSABLE", "/graph/initializer/0", "data type 10"))
    out[-1][1].graph.initializer[0].data_type = TensorProto.FLOAT16
    out.append(("integer input", one_layer(dtype=TensorProto.INT64), "UNPROCESSABLE", "/graph/input/0", "data type"))
    out.append(("features unknown", one_layer(shape=["batch", "n"]), "UNPROCESSABLE", "/graph/input/0", "features"))
    out.append(("old operators", one_layer(opset=6), "UNPROCESSABLE", "/opset_import", "version 6"))
    two = one_layer()
    two.graph.input.append(helper.make_tensor_value_info("second", F, ["batch", 3]))
    out.append(("two inputs", two, "UNPROCESSABLE", "/graph/input/1", "second input"))
    two = one_layer()
    two.graph.output.append(two.graph.output[0])
    out.append(("two outputs", two, "UNPROCESSABLE", "/graph/output", "2 outputs"))
    many = make([identity(f"v{i}", f"v{i - 1}" if i else "input") for i in range(1500)] + [identity(x="v1499")], [], 2, 2)
    out.append(("many nodes", many, "UNPROCESSABLE", "/graph/node", "1501 nodes"))
    deep = one_layer().SerializeToString()
    return [(n, m.SerializeToString(), c, p, t) for n, m, c, p, t in out] + [
        ("empty", b"", "INVALID", "/opset_import", "operators"), ("text", b"not an onnx file", "INVALID", "", "ONNX"),
        ("cut", deep[:-9], "INVALID", "", "cut short"), ("nested graphs", nested(3000), "INVALID", "", "too deep"),
        ("empty graphs", field(7, field(1, b"")), "INVALID", "", "too many")]


def field(number, payload):
    """A length-delimited protobuf field."""
    n, size = len(payload), b""
    while n > 127:
        size += bytes([n & 127 | 128])
        n >>= 7
    return bytes([number << 3 | 2]) + size + bytes([n]) + payload


def nested(depth):
    """Model.graph.node.attribute.g.node.attribute.g ..."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


def main():
    accepted = [("torch_policy", torch_policy, "policy", 1), ("keras_policy", keras_policy, "policy", 1),
                ("residual_dynamics", residual_dynamics, "dynamics", 1), ("assorted_policy", assorted_policy, "policy", 1)]
    document = {"accepted": [], "refused": []}
    for name, build, kind, history in accepted:
        model = build()
        onnx.checker.check_model(model, full_check=True)
        path = os.path.join(HERE, f"onnx_{name}.onnx")
        onnx.save(model, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        info = [i for i in session.get_inputs() if i.name == "input"][0]
        double = info.type == "tensor(double)"
        shape = [1] + [n for n in info.shape[1:]]
        rows = [rng.normal(size=shape).astype(np.float64 if double else np.float32) for _ in range(12)]
        document["accepted"].append({
            "file": f"onnx_{name}.onnx", "kind": kind, "history": history, "double": double,
            "x": [r.astype(np.float64).flatten().tolist() for r in rows],
            "y": [session.run(None, {"input": r})[0].astype(np.float64).flatten().tolist() for r in rows]})
    for name, data, code, pointer, part in refused():
        repeat = 200000 if name == "empty graphs" else 1
        document["refused"].append({"name": name, "hex": data.hex(), "repeat": repeat, "code": code, "pointer": pointer, "part": part})
    with open(os.path.join(HERE, "onnx_models.json"), "w", encoding="ascii") as out:
        json.dump(document, out, indent=1)
        out.write("\n")


main()
