"""cam_course.momentum beyond what its chapter asserts: the printed algorithms, optima, JavaScript."""
import numpy as np
import pytest
from jsbox import load

from cam_course.descent import SURFACES, steps_to
from cam_course.momentum import (
    _KINK_METHODS,
    BallInValley,
    CyclingBall,
    PhaseDiagram,
    _kink,
    _kink_path,
    _kink_slope,
    _measured_rate,
    _spectral_radius,
    _swing_past,
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
    (lambda: BallInValley(beta=0.995), r"beta must be in \[0, 0.99\], got 0.995"),
    (lambda: BallInValley(alpha=2.0), r"alpha must be in \(0, 2\), got 2.0"),
    (lambda: BallInValley(kappa=0.5), "kappa must be >= 1, got 0.5"),
    (lambda: CyclingBall(start=4.1), r"start must be in \[-4, 4\], got 4.1"),
    (lambda: CyclingBall(method="Adam"), "method must be one of heavy ball, Nesterov, plain, got 'Adam'"),
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


def test_the_ball_is_plain_momentum_and_its_numbers_are_those_of_its_path():
    for beta in (0.0, 0.3, 0.67, 0.9, 0.99):
        ball = BallInValley(beta=beta)
        w, z = np.array([-4.0, 2.0]), np.zeros(2)
        want = [w]
        for _ in range(3000):
            z = beta*z + np.array([1/50, 1])*w
            w = w - 1.9*z
            want.append(w)
        assert np.array_equal(ball.path(), want)
        far = np.abs(want).max(1) >= 4e-3
        assert ball.steps() == np.flatnonzero(far)[-1] + 1
        assert ball.swing() == pytest.approx(max(0, max(w[0] for w in want)/4), abs=1e-15)
        assert f"{ball.steps()} steps" in ball.alt() and f"{ball.swing():.0%}" in ball.alt()
    fastest = min(np.arange(100)/100, key=lambda b: BallInValley(beta=float(b)).steps())
    assert fastest == 0.67
    assert "not at the bottom after 3000 steps" in BallInValley(kappa=1e6).alt()


def test_the_kinked_curve():
    w = np.linspace(-5, 5, 10_001)
    assert np.allclose((_kink(w + 1e-6) - _kink(w - 1e-6))/2e-6, _kink_slope(w), atol=1e-4)
    steep = np.diff(_kink_slope(w))/np.diff(w)
    assert steep.min() == pytest.approx(1) and steep.max() == pytest.approx(25)     # convex, curvatures in [1, 25]
    assert _KINK_METHODS["heavy ball"][:2] == pytest.approx(best_momentum(1, 25)[:2], abs=1e-15)


def test_the_heavy_ball_circles_where_the_others_arrive():
    path = _kink_path(3.3, "heavy ball", 6000)
    assert np.allclose(sorted(path[-3:]), [-1.80245, 0.64653, 2.11592], atol=1e-5)
    assert np.allclose(path[-3:], path[-6:-3], atol=1e-12)
    starts = np.linspace(-4, 4, 801)
    for method in ("Nesterov", "plain"): assert np.abs(_kink_path(starts, method, 2000)[-1]).max() < 1e-9
    assert "goes round" in CyclingBall().alt() and "steps to a thousandth" in CyclingBall(method="plain").alt()


def test_javascript_of_the_ball_and_the_circle_agrees():
    js = load("math/momentum.js")
    for w in rng.uniform(-4, 4, 50).round(3):
        assert js("kink", w) == pytest.approx(float(_kink(w)), abs=1e-12)
        assert js("kinkSlope", w) == pytest.approx(float(_kink_slope(w)), abs=1e-12)
    for method in _KINK_METHODS:
        for start in (3.3, *rng.uniform(-4, 4, 8)):
            assert np.allclose(js("kinkPath", start, method, 100), _kink_path(start, method, 100), rtol=0, atol=1e-9)
    for beta in (0.0, 0.67, 0.95):
        path = BallInValley(beta=beta).path(300)
        assert js("swingPast", path.tolist(), 0) == pytest.approx(_swing_past(path, 0), abs=1e-12)
