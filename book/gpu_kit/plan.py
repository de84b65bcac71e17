"""What is to be done on the GPU, in order of worth, and what each step is likely to take."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cam_course.app.config import TrainConfig, recipe

WITHOUT: dict[str, dict[str, Any]] = {  # best20 less one ingredient at a time
    "no alternating": {"transforms": ("crop", "flip")},
    "no flip at all": {"transforms": ("crop",)},
    "with cutout": {"transforms": ("crop", "alternating_flip", "cutout")},
    "no whitening": {"whitening": False},
    "no fast biases": {"bias_lr": 1.0},
    "no label smoothing": {"label_smoothing": 0.0},
    "no averaging": {"ema_decay": 0.0},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {  # at the rates that chapter 43 found for a narrower net
    "nesterov": {"max_lr": 0.3},
    "momentum": {"max_lr": 0.3},
    "sgd": {"max_lr": 1.0},
    "adamw": {"max_lr": 0.01, "weight_decay": 0.05},
    "adam": {"max_lr": 0.01},
    "rmsprop": {"max_lr": 0.003, "momentum": 0.0},
    "adadelta": {"max_lr": 3.0},
    "adagrad": {"max_lr": 0.03},
}
RATES = (0.003, 0.03, 0.1)  # of both norms, beside the recipe's 0.01
SHIPPED = {"width": 16, "transforms": ("crop", "flip"), "ema_decay": 0.999}  # nets to look at
TINY = {"width": 2, "epochs": 1, "batch_size": 32, "n_train": 128, "n_test": 64}  # for a rehearsal

CHECKS = {  # name -> seconds that it may take on a fast GPU, compiling included
    "data": 15, "augmentations": 5, "gradients": 35, "loop": 30, "precisions": 30, "compile": 35, "gradcam": 15,
}  # fmt: skip
SPEED = {"peak": 8, "speed": 90}  # these want the machine for themselves


@dataclass(frozen=True)
class Step:
    "One thing to do: a check by its name, or a training."

    group: str  # "checks", "speed", "assignment", "best20", "layernorm", "optimizers" or "shipping"
    label: str  # row of the table; trainings of one label differ in the seed alone
    seconds: float = 0.0  # of a check; a training's are worked out from its images
    alone: bool = False  # nothing may run beside it
    config: TrainConfig | None = None  # of a training
    keep: str | None = None  # name under which its weights are kept

    @property
    def name(self) -> str:
        "Unique; a training's run folder is called so."
        return self.label if self.config is None else self.config.name


def _training(group: str, label: str, base: str, seed: int, keep: str | None = None, **changes: Any) -> Step:
    name = "-".join(re.findall(r"[\w.]+", label)) + f"-s{seed}"
    return Step(group, label, config=recipe(base, seed=seed, name=name, **changes), keep=keep)


def _assignment(seed: int) -> Iterator[Step]:
    yield _training("assignment", "assignment", "assignment", seed, "assignment-w64" if seed == 0 else None)
    yield _training("assignment", "assignment with flip", "assignment", seed, transforms=("crop", "flip", "cutout"))


def _ablation(seed: int) -> Iterator[Step]:
    for label, change in WITHOUT.items():
        yield _training("best20", f"best20, {label}", "best20", seed, **change)


def _norms(seed: int) -> Iterator[Step]:
    for norm in ("layer", "batch"):
        yield _training("layernorm", f"eva_s8, {norm} norm", "eva_s8", seed, norm=norm)


def _optimizers(seed: int) -> Iterator[Step]:
    for name, change in OPTIMIZERS.items():
        yield _training("optimizers", f"optimizer {name}", "assignment", seed, optimizer=name, **change)


def _shipping(seed: int, epochs: int) -> Iterator[Step]:
    label = f"width 16, {epochs} epochs"
    yield _training("shipping", label, "assignment", seed, f"w16-e{epochs}-s{seed}", epochs=epochs, **SHIPPED)


def _rates() -> Iterator[Step]:
    for norm in ("layer", "batch"):
        for lr in RATES:
            yield _training("layernorm", f"eva_s8, {norm} norm, rate {lr:g}", "eva_s8", 0, norm=norm, max_lr=lr)


def _trainings() -> Iterator[Step]:
    "Everything once in order of worth, and then over again with other seeds."
    for seed in range(5):
        yield from _assignment(seed)
    for seed in range(5):
        yield _training("best20", "best20", "best20", seed)
    for seed in range(5):
        yield from _ablation(seed)
        if seed < 3:
            yield from _norms(seed)
            yield from _optimizers(seed)
        if seed == 0:
            yield from _shipping(0, 150)
            yield from _shipping(1, 20)
            yield from _shipping(2, 20)
            yield from _rates()


def plan(scale: str, only: Sequence[str], **where: Any) -> list[Step]:
    "All steps of `only` in order; `where` says what every training takes: dataset, data_dir, runs, device."
    steps = [Step("checks", name, seconds, alone=name == "data") for name, seconds in CHECKS.items()]
    steps += [Step("speed", name, seconds, alone=True) for name, seconds in SPEED.items()]
    if scale == "full":
        steps += [replace(s, config=replace(s.config, **where)) for s in _trainings()]
    else:
        steps += [replace(s, config=replace(s.config, **where, **TINY)) for s in _sample(list(_trainings()))]
    return [step for step in steps if step.group in only]


def _sample(steps: list[Step]) -> Iterator[Step]:
    "Of each group the first few, for a rehearsal."
    seen: dict[str, int] = {}
    for step in steps:
        seen[step.group] = seen.get(step.group, 0) + 1
        if seen[step.group] <= 3:
            yield step


def images(config: TrainConfig) -> float:
    "How many images a training steps through."
    return config.epochs * (config.n_train or 50_000) * (1 - config.held_out)
