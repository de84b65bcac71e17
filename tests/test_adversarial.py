"""cam_course.adversarial: the box to the last bit, both directions, wrong use, no trace on the model, JavaScript."""

import copy
from base64 import b64encode
from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from figpage import opened
from jsbox import load
from scipy import stats
from torch import nn

from cam_course.adversarial import (
    AttackExplorer,
    PixelModel,
    _attack_path,
    _attack_trace,
    _image_gradient,
    _uniform_noise,
    _wilson,
    accuracy_under,
    explore_attack,
    fgsm,
    pgd,
    pixel_bounds,
)
from cam_course.base.rendering import enlarge_map, heat_map, overlay
from cam_course.resnet import ResNet18
from cam_course.transforms import Normalize

NORMALIZE = Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
EPS = (0.0, 1e-9, 0.1, 0.25, 1/3, 1/255, 8/255, 16/255, 1.0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return PixelModel(ResNet18(width=4).eval(), NORMALIZE)


@pytest.fixture(scope="module")
def images():
    "Odd float32 values, whole grey levels, and the corners of [0, 1]."
    x = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    x[2:4] = (255*x[2:4]).round()/255
    x[4], x[5] = x[4].round(), x[5]*1e-3
    return x


labels = torch.tensor([0, 1, 2, 3, 4, 5])


def exactly_inside(adv, x, eps):
    "In exact arithmetic of the stored numbers, not in floating point."
    assert adv.dtype == torch.float32 and adv.min() >= 0 and adv.max() <= 1
    far = (adv.double() - x.double()).abs().flatten().argsort(descending=True)[:200].tolist()
    a, b, radius = adv.flatten().tolist(), x.flatten().tolist(), Fraction(eps)
    assert all(abs(Fraction(a[i]) - Fraction(b[i])) <= radius for i in far)
    assert (adv - x).abs().max().item() <= eps  # and as one would write it, in float32


@pytest.mark.parametrize("eps", EPS)
def test_every_attack_stays_in_the_box_to_the_last_bit(model, images, eps):
    start = [fgsm(model, images, labels, eps), _uniform_noise(images, eps), _uniform_noise(images, eps, corners=True)]
    path = _attack_path(model, images, labels, eps, alpha=eps/3, steps=5, random_start=True)
    for adv in (*start, *path, pgd(model, images, labels, eps, alpha=1.0, steps=2, targets=9)):
        exactly_inside(adv, images, eps)


@pytest.mark.parametrize("eps", EPS)
def test_the_box_is_the_largest_one(images, eps):
    "One float32 further out would be too far: the bounds give nothing away."
    radius = np.float32(eps)
    radius = radius if float(radius) <= eps else np.nextafter(radius, np.float32(-1))
    x, (low, high) = images[:, :, ::5, ::5], pixel_bounds(images[:, :, ::5, ::5], eps)
    for value, bottom, top in zip(x.flatten().tolist(), low.flatten().tolist(), high.flatten().tolist(), strict=True):
        for bound, way, end in ((bottom, -1, 0), (top, 1, 1)):
            assert abs(Fraction(bound) - Fraction(value)) <= Fraction(float(radius)) <= Fraction(eps)
            beyond = float(np.nextafter(np.float32(bound), np.float32(2*way)))
            assert bound == end or abs(Fraction(beyond) - Fraction(value)) > Fraction(float(radius))


@pytest.mark.parametrize(("images", "eps", "message"), [
    (torch.rand(1, 3, 4, 4), 8, "eps is in units of the full scale"),
    (torch.full((1, 3, 4, 4), 128, dtype=torch.uint8), 8/255, "images/255"),
    (torch.full((1, 3, 4, 4), 2.0), 8/255, r"not in \[0, 1\]"),
])
def test_the_box_is_of_pixels(images, eps, message):
    with pytest.raises(ValueError, match=message):
        pixel_bounds(images, eps)


def test_plain_float32_would_leave_the_box(images):
    adv = (images + 8/255).clamp(0, 1)
    outside = (adv.double() - images.double()) > 8/255
    assert outside.float().mean() > 0.2


def test_eps_zero_and_steps_change_nothing_else(model, images):
    assert torch.equal(pgd(model, images, labels, eps=0), images)
    assert torch.equal(fgsm(model, images, labels, 8/255), pgd(model, images, labels, 8/255, 8/255, 1))
    path = _attack_path(model, images, labels, steps=4)
    assert torch.equal(path[0], images) and torch.equal(path[-1], pgd(model, images, labels, steps=4))


def test_one_step_is_the_textbook_formula(model, images):
    x = images.clone().requires_grad_()
    F.cross_entropy(model(x), labels).backward()
    assert torch.equal(x.grad.sign(), _image_gradient(model, images, labels).sign())
    want = (images + 8/255*x.grad.sign()).clamp(0, 1)
    assert (fgsm(model, images, labels) - want).abs().max() < 1e-7
    want = (images - 8/255*_image_gradient(model, images, 7).sign()).clamp(0, 1)
    assert (fgsm(model, images, labels, targets=7) - want).abs().max() < 1e-7
    model.zero_grad()


def test_away_from_the_label_and_towards_the_target(model, images):
    def losses(x, classes): return F.cross_entropy(model(x), torch.as_tensor(classes).expand(6), reduction="none")

    with torch.no_grad():
        away, there = pgd(model, images, labels), pgd(model, images, labels, targets=9)
        assert (losses(away, labels) > losses(images, labels)).all()
        assert (losses(there, 9) < losses(images, 9)).all()


def test_an_image_is_attacked_alike_alone_and_in_a_batch(model, images):
    together = _image_gradient(model, images, labels)
    for i in range(len(images)):
        alone = _image_gradient(model, images[i:i + 1], labels[i:i + 1])[0]
        assert (together[i] - alone).abs().max() < 1e-5*together[i].abs().max()


def test_the_net_is_taken_in_once_not_in_each_step(model, images, monkeypatch):
    import cam_course.adversarial as module

    made = []
    class Counted(module.ScoringNet):
        def __init__(self, *args, **options):
            made.append(1)
            super().__init__(*args, **options)
    monkeypatch.setattr(module, "ScoringNet", Counted)
    pgd(model, images, labels, steps=4)
    assert len(made) == 1


def test_random_start_and_noise_follow_their_seed(model, images):
    starts = [_attack_path(model, images, labels, steps=1, random_start=True, seed=s)[0] for s in (0, 0, 1)]
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
    assert not torch.equal(starts[0], images)
    moved = (_uniform_noise(images[:2], 0.1, corners=True) - images[:2]).abs()
    inside = (images[:2] > 0.1) & (images[:2] < 0.9)
    assert (moved[inside] > 0.0999).all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_model_comes_back_as_it_was_lent(images, training, frozen):
    model = PixelModel(ResNet18(width=4), NORMALIZE).train(training)
    model.model.layer1.eval()
    for p in model.parameters():
        p.requires_grad_(not frozen)
    model.model.conv1.weight.grad = torch.ones_like(model.model.conv1.weight)
    grad, before = model.model.conv1.weight.grad, copy.deepcopy(model.state_dict())
    modes, rng = [m.training for m in model.modules()], torch.get_rng_state()
    with torch.no_grad():
        pgd(model, images, labels, steps=2, random_start=True)
        fgsm(model, images, labels)
        _attack_trace(model, images[0], 0, steps=2)
        accuracy_under(model, images, labels, fgsm)
        with pytest.raises(ValueError, match="class 10 is not one of 0 to 9"): fgsm(model, images, 10)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes and torch.equal(torch.get_rng_state(), rng)
    assert model.model.conv1.weight.grad is grad and (grad == 1).all()
    assert all(p.grad is None for p in list(model.parameters())[1:])
    assert all(p.requires_grad is not frozen for p in model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert images.grad is None and not images.requires_grad


def test_under_inference_mode(model, images):
    want = pgd(model, images, labels, steps=2)
    with torch.inference_mode():
        assert torch.equal(pgd(model, images.clone(), labels.clone(), steps=2, targets=None), want)


def test_a_wrapper_keeps_the_modes_of_its_parts():
    net = ResNet18(width=4).train()
    net.bn1.eval()
    wrapped = PixelModel(net, NORMALIZE)
    assert wrapped.training and net.layer1.training and not net.bn1.training


@pytest.mark.parametrize(("call", "says"), [
    (lambda m, x: pgd(m, NORMALIZE(x), labels), r"not in \[0, 1\].*PixelModel"),
    (lambda m, x: fgsm(m, 255*x, labels), r"go from .* to 255, not in \[0, 1\]"),
    (lambda m, x: fgsm(m, (255*x).to(torch.uint8), labels), "uint8.*give images/255"),
    (lambda m, x: fgsm(m, x.double(), labels), "float64.*images.float"),
    (lambda m, x: fgsm(m, torch.full_like(x, torch.nan), labels), r"nan to nan, not in \[0, 1\]"),
    (lambda m, x: fgsm(m, x[0], labels), r"got \(3, 32, 32\): one image is image\[None\]"),
    (lambda m, x: pgd(m, x, labels, eps=8), "eps must be .* got 8: eps is in units of the full scale, .* 8/255"),
    (lambda m, x: pgd(m, x, labels, eps=-0.1), "eps must be"),
    (lambda m, x: pgd(m, x, labels, alpha=2), "alpha must be .* got 2"),
    (lambda m, x: pgd(m, x, labels, alpha=0), "alpha must be a number > 0 and <= 1, got 0"),
    (lambda m, x: _uniform_noise(x, 8), "got 8"),
    (lambda m, x: pgd(m, x, labels, steps=0), "steps must be"),
    (lambda m, x: pgd(m, x, labels, targets=3), "target of image 3 is its own label, 3"),
    (lambda m, x: fgsm(m, x, labels, targets=labels), "target of image 0 is its own label, 0"),
    (lambda m, x: fgsm(m, x, labels[:2]), r"labels of shape \(2,\) for 6 images"),
    (lambda m, x: fgsm(m, x, labels.float()), "labels must be whole numbers"),
    (lambda m, x: fgsm(m, x, labels, targets=10), "class 10 is not one of 0 to 9"),
    (lambda m, x: fgsm(m, x, -1), "class -1 is not one of"),
    (lambda m, x: fgsm(nn.Sequential(m, Scale(torch.nan)), x, labels), "not finite"),
    (lambda m, x: _wilson(5, 4), "hits must be"),
])
def test_wrong_use_is_refused_with_the_remedy(model, images, call, says):
    with pytest.raises(ValueError, match=says): call(model, images)


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x): return x*self.factor


def test_wilson_against_its_definition():
    "The interval's ends are the p at which the observed share is exactly z standard errors away."
    for hits, n in ((0, 20), (3, 20), (10, 20), (500, 500), (7, 1000)):
        low, high = _wilson(hits, n)
        assert low <= hits/n <= high and 0 <= low < high <= 1
        z = stats.norm.ppf(0.975)
        for p in {low, high} - {0.0, 1.0}:
            assert abs(p - hits/n)/np.sqrt(p*(1 - p)/n) == pytest.approx(z, rel=1e-9)


def test_accuracy_counts_every_batch(model, images):
    right = (model(images).argmax(1) == labels).float().mean().item()
    assert accuracy_under(model, images, labels, batch_size=4)[0] == pytest.approx(right)
    fixed = accuracy_under(model, images, labels, lambda m, x, y: torch.zeros_like(x), batch_size=4)[0]
    assert fixed == pytest.approx((model(torch.zeros_like(images)).argmax(1) == labels).float().mean().item())


@pytest.fixture(scope="module")
def trace(model, images):
    return _attack_trace(model, images[0], 0, steps=4, target=7)


def test_trace(model, images, trace):
    assert torch.equal(trace.images, _attack_path(model, images[:1], 0, steps=4, targets=7)[:, 0])
    assert torch.allclose(trace.probabilities, model(trace.images).softmax(1), atol=1e-6)
    assert trace.maps.shape == (5, 2, 8, 8) and trace.goal == 7 and trace.distance <= 8/255
    wrong = (trace.probabilities.argmax(1) != 0).tolist()
    assert trace.fooled_at == (wrong.index(True) if True in wrong else None)
    free = _attack_trace(model, images[0], 0, steps=2)
    assert free.goal != 0


NAMES = ("disc", "ring", "moon", "heart", "star", "cross", "square", "triangle", "arrow", "bowtie")


def test_figure_holds_the_attack(trace):
    fig = explore_attack(trace, NAMES)
    assert fig.step == 4 and "Step 4 of 4 of an attack within 8/255" in fig.alt()
    for k in range(5):
        image, change, maps = fig.at(k)
        grey = (255*trace.images[0]).round()/255  # the figure keeps the image in whole grey levels
        assert np.abs(change - (trace.images[k] - trace.images[0]).permute(1, 2, 0).numpy()).max() <= fig.eps/254 + 1e-6
        assert np.abs(image - (grey + trace.images[k] - trace.images[0]).clamp(0, 1).permute(1, 2, 0).numpy()
                      ).max() <= fig.eps/254 + 1e-6
        want = trace.maps.clamp(min=0)/trace.maps.clamp(min=0).amax((0, 2, 3), keepdim=True).clamp(min=1e-12)
        assert np.abs(maps - want[k].numpy()).max() <= 0.5/255 + 1e-6
    fig.still()


def test_javascript_agrees(trace):
    js, fig = load("math/adversarial.js"), explore_attack(trace, NAMES)
    raw = bytes(range(256)) + b"\x01"
    for cut in (255, 256, 257):
        text = b64encode(raw[:cut]).decode()
        assert js("unpackBytes", text) == list(raw[:cut])
        assert js("unpackBytes", text, True) == np.frombuffer(raw[:cut], np.int8).tolist()
    noise = np.array(js("unpackBytes", fig.noise, True)).reshape(5, -1)
    picture, maps = js("unpackBytes", fig.image), np.array(js("unpackBytes", fig.maps)).reshape(5, 2, 8, 8)
    image, change, ours = fig.at(3)
    got = np.array(js("perturbed", picture, noise[3], fig.eps)).reshape(32, 32, 3)
    assert np.abs(got - 255*image).max() <= 0.5 + 1e-6
    loud = np.array(js("amplified", noise[3], fig.eps, 10)).reshape(32, 32, 3)
    assert np.abs(loud - 255*np.clip(0.5 + 10*change, 0, 1)).max() <= 0.5 + 1e-6
    large = np.array(js("stretchMap", (maps[3, 1]/255).ravel(), [8, 8], [32, 32])).reshape(32, 32)
    assert np.abs(large - enlarge_map(ours[1], (32, 32))).max() < 1e-6
    assert np.array(js("stretchMap", np.arange(6.0), [2, 3], [5, 7])) == pytest.approx(
        enlarge_map(np.arange(6.0).reshape(2, 3), (5, 7)).ravel(), abs=1e-6)
    colors, ramp = js("unpackBytes", fig.colors), np.linspace(0, 1, 1000, dtype=np.float32)
    shown = np.array(js("overlaid", [0]*3000, ramp, 1, colors)).reshape(-1, 3)
    assert np.abs(shown - heat_map(ramp[None], "viridis")[0].astype(int)).max() == 0
    blend = np.array(js("overlaid", got.reshape(-1), large.reshape(-1), 0.6, colors)).reshape(32, 32, 3)
    assert np.abs(blend - overlay(got.astype(np.uint8), large.astype(np.float32), 0.6, "viridis").astype(int)).max() <= 1
    assert js("fooledAt", trace.probabilities.numpy(), 0) == (-1 if trace.fooled_at is None else trace.fooled_at)


def test_figure_in_the_page(browser, tmp_path, trace):
    fig = explore_attack(trace, NAMES)
    assert isinstance(fig, AttackExplorer)
    for wrong in ({"step": 99}, {"gain": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            AttackExplorer(**{**{f.name: getattr(fig, f.name) for f in fields(fig)}, **wrong})
    with pytest.raises(ValueError, match="1 class_names for 10 classes"): explore_attack(trace, ["a"])
    with opened(browser, [fig], tmp_path) as page:
        assert page.inner_text(".cc-readout").startswith("Step 4 of 4: no value has moved by more than 8.0 of 255")
        before = page.evaluate("document.querySelector('canvas').toDataURL()")
        page.focus("input[data-trait=step]")
        page.keyboard.press("Home")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('Step 0')")
        assert "more than 0.0 of 255" in page.inner_text(".cc-readout")
        assert page.evaluate("document.querySelector('canvas').toDataURL()") != before
