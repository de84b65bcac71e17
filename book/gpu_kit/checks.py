"""Is the fast path the plain one on this device, and how fast is it? Each check gives rows: what, found, allowed, ok."""

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cam_course.app.config import TrainConfig, recipe
from cam_course.app.factory import build_model, build_trainer, load_images
from cam_course.app.trainer import Trainer
from cam_course.base.core import get_device
from cam_course.base.geometric import RandomCrop, RandomHorizontalFlip
from cam_course.data import ImageData
from cam_course.gradcam import GradCAM, library_cam
from cam_course.resnet import ResNet, ResNet18
from cam_course.training import epoch_batches
from cam_course.transforms import Compose, Cutout, Normalize, RandomRotation

Rows = list[dict[str, Any]]
AUGMENT = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), RandomRotation(15), Cutout(8, fill=(125, 123, 114))])


class Bench:
    "What all checks need: the device, the images, and how large things may be."

    def __init__(self, task: dict[str, Any]):
        self.where, self.full = task["where"], task["scale"] == "full"
        self.device = get_device(self.where["device"])
        self.cuda = self.device.type == "cuda"
        self.compile = self.cuda if task["compile"] is None else task["compile"]

    def config(self, **changes: Any) -> TrainConfig:
        "The assignment, or of it what is changed, on the images of this kit."
        small = {} if self.full else {"n_train": 128, "n_test": 64, "batch_size": 32}
        return recipe("assignment", **{**self.where, **small, "epochs": 1, **changes})

    def images(self, n: int) -> tuple[ImageData, ImageData]:
        "The first `n` training images and as many test images, on the CPU."
        train, test = load_images(self.config())
        return train.subset(slice(n)), test.subset(slice(n))

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def at_most(what: str, found: float, allowed: float, **more: Any) -> dict[str, Any]:
    "A row whose finding must not be larger; NaN never passes."
    return {"what": what, "found": found, "allowed": allowed, "ok": found <= allowed, **more}


def left_out(what: str, why: str) -> dict[str, Any]:
    return {"what": what, "left out": why}


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    "Whether products of fp32 numbers may be rounded to TF32."
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [b.allow_tf32 for b in backends]
    try:
        for b in backends:
            b.allow_tf32 = allowed
        yield
    finally:
        for b, old in zip(backends, before, strict=True):
            b.allow_tf32 = old


def data(bench: Bench) -> Rows:
    "Are the images there? Decoding them, once for all that follows, is part of it."
    began = time.perf_counter()
    train, test = load_images(bench.config())
    took = time.perf_counter() - began
    return [{"what": f"{train!r}, {test!r}: read", "found": round(took, 2), "unit": "s"}]


def augmentations(bench: Bench) -> Rows:
    "Batches augmented on the device are those of the CPU, and nothing there waits for the GPU."
    train, _ = bench.images(512 if bench.full else 128)
    params = AUGMENT.draw(len(train), 32, generator=torch.Generator().manual_seed(0))
    normalize = Normalize.of(train)
    there = {k: v.to(bench.device) for k, v in params.items()}
    x = train.x.to(bench.device)
    AUGMENT.apply(x, **there)  # tables are made
    normalize(x)
    strict = torch.cuda.set_sync_debug_mode if bench.cuda else lambda mode: None
    strict("error")
    try:
        turned = AUGMENT.apply(x, **there)
        scaled = normalize(turned)
    finally:
        strict("default")
    want = AUGMENT.apply(train.x, **params)
    differ = int((turned.cpu() != want).sum())
    return [
        at_most("augmented bytes that differ from the CPU's", differ, 0),
        at_most("normalized, largest difference", (scaled.cpu() - normalize(want)).abs().max().item(), 1e-6),
    ]


def _gradients(net: nn.Module, x: Tensor, y: Tensor, autocast: torch.dtype | None = None) -> dict[str, Tensor]:
    net.train()
    with torch.autocast(x.device.type, autocast) if autocast else contextlib.nullcontext():
        loss = F.cross_entropy(net(x), y)
    names = [name for name, _ in net.named_parameters()]
    found = torch.autograd.grad(loss, list(net.parameters()))
    return {name.removeprefix("_orig_mod."): g.double().cpu() for name, g in zip(names, found, strict=True)}


def _apart(found: dict[str, Tensor], want: dict[str, Tensor]) -> tuple[float, float]:
    "Relative distance of all gradients together, and of the worst tensor."
    norm = lambda parts: sum(p.square().sum() for p in parts).sqrt().item()
    each = {k: norm([found[k] - want[k]]) / norm([want[k]]) for k in want}
    return norm([found[k] - want[k] for k in want]) / norm(want.values()), max(each.values())


def gradients(bench: Bench) -> Rows:
    "Gradients of one batch against float64 on the CPU: layouts, compiled, TF32, bf16."
    train, _ = bench.images(32 if bench.full else 16)
    x, y = Normalize.of(train)(train.x), train.y
    make = lambda blocks: _seeded(lambda: _smooth(ResNet(blocks, width=64 if bench.full else 4)))
    deep, shallow = (2, 2, 2, 2), (1, 1, 1, 1)
    last = torch.channels_last
    variants = [  # what, blocks, layout, compiled, TF32, autocast; error allowed, of the worst tensor or, rounded, of all together
        ("fp32, contiguous", deep, torch.contiguous_format, False, False, None, 1e-3),
        ("fp32, channels-last", deep, last, False, False, None, 1e-3),
        ("fp32, channels-last, compiled", shallow, last, True, False, None, 1e-3),
        ("TF32, channels-last", deep, last, False, True, None, 0.02),
        ("bf16, channels-last", deep, last, False, False, torch.bfloat16, 0.1),
    ]
    want = {blocks: _gradients(make(blocks).double(), x.double(), y) for blocks in (deep, shallow)}
    rows: Rows = []
    for what, blocks, layout, compiled, rounded, autocast, allowed in variants:
        if (compiled and not bench.compile) or (rounded and not bench.cuda):
            rows.append(left_out(what, "needs a GPU"))
            continue
        net = make(blocks).to(bench.device, memory_format=layout)
        run = torch.compile(net) if compiled else net
        with tf32(rounded):
            found = _gradients(run, x.to(bench.device, memory_format=layout), y.to(bench.device), autocast)
        together, worst = _apart(found, want[blocks])
        if rounded or autocast:
            rows.append(at_most(f"{what}: relative error of all gradients", together, allowed, worst=worst))
        else:
            rows.append(at_most(f"{what}: relative error of the worst gradient", worst, allowed, together=together))
    return rows


def _smooth(net: ResNet) -> ResNet:
    "With SiLU for ReLU, whose gradient jumps where rounding changes a sign: in fp32 that alone gives errors of 0.3 %."
    for module in net.modules():
        if hasattr(module, "relu"):
            module.relu = nn.SiLU()
    return net


def _seeded(make: Any) -> nn.Module:
    torch.manual_seed(0)
    return make()


def loop(bench: Bench) -> Rows:
    "The trainer (batches made on the device, channels-last, compiled, fused) against the loop as all write it, float64."
    train, _ = bench.images(96)
    normalize = lambda x: Normalize.of(train)(x).double()
    build = lambda: _seeded(lambda: ResNet((1, 1, 1, 1), width=8 if bench.full else 4)).double().to(bench.device)
    sgd = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    model, plain = build(), build()
    fast = torch.optim.SGD(model.parameters(), 0.01, **sgd, fused=bench.cuda)
    trainer = Trainer(
        model, train, train.subset(slice(8)), fast, epochs=3, batch_size=16, transform=AUGMENT, normalize=normalize,
        device=bench.device, precision="fp32", compile=bench.compile, progress=False,
    )  # fmt: skip
    with tf32(False):
        trainer.fit()
        usual = torch.optim.SGD(plain.parameters(), 0.01, **sgd, foreach=False)
        for epoch in range(3):
            for x, y in epoch_batches(train, 16, AUGMENT, None, epoch=epoch):  # on the CPU, still bytes
                x = normalize(x.to(torch.uint8).to(bench.device)).contiguous()
                usual.zero_grad()
                F.cross_entropy(plain(x), y.to(bench.device)).backward()
                usual.step()
    worst = max((a - b).abs().max().item() for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    how = "compiled, fused" if bench.compile and bench.cuda else "neither compiled nor fused"
    return [at_most(f"weights after 18 steps, fast loop ({how}) against plain, float64", worst, 1e-9)]


def _fit(bench: Bench, train: ImageData, test: ImageData, scale: float | None = None, **changes: Any) -> Trainer:
    "A short training; `scale` is the loss scale that fp16 starts with."
    config = bench.config(**{"max_lr": 0.05, "width": 16 if bench.full else 2, "epochs": 2, "compile": False, **changes})
    trainer = build_trainer(config, train, test)
    trainer.progress = False
    if scale is not None:
        trainer.accelerator.scaler.load_state_dict({**trainer.accelerator.scaler.state_dict(), "scale": scale})
    trainer.fit()
    return trainer


def precisions(bench: Bench) -> Rows:
    "bf16 and fp16 train as fp32 does, and a loss scale that is too large comes down without harm."
    train, test = bench.images(6400 if bench.full else 128)
    with tf32(False):
        want = _fit(bench, train, test, precision="fp32").history[-1]["train_loss"]
    rows: Rows = [{"what": "fp32: training loss after 2 epochs", "found": want}]
    bf16 = _fit(bench, train, test, precision="bf16").history[-1]["train_loss"]
    like = "training loss, relative difference to fp32"
    rows.append(at_most(f"bf16: {like}", abs(bf16 / want - 1), 0.05))
    if not bench.cuda:
        return [*rows, left_out("fp16", "needs a GPU")]
    fp16 = _fit(bench, train, test, precision="fp16").history[-1]["train_loss"]
    rows.append(at_most(f"fp16: {like}", abs(fp16 / want - 1), 0.05))
    high = 2.0**32
    over = _fit(bench, train, test, scale=high, precision="fp16")
    after = over.accelerator.scaler.get_scale()
    finite = all(bool(p.isfinite().all()) for p in over.model.state_dict().values())
    rows.append({"what": f"fp16: loss scale from {high:g} down to", "found": after, "ok": 0 < after < high and finite})
    rows.append(at_most(f"fp16 after overflows: {like}", abs(over.history[-1]["train_loss"] / want - 1), 0.2))
    return rows


def compile(bench: Bench) -> Rows:
    "A compiled training is the same training, and the next one of the same shape compiles nothing."
    if not bench.compile:
        return [left_out("torch.compile", "needs a GPU with Triton")]
    from torch._dynamo.utils import counters

    train, test = bench.images(1280 if bench.full else 128)
    options = {"precision": "fp32", "epochs": 1}
    with tf32(False):
        plain = _fit(bench, train, test, **options)
        began = time.perf_counter()
        first = _fit(bench, train, test, compile=True, **options)
        middle, graphs = time.perf_counter(), counters["stats"]["unique_graphs"]
        _fit(bench, train, test, compile=True, seed=1, **options)
        end = time.perf_counter()
    pairs = list(zip(plain.model.state_dict().values(), first.model.state_dict().values(), strict=True))
    square = lambda tensors: sum(t.double().square().sum() for t in tensors).item()
    apart = (square(a.double() - b for a, b in pairs) / square(a for a, _ in pairs)) ** 0.5
    again = counters["stats"]["unique_graphs"] - graphs
    return [
        at_most("weights after an epoch, compiled against eager: relative distance", apart, 1e-2),
        at_most("graphs compiled anew by a second training", again, 0),
        {"what": "first compiled training and the second", "found": [round(middle - began, 1), round(end - middle, 1)], "unit": "s"},
    ]


def gradcam(bench: Bench) -> Rows:
    "Maps on the device against those of the CPU, all classes at once against one by one, and against grad-cam."
    model, layers = ResNet18(weights="cifar10_jpeg"), ["layer2", "layer3"]
    _, test = bench.images(16 if bench.full else 4)
    x = Normalize(model.about["mean"], model.about["std"])(test.x)
    with tf32(False):
        want = GradCAM(model, layers)(x, "all")
        one_layer = GradCAM(model, "layer3")(x)
        model, x = model.to(bench.device), x.to(bench.device)
        cam = GradCAM(model, layers)
        together = cam(x, "all")
        single = torch.stack([cam(x, k) for k in range(want.shape[1])], 1)
        rows = [
            at_most("maps of all classes on the device against the CPU's", (together.cpu() - want).abs().max().item(), 1e-4),
            at_most("maps of all classes at once against one by one", (together - single).abs().max().item(), 1e-4),
        ]
        try:
            theirs = library_cam(model, x, "layer3")
        except ImportError as error:
            return [*rows, left_out("the grad-cam library", f"not there ({error})")]
    return [*rows, at_most("maps against those of the grad-cam library", (theirs - one_layer).abs().max().item(), 1e-4)]


def _median_seconds(bench: Bench, work: Any, times: int) -> float:
    "Of one call, after two for warming up."
    took = []
    for _ in range(times + 2):
        bench.wait()
        began = time.perf_counter()
        work()
        bench.wait()
        took.append(time.perf_counter() - began)
    return statistics.median(took[2:])


def peak(bench: Bench) -> Rows:
    "The two ceilings: a large product in bf16, and a large copy."
    n, size = (8192, 2**30) if bench.cuda else (256, 2**20)
    kind = torch.bfloat16 if bench.cuda else torch.float32
    a, b = (torch.randn(n, n, device=bench.device, dtype=kind) for _ in range(2))
    product = 2 * n**3 / _median_seconds(bench, lambda: a @ b, 10)
    source = torch.randint(256, (size,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    copied = 2 * size / _median_seconds(bench, lambda: target.copy_(source), 10)
    return [
        {"what": f"product of {n}x{n} in {str(kind).removeprefix('torch.')}", "found": product / 1e12, "unit": "TFLOP/s"},
        {"what": f"copy of {size >> 20} MiB, read and written", "found": copied / 1e9, "unit": "GB/s"},
    ]


def _operations(config: TrainConfig) -> float:
    "Floating-point operations of an image, forward and backward (twice the forward's)."
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        build_model(config, 10, 3).eval()(torch.zeros(1, 3, 32, 32))
    return 3.0 * counter.get_total_flops()


def speed(bench: Bench) -> Rows:
    "Images a second of whole trainings, against the floor that operations and peak give."
    top = peak(bench)[0]["found"] * 1e12
    train, test = bench.images(12_800 if bench.full else 128)
    widths, small = ((64, 16), {}) if bench.full else ((4, 2), {"batch_size": 32})
    rows: Rows = []
    for width in widths:
        operations = _operations(bench.config(width=width))
        for compiled, benchmark in ((False, False), (True, False), (True, True)):
            how = ("compiled" if compiled else "eager") + (", cudnn.benchmark" if benchmark else "")
            if compiled and not bench.compile:
                rows.append(left_out(f"width {width}, {how}", "needs a GPU with Triton"))
                continue
            torch.backends.cudnn.benchmark = benchmark
            try:
                history = _fit(bench, train, test, width=width, compile=compiled, precision="auto", epochs=3, **small).history
            finally:
                torch.backends.cudnn.benchmark = False
            rate = history[-1]["images_per_second"]
            rows.append({"what": f"width {width}, {how}", "found": rate, "unit": "images/s", "width": width,
                         "compiled": compiled, "benchmark": benchmark, "first epoch s": history[0]["seconds"],
                         "GFLOP an image": operations / 1e9, "floor images/s": top / operations,
                         "share of the floor": rate * operations / top})
    return rows


CHECKS = {f.__name__: f for f in (data, augmentations, gradients, loop, precisions, compile, gradcam, peak, speed)}


def run_check(task: dict[str, Any]) -> Rows:
    "The rows of the check that `task` names."
    return CHECKS[task["check"]](Bench(task))
