"""cam_course.schedules against torch.optim.lr_scheduler, resumption, and bad input."""
import json
import math
import warnings
from itertools import product

import numpy as np
import pytest
import torch
from jsbox import load
from torch.optim import lr_scheduler as lrs

from cam_course import optimizers, schedules
from cam_course.gradient_noise import expected_loss

OPTIMIZERS = {"sgd": (torch.optim.SGD, {"momentum": 0.9}), "adam": (torch.optim.Adam, {}),
              "ours": (optimizers.Momentum, {}), "our adamw": (optimizers.AdamW, {})}


def groups(kind="sgd", lr=0.1):
    "An optimizer with two param groups of different rates."
    make, kw = OPTIMIZERS[kind]
    parts = [{"params": [torch.zeros(2, requires_grad=True)], "lr": lr},
             {"params": [torch.zeros(1, requires_grad=True)], "lr": 3*lr}]
    return make(parts, lr=lr, **kw)


def seen(optimizer):
    return [(float(g["lr"]), g["betas"][0] if "betas" in g else g["momentum"]) for g in optimizer.param_groups]


def track(kind, make, steps, lr=0.1):
    "lr and momentum of both groups at construction and after each step: (steps + 1, 2, 2)."
    optimizer = groups(kind, lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)            # torch: the optimizer has not stepped
        schedule, out = make(optimizer), [seen(optimizer)]
        for k in range(steps):
            schedule.step()
            out.append(seen(optimizer))
            assert schedule.get_last_lr() == [lr for lr, _ in out[-1]] and schedule.last_epoch == k + 1
    return np.array(out)


def same(ours, theirs, steps, kinds=OPTIMIZERS, lr=0.1):
    for kind in kinds:
        assert np.abs(track(kind, ours, steps, lr) - track(kind, theirs, steps, lr)).max() < 1e-12


@pytest.mark.parametrize(("ours", "theirs", "kw"), [
    ("LambdaLR", "LambdaLR", {"lr_lambda": lambda k: 1/(1 + 0.3*k)}),
    ("StepLR", "StepLR", {"step_size": 7, "gamma": 0.3}),
    ("StepLR", "StepLR", {"step_size": 1}),
    ("ExponentialLR", "ExponentialLR", {"gamma": 0.93}),
    ("CosineAnnealingLR", "CosineAnnealingLR", {"T_max": 50}),
    ("CosineAnnealingLR", "CosineAnnealingLR", {"T_max": 100, "eta_min": 0.01}),
    ("CosineAnnealingLR", "CosineAnnealingLR", {"T_max": 40, "eta_min": 0.02}),      # on to where it rises again
])
def test_simple_schedules_equal_torch(ours, theirs, kw):
    same(lambda o: getattr(schedules, ours)(o, **kw), lambda o: getattr(lrs, theirs)(o, **kw), 100)


@pytest.mark.parametrize("kw", [{"T_0": 1}, {"T_0": 7}, {"T_0": 7, "eta_min": 0.01}, {"T_0": 1, "T_mult": 2}, {"T_0": 3, "T_mult": 2},
                                {"T_0": 10, "T_mult": 3, "eta_min": 0.002}, {"T_0": 200}])
def test_warm_restarts_equal_torch(kw):
    same(lambda o: schedules.CosineAnnealingWarmRestarts(o, **kw), lambda o: lrs.CosineAnnealingWarmRestarts(o, **kw), 130)
    for T_mult in (1, 2, 3):                                   # to any step, and inside an epoch, as torch's manual has it
        pair = [s.CosineAnnealingWarmRestarts(groups(), 5, T_mult, 0.001) for s in (schedules, lrs)]
        for k in (0, 0.25, 1.5, 4.75, 6.2, 14.5, 19.9, 26, 33.3, 7):
            for schedule in pair: schedule.step(k)
            assert np.abs(np.subtract(*(s.get_last_lr() for s in pair))).max() < 1e-12, (T_mult, k)
        for schedule in pair: schedule.step()
        assert np.abs(np.subtract(*(s.get_last_lr() for s in pair))).max() < 1e-12
    million = schedules.CosineAnnealingWarmRestarts(groups(), 1, 2)
    million.step(2**20 - 2)                                    # the last step before a restart
    assert 0 < million.get_last_lr()[0] < 1e-11
    million.step()
    assert million.get_last_lr() == million.base_lrs


def wsd(k, peak, W, T, S, f):
    "Hu et al. 2024: s/W, then 1, then f; W, T and S are the ends of the three stages."
    return peak*(k/W if k < W else f(k - T) if k >= T else 1.0)


@pytest.mark.parametrize(("kw", "f"), [
    ({"decay": "linear"}, lambda s: 1 - s/20),
    ({"decay": "1-sqrt"}, lambda s: 1 - math.sqrt(s/20)),
    ({"decay": "exponential", "final_factor": 0.5**(20/6)}, lambda s: 0.5**(s/6)),       # a half-life of 6 steps
])
def test_wsd_is_the_papers_formula(kw, f):
    for kind in OPTIMIZERS:
        got = track(kind, lambda o: schedules.WSDLR(o, 100, 10, 20, start_factor=0, **kw), 99)[:, :, 0]
        want = [[wsd(k, peak, 10, 80, 100, f) for peak in (0.1, 3*0.1)] for k in range(100)]
        assert np.abs(got - want).max() < 1e-12
    default = schedules.WSDLR(groups(), 100)
    assert (default.decay_steps, default.planned_steps, default.per_batch) == (20, 100, True)
    assert schedules.WSDLR(groups(), 100, 10).get_last_lr()[0] == pytest.approx(0.001)   # the first step moves
    whole = schedules.WSDLR(groups(), 10, 0, 10, final_factor=0.1)
    for _ in range(10): whole.step()
    assert whole.get_last_lr()[0] == pytest.approx(0.01)
    with pytest.raises(ValueError, match="over after 10 steps"): whole.step()
    none = track("sgd", lambda o: schedules.WSDLR(o, 10, 0, 0), 9)[:, :, 0]
    assert (none == [0.1, 3*0.1]).all()


def test_wsd_becomes_longer_or_shorter_before_its_decay():
    def at(step, total, **kw):
        schedule = schedules.WSDLR(groups(), total, 5, **kw)
        for _ in range(step): schedule.step()
        return schedule
    state = at(30, 50).state_dict()
    for total in (38, 50, 200):
        again = schedules.WSDLR(groups(), total, 5)
        again.load_state_dict(json.loads(json.dumps(state)))
        rest = [again.get_last_lr()]
        for _ in range(total - 30):
            again.step()
            rest.append(again.get_last_lr())
        want = track("sgd", lambda o, total=total: schedules.WSDLR(o, total, 5), total)[30:, :, 0]
        assert np.array_equal(rest, want)
    for saved, total in ((at(41, 50), 200), (at(30, 50), 36)):   # inside the decay, of the old plan or of the new
        with pytest.raises(ValueError, match="saved with total_steps=50"):
            schedules.WSDLR(groups(), total, 5).load_state_dict(saved.state_dict())
    with pytest.raises(ValueError, match="warmup_steps=5"): schedules.WSDLR(groups(), 60, 4).load_state_dict(state)
    with pytest.raises(ValueError, match="another kind of schedule"):
        schedules.WSDLR(groups(), 60).load_state_dict(schedules.StepLR(groups(), 3).state_dict())


def test_inverse_sqrt_is_equation_3():
    def paper(s, d_model, warmup): return d_model**-0.5*min(s**-0.5, s*warmup**-1.5)
    for d_model, warmup in ((512, 4000), (64, 10), (1, 1)):
        lr = (d_model*warmup)**-0.5
        got = track("our adamw", lambda o, w=warmup: schedules.InverseSqrtLR(o, w), 120, lr)[:, 0, 0]
        np.testing.assert_allclose(got, [paper(k + 1, d_model, warmup) for k in range(121)], rtol=1e-12)
    same(lambda o: schedules.InverseSqrtLR(o, 9),
         lambda o: lrs.LambdaLR(o, lambda k: min((k + 1)/9, (9/(k + 1))**0.5)), 100)


def test_time_decay_equals_torch_lambda():
    same(lambda o: schedules.TimeDecayLR(o, 0.05), lambda o: lrs.LambdaLR(o, lambda k: 1/(1 + 0.05*k)), 100)


@pytest.mark.parametrize("start_factor", [0.01, 1/3, 1.0])
def test_warmup_equals_torch_sequence(start_factor):
    def theirs(o):
        rise = lrs.LinearLR(o, start_factor, total_iters=10)
        return lrs.SequentialLR(o, [rise, lrs.CosineAnnealingLR(o, 40)], [10])
    ours = lambda o: schedules.WarmupLR(schedules.CosineAnnealingLR(o, 40), 10, start_factor)
    same(ours, theirs, 49)


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cyclic_equals_torch(mode):
    for up, down, gamma, cycle in product((5, 8), (None, 3, 21), (1.0, 0.98), (True, False)):
        kw = {"base_lr": [0.001, 0.01], "max_lr": [0.1, 0.4], "step_size_up": up, "step_size_down": down, "mode": mode,
              "gamma": gamma, "cycle_momentum": cycle, "base_momentum": 0.7, "max_momentum": 0.93}
        same(lambda o, kw=kw: schedules.CyclicLR(o, **kw), lambda o, kw=kw: lrs.CyclicLR(o, **kw), 120)


def test_a_way_down_of_no_steps_is_refused_not_taken_for_none():
    for size in ({"step_size_up": 0}, {"step_size_down": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(size))} must be a number >= 1, got 0"):
            schedules.CyclicLR(groups(), 0.1, 0.2, **size)


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
def test_one_cycle_equals_torch(anneal_strategy, three_phase):
    for total, pct, div, cycle in product((2, 7, 100), (0.0, 0.05, 0.25, 0.3, 0.45, 0.7), (25.0, 3.0), (True, False)):
        if pct*total == 1: continue                                            # torch divides by zero
        kw = {"max_lr": [0.1, 0.7], "total_steps": total, "pct_start": pct, "div_factor": div, "final_div_factor": 50.0,
              "anneal_strategy": anneal_strategy, "three_phase": three_phase, "cycle_momentum": cycle,
              "base_momentum": 0.8, "max_momentum": 0.97}
        same(lambda o, kw=kw: schedules.OneCycleLR(o, **kw), lambda o, kw=kw: lrs.OneCycleLR(o, **kw), total - 1,
             ["sgd", "our adamw"])
    same(lambda o: schedules.OneCycleLR(o, 0.1, epochs=3, steps_per_epoch=9),
         lambda o: lrs.OneCycleLR(o, 0.1, epochs=3, steps_per_epoch=9), 26)


@pytest.mark.parametrize("total", [5, 10, 20])
def test_one_cycle_where_torch_divides_by_zero(total):
    with pytest.raises(ZeroDivisionError): lrs.OneCycleLR(groups(), 0.1, total_steps=total, pct_start=1/total)
    rates = track("sgd", lambda o: schedules.OneCycleLR(o, 0.1, total_steps=total, pct_start=1/total), total - 1)[:, 0, 0]
    assert rates[0] == 0.1 and (np.diff(rates) < 0).all() and rates[-1] == pytest.approx(0.1/25/1e4)


def test_one_step_too_many():
    optimizer = groups()
    schedule = schedules.OneCycleLR(optimizer, 0.1, total_steps=5, anneal_strategy="linear")
    rates = [schedule.get_last_lr()[0]]
    for _ in range(5):
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert rates[4] == rates[5] == pytest.approx(0.1/25/1e4)                   # torch's sixth rate is negative
    theirs = lrs.OneCycleLR(groups(), 0.1, total_steps=5, anneal_strategy="linear")
    for _ in range(5):
        theirs.optimizer.step()
        theirs.step()
    assert theirs.get_last_lr()[0] < 0
    before = schedule.state_dict()
    for bad in (schedule, theirs):
        with pytest.raises(ValueError, match=r"total.steps"): bad.step()
    assert schedule.state_dict() == before and schedule.last_epoch == 5


def train(optimizer, schedule, w, first, last):
    "Noisy steps; the gradient of step k depends on k and w alone."
    path = []
    for k in range(first, last):
        noise = torch.randn(w.shape, generator=torch.Generator().manual_seed(k), dtype=w.dtype)
        w.grad = w.detach() + noise
        optimizer.step()
        schedule.step()
        path.append((w.detach().clone(), seen(optimizer)))
    return path


MAKE = {
    "one-cycle": lambda o, s: s.OneCycleLR(o, 0.3, total_steps=60),
    "cyclic": lambda o, s: s.CyclicLR(o, 0.01, 0.3, 7, mode="triangular2"),
    "cosine": lambda o, s: s.CosineAnnealingLR(o, 60),
    "step": lambda o, s: s.StepLR(o, 9),
    "restarts": lambda o, s: s.CosineAnnealingWarmRestarts(o, 8, 2),
    "wsd": lambda o, s: s.WSDLR(o, 60, 5, 40),
    "inverse root": lambda o, s: s.InverseSqrtLR(o, 20),
    "warm-up": lambda o, s: schedules.WarmupLR(schedules.OneCycleLR(o, 0.3, total_steps=60), 35),
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("kind", ["sgd", "our adamw"])
@pytest.mark.parametrize("optimizer_first", [True, False])
def test_resumed_in_mid_run_is_exact(name, kind, optimizer_first):
    def fresh(start):
        w = start.clone().requires_grad_()
        make, kw = OPTIMIZERS[kind]
        optimizer = make([w], lr=0.1, **kw)
        return w, optimizer, MAKE[name](optimizer, schedules)

    w, optimizer, schedule = fresh(torch.ones(3, dtype=torch.float64))
    train(optimizer, schedule, w, 0, 31)
    saved = json.loads(json.dumps(schedule.state_dict()))                      # plain data, no code
    saved_optimizer, weights = {k: v for k, v in optimizer.state_dict().items()}, w.detach().clone()
    saved_optimizer = torch.load(_bytes(saved_optimizer), weights_only=True)
    want = train(optimizer, schedule, w, 31, 60)

    w, optimizer, schedule = fresh(weights)
    parts = [lambda: optimizer.load_state_dict(saved_optimizer), lambda: schedule.load_state_dict(saved)]
    for part in parts if optimizer_first else parts[::-1]: part()
    got = train(optimizer, schedule, w, 31, 60)
    for (a, numbers), (b, wanted) in zip(got, want, strict=True):
        assert torch.equal(a, b) and numbers == wanted


def _bytes(state):
    import io
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def test_last_epoch_as_in_torch():
    for make in (lambda o, s, n: s.CyclicLR(o, 0.01, 0.3, 7, last_epoch=n),
                 lambda o, s, n: s.LambdaLR(o, lambda k: 0.9**k, last_epoch=n)):
        pair = []
        for s in (schedules, lrs):
            optimizer = groups()
            make(optimizer, s, -1)
            again = make(optimizer, s, 11)
            assert again.last_epoch == 12
            pair.append(seen(optimizer))
        assert np.abs(np.subtract(*pair)).max() < 1e-12


def test_lr_in_a_tensor_is_filled_in_place():
    w = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=torch.tensor(0.1))
    kept = optimizer.param_groups[0]["lr"]
    schedules.StepLR(optimizer, 1).step()
    assert optimizer.param_groups[0]["lr"] is kept and kept.item() == pytest.approx(0.01)


def test_trainer_knows_when_they_step():
    from cam_course.app.trainer import _scheduler_interval
    assert _scheduler_interval(schedules.OneCycleLR(groups(), 0.1, total_steps=9)) == "batch"
    assert _scheduler_interval(schedules.CyclicLR(groups(), 0.1, 0.2)) == "batch"
    cosine = schedules.CosineAnnealingLR(groups(), 9)
    assert _scheduler_interval(cosine) == "epoch"
    cosine.per_batch = True
    assert _scheduler_interval(cosine) == "batch"
    assert _scheduler_interval(schedules.WarmupLR(cosine, 4)) == "batch"


def test_trainer_runs_and_resumes_under_ours_as_under_torch(tmp_path):
    from cam_course.app.trainer import Trainer
    from cam_course.data import shapes
    train_set, test_set = shapes(128, seed=0, size=16), shapes(32, seed=1, size=16)

    def trainer(module, epochs=3, run_dir=None):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 10))
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9)
        return Trainer(net, train_set, test_set, optimizer, module.OneCycleLR(optimizer, 0.1, total_steps=12), epochs=epochs,
                       batch_size=32, run_dir=run_dir, progress=False, device="cpu", precision="fp32")

    whole, theirs, again = trainer(schedules), trainer(lrs), trainer(schedules, run_dir=tmp_path)
    trainer(schedules, 2, tmp_path).fit()                                      # interrupted after 8 of 12 steps
    assert again.resume() and again.scheduler.last_epoch == 8
    for t in (whole, theirs, again): t.fit()
    assert whole.lrs == theirs.lrs == again.lrs
    assert torch.equal(whole.model[1].weight, theirs.model[1].weight)
    assert torch.equal(whole.model[1].weight, again.model[1].weight)


def added_group():
    optimizer = groups()
    schedule = schedules.StepLR(optimizer, 3)
    optimizer.add_param_group({"params": [torch.zeros(1)]})
    schedule.step()


@pytest.mark.parametrize(("call", "error", "says"), [
    (lambda: schedules.StepLR([1], 3), TypeError, "list is not an Optimizer"),
    (lambda: schedules.StepLR(groups(), 0), ValueError, "step_size must be .* got 0"),
    (lambda: schedules.OneCycleLR(groups(), 0.1), ValueError, "total_steps, or epochs and steps_per_epoch"),
    (lambda: schedules.OneCycleLR(groups(), 0.1, total_steps=9, pct_start=1.5), ValueError, "pct_start must be"),
    (lambda: schedules.OneCycleLR(groups(), 0.1, total_steps=9, anneal_strategy="sin"), ValueError, "anneal_strategy"),
    (lambda: schedules.OneCycleLR(groups(), [0.1], total_steps=9), ValueError, "1 values, the optimizer 2 param groups"),
    (lambda: schedules.OneCycleLR(optimizers.Adagrad([torch.zeros(1)]), 0.1, total_steps=9), ValueError,
     "Adagrad has no momentum to cycle: pass cycle_momentum=False"),
    (lambda: schedules.CosineAnnealingWarmRestarts(groups(), 0), ValueError, "T_0 must be .* got 0"),
    (lambda: schedules.CosineAnnealingWarmRestarts(groups(), 3, 1.5), ValueError, "T_mult must be .* got 1.5"),
    (lambda: schedules.WSDLR(groups(), 10, 6, 6), ValueError, "6 steps of warm-up and 6 of decay are more than total_steps=10"),
    (lambda: schedules.WSDLR(groups(), 10, decay="sqrt"), ValueError, "decay.*'1-sqrt'"),
    (lambda: schedules.WSDLR(groups(), 10, decay="exponential"), ValueError, "give final_factor=0.1, or decay='linear'"),
    (lambda: schedules.InverseSqrtLR(groups(), 0), ValueError, "warmup_steps must be .* got 0"),
    (lambda: schedules.CyclicLR(groups(), 0.1, 0.2, mode="triangle"), ValueError, "Did you mean 'triangular'"),
    (lambda: schedules.CosineAnnealingLR(groups(), 9, last_epoch=4), ValueError, "no 'initial_lr'"),
    (added_group, ValueError, "3 param groups, the schedule knows 2"),
])
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says): call()
    assert schedules.OneCycleLR(optimizers.Adagrad([torch.zeros(1)]), 0.1, total_steps=9, cycle_momentum=False)


def test_functions_take_arrays_and_numbers():
    k = np.arange(30)
    for f in (lambda k: schedules.one_cycle(k, 0.1, 30), lambda k: schedules.cyclic(k, 0.1, 0.3, 4, 5, "exp_range", 0.9),
              lambda k: schedules.step_decay(k, 0.1, 4), lambda k: schedules.linear_warmup(k, 4),
              lambda k: schedules._warm_restarts(k, 0.1, 3, 2), lambda k: schedules._warm_restarts(k, 0.1, 4),
              lambda k: schedules._wsd(k, 0.1, 30, 4, 9), lambda k: schedules._inverse_sqrt(k, 0.1, 5),
              lambda k: schedules.one_cycle_momentum(k, 30, three_phase=True), lambda k: schedules.constant(k, 0.1)):
        np.testing.assert_allclose(f(k), [f(int(i)) for i in k], rtol=1e-14)
        assert np.ndim(f(3)) == 0


def test_javascript_agrees():
    js, k = load("math/schedules.js"), np.arange(60)
    for pct, div, final, three, strategy in product((0.05, 0.3, 0.5, 0.95), (1.0, 25.0), (1.0, 1e4), (False, True),
                                                    ("cos", "linear")):
        shape = {"pct_start": pct, "anneal_strategy": strategy, "three_phase": three}
        want = schedules.one_cycle(k, 0.7, 60, div_factor=div, final_div_factor=final, **shape)
        got = [js("oneCycle", i, 0.7, 60, pct, strategy, div, final, three) for i in k.tolist()]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)
        momenta = schedules.one_cycle_momentum(k, 60, **shape)
        got = [js("oneCycleMomentum", i, 60, pct, strategy, 0.85, 0.95, three) for i in k.tolist()]
        np.testing.assert_allclose(got, momenta, rtol=0, atol=1e-9)
    for kind, share in product(schedules._KINDS, (0.0, 0.05, 0.3, 0.5)):
        got = [js("scheduleShape", kind, i, 300, share) for i in range(300)]
        np.testing.assert_allclose(got, schedules._shape_of(kind, 300, share), rtol=0, atol=1e-9, err_msg=f"{kind} {share}")
    for noise in (0.02, 0.1, 0.5):
        figure = schedules.ScheduleChoice(noise=noise)
        (rate, plain), (found, losses) = figure.best_constant(), js("bestConstant", 300, list(figure.curvatures), noise)
        assert found == pytest.approx(rate, abs=1e-9)
        np.testing.assert_allclose(losses, plain, rtol=1e-9, atol=1e-9)
    for curvatures, noise in (([1.0], 0.0), ([0.01, 0.1, 1.0], 0.1)):
        loss = expected_loss(want, momenta, curvatures, noise)
        np.testing.assert_allclose(js("expectedLoss", want, momenta, curvatures, noise), loss, rtol=1e-9, atol=1e-9)


def test_choice_in_words_and_pixels(browser, tmp_path):
    from figpage import opened
    fig = schedules.ScheduleChoice()
    rate, plain = fig.best_constant()
    assert f"ends at {fig.losses()[-1]:.2g}, that of the best constant rate, {rate:.2g}, at {plain[-1]:.2g}" in fig.alt()
    for bad, says in (({"schedule": "cosin"}, "Did you mean 'cosine'"), ({"warmup": 1.0}, "warmup must be"),
                      ({"max_lr": 0.0}, "max_lr must be")):
        with pytest.raises(ValueError, match=says): schedules.ScheduleChoice(**bad)
    with opened(browser, [fig], tmp_path) as page:
        wait = lambda words: page.wait_for_function("t => document.querySelector('.cc-readout').textContent.includes(t)", arg=words)
        wait(f"Loss after 300 steps: {fig.losses()[-1]:.2g}, less than with the best constant rate ({rate:.2g}: {plain[-1]:.2g})")
        for kind in schedules._KINDS:
            page.locator(f"[data-trait=schedule][value='{kind}']").check()
            wait(f"Loss after 300 steps: {schedules.ScheduleChoice(schedule=kind).losses()[-1]:.2g}, ")
        page.locator("[data-trait=warmup]").focus()
        page.keyboard.press("ArrowRight")
        wait(f"{schedules.ScheduleChoice(schedule='one-cycle', warmup=0.15).losses()[-1]:.2g}, ")


def test_figure_in_words_and_pixels(browser, tmp_path):
    from figpage import opened
    fig = schedules.OneCycleShape(max_lr=0.1)
    assert "0.1 at step 59 and down to 4.0e-07" in fig.alt()
    with pytest.raises(ValueError, match="pct_start must be"): schedules.OneCycleShape(pct_start=2.0)
    with opened(browser, [fig], tmp_path) as page:
        says = page.locator(".cc-readout").text_content
        assert "at step 59" in says() and f"one-cycle {fig.curves()[2][-1]:.3g}" in says()
        page.locator("[data-trait=pct_start]").focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('at step 69')")
        page.get_by_text("three phases").click()
        page.locator("[data-trait=anneal_strategy][value=linear]").check()
        page.get_by_text("log axis").click()
        want = schedules.OneCycleShape(max_lr=0.1, pct_start=0.35, three_phase=True, anneal_strategy="linear").curves()[2]
        page.wait_for_function(f"document.querySelector('.cc-readout').textContent.includes('one-cycle {want[-1]:.3g}')")
