"""How long a range test takes: ours beside torch-lr-finder, in turn on the same net and loader, as a ratio.

    python tests/bench/bench_lr_finder.py [--width 8] [--batch 32] [--steps 100] [--pairs 9] [--device cpu] [--threads 1]

Two comparisons: the same steps over the same range; and each as it comes, from 1e-7 to 10 with its own rule for when the
loss has diverged. Both put everything back. On a CPU the clock is the processor's, so that other programs don't count.
Exits with 1 if ours is slower (`MARK`), with 2 where torch-lr-finder is not installed.
"""
import argparse
import contextlib
import importlib.util
import io
import sys
import time

import torch
import torch.nn.functional as F
from pairs import compare, write
from torch.utils.data import DataLoader, TensorDataset

from cam_course.lr_finder import LRFinder
from cam_course.resnet import ResNet18

MARK = 1.0   # theirs/ours


def make(width, batch, device):
    "A net, its optimizer and a loader of random images in memory."
    torch.manual_seed(0)
    model = ResNet18(width=width).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7, momentum=0.9)
    data = TensorDataset(torch.randn(8*batch, 3, 32, 32), torch.randint(0, 10, (8*batch,)))
    return model, optimizer, DataLoader(data, batch, shuffle=True, drop_last=True)


def ours(model, optimizer, loader, steps, end_lr):
    "One range test; returns how many steps it took."
    return len(LRFinder(model, optimizer, F.cross_entropy).range_test(loader, 1e-7, end_lr, steps, progress=False).lr)


def theirs(model, optimizer, loader, steps, end_lr):
    "The same with torch-lr-finder, including its `reset`."
    from torch_lr_finder import LRFinder as Peer

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        finder = Peer(model, optimizer, F.cross_entropy, device=next(model.parameters()).device)
        finder.range_test(loader, start_lr=1e-7, end_lr=end_lr, num_iter=steps)
    for group in optimizer.param_groups:   # else its next test refuses: "already has a scheduler attached"
        group.pop("initial_lr", None)
    finder.reset()
    for group in optimizer.param_groups:
        group.pop("initial_lr", None)
    return len(finder.history["lr"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"width": 8, "batch": 32, "steps": 100, "pairs": 9, "device": "cpu", "threads": 1}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    a = parser.parse_args()
    if importlib.util.find_spec("torch_lr_finder") is None:
        print("torch-lr-finder is not installed, so there is nothing to compare with: run make bench ONLY=lr_finder", file=sys.stderr)
        sys.exit(2)
    torch.set_num_threads(a.threads)
    parts = make(a.width, a.batch, a.device)
    print(f"{a.steps} steps of {a.batch} images, ResNet18 width {a.width}, {a.device}, {a.threads} thread(s)")
    clock = time.process_time if a.device == "cpu" else time.perf_counter
    ratios = []
    for what, end_lr in (("the same steps", 1e-3), ("as they come, to 10", 10)):   # at 1e-3 neither stops early
        taken = [work(*parts, a.steps, end_lr) for work in (ours, theirs)]
        print(f"{what}: {taken[0]} and {taken[1]} steps")
        ratios.append(compare(f"range test, {what}", ("cam_course", lambda end_lr=end_lr: ours(*parts, a.steps, end_lr)),
                              ("torch-lr-finder 0.2.2", lambda end_lr=end_lr: theirs(*parts, a.steps, end_lr)),
                              a.pairs, goal=MARK, clock=clock))
    write("lr_finder", ratios, width=a.width, batch=a.batch, steps=a.steps, device=a.device, threads=a.threads)
    sys.exit(any(r.ratio < MARK for r in ratios))


if __name__ == "__main__":
    main()
