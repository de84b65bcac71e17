"""Gradients of the library's nets in float32, as they are laid out for a training, beside float64's in plain layout.

    python tests/gradients.py [--layout channels_last] [--usual] [--isa AVX2] [--threads 1 2] [NET ...]     # a table

`--usual --layout channels_last` shows what version 0.1.0 computed: shortcuts whose convolution has the stride, all in channels-last.

Each net runs in a forked process of its own: where oneDNN writes past its memory the process dies or hangs, and that is a result.
`--isa` is set before oneDNN is first used (`ONEDNN_MAX_CPU_ISA`), so that one processor can show what an older one does.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cam_course.base.core import memory_format
from cam_course.base.whitened import WhitenedNet, WhitenedStem
from cam_course.resnet import ResNet18, ResNet34, _Shortcut

LIMIT = 20  # s for one net: oneDNN's fault can also hang
WIDTHS = range(1, 34)  # past the 8 and 16 channels that one AVX2 or AVX-512 register row holds


def whitened_stem(width: int) -> nn.Module:
    "The net of the recipe `best20`."
    net = ResNet18(width=width)
    net.conv1 = WhitenedStem(3, width)
    return net


def foreign() -> nn.Module:
    "A net of somebody else's that meets the fault: 1x1 convolution, stride 2, four input channels."
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 1, stride=2), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def vgg(width: int = 8) -> nn.Module:
    "VGG's convolutions with a small head."
    net = torchvision.models.VGG(torchvision.models.vgg.make_layers([width, "M", 2*width, "M", 4*width, "M"], batch_norm=True))
    net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(4*width, 10)
    return net


NETS: dict[str, Callable[[], nn.Module]] = {
    **{f"resnet18 width {w}": lambda w=w: ResNet18(width=w) for w in WIDTHS},
    **{f"resnet18 width {w} norm {n}": lambda w=w, n=n: ResNet18(width=w, norm=n) for w in (4, 8) for n in ("layer", "group", "none")},
    **{f"resnet34 width {w}": lambda w=w: ResNet34(width=w) for w in (4, 8, 16)},
    **{f"resnet18 width {w}, stem whitened": lambda w=w: whitened_stem(w) for w in (4, 8, 16)},
    **{f"whitened width {w}": lambda w=w: WhitenedNet(width=w) for w in (4, 8, 16, 32)},
    "resnet18 width 8, two classes": lambda: ResNet18(num_classes=2, width=8),
    "resnet18 width 4, pool max": lambda: ResNet18(width=4, pool="max"),
    "resnet18 width 4, plain": lambda: ResNet18(width=4, residual=False),
    "resnet34 width 8, plain": lambda: ResNet34(width=8, residual=False),
    "conv and linear": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)),
    "foreign": foreign,
    "vgg": vgg,
    "squeezenet": lambda: torchvision.models.squeezenet1_1(num_classes=10),
    "torchvision resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "torchvision resnet50": lambda: torchvision.models.resnet50(num_classes=10),
}


def usual(net: nn.Module) -> nn.Module:
    "The net with strided convolutions in its shortcuts."
    for shortcut in [m for m in net.modules() if isinstance(m, _Shortcut)]:
        shortcut[0].stride, shortcut.stride = (shortcut.stride, shortcut.stride), 1
    return net


def grads(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    "Gradients of the cross-entropy, of every weight and of the images."
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    F.cross_entropy(net(x), y).backward()
    return {"images": x.grad} | {k: p.grad for k, p in net.named_parameters() if p.grad is not None}


def measure(name: str, layout: str = "auto", strided: bool = False, images: int = 8) -> tuple[float, str]:
    "Largest error of a gradient, relative to the largest entry of its tensor (or a thousandth of the net's), and that tensor."
    torch.manual_seed(0)
    x, y, net = torch.randn(images, 3, 32, 32), torch.arange(images) % 2, NETS[name]()
    net.eval()(x[:1])  # fills what is lazy
    for m in list(net.train().modules()):
        if isinstance(m, nn.Dropout): m.p = 0.0
        for name, part in m.named_children():  # a ReLU's kink would turn an input's rounding into a jump of the gradient
            if isinstance(part, nn.ReLU): setattr(m, name, nn.SiLU())
    if strided: usual(net)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    form = memory_format(net) if layout == "auto" else getattr(torch, layout)
    found = grads(net.to(memory_format=form), x.to(memory_format=form), y)
    net = net.to(memory_format=torch.contiguous_format).double()
    net.load_state_dict(state)
    net.zero_grad()
    wanted = grads(net, x.double(), y)
    floor = 1e-3*max(w.abs().max() for k, w in wanted.items() if k != "images")  # of one channel before a norm it is truly 0
    errors = {k: ((found[k] - w).abs().max()/w.abs().max().clamp_min(floor)).item() for k, w in wanted.items()}
    worst = max(errors, key=lambda k: errors[k] if errors[k] == errors[k] else float("inf"))
    return errors[worst], worst


def apart(task: Callable[[], object], env: dict[str, str], limit: float = LIMIT) -> object:
    "What `task` returns in a forked process with `env`; a string where it died or hung."
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            os.environ.update(env)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # glibc's last words
            told = json.dumps(task())
        except BaseException as error:
            told = json.dumps(f"{type(error).__name__}: {error}")
        os.write(write, told.encode())
        os._exit(0)  # no destructors: they may be what dies
    os.close(write)
    end = time.monotonic() + limit
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done: break
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(read)
            return "hung"
        time.sleep(0.005)
    with os.fdopen(read) as file: told = file.read()
    if os.WIFSIGNALED(status): return f"died of {signal.Signals(os.WTERMSIG(status)).name}"
    return json.loads(told)


def table(names: list[str], isas: list[str], threads: list[int], layout: str, strided: bool) -> Iterator[tuple[str, str, int, object]]:
    "(net, ISA, threads, (error, tensor) or what became of the process)."
    for name in names:
        for isa in isas:
            for count in threads:
                def task(name: str = name, count: int = count) -> object:
                    torch.set_num_threads(count)
                    return measure(name, layout, strided)
                yield name, isa, count, apart(task, {"ONEDNN_MAX_CPU_ISA": isa})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", help="beginnings of names (default: all)")
    parser.add_argument("--layout", default="auto", choices=["auto", "channels_last", "contiguous_format"])
    parser.add_argument("--usual", action="store_true")
    parser.add_argument("--isa", nargs="+", default=["DEFAULT"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    args = parser.parse_args()
    names = [n for n in NETS if not args.nets or n.startswith(tuple(args.nets))]
    bad = 0
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, layout {args.layout}{', usual shortcuts'*args.usual}")
    for name, isa, threads, found in table(names, args.isa, args.threads, args.layout, args.usual):
        wrong = isinstance(found, str) or not found[0] < 1e-3
        bad += wrong
        text = found if isinstance(found, str) else f"{found[0]:.1e} {found[1]}"
        print(f"{'WRONG' if wrong else 'ok':5} {name:32} {isa:12} {threads} {text}", flush=True)
    print(f"{bad} wrong")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
