"""cam_course.plateau against torch.optim.lr_scheduler.ReduceLROnPlateau, resumption, and bad input."""
import json
from itertools import product

import numpy as np
import pytest
import torch
from jsbox import load
from torch.optim.lr_scheduler import ReduceLROnPlateau as Theirs

from cam_course.gradient_noise import expected_loss
from cam_course.plateau import PlateauWatch, ReduceLROnPlateau, _plateau_training, _watch

rng = np.random.default_rng(0)
STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


def groups(lr=0.1, **kw):
    weights = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    return torch.optim.SGD([{"params": [weights[0]]}, {"params": [weights[1]], "lr": lr/3}], lr=lr, **kw)


def sequence(kind, epochs=80):
    "Losses like real ones: falling with noise, wandering, negative, with repeated values, nan and infinity."
    if kind == "falling": return 2*0.95**np.arange(epochs) + 0.05*rng.standard_normal(epochs)
    if kind == "wandering": return rng.standard_normal(epochs).cumsum()
    if kind == "repeated": return rng.integers(-3, 6, epochs)/4
    out = rng.uniform(0, 1, epochs)
    out[rng.integers(0, epochs, 6)] = rng.choice([np.nan, np.inf, -np.inf], 6)
    return out


@pytest.mark.parametrize("kind", ["falling", "wandering", "repeated", "broken"])
def test_equals_torch_on_random_sequences(kind):
    for mode, threshold_mode, patience, cooldown in product(("min", "max"), ("rel", "abs"), (0, 1, 4), (0, 1, 3)):
        kw = {"mode": mode, "threshold_mode": threshold_mode, "patience": patience, "cooldown": cooldown,
              "threshold": rng.choice([0, 1e-4, 0.01, 0.3]), "factor": rng.choice([0.1, 0.5, 0.9]),
              "min_lr": [[0.0, 0.0], [0.01, 0.002], [0.2, 0.0]][rng.integers(3)], "eps": rng.choice([0, 1e-8, 0.01])}
        pair = [(o, make(o, **kw)) for make in (ReduceLROnPlateau, Theirs) for o in [groups()]]
        for value in sequence(kind):
            for _, scheduler in pair: scheduler.step(torch.tensor(value))
            (a, ours), (b, theirs) = pair
            assert [g["lr"] for g in a.param_groups] == [g["lr"] for g in b.param_groups] == ours.get_last_lr()
            assert all(getattr(ours, n) == getattr(theirs, n) for n in STATE)


@pytest.mark.parametrize("patience", [0, 1, 5, 10])
def test_cuts_at_bad_epoch_patience_plus_one(patience):
    seen = _watch([1.0] + [1.0]*30, patience=patience)                  # an equal value is a bad epoch
    assert np.flatnonzero(seen.cut)[0] == patience + 1 and seen.bad.max() == patience + 1
    assert (seen.bad[seen.cut] == patience + 1).all()


def test_watch_writes_down_what_torch_does():
    losses = sequence("falling")
    optimizer = groups()
    theirs, rates = Theirs(optimizer, patience=2, cooldown=3, threshold=0.02), []
    for loss in losses:
        rates.append(optimizer.param_groups[0]["lr"])
        theirs.step(loss)
    seen = _watch(losses, 0.1, patience=2, cooldown=3, threshold=0.02)
    assert np.array_equal(seen.lr, rates) and seen.cut.sum() >= 3
    assert np.array_equal(np.flatnonzero(seen.cut), np.flatnonzero(np.diff(rates, append=rates[-1]) < 0))
    for k in np.flatnonzero(seen.cut): assert not seen.bad[k + 1:k + 4].any()     # cooldown: nothing is counted


def test_resumed_in_mid_run_is_exact():
    losses = sequence("falling")
    optimizer = groups()
    whole = ReduceLROnPlateau(optimizer, patience=1, cooldown=2)
    trace = []
    for k, loss in enumerate(losses):
        if k == 33: saved = json.dumps(whole.state_dict()), optimizer.state_dict()
        whole.step(loss)
        trace.append(whole.get_last_lr())
    fresh = groups()
    with pytest.raises(ValueError, match=r"patience=1, this ReduceLROnPlateau has patience=7"):
        ReduceLROnPlateau(groups(), patience=7, cooldown=2).load_state_dict(json.loads(saved[0]))
    again = ReduceLROnPlateau(fresh, patience=1, cooldown=2)
    again.load_state_dict(json.loads(saved[0]))
    fresh.load_state_dict(saved[1])
    for loss, want in zip(losses[33:], trace[33:], strict=True):
        again.step(loss)
        assert again.get_last_lr() == want
    assert again.state_dict() == whole.state_dict()


def added_group():
    optimizer = groups()
    scheduler = ReduceLROnPlateau(optimizer, patience=0)
    optimizer.add_param_group({"params": [torch.zeros(1)]})
    for _ in range(2): scheduler.step(1.0)


@pytest.mark.parametrize(("call", "error", "says"), [
    (lambda: ReduceLROnPlateau([1]), TypeError, "list is not an Optimizer"),
    (lambda: ReduceLROnPlateau(groups(), factor=1.0), ValueError, "factor must be > 0 and < 1.* got 1.0"),
    (lambda: ReduceLROnPlateau(groups(), mode="minimum"), ValueError, "unknown mode 'minimum'.*'min'"),
    (lambda: ReduceLROnPlateau(groups(), threshold_mode="relative"), ValueError, "unknown threshold_mode"),
    (lambda: ReduceLROnPlateau(groups(), patience=-1), ValueError, "patience must be"),
    (lambda: ReduceLROnPlateau(groups(), min_lr=[0.1]), ValueError, "1 values, the optimizer 2 param groups"),
    (lambda: ReduceLROnPlateau(groups(), verbose=True), TypeError, "verbose"),
    (added_group, ValueError, "3 param groups, the schedule knows 2"),
])
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says): call()


def test_the_true_loss_is_exact():
    "Against the recursion of the means, step by step."
    losses, true, seen = _plateau_training(40, 0.3, 0.2, 3, patience=1, factor=0.3, threshold=0.01)
    want = expected_loss(np.repeat(seen.lr, 20), 0.0, (0.03, 1.0), 0.3)[20::20]
    np.testing.assert_allclose(true, want, rtol=1e-12)
    assert seen.cut.sum() >= 2 and 0.1 < np.log(losses/true).std() < 0.3
    quiet = _plateau_training(40, 0.3, 0.0, 3, patience=1)
    np.testing.assert_array_equal(quiet[0], quiet[1])


def test_javascript_agrees():
    js = load("math/schedules.js")
    for patience, threshold, mode, factor, noise, seed in product((0, 2, 5), (1e-4, 0.1), ("rel", "abs"), (0.1, 0.7),
                                                                  (0.0, 0.3), (0, 999)):
        losses, true, seen = _plateau_training(60, 0.3, noise, seed, patience=patience, threshold=threshold, threshold_mode=mode,
                                               factor=factor)
        rows = js("plateauTraining", 60, 0.3, noise, seed,
                  {"patience": patience, "threshold": threshold, "thresholdMode": mode, "factor": factor})
        column = lambda name, rows=rows: [row[name] for row in rows]
        np.testing.assert_allclose(column("loss"), losses, rtol=0, atol=1e-9)
        np.testing.assert_allclose(column("truth"), true, rtol=0, atol=1e-9)
        np.testing.assert_allclose(column("lr"), seen.lr, rtol=0, atol=1e-9)
        assert column("counted") == seen.bad.tolist() and column("cut") == seen.cut.tolist()
        assert column("bar")[0] is None and seen.bar[0] == np.inf                     # JSON has no infinity
        np.testing.assert_allclose(column("bar")[1:], seen.bar[1:], rtol=0, atol=1e-9)


def test_figure_in_words_and_pixels(browser, tmp_path):
    from figpage import opened
    fig = PlateauWatch(patience=3)
    cuts = (np.flatnonzero(fig.run()[2].cut) + 1).tolist()
    assert f"cuts after epochs {', '.join(map(str, cuts))};" in fig.alt()
    with pytest.raises(ValueError, match="factor must be"): PlateauWatch(factor=1.0)
    with opened(browser, [fig], tmp_path) as page:
        says = page.locator(".cc-readout").text_content
        assert says().startswith(f"{len(cuts)} cuts after epochs {', '.join(map(str, cuts))}:")
        true = fig.run()[1]
        end, first = true[-1], true[cuts[0] - 1]
        assert f"True loss at the end {end:.3g}; at the first cut, where early stopping would end, {first:.3g}." in says()
        page.get_by_text("New noise").click()
        page.locator("[data-trait=patience]").focus()
        page.keyboard.press("ArrowRight")
        again = (np.flatnonzero(PlateauWatch(patience=4, seed=1).run()[2].cut) + 1).tolist()
        page.wait_for_function("t => document.querySelector('.cc-readout').textContent.includes(t)",
                               arg=f"after epoch{'s' if len(again) > 1 else ''} {', '.join(map(str, again))}:")
