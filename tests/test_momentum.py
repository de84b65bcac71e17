"""cam_course.momentum beyond what its chapter asserts: the printed algorithms, optima, JavaScript."""
import numpy as np
import pytest
from jsbox import load

from cam_course.descent import SURFACES, steps_to
from cam_course.momentum import (
    PhaseDiagram,
    _measured_rate,
    _spectral_radius,
    best_momentum,
    critical_beta,
    iteration_matrix,
    momentum_descend,
    stability_limit,
)

rng = np.random.default_rng(0)
himmel = SURFACES["himmelblau"]
rates = np.where(np.arange(60) < 30, 0.004, 0.0007)          # a cut in mid-run tells the forms apart


def test_the_notes_momentum_word_for_word():
    theta, v, mu, want = np.array([-1.0, -1.0]), np.zeros(2), 0.9, []
    for a in rates:
        v = mu*v - a*himmel.grad(theta)
        theta = theta + v
        want.append(theta)
    assert np.allclose(momentum_descend(himmel, (-1, -1), rates, mu, 60, lr_inside=True)[1:], want, atol=1e-13)


def test_the_notes_nesterov_word_for_word():
    theta, v, mu, want = np.array([-1.0, -1.0]), np.zeros(2), 0.9, []
    for a in rates:
        ahead = theta + mu*v
        v = mu*v - a*himmel.grad(ahead)
        theta = theta + v
        want.append(theta)
    got = momentum_descend(himmel, (-1, -1), rates, mu, 60, nesterov=True, lr_inside=True)
    assert np.allclose(got[1:], want, atol=1e-13)


def test_many_starts_and_betas_at_once_are_the_single_runs():
    starts, betas = rng.uniform(-3, 3, (4, 2)), np.array([0, 0.3, 0.6, 0.9])[:, None]
    together = momentum_descend(himmel, starts, 0.003, betas, 30, nesterov=True)
    for i in range(4):
        alone = momentum_descend(himmel, starts[i], 0.003, betas[i, 0], 30, nesterov=True)
        assert np.array_equal(together[:, i], alone)


@pytest.mark.parametrize("nesterov", [False, True])
def test_no_other_pair_beats_the_best(nesterov):
    for kappa in (1.0, 3.0, 40.0, 900.0):
        a, b, best = best_momentum(1/kappa, 1, nesterov)
        ends = np.array([[1/kappa], [1.0]])
        both = lambda lr, beta, c=ends: _spectral_radius(lr, beta, c, nesterov).max(0)
        assert both(a, b) == pytest.approx(best, abs=3e-8)          # a double root: half the digits
        assert (both(rng.uniform(0, 4, 20_000), rng.uniform(0, 1, 20_000)) > best - 1e-9).all()
        near = both(a*rng.uniform(0.98, 1.02, 20_000), np.clip(b + rng.uniform(-0.02, 0.02, 20_000), 0, 0.999))
        assert (near > best - 3e-8).all()


def test_the_critical_beta_is_the_minimum_over_beta():
    betas = np.linspace(0, 0.9999, 10_000)
    for x in (0.003, 0.2, 1.0, 2.5, 3.9):
        assert betas[_spectral_radius(x, betas).argmin()] == pytest.approx(critical_beta(x), abs=1e-4)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_border_of_stability(nesterov):
    betas = np.linspace(0, 0.99, 34)
    edge = stability_limit(betas, nesterov)
    assert (_spectral_radius(edge*(1 - 1e-6), betas, 1.0, nesterov) < 1).all()
    assert (_spectral_radius(edge*(1 + 1e-6), betas, 1.0, nesterov) > 1).all()


def test_measured_rate():
    k = np.arange(300)
    paths = np.stack([0.9**k, (-0.5)**k, 0.97**k*np.cos(0.4*k), 1.05**k, 1e-200*0.1**k, np.ones(300), (k < 1)*1.0], 1)
    assert np.allclose(_measured_rate(paths), [0.9, 0.5, 0.97, 1.05, 0.1, 1, 0], rtol=2e-3, atol=0)
    assert _measured_rate(paths[:, 0]).shape == ()


@pytest.mark.parametrize(("call", "says"), [
    (lambda: momentum_descend(himmel, (0, 0), 0.1, 1.0, 3), r"beta must be in \[0, 1\), got 1.0"),
    (lambda: momentum_descend(himmel, (0, 0), 0.1, -0.1, 3), "beta must be in"),
    (lambda: momentum_descend(himmel, (0, 0), [0.1, 0.1], 0.9, 3), "1 or 3 numbers"),
    (lambda: momentum_descend(himmel, (0, 0), 0.1, 0.9, -3), "steps must be >= 0"),
    (lambda: best_momentum(-1, 1), "0 < low <= high"),
    (lambda: PhaseDiagram(kappa=0), "kappa must be >= 1"),
    (lambda: PhaseDiagram(beta=1.0), "beta must be in"),
])
def test_bad_input_names_the_value(call, says):
    with pytest.raises(ValueError, match=says): call()


def test_figure_in_words():
    fig = PhaseDiagram(*best_momentum(1/50, 1)[:2], kappa=50)
    assert np.allclose(fig.rates(), best_momentum(1/50, 1)[2], atol=1e-7) and "0.752 a step across" in fig.alt()
    fig.nesterov, fig.alpha = True, 1.9
    assert "doesn't arrive" in fig.alt() and "Nesterov" in fig.alt()


def test_javascript_agrees():
    js = load("math/momentum.js")
    for nesterov in (False, True):
        for lr, beta, kappa in rng.uniform((0, 0, 1), (4, 1, 500), (40, 3)):
            assert js("spectralRadius", lr, beta, 1/kappa, nesterov) == pytest.approx(
                _spectral_radius(lr, beta, 1/kappa, nesterov), abs=1e-9)
            roots = np.linalg.eigvals(iteration_matrix(lr, beta, 1.0, nesterov))
            assert js("swings", lr, beta, 1, nesterov) == bool(np.abs(roots.imag).max() > 0)
            assert js("criticalBeta", lr, 1) == pytest.approx(critical_beta(lr), abs=1e-12)
            assert js("stabilityLimit", beta, nesterov) == pytest.approx(stability_limit(beta, nesterov), abs=1e-12)
            want = best_momentum(1/kappa, 1, nesterov)
            assert np.allclose(js("bestMomentum", 1/kappa, 1, nesterov), want, atol=1e-12)
            c, start = np.array([1/kappa, 1.0]), rng.uniform(-4, 4, 2)
            path = momentum_descend(lambda w, c=c: c*w, start, lr, beta, 60, nesterov)
            got = np.array(js("momentumQuadratic", c, start, lr, beta, 60, nesterov))
            assert np.allclose(got, path, rtol=1e-9, atol=1e-9*max(1, np.abs(path).max()))
            assert js("stepsTo", got, 1e-3) == steps_to(got)
