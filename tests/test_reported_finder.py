"""Faults that users of such tools report elsewhere, tried here: range tests, schedules, optimizers, averages.

One test a row of the table of faults, named after it (T3, T5, ...). The trainer's rows have a file of their own.
"""
import io
import json
import os
import re
import subprocess
import sys
import warnings
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler as lrs
from torch.utils.data import DataLoader, Dataset, TensorDataset

from cam_course import optimizers, plateau, schedules
from cam_course.data import shapes

HERE = Path(__file__).parent


def sgd(lr=0.1, **kw): return torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=lr, **kw)


def rates(optimizer, schedule, steps):
    "The rate at construction and after each step."
    found = [optimizer.param_groups[0]["lr"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)     # torch: the optimizer has not stepped
        for _ in range(steps):
            schedule.step()
            found.append(optimizer.param_groups[0]["lr"])
    return found


# ---- schedules

MAKE = {"step": lambda s, o: s.StepLR(o, 3, 0.5), "exponential": lambda s, o: s.ExponentialLR(o, 0.9),
        "cosine": lambda s, o: s.CosineAnnealingLR(o, 7, 0.002), "lambda": lambda s, o: s.LambdaLR(o, lambda k: 1/(1 + k)),
        "cyclic": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 4), "one-cycle": lambda s, o: s.OneCycleLR(o, 0.5, total_steps=40)}
PAIRS = [(a, b) for a in MAKE for b in MAKE]


def joined(kind, module, a, b):
    "Two schedules of a module in torch's ChainedScheduler, or one after the other in its SequentialLR."
    optimizer = sgd(momentum=0.9)
    parts = [MAKE[a](module, optimizer), MAKE[b](module, optimizer)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        whole = lrs.ChainedScheduler(parts) if kind == "chained" else lrs.SequentialLR(optimizer, parts, [5])
    return optimizer, whole


@pytest.mark.parametrize("kind", ["chained", "sequential"])
def test_t28_torchs_chained_and_sequential_compose_ours_as_theirs(kind):
    for a, b in PAIRS:
        ours, theirs = (rates(*joined(kind, module, a, b), 20) for module in (schedules, lrs))
        first = int((kind, b) == ("chained", "cyclic"))    # made second, torch's begins at the rate of the first
        assert np.abs(np.subtract(ours, theirs)[first:]).max() < 1e-12, (kind, a, b)
    optimizer = sgd()                                    # one of torch's and one of ours; a rate in a tensor
    mixed = lrs.SequentialLR(optimizer, [lrs.LinearLR(optimizer, 0.1, total_iters=4), schedules.CosineAnnealingLR(optimizer, 8)], [4])
    plain = sgd()
    want = rates(plain, lrs.SequentialLR(plain, [lrs.LinearLR(plain, 0.1, total_iters=4), lrs.CosineAnnealingLR(plain, 8)], [4]), 12)
    assert np.allclose(rates(optimizer, mixed, 12), want, rtol=0, atol=1e-12)
    filled = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=torch.tensor(0.1))
    chain = lrs.ChainedScheduler([schedules.ExponentialLR(filled, 0.9), schedules.StepLR(filled, 2)])
    assert [float(r) for r in rates(filled, chain, 0)] and not [chain.step() for _ in range(4)][0]
    assert float(filled.param_groups[0]["lr"]) == pytest.approx(0.1*0.9**4*0.01, rel=1e-5)


@pytest.mark.parametrize("kind", ["chained", "sequential"])
def test_t28_a_composition_is_resumed_exactly(kind):
    for a, b in [("exponential", "step"), ("step", "cosine"), ("cosine", "exponential")]:
        optimizer, whole = joined(kind, schedules, a, b)
        rates(optimizer, whole, 9)
        saved, saved_optimizer = json.loads(json.dumps(whole.state_dict())), optimizer.state_dict()
        want = rates(optimizer, whole, 6)
        for first in (True, False):
            again, half = joined(kind, schedules, a, b)
            if first: again.load_state_dict(saved_optimizer)
            half.load_state_dict(json.loads(json.dumps(saved)))
            if not first: again.load_state_dict(saved_optimizer)
            assert np.allclose(rates(again, half, 6), want, rtol=1e-12), (kind, a, b)


def test_t28_a_rate_that_somebody_changed_is_scaled():
    "As torch's: the rate of a group, set by hand in the middle, stays changed."
    for module in (schedules, lrs):
        optimizer = sgd()
        schedule = module.ExponentialLR(optimizer, 0.5)
        rates(optimizer, schedule, 2)
        optimizer.param_groups[0]["lr"] *= 10
        assert rates(optimizer, schedule, 2)[-1] == pytest.approx(0.1*0.5**4*10)


@pytest.mark.parametrize("ours", [True, False])
def test_t28_a_plateau_in_a_composition_is_refused_by_name(ours):
    optimizer = sgd()
    waits = (plateau if ours else lrs).ReduceLROnPlateau(optimizer)
    others = [schedules.StepLR(optimizer, 3)]
    with pytest.raises((TypeError, ValueError), match="ReduceLROnPlateau"):
        lrs.ChainedScheduler([*others, waits]).step()
    with pytest.raises((TypeError, ValueError), match="ReduceLROnPlateau"):
        lrs.SequentialLR(optimizer, [waits, *others], [3])


def test_t11_a_schedule_says_for_how_many_steps_it_is_made():
    "What the Trainer compares with its plan before it begins: `planned_steps`, or torch's `total_steps`."
    optimizer = sgd(momentum=0.9)
    assert schedules.OneCycleLR(optimizer, 0.1, total_steps=8).planned_steps == 8
    assert schedules.OneCycleLR(optimizer, 0.1, epochs=4, steps_per_epoch=5).planned_steps == 20
    warm = schedules.WarmupLR(schedules.OneCycleLR(optimizer, 0.1, total_steps=8), 3)
    assert warm.planned_steps == 11 and schedules.CosineAnnealingLR(optimizer, 9).planned_steps is None
    assert schedules.WarmupLR(schedules.StepLR(optimizer, 9), 3).planned_steps is None
    for _ in range(11): warm.step()
    with pytest.raises(ValueError, match="over after 11 steps"): warm.step()


def test_t09_a_longer_one_cycle_is_not_shortened_by_a_saved_state():
    "It was: and then asked for what had been done."
    old = schedules.OneCycleLR(sgd(momentum=0.9), 0.1, total_steps=4)
    for _ in range(4): old.step()
    with pytest.raises(ValueError, match=r"over after 4 steps .*make it with total_steps"): old.step()
    longer = schedules.OneCycleLR(sgd(momentum=0.9), 0.1, total_steps=12)
    before = longer.state_dict()
    with pytest.raises(ValueError, match=r"saved with total_steps=4, this OneCycleLR has total_steps=12"):
        longer.load_state_dict(old.state_dict())
    assert longer.state_dict() == before and len(rates(longer.optimizer, longer, 12)) == 13      # each remedy works
    schedules.OneCycleLR(sgd(momentum=0.9), 0.1, total_steps=4).load_state_dict(old.state_dict())


@pytest.mark.parametrize(("saved", "now", "says"), [
    (lambda o: schedules.CosineAnnealingLR(o, 2), lambda o: schedules.CosineAnnealingLR(o, 6), "T_max=2, this CosineAnnealingLR has T_max=6"),
    (lambda o: schedules.OneCycleLR(o, 0.2, 9), lambda o: schedules.OneCycleLR(o, 0.1, 9), r"max_lrs=\[0.2\]"),
    (lambda o: schedules.CosineAnnealingLR(o, 2), lambda o: schedules.OneCycleLR(o, 0.1, 9), "another kind of schedule than OneCycleLR"),
    (lambda o: schedules.WarmupLR(schedules.StepLR(o, 2), 5), lambda o: schedules.WarmupLR(schedules.StepLR(o, 3), 5), "step_size=2"),
    (lambda o: schedules.WarmupLR(schedules.StepLR(o, 2), 5), lambda o: schedules.WarmupLR(schedules.StepLR(o, 2), 4), "total_iters=5"),
    (lambda o: plateau.ReduceLROnPlateau(o, mode="max"), plateau.ReduceLROnPlateau, "mode=max"),
])
def test_t09_a_state_of_other_settings_is_refused_and_changes_nothing(saved, now, says):
    state, schedule = saved(sgd(momentum=0.9)).state_dict(), now(sgd(momentum=0.9))
    before = json.dumps(schedule.state_dict()), schedule.optimizer.param_groups[0]["lr"]
    with pytest.raises(ValueError, match=says): schedule.load_state_dict(state)
    assert before == (json.dumps(schedule.state_dict()), schedule.optimizer.param_groups[0]["lr"])
    schedule.load_state_dict(now(sgd(momentum=0.9)).state_dict())


@pytest.mark.parametrize("waits", [plateau.ReduceLROnPlateau, lrs.ReduceLROnPlateau])
def test_t13_warm_up_before_a_plateau_is_refused_and_the_remedy_works(waits):
    optimizer = sgd()
    with pytest.raises(TypeError, match=re.escape("WarmupLR(LambdaLR(optimizer, lambda k: 1.0), 5) in the first 5 epochs")):
        schedules.WarmupLR(waits(optimizer), 5)
    optimizer = sgd()
    warm, after = schedules.WarmupLR(schedules.LambdaLR(optimizer, lambda k: 1.0), 5), waits(optimizer, patience=0, factor=0.5)
    seen = []
    for epoch in range(9):
        seen.append(optimizer.param_groups[0]["lr"])
        after.step(1.0) if epoch >= 5 else warm.step()
    assert np.allclose(seen, [*np.linspace(0.1/3, 0.1, 6), 0.1, 0.05, 0.025])
    with pytest.raises(TypeError, match=r"torch\S*\.StepLR: join LinearLR and yours by torch's SequentialLR"):
        schedules.WarmupLR(lrs.StepLR(sgd(), 3), 5)


# ---- optimizers

THEIRS = {"sgd": (torch.optim.SGD, {}), "momentum": (torch.optim.SGD, {"momentum": 0.9}), "adagrad": (torch.optim.Adagrad, {}),
          "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}), "adadelta": (torch.optim.Adadelta, {}),
          "rmsprop": (torch.optim.RMSprop, {}), "adam": (torch.optim.Adam, {}), "adamw": (torch.optim.AdamW, {})}


def moved(optimizer, w, steps):
    for k in range(steps):
        w.grad = torch.randn(w.shape, generator=torch.Generator().manual_seed(k), dtype=w.dtype) + w.detach()
        optimizer.step()
    return w.detach().clone()


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_t26_state_goes_to_torchs_class_and_back(name):
    "Ours 10 steps, then torch's class 10, then ours again: as ours alone; a fresh object each time, through the disk."
    make, hyper = THEIRS[name]
    ends = []
    for path in ("ooo", "oto", "tot"):
        w = torch.ones(3, dtype=torch.float64, requires_grad=True)
        state = None
        for kind in path:
            optimizer = optimizers.OPTIMIZERS[name]([w], lr=0.01) if kind == "o" else make([w], lr=0.5, **hyper)
            if state is None and kind == "t": optimizer.param_groups[0]["lr"] = 0.01
            if state is not None: optimizer.load_state_dict(state)
            moved(optimizer, w, 10)
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
        ends.append(w.detach().clone())
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(ends[2], make_alone(name), rtol=0, atol=1e-12)


def make_alone(name):
    make, hyper = THEIRS[name]
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = make([w], lr=0.01, **hyper)
    for _ in range(3): moved(optimizer, w, 10)
    return w.detach()


@pytest.mark.parametrize(("theirs", "ours", "says", "into"), [
    (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), optimizers.SGD, "momentum=0.9, SGD has 0", optimizers.Momentum),
    (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), optimizers.Momentum, "nesterov=True, Momentum has False",
     optimizers.Nesterov),
    (lambda p: torch.optim.SGD(p, lr=0.1, maximize=True), optimizers.SGD, "maximize=True", None),
    (lambda p: torch.optim.Adam(p, amsgrad=True), optimizers.Adam, "amsgrad=True", None),
    (lambda p: torch.optim.AdamW(p), optimizers.Adam, "decoupled_weight_decay=True", optimizers.AdamW),
    (lambda p: torch.optim.SGD(p, lr=0.1), optimizers.Adam, "no 'betas', Adam needs it", optimizers.SGD),
])
def test_t26_a_state_that_computes_something_else_is_refused(theirs, ours, says, into):
    w = torch.zeros(2, requires_grad=True)
    state, optimizer = theirs([w]).state_dict(), ours([w])
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=f"{re.escape(says)}.*: load it into the class that saved it"): optimizer.load_state_dict(state)
    assert optimizer.state_dict() == before
    theirs([w]).load_state_dict(state)                       # the class that saved it
    if into is not None: into([w]).load_state_dict(state)    # and ours of that kind


def test_t27_no_momentum_means_no_dampening():
    for momenta in ((0, 0), (0.9, 0, 0.9), (0, 0.9, 0.9)):
        ends = []
        for make in (lambda p: optimizers.Momentum(p, 0.1, 0.5, 0.5), lambda p: torch.optim.SGD(p, 0.1, 0.5, 0.5)):
            w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
            optimizer = make([w])
            for m in momenta:
                optimizer.param_groups[0]["momentum"] = m
                w.grad = torch.ones_like(w)
                optimizer.step()
            ends.append(w.item())
        assert ends[0] == pytest.approx(ends[1], abs=1e-15), momenta
        if momenta == (0, 0): assert ends[0] == pytest.approx(-0.2)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_t30_complex_weights_are_refused_and_the_remedy_works(name):
    w = torch.tensor([1 + 2j], requires_grad=True)
    with pytest.raises(ValueError, match=r"real weights, not complex ones: give torch.view_as_real\(w\) of a detached w"):
        optimizers.make_optimizer(name, [w], lr=0.1)
    v = torch.view_as_real(w.detach()).requires_grad_()
    optimizer = optimizers.make_optimizer(name, [v], lr=0.1)
    torch.view_as_complex(v).abs().square().sum().backward()
    before = v.detach().clone()
    optimizer.step()
    assert (v.abs() < before.abs()).all()
    with pytest.raises(ValueError, match="complex"): optimizer.add_param_group({"params": [torch.zeros(1, dtype=torch.complex64)]})
    assert len(optimizer.param_groups) == 1
