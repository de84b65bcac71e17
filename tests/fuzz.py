"""Bad inputs for the public entry points, made by hypothesis: one or two arguments of a call that works are put wrong.

Each must raise a documented error whose message names the value or the argument, or be taken and give a right result;
within 5 s, and without a file left behind. `python tests/fuzz.py` tries 10,000 and more, and writes
tests/results/fuzz.json; test_fuzz.py tries some of them.
"""

import argparse
import contextlib
import datetime
import io
import json
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT/"book"), *([] if str(ROOT) in sys.path else [str(ROOT)])]

import stamps  # noqa: E402

from cam_course import (  # noqa: E402
    adversarial,
    averages,
    cam_methods,
    data,
    gallery,
    gradcam,
    lr_finder,
    optimizers,
    photographs,
    schedules,
    transforms,
    weight_averaging,
)
from cam_course.__main__ import cli  # noqa: E402
from cam_course.app.config import TrainConfig  # noqa: E402
from cam_course.base import core, geometric, rendering, shapes, target_layers  # noqa: E402
from cam_course.base.checkpoints import load_checkpoint, read_tensors, save_checkpoint  # noqa: E402
from cam_course.base.weights import read_weights, write_weights  # noqa: E402
from cam_course.resnet import ResNet18  # noqa: E402

DOCUMENTED = (ValueError, TypeError, core.DataError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
HANG = 5  # s

NUMBERS = st.one_of(
    st.sampled_from([float("nan"), float("inf"), -float("inf"), -1, 0, -0.0, 1e308, -1e308, 1e-320, 2**63, -(2**31),
                     0.5, 1.5, True]),
    st.integers(-(2**70), 0), st.floats(max_value=0))
KINDS = st.one_of(st.none(), st.text(max_size=12), st.binary(max_size=6), st.just([]), st.just({}), st.just(()), st.just(object),
                  st.lists(st.integers(-5, 5), max_size=3), st.complex_numbers(max_magnitude=9))
WRONG = NUMBERS | KINDS                  # for a number
WORDS = st.one_of(st.text(max_size=15), st.integers(), st.none(), st.binary(max_size=4),
                  st.sampled_from(["Adam ", "layer3 ", "", "\0", "../x"]))
SHAPES = st.lists(st.integers(0, 5), max_size=5)


@st.composite
def tensors(draw: Any) -> Any:
    "Tensors and arrays of the wrong shape, type or range, and what is no tensor at all."
    shape = draw(SHAPES)
    kind = draw(st.sampled_from(["float", "nan", "inf", "uint8", "int", "bool", "complex", "numpy", "list", "other"]))
    if kind == "other": return draw(KINDS)
    x = torch.arange(float(np.prod(shape))).reshape(shape) - 1.5
    if kind == "nan": x = x*float("nan")
    if kind == "inf": x = x*float("inf")
    if kind == "list": return x.tolist()
    if kind == "numpy": return x.numpy()
    types = {"uint8": torch.uint8, "int": torch.int64, "bool": torch.bool, "complex": torch.complex64}
    return x.clamp(min=0).to(types[kind]) if kind in types else x


@dataclass
class Entry:
    "A public function, arguments with which it works, and what is put in the place of each."
    call: Callable[..., Any]
    good: dict[str, Any]
    bad: dict[str, Any]
    right: Callable[[Any, dict], bool] = lambda result, arguments: True
    weight: int = 1
    also: tuple = field(default=())    # words that a message may use for the argument


@cache
def net() -> nn.Module:
    torch.manual_seed(0)
    return ResNet18(num_classes=4, width=4).eval()


@cache
def photo_net() -> photographs.PhotoNet: return photographs.imagenet_net("mobilenet_v2")


@cache
def small() -> data.ImageData:
    x = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return data.ImageData(x, torch.arange(24) % 4, ("a", "b", "c", "d"), "fuzz", (0.5,)*3, (0.25,)*3)


def damaged(make: Callable[[Path], None], read: Callable[[Path], Any]) -> Callable[..., Any]:
    "Read a good file with some bytes changed, cut off, put in or said twice."
    whole: dict[str, bytes] = {}

    def call(edits: list, cut: float | None) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)/"file.safetensors"
            if "bytes" not in whole:
                make(path)
                whole["bytes"] = path.read_bytes()
            raw = bytearray(whole["bytes"])
            for place, value, how in edits:
                i = int(place*(len(raw) - 1)) if raw else 0
                if how == "set" and raw: raw[i] = value
                if how == "put": raw[i:i] = bytes([value])*3
                if how == "drop": del raw[i:i + value]
            path.write_bytes(bytes(raw[:int(len(raw)*cut)]) if cut is not None else bytes(raw))
            return read(path)

    return call


EDITS = {"edits": st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255), st.sampled_from(["set", "put", "drop"])), max_size=5),
         "cut": st.none() | st.floats(0, 1)}
WHOLE: dict[str, Any] = {"edits": [], "cut": None}


def png(i: int) -> bytes:
    from PIL import Image
    out = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), i, np.uint8)).save(out, "PNG")
    return out.getvalue()


def command(arguments: list[str]) -> Any:
    "The command line: exit code 2 with a message, or 0."
    out = io.StringIO()
    with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
        try: code = cli(arguments)
        except SystemExit as stopped: code = stopped.code
    if code not in (0, None): raise ValueError(out.getvalue())
    return code


FIELDS = {"width": WRONG, "epochs": WRONG, "batch_size": WRONG, "max_lr": WRONG, "pct_start": WRONG, "momentum": WRONG, "factor": WRONG,
          "weight_decay": WRONG, "bias_lr": WRONG, "label_smoothing": WRONG, "ema_decay": WRONG, "held_out": WRONG, "rotation": WRONG,
          "noise_std": WRONG, "gallery": WRONG, "patience": WRONG, "checkpoint_seconds": WRONG, "n_train": WRONG, "n_test": WRONG,
          "crop_padding": WRONG, "cutout_size": WRONG, "seed": WRONG, "clip_norm": WRONG, "recipe": WORDS, "model": WORDS,
          "optimizer": WORDS, "scheduler": WORDS, "precision": WORDS, "device": WORDS, "norm": WORDS, "pool": WORDS,
          "transforms": st.lists(WORDS, max_size=3).map(tuple)}


def parameters() -> list: return [nn.Parameter(torch.ones(3))]


def schedule(kind: type, *groups: str) -> Callable[..., Any]:
    return lambda **kw: kind(torch.optim.SGD(parameters(), 0.1, momentum=0.9), **kw)


def finite(result: Any, arguments: dict) -> bool: return bool(np.isfinite(np.asarray(result, dtype=float)).all())


X = torch.linspace(0, 1, 2*3*32*32).reshape(2, 3, 32, 32)
Y = torch.tensor([0, 1])
FLAGS = st.sampled_from(["--epochs", "--width", "--batch-size", "--max-lr", "--optimizer", "--scheduler", "--dataset", "--seed",
                         "--nonsense", "--pct-start", "--device", "--transforms", "--held-out"])
SIGNAL = [1.0, 2.0, 4.0, 3.0]


@cache
def errors() -> gallery.Misclassified: return gallery.Misclassified.find(net(), small(), transforms.Normalize.of(small()))


def use(transform: Any) -> Any: return transform(torch.zeros(2, 3, 32, 32))


def entries() -> dict[str, Entry]:
    "Every entry point that is tried, by name."
    t, s, number = transforms, schedules, {"lr": WRONG, "weight_decay": WRONG}
    def finder():
        net = nn.Linear(4, 2)
        return lr_finder.LRFinder(net, torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss())

    state = {"a": torch.ones(3), "b": [1, {"c": 2.0}]}
    words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
    wrong_word = st.one_of(words, st.integers(-9, 0).map(str), st.sampled_from(["nan", "inf", "1e400", "-1", "x", ""]))
    made: dict[str, Entry] = {
        "load_checkpoint": Entry(damaged(lambda p: save_checkpoint(p, state), load_checkpoint), WHOLE, EDITS,
                                 lambda r, a: torch.equal(r["a"], torch.ones(3)) and r["b"] == [1, {"c": 2.0}], weight=3),
        "read_weights": Entry(damaged(lambda p: write_weights(p, {"w": torch.ones(4)}, note="x"), read_weights), WHOLE, EDITS,
                              weight=2),
        "read_tensors": Entry(damaged(lambda p: write_weights(p, {"w": torch.ones(4)}, note="x"), read_tensors), WHOLE, EDITS),
        "PhotoNet.index": Entry(lambda name: photo_net().index(name), {"name": "tabby cat"}, {"name": WORDS},
                                lambda r, a: 0 <= r < 1001, also=("class",)),
        "load_photograph": Entry(damaged(lambda p: p.write_bytes(png(7)), photographs.load_photograph), WHOLE, EDITS,
                                 lambda r, a: r.shape == (3, 227, 227), weight=2),
        "load_photograph size": Entry(lambda size, resize: photographs.load_photograph(io.BytesIO(png(7)), size, resize),
                                      {"size": 32, "resize": 40}, {"size": WRONG, "resize": WRONG}),
        "TrainConfig": Entry(lambda **kw: TrainConfig(**kw), {}, FIELDS, weight=6, also=("transform", "order")),
        "command line": Entry(command, {"arguments": ["train", "--help"]}, {"arguments":
            st.tuples(st.just("train"), FLAGS, wrong_word).map(lambda a: [*a, "--recipe", "none"])}),
        "seed_everything": Entry(core.seed_everything, {"seed": 0}, {"seed": WRONG}),
        "get_device": Entry(core.get_device, {"device": "cpu"}, {"device": WORDS}),
        "ResNet18": Entry(lambda **kw: ResNet18(**kw), {"num_classes": 2, "in_channels": 1, "width": 4, "norm": "batch", "pool": "avg"},
                          {"num_classes": WRONG, "in_channels": WRONG, "width": WRONG, "norm": WORDS, "pool": WORDS, "weights": WORDS}),
        "RandomCrop": Entry(lambda **kw: use(geometric.RandomCrop(**kw)), {"size": 32, "padding": 2, "fill": 0},
                            {"size": WRONG, "padding": WRONG, "fill": WRONG}),
        "RandomHorizontalFlip": Entry(lambda **kw: use(geometric.RandomHorizontalFlip(**kw)), {"p": 0.5}, {"p": WRONG}),
        "RandomRotation": Entry(lambda **kw: use(t.RandomRotation(**kw)), {"degrees": 5.0, "interpolation": "nearest", "fill": 0},
                                {"degrees": WRONG, "interpolation": WORDS, "fill": WRONG}),
        "Cutout": Entry(lambda **kw: use(t.Cutout(**kw)), {"size": 4, "fill": 0}, {"size": WRONG, "fill": WRONG}),
        "Normalize": Entry(lambda mean, std: use(t.Normalize(mean, std)), {"mean": (0.5,)*3, "std": (0.2,)*3},
                           {"mean": WRONG | st.lists(NUMBERS, max_size=4), "std": WRONG | st.lists(NUMBERS, max_size=4)}),
        "AddGaussianNoise": Entry(lambda **kw: use(t.AddGaussianNoise(**kw)), {"std": 0.1, "mean": 0.0}, {"std": WRONG, "mean": WRONG}),
        "transform an image": Entry(lambda x: t.Compose([geometric.RandomCrop(32, 4), t.Cutout(8)])(x), {"x": X}, {"x": tensors()},
                                    lambda r, a: r.shape[0] == len(a["x"]), also=("batch", "images", "(N, C, H, W)")),
        "sma": Entry(averages.sma, {"xs": SIGNAL, "n": 2}, {"xs": WRONG, "n": WRONG}, also=("points",)),
        "wma": Entry(averages.wma, {"xs": SIGNAL, "n": 2}, {"xs": WRONG, "n": WRONG}, also=("points",)),
        "ewma": Entry(averages.ewma, {"xs": SIGNAL, "beta": 0.9}, {"xs": WRONG, "beta": WRONG}),
        "memory": Entry(averages.effective_window, {"beta": 0.9}, {"beta": WRONG}),
        "StepLR": Entry(schedule(s.StepLR), {"step_size": 3, "gamma": 0.1}, {"step_size": WRONG, "gamma": WRONG}),
        "TimeDecayLR": Entry(schedule(s.TimeDecayLR), {"decay": 0.1}, {"decay": WRONG}),
        "ExponentialLR": Entry(schedule(s.ExponentialLR), {"gamma": 0.9}, {"gamma": WRONG}),
        "CosineAnnealingWarmRestarts": Entry(schedule(s.CosineAnnealingWarmRestarts), {"T_0": 5, "T_mult": 2, "eta_min": 0.0},
                                             {"T_0": WRONG, "T_mult": WRONG, "eta_min": WRONG}),
        "WSDLR": Entry(schedule(s.WSDLR), {"total_steps": 20, "warmup_steps": 2, "decay_steps": 4, "decay": "linear",
                                           "start_factor": 0.1, "final_factor": 0.1},
                       {"total_steps": WRONG, "warmup_steps": WRONG, "decay_steps": WRONG, "decay": WORDS, "start_factor": WRONG,
                        "final_factor": WRONG}),
        "InverseSqrtLR": Entry(schedule(s.InverseSqrtLR), {"warmup_steps": 4}, {"warmup_steps": WRONG}),
        "CosineAnnealingLR": Entry(schedule(s.CosineAnnealingLR), {"T_max": 9, "eta_min": 0.0}, {"T_max": WRONG, "eta_min": WRONG}),
        "CyclicLR": Entry(schedule(s.CyclicLR), {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5},
                          {"base_lr": WRONG, "max_lr": WRONG, "step_size_up": WRONG, "step_size_down": WRONG, "mode": WORDS,
                           "gamma": WRONG}),
        "OneCycleLR": Entry(schedule(s.OneCycleLR), {"max_lr": 0.1, "total_steps": 20},
                            {"max_lr": WRONG, "total_steps": WRONG, "pct_start": WRONG, "anneal_strategy": WORDS, "div_factor": WRONG,
                             "final_div_factor": WRONG}, weight=2),
        "LRFinder.range_test": Entry(lambda **kw: finder().range_test([], **kw),
                                     {"start_lr": 1e-4, "end_lr": 1.0, "num_iter": 5, "progress": False},
                                     {"start_lr": WRONG, "end_lr": WRONG, "num_iter": WRONG, "step_mode": WORDS, "smooth_f": WRONG,
                                      "diverge_th": WRONG}, weight=2, also=("loader", "batch")),
        "LRFinder.Batches": Entry(lambda **kw: lr_finder.DataBatches(small(), **kw), {"batch_size": 4}, {"batch_size": WRONG}),
        "resolve_layer": Entry(lambda layer: target_layers.resolve_layer(net(), layer), {"layer": "layer1"}, {"layer": WORDS | WRONG}),
        "check_layer": Entry(lambda **kw: target_layers.check_layer(net(), **kw), {"layer": "layer1", "image_size": 32, "min_size": 5},
                             {"layer": WORDS, "image_size": WRONG, "min_size": WRONG}),
        "GradCAM targets": Entry(lambda targets: gradcam.GradCAM(net(), "layer2")(X, targets), {"targets": [0, 1]},
                                 {"targets": tensors() | WRONG | st.lists(st.integers(-9, 9), max_size=4)},
                                 also=("takes no arguments",)),
        "GradCAM images": Entry(lambda x: gradcam.GradCAM(net(), "layer2")(x), {"x": X}, {"x": tensors()},
                                also=("input_tensor", "channels", "image")),
        "GradCAM arguments": Entry(lambda **kw: gradcam.GradCAM(net(), **kw)(X),
                                   {"target_layers": "layer2", "min_size": 5, "batch_size": 8},
                                   {"target_layers": WORDS | WRONG, "min_size": WRONG, "batch_size": WRONG}, also=("layer",)),
        "AnyCAM arguments": Entry(lambda **kw: cam_methods.AnyCAM(net(), "layer2", **kw)(X), {"method": "hirescam", "min_size": 5},
                                  {"method": WORDS | WRONG, "min_size": WRONG}),
        "library_cam": Entry(lambda **kw: gradcam.library_cam(net(), X, **kw), {"target_layers": "layer2", "targets": [0, 1]},
                             {"target_layers": WORDS, "targets": tensors() | WRONG}, also=("layer", "class")),
        "overlay": Entry(rendering.overlay, {"image": X[0], "cam": X[0, 0], "opacity": 0.5, "cmap": "jet"},
                         {"image": tensors(), "cam": tensors(), "opacity": WRONG, "cmap": WORDS}, weight=3),
        "signed_map": Entry(rendering.signed_map, {"raw": X[0, 0]}, {"raw": tensors(), "limit": WRONG}, also=("cam",)),
        "Misclassified.plot": Entry(lambda **kw: close(errors().plot(**kw)), {"n": 2, "by": "random", "seed": 0},
                                    {"n": WRONG, "by": WORDS, "seed": WRONG, "columns": WRONG, "pair": WRONG}, also=("order", "class")),
        "pgd": Entry(lambda **kw: adversarial.pgd(net(), **kw), {"images": X, "labels": Y, "eps": 0.03, "alpha": 0.01, "steps": 1},
                     {"images": tensors(), "labels": tensors() | WRONG, "eps": WRONG, "alpha": WRONG, "steps": WRONG,
                      "targets": tensors() | WRONG}, lambda r, a: bool(((r >= 0) & (r <= 1)).all()),
                     also=("labels", "class"), weight=2),
        "draw_shapes": Entry(lambda **kw: shapes.draw_shapes(**kw), {"n": 2},
                             {"n": WRONG, "seed": WRONG, "size": WRONG, "distractors": WRONG,
                              "classes": st.lists(WORDS, max_size=3), "cue": WRONG, "contrast": st.tuples(NUMBERS, NUMBERS)}, weight=2),
        "ImageData": Entry(lambda **kw: data.ImageData(**kw),
                           {"x": small().x, "y": small().y, "class_names": tuple("abcd"), "name": "fuzz"},
                           {"x": tensors(), "y": tensors(), "class_names": st.lists(st.text(max_size=2), max_size=5).map(tuple)},
                           also=("labels", "class")),
        "ImageData.split": Entry(lambda held_out, seed: small().split(held_out, seed), {"held_out": 8, "seed": 0},
                                 {"held_out": WRONG, "seed": WRONG}),
        "load_data": Entry(lambda name: data.load_data(name), {"name": "shapes"},
                           {"name": st.text(st.characters(codec="utf-8"), max_size=9).map(lambda n: "no such " + n)}),
        "load_cifar10": Entry(lambda **kw: cifar10_split(**kw), {}, {"split": WORDS, "source": WORDS}),
        "WeightAverage": Entry(lambda **kw: weight_averaging.WeightAverage(nn.Linear(2, 2), **kw),
                               {"avg": "ema", "decay": 0.9, "start": 0, "every": 1, "debias": False, "use_buffers": True},
                               {"avg": WORDS, "decay": WRONG, "start": WRONG, "every": WRONG, "debias": WRONG, "use_buffers": WRONG},
                               weight=2),
        "WeightAverage of": Entry(lambda model: weight_averaging.WeightAverage(model), {"model": nn.Linear(2, 2)}, {"model": KINDS}),
        "update_bn": Entry(lambda loader: weight_averaging.update_bn(loader, nn.BatchNorm2d(3)), {"loader": [X]},
                           {"loader": KINDS | tensors()}, also=("batch",)),
        "SAM": Entry(lambda **kw: weight_averaging.SAM(**kw), {"optimizer": torch.optim.SGD(parameters(), 0.1), "rho": 0.05},
                     {"optimizer": KINDS, "rho": WRONG}),
        "make_optimizer": Entry(lambda name: optimizers.make_optimizer(name, parameters()), {"name": "sgd"}, {"name": WORDS}),
    }
    hyper = {"SGD": {}, "Momentum": {"momentum": WRONG}, "Nesterov": {"momentum": WRONG}, "Adagrad": {"eps": WRONG, "lr_decay": WRONG},
             "Adadelta": {"rho": WRONG, "eps": WRONG}, "RMSProp": {"alpha": WRONG, "eps": WRONG, "momentum": WRONG},
             "Adam": {"eps": WRONG, "betas": st.tuples(NUMBERS, NUMBERS) | WRONG}, "AdamW": {"betas": st.lists(NUMBERS, max_size=3)},
             "Lion": {"betas": st.tuples(NUMBERS, NUMBERS) | WRONG}, "Muon": {"eps": WRONG, "momentum": WRONG, "ns_steps": WRONG}}
    for name, more in hyper.items():
        if hasattr(optimizers, name):
            ours = (lambda: [torch.ones(3, 1)]) if name == "Muon" else parameters
            made[name] = Entry(lambda name=name, ours=ours, **kw: getattr(optimizers, name)(ours(), **kw), {"lr": 0.1}, number | more)
    return made


def cifar10_split(**kw: Any) -> Any: return data.load_cifar10("no such folder", **kw)


def close(figure: Any) -> None:
    import matplotlib.pyplot as plt
    plt.close(figure)


def words_of(value: Any) -> list[str]:
    "What a message may call `value`."
    told = [type(value).__name__]
    with contextlib.suppress(Exception): told += [repr(value)[:24], str(value)[:24]]
    if isinstance(value, torch.Tensor | np.ndarray): told += [str(tuple(value.shape)), str(value.dtype), "shape", "NaN", "nan"]
    if isinstance(value, list | tuple) and len(value) < 6: told += [w for v in value for w in words_of(v)]
    return [w for w in told if w]


def names(error: BaseException, arguments: dict, changed: list[str], entry: Entry) -> bool:
    "Whether the message says which value or which argument is wrong."
    text = str(error)
    if "edits" in changed or "cut" in changed: return "file.safetensors" in text or "photograph" in text
    allowed = [w for name in changed for w in (name, name.replace("_", "-"), name.replace("_", " "), *words_of(arguments[name]))]
    return any(w.lower() in text.lower() for w in (*allowed, *entry.also))


class Hang(BaseException): pass


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def ring(*_: Any) -> None: raise Hang
    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try: yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def attempt(entry: Entry, arguments: dict, changed: list[str]) -> tuple[str, str]:
    "One call: ('refused' | 'taken' | what is wrong with the outcome, details)."
    try:
        with at_most(HANG), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = entry.call(**arguments)
    except DOCUMENTED as error:
        if names(error, arguments, changed, entry): return "refused", type(error).__name__
        return "unnamed", f"{type(error).__name__}: {error}"
    except Hang: return "hang", ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt): raise
        return "undocumented", f"{type(error).__name__}: {error}"
    return ("taken", "") if entry.right(result, arguments) else ("wrong result", repr(result)[:200])


def shown(arguments: dict, changed: list[str]) -> str: return re.sub(r"\s+", " ", str({k: arguments[k] for k in changed}))[:200]


@cache
def warm() -> None:
    "What is imported at first use is no hang: a step of an optimizer, a map of each kind, a figure, the command line."
    use(geometric.RandomCrop(32, 4))
    torch.optim.SGD(parameters(), 0.1).step()
    gradcam.library_cam(net(), X, "layer2")
    rendering.overlay(X[0], X[0, 0])
    close(errors().plot(2))
    with contextlib.suppress(ValueError): command(["train", "--nonsense"])


def fuzz(name: str, entry: Entry, count: int, key: int = 0) -> tuple[Counter, list[str]]:
    "Try `count` bad inputs; the outcomes, and each failure in words."
    outcomes, failures = Counter(), []

    @seed(key)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(drawn: Any) -> None:
        changed = drawn.draw(st.lists(st.sampled_from(sorted(entry.bad)), min_size=1, max_size=2, unique=True))
        arguments = entry.good | {k: drawn.draw(entry.bad[k]) for k in changed}
        outcome, detail = attempt(entry, arguments, changed)
        outcomes[outcome] += 1
        if outcome not in ("refused", "taken"): failures.append(f"{name}({shown(arguments, changed)}): {outcome} {detail[:200]}")

    warm()
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try: run()
        finally: os.chdir(here)
        left = sorted(str(p) for p in Path(folder).rglob("*"))
    if left: failures.append(f"{name}: files left behind: {left[:5]}")
    return outcomes, failures


def code() -> dict[str, str]:
    "Hashes of this file and of the modules behind the entry points."
    me = Path(__file__)
    return stamps.code_of([f"tests/{me.name}", *stamps.modules_behind(me.read_text(encoding="utf-8"))])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=10_500, help="calls in all, roughly")
    options.add_argument("--only", nargs="*")
    options.add_argument("--out", type=Path, default=ROOT/"tests"/"results"/"fuzz.json")
    o = options.parse_args()
    table = entries()
    each, start, told, failures = o.count/sum(e.weight for e in table.values()), time.monotonic(), {}, []
    for name in o.only or table:
        begun = time.process_time()
        outcomes, bad = fuzz(name, table[name], round(each*table[name].weight) + 1)
        told[name], failures = dict(outcomes), failures + bad
        print(f"{name:24} {dict(outcomes)} {time.process_time() - begun:.1f} s", *bad[:6], sep="\n    " if bad else "", flush=True)
    total = Counter()
    for row in told.values(): total.update(row)
    print(f"{sum(total.values())} calls in {time.monotonic() - start:.0f} s: {dict(total)}; {len(failures)} failures")
    if not o.only:
        o.out.parent.mkdir(exist_ok=True)
        result = {"made_by": "python tests/fuzz.py", "date": datetime.date.today().isoformat(), "calls": sum(total.values()), **total,
                  "failures": failures, "seconds": round(time.monotonic() - start), "python": sys.version.split()[0],
                  "torch": torch.__version__, "code": code(), "entries": told}
        o.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
