"""Edges of the averages; the notebook itself holds them to closed forms and pandas."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cam_course.averages import (
    BetaSlider,
    MouseSmoother,
    _gesture,
    _noise_left,
    _noisy_wave,
    _responsive,
    _tracking_error,
    effective_window,
    ewma,
    ewma_weights,
    lag,
    sma,
    wma,
)

signals = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)
betas = st.floats(0, .999)


@settings(max_examples=200, deadline=None)
@given(signals, betas)
def test_ewma_is_pandas_ewm(xs, beta):
    scale, bare = max(1, np.abs(xs).max()), ewma(xs, beta, debias=False)[-1]
    expected = pd.Series(xs, dtype=float).ewm(alpha=1 - beta).mean()
    np.testing.assert_allclose(ewma(xs, beta)/scale, expected/scale, rtol=0, atol=1e-12)
    assert bare/scale == pytest.approx(ewma_weights(len(xs), beta, debias=False) @ xs/scale, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(signals, betas)
def test_a_debiased_average_stays_between_the_extremes(xs, beta):
    ys, slack = ewma(xs, beta), 1e-9*max(1, np.abs(xs).max())
    assert (ys >= np.minimum.accumulate(xs) - slack).all() and (ys <= np.maximum.accumulate(xs) + slack).all()


@settings(max_examples=200, deadline=None)
@given(signals, st.integers(1, 60))
def test_windows_are_pandas_rolling(xs, n):
    if n > len(xs):
        with pytest.raises(ValueError, match=f"between 1 and the {len(xs)} points there are, got {n}"): sma(xs, n)
        return
    rolling, scale = pd.Series(xs, dtype=float).rolling(n), 1e-12*max(1, np.abs(xs).max())
    exact = rolling.apply(lambda w: np.average(w, weights=np.arange(1, n + 1)), raw=True)
    np.testing.assert_allclose(sma(xs, n), rolling.apply(np.mean, raw=True), rtol=0, atol=scale)
    np.testing.assert_allclose(wma(xs, n), exact, rtol=0, atol=scale)


@settings(max_examples=200, deadline=None)
@given(signals, st.floats(.001, 10), st.floats(0, 100))
def test_the_adaptive_average_never_overshoots(xs, snap, sleep):
    ys = _responsive(xs, snap, sleep)
    before, slack = np.r_[xs[0], ys[:-1]], 1e-12*max(1, np.abs(xs).max())
    assert (np.minimum(before, xs) - slack <= ys).all() and (ys <= np.maximum(before, xs) + slack).all()


def test_shapes_are_kept_and_inputs_left_alone():
    xs = np.random.default_rng(0).normal(size=(20, 3, 2))
    copy = xs.copy()
    for out in (ewma(xs), sma(xs, 4), wma(xs, 4)):
        assert out.shape == xs.shape and out.dtype == np.float64
    np.testing.assert_array_equal(xs, copy)
    np.testing.assert_array_equal(ewma(xs)[:, 1, 0], ewma(xs[:, 1, 0]))
    assert ewma([]).shape == (0,)
    assert ewma(np.arange(4), 0).tolist() == [0, 1, 2, 3]
    assert ewma(np.arange(4, dtype=np.int8), .5).dtype == np.float64


@pytest.mark.parametrize("call, words", [
    (lambda: ewma([1.], 1.), "beta must be in \\[0, 1\\), got 1.0"),
    (lambda: ewma([1.], -.1), "beta must be in"),
    (lambda: ewma(3.), "must be a sequence"),
    (lambda: effective_window(1), "beta must be in"),
    (lambda: lag(float("nan")), "beta must be in"),
    (lambda: sma([1, 2], 0), "got 0"),
    (lambda: wma([1, 2], -3), "n must be"),
    (lambda: _responsive([]), "with values in it"),
    (lambda: _responsive([[1.]]), "with values in it"),
    (lambda: _responsive([1.], snap=0), "snap must be > 0"),
    (lambda: BetaSlider([1.]), "at least 2 points"),
    (lambda: BetaSlider([1., 2.], beta=1.), "beta must be in"),
    (lambda: MouseSmoother(beta=2), "beta must be in"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words): call()


def test_the_three_readings_of_beta_fit_the_weights():
    for beta in (0., .3, .9, .99):
        w = ewma_weights(5000, beta, debias=False)[::-1]
        assert w.sum() == pytest.approx(1)
        assert (w*np.arange(5000)).sum() == pytest.approx(lag(beta))
        assert (w**2).sum() == pytest.approx(_noise_left(beta))
        assert (1 - w[0])**effective_window(beta) == pytest.approx(beta**(1/(1 - beta)))


def test_tracking_error_is_pure_noise_for_a_still_signal_and_pure_delay_without_noise():
    assert _tracking_error(.9, 1e9, noise=2) == pytest.approx(4*_noise_left(.9))
    truth, _ = _noisy_wave(4000, period=80, noise=0)
    assert np.mean((ewma(truth, .9) - truth)[800:4000]**2) == pytest.approx(_tracking_error(.9, 80, noise=0), rel=1e-6)


def test_steps_outside_the_signal_are_brought_in():
    assert BetaSlider([1., 2., 3.], step=99).step == 3 and BetaSlider([1., 2., 3.], step=-5).step == 1


def test_the_gesture_stays_on_the_pad():
    hand = _gesture()
    assert hand.shape == (240,) and hand.min() >= 0 and hand.max() <= 1023
    assert np.abs(np.diff(hand)).max() > 100 and (np.diff(hand) == 0).sum() > 60      # fast and resting parts
