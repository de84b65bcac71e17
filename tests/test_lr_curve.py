"""cam_course.base.lr_curve: what each rule says of which curve, odd curves, JavaScript, the figure."""
import itertools

import numpy as np
import pytest
from jsbox import load

from cam_course.averages import ewma
from cam_course.base.lr_curve import (
    METHODS,
    FourRules,
    LRFinderResult,
    LRFinderSpread,
    _average,
    _largest_fall,
    _valley_loss,
    four_rules,
    local_line,
    trim_ends,
)

U = np.linspace(-7, 1, 100)
LR = 10**U


def curve(y, **kw): return LRFinderResult(LR[:len(y)], np.asarray(y), **kw)


@pytest.mark.parametrize(("y", "says"), [
    (np.full(100, 2.3), "flat"), (np.linspace(2, 9, 100), "only rises"), (np.zeros(100), "flat"), (-np.ones(100), "flat"),
    (_valley_loss(U)[:9], "too short"), ([2.0], "too short"), ([], "no finite loss"), ([np.nan]*100, "no finite loss"),
    ([2.0, np.nan, 1.0], "too short"), (np.full(100, 1e30), "flat"), (np.full(100, 1e-30), "flat")])
def test_curves_that_show_nothing(y, says):
    r = curve(y)
    for m in METHODS: assert r.suggestion(m) is None and says in r.why(m)
    assert "no suggestion: " in str(r) and r.alt() and r.plot()


def test_noise_alone_never_gives_a_number():
    for n, seed in itertools.product((15, 20, 40, 100, 300), range(100)):
        rng = np.random.default_rng(seed)
        r = LRFinderResult(np.geomspace(1e-7, 10, n), 2.3 + rng.normal(0, 0.1, n))
        assert r.suggestion("steep") is None, (n, seed)


def test_a_fall_that_an_eye_sees_is_found():
    "A net's curve: four times the noise of one loss deep, exploding at the end, in 100 steps."
    y = 2.4 - 0.16/(1 + np.exp(-2*(U + 2.5))) + np.maximum(0, np.exp(2*(U + 0.5)) - 1)
    runs = [curve(y + np.random.default_rng(seed).normal(0, 0.04, 100)) for seed in range(100)]
    assert sum(r.suggestion("steep") is not None for r in runs) >= 97


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.95, 0.99])
def test_the_average_is_that_of_its_chapter(beta):
    loss = np.random.default_rng(0).normal(2, 1, 60)
    assert np.array_equal(_average(loss, beta), ewma(loss, beta)) and len(_average(loss[:0], beta)) == 0


def test_what_comes_after_an_explosion_is_not_read():
    "A net that two steps throw far away, and that gives constant scores from then on: no rule may like it there."
    y = np.where(U < -0.9, 1.43 - 0.3/(1 + np.exp(-4*(U + 1.8))), 1.42 + 0.2*np.exp(-((U + 0.5)/0.4)**2))
    y[[77, 81]] += 1.5
    for seed in range(30):
        r = curve(y + np.random.default_rng(seed).normal(0, 0.04, 100))
        for m in METHODS: assert 1e-3 < r.suggestion(m) < 0.13, (seed, m)


def test_standard_errors_of_a_fall():
    "Against the scatter of many fits: the difference of two points of the line, and the pair that is taken."
    rng, u = np.random.default_rng(0), np.linspace(-6, 1, 80)
    truth = 2 - np.tanh(2*u)
    fits = np.array([local_line(u, truth + rng.normal(0, 0.1, 80))[0] for _ in range(400)])
    found = np.array([_largest_fall(u, truth + rng.normal(0, 0.1, 80)) for _ in range(400)])
    spread = (fits[:, 20] - fits[:, 70]).std()
    assert np.median(found[:, 0]) == pytest.approx(_largest_fall(u, truth)[0], rel=0.05)
    assert np.median(found[:, 0]/found[:, 1]) == pytest.approx(spread, rel=0.25)
    assert _largest_fall(u, truth[::-1])[0] == 0 and _largest_fall(u, np.full(80, 3.7)) == (0, 0)


def test_ends_of_the_range_are_remarked():
    falling = curve(2.3 - 1/(1 + np.exp(-3*(U - 1))))
    assert all(isinstance(falling.suggestion(m), float) and "larger end_lr" in falling.why(m) for m in METHODS)
    late = LRFinderResult(np.geomspace(1e-2, 10, 60), _valley_loss(np.linspace(-2, 1, 60)))
    assert isinstance(late.suggestion("steep"), float) and "smaller start_lr" in late.why("steep")
    assert "larger" not in curve(_valley_loss(U)).why() and "smaller" not in curve(_valley_loss(U)).why()
    stopped = curve(2.3 - 1/(1 + np.exp(-3*(U - 1))), stopped_because="diverged: ...")
    assert "larger" not in stopped.why()


def test_a_suggestion_does_not_depend_on_the_scale_of_the_loss():
    y = _valley_loss(U) + np.random.default_rng(0).normal(0, 0.03, 100)
    for m in METHODS: assert curve(y).suggestion(m) == curve(1000*y).suggestion(m) == curve(y - 7).suggestion(m)


@pytest.mark.parametrize("mode", [np.geomspace, np.linspace])
def test_exact_on_a_noiseless_valley(mode):
    "Also with linear steps, whose points crowd at the right."
    lr = mode(1e-7 if mode is np.geomspace else 1e-4, 10 if mode is np.geomspace else 0.3, 400)
    r = LRFinderResult(lr, _valley_loss(np.log10(lr)))
    off = r.suggestion("steep", skip_start=0)/1e-2
    assert (0.8 < off < 1.25) if mode is np.geomspace else (0.5 < off < 2)
    assert 0.007 < r.suggestion("minimum", skip_start=0) < 0.032      # a line rounds the corner: early, never late


def test_local_line():
    rng = np.random.default_rng(0)
    u = np.sort(rng.uniform(-4, 1, 60))
    fit, slope, noise = local_line(u, 3 - 2*u)
    assert np.allclose(fit, 3 - 2*u, atol=1e-12) and np.allclose(slope, -2, atol=1e-10) and noise < 1e-11
    y, i = np.sin(u) + rng.normal(0, 0.1, 60), 30                    # one point against numpy's weighted polynomial
    w = (1 - np.minimum(np.abs(u - u[i]), 1)**3)**3
    b, a = np.polyfit(u - u[i], y, 1, w=np.sqrt(w))
    fit, slope, _ = local_line(u, y)
    assert fit[i] == pytest.approx(a, abs=1e-12) and slope[i] == pytest.approx(b, abs=1e-12)


def test_local_line_knows_its_noise():
    "Standard errors against the scatter of 400 fits."
    rng = np.random.default_rng(0)
    u = np.linspace(-4, 1, 60)
    fits = [local_line(u, 3 - 2*u + rng.normal(0, 0.1, 60)) for _ in range(400)]
    assert np.median([f[2] for f in fits]) == pytest.approx(np.std([f[0] for f in fits], axis=0).max(), rel=0.15)


def longest_fall(y):
    "fastai's valley by its definition: all falling subsequences, by brute force over the end's best length."
    best = [1]*len(y)
    for i in range(len(y)):
        for j in range(i):
            if y[i] < y[j]: best[i] = max(best[i], best[j] + 1)
    end = best.index(max(best))
    return end - best[end] + int(best[end]/3) + int(best[end]/6)


def test_valley_is_fastais():
    rng = np.random.default_rng(0)
    for _ in range(50):
        y = rng.normal(0, 1, 40).cumsum()
        assert four_rules(np.arange(40.0), y, np.gradient(y))["valley"] == longest_fall(y)


def test_trim():
    y = np.r_[np.linspace(2, 1, 80), np.geomspace(1.01, 300, 20)]
    part = trim_ends(y, ewma(y, 0.5))
    assert part.start == 10 and y[part].max() <= 2*2 - y.min() + 0.05 < y[part.stop]
    assert trim_ends(y[:80], y[:80]) == slice(8, 76) and trim_ends(y[:80], y[:80], 3, 0) == slice(3, 80)
    assert trim_ends(y[:0], y[:0]) == slice(0, 0)


@pytest.mark.parametrize(("lr", "loss", "says"), [([1, 2], [1], "give as many"), ([2, 1], [1, 1], "increasing"),
                                                 ([0, 1], [1, 1], "positive")])
def test_bad_curves(lr, loss, says):
    with pytest.raises(ValueError, match=says): LRFinderResult(np.array(lr), np.array(loss))


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="'steepest'.*steep"): curve(_valley_loss(U)).suggestion("steepest")


def test_a_spread_of_flat_curves_suggests_nothing():
    flat = LRFinderSpread((curve(np.ones(100)),)*3)
    assert flat.suggestion() is None and flat.range() is None and flat.plot() and "none" in str(flat)
    mixed = LRFinderSpread((curve(_valley_loss(U)), *flat.results))
    assert mixed.suggestion() is None and mixed.range() is not None
    assert "none of the rules" in mixed.plot().axes[0].get_title(loc="left")


# ---- the figure

def test_javascript_agrees():
    js = load("math/lr_finder.js")
    assert np.allclose(js("valleyLoss", U), _valley_loss(U), rtol=0, atol=1e-12)
    for seed, (noise, beta) in enumerate(itertools.product((0.003, 0.05, 0.3), (0.0, 0.8, 0.98))):
        figure = FourRules(noise=noise, beta=beta, seed=seed % 8)
        want = figure.reading()
        got = js("reading", figure.seed, noise, beta)
        assert np.allclose(got["loss"], want["loss"], rtol=0, atol=1e-9)
        assert np.allclose(got["smoothed"], want["smoothed"], rtol=0, atol=1e-9)
        assert [got["start"], got["stop"]] == [want["start"], want["stop"]]
        assert np.allclose(got["fit"], want["fit"], rtol=0, atol=1e-9)
        for way in ("line", "ewma"):
            assert {k: pytest.approx(v, abs=1e-9) for k, v in got[way].items()} == want[way]


def test_figure_in_words():
    figure = FourRules()
    assert "noise 0.03" in figure.alt() and "steep" in figure.alt()
    with pytest.raises(ValueError, match="noise"): FourRules(noise=-1)
    with pytest.raises(ValueError, match="beta"): FourRules(beta=1)


def test_the_figure_moves(browser, tmp_path):
    from figpage import opened
    with opened(browser, [FourRules()], tmp_path) as page:
        said = page.inner_text(".cc-readout")
        page.locator("input[data-trait=noise]").focus()
        for _ in range(6): page.keyboard.press("ArrowRight")
        page.wait_for_function(f"document.querySelector('.cc-readout').textContent !== {said!r}")
        said = page.inner_text(".cc-readout")
        page.click("text=Another run")
        page.wait_for_function(f"document.querySelector('.cc-readout').textContent !== {said!r}")
