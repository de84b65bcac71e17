"""What is said to make a training step faster, one at a time, on this machine: ResNet18, batch 128.

    python tests/bench/bench_levers.py [--width 16] [--pairs 7] [--steps 4]

`cam_course` uses what pays: channels_last wherever it is safe (on a CPU that takes shortcuts which pick their pixels before the
convolution: the line "safe shortcut" is what this costs); fused optimizer and torch.compile on a GPU only;
bf16 there and on processors with AMX tiles (`cam_course.base.core.resolve_precision`).
"""
import argparse
import contextlib
import shutil
import sys
from pathlib import Path

import pairs
import torch
import torch.nn.functional as F

from cam_course.base.core import get_device
from cam_course.resnet import ResNet18

sys.path.append(str(Path(__file__).resolve().parents[1]))
from gradients import usual


def steps(width: int, count: int, device: torch.device, *, memory=torch.channels_last, compiled=False, bf16=False, safe=True, **sgd):
    "A call that makes `count` training steps on one batch."
    torch.manual_seed(0)
    net = (ResNet18 if safe else lambda **k: usual(ResNet18(**k)))(width=width).to(device, memory_format=memory).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, **sgd)
    x = torch.randn(128, 3, 32, 32, device=device).contiguous(memory_format=memory)
    y = torch.randint(10, (128,), device=device)
    run = torch.compile(net) if compiled else net
    cast = (lambda: torch.autocast(device.type, torch.bfloat16)) if bf16 else contextlib.nullcontext

    def work() -> None:
        for _ in range(count):
            with cast():
                loss = F.cross_entropy(run(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # wait for the device

    return work


def main(argv: list[str] | None = None) -> list[pairs.Ratio]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args(argv)
    device = get_device()
    levers = {
        "channels_last": ({}, {"memory": torch.contiguous_format}),
        "safe shortcut": ({}, {"safe": False}),
        "all weights in one call (foreach)": ({"foreach": True}, {"foreach": False}),
        "fused optimizer": ({"fused": True}, {"foreach": False}),
        "bf16 autocast": ({"bf16": True}, {}),
    }
    if device.type == "cuda" or shutil.which("g++") or shutil.which("clang++"):
        levers["torch.compile"] = ({"compiled": True}, {})
    else:
        print("no C++ compiler on this machine: torch.compile is left out")
    found = []
    for name, (with_it, without) in levers.items():
        a, b = (steps(args.width, args.steps, device, **options) for options in (with_it, without))
        found.append(pairs.compare(f"step, width {args.width}: {name}", ("with", a), ("without", b), args.pairs, warmup=2))
    return found


if __name__ == "__main__":
    pairs.write("levers", main())
