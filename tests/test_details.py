"""Small things that only a wrong program would show: defaults, borders, words. Each was once a surviving mutant (see mutants.py)."""
import inspect

import numpy as np
import pytest
import torch
from torch import nn

from cam_course import optimizers
from cam_course.base.geometric import AlternatingFlip, RandomCrop, RandomHorizontalFlip
from cam_course.descent import SURFACES
from cam_course.optimizers import SGD, OptimizerRace, _first_difference, _race_score
from cam_course.transforms import Compose, Normalize, RandomRotation

SAME = ("SGD", "Adagrad", "Adadelta", "Adam", "AdamW", "Muon")   # torch has Muon since 2.9
TORCH = {n: n for n in SAME if hasattr(torch.optim, n)} | {"Nesterov": "SGD", "RMSProp": "RMSprop"}


# ---- optimizers

@pytest.mark.parametrize("name", TORCH)
def test_defaults_are_torchs(name):
    ours, theirs = (inspect.signature(c).parameters for c in (getattr(optimizers, name), getattr(torch.optim, TORCH[name])))
    shared = set(ours) & set(theirs) - {"params", "momentum", "self"}
    assert "lr" in shared
    assert {k: ours[k].default for k in shared} == {k: theirs[k].default for k in shared}


def test_the_comparison_changes_rates_and_gradients_as_it_says():
    "Both optimizers get the factors at their steps and no other; gradients are small, ordinary and large, and one is missing at times."
    seen = []

    class Watched(SGD):
        def step(self, closure=None):
            params = self.param_groups[0]["params"]
            seen.append((self.param_groups[0]["lr"], [w.detach().clone() for w in params], [w.grad for w in params]))
            seen[-1][2][:] = [None if g is None else g.clone() for g in seen[-1][2]]
            return super().step(closure)

    assert _first_difference(lambda p: SGD(p, lr=0.1), lambda p: Watched(p, lr=0.1), steps=4, lr_factors={3: 0.5}) is None
    assert [lr for lr, *_ in seen] == [0.1, 0.1, 0.05, 0.05]
    rng = torch.Generator().manual_seed(0)
    shapes = ((3, 4), (5,), ())
    start = [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]
    assert all(torch.equal(a, b) for a, b in zip(start, seen[0][1], strict=True))
    for step, (_, weights, grads) in enumerate(seen, 1):
        noise = [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]
        expected = [scale*(w + n) for scale, w, n in zip((1e-3, 1.0, 30.0), weights, noise, strict=True)]
        if step == 3: expected[2] = None
        for got, want in zip(grads, expected, strict=True):
            assert got is want is None or torch.equal(got, want)


@pytest.mark.parametrize("name", ["beale", "rosenbrock", "ravine"])
def test_a_path_far_out_of_the_picture_has_no_score(name):
    surface = SURFACES[name]
    x0, x1, y0, y1 = surface.limits
    middle, half = np.array([(x0 + x1)/2, (y0 + y1)/2]), np.array([x1 - x0, y1 - y0])
    for side in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        near, far = (np.array([middle, middle + f*half*side]) for f in (0.99, 1.01))
        assert np.isfinite(_race_score(surface, near)) and _race_score(surface, far) == np.inf, side


def test_words_of_the_race():
    assert [optimizers._short(gap) for gap in (np.nan, 9e-13, 1e-12, 0.5)] == ["gone", "under 1e-12", "1e-12", "0.5"]


def test_lines_of_the_race_are_named():
    figure = optimizers._draw_race(OptimizerRace())
    named = " ".join(t.get_text() for t in figure.axes[1].texts)
    assert all(label in named for label in OptimizerRace().results())


# ---- transforms

def test_defaults_of_the_moves():
    assert repr(AlternatingFlip()) == "AlternatingFlip(seed=0, epoch=0)"
    white = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
    assert RandomCrop(4).padding == 0
    assert set(RandomCrop(12, 2)(white).unique().tolist()) == {0, 255}
    turned = RandomRotation((45, 45))(white)
    assert set(turned.unique().tolist()) == {0, 255}


@pytest.mark.parametrize("degrees", [(-400, 0), (0, 400), 400, -400])
def test_a_turn_beyond_the_full_circle_is_refused(degrees):
    wrong = degrees if isinstance(degrees, int) else next(d for d in degrees if abs(d) > 360)
    with pytest.raises(ValueError, match=str(wrong)): RandomRotation(degrees)


def test_more_moves_than_an_image_has_pixels():
    "Three mirrorings of an image of two pixels are one."
    x = torch.tensor([[[[1, 2]]]], dtype=torch.uint8)
    assert Compose([RandomHorizontalFlip(1.0)]*3)(x).tolist() == [[[[2, 1]]]]


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_normalize_keeps_channels_last(channels):
    x = torch.randint(0, 256, (2, channels, 5, 6), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    z = Normalize((0.5,)*channels, (0.25,)*channels)(x)
    assert z.is_contiguous(memory_format=torch.channels_last) and z.dtype == torch.float32
    torch.testing.assert_close(z, (x/255 - 0.5)/0.25)
    assert nn.functional.conv2d(z, torch.ones(1, channels, 1, 1)).shape == (2, 1, 5, 6)
