"""cam_course.descent beyond what its chapter asserts: bad input, many starts, the figure's JavaScript."""
import warnings

import numpy as np
import pytest
from jsbox import load

from cam_course.descent import (
    SURFACES,
    LearningRate,
    LeastSquares,
    OneStep,
    _line_data,
    _minibatch_descend,
    best_rate,
    descend,
    hessian,
    quadratic,
    steps_needed,
    steps_to,
)

rng = np.random.default_rng(0)


@pytest.mark.parametrize("name", SURFACES)
def test_surface(name):
    s = SURFACES[name]
    x0, x1, y0, y1 = s.limits
    points = rng.uniform((x0, y0), (x1, y1), (4, 3, 2))
    assert s.name == name and s(points).shape == (4, 3) and s.grad(points).shape == (4, 3, 2)
    assert np.array_equal(s.grad(points)[2, 1], s.grad(points[2, 1]))
    for m in s.minima: assert np.linalg.eigvalsh(hessian(s, m))[0] > 0 and s(m) <= s(points).min()
    for m in s.saddles:
        low, high = np.linalg.eigvalsh(hessian(s, m))
        assert low < 0 < high
    for x, y in (s.start, *s.minima): assert x0 <= x <= x1 and y0 <= y <= y1


def test_known_values():
    assert all(SURFACES[n](m) == 0 for n in ("beale", "rosenbrock") for m in SURFACES[n].minima)
    assert np.allclose(SURFACES["himmelblau"](SURFACES["himmelblau"].minima), 0, atol=1e-20)
    assert np.allclose(SURFACES["saddle"](SURFACES["saddle"].minima), -0.25)
    assert SURFACES["beale"]([0, 0]) == 1.5**2 + 2.25**2 + 2.625**2
    assert SURFACES["rosenbrock"]([-1.2, 1]) == pytest.approx(24.2)


def test_quadratic_has_the_eigenvalues_and_the_angle():
    s = quadratic((0.3, 7.0), angle=25)
    values, vectors = np.linalg.eigh(hessian(s, [1.0, -2.0]))
    turned = np.array([np.cos(np.pi*25/180), np.sin(np.pi*25/180)])
    assert np.allclose(values, (0.3, 7.0)) and abs(vectors[:, 0] @ turned) == pytest.approx(1)
    assert len(quadratic((1, -1)).saddles) == 1 and len(quadratic((1, -1)).minima) == 0
    assert len(quadratic((-1, -2)).saddles) == len(quadratic((-1, -2)).minima) == 0


def test_many_starts_at_once_are_the_single_runs():
    s, starts = SURFACES["himmelblau"], rng.uniform(-4, 4, (5, 3, 2))
    together = descend(s, starts, 0.005, 40)
    assert together.shape == (41, 5, 3, 2)
    assert np.array_equal(together[:, 4, 1], descend(s.grad, starts[4, 1], 0.005, 40))


def test_a_rate_for_each_step():
    rates = rng.uniform(0.1, 0.4, 6)
    w = descend(lambda w: w, [1.0], rates, 6)[:, 0]
    assert np.allclose(w, np.concatenate([[1], np.cumprod(1 - rates)]), rtol=1e-14)


def test_divergence_is_silent_and_visible():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = descend(SURFACES["rosenbrock"], (-1.5, 2), 0.1, 50)
    assert not np.isfinite(path[-1]).any() and np.isfinite(path[1]).all()


@pytest.mark.parametrize(("call", "says"), [
    (lambda: SURFACES["bowl"]([1, 2, 3]), "shape"),
    (lambda: SURFACES["bowl"](3.0), "shape"),
    (lambda: quadratic((1, 2, 3)), "two numbers"),
    (lambda: descend(SURFACES["bowl"], (1, 1), 0.1, -1), "steps must be >= 0"),
    (lambda: descend(SURFACES["bowl"], (1, 1), [0.1, 0.2], 3), "1 or 3 numbers"),
    (lambda: best_rate(0, 1), "0 < low <= high"),
    (lambda: best_rate(2, 1), "0 < low <= high"),
    (lambda: _minibatch_descend(_line_data(10), (0, 0), 0.1, 11, 1), "1..10, got 11"),
    (lambda: _minibatch_descend(_line_data(10), (0, 0), 0.1, 0, 1), "1..10, got 0"),
    (lambda: LearningRate(kappa=0.5), "kappa must be >= 1"),
    (lambda: OneStep(alpha=2.3), r"alpha must be in \[0.05, 2.2\], got 2.3"),
    (lambda: OneStep(start=-3.1), r"start must be in \[-3, 3\], got -3.1"),
    (lambda: OneStep(steps=31), r"steps must be in 0..30, got 31"),
])
def test_bad_input_names_the_value(call, says):
    with pytest.raises(ValueError, match=says): call()


def test_steps_needed():
    assert [steps_needed(f) for f in (0, 0.001, -0.5, 0.99, 1, -1, 1.2)] == [1, 1, 10, 688, np.inf, np.inf, np.inf]


def test_steps_to():
    k = np.arange(101)
    wave = np.where(k == 40, 0.5, 0.1**k)                     # back over the line at step 40
    paths = np.stack([0.5**k, wave, np.ones(101), np.where(k > 99, np.nan, 0.5**k)], 1)[..., None]
    assert steps_to(paths).tolist() == [10, 41, 101, 101] and steps_to(paths[:, 0]) == 10
    assert steps_to(np.stack([0.5**k, 0.1*0.9**k], 1)) == 44  # the slower coordinate, against the larger start


def test_minibatches_are_an_epoch():
    x = np.eye(7)                                  # sample i touches weight i alone
    problem = LeastSquares(x, np.ones(7))
    path = _minibatch_descend(problem, np.zeros(7), 0.3, 3, 4, seed=5)
    assert path.shape == (1 + 4*2, 7)              # the incomplete third batch is dropped
    touched = (np.diff(path, axis=0) != 0).sum(1)
    assert (touched == 3).all()
    for e in range(4):
        both = np.diff(path, axis=0)[2*e:2*e + 2] != 0
        assert not (both[0] & both[1]).any()       # without replacement
    assert np.array_equal(path, _minibatch_descend(problem, np.zeros(7), 0.3, 3, 4, seed=5))
    assert not np.array_equal(path, _minibatch_descend(problem, np.zeros(7), 0.3, 3, 4, seed=6))


def test_the_full_batch_is_plain_descent_and_finds_the_solution():
    data = _line_data(200, seed=3)
    path = _minibatch_descend(data, (-1.0, 4.0), 0.5, 200, 500)
    assert np.allclose(path, descend(data.grad, (-1.0, 4.0), 0.5, 500), atol=1e-12)
    assert np.allclose(path[-1], data.solution(), atol=1e-8)
    assert np.allclose(data.loss(path[:5]), [data.loss(w) for w in path[:5]]) and data.loss(path).shape == (501,)
    assert np.allclose(hessian(data.grad, path[0]), data.x.T @ data.x/200, atol=1e-8)


def test_figure_in_words():
    fig = LearningRate(alpha=2.1, kappa=50)
    assert "-1.100 a step across" in fig.alt() and "never arrives" in fig.alt()
    fig.alpha = best_rate(1/50, 1)[0]
    assert f"{steps_needed(49/51):.0f} steps" in fig.alt()


def test_javascript_agrees():
    js = load("math/descent.js")
    for _ in range(20):
        kappa, lr = 10**rng.uniform(0, 3), rng.uniform(0, 2.2)
        curvatures, start = np.array([1/kappa, 1.0]), rng.uniform(-4, 4, 2)
        path = descend(lambda w, c=curvatures: c*w, start, lr, 150)
        got = np.array(js("descendQuadratic", curvatures, start, lr, 150))
        assert np.allclose(got, path, rtol=1e-9, atol=1e-9*np.abs(path).max())
        assert np.allclose(js("errorFactors", lr, curvatures), 1 - lr*curvatures, atol=1e-15)
        assert np.allclose(js("bestRate", 1/kappa, 1), best_rate(1/kappa, 1), atol=1e-15)
    for factor in (0, 1e-3, -0.5, 0.99, 0.9999):
        assert js("stepsNeeded", factor, 1e-3) == steps_needed(factor)
    assert js("stepsNeeded", -1.1, 1e-3) is None          # Infinity, as JSON has it


def test_one_step_in_words_and_numbers():
    for alpha, start, steps in ((0.3, -2.5, 3), (1.0, 2.0, 1), (2.1, 1.5, 10), (0.05, 0.0, 0)):
        fig = OneStep(alpha, start, steps)
        want = [start]
        for _ in range(steps): want.append(want[-1] - alpha*want[-1])
        assert np.array_equal(fig.path(), want)
        assert f"now w = {want[-1]:.2f}, loss {want[-1]**2/2:.2f}" in fig.alt()
        got = load("math/descent.js")("descendQuadratic", [1], [start], alpha, steps)
        assert np.allclose(np.ravel(got), want, rtol=0, atol=1e-12)
