#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files as PyTorch's own exporter writes them, and what PyTorch answers for them.

    python3 tests/golden/onnx_pytorch.py          (torch 2 with onnx; rewrites tests/golden/onnx_pytorch*)
"""
import json
import os

import torch
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(3)


class Dynamics(nn.Module):
    """y+ = y + f((x - mean) / std), x = [y, u] of 4 and 2 numbers. ONNX keeps eps as a float, so it is one."""

    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16, eps=2**-16), nn.ReLU(), nn.Linear(16, 4))
        self.f[1].running_mean.normal_()
        self.f[1].running_var.uniform_(0.5, 2)
        self.register_buffer("mean", torch.randn(6))
        self.register_buffer("std", torch.rand(6) + 0.5)

    def forward(self, x):
        return x[:, :4] + self.f((x - self.mean) / self.std)


def main():
    policy = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 2)).eval()
    dynamics = Dynamics().double().eval()
    document = {"accepted": []}
    for kind, module, x in [("policy", policy, torch.randn(12, 5)), ("dynamics", dynamics, torch.randn(12, 6).double())]:
        name = f"onnx_pytorch_{kind}.onnx"
        torch.onnx.export(module, (x[:1],), os.path.join(HERE, name), input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}},
                          dynamo=False)
        document["accepted"].append({"file": name, "kind": kind, "history": 1, "double": x.dtype == torch.float64, "x": x.double().tolist(),
                                     "y": module(x).detach().double().tolist()})
    with open(os.path.join(HERE, "onnx_pytorch.json"), "w", encoding="ascii") as out:
        json.dump(document, out, indent=1)
        out.write("\n")


main()
