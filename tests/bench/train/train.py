#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training against PyTorch on the CPU, side by side: samples a second, time to equal validation loss, peak memory.

Both sides train the same network from the same weights on the same rows in memory, minibatches of 256, Adam, one thread; ours is
a whole job's loop (shuffle, gather, loss, gradient, schedule, clock), and PyTorch's the same without the clock. Every engine in
turn runs for SLICE seconds of CPU, ROUNDS times over, so that whatever else the machine does falls on all of them; a figure is
the median of the rounds, in samples per second of CPU time. PyTorch runs eagerly and compiled, with fused and with foreach
Adam, each a column; with masks it draws them as the ladder does, once a minibatch, hard forward and soft backward.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

BATCH, SLICE, ROUNDS, MASK_RATE, LAMBDA, LAMBDA_ID, TAU = 256, 0.3, 5, 0.03, 1e-4, 0.005, 0.5


class Ours:
    def __init__(self, path, data, prefix, hidden):
        self.process = subprocess.Popen([path, "run", data, prefix, hidden], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.case = json.loads(self.process.stdout.readline())

    def send(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def read(self):
        return self.process.stdout.readline()

    def ask(self, line):
        self.send(line)
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Peer:
    """The network in PyTorch on the rows that the other side has written."""

    def __init__(self, torch, case, prefix, gumbel, compiled, adam):
        self.torch, widths = torch, case["widths"]
        table = lambda name, dtype: torch.from_file(f"{prefix}.{name}", size=os.path.getsize(f"{prefix}.{name}") // dtype.itemsize, dtype=dtype).clone()
        self.x = table("features", torch.float32).reshape(-1, widths[0])
        self.t = table("targets", torch.float32).reshape(-1, widths[-1])
        self.starts, self.validation = table("starts", torch.int64), table("validation", torch.int64)
        self.y_scale = torch.tensor(case["y_scale"], dtype=torch.float64)
        g = torch.tensor(case["g"]).reshape(widths[-1], widths[-1])
        assert torch.equal(g, torch.eye(widths[-1]))  # the residual frame: the error is the output less the target
        block = table("params", torch.float32)
        sizes = [k * w for k, w in zip(widths, widths[1:])] + widths[1:]
        parts = [part.clone() for part in torch.split(block, sizes)]
        n = len(widths) - 1
        self.weights = [parts[l].reshape(widths[l + 1], widths[l]).requires_grad_() for l in range(n)]
        self.biases = [parts[n + l].requires_grad_() for l in range(n)]
        groups = [{"params": self.weights + self.biases, "lr": 1e-3}]
        self.logits = None
        if gumbel:
            start = torch.tensor([0.8, 0.1, 0.1]).log().repeat(sum(widths[1:-1]), 1)
            self.logits = start.clone().requires_grad_()
            groups.append({"params": [self.logits], "lr": MASK_RATE})
        self.adam = torch.optim.Adam(groups, lr=1e-3, **{adam: True})
        self.loss = torch.compile(self.masked if gumbel else self.plain, dynamic=False) if compiled else self.masked if gumbel else self.plain
        self.order, self.at = None, 0

    def plain(self, x, t):
        f = self.torch.nn.functional
        for w, b in zip(self.weights[:-1], self.biases[:-1]):
            x = f.linear(x, w, b).relu_()
        return f.mse_loss(f.linear(x, self.weights[-1], self.biases[-1]), t)

    def masked(self, x, t):
        torch, f, first = self.torch, self.torch.nn.functional, 0
        z = f.gumbel_softmax(self.logits, tau=TAU, hard=True)
        for w, b in zip(self.weights[:-1], self.biases[:-1]):
            p, mask = f.linear(x, w, b), z[first : first + len(b)]
            x = mask[:, 0] * p.relu() + mask[:, 1] * p
            first += len(b)
        pi = torch.softmax(self.logits, 1).sum(0)
        return f.mse_loss(f.linear(x, self.weights[-1], self.biases[-1]), t) + LAMBDA * (pi[0] + LAMBDA_ID * pi[1])

    def step(self):
        if self.order is None or self.at + BATCH > len(self.order):
            self.order, self.at = self.starts[self.torch.randperm(len(self.starts))], 0
        rows = self.order[self.at : self.at + BATCH]
        self.at += BATCH
        loss = self.loss(self.x[rows], self.t[rows])
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()

    def rate(self):
        steps, begin = 0, time.process_time()
        while time.process_time() - begin < SLICE:
            for _ in range(20):
                self.step()
            steps += 20
        return steps * BATCH / (time.process_time() - begin)

    def rmse(self):
        """One step, in the units of the data, on the rows that the other side validates on."""
        with self.torch.no_grad():
            f, x = self.torch.nn.functional, self.x[self.validation]
            for w, b in zip(self.weights[:-1], self.biases[:-1]):
                x = f.linear(x, w, b).relu_()
            e = f.linear(x, self.weights[-1], self.biases[-1]) - self.t[self.validation]
            return (e.double() * self.y_scale).square().mean().sqrt().item()

    def learn(self, epochs, rate):
        """A cosine to 1 % as the other side's; [CPU s, epochs, RMSE] after each epoch."""
        batches, curve, begin = len(self.starts) // BATCH, [], time.process_time()
        for epoch in range(epochs):
            self.order = None
            for b in range(batches):
                share = (epoch + b / batches) / epochs
                self.adam.param_groups[0]["lr"] = rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
                self.step()
            curve.append([time.process_time() - begin, epoch + 1, self.rmse()])
        return curve


def peers_of(torch, case, prefix, gumbel):
    peers = {}
    for compiled in False, True:
        for adam in "fused", "foreach":
            name = f"{'compiled' if compiled else 'eager'}, {adam}"
            try:
                peer = Peer(torch, case, prefix, gumbel, compiled, adam)
                for _ in range(5):
                    peer.step()
                peers[name] = peer
            except Exception as error:  # no compiler, or a version that cannot
                print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
    return peers


def rates(torch, ours, prefix, gumbel):
    peers = peers_of(torch, ours.case, prefix, gumbel)
    rounds = {name: [] for name in ["ours", *peers]}
    for _ in range(ROUNDS):
        rounds["ours"].append(float(ours.ask(f"rate {'gumbel' if gumbel else 'dense'} {SLICE}").split()[0]))
        for name, peer in peers.items():
            rounds[name].append(peer.rate())
    return {name: statistics.median(values) for name, values in rounds.items()}


def print_rates(torch, ours, hidden, prefix):
    best = {}
    for gumbel in False, True:
        found = rates(torch, ours, prefix, gumbel)
        names = [name for name in found if name != "ours"]
        if not gumbel:
            print(f"\n10-{hidden}-8, thousands of samples per second of CPU\n\n| masks | ours | {' | '.join(names)} | to the best |")
            print("|:--|" + "--:|" * (len(names) + 2))
        fastest = max(names, key=found.get)
        best[gumbel] = fastest
        cells = [f"{found[name] / 1e3:.0f}" for name in ["ours", *names]]
        print(f"| {'Gumbel' if gumbel else 'none'} | {' | '.join(cells)} | {found['ours'] / found[fastest]:.1f}x |", flush=True)
    return best[False]


def first_at(curve, rmse):
    return next((seconds for seconds, _, value in curve if value <= rmse), math.inf)


def print_learning(torch, ours, prefix, engine, epochs, rate):
    """Equal loss: the worse of both ends, which both curves reach."""
    compiled, adam = engine.split(", ")
    peer = Peer(torch, ours.case, prefix, False, compiled == "compiled", adam)
    theirs, mine = peer.learn(epochs, rate), json.loads(ours.ask(f"learn {epochs} {rate}"))
    target = max(theirs[-1][2], mine[-1][2])
    a, b = first_at(mine, target), first_at(theirs, target)
    print(f"\nTo the same validation RMSE, {target:.4f} ({epochs} epochs at {rate:g}; ends: ours {mine[-1][2]:.4f}, torch {theirs[-1][2]:.4f}): "
          f"ours {a:.2f} s of CPU, torch ({engine}) {b:.2f} s: {b / a:.1f}x", flush=True)


def print_parts(ours):
    parts = json.loads(ours.ask("parts"))
    peak = parts["sgemm GFLOP/s"]
    print(f"\nWhere a minibatch of {BATCH} goes; peak: {ours.case['blas'].split()[1]} sgemm {peak:.0f} GFLOP/s, dgemm {parts['dgemm GFLOP/s']:.0f}, "
          f"1024 x 1024 x 1024, kernel {os.environ.get('OPENBLAS_CORETYPE', 'by itself')}\n\n| part | us of CPU | GFLOP/s | of sgemm |\n|:--|--:|--:|--:|")
    both = parts["forward GFLOP"] + parts["backward GFLOP"]
    work = {"forward": parts["forward GFLOP"], "forward, p kept": parts["forward GFLOP"], "backward": parts["backward GFLOP"],
            "backward, with slopes": parts["backward GFLOP"], "loss and gradient": both}
    for name, us in parts.items():
        if "GFLOP" in name:
            continue
        speed = work[name] / us * 1e6 if name in work else None
        print(f"| {name} | {us:.1f} | " + (f"{speed:.0f} | {100 * speed / peak:.0f} % |" if speed else "- | - |"), flush=True)


def print_cores(arguments, ours, prefix):
    """The library starts no threads: two jobs on two cores."""
    other = Ours(*arguments[:2], prefix + "-2", arguments[2])
    alone, together = [], []
    for _ in range(ROUNDS):
        alone.append([float(v) for v in ours.ask(f"rate dense {SLICE}").split()])
        ours.send(f"rate dense {SLICE}")
        other.send(f"rate dense {SLICE}")
        together.append([sum(pair) for pair in zip(*([float(v) for v in side.read().split()] for side in (ours, other)))])
    other.close()
    ratio = [statistics.median(t[i] for t in together) / statistics.median(a[i] for a in alone) for i in (0, 1)]
    print(f"\nTwo jobs at once against one: {ratio[0]:.2f}x the samples by CPU time, {ratio[1]:.2f}x by wall time (load average {os.getloadavg()[0]:.1f})", flush=True)


PEER_MEMORY = """
import sys
sys.path.insert(0, sys.argv[1])
import json, torch, train
torch.set_num_threads(1)
peer = train.Peer(torch, json.loads(sys.argv[2]), sys.argv[3], False, False, "fused")
for _ in range(200): peer.step()
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""


def print_memory(arguments, prefix):
    """Each in a process of its own, eager: without what compiling takes."""
    ours = Ours(*arguments[:2], prefix, arguments[2])
    ours.ask(f"rate dense {SLICE}")
    mine = int(ours.ask("memory")) / 1024
    done = subprocess.run([sys.executable, "-c", PEER_MEMORY, os.path.dirname(__file__), json.dumps(ours.case), prefix], capture_output=True, text=True, check=True)
    theirs = int(done.stdout) / 1024
    ours.close()
    print(f"\nPeak memory: ours {mine:.0f} MiB, data read from NDJSON included; torch {theirs:.0f} MiB: a share of 1/{theirs / mine:.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench_train")
    parser.add_argument("--networks", default="64-64 96-192-192-96")
    parser.add_argument("--transitions", type=int, default=50000)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = os.path.join("build", "bench", "train")
    os.makedirs(folder, exist_ok=True)
    data = os.path.join(folder, f"push-{options.transitions}.ndjson")
    if not os.path.exists(data):
        subprocess.run([options.bench_train, "data", data, str(options.transitions)], check=True, stderr=subprocess.DEVNULL)
    print(f"torch {torch.__version__}, {options.transitions} transitions, minibatches of {BATCH}, Adam, one thread")
    for hidden in options.networks.split():
        prefix, arguments = os.path.join(folder, hidden), (options.bench_train, data, hidden)
        ours = Ours(*arguments[:2], prefix, hidden)
        torch._dynamo.reset()
        fastest = print_rates(torch, ours, hidden, prefix)
        print_learning(torch, ours, prefix, fastest, options.epochs, 0.01 if hidden == "64-64" else 0.003)
        print_parts(ours)
        print_cores(arguments, ours, prefix)
        ours.close()
        print_memory(arguments, prefix)


if __name__ == "__main__":
    main()
