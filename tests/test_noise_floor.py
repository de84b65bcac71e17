"""cam_course.gradient_noise beyond what its chapter asserts."""
import numpy as np
import pytest

from cam_course.gradient_noise import expected_loss, grow_batch

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
