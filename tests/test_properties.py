"Invariants that hold whatever the numbers are: transforms, averages, schedules, checkpoints, overlay, class maps."

import math
import os

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from cam_course import averages, schedules
from cam_course.base.checkpoints import load_checkpoint, save_checkpoint
from cam_course.base.geometric import AlternatingFlip, RandomCrop, RandomHorizontalFlip
from cam_course.base.rendering import heat_map, overlay
from cam_course.gradcam import normalize_maps, weighted_maps
from cam_course.transforms import Compose, Cutout, Normalize, RandomRotation

few = settings(max_examples=int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", 40)), deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
rates = st.floats(1e-6, 10)
signals = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def pixels(seed: int, n: int = 4, channels: int = 3, h: int = 16, w: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def dice(seed: int) -> torch.Generator: return torch.Generator().manual_seed(seed)


moves = st.one_of(
    st.integers(0, 6).map(lambda p: RandomCrop(16, p, 300)), st.floats(0, 1).map(RandomHorizontalFlip),
    st.floats(0, 180).map(lambda d: RandomRotation(d, fill=300)), st.integers(1, 20).map(lambda s: Cutout(s, 300)))


# transforms

@few
@given(st.lists(moves, min_size=1, max_size=3), seeds)
def test_moves_only_move(chain, seed):
    "Every output pixel is a pixel of the same image, all channels together, or the fill."
    x = torch.arange(2*16*16).reshape(2, 1, 16, 16).float()
    out = Compose(chain)(torch.cat([x, x + 0.5], 1), dice(seed))
    first, second = out.unbind(1)
    filled = first == 300
    assert torch.equal(second[~filled | (second != 300)], first[~filled | (second != 300)] + 0.5)
    for i in range(2):
        own = first[i][~filled[i]]
        assert ((own >= 256*i) & (own < 256*(i + 1)) & (own == own.round())).all()


@few
@given(st.lists(moves, min_size=1, max_size=3), seeds, st.integers(2, 6))
def test_a_batch_is_its_images(chain, seed, n):
    "Drawn once, the parameters give each image the same whether it comes alone or with others, fused or one by one."
    transform, x = Compose(chain), pixels(seed, n).float()
    params = transform.draw(n, 16, dice(seed))
    whole = transform.apply(x, **params)
    for i in range(n):
        assert torch.equal(transform.apply(x[i:i + 1], **{k: v[i:i + 1] for k, v in params.items()}), whole[i:i + 1])
    step = x
    for k, member in enumerate(chain):
        step = member.apply(step, **{key.split(".")[1]: v for key, v in params.items() if key.startswith(f"{k}.")})
    assert torch.equal(step, whole)


@few
@given(seeds)
def test_a_flip_undoes_itself(seed):
    flip, x = RandomHorizontalFlip(0.5), pixels(seed, 6)
    params = flip.draw(6, 16, dice(seed))
    assert torch.equal(flip.apply(flip.apply(x, **params), **params), x)


@few
@given(seeds, st.integers(0, 30))
def test_alternating_flips_show_both_sides_in_turn(seed, epoch):
    "Of two epochs in a row exactly one shows an image mirrored."
    x = pixels(seed % 1000, 8)
    sides = []
    for e in (epoch, epoch + 1):
        flip = AlternatingFlip().in_epoch(seed, e)
        sides.append(flip.apply(x, **flip.draw(8, 16, dice(e))))
    for a, b, own in zip(*sides, x, strict=True):
        assert torch.equal(a, b.flip(2)) and (torch.equal(a, own) or torch.equal(b, own))


@few
@given(st.integers(1, 24), seeds, st.integers(16, 20))
def test_cutout_removes_one_square(size, seed, width):
    "What is filled is the part inside the image of one size x size square."
    x = torch.ones(5, 1, 16, width)
    out = Cutout(size, 0)(x, dice(seed))
    for image in out[:, 0]:
        rows, cols = (image == 0).any(1).nonzero()[:, 0], (image == 0).any(0).nonzero()[:, 0]
        assert len(rows) and len(rows) <= size and len(cols) <= size
        assert (image[rows[0]:rows[-1] + 1, cols[0]:cols[-1] + 1] == 0).all()
        assert (image == 0).sum() == len(rows)*len(cols)
        assert len(rows) == size or rows[0] == 0 or rows[-1] == 15
        assert len(cols) == size or cols[0] == 0 or cols[-1] == width - 1


@few
@given(st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3), st.lists(st.floats(0.05, 1), min_size=3, max_size=3), seeds)
def test_normalize_and_back(mean, std, seed):
    normalize, x = Normalize(mean, std), pixels(seed)
    torch.testing.assert_close(normalize.inverse(normalize(x)), x/255, rtol=0, atol=2e-6)
    torch.testing.assert_close(normalize(x), normalize(x/255), rtol=1e-5, atol=1e-5)
    of = Normalize(x.float().div(255).mean((0, 2, 3)).tolist(), x.float().div(255).std((0, 2, 3)).tolist())
    assert of(x).mean((0, 2, 3)).abs().max() < 1e-5


# averages

@few
@given(signals, st.integers(1, 9), st.floats(0, 0.999), st.floats(-3, 3), st.floats(-1e3, 1e3))
def test_averages_are_linear_and_stay_inside(xs, n, beta, scale, shift):
    "Average(a x + b) = a average(x) + b, and it lies between the least and the greatest value seen."
    assume(n <= len(xs))
    x = np.array(xs)
    for average in (lambda v: averages.sma(v, n), lambda v: averages.wma(v, n), lambda v: averages.ewma(v, beta)):
        plain, moved = average(x), average(scale*x + shift)
        size = np.abs(x).max()*(1 + abs(scale)) + abs(shift) + 1
        np.testing.assert_allclose(moved, scale*plain + shift, rtol=0, atol=1e-9*size/(1 - beta))
        known = ~np.isnan(plain)
        slack = 1e-9*size/(1 - beta)
        assert (plain[known] >= np.minimum.accumulate(x)[known] - slack).all()
        assert (plain[known] <= np.maximum.accumulate(x)[known] + slack).all()


@few
@given(st.lists(st.floats(-1e6, 1e6), min_size=9, max_size=30), st.integers(1, 8))
def test_a_moving_average_forgets(xs, n):
    "Values older than the window make no difference."
    x, other = np.array(xs), np.array(xs)
    other[0] = 1e7
    for average in (averages.sma, averages.wma):
        np.testing.assert_allclose(average(x, n)[n:], average(other, n)[n:], rtol=1e-7, atol=1e-6)


# schedules

@few
@given(rates, st.integers(1, 200), st.floats(0, 1))
def test_cosine_falls_from_one_end_to_the_other(base, steps, part):
    low, at = base*part, np.arange(steps + 1)
    lr = schedules.cosine(at, base, steps, low)
    assert math.isclose(lr[0], base) and math.isclose(lr[-1], low, abs_tol=1e-12)
    assert (np.diff(lr) <= 1e-12*base).all()
    np.testing.assert_allclose(lr + lr[::-1], base + low, rtol=1e-9)      # half a cosine is odd about its middle


@few
@given(rates, st.integers(1, 50), st.integers(1, 50), st.floats(0.01, 0.99))
def test_cyclic_is_a_triangle(top, up, down, part):
    base, period = top*part, up + down
    at = np.arange(3*period + 1)
    lr = schedules.cyclic(at, base, top, up, down)
    assert (lr >= base*(1 - 1e-9)).all() and (lr <= top*(1 + 1e-9)).all()
    np.testing.assert_allclose(lr[:-period], lr[period:], rtol=1e-6, atol=1e-9*top)      # its period
    np.testing.assert_allclose(lr[[0, up, period]], [base, top, base], rtol=1e-9)
    slopes = np.diff(lr[:period + 1])
    np.testing.assert_allclose(slopes[:up], (top - base)/up, rtol=1e-6)
    np.testing.assert_allclose(slopes[up:], (base - top)/down, rtol=1e-6)


@few
@given(rates, st.integers(10, 200), st.floats(0.15, 0.8), st.sampled_from(["cos", "linear"]))
def test_one_cycle_has_one_peak(top, steps, pct, strategy):
    lr = schedules.one_cycle(np.arange(steps), top, steps, pct_start=pct, anneal_strategy=strategy)
    assert math.isclose(lr[0], top/25) and math.isclose(lr[-1], top/25e4, rel_tol=1e-6)
    signs = np.sign(np.diff(lr))
    assert lr.max() <= top*(1 + 1e-9) and np.count_nonzero(np.diff(signs[signs != 0])) == 1


@few
@given(st.sampled_from(["step", "time", "exponential", "cosine"]), rates, st.integers(1, 20), st.integers(0, 20))
def test_a_schedule_resumes_anywhere(kind, lr, total, at):
    "A schedule loaded from its state goes on exactly as the one that was not interrupted."
    make = {"step": lambda o: schedules.StepLR(o, 3), "time": lambda o: schedules.TimeDecayLR(o, 0.1),
            "exponential": lambda o: schedules.ExponentialLR(o, 0.9), "cosine": lambda o: schedules.CosineAnnealingLR(o, 20)}[kind]

    def fresh():
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr)
        return optimizer, make(optimizer)

    optimizer, schedule = fresh()
    for _ in range(at): schedule.step()
    second, resumed = fresh()
    resumed.load_state_dict(schedule.state_dict())
    second.load_state_dict(optimizer.state_dict())
    for _ in range(total):
        schedule.step()
        resumed.step()
        assert optimizer.param_groups[0]["lr"] == second.param_groups[0]["lr"] == resumed.get_last_lr()[0]


# checkpoints

leaves = st.one_of(st.none(), st.booleans(), st.integers(-2**60, 2**60), st.floats(allow_nan=False, allow_infinity=False),
                   st.text(max_size=8), st.lists(st.integers(0, 3), max_size=3).flatmap(lambda shape: st.sampled_from(
                       [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint8]).map(
                           lambda dtype: torch.arange(math.prod(shape)).reshape(shape).to(dtype))))
names = st.text(st.characters(exclude_categories=("Cs",)), max_size=6).filter(lambda n: n not in ("__tensor__", "__pairs__"))
keys = names | st.integers(-9, 9)
states = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8)


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor): return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict): return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list): return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@few
@given(states)
def test_a_checkpoint_holds_what_was_saved(tmp_path_factory, state):
    path = tmp_path_factory.getbasetemp()/"state.safetensors"
    save_checkpoint(path, state)
    assert same(state, load_checkpoint(path))
    save_checkpoint(path, load_checkpoint(path))
    assert same(state, load_checkpoint(path))


# overlay and class maps

def plane(seed: int, h: int = 8, w: int = 8) -> torch.Tensor: return torch.rand(h, w, generator=dice(seed))


@few
@given(seeds, st.floats(0, 1), st.integers(2, 9), st.integers(2, 9))
def test_overlay_is_a_mean_of_picture_and_map(seed, opacity, h, w):
    "Each pixel lies between image and heat map, at the share asked for; the inputs stay as they are."
    image, cam = pixels(seed, 1, 3, h, w)[0], plane(seed, h, w)
    before = image.clone(), cam.clone()
    out, heat, own = overlay(image, cam, opacity), heat_map(cam), image.permute(1, 2, 0).numpy()
    assert out.shape == (h, w, 3) and out.dtype == np.uint8
    np.testing.assert_allclose(out, own + opacity*(heat.astype(float) - own), rtol=0, atol=0.5 + 1e-9)
    assert np.array_equal(overlay(image, cam, 0), own) and np.array_equal(overlay(image, cam, 1), heat)
    assert torch.equal(image, before[0]) and torch.equal(cam, before[1])
    close = overlay(image.float()/255, cam, opacity)
    np.testing.assert_allclose(close*255, out, rtol=0, atol=0.51)


@few
@given(seeds, st.floats(1e-3, 1e3), st.integers(2, 7), st.integers(8, 20))
def test_maps_of_any_unit_look_the_same(seed, unit, small, large):
    "A class map is drawn from 0 to 1; its unit doesn't matter, and no positive evidence is a black map."
    raw = torch.randn(3, small, small, generator=dice(seed))
    maps = normalize_maps([raw], (large, large))
    assert maps.shape == (3, large, large) and maps.min() >= 0 and maps.max() <= 1
    torch.testing.assert_close(normalize_maps([raw*unit], (large, large)), maps, rtol=0, atol=2e-3 if unit < 0.1 else 1e-4)
    assert not normalize_maps([-raw.abs()], (large, large)).any()
    assert torch.equal(normalize_maps([raw, raw], (large, large)), maps) or \
        torch.allclose(normalize_maps([raw, raw], (large, large)), maps, atol=1e-6)


@few
@given(seeds, st.integers(1, 5), st.floats(-4, 4))
def test_weighted_maps_are_sums(seed, channels, factor):
    acts, weights = torch.randn(2, channels, 4, 4, generator=dice(seed)), torch.randn(3, 2, channels, generator=dice(seed + 1))
    expected = torch.einsum("knc,nchw->nkhw", weights, acts)
    torch.testing.assert_close(weighted_maps(acts, weights), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weighted_maps(acts, weights*factor), expected*factor, rtol=1e-4, atol=1e-4)


def test_the_properties_can_fail():
    "A transform that mixes neighbouring images is noticed."
    class Mixing(RandomHorizontalFlip):
        fusible = False

        def apply(self, x, **params): return super().apply(x.roll(1, 0), **params)

    transform, x = Mixing(0.5), pixels(0).float()
    params = transform.draw(4, 16, dice(0))
    with pytest.raises(AssertionError):
        assert torch.equal(transform.apply(x[:1], flip=params["flip"][:1]), transform.apply(x, **params)[:1])
