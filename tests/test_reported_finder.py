"""Faults that users of such tools report elsewhere, tried here: range tests, schedules, optimizers, averages.

One test a row of the table of faults, named after it (T3, T5, ...). The trainer's rows have a file of their own.
"""
import io
import itertools
import json
import os
import re
import subprocess
import sys
import warnings
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler as lrs
from torch.utils.data import DataLoader, Dataset, TensorDataset

from cam_course import optimizers, plateau, schedules
from cam_course.adversarial import PixelModel, accuracy_under, pgd
from cam_course.averages import ewma
from cam_course.base.lr_curve import METHODS, LRFinderResult, LRFinderSpread
from cam_course.data import ImageData, shapes
from cam_course.lr_finder import DataBatches, LRFinder, live_range_test

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
        "cyclic": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 4), "one-cycle": lambda s, o: s.OneCycleLR(o, 0.5, total_steps=40),
        "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, 0.001)}
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
    rates(filled, chain, 4)
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
    assert schedules.WSDLR(optimizer, 8).planned_steps == 8 and schedules.InverseSqrtLR(optimizer, 8).planned_steps is None
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
    (lambda o: schedules.CosineAnnealingLR(o, 2), lambda o: schedules.CosineAnnealingLR(o, 6),
     "T_max=2, this CosineAnnealingLR has T_max=6"),
    (lambda o: schedules.OneCycleLR(o, 0.2, 9), lambda o: schedules.OneCycleLR(o, 0.1, 9), r"max_lrs=\[0.2\]"),
    (lambda o: schedules.CosineAnnealingLR(o, 2), lambda o: schedules.OneCycleLR(o, 0.1, 9),
     "another kind of schedule than OneCycleLR"),
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


@pytest.mark.parametrize("name", THEIRS)
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


@pytest.mark.parametrize("name", THEIRS)
def test_t26_also_with_a_weight_that_has_had_no_gradient(name):
    ends = []
    for first, then in (("o", "o"), ("o", "t"), ("t", "o")):
        w = [torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        make, hyper = THEIRS[name]
        new = {"o": lambda w=w: optimizers.OPTIMIZERS[name](w, lr=0.01), "t": lambda w=w, m=make, h=hyper: m(w, lr=0.01, **h)}
        optimizer, last = new[first](), new[then]()
        moved(optimizer, w[0], 3)
        last.load_state_dict(optimizer.state_dict())
        w[1].grad = torch.ones_like(w[1])
        moved(last, w[0], 3)
        ends.append(torch.stack(w).detach())
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(ends[2], ends[0], rtol=0, atol=1e-12)


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
    w = torch.tensor([[1 + 2j]], requires_grad=True)
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


# ---- curves

K = np.arange(40)
HUMP = np.round(2.35 + 0.05*np.array([1, -1, 0, 1, 0, -1])[K % 6] +
                1.5*np.exp(-((np.log10(np.geomspace(1e-5, 10, 40)) + 0.4)/0.35)**2), 3)


def scripted(losses):
    "A finder whose losses are these numbers, or what a function of the present rate says."
    values = iter(losses) if not callable(losses) else None
    finder = LRFinder(nn.Linear(1, 1), lambda p: torch.optim.SGD(p, lr=1.0), lambda out, y: None)
    now = lambda: losses(finder.optimizer.param_groups[0]["lr"]) if values is None else next(values)
    finder.criterion = lambda out, y: out.sum()*0 + float(now())
    return finder


ONE = [(torch.zeros(1, 1), torch.zeros(1))]


def test_t03_a_recovery_is_no_fall():
    "Flat, a hump, and back to where it was: none of the rules has a rate, in any entry point."
    lr = np.geomspace(1e-5, 10, 40)
    for loss in (HUMP, 1000*HUMP, HUMP - 7):
        for given in ({}, {"smoothed": loss}, {"smoothed": ewma(loss, 0.5)}):
            r = LRFinderResult(lr, loss, **given)
            assert all(r.suggestion(m) is None for m in METHODS) and "no suggestion" in str(r) and "none" in r.alt()
            assert LRFinderSpread((r,)*3).suggestion() is None and r.plot() and "end_lr=" in r.why()
    r = scripted(HUMP).range_test(ONE, 1e-5, 10, 40, smooth_f=1, progress=False)
    assert np.allclose(r.loss, HUMP) and all(r.suggestion(m) is None for m in METHODS) and "a recovery, no fall" in r.why()
    for height, seed in itertools.product((0.3, 0.6, 1.5), range(30)):     # under noise
        u = np.linspace(-5, 1, 100)
        y = 2.35 + np.random.default_rng(seed).normal(0, 0.04, 100) + height*np.exp(-((u + 0.8)/0.35)**2)
        for given in ({}, {"smoothed": y}):
            assert all(LRFinderResult(10**u, y, **given).suggestion(m) is None for m in METHODS), (height, seed)


def test_t03_a_fall_below_the_start_counts_and_the_hump_before_it_does_not():
    u = np.linspace(-7, 1, 100)
    y = 2.3 - 1.3/(1 + np.exp(-6*(u + 1))) + 0.5*np.exp(-((u + 2.5)/0.3)**2) + np.maximum(0, np.exp(4*u) - 1)
    for seed in range(20):
        r = LRFinderResult(10**u, y + np.random.default_rng(seed).normal(0, 0.02, 100))
        assert all(10**-2.4 < r.suggestion(m) < 1 for m in METHODS), seed     # the hump stands at 10^-2.5
        assert 10**-1.5 < r.suggestion("steep") < 10**-0.5


# ---- remedies: each is done with the very input that named it

class Simulated:
    """A training in a formula: it learns from rates near `best`, as long as it may, and goes up where the rate is over `top`.

    `learnt` is what the steps so far have brought, `up` an explosion (or, with `hump`, a rise that comes back).
    """

    def __init__(self, best=0.03, top=0.3, budget=10.0, hump=False, seed=0):
        self.best, self.top, self.budget, self.hump = best, top, budget, hump
        self.learnt, self.rng = 0.0, np.random.default_rng(seed)

    def __call__(self, lr):
        self.learnt += min(lr, self.best)/self.best if lr < self.top else 0.0
        up = np.log10(lr/self.top)
        rise = np.exp(-(up - 0.5)**2/0.03) if self.hump else np.exp(4*max(up, 0)) - 1
        return 2.3 - min(1.5, self.learnt/self.budget) + rise + self.rng.normal(0, 0.02)


def tried(start_lr, end_lr, num_iter, smooth_f=0.05, **kw):
    return scripted(Simulated(**kw)).range_test(ONE, start_lr, end_lr, num_iter, smooth_f=smooth_f, progress=False)


def numbers(why): return {k: float(v) for k, v in re.findall(r"(end_lr|num_iter)=([\d.e+-]+\d)", why)}


@pytest.mark.parametrize(("first", "says", "kw"), [
    ((1e-7, 10, 100), r"it rises at lr \S+: repeat with end_lr=\S+ and more steps \(num_iter=465\)", {"budget": 800}),
    ((1e-7, 10, 60), r"it rises at lr \S+: repeat with end_lr=\S+ and more steps", {"budget": 150, "hump": True}),
    ((1e-7, 1e-4, 60), r"flat: .* repeat with a larger end_lr or more steps \(num_iter=300\)",
     {"best": 1e-4, "budget": 200.0}),
    ((1e-3, 0.02, 9), r"too short: 9 points .* repeat with more steps \(num_iter=100\)", {}),
    ((1e-5, 1e6, 20), r"too short: \d+ points are left of .* it rises at lr \S+: repeat with end_lr=\S+ and more steps", {}),
])
def test_t09_a_curve_without_a_fall_names_a_remedy_that_helps(first, says, kw):
    r = tried(*first, **kw)
    assert r.suggestion() is None and re.search(says, r.why()), r.why()
    start, end, steps = first
    given = numbers(r.why())
    again = tried(start, given.get("end_lr", end), int(given["num_iter"]), **kw)
    larger = tried(start, 10, steps, **kw) if "larger end_lr" in r.why() else again
    assert again.suggestion() is not None, again.why()
    assert larger.suggestion() is not None, larger.why()


@pytest.mark.parametrize("first", [(1.0, 100, 100), (0.4, 50, 40)])
def test_t09_a_loss_that_rises_at_once_needs_a_smaller_start(first):
    r = tried(*first)
    assert r.suggestion() is None and (found := re.search(r"smaller start_lr \(try (\S+)\)", r.why())), r.why()
    assert tried(float(found[1]), *first[1:]).suggestion() is not None


def test_t09_flat_over_six_decades_then_an_explosion_is_not_told_to_start_lower():
    u = np.linspace(-7, 1, 100)
    for seed in range(30):
        y = 2.3 + np.random.default_rng(seed).normal(0, 0.05, 100) + np.maximum(0, np.exp(4*(u + 0.7)) - 1)
        stop = int(np.flatnonzero(y > 9)[0]) + 1
        for r in (LRFinderResult(10**u, y), LRFinderResult(10**u[:stop], y[:stop], stopped_because="diverged: ...")):
            why = r.why()
            assert r.suggestion() is None and "smaller start_lr" not in why and "too short" not in why, (seed, why)
            assert 0.02 < numbers(why)["end_lr"] < 1, (seed, why)


def test_t09_a_fall_at_an_end_of_the_range_names_a_remedy_that_helps():
    low = tried(1e-5, 0.01, 100, budget=4.0)
    assert "larger end_lr" in low.why() and "larger" not in tried(1e-5, 10, 100, budget=4.0).why()
    high = tried(1e-2, 10, 100, budget=10.0)
    assert "smaller start_lr" in high.why() and "smaller" not in tried(1e-6, 10, 100, budget=10.0).why()


# ---- data and containers

Pair = namedtuple("Pair", "image more")
Label = namedtuple("Label", "cls weight")


class Named(nn.Module):
    "A net that reads its input by name."

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(4, 3), set()

    def forward(self, inputs):
        self.seen.add((type(inputs), type(inputs.more)))
        return self.layer(inputs.image) + inputs.more["bias"][0]


def test_t10_namedtuples_stay_namedtuples():
    data = [(Pair(torch.randn(6, 4), OrderedDict(bias=(torch.zeros(3),))), Label(torch.arange(6) % 3, [torch.ones(6)]))]
    targets, net = set(), Named()

    def loss(out, y):
        targets.add((type(y), type(y.weight)))
        return F.cross_entropy(out, y.cls)

    r = LRFinder(net, lambda p: torch.optim.SGD(p, lr=0.1), loss).range_test(data, num_iter=5, progress=False)
    assert len(r.lr) == 5 and net.seen == {(Pair, OrderedDict)} and targets == {(Label, list)}
    packed = nn.utils.rnn.pack_sequence([torch.randn(4, 2), torch.randn(3, 2)])
    rnn = nn.GRU(2, 3)
    finder = LRFinder(rnn, lambda p: torch.optim.SGD(p, lr=0.1), lambda out, y: (out[1] - y).square().mean())
    assert len(finder.range_test([(packed, torch.zeros(1, 2, 3))], num_iter=5, progress=False).lr) == 5


class Samples(Dataset):
    "Samples as dicts, as many libraries give them."

    def __len__(self): return 40
    def __getitem__(self, i): return {"pixels": torch.full((4,), i/40), "cls": i % 3, "name": str(i)}


def linear(kind=torch.optim.SGD, inputs=4, outputs=3):
    torch.manual_seed(0)
    return LRFinder(nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs)), lambda p: kind(p, lr=0.1), F.cross_entropy)


def test_t13_a_data_loader_a_data_set_and_few_images_are_taken():
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(300, 4), torch.randint(0, 3, (300,)))
    sizes = []
    for train in (data, DataLoader(data, 128, shuffle=True), torch.utils.data.Subset(data, range(50)), data):
        finder = linear()
        finder.model.register_forward_hook(lambda m, x, y: sizes.append(len(x[0])))
        assert len(finder.range_test(train, num_iter=6, progress=False).lr) == 6
    assert sizes == [128, 128, 44]*4 + [50]*6 + [128, 128, 44]*2
    pictures = linear(inputs=3072, outputs=10)
    for n in (20, 127, 130):
        assert len(pictures.range_test(shapes(n), num_iter=3, progress=False).lr) == 3
        assert DataBatches(shapes(n)).batch_size == min(n, 128)
    with pytest.raises(ValueError, match="batch_size must be a whole number >= 1 and <= 20, got 50"): DataBatches(shapes(20), 50)


@pytest.mark.parametrize("train", [Samples(), DataLoader(Samples(), 10)])
def test_t13_batches_as_dicts_name_a_remedy_with_their_own_names(train):
    with pytest.raises(ValueError, match=r"a batch is a dict of 'pixels', 'cls', 'name', not .*: wrap the loader") as error:
        linear().range_test(train, num_iter=5, progress=False)
    remedy = str(error.value).rpartition("for instance ")[2]
    batches = eval(remedy, {"loader": DataLoader(Samples(), 10)})     # as a reader would paste it
    assert len(linear().range_test(batches, num_iter=5, progress=False).lr) == 5
    with pytest.raises(ValueError, match=r"a batch is a list of 1, not \(input, target\): give a loader of pairs"):
        linear().range_test(TensorDataset(torch.zeros(9, 4)), num_iter=5, progress=False)


def test_t13_fewer_outputs_than_classes_is_said_and_the_remedy_works():
    data = shapes(40)
    with pytest.raises(ValueError, match=r"gives 5 scores, a target is class 9: give the model 10 outputs"):
        linear(inputs=3072, outputs=5).range_test(data, num_iter=5, progress=False)
    assert len(linear(inputs=3072, outputs=10).range_test(data, num_iter=5, progress=False).lr) == 5


def test_t13_t30_lbfgs_is_refused_and_the_remedy_works():
    net = nn.Linear(4, 3)
    with pytest.raises(ValueError, match=r"LBFGS computes the loss several .*torch.optim.SGD\(model.parameters\(\), lr=0.1\)"):
        LRFinder(net, torch.optim.LBFGS(net.parameters()), F.cross_entropy)
    finder = LRFinder(net, torch.optim.SGD(net.parameters(), lr=0.1), F.cross_entropy)
    assert len(finder.range_test([(torch.zeros(2, 4), torch.zeros(2).long())], num_iter=3, progress=False).lr) == 3


def test_t06_an_optimizer_of_another_model_is_refused():
    old, new = linear().model, linear().model
    for make in (lambda m: torch.optim.SGD(m.parameters(), lr=0.1), lambda m: torch.optim.Adam([{"params": [*m.parameters()][:1]}])):
        with pytest.raises(ValueError, match=r"holds the weights of another model, none that this Sequential trains: make it anew "
                                             r"after the model, (SGD|Adam)\(model.parameters\(\), ...\)"):
            LRFinder(new, make(old), F.cross_entropy)
        assert LRFinder(new, make(new), F.cross_entropy)
    with pytest.raises(ValueError, match="holds other tensors"): LRFinder(new, sgd(), F.cross_entropy)
    loss = nn.Linear(1, 1)                      # beside the model's weights those of the loss, or of a frozen part
    assert LRFinder(new, torch.optim.SGD([*new.parameters(), *loss.parameters()], lr=0.1), F.cross_entropy)
    assert LRFinder(new.requires_grad_(False), torch.optim.SGD(loss.parameters(), lr=0.1), loss)


def test_t13_the_live_test_says_the_same():
    "Entry point of all these: an error is shown where the click was, and a curve's reason too."
    for train, says in ((DataLoader(Samples(), 10), "wrap the loader"), (shapes(20), "steps, ")):
        box = live_range_test(linear(inputs=3072 if isinstance(train, ImageData) else 4, outputs=10), train)
        box.children[2].click()
        assert says in box.children[3].value


# ---- seeds

def test_t15_every_seed_has_its_own_run():
    data = shapes(200)
    torch.manual_seed(0)
    own = DataLoader(TensorDataset(torch.randn(90, 3072), torch.randint(0, 10, (90,))), 30, shuffle=True,
                     generator=torch.Generator().manual_seed(7))
    noisy = [(torch.rand(20, 3072), torch.randint(0, 10, (20,)))]
    for train in (data, DataBatches(data, 40), DataBatches(data, 40, seed=5), own, TensorDataset(data.x.float(), data.y)):
        state = own.generator.get_state()
        runs = [linear(inputs=3072, outputs=10).over_seeds(3, train, num_iter=8, progress=False) for _ in range(2)]
        losses = [r.loss.tolist() for r in runs[0].results]
        assert len({tuple(loss) for loss in losses}) == 3, train
        assert losses == [r.loss.tolist() for r in runs[1].results]            # and the same again
        assert torch.equal(own.generator.get_state(), state)
    first = linear(inputs=3072, outputs=10).range_test(data, num_iter=8, progress=False)
    assert np.array_equal(first.loss, linear(inputs=3072, outputs=10).over_seeds(1, data, num_iter=8, progress=False).results[0].loss)

    finder = linear(inputs=3072, outputs=10)
    with pytest.raises(ValueError, match=r"two seeds gave the same run: .*; give a function of the seed .*, or weights="):
        finder.over_seeds(3, noisy, num_iter=8, progress=False)
    by_seed = lambda seed: [(x + 0.01*seed, y) for x, y in noisy]
    assert len(finder.over_seeds(2, by_seed, num_iter=8, progress=False).results) == 2
    assert len(finder.over_seeds(2, noisy, linear_net, num_iter=8, progress=False).results) == 2
    with pytest.raises(ValueError, match=r"an iterator can be read once.*give the loader itself, or a function of the seed"):
        finder.over_seeds(2, iter(noisy), num_iter=8, progress=False)


def linear_net(): return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))


# ---- two processes

def test_t05_two_ranks_end_alike(tmp_path):
    "One rank's inputs are larger, or hold a nan: both stop at the same step, with the same curve (it hung)."
    code = [sys.executable, str(HERE/"two_ranks.py")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    running = [subprocess.Popen([*code, str(rank), str(tmp_path/"meet"), str(tmp_path/f"{rank}.pt")], env=env, stderr=subprocess.PIPE,
                                text=True) for rank in (0, 1)]
    try:
        said = [p.communicate(timeout=400)[1] for p in running]
    finally:
        for p in running: p.kill()
    assert [p.returncode for p in running] == [0, 0], said
    one, two = (torch.load(tmp_path/f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name in ("scaled", "nan on one", "seeds"): assert one[name] == two[name], name
    assert one["scaled"]["why"].startswith("diverged") and 20 < len(one["scaled"]["loss"]) < 60
    assert one["nan on one"]["why"].startswith("not finite: ") and "step 3" in one["nan on one"]["why"]
    assert len(one["alone"]["loss"]) == 20 and len(two["alone"]["loss"]) == 25


# ---- averages and attacks

def test_t30_after_a_nan_the_average_is_nan_as_it_says():
    xs = [1.0, 2.0, np.nan, 3.0]
    assert np.isnan(ewma(xs)[2:]).all() and np.isfinite(ewma(xs)[:2]).all() and "nan" in ewma.__doc__
    assert np.isfinite(ewma([x for x in xs if np.isfinite(x)])).all()                      # the remedy
    r = LRFinderResult(np.geomspace(1e-4, 1, 4), np.array(xs))                             # the finder's own use cuts first
    assert len(r.smoothed) == 2 and np.isfinite(r.smoothed).all()


def test_t30_each_image_has_a_random_start_of_its_own_in_any_batch():
    torch.manual_seed(0)
    images, labels, starts = torch.rand(12, 3, 8, 8)*0.5 + 0.25, torch.arange(12) % 3, []
    model = PixelModel(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), lambda x: x)

    def attack(model, x, y):
        starts.append(pgd(model, x, y, alpha=0.0, steps=1, random_start=True) - x)      # alpha 0: the start alone
        return x + starts[-1]

    for size in (4, 5, 12):
        starts.clear()
        accuracy_under(model, images, labels, attack, batch_size=size)
        drawn = torch.cat(starts)
        assert len({tuple(d.flatten().tolist()) for d in drawn}) == 12
        whole = pgd(model, images, labels, alpha=0.0, steps=1, random_start=True) - images
        assert torch.equal(drawn, whole)                                                # whatever the batches
    assert not torch.equal(whole, pgd(model, images, labels, alpha=0.0, steps=1, random_start=True, seed=1) - images)
