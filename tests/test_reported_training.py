"""Faults that users of such tools report elsewhere, tried here: trainer, runs, command line, data as users have them.

One test a row of the table of faults, named after it (T2, T4, ...). Range tests and schedules have a file of their own.
"""

import dataclasses
import inspect
import json
import signal
import subprocess
import sys
import warnings
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file
from test_trainer import signal_after
from torch import nn
from torch.optim import lr_scheduler as lrs
from torch.utils.data import DataLoader, Dataset, TensorDataset

from cam_course import plateau, schedules
from cam_course.__main__ import cli
from cam_course.app.config import CHANGEABLE, SETTINGS, recipe
from cam_course.app.factory import build_model
from cam_course.app.main import resume_run, run
from cam_course.app.report import write_submission
from cam_course.app.trainer import _MAY_CHANGE, Interrupted, Trainer
from cam_course.base.core import DataError, create_run_dir
from cam_course.base.whitened import WhitenedStem
from cam_course.data import ImageData, from_dataset, shapes
from cam_course.resnet import ResNet18, _stages
from cam_course.training import History, evaluate, predict
from cam_course.transforms import Cutout, Normalize
from cam_course.weight_averaging import SAM

ROOT = Path(__file__).resolve().parent.parent


def small(n: int, seed: int) -> ImageData:
    "Shapes of 8 px."
    data = shapes(n, seed=seed, size=16)
    return ImageData(data.x[..., ::2, ::2].contiguous(), data.y, data.class_names)


TRAIN, TEST, HELD_OUT = small(48, 1), small(20, 2), small(30, 3)


class Net(nn.Module):
    "Small, with batch norm and dropout."

    def __init__(self, classes: int = 10, dropout: float = 0.2):
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Dropout(dropout)
        self.fc = nn.Linear(36, classes)

    def forward(self, x):
        return self.fc(self.drop(self.bn(self.conv(x)).relu()).flatten(1))


def sgd(net, lr=0.05, **options):
    return torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr, **{"momentum": 0.9, **options})


def make(run_dir=None, *, net=None, optimizer=sgd, scheduler=None, train=TRAIN, test=TEST, **options) -> Trainer:
    "A trainer of 3 epochs of 3 steps."
    torch.manual_seed(0)
    net = Net() if net is None else net
    if test is TEST and isinstance(train, Dataset | DataLoader) and "normalize" not in options:
        test = DataLoader(TensorDataset(TEST.x.float() / 255 - 0.5, TEST.y), 10)
    optimizer = optimizer(net) if callable(optimizer) else optimizer
    schedule = scheduler(optimizer) if callable(scheduler) else scheduler
    options = {"epochs": 3, "batch_size": 16, "device": "cpu", "progress": False, "precision": "fp32", **options}
    return Trainer(net, train, test, optimizer, schedule, run_dir=run_dir, **options)


def stop_after(trainer: Trainer, step: int) -> Trainer:
    "Train, and stop as Ctrl-C would, after a step."
    signal_after(trainer, step, signal.SIGINT)
    with pytest.raises(Interrupted):
        trainer.fit()
    return trainer


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(v.equal(w) for v, w in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ---- T2: resumed with other arguments

ADAM = lambda net: torch.optim.Adam(net.parameters(), 0.05)
CYCLE = lambda o: lrs.OneCycleLR(o, 0.05, total_steps=9)
T2_BASE = {
    "scheduler": CYCLE,
    "transform": [Cutout(3)],
    "held_out": HELD_OUT,
    "class_weights": [1.0] * 10,
    "ema_decay": 0.5,
}
T2_CHANGES = {  # argument of Trainer -> (another value, words of the message)
    "model": ({"net": Net(dropout=0.5)}, r"model was '  \(drop\): Dropout\(p=0.2.*p=0.5"),
    "train": ({"train": small(48, 9)}, "train hash was"),
    "test": ({"test": small(20, 9)}, "test hash was"),
    "optimizer": ({"optimizer": ADAM}, "optimizer class was 'torch.optim.sgd.SGD', and is 'torch.optim.adam.Adam'"),
    "scheduler": (
        {"scheduler": lambda o: lrs.OneCycleLR(o, 0.1, total_steps=9)},
        r"scheduler base_lrs was \[0.002\], and is \[0.004\]; optimizer group 0 lr was",
    ),
    "batch_size": (
        {"batch_size": 12, "scheduler": lambda o: lrs.OneCycleLR(o, 0.05, total_steps=12)},
        "batch_size was 16, and is 12",
    ),
    "transform": ({"transform": [Cutout(4)]}, r"transform was .*Cutout\(3.*Cutout\(4"),
    "normalize": ({"normalize": Normalize([0.5] * 3, [0.5] * 3)}, "normalize was "),
    "held_out": ({"held_out": None}, "held_out was "),
    "label_smoothing": ({"label_smoothing": 0.1}, "label_smoothing was 0.0, and is 0.1"),
    "class_weights": ({"class_weights": None}, r"class_weights was \[1.0"),
    "clip_norm": ({"clip_norm": 1.0}, "clip_norm was None, and is 1.0"),
    "ema_decay": ({"ema_decay": 0.0}, "ema_decay was 0.5, and is 0.0"),
    "keep_best": ({"keep_best": True}, "keep_best was False, and is True"),
    "seed": ({"seed": 1}, "seed was 0, and is 1"),
}
T2_OTHERS = {  # more ways to change the same arguments
    "another decay": (
        {"optimizer": lambda n: sgd(n, weight_decay=0.1)},
        "optimizer group 0 weight_decay was 0, and is 0.1",
    ),
    "another order of weights": (
        {"optimizer": lambda n: torch.optim.SGD(reversed(list(n.parameters())), 0.05, momentum=0.9)},
        "group 0 weights was",
    ),
    "no schedule": ({"scheduler": None}, "scheduler class was 'torch.optim.lr_scheduler.OneCycleLR', and is None"),
    "a longer cycle": (
        {"scheduler": lambda o: lrs.OneCycleLR(o, 0.05, total_steps=18), "epochs": 6},
        "6 epochs instead of 3 can't be had under a schedule that knows its end: .*scheduler total_steps was 9, and is 18",
    ),
    "fewer epochs": ({"epochs": 2}, "epochs was 3, and is 2, but it may only grow"),
    "bf16": ({"precision": "bf16"}, "precision was 'fp32', and is 'bf16'"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    "A training that was stopped in the middle of its second epoch."
    folder = tmp_path_factory.mktemp("begun")
    stop_after(make(folder, **T2_BASE), 4)
    return folder


def test_t02_every_argument_of_the_trainer_is_in_the_table():
    names = set(inspect.signature(Trainer).parameters)
    assert names == set(T2_CHANGES) | set(_MAY_CHANGE) and not set(T2_CHANGES) & set(_MAY_CHANGE)


@pytest.mark.parametrize("name", [*T2_CHANGES, *T2_OTHERS])
@pytest.mark.filterwarnings("ignore:.*ends before the rate is low")
def test_t02_a_changed_argument_of_the_trainer_is_refused_by_name(name, begun):
    changes, message = {**T2_CHANGES, **T2_OTHERS}[name]
    trainer = make(begun, **{**T2_BASE, **changes})
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    with pytest.raises(DataError, match=f"is of another training: .*(?:{message})"):
        trainer.resume()
    assert trainer.step == 0 and all(
        v.equal(before[k]) for k, v in trainer.model.state_dict().items()
    )  # nothing loaded


def test_t02_another_rate_or_momentum_without_a_schedule(tmp_path):
    stop_after(make(tmp_path), 4)
    other = make(tmp_path, optimizer=lambda n: sgd(n, 0.3, momentum=0.5))
    message = "optimizer group 0 lr was 0.05, and is 0.3; optimizer group 0 momentum was 0.9, and is 0.5"
    with pytest.raises(DataError) as told:
        other.resume()
    for part in message.split("; "):
        assert part in str(told.value)


def test_t02_what_may_change_changes_nothing(begun, tmp_path):
    "All of the list but more epochs, which a test of its own tries."
    import shutil

    shutil.copytree(begun, tmp_path / "moved")
    seen = []
    spy = type("Spy", (), {"on_fit_end": lambda self, t: seen.append(t)})()
    changes = {
        "early_stopping": 5,
        "device": "cpu",
        "precision": "auto",
        "compile": False,
        "run_dir": tmp_path / "moved",
        "checkpoint_seconds": 1e9,
        "about": {"note": "x"},
        "callbacks": [spy],
        "progress": None,
    }
    assert set(changes) | {"epochs"} == set(_MAY_CHANGE)
    plain = make(**T2_BASE)
    plain.fit()
    other = make(**{**T2_BASE, **changes})
    if other.precision.format != "fp32":
        other = make(**{**T2_BASE, **changes, "precision": "fp32"})
    assert other.resume() and other.step == 4
    other.fit()
    assert same_weights(plain.model, other.model) and seen == [other]


@pytest.mark.parametrize(
    "schedule",
    [
        None,
        lambda o: lrs.StepLR(o, 2, 0.5),
        lambda o: lrs.ExponentialLR(o, 0.9),
        lambda o: lrs.ReduceLROnPlateau(o, patience=0),
        lambda o: schedules.StepLR(o, 2, 0.5),
        lambda o: plateau.ReduceLROnPlateau(o, patience=0),
    ],
)
def test_t02_more_epochs_under_a_schedule_that_does_not_know_the_end(schedule, tmp_path):
    "Two epochs, and three more: as five from the beginning."
    options = {"scheduler": schedule, "held_out": HELD_OUT}
    whole = make(epochs=5, **options)
    whole.fit()
    make(tmp_path, epochs=2, **options).fit()
    more = make(tmp_path, epochs=5, **options)
    assert more.resume() and more.epoch == 2
    more.fit()
    assert len(more.history) == 5 and same_weights(whole.model, more.model) and whole.lrs == more.lrs


def test_t02_a_part_of_a_longer_plan(tmp_path):
    "A one-cycle schedule for the whole plan: the first part says that the rate stays high, and the rest goes on."
    whole = make(scheduler=CYCLE)
    whole.fit()
    with pytest.warns(
        UserWarning, match=r"made for 9, but the training has 6 steps .*total_steps=6, unless you mean to go on later"
    ):
        make(tmp_path, scheduler=CYCLE, epochs=2).fit()
    rest = make(tmp_path, scheduler=CYCLE)
    assert rest.resume()
    rest.fit()
    assert same_weights(whole.model, rest.model)


def test_t02_the_same_objects_may_go_on(tmp_path):
    "Optimizer and schedule that have run already are compared by what they are, not by where they stand."
    first = stop_after(make(tmp_path, scheduler=lambda o: lrs.CosineAnnealingLR(o, 3)), 5)
    again = Trainer(
        first.model,
        TRAIN,
        TEST,
        first.optimizer,
        first.scheduler,
        epochs=3,
        batch_size=16,
        device="cpu",
        progress=False,
        precision="fp32",
        run_dir=tmp_path,
    )
    assert again.resume() and again.step == 5


def test_t02_parts_that_were_unfrozen_on_the_way_stay_so(tmp_path):
    def build():
        net = Net()
        net.bn.eval().requires_grad_(False)

        class Unfreeze:
            def on_epoch_end(self, t):
                if t.epoch == 1:
                    t.model.bn.train().requires_grad_(True)

        return make(
            tmp_path, net=net, optimizer=lambda n: torch.optim.SGD(n.parameters(), 0.05), callbacks=[Unfreeze()]
        )

    stop_after(build(), 5)
    second = build()
    assert not second.model.bn.training
    second.resume()
    assert second.model.bn.training and second.model.bn.weight.requires_grad
    third = make(tmp_path, optimizer=lambda n: torch.optim.SGD(n.parameters(), 0.05))
    with pytest.raises(DataError, match=r"model parts in eval mode was \['bn'\], and is \[\]"):
        third.resume()


OTHER_VALUES = {
    "recipe": "eva_s8",
    "dataset": "cifar10",
    "data_dir": ".",
    "source": "folder",
    "size": 24,
    "n_train": 50,
    "n_test": 30,
    "model": "resnet34",
    "width": 3,
    "norm": "group",
    "pool": "max",
    "residual": False,
    "whitening": True,
    "epochs": 3,
    "batch_size": 10,
    "optimizer": "adam",
    "scheduler": "cosine",
    "max_lr": 0.1,
    "pct_start": 0.5,
    "momentum": 0.5,
    "weight_decay": 0.0,
    "bias_lr": 2.0,
    "patience": 1,
    "factor": 0.5,
    "label_smoothing": 0.1,
    "clip_norm": 1.0,
    "ema_decay": 0.9,
    "tta": True,
    "transforms": ("flip",),
    "crop_padding": 2,
    "cutout_size": 8,
    "rotation": 9.0,
    "noise_std": 0.1,
    "held_out": 0.2,
    "seed": 1,
    "device": "cpu",
    "precision": "bf16",
    "compile": False,
    "runs": "elsewhere",
    "name": "b",
    "gallery": 3,
    "target_layers": "layer2",
    "checkpoint_seconds": 5.0,
}
SMALL = {
    "dataset": "shapes",
    "n_train": 40,
    "n_test": 20,
    "size": 16,
    "width": 2,
    "epochs": 2,
    "batch_size": 20,
    "gallery": 2,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(recipe("assignment", **SMALL, runs=str(tmp_path_factory.mktemp("runs")), name="a"), figures=False).folder


def test_t02_every_field_of_the_configuration_has_another_value_here():
    assert list(OTHER_VALUES) == list(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_t02_a_changed_setting_is_refused_by_name_or_taken(name, finished):
    value = OTHER_VALUES[name]
    config = recipe("assignment", **SMALL, runs=str(finished.parent), name="a")
    assert getattr(config, name) != value
    if name not in CHANGEABLE and name not in ("runs", "name"):
        with pytest.raises(ValueError, match=f"was made with {name}="):
            run(dataclasses.replace(config, **{name: value}), resume=True, figures=False)
    if name not in CHANGEABLE:
        with pytest.raises(ValueError, match=f"^unknown change on resuming '{name}'"):
            resume_run(finished, figures=False, **{name: value})
    elif name == "epochs":
        message = (
            r"can't go on to 3 epochs under scheduler 'onecycle'.*made with epochs=2.*Give the new run another name"
        )
        for work in (
            lambda: run(dataclasses.replace(config, epochs=3), resume=True, figures=False),
            lambda: resume_run(finished, epochs=3),
        ):
            with pytest.raises(ValueError, match=message):
                work()
    elif name != "data_dir":  # which is for CIFAR-10 alone
        result = resume_run(finished, figures=False, **{name: value})
        assert getattr(result.config, name) == value == json.loads((finished / "config.json").read_text())[name]


@pytest.mark.parametrize("scheduler", ["constant", "plateau"])
def test_t02_a_run_goes_on_after_its_end(scheduler, tmp_path):
    "As a configuration, and on the command line; config.json says what was done."
    config = recipe(
        "assignment",
        **SMALL,
        scheduler=scheduler,
        held_out=0.25,
        max_lr=0.01,
        device="cpu",
        runs=str(tmp_path),
        name="a",
    )
    config = dataclasses.replace(config, batch_size=15)
    whole = run(dataclasses.replace(config, epochs=4, name="whole"), figures=False)
    run(config, figures=False)
    assert run(dataclasses.replace(config, epochs=3), resume=True, figures=False).config.epochs == 3
    more = resume_run(tmp_path / "a", figures=False, epochs=4)
    assert (
        more.config.epochs == 4 == len(more.history) == json.loads((tmp_path / "a/config.json").read_text())["epochs"]
    )
    assert same_weights(whole.model, more.model)
    with pytest.raises(ValueError, match="may only grow.*epochs=4, not 2"):
        resume_run(tmp_path / "a", epochs=2)
    assert cli(["resume", str(tmp_path / "a"), "--epochs", "3"]) == 2


# ---- T4: a plateau of accuracy


@pytest.mark.parametrize("module", [lrs, plateau])
def test_t04_a_plateau_of_accuracy_is_fed_the_accuracy(module):
    fed = []
    trainer = make(scheduler=lambda o: module.ReduceLROnPlateau(o, mode="max", patience=0), held_out=HELD_OUT)
    step = trainer.scheduler.step
    trainer.scheduler.step = lambda value: (fed.append(value), step(value))
    trainer.fit()
    assert fed == [row["held_out_accuracy"] for row in trainer.history]
    with pytest.raises(ValueError, match="watches a held-out accuracy, never the test set"):
        make(scheduler=lambda o: module.ReduceLROnPlateau(o, mode="max"))


# ---- T6: an optimizer of another model


def test_t06_an_optimizer_of_another_model_is_refused():
    other = sgd(Net())
    with pytest.raises(
        ValueError,
        match=r"holds weights of another model, not of this one: make it anew, SGD\(model.parameters\(\), ...\)",
    ):
        make(optimizer=other)
    net = Net()
    mixed = torch.optim.SGD([*net.parameters(), *Net().parameters()], 0.1)
    with pytest.raises(ValueError, match="another model"):
        make(net=net, optimizer=mixed)
    with pytest.raises(ValueError, match="scheduler moves the rate of another optimizer: make it anew, StepLR"):
        make(scheduler=lrs.StepLR(other, 2))
    frozen = Net().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train: every weight has requires_grad=False"):
        make(net=frozen, optimizer=torch.optim.SGD(frozen.parameters(), 0.1))
    make(net=torch.compile(net, backend="eager"), optimizer=sgd(net))  # the same weights, compiled: taken


# ---- T7: all is checked before anything is made


def test_t07_what_is_refused_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = "train --dataset shapes --n-train 128 --n-test 20 --width 2 --device cpu --name a"
    assert cli([*line.split(), "--batch-size", "1000"]) == 2
    assert "give a batch_size of 128 or less" in capsys.readouterr().err and not list(tmp_path.iterdir())
    import cam_course.app.factory as factory

    monkeypatch.setattr(
        factory, "build_model", lambda *a: build_model(recipe("assignment", width=2), 5, 3)
    )  # whatever it is
    assert cli([*line.split(), "--batch-size", "64"]) == 2
    assert "5 outputs, but train has 10 classes" in capsys.readouterr().err and not list(tmp_path.iterdir())
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/a").mkdir(parents=True)
    (tmp_path / "runs/a/mine.txt").touch()
    assert cli([*line.split(), "--batch-size", "64"]) == 2  # no run: to go on with it would be no remedy
    assert capsys.readouterr().err.strip().endswith("exists: give another name, for other files are in it")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 49}, "batch_size 49 is more than the 48 training images"),
        ({"net": Net(5)}, "5 outputs"),
        (
            {"net": nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))},
            r"can't take the \(3, 8, 8\) images of train",
        ),
        ({"net": nn.Conv2d(3, 10, 1)}, r"shape \(1, 10, 8, 8\) for one image of train, not logits"),
        ({"scheduler": lambda o: lrs.OneCycleLR(o, 0.1, total_steps=3)}, "total_steps=9"),
        ({"class_weights": [1, 2]}, "class_weights has 2 numbers"),
        ({"class_weights": [-1.0] * 10}, "class_weights must be"),
        ({"early_stopping": 2}, "never by the test set"),
        ({"keep_best": True}, "never by the test set"),
        ({"early_stopping": 0, "held_out": HELD_OUT}, "early_stopping must be"),
        ({"net": nn.DataParallel(Net())}, "give the net itself, model.module"),
        ({"net": torch.compile(nn.DataParallel(Net()))}, "give the net itself, model.module"),
    ],
)
def test_t07_the_trainer_checks_before_it_makes_a_folder(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "run", **options)
    assert not list(tmp_path.iterdir())


# ---- T8: modes of parts


def test_t08_modes_that_the_user_set_are_kept():
    net = Net()
    net.bn.eval().requires_grad_(False)
    mean = net.bn.running_mean.clone()
    trainer = make(net=net, ema_decay=0.5)
    trainer.fit()
    assert net.training and not net.bn.training and net.bn.running_mean.equal(mean) and net.bn.num_batches_tracked == 0
    modes = [m.training for m in net.modules()]
    evaluate(net, TEST)
    predict(net, TEST)
    predict(net, DataLoader(TensorDataset(TEST.x.float(), TEST.y), 8))
    assert [m.training for m in net.modules()] == modes
    whole = Net().eval()  # as loaded weights are: it is to be trained
    make(net=whole).fit()
    assert whole.training and whole.bn.training and whole.bn.num_batches_tracked == 9


def test_t08_a_callback_that_leaves_the_net_in_eval_mode():
    net = Net()
    net.bn.eval()
    careless = type("Careless", (), {"on_epoch_end": lambda self, t: t.model.eval()})()
    make(net=net, callbacks=[careless], epochs=2).fit()
    assert net.bn.num_batches_tracked == 0 and make(net=Net(), callbacks=[careless], epochs=2).fit()


# ---- T10: named tuples

Batch, Input = namedtuple("Batch", "images labels"), namedtuple("Input", "image size")


class Named(Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, i):
        return Batch(Input(TRAIN.x[i].float() / 255, torch.tensor(8.0)), int(TRAIN.y[i]))


class TakesNamed(Net):
    def forward(self, x):
        assert type(x) is Input and x.size.shape == x.image.shape[:1]
        return super().forward(x.image)


def test_t10_named_tuples_are_kept():
    net = TakesNamed()
    history = make(net=net, train=DataLoader(Named(), 8), test=DataLoader(Named(), 8), epochs=1).fit()
    assert len(history) == 1 and predict(net, Named()).shape == (32, 10) and 0 <= evaluate(net, Named())[1] <= 1


# ---- T11: the plan


def test_t11_a_schedule_is_compared_with_the_plan():
    for module in (lrs, schedules):
        with pytest.raises(
            ValueError,
            match=r"OneCycleLR ends after 3, but the training has 9 steps \(3 epochs of 3\): make it with total_steps=9",
        ):
            make(scheduler=lambda o, m=module: m.OneCycleLR(o, 0.1, total_steps=3))
        with pytest.raises(
            ValueError, match="CosineAnnealingLR ends after 2, but the training has 3 epochs: make it with T_max=3"
        ):
            make(scheduler=lambda o, m=module: m.CosineAnnealingLR(o, 2))
        with pytest.warns(UserWarning, match="ends before the rate is low: make it with T_max=3"):
            make(scheduler=lambda o, m=module: m.CosineAnnealingLR(o, 9))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make(scheduler=lambda o, m=module: m.OneCycleLR(o, 0.1, total_steps=9)).fit()


# ---- T12: an Accelerator of the user's own


def test_t12_a_users_own_accelerator_is_left_alone():
    mine = Accelerator(mixed_precision="bf16", cpu=True, gradient_accumulation_steps=4)
    before = dict(AcceleratorState._shared_state), dict(GradientState._shared_state)
    trainer = make(epochs=1)
    trainer.fit()
    assert (
        mine.mixed_precision == "bf16" == AcceleratorState().mixed_precision
        and trainer.accelerator.mixed_precision == "no"
    )
    assert (dict(AcceleratorState._shared_state), dict(GradientState._shared_state)) == before
    assert mine.gradient_accumulation_steps == 4 and mine.sync_gradients == trainer.accelerator.sync_gradients
    other = make(epochs=1, precision="bf16")
    other.fit()
    assert (other.accelerator.mixed_precision, trainer.accelerator.mixed_precision) == ("bf16", "no")
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def test_t12_one_that_is_made_after_a_trainer():
    make(epochs=1).fit()
    assert (
        Accelerator(mixed_precision="bf16", cpu=True).mixed_precision == "bf16"
    )  # it would refuse, were ours still there
    AcceleratorState._reset_state(True)


# ---- T13: what users have


class Photos(Dataset):
    "As torchvision's, with a transform that draws."

    classes = TRAIN.class_names

    def __init__(self, data=TRAIN, noise=0.1):
        self.data, self.noise = data, noise

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data.x[i].float() / 255 - 0.5 + self.noise * torch.randn(3, 8, 8), int(self.data.y[i])


@pytest.mark.parametrize("workers", [0, 1])
def test_t13_a_data_loader_is_taken_and_resumed_exactly(workers, tmp_path):
    "Shuffled, augmented at random by its data set: stopped in the middle of an epoch, it arrives at the same weights."

    def build(folder=None):
        loader = DataLoader(Photos(), 16, shuffle=True, num_workers=workers, generator=torch.Generator())
        return make(folder, train=loader, test=DataLoader(Photos(TEST, 0), 7), epochs=2)

    whole = build()
    history = whole.fit()
    first = stop_after(build(tmp_path), 5)
    torch.manual_seed(77)
    again = build(tmp_path)
    assert again.resume() and again.step == first.step == 5
    again.fit()
    assert same_weights(whole.model, again.model)
    assert [r["train_loss"] for r in history] == [r["train_loss"] for r in again.history]
    other = make(train=DataLoader(Photos(), 16, shuffle=True), epochs=2, seed=1)
    other.fit()
    assert not same_weights(whole.model, other.model)  # another seed, another order
    assert load_file(tmp_path / "last.safetensors").keys() == whole.model.state_dict().keys()


def test_t13_a_generator_of_the_transforms_own_is_seeded_too(tmp_path):
    "A shuffled loader whose data set draws from a generator that it keeps: stopped in the middle, it arrives at the same weights."

    class Own(Photos):
        def __init__(self):
            super().__init__()
            self.draw = np.random.default_rng(int(torch.randint(1000, ())))

        def __getitem__(self, i):
            noise = torch.from_numpy(self.draw.standard_normal((3, 8, 8))).float()
            return self.data.x[i].float() / 255 - 0.5 + 0.1 * noise, int(self.data.y[i])

    def build(folder=None):
        return make(folder, train=DataLoader(Own(), 16, shuffle=True), test=DataLoader(Photos(TEST, 0), 7), epochs=2)

    whole = build()
    whole.fit()
    stop_after(build(tmp_path), 5)
    again = build(tmp_path)
    assert again.resume()
    again.fit()
    assert same_weights(whole.model, again.model)


def test_t13_a_data_set_is_taken_everywhere():
    net = Net()
    trainer = make(
        net=net,
        train=Photos(),
        test=Photos(TEST, 0),
        held_out=Photos(HELD_OUT, 0),
        epochs=1,
        scheduler=lambda o: lrs.ReduceLROnPlateau(o),
    )
    trainer.fit()
    assert trainer.step == 3 and trainer.about["class_names"] == list(TRAIN.class_names)
    plain = TEST.x.float() / 255 - 0.5
    net.eval()
    with torch.no_grad():
        logits = net(plain)
    assert torch.allclose(predict(net, Photos(TEST, 0)), logits, atol=1e-6)
    loss, accuracy = evaluate(net, DataLoader(Photos(TEST, 0), 6, shuffle=True))
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, TEST.y).item(), abs=1e-5)
    assert accuracy == (logits.argmax(1) == TEST.y).double().mean().item()


class Bytes(Photos):
    def __getitem__(self, i):
        return self.data.x[i], int(self.data.y[i])


class Dicts(Photos):
    def __getitem__(self, i):
        return {"pixel_values": self.data.x[i].float(), "labels": int(self.data.y[i])}


T13 = {
    "dict batches": (
        {"train": DataLoader(Dicts(), 8)},
        "train: batches must be pairs .*got a dict with 'pixel_values', 'labels': .*collate_fn",
    ),
    "a data set of dicts": ({"train": Dicts()}, "train: item 0 of Dicts is no pair .*from_dataset"),
    "bytes in a loader": (
        {"train": DataLoader(Bytes(), 8)},
        "train: the loader gives torch.uint8 images: .*from_dataset",
    ),
    "a data set of bytes": (
        {"train": Bytes()},
        r"train gives a torch.uint8 tensor for each image, .*from_dataset\(train\)",
    ),
    "a path": ({"test": "data/test"}, "test must be an ImageData, a DataLoader or a data set, got str: .*from_folder"),
    "a pair": ({"test": (TEST.x, TEST.y)}, "test must be an ImageData, a DataLoader or a data set, got tuple"),
    "no batch": ({"train": DataLoader(Photos(), 64, drop_last=True)}, "train: the loader gives no batch"),
    "a transform beside a loader": (
        {"train": DataLoader(Photos(), 8), "transform": [Cutout(2)]},
        "transform= augments an ImageData",
    ),
    "labels in one hot": (
        {"train": DataLoader(TensorDataset(torch.rand(8, 3, 8, 8), torch.rand(8, 10)), 4)},
        "labels must be a tensor .*torch.float32",
    ),
    "5 outputs": (
        {"net": Net(5)},
        r"the net has 5 outputs, but train has 10 classes: make it with num_classes=10, or .*nn.Linear\(..., 10\)",
    ),
    "5 outputs, loader": ({"net": Net(5), "train": DataLoader(Photos(), 8)}, "5 outputs, but train has 10 classes"),
    "LBFGS": (
        {"optimizer": lambda n: torch.optim.LBFGS(n.parameters())},
        "LBFGS asks for the loss several times a step.*take torch.optim.SGD",
    ),
    "SAM": (
        {"optimizer": lambda n: SAM(torch.optim.SGD(n.parameters(), lr=0.1))},
        "SAM asks for the loss several times a step.*take the SGD inside it",
    ),
    "a tuple of outputs": (
        {"net": type("Two", (Net,), {"forward": lambda self, x: (Net.forward(self, x), x)})()},
        "gives a tuple for one image of train",
    ),
}


@pytest.mark.parametrize("name", T13)
def test_t13_one_clear_error_for_what_can_not_be_taken(name, tmp_path):
    options, message = T13[name]
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "run", **options)
    assert not list(tmp_path.iterdir())


def test_t13_images_in_memory_beside_a_loader_need_one_normalization():
    loader = DataLoader(Photos(), 16)
    for train, test in ((loader, TEST), (TRAIN, DataLoader(Photos(TEST), 16))):
        with pytest.raises(
            ValueError, match="train and test are not of one kind.*normalize=, which is then applied to both"
        ):
            Trainer(net := Net(), train, test, sgd(net), device="cpu", batch_size=16)
    make(train=loader, normalize=lambda x: x.float(), epochs=1).fit()  # the remedy


def test_t13_remedies_help():
    pairs = lambda rows: (torch.stack([r["pixel_values"] for r in rows]), torch.tensor([r["labels"] for r in rows]))
    make(train=DataLoader(Dicts(), 16, collate_fn=pairs), epochs=1).fit()
    make(train=from_dataset(Bytes()), epochs=1).fit()
    make(net=Net(10), epochs=1).fit()


def test_t13_labels_out_of_range_are_named_when_they_come():
    late = TensorDataset(torch.rand(32, 3, 8, 8), torch.tensor([0] * 20 + [6] + [0] * 11))
    with pytest.raises(ValueError, match="labels go from 0 to 6, but the net has 5 outputs, for 0 to 4"):
        make(
            net=Net(5),
            train=DataLoader(late, 8),
            test=DataLoader(TensorDataset(torch.rand(8, 3, 8, 8), torch.zeros(8).long()), 8),
        ).fit()
    with pytest.raises(ValueError, match="shuffle=False"):
        predict(Net(), DataLoader(Photos(), 8, shuffle=True))


# ---- T14: a compiled model


def test_t14_a_compiled_models_weights_have_plain_names(tmp_path):
    net = Net()
    trainer = make(tmp_path, net=torch.compile(net, backend="eager"), optimizer=sgd(net), epochs=1)
    assert trainer.compile and trainer.model is net
    trainer.fit()
    found = load_file(tmp_path / "last.safetensors")
    assert found.keys() == Net().state_dict().keys() and all(v.equal(net.state_dict()[k]) for k, v in found.items())
    plain = make(tmp_path, epochs=1)
    assert plain.resume() and same_weights(plain.model, net)  # the checkpoint too
    part = Net()
    part.fc = torch.compile(part.fc, backend="eager")
    make(tmp_path / "part", net=part, optimizer=sgd(part), epochs=1).fit()
    Net().load_state_dict(load_file(tmp_path / "part/last.safetensors"))


# ---- T19


def test_t19_a_whitened_stem_among_the_stages(tmp_path):
    net = ResNet18(width=2)
    net.conv1 = WhitenedStem(3, 2)
    rows = _stages(net)
    assert (rows[0].name, rows[0].channels, rows[0].height) == ("stem", 2, 32)
    config = recipe("assignment", **{**SMALL, "epochs": 1}, whitening=True, runs=str(tmp_path), name="a")
    again = ResNet18(weights=run(config, figures=False).folder / "last.safetensors")
    assert [r.height for r in _stages(again)] == [r.height for r in rows]


@pytest.mark.parametrize(
    "text", ["", "epoch,step\n1,x\n", "a,b\n1,2\n", "epoch,step\n1\n", "epoch,step,train_loss\n1,2,3,4,5\n"]
)
def test_t19_a_damaged_history_is_named(text, tmp_path):
    (tmp_path / "history.csv").write_text(text)
    if text == "":
        assert History.from_csv(tmp_path / "history.csv") == []
        return
    with pytest.raises(DataError, match="history .*history.csv' is damaged .*cam-course resume"):
        History.from_csv(tmp_path / "history.csv")


def test_t19_a_damaged_history_of_a_run_is_written_anew(tmp_path, capsys):
    config = recipe("assignment", **{**SMALL, "epochs": 1}, device="cpu", runs=str(tmp_path), name="a")
    run(config)
    (tmp_path / "a/history.csv").write_text("epoch,step\n1,x\n")
    assert cli(["report", str(tmp_path / "a")]) == 1 and "history.csv' is damaged" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="history.csv' is damaged"):
        assert cli(["resume", str(tmp_path / "a")]) == 0  # the remedy
    assert len(History.from_csv(tmp_path / "a/history.csv")) == 1
    text = write_submission(tmp_path / "a", tmp_path / "handin").read_text()
    assert text.startswith("# ResNet18 on shapes: submission") and "CIFAR" not in text
    for name in ("resnet.py", "app/main.py", "transforms.py", "app/trainer.py"):
        assert f"/cam_course/{name})" in text and (ROOT / "cam_course" / name).exists()


def test_t19_all_that_has_a_row_for_each_image_is_cut():
    n = len(TEST)
    names, other = tuple(f"{i}.png" for i in range(n)), (1, 2)
    extra = {"names": names, "list": list(range(n)), "tensor": torch.arange(n), "other": other}
    data = ImageData(TEST.x, TEST.y, TEST.class_names, extra=extra)
    for index in (slice(3, 6), [3, 4, 5], (3, 4, 5), torch.tensor([3, 4, 5]), torch.arange(n) // 3 == 1):
        part = data.subset(index).extra
        assert part["names"] == ("3.png", "4.png", "5.png") and part["other"] == other
        assert part["list"] == [3, 4, 5] == part["tensor"].tolist()
    rest, held_out = data.split(0.25)
    assert (len(rest.extra["names"]), len(held_out.extra["names"]), len(data.extra["names"])) == (15, 5, n)


@pytest.mark.parametrize(
    "name", ["run:1", "con", "CON.txt", "a.", "a ", " a", "a/b", "a?", "nul", "com1", "..", ".a", "a\n"]
)
def test_t19_names_of_runs_that_some_system_refuses(name, tmp_path):
    for work in (lambda: recipe("assignment", name=name), lambda: create_run_dir(tmp_path, name)):
        with pytest.raises(ValueError, match="run name .* must be a plain folder name"):
            work()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "run-1", "run_1.2", "lauf ü", "console", "a=3"])
def test_t19_names_that_are_right(name, tmp_path):
    assert create_run_dir(tmp_path, recipe("assignment", name=name).name).is_dir()


# ---- T29: threads


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_t29_other_threads_are_said_in_the_log_and_the_environment(threads, tmp_path):
    torch.set_num_threads(1)
    config = recipe(
        "assignment", **SMALL, device="cpu", scheduler="constant", max_lr=0.01, runs=str(tmp_path), name="a"
    )
    run(config, figures=False)
    assert "changed" not in json.loads((tmp_path / "a/environment.json").read_text())
    torch.set_num_threads(2)
    resume_run(tmp_path / "a", figures=False, epochs=3)
    told = "from step 4 on: threads 2 (before: 1); the last digits differ from an undisturbed training's"
    assert (tmp_path / "a/log.txt").read_text().splitlines()[1] == told
    assert json.loads((tmp_path / "a/environment.json").read_text())["changed"] == told
    resume_run(tmp_path / "a", figures=False, epochs=4)  # it stays said
    assert told in (tmp_path / "a/log.txt").read_text()


def test_t29_bit_for_bit_states_its_condition():
    "Wherever the course promises a resumed training bit for bit, the same sentence or the next says: the same machine and threads."
    import re

    bad = []
    for path in [ROOT / "book/faults.md", *(ROOT / "nbs").rglob("*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = "\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")
        for found in re.finditer(r"bit for bit", text):
            near = text[max(0, found.start() - 250) : found.end() + 250]
            if re.search(r"resum|interrupt|go(es)? on with|kill", near) and not re.search(r"threads", near):
                bad.append(f"{path.name}: {near[150:350]!r}")
    assert not bad, "\n".join(bad)


# ---- wished for: early stopping, best weights, class weights


class Worse:
    "Spoils the weights after an epoch, so that the held-out loss rises."

    def __init__(self, after: int):
        self.after, self.kept = after, None

    def on_epoch_end(self, t):
        if t.epoch == self.after:
            self.kept = {k: v.clone() for k, v in t.model.state_dict().items()}
            with torch.no_grad():
                t.model[1].weight.mul_(-30)


@pytest.mark.parametrize("stop_at", [None, 4])
def test_early_stopping_and_the_best_weights(stop_at, tmp_path):
    def build(**more):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
        return make(
            tmp_path,
            net=net,
            optimizer=sgd(net, 1e-3, momentum=0),
            train=HELD_OUT,
            held_out=HELD_OUT,
            epochs=9,
            early_stopping=2,
            keep_best=True,
            **more,
        )

    spoil = Worse(2)
    trainer = build(callbacks=[spoil])
    if stop_at:
        stop_after(trainer, stop_at)
        trainer = build()
        trainer.resume()
    history = trainer.fit()
    losses = [row["held_out_loss"] for row in history]
    best = losses.index(min(losses))
    assert best == 1 and len(history) == 4  # two epochs without a lower loss, of nine planned
    assert all(v.equal(spoil.kept[k]) for k, v in trainer.model.state_dict().items())
    assert evaluate(trainer.model, HELD_OUT, trainer.normalize)[0] == pytest.approx(min(losses))
    assert (tmp_path / "log.txt").read_text().splitlines()[-1] == "stopped: no lower held-out loss since epoch 2"
    saved = load_file(tmp_path / "best.safetensors")
    assert all(v.equal(spoil.kept[k]) for k, v in saved.items()) and not load_file(tmp_path / "last.safetensors")[
        "1.weight"
    ].equal(saved["1.weight"])
    again = build()
    again.resume()
    assert len(again.fit()) == 4 and same_weights(again.model, trainer.model)  # ended is ended


def test_class_weights_are_in_the_training_loss_alone():
    weights = torch.linspace(0.1, 2, 10)
    trainer = make(class_weights=weights, transform=None, epochs=1, batch_size=48, net=Net(dropout=0))
    start = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    row = trainer.fit()[0]
    net = Net(dropout=0)
    net.load_state_dict(start)
    logits = net(Normalize.of(TRAIN)(TRAIN.x))
    assert row["train_loss"] == pytest.approx(
        nn.functional.cross_entropy(logits, TRAIN.y, weight=weights).item(), rel=1e-5
    )
    assert row["test_loss"] == pytest.approx(evaluate(trainer.model, TEST, trainer.normalize)[0])


# ---- the command line


def test_nobody_reads_to_the_end():
    "`cam-course train --help | head -1`: no word, no traceback."
    code = "import sys; from cam_course.__main__ import cli; sys.exit(cli())"
    for line in ("train --help", "--version"):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *line.split()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        process.stdout.close()  # before a word is written
        err = process.stderr.read()
        assert process.wait(timeout=120) == 141 and not err, err


def test_t13_evaluation_says_it_too():
    with pytest.raises(ValueError, match="the net has 5 outputs, but the data 10 classes: make it with num_classes=10"):
        evaluate(Net(5), TEST)
    two = type("Two", (Net,), {"forward": lambda self, x: (x, x)})()
    with pytest.raises(ValueError, match="the net gives a tuple, not logits"):
        predict(two, TEST)
    with pytest.raises(ValueError, match="data must be an ImageData, a DataLoader or a data set, got str"):
        evaluate(Net(), "cifar10")
    with pytest.raises(ValueError, match="data: batches must be pairs .*a dict with 'pixel_values'"):
        evaluate(Net(), DataLoader(Dicts(), 8))
