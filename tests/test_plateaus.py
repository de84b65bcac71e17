"""Counter-based noise against splitmix64, the transform, perturbed gradients; the figure in V8 and a browser."""

import io
import math
import re

import chapters
import numpy as np
import pytest
import torch
from figpage import check_playing, drawn, opened
from jsbox import load
from torch import nn

from cam_course import saddles as N
from cam_course.base.core import counter_normal
from cam_course.base.geometric import RandomCrop, RandomHorizontalFlip
from cam_course.optimizers import SGD
from cam_course.saddles import FlatGround, NoiseEscape, PerturbedSGD, _noise_std, perturb_gradients
from cam_course.transforms import AddGaussianNoise, Compose, Transform

NOTEBOOK = chapters.chapter("saddles")


# ---- numbers that can be looked up


def splitmix(z: int) -> int:
    "The finaliser in whole numbers, as printed by its authors (Steele, Lea & Flood 2014)."
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_hash_normal_is_splitmix64_and_box_muller():
    "Also for negative and huge seeds: the 64-bit wrap-around of torch's int64 is what the algorithm asks for."
    for seed in (0, 1, 12345, 2**62 + 7, -1):
        pairs = []
        for i in range(1, 5):
            z = splitmix((splitmix(seed % 2**64) + i * 0x9E3779B97F4A7C15) % 2**64)
            r, turn = math.sqrt(-2 * math.log(((z >> 32) + 0.5) / 2**32)), 2 * math.pi * (z % 2**32) / 2**32
            pairs.append((r * math.cos(turn), r * math.sin(turn)))
        expected = [c for c, _ in pairs] + [s for _, s in pairs]
        found = counter_normal(torch.tensor([seed]), 7, torch.float64)[0]
        assert found.tolist() == pytest.approx(expected[:7], abs=1e-14)


def test_hash_normal_is_normal_and_independent():
    from scipy import stats

    z = counter_normal(torch.arange(500), 2001)
    assert z.shape == (500, 2001) and z.dtype == torch.float32 and torch.isfinite(z).all()
    assert stats.kstest(z[:, :400].flatten().double().numpy(), "norm").pvalue > 1e-3
    n = z.numel()
    assert (
        abs(z.mean()) < 4 / n**0.5
        and abs(z.var() - 1) < 4 * (2 / n) ** 0.5
        and abs((z**4).mean() - 3) < 4 * (96 / n) ** 0.5
    )
    for a, b in ((z[:-1], z[1:]), (z[:, :-1], z[:, 1:]), (z[:, :1000], z[:, 1001:])):  # seeds, places, cosine and sine
        assert abs((a * b).mean()) < 4 / a.numel() ** 0.5
    assert counter_normal(torch.arange(3), 1).shape == (3, 1)


# ---- the transform


def batch(dtype=torch.uint8, n=20):
    x = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return x if dtype == torch.uint8 else x.to(dtype) / 255


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_noise_of_an_image_depends_on_its_seed_alone(dtype):
    x, t = batch(dtype), AddGaussianNoise(0.1, mean=0.05)
    seed = t.draw(20, 8, torch.Generator().manual_seed(1))["seed"]
    before, whole = x.clone(), t.apply(x, seed)
    order = torch.randperm(20)
    assert torch.equal(t.apply(x[order], seed[order]), whole[order])
    assert torch.equal(torch.cat([t.apply(x[:3], seed[:3]), t.apply(x[3:], seed[3:])]), whole)
    assert whole.dtype == dtype and whole.shape == x.shape and torch.equal(x, before)
    assert seed.dtype == torch.int64 and len(seed.unique()) == 20


def test_noise_has_its_mean_and_std_in_the_unit_of_the_images():
    grey = torch.full((200, 3, 16, 16), 0.5)
    t = AddGaussianNoise(0.1, mean=0.02)
    for x, unit in ((grey, 1), (torch.full_like(grey, 128, dtype=torch.uint8), 255)):
        added = (t(x, torch.Generator().manual_seed(0)).double() - x.double()) / unit
        assert added.mean().item() == pytest.approx(0.02, abs=1e-3) and added.std().item() == pytest.approx(
            0.1, abs=1e-3
        )
    assert AddGaussianNoise(5.0)(torch.full((4, 1, 8, 8), 128, dtype=torch.uint8)).unique().numel() > 2
    assert AddGaussianNoise(0.0)(batch()).equal(batch())


def test_noise_in_a_compose():
    "Drawn with the other transforms, by prefixed name, each sample its own seed."
    t = Compose([RandomCrop(8, padding=2), RandomHorizontalFlip(), AddGaussianNoise(0.1)])
    params = t.draw(20, 8, torch.Generator().manual_seed(0))
    assert params["2.seed"].shape == (20,)
    x = batch()
    assert torch.equal(t.apply(x, **params)[5:9], t.apply(x[5:9], **{k: v[5:9] for k, v in params.items()}))


def test_noise_is_a_transform_as_the_others_are():
    t = AddGaussianNoise(0.1)
    assert isinstance(t, Transform) and t.in_epoch(0, 3) is t and t.output_size(8) == (8, 8) and set(t.draw(4)) == set(t.drawn)
    with pytest.raises(TypeError, match="images must be a tensor .* got ndarray"): t(np.zeros((4, 1, 8, 8)))


def test_draw_takes_the_global_generator_when_none_is_given():
    torch.manual_seed(3)
    first = AddGaussianNoise(1.0).draw(4)["seed"]
    torch.manual_seed(3)
    assert torch.equal(AddGaussianNoise(1.0).draw(4)["seed"], first)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: AddGaussianNoise(-0.1), "std must be a number >= 0, got -0.1"),
        (lambda: AddGaussianNoise(float("nan")), "std must be"),
        (lambda: AddGaussianNoise(0.1).apply(batch(), torch.arange(3)), "3 seeds for 20 images"),
        (
            lambda: AddGaussianNoise(0.1).apply(batch().long(), torch.arange(20)),
            "images must be uint8 or float, got torch.int64",
        ),
        (lambda: perturb_gradients([], -1.0), "std must be"),
        (lambda: PerturbedSGD([torch.zeros(1)], eta=-1), "eta must be"),
        (lambda: PerturbedSGD([torch.zeros(1)], lr=-1), "lr must be"),
        (lambda: NoiseEscape("sadle"), "Did you mean 'saddle'"),
        (lambda: NoiseEscape(decay="slow"), "unknown decay 'slow'"),
        (lambda: FlatGround("wel"), "Did you mean 'well'"),
        (lambda: FlatGround(distance=7), "distance must be a number >= 3 and <= 5, got 7"),
        (lambda: FlatGround(offset=0.0), "offset must be"),
        (lambda: FlatGround(lr=2.0), "lr must be"),
        (lambda: FlatGround(steps=2.5), "steps must be a whole number"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_noise_is_the_same_on_the_gpu():
    x, t = batch(torch.float32), AddGaussianNoise(0.1)
    seed = t.draw(20, 8, torch.Generator().manual_seed(1))["seed"]
    torch.testing.assert_close(t.apply(x.cuda(), seed).cpu(), t.apply(x, seed), rtol=0, atol=1e-6)


# ---- noise on the gradient


def test_perturbed_gradients_have_the_noise_asked_for():
    layer = nn.Linear(100, 200, bias=False)
    unused = nn.Parameter(torch.zeros(3))
    layer.weight.grad = torch.ones_like(layer.weight)
    perturb_gradients([layer.weight, unused], 0.3, torch.Generator().manual_seed(0))
    assert unused.grad is None
    assert layer.weight.grad.mean().item() == pytest.approx(
        1, abs=0.01
    ) and layer.weight.grad.std().item() == pytest.approx(0.3, abs=0.01)


def test_noise_std_is_the_published_schedule():
    assert _noise_std(0, 0.3) == pytest.approx(0.3**0.5) and _noise_std(99, 1.0) == pytest.approx(100**-0.275)
    assert _noise_std([0, 3], 0.01, gamma=0).tolist() == pytest.approx([0.1, 0.1])


def run(optimizer, params, steps):
    for _ in range(steps):
        for p in params:
            p.grad = p.detach().clone()
        optimizer.step()


def fresh():
    return [
        torch.ones(4, 3, dtype=torch.float64, requires_grad=True),
        torch.ones(4, 3, dtype=torch.float64, requires_grad=True),
    ]


def test_perturbed_sgd_goes_on_exactly_and_leaves_the_generator_alone():
    params = fresh()
    optimizer = PerturbedSGD(params, lr=0.1, eta=0.3, seed=5)
    rng = torch.get_rng_state()
    run(optimizer, params, 10)
    assert torch.equal(torch.get_rng_state(), rng)
    assert not torch.equal(params[0], params[1])  # two tensors of one shape have noise of their own
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "params": [p.detach() for p in params]}, file)
    run(optimizer, params, 10)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    again = [p.requires_grad_() for p in saved["params"]]
    resumed = PerturbedSGD(again, lr=0.7)
    resumed.load_state_dict(saved["optimizer"])
    run(resumed, again, 10)
    assert all(torch.equal(a, b) for a, b in zip(params, again, strict=True))


def test_perturbed_sgd_without_noise_is_sgd_and_takes_a_closure():
    a, b = fresh(), fresh()
    run(PerturbedSGD(a, lr=0.1, eta=0, weight_decay=0.1), a, 20)
    run(SGD(b, lr=0.1, weight_decay=0.1), b, 20)
    assert torch.equal(a[0], b[0])
    optimizer = PerturbedSGD(a, lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (a[0] ** 2).sum() + (a[1] ** 2).sum()
        loss.backward()
        return loss

    before = closure().item()
    assert optimizer.step(closure).item() == before and not torch.equal(a[0], b[0])


# ---- the figure


def test_javascript_agrees_with_python():
    js = load("math/noise.js")
    for seed in (0, 11, 2**52 + 1):
        np.testing.assert_allclose(
            js("hashNormal", seed, 101), counter_normal(torch.tensor([seed]), 101, torch.float64)[0], rtol=0, atol=1e-12
        )
    for name, start in (("saddle", [-2.0, 0.0]), ("well", [2.5, 0.3])):
        for decay in ("none", "power", "exponential"):
            figure = NoiseEscape(name, start=start, lr=0.2, std=0.1, decay=decay, steps=80)
            paths = figure.paths()
            for walker in (None, 0, 5):
                noise = None if walker is None else js("hashNormal", walker, 160)
                mine = js("noisyDescent", name, start, 0.2, 0.1, decay, 80, noise)
                np.testing.assert_allclose(mine, paths[:, 0 if walker is None else walker + 1], rtol=0, atol=1e-9)


def test_the_two_surfaces_are_python_s():
    js = load("math/noise.js")
    for name, (surface, _) in N._ESCAPES.items():
        rng = np.random.default_rng(0)
        for w in rng.uniform(-2, 2, (5, 2)):
            path = js("noisyDescent", name, w.tolist(), 1.0, 0.0, "none", 1, None)
            np.testing.assert_allclose(np.subtract(path[0], path[1]), surface.grad(w), rtol=0, atol=1e-12)
            numeric = [(surface(w + d) - surface(w - d)) / 2e-6 for d in np.eye(2) * 1e-6]
            np.testing.assert_allclose(numeric, surface.grad(w), atol=1e-8)


def test_escape_is_driven_by_keyboard_mouse_and_controls(browser, tmp_path):
    figure = NoiseEscape()
    with opened(browser, [figure], tmp_path) as page:
        said = page.inner_text(".cc-readout")
        assert said.startswith(f"Noise 0.1: {figure.escaped()} of 12 walkers escape") and "ends at 0.000" in said
        before = drawn(page)
        page.focus(".cc-handle")
        page.keyboard.press("ArrowUp")  # off the ridge: no noise is needed any more
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('ends at −0.250')")
        assert (moved := drawn(page)) != before
        box = page.locator(".cc-knob").bounding_box()
        page.mouse.move(box["x"] + 9, box["y"] + 9)
        page.mouse.down()
        page.mouse.move(box["x"] + 120, box["y"] - 40, steps=4)
        page.mouse.up()
        page.wait_for_timeout(100)
        assert drawn(page) != moved
        page.check("input[value=well]", force=True)
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('Noise 0.1: 0 of 12')")
        page.focus("input[data-trait=std]")
        for _ in range(20):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("!document.querySelector('.cc-readout').textContent.startsWith('Noise 0.1:')")


@pytest.mark.parametrize("wish, moves", [("no-preference", True), ("reduce", False)])
def test_escape_walks_only_where_motion_is_welcome(browser, tmp_path, wish, moves):
    with opened(browser, [NoiseEscape(steps=80)], tmp_path, reduced_motion=wish) as page:
        check_playing(page, "Walk", moves)


# ---- four optimizers on flat ground


@pytest.mark.parametrize(
    "settings", [{}, {"distance": 3.3, "lr": 0.5}, {"place": "saddle"}, {"place": "saddle", "offset": 1e-9, "lr": 0.02}]
)
def test_flat_ground_in_javascript_is_pythons(settings):
    "Until each optimizer has left; what RMSProp and Adam do in the minimum, hopping, is chaotic."
    js, figure = load("math/flat.js"), FlatGround(steps=3000, **settings)
    surface, below = N._ESCAPES[figure.place]
    np.testing.assert_allclose(js("flatStart", figure.place, figure.distance, figure.offset), figure.start(), rtol=1e-15)
    for name, off in figure.leaves().items():
        mine = js("leaveFlat", figure.place, name, figure.start(), figure.lr, figure.steps)
        assert mine["off"] == off, name
        path = figure.path(name)
        upto = 1 + (figure.steps if off is None else off)
        np.testing.assert_allclose(mine["path"][:upto], path[:upto], rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(mine["losses"][:upto], surface(path[:upto]), rtol=1e-9, atol=1e-9)
        assert off is None or (surface(path[off]) < below <= surface(path[:off])).all()


def test_leaving_a_saddle_takes_the_logarithm():
    "Plain descent: a tenth of the distance costs ln 10/ln(1 + rate) steps; dividing by the slope's size costs none."
    near, nearer = (FlatGround("saddle", offset=d, steps=500).leaves() for d in (1e-4, 1e-7))
    assert nearer["sgd"] - near["sgd"] == pytest.approx(3 * math.log(10) / math.log(1.1), abs=1)
    assert abs(nearer["adam"] - near["adam"]) <= 1
    assert "SGD 98, Momentum 35, RMSProp" in FlatGround("saddle", steps=500).alt()
    assert "SGD not in 300 steps" in FlatGround(steps=300).alt()


def test_leaving_is_driven_by_keyboard_and_controls(browser, tmp_path):
    with opened(browser, [FlatGround()], tmp_path) as page:
        assert page.inner_text(".cc-readout") == "Steps to the well at the rate 0.1: SGD 2,200, Momentum 263, RMSProp 3, Adam 22."
        before = drawn(page)
        page.focus("input[data-trait=distance]")
        page.keyboard.press("End")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('SGD not in 3,000 steps')")
        assert drawn(page) != before
        page.check("input[value=saddle]", force=True)
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('Steps off the ridge')")
        said = page.inner_text(".cc-readout")
        page.focus("input[data-trait=offset]")
        page.keyboard.press("Home")
        page.wait_for_function("t => document.querySelector('.cc-readout').textContent !== t", arg=said)
        assert page.locator("input[data-trait=distance]").is_hidden()


@pytest.mark.parametrize("wish, moves", [("no-preference", True), ("reduce", False)])
def test_leaving_walks_only_where_motion_is_welcome(browser, tmp_path, wish, moves):
    with opened(browser, [FlatGround(steps=40)], tmp_path, reduced_motion=wish) as page:
        check_playing(page, "Walk", moves)
