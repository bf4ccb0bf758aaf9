#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of pruning, by numpy from the definitions alone; shares nothing with the library.

    python3 tests/golden/prune.py > tests/golden/prune.json      (numpy 1.24 or later)

magnitude   |w|
OBD         w_q^2 H_qq / 2, H = 2/n sum J'J of the outputs, J by the chain rule written out for each input
OBS         greedy over all rows of a layer at once, [H^-1] of what is left inverted afresh at every step; then the survivors by least squares.
            Over the network: the same with one H for all parameters.
SparseGPT   H^-1 = U'U by numpy's Cholesky; masks by blocks of columns, or by groups of a pattern

Layers in order, each calibrated on what the pruned layers before it give; rows count by mean |df/dp_i|^2 (objective "output") or alike ("layer");
with `bias`, H is about the mean and b^ = b + (W - W^) mean; damping multiplies H's diagonal by 1 + lambda.
"""
import json
import math

import numpy as np


def count(sparsity, n):
    return math.floor(sparsity * n + 0.5)


def activate(p, act):
    return np.where(act == "zero", 0, np.where((act == "relu") & (p < 0), 0, p))


def forward(layers, x):
    """All h_0 .. h_L of one input."""
    h = [x]
    for w, b, act in layers:
        h.append(activate(w @ h[-1] + b, act))
    return h


def slopes(layers, x):
    """dy/dp of every layer: n_y x n_out each."""
    h, out = forward(layers, x), [None] * len(layers)
    g = np.eye(len(h[-1]))
    for k in range(len(layers) - 1, -1, -1):
        act = layers[k][2]
        on = (act == "identity") | ((act == "relu") & (h[k + 1] > 0))
        g = g * on
        out[k] = g
        g = g @ layers[k][0]
    return h, out


def jacobian(layers, x, bias):
    """n_y x parameters: layer by layer, row by row, weights and then the bias."""
    h, g = slopes(layers, x)
    parts = []
    for k, (w, _, _) in enumerate(layers):
        v = np.append(h[k], 1.0) if bias else h[k]
        parts.append(np.einsum("oi,j->oij", g[k], v).reshape(len(h[-1]), -1))
    return np.concatenate(parts, axis=1)


def importance(layers, k, xs, objective):
    if objective == "layer":
        return np.array([0.0 if a == "zero" else 1.0 for a in layers[k][2]])
    return np.mean([np.sum(slopes(layers, x)[1][k] ** 2, axis=0) for x in xs], axis=0)


def about_mean(inputs, bias):
    """Inputs less their mean; one that never varies is 0 exactly, whatever rounding left of it."""
    mean = inputs.mean(axis=0) if bias else np.zeros(inputs.shape[1])
    centred = inputs - mean
    if bias:
        centred[:, np.ptp(inputs, axis=0) <= 1e-12 * np.abs(mean)] = 0
    return mean, centred


def damped(h, lam):
    h = h.copy()
    dead = np.diag(h) == 0
    for j in range(len(h)):
        h[j, j] = 1.0 if dead[j] else h[j, j] * (1 + lam)
    return h, dead


def refit(h, w, gone):
    """The best w with those gone at 0: H_SS (w^ - w)_S = H_SQ w_Q."""
    out = np.where(gone, 0.0, w)
    s, q = ~gone, gone
    if s.any() and q.any():
        out[s] += np.linalg.solve(h[np.ix_(s, s)], h[np.ix_(s, q)] @ w[q])
    return out


def greedy(h, w, gone, candidates, dead, steps, scale):
    """One OBS problem per row of w, all ranked together; returns the mask."""
    w, gone = w.copy(), gone.copy()
    for _ in range(steps):
        best = None
        for i in range(len(w)):
            left = ~gone[i]
            inverse = np.linalg.inv(h[np.ix_(left, left)])
            for place, q in enumerate(np.flatnonzero(left)):
                if not candidates[q]:
                    continue
                loss = 0.0 if dead[q] else scale[i] * w[i, q] ** 2 / (2 * inverse[place, place])
                if best is None or loss < best[0]:
                    best = (loss, i, q, left, inverse, place)
        _, i, q, left, inverse, place = best
        w[i, left] -= w[i, q] / inverse[place, place] * inverse[place]
        w[i, q], gone[i, q] = 0.0, True
    return gone


def obs_layer(h, dead, w, target, scale):
    gone = greedy(h, w, w == 0, np.full(w.shape[1], True), dead, target - int((w == 0).sum()), scale)
    return np.array([refit(h, w[i], gone[i]) for i in range(len(w))])


def sparsegpt_layer(h, dead, w, target, scale, block, group):
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    w, d, taken = w.copy(), w.shape[1], 0
    mask = np.zeros(w.shape, bool)
    if group:
        block = -(-block // group) * group
    score = lambda cols: np.where(dead[cols], 0.0, scale[:, None] * w[:, cols] ** 2 / np.diag(u)[cols] ** 2)
    for j in range(d):
        if group and j % group == 0:
            cols = np.arange(j, min(j + group, d))
            for i, row in enumerate(score(cols)):
                mask[i, cols[np.argsort(row, kind="stable")[:len(cols) // 2]]] = True
        if not group and j % block == 0:
            cols = np.arange(j, min(j + block, d))
            share = math.floor(target * (cols[-1] + 1) / d + 0.5) - taken
            order = np.argsort(score(cols).ravel(), kind="stable")[:share]
            mask[order // len(cols), cols[order % len(cols)]] = True
            taken += share
        err = np.where(mask[:, j], w[:, j], 0.0) / u[j, j]
        w[:, j:] -= np.outer(err, u[j, j:])
        w[mask[:, j], j] = 0.0
    return w


def by_layer(layers, xs, opts):
    layers = list(layers)
    n = len(xs)
    for k, (w, b, act) in enumerate(layers):
        inputs = np.array([forward(layers, x)[k] for x in xs])
        mean, centred = about_mean(inputs, opts["bias"])
        h, dead = damped(2 / n * centred.T @ centred, opts["damping"])
        scale, target = importance(layers, k, xs, opts["objective"]), count(opts["sparsity"], w.size)
        if opts["method"] == "obs":
            new = obs_layer(h, dead, w, target, scale)
        else:
            new = sparsegpt_layer(h, dead, w, target, scale, opts["block"], opts["group"])
        layers[k] = (new, b + (w - new) @ mean, act)
    return layers


def by_network(layers, xs, opts):
    """OBS with one Hessian for everything."""
    j = np.concatenate([jacobian(layers, x, opts["bias"]) for x in xs])
    h, dead = damped(2 / len(xs) * j.T @ j, opts["damping"])
    blocks = [np.concatenate([w, b[:, None]], axis=1) if opts["bias"] else w for w, b, _ in layers]
    is_weight = np.concatenate([np.tile(np.arange(m.shape[1]) < w.shape[1], len(m)) for m, (w, _, _) in zip(blocks, layers)])
    v = np.concatenate([m.ravel() for m in blocks])
    gone = greedy(h, v[None], np.zeros((1, len(v)), bool), is_weight, dead, count(opts["sparsity"], int(is_weight.sum())), [1.0])[0]
    v, at, out = refit(h, v, gone), 0, []
    for m, (w, b, act) in zip(blocks, layers):
        part = v[at:at + m.size].reshape(m.shape)
        at += m.size
        out.append((part[:, :w.shape[1]], part[:, -1] if opts["bias"] else b, act))
    return out


def by_saliency(layers, xs, opts):
    scores = [np.abs(w) for w, _, _ in layers]
    if opts["method"] == "obd":
        hs = [np.zeros(w.shape) for w, _, _ in layers]
        for x in xs:
            h, g = slopes(layers, x)
            for k in range(len(layers)):
                hs[k] += 2 / len(xs) * np.sum(g[k] ** 2, axis=0)[:, None] * h[k] ** 2
        scores = [w ** 2 * d / 2 for (w, _, _), d in zip(layers, hs)]
    out = []
    everything = np.sort(np.concatenate([s.ravel() for s in scores]))
    for s, (w, b, act) in zip(scores, layers):
        m = opts["group"]
        if m:
            gone = np.zeros(w.shape, bool)
            for i in range(w.shape[0]):
                for j in range(0, w.shape[1], m):
                    t = min(m, w.shape[1] - j)
                    gone[i, j + np.argsort(s[i, j:j + t])[:t // 2]] = True
        else:
            pool = everything if opts["scope"] == "network" else np.sort(s.ravel())
            k = count(opts["sparsity"], len(pool))
            gone = s < (pool[k] if k < len(pool) else np.inf)
        out.append((np.where(gone, 0.0, w), b, act))
    return out


def prune(layers, xs, opts):
    if opts["method"] in ("magnitude", "obd"):
        return by_saliency(layers, xs, opts)
    return by_network(layers, xs, opts) if opts["scope"] == "network" else by_layer(layers, xs, opts)


def as_json(layers):
    return {"layers": [{"w": w.tolist(), "b": b.tolist(), "activation": list(act)} for w, b, act in layers]}


def main():
    rng = np.random.default_rng(1993)
    base = {"scope": "layer", "objective": "output", "sparsity": 0.5, "group": 0, "damping": 0.01, "block": 128, "bias": True}
    ways = [{"method": "magnitude"}, {"method": "magnitude", "scope": "network", "sparsity": 0.3}, {"method": "obd"},
            {"method": "obd", "scope": "network", "sparsity": 0.4}, {"method": "obd", "group": 4}, {"method": "obs"},
            {"method": "obs", "objective": "layer", "sparsity": 0.3}, {"method": "obs", "bias": False, "damping": 0.001},
            {"method": "obs", "scope": "network"}, {"method": "obs", "scope": "network", "bias": False, "sparsity": 0.7},
            {"method": "sparsegpt"}, {"method": "sparsegpt", "objective": "layer", "block": 2}, {"method": "sparsegpt", "bias": False, "block": 3, "sparsity": 0.7},
            {"method": "sparsegpt", "group": 4}, {"method": "sparsegpt", "group": 2, "block": 1}]
    cases = []
    for widths in ([3, 7, 2], [4, 6, 5, 2], [10, 4]):
        layers = []
        for k, (i, o) in enumerate(zip(widths, widths[1:])):
            act = np.array(["identity" if k == len(widths) - 2 else "relu"] * o, dtype=object)
            layers.append((rng.normal(size=(o, i)) / np.sqrt(i), 0.3 * rng.normal(size=o), act))
        if len(widths) == 4:
            layers[0][2][2], layers[1][2][1] = "identity", "relu"
        xs = rng.normal(size=(30, widths[0])) + 0.7 * rng.normal(size=(30, 1)) + np.arange(widths[0]) / 4
        results = [{"opts": {**base, **way}, "pruned": as_json(prune(layers, xs, {**base, **way}))} for way in ways]
        cases.append({"model": as_json(layers), "inputs": xs.tolist(), "results": results})
    print(json.dumps({"numpy": np.__version__, "cases": cases}))


if __name__ == "__main__":
    main()
