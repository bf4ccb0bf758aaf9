#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sampled plans a second: this planner against PyTorch, side by side.

Every engine in turn runs a case for SLICE seconds, ROUNDS times over, and all cases are gone through PASSES times: what else the
machine does falls on all engines, and a state that it keeps for some seconds on few rounds of a case. Figures are medians over the rounds:
of rates in samples per second of CPU time (two threads: of wall time), and of ratios of rates within a round. All peers
are given the same network, present, goal and cost as this planner, and must agree with its replay on 64 plans.

    torch           rollouts with costs; float32, no_grad, one addmm a layer into a buffer, the pushing frame by hand in place,
                    all costs at the end in one expression; a pruned network as the few dense rows of its ReLUs, level by level
    torch-compiled  the same through torch.compile, where that works
    torch-2         torch with two threads
    torch-mppi      whole MPPI iterations: normal noise, clamp, torch's rollouts, softmax weights, mean
    pytorch_mppi    whole iterations of the package of that name, with the same dynamics
    ours            rollouts with costs;  ours-mppi, ours-cem  whole iterations
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

import torch

SLICE, ROUNDS, PASSES, REACH = 0.15, 3, 4, 0.3


class Ours:
    def __init__(self, path, network, horizon):
        self.process = subprocess.Popen([path, network, str(horizon)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.case = json.loads(self.process.stdout.readline())

    def rate(self, what, samples):
        self.process.stdin.write(f"{what} {samples} {SLICE}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline().split()[0])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def layers_of(model):
    """(weights k x n, bias) of each dense layer and which of its neurons are ReLU; the pushing frame is checked, not read."""
    layers = []
    for layer in model["layers"]:
        activation = layer["activation"]
        kinds = activation if isinstance(activation, list) else [activation] * len(layer["b"])
        layers.append((torch.tensor(layer["w"], dtype=torch.float64), torch.tensor(layer["b"], dtype=torch.float64), kinds))
    assert layers[0][0].shape[1] == 10 and layers[-1][0].shape[0] == 8
    return layers


def compact(layers):
    """A pruned network over the values [x, r], r its ReLUs: rows of each layer's ReLUs, then of the output. Neurons that are
    the identity or zero are substituted away."""
    n_in = layers[0][0].shape[1]
    relus = sum(kind == "relu" for _, _, kinds in layers[:-1] for kind in kinds)
    width = n_in + relus + 1  # the last column is the constant
    values = torch.zeros(n_in, width, dtype=torch.float64)
    values[:, :n_in] = torch.eye(n_in, dtype=torch.float64)
    levels, known = [], n_in
    for w, b, kinds in layers[:-1]:
        rows = w @ values
        rows[:, -1] += b
        mine = [i for i, kind in enumerate(kinds) if kind == "relu"]
        if mine:
            levels.append((rows[mine, :known], rows[mine, -1], known, len(mine)))
        for place, i in enumerate(mine):
            rows[i] = 0
            rows[i, known + place] = 1
        rows[[i for i, kind in enumerate(kinds) if kind == "zero"]] = 0
        known += len(mine)
        values = rows
    w, b, _ = layers[-1]
    rows = w @ values
    rows[:, -1] += b
    return levels, (rows[:, :known], rows[:, -1]), known


class Torch:
    """Rollouts of `samples` plans; everything that can be is allocated once."""

    def __init__(self, case, horizon, samples):
        layers = layers_of(case["model"])
        self.horizon, self.samples = horizon, samples
        self.dense = all(kind == "relu" for _, _, kinds in layers[:-1] for kind in kinds)
        single = lambda tensor: tensor.to(torch.float32).contiguous()
        if self.dense:
            self.layers = [(single(w.t()), single(b)) for w, b, _ in layers]
            known = 10
        else:
            levels, (w, b), known = compact(layers)
            self.levels = [(single(rows.t()), single(constant), at, n) for rows, constant, at, n in levels]
            self.output = (single(w.t()), single(b))
        y = torch.tensor(case["y"], dtype=torch.float32)
        self.start, self.relative = y[:8], y[8:16]
        self.goal = torch.tensor(case["goal"], dtype=torch.float32)
        self.values = torch.empty(samples, known)
        self.keypoints = torch.empty(horizon, samples, 8)
        self.step = torch.empty(samples, 8)
        self.hidden = [torch.empty(samples, w.shape[0]) for w, _, _ in layers[:-1]]
        self.mean = torch.zeros(horizon, 2)

    def network(self):
        """The network's output at self.values[:, :10], into self.step."""
        if self.dense:
            at = self.values
            for (w, b), to in zip(self.layers[:-1], self.hidden):
                at = torch.addmm(b, at, w, out=to).relu_()
            w, b = self.layers[-1]
            return torch.addmm(b, at, w, out=self.step)
        for w, b, at, n in self.levels:
            self.values[:, at : at + n] = torch.addmm(b, self.values[:, :at], w).relu_()
        w, b = self.output
        return torch.addmm(b, self.values, w, out=self.step)

    def costs(self, u):
        """u: horizon x samples x 2."""
        x = self.values[:, :8]
        x.copy_(self.relative.expand_as(x))
        repeated = u.repeat(1, 1, 4)
        before = self.start
        for t in range(self.horizon):
            self.values[:, 8:10] = u[t]
            o = self.network()
            x.add_(o).sub_(repeated[t])
            before = torch.add(before, o, out=self.keypoints[t])
        return (self.keypoints - self.goal).abs_().sum((0, 2))

    def mppi(self, sigma=0.12):
        u = torch.randn(self.horizon, self.samples, 2).mul_(sigma).add_(self.mean[:, None]).clamp_(-REACH, REACH)
        costs = self.costs(u)
        spread = costs.std() * 0.1
        weights = torch.softmax(-costs / spread, 0)
        self.mean = torch.einsum("n,tni->ti", weights, u)


class Plain(Torch):
    """The same in plain expressions, for the compiler to fuse."""

    def costs(self, u):
        x, k, cost = self.relative.expand(self.samples, 8), self.start, 0.0
        for t in range(self.horizon):
            at = torch.cat([x, u[t]], 1)
            if self.dense:
                for w, b in self.layers[:-1]:
                    at = torch.relu(torch.addmm(b, at, w))
                o = torch.addmm(self.layers[-1][1], at, self.layers[-1][0])
            else:
                for w, b, _, _ in self.levels:
                    at = torch.cat([at, torch.relu(torch.addmm(b, at, w))], 1)
                o = torch.addmm(self.output[1], at, self.output[0])
            k = k + o
            x = x + o - u[t].repeat(1, 4)
            cost = cost + (k - self.goal).abs().sum(1)
        return cost


def agree(peer, case, horizon, costs_of):
    plans = torch.tensor(case["plans"], dtype=torch.float32).reshape(-1, horizon, 2)
    many = plans.repeat(-(-peer.samples // len(plans)), 1, 1)[: peer.samples].transpose(0, 1).contiguous()
    got, want = costs_of(many), torch.tensor(case["costs"], dtype=torch.float32)
    n = min(len(want), peer.samples)
    worst = ((got[:n] - want[:n]).abs() / want[:n]).max().item()
    if worst > 1e-4:
        sys.exit(f"rollouts.py: a peer's costs are off by {worst:.2g}")


def rate(call, samples, clock):
    """Samples a second over SLICE seconds of wall time."""
    call()
    calls, zero, wall = 0, clock(), time.perf_counter()
    while time.perf_counter() - wall < SLICE:
        call()
        calls += 1
    return calls * samples / (clock() - zero)


def package(case, horizon, samples, network):
    """One iteration of the package pytorch_mppi with the same dynamics, as a call; None where it is not installed."""
    try:
        import pytorch_mppi
    except ImportError:
        return None

    def dynamics(state, action):
        network.values[:, :8] = state[:, 8:16]
        network.values[:, 8:10] = action
        o = network.network()
        return torch.cat([state[:, :8] + o, state[:, 8:] + o - action.repeat(1, 4)], 1)

    def cost(state, action):
        return (state[:, :8] - network.goal).abs().sum(1)

    planner = pytorch_mppi.MPPI(dynamics, cost, 16, torch.eye(2) * 0.12**2, num_samples=samples, horizon=horizon, lambda_=0.1,
                                u_min=torch.tensor([-REACH, -REACH]), u_max=torch.tensor([REACH, REACH]))
    state = torch.tensor(case["y"], dtype=torch.float32)
    return lambda: planner.command(state)


def engines_of(ours, horizon, samples):
    case, peer = ours.case, Torch(ours.case, horizon, samples)
    agree(peer, case, horizon, peer.costs)
    u = torch.empty(horizon, samples, 2).uniform_(-REACH, REACH)
    plain = Plain(case, horizon, samples)
    engines = {
        "ours": lambda: ours.rate("rollouts", samples),
        "torch": lambda: rate(lambda: peer.costs(u), samples, time.process_time),
    }
    try:
        compiled = torch.compile(plain.costs, dynamic=False)
        agree(plain, case, horizon, compiled)
        engines["torch-compiled"] = lambda: rate(lambda: compiled(u), samples, time.process_time)
    except Exception as error:  # no compiler, or a version that cannot
        print(f"torch.compile: {str(error).splitlines()[0]}", file=sys.stderr)

    def two_threads():
        torch.set_num_threads(2)
        r = rate(lambda: peer.costs(u), samples, time.perf_counter)
        torch.set_num_threads(1)
        return r

    engines["torch-2"] = two_threads
    engines["ours-mppi"] = lambda: ours.rate("mppi", samples)
    engines["ours-cem"] = lambda: ours.rate("cem", samples)
    engines["torch-mppi"] = lambda: rate(peer.mppi, samples, time.process_time)
    command = package(case, horizon, samples, Torch(case, horizon, samples))
    if command:
        engines["pytorch_mppi"] = lambda: rate(command, samples, time.process_time)
    return engines


def measure(path, network, horizon, sizes, cells):
    """Adds ROUNDS rounds of each size to cells, {(network, horizon, samples): [{engine: rate}, ...]}; how far off our rollouts are."""
    ours = Ours(path, network, horizon)
    for samples in sizes:
        torch._dynamo.reset()
        engines = engines_of(ours, horizon, samples)
        rounds = cells.setdefault((network, horizon, samples), [])
        rounds += [{name: run() for name, run in engines.items()} for _ in range(ROUNDS)]
    ours.close()
    return ours.case["worst_error"]


PEERS = ["torch", "torch-compiled", "torch-2", "torch-mppi", "pytorch_mppi"]


def row(cell, rounds, error):
    def median(figure):
        return statistics.median(figure(one) for one in rounds)

    def against(mine, peer):
        return f"{median(lambda one: one[mine] / one[peer]):.1f}x" if peer in rounds[0] else "-"

    def rate_of(name):
        return f"{median(lambda one: one[name]) / 1e3:.0f}"

    columns = [*cell, rate_of("ours")] + [against("ours", name) for name in PEERS[:3]]
    columns += [rate_of("ours-mppi"), rate_of("ours-cem")] + [against("ours-mppi", name) for name in PEERS[3:]]
    columns.append(f"{error:.0e}")
    return "| " + " | ".join(str(column) for column in columns) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench_rollouts")
    parser.add_argument("--networks", default="dense push24-1")
    parser.add_argument("--horizons", default="5 10 20")
    parser.add_argument("--samples", default="150 1000 4000")
    options = parser.parse_args()
    horizons, sizes = [int(h) for h in options.horizons.split()], [int(n) for n in options.samples.split()]
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print(f"torch {torch.__version__}; thousands of samples a second, one thread; medians of {PASSES * ROUNDS} rounds, of ratios within a round")
    print("| network | H | samples | ours | to torch | to compiled | to torch, 2 threads | our MPPI | our CEM | to torch MPPI | to pytorch_mppi | off by |")
    print("|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    cells, errors = {}, {}
    for _ in range(PASSES):
        for network in options.networks.split():
            for horizon in horizons:
                errors[network, horizon] = measure(options.bench_rollouts, network, horizon, sizes, cells)
    for cell, rounds in cells.items():
        print(json.dumps({"cell": cell, "rounds": rounds}), file=sys.stderr)
        print(row(cell, rounds, errors[cell[:2]]), flush=True)


if __name__ == "__main__":
    main()
