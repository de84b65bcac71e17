"The fair race: its rules against the optimizers, its trials, what it says, and the figure in a page."
import json
from functools import partial

import numpy as np
import pytest
from figpage import opened, shown, write_page

from cam_course import which_optimizer as W
from cam_course.descent import SURFACES
from cam_course.optimizers import _race_score, _trajectory, make_optimizer
from cam_course.which_optimizer import FairRace

SETTINGS = {"sgd": {}, "momentum": {"momentum": 0.6}, "nesterov": {"momentum": 0.8}, "adagrad": {}, "rmsprop": {"alpha": 0.9},
            "adam": {"betas": (0.5, 0.99)}}


@pytest.fixture(scope="module")
def race() -> FairRace: return FairRace()


@pytest.mark.parametrize("name", SETTINGS)
def test_many_trials_at_once_are_the_optimizers(name):
    "Losses of three trials and four starts, and the score of the last chapter, to 1e-9."
    surface, starts = SURFACES["tilted ravine"], np.random.default_rng(0).uniform((-4, -2), (4, 2), (4, 2))
    memory = [v for value in SETTINGS[name].values() for v in np.atleast_1d(value)]
    logs, left = W._run_trials(name, [[lr, *memory] for lr in (0.01, 0.1, 0.2)], surface, starts, 40)
    assert logs.shape == (40, 3, 4) and (left == 41).all()
    for k, lr in enumerate((0.01, 0.1, 0.2)):
        path = _trajectory(partial(make_optimizer, name, lr=lr, **SETTINGS[name]), surface, starts, 40)
        np.testing.assert_allclose(logs[:, k], np.log10(surface(path[1:]) + 1e-12), rtol=0, atol=1e-9)
        np.testing.assert_allclose(logs[:, k].mean(0), _race_score(surface, path), rtol=0, atol=1e-9)


def test_a_path_that_leaves_is_seen():
    logs, left = W._run_trials("sgd", [[1.0], [0.1]], SURFACES["ravine"], [[-4.5, 1.5], [1.0, 0.0]], 60)
    path = _trajectory(partial(make_optimizer, "sgd", lr=1.0), SURFACES["ravine"], [-4.5, 1.5], 60)
    first = int(np.argmax(~(np.abs(path) <= [10, 6]).all(-1)))
    assert left.tolist() == [[first, 61], [61, 61]] and np.isfinite(logs[:, 1]).all()
    assert W._run_trials("sgd", [[50.0]], SURFACES["ravine"], [[-4.5, 1.5]], 500)[1][0, 0] == 1


def test_every_optimizer_has_as_many_trials_and_the_usual_memory_is_among_them():
    for name in W._FIELD:
        for knobs in ("rate", "both"):
            trials = W._trials(name, knobs)
            assert len(trials) == len({tuple(row) for row in trials.tolist()}) == W._TRIALS == 72
            if name in W._USUAL: assert (trials[:, 1:] == W._USUAL[name]).all(1).any()


def test_the_best_trial_is_the_best(race):
    "Score and setting of the figure, from the optimizers themselves: all 72 rates of SGD, one race."
    surface = SURFACES["tilted ravine"]
    starts = np.random.default_rng(0).uniform((-5, -3), (5, 3), (20, 2))
    rates = [row[0] for row in W._trials("sgd", "rate").tolist()]
    scores = [_race_score(surface, _trajectory(partial(make_optimizer, "sgd", lr=lr), surface, starts, 150)).mean() for lr in rates]
    _, score, setting, end, _ = next(row for row in FairRace("tilted ravine").ranking() if row[0] == "SGD")
    assert score == pytest.approx(min(scores), abs=6e-4) and setting == f"rate {rates[int(np.argmin(scores))]:g}"
    assert 1e-12 <= end < 1e-5


def test_what_the_chapter_says_of_rmsprop(race):
    place = {h: [row[0] for row in FairRace(horizon=h).ranking()].index("RMSProp") + 1 for h in (150, 2000)}
    assert place == {150: 2, 2000: 6}
    rms = next(row for row in race.ranking() if row[0] == "RMSProp")
    assert rms[3] < 1e-10 and rms[4] > 1e-3, "it comes back when the race is over"


def test_tuning_the_memory_helps_momentum_on_every_surface():
    for surface in W._GROUNDS:
        rate, both = ({name: score for name, score, *_ in FairRace(surface, knobs).ranking()} for knobs in ("rate", "both"))
        assert both["Momentum"] < rate["Momentum"] - 3 and both["Adam"] < rate["Adam"] - 3, surface
        assert both["SGD"] == rate["SGD"] and both["Adagrad"] == rate["Adagrad"], "they have nothing more to tune"


def test_it_says_its_numbers(race):
    words = race.alt()
    for name, score, setting, _, _ in race.ranking(): assert f"{name} {score:.1f} ({setting})" in words
    assert "the rate alone" in words and "rate and memory" in FairRace(knobs="both").alt()
    assert len(json.dumps(race.data)) < 120_000


@pytest.mark.parametrize(("wrong", "said"), [
    ({"surface": "ravin"}, "unknown surface 'ravin'.*Did you mean 'ravine'"), ({"knobs": "all"}, "unknown knobs 'all'"),
    ({"horizon": 151}, "horizon must be one of 150, 207, .*2000, got 151")])
def test_wrong_arguments(wrong, said):
    with pytest.raises(ValueError, match=said): FairRace(**wrong)


def test_the_figure_in_a_page(browser, tmp_path, race):
    "Its slider stops at the lengths that were raced, and each control changes what is said."
    said = "document.querySelector('.cc-readout').textContent"
    with opened(browser, [race], tmp_path) as page:
        first = race.ranking()[0]
        assert page.inner_text(".cc-readout").startswith(f"Tuned for 150 steps: {first[0]} −{-first[1]:.1f} ({first[2]}), RMSProp")
        assert "RMSProp comes back up to" in page.inner_text(".cc-readout")
        page.focus("input[data-trait=horizon]")
        for horizon in W._HORIZONS[1:]:
            page.keyboard.press("ArrowRight")
            page.wait_for_function(f"{said}.startsWith('Tuned for {horizon:,} steps: ')")
        winner, last = (FairRace(horizon=2000).ranking()[k][0] for k in (0, -1))
        assert page.inner_text(".cc-readout").startswith(f"Tuned for 2,000 steps: {winner}") and last == "RMSProp"
        page.check("input[value=both]")
        page.select_option("select", label="tilted ravine")
        name, score, setting, *_ = FairRace("tilted ravine", "both", 2000).ranking()[0]
        page.wait_for_function(f"{said}.startsWith('Tuned for 2,000 steps: {name} −{-score:.1f} ({setting})')")


def test_the_figure_is_low_enough_on_wide_screens(browser, tmp_path, race):
    with shown(browser, write_page([race], tmp_path/"page.html"), 1, viewport={"width": 1300, "height": 900}) as page:
        assert page.evaluate("document.querySelector('.cc').getBoundingClientRect().height") < 520
