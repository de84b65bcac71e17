"""cam_course.gradient_noise beyond what its chapter asserts."""
import numpy as np
import pytest
import torch
from figpage import opened
from jsbox import load

from cam_course.base.core import counter_normal
from cam_course.gradient_noise import NoiseFloor, critical_batch, expected_loss, grow_batch, noise_floor

rng = np.random.default_rng(0)


def test_expected_loss_of_many_runs_is_the_single_runs():
    lrs_, mus = rng.uniform(0.01, 0.5, (40, 3)), rng.uniform(0, 0.9, (40, 3))
    together = expected_loss(lrs_, mus, [0.1, 1.0], 0.3, np.arange(1, 41)[:, None])
    for i in range(3):
        alone = expected_loss(lrs_[:, i], mus[:, i], [0.1, 1.0], 0.3, np.arange(1, 41))
        assert np.array_equal(together[:, i], alone)
    flat = expected_loss(np.full(3000, 0.1), 0.9)                     # the momentum chapter's floor
    assert 2*flat[-1] == pytest.approx(0.1*1.9/(0.1*(2*1.9 - 0.1)), rel=1e-12)


def test_growing_the_batch_keeps_the_noise_scale_and_the_examples():
    phases = [(0.4, 4000), (0.1, 4000), (0.03, 4000), (0.001, 4000)]
    for most in (None, 100):
        grown = grow_batch(phases, 32, most)
        for (lr, examples), (rate, batch, updates) in zip(phases, grown, strict=True):
            assert rate/batch == pytest.approx(lr/32, rel=1e-12) and abs(batch*updates - examples) <= batch
            assert most is None or batch <= most
    assert grow_batch(phases, 32)[1] == (0.4, 128, 31) and grown[3] == (pytest.approx(0.001*100/32), 100, 40)


def test_the_floor_is_where_the_mean_loss_ends():
    for lr, mu, batch, sd, curved in ((0.1, 0, 1, 1, 1), (0.3, 0.9, 7, 0.2, 2), (1.9, 0, 3, 1, 1), (2.5, 0.5, 1, 2, 0.7)):
        path = expected_loss(np.full(6000, lr), mu, [curved], sd, batch)
        assert path[-1] == pytest.approx(noise_floor(lr, mu, batch, sd, curved), rel=1e-9)
    assert noise_floor([0.1, 2.0, 3.0], [0, 0, 0.5]).tolist() == [0.1/(2*1.9), np.inf, np.inf]
    assert noise_floor(0.01, 0.9)/noise_floor(0.1) == pytest.approx(1, rel=0.06)    # one noise scale, nearly one floor
    assert noise_floor(1e-6, curvature=100) == pytest.approx(noise_floor(1e-6), rel=1e-4)


def test_the_critical_batch_of_an_exact_hyperbola_is_found():
    sizes = np.array([1, 4, 30, 200, 5000])
    assert critical_batch(sizes, 30*(1 + 220/sizes)) == pytest.approx((30, 220), rel=1e-4)
    assert critical_batch([1, *sizes], [np.inf, *(30*(1 + 220/sizes))]) == pytest.approx((30, 220), rel=1e-4)
    with pytest.raises(ValueError, match="needs two batch sizes or more that arrived, got 1"):
        critical_batch([8, 8, 16], [100, 110, np.inf])


FLOORS = ({}, {"lr": 0.013, "beta": 0.9, "seed": 3}, {"lr": 1.7, "batch": 32, "steps": 77}, {"batch": 256, "beta": 0.95, "lr": 0.05})


def test_javascript_of_the_floor_agrees():
    js = load("math/gradient_noise.js")
    for settings in FLOORS:
        fig = NoiseFloor(**settings)
        noise = counter_normal(torch.tensor([fig.seed]), fig.steps, torch.float64)[0].tolist()
        np.testing.assert_allclose(js("noisyPositions", 3, fig.lr, fig.beta, fig.batch, noise), fig.path(), rtol=0, atol=1e-9)
        mean = js("expectedLoss", 3, fig.lr, fig.beta, fig.batch, fig.steps)
        np.testing.assert_allclose(mean, fig.mean(), rtol=0, atol=1e-9)
        assert js("noiseFloor", fig.lr, fig.beta, fig.batch) == pytest.approx(fig.floor(), rel=1e-12)
        assert js("arrival", mean, fig.floor()) == fig.arrival()
    assert NoiseFloor(lr=0.01).arrival() == -1 and "not there after 400 steps" in NoiseFloor(lr=0.01).alt()
    for wrong in ({"lr": 2}, {"batch": 0}, {"beta": 0.96}, {"steps": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))): NoiseFloor(**wrong)


def test_the_sliders_move_the_floor(browser, tmp_path):
    says = "document.querySelector('.cc-readout').textContent"
    with opened(browser, [NoiseFloor()], tmp_path) as page:
        page.wait_for_function(f"{says}.startsWith('Noise floor: loss 0.026,')")
        assert page.evaluate(says).endswith(f"after {NoiseFloor().arrival()} steps, which use {NoiseFloor().arrival()} examples.")
        page.focus("input[data-trait=batch]")
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"{says}.startsWith('Noise floor: loss 0.013,')")
        page.focus("input[data-trait=lr]")
        page.keyboard.press("Home")
        page.wait_for_function(f"{says}.endsWith('The mean is not there after 400 steps.')")
