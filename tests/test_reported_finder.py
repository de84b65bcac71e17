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

from cam_course import plateau, schedules
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
