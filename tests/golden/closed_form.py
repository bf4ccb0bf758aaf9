#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of the closed-form constants, by numpy from the formulas alone; shares nothing with the library.

    python3 tests/golden/closed_form.py > tests/golden/closed_form.json      (numpy 1.24 or later)

C_k     = prod_{j>k} |W_j|_2 * alpha_{k-1},   alpha_0 = |s|_2, alpha_j = |W_j|_2 alpha_{j-1} + |b_j|_2
C_k^act = prod_{j>k} |W_j|_2 * |h_{k-1}(s)|_2
Form A  = sum_k prod_{j>k} |What_j|_2 * (|D_k|_2 |h_{k-1}(s)|_2 + |d_k|_2)   for What = W + D, bhat = b + d, several layers at once
"""
import json

import numpy as np


def norm2(w):
    return float(np.linalg.norm(w, 2))


def forward(layers, s):
    """All h_0 .. h_L, the last without ReLU."""
    h = [s]
    for i, (w, b) in enumerate(layers):
        z = w @ h[-1] + b
        h.append(z if i == len(layers) - 1 else np.maximum(z, 0))
    return h


def constants(layers, s):
    norms = [norm2(w) for w, _ in layers]
    h = forward(layers, s)
    alpha, c, c_act = float(np.linalg.norm(s)), [], []
    for k, (_, b) in enumerate(layers):
        downstream = float(np.prod(norms[k + 1:]))
        c.append(downstream * alpha)
        c_act.append(downstream * float(np.linalg.norm(h[k])))
        alpha = norms[k] * alpha + float(np.linalg.norm(b))
    return c, c_act


def form_a(layers, pruned, s):
    h, total = forward(layers, s), 0.0
    for k, ((w, b), (wh, bh)) in enumerate(zip(layers, pruned)):
        downstream = float(np.prod([norm2(v) for v, _ in pruned[k + 1:]]))
        total += downstream * (norm2(wh - w) * float(np.linalg.norm(h[k])) + float(np.linalg.norm(bh - b)))
    return total


def magnitude(layers, share):
    """The smallest weights of each layer set to zero."""
    out = []
    for w, b in layers:
        cut = np.quantile(np.abs(w), share)
        out.append((np.where(np.abs(w) <= cut, 0.0, w), b.copy()))
    return out


def as_json(layers):
    return {"layers": [{"w": w.tolist(), "b": b.tolist(), "activation": "identity" if i == len(layers) - 1 else "relu"}
                       for i, (w, b) in enumerate(layers)]}


def main():
    rng = np.random.default_rng(20250)
    cases = []
    for widths in ([2, 3, 1], [4, 16, 16, 2], [3, 8, 8, 8, 3], [6, 64, 64, 2], [1, 5, 1]):
        layers = [(rng.normal(size=(o, i)) / np.sqrt(i), 0.3 * rng.normal(size=o)) for i, o in zip(widths, widths[1:])]
        pruned = magnitude(layers, 0.4)
        states = []
        for _ in range(4):
            s = rng.normal(size=widths[0])
            c, c_act = constants(layers, s)
            y, yp = forward(layers, s)[-1], forward(pruned, s)[-1]
            states.append({"s": s.tolist(), "y": y.tolist(), "c": c, "c_activation": c_act, "form_a": form_a(layers, pruned, s),
                           "actual": float(np.linalg.norm(y - yp))})
        cases.append({"model": as_json(layers), "pruned": as_json(pruned), "states": states})
    print(json.dumps({"numpy": np.__version__, "cases": cases}))


if __name__ == "__main__":
    main()
