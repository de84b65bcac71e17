"""cam_course.localization beyond what its chapter asserts: hand-counted cases, scipy, side effects, JavaScript."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from figpage import opened
from jsbox import load
from scipy import stats
from torch import nn

from cam_course.data import shapes
from cam_course.localization import (
    MapThreshold,
    _blurred,
    _uniform_map,
    area_under,
    center_prior,
    class_preference,
    deletion_curve,
    edge_map,
    evidence_at,
    insertion_curve,
    iou_at,
    mass_in_mask,
    mean_interval,
    pointing_game,
    randomization_test,
    rank_correlation,
)
from cam_course.resnet import ResNet18

data = shapes(12, seed=3)
mask = data.masks[:, 0]
MEASURES = (pointing_game, mass_in_mask, iou_at)


def net(seed=0):
    torch.manual_seed(seed)
    model = ResNet18(width=4)
    for module in model.modules():                     # statistics that differ from a fresh layer's
        if isinstance(module, nn.BatchNorm2d): nn.init.uniform_(module.running_mean, -0.1, 0.1)
    return model.eval()


def images(n=6):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# ---- measures

def hand_counted():
    "A 4x4 map and mask small enough to count: peak 4 on the object, mass 6 of 10, region above 1/2 the pixels 4 and 3."
    m = torch.tensor([[0.0, 1, 0, 0], [4, 2, 0, 0], [0, 0, 3, -9], [0, 0, 0, 0]])
    on = torch.zeros(4, 4, dtype=torch.bool)
    on[1, :2] = True
    return m, on


def test_counted_by_hand():
    m, on = hand_counted()
    assert pointing_game(m, on) == 1 and mass_in_mask(m, on) == pytest.approx(0.6)
    assert iou_at(m, on, 0.5) == pytest.approx(2/3)               # 4, 2, 3 reach 2; two of them on the object
    got = iou_at(m, on, [0.1, 0.6, 1])
    torch.testing.assert_close(got, torch.tensor([2/4, 1/3, 1/2]))
    assert class_preference(m, on, torch.eye(4).bool()) == pytest.approx(6/(6 + 5))   # the diagonal holds 0, 2, 3, 0
    assert class_preference(m*0, on, on) == 0.5


def test_no_evidence_is_a_miss_in_every_measure():
    for m in (torch.zeros(12, 8, 8), -torch.rand(12, 8, 8)):
        for f in MEASURES: assert f(m, mask).eq(0).all()
        assert pointing_game(m, mask, ties="share").eq(0).all()
    assert pointing_game(torch.zeros(12, 8, 8), mask, margin=3).eq(0).all()


def test_ties():
    on = torch.zeros(4, 4, dtype=torch.bool)
    on[0, :3] = True
    inside, across = torch.zeros(4, 4), torch.zeros(4, 4)
    inside[0, :2] = across[0, 2:] = 1
    assert pointing_game(inside, on) == 1 and pointing_game(across, on) == 0
    assert pointing_game(across, on, "share") == 0.5 and pointing_game(across, on, margin=1) == 1
    assert pointing_game(torch.ones(4, 4), on, "share") == pytest.approx(3/16)


def test_units_and_batches_make_no_difference():
    maps = torch.randn(12, 8, 8, generator=torch.Generator().manual_seed(0))
    for f in MEASURES:
        once = f(maps, mask)
        torch.testing.assert_close(f(1e6*maps, mask), once)
        torch.testing.assert_close(torch.stack([f(m, k) for m, k in zip(maps, mask, strict=True)]), once)
        torch.testing.assert_close(f(maps.view(3, 4, 8, 8), mask.view(3, 4, 32, 32)), once.view(3, 4))
        both = f(maps[:, None], data.masks.expand(-1, 2, -1, -1))                    # one map, two masks
        torch.testing.assert_close(both, once[:, None].expand(-1, 2))


def test_enlarging_is_opencvs():
    import cv2
    m = torch.randn(5, 8, 8)
    want = np.stack([cv2.resize(k.clamp(min=0).numpy(), (32, 32), interpolation=cv2.INTER_LINEAR) for k in m])
    np.testing.assert_allclose(evidence_at(m, (32, 32)), want, atol=1e-6)


@pytest.mark.parametrize(("call", "says"), [
    (lambda: mass_in_mask(mask.float(), mask.float()), "masks must be a bool tensor"),
    (lambda: mass_in_mask(mask, mask), "maps must be a float tensor"),
    (lambda: mass_in_mask(torch.ones(5, 8, 8), mask), r"maps \(5, 8, 8\) and masks \(12, 32, 32\) don't match"),
    (lambda: mass_in_mask(torch.ones(12, 8, 8), mask & False), "12 of the masks are empty"),
    (lambda: iou_at(torch.full((12, 8, 8), torch.nan), mask), "NaN or infinity"),
    (lambda: iou_at(torch.ones(12, 8, 8), mask, 0.0), "threshold"),
    (lambda: pointing_game(torch.ones(12, 8, 8), mask, ties="half"), "ties"),
    (lambda: pointing_game(torch.ones(12, 8, 8), mask, margin=-1), "margin"),
    (lambda: edge_map(torch.ones(2, 3, 30, 30), 8), "divisible by cells=8"),
    (lambda: deletion_curve(net(), images(), torch.ones(5, 8, 8), torch.zeros(6, dtype=torch.int64)), "as many maps"),
    (lambda: mean_interval(torch.ones(1)), "2 results or more"),
    (lambda: mean_interval(torch.ones(3), 1.0), "level must be a number > 0 and < 1, got 1.0"),
    (lambda: randomization_test(net(), images(), stages=[]), "no stage to randomize: stages is empty"),
    (lambda: rank_correlation(torch.ones(2, 3, 3), torch.ones(2, 4, 4)), "one shape"),
    (lambda: randomization_test(net(), images(), targets=torch.zeros(5, dtype=torch.int64)), r"shape \(5,\) for 6 images"),
    (lambda: randomization_test(net(), images(), "layer9"), "no layer 'layer9'"),
    (lambda: randomization_test(net(), images(), stages=["head"]), "no layer 'head'"),
    (lambda: figure(threshold=0), "threshold"),
    (lambda: figure(image=9), "image"),
])
def test_bad_input_names_the_value(call, says):
    with pytest.raises(ValueError, match=says): call()


# ---- rivals

def test_rivals():
    assert _uniform_map((3, 5)).eq(1).all() and _uniform_map((3, 5)).shape == (3, 5)
    bump = center_prior((32, 32))
    torch.testing.assert_close(bump, bump.flip(0, 1))
    assert bump[15, 15] == bump.max() and bump[15, 23] == pytest.approx(np.exp(-(7.5**2 + 0.5**2)/(2*64)))
    ramp = torch.arange(32.0).expand(1, 3, 32, 32)
    assert edge_map(ramp)[0, :, 1:-1].sub(1).abs().max() < 1e-6                      # slope 1 per px
    both = edge_map(data.x)
    torch.testing.assert_close(edge_map(data.x, 8), F.avg_pool2d(both, 4))
    grey = data.x.float().mean(1).numpy()
    from scipy.ndimage import sobel
    want = np.stack([np.hypot(sobel(g, 0, mode="nearest"), sobel(g, 1, mode="nearest"))/8 for g in grey])
    np.testing.assert_allclose(both, want, atol=1e-3)


# ---- insertion and deletion

def test_curves_against_a_loop():
    model, x, y = net(), images(4), torch.tensor([1, 2, 3, 4])
    maps = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(5))         # no ties
    ground = _blurred(x)
    got = insertion_curve(model, x, maps, y, steps=4), deletion_curve(model, x, maps, y, steps=4)
    for i in range(4):
        order = maps[i].flatten().argsort(descending=True)
        for k in range(5):
            chosen = torch.zeros(1024, dtype=torch.bool)
            chosen[order[:256*k]] = True
            for curve, new, old in ((got[0], x[i], ground[i]), (got[1], torch.zeros_like(x[i]), x[i])):
                with torch.no_grad():
                    p = model(torch.where(chosen.view(32, 32), new, old)[None]).softmax(1)[0, y[i]]
                assert curve[i, k] == pytest.approx(p.item(), abs=1e-5)
    for curve in (insertion_curve, deletion_curve):   # one class for all, as elsewhere
        assert curve(model, x, maps, 3, steps=4).equal(curve(model, x, maps, torch.full((4,), 3), steps=4))
        with pytest.raises(ValueError, match="targets must be a whole number >= 0, got 'cat'"): curve(model, x, maps, "cat")
    assert area_under(torch.tensor([1.0, 0, 0])) == 0.25 and area_under(torch.ones(3, 9)).eq(1).all()


def test_ties_are_taken_at_random_but_always_alike():
    model, x, y = net(), images(3), torch.tensor([0, 1, 2])
    flat = torch.ones(3, 8, 8)
    one, two = (deletion_curve(model, x, flat, y, steps=8) for _ in range(2))
    assert one.equal(two)
    rows = torch.arange(1024.0).view(1, 32, 32).expand(3, -1, -1).neg()              # top to bottom: what a plain sort does
    assert not torch.allclose(one, deletion_curve(model, x, rows, y, steps=8), atol=1e-6)


def test_blur_is_scipys():
    from scipy.ndimage import gaussian_filter
    x = images(2)
    want = gaussian_filter(x.numpy(), (0, 0, 3, 3), mode="nearest", truncate=3)
    np.testing.assert_allclose(_blurred(x, 3.0), want, atol=1e-5)


# ---- rank correlation, intervals

def test_rank_correlation_is_scipys():
    dice = torch.Generator().manual_seed(0)
    a, b = torch.randint(0, 9, (20, 8, 8), generator=dice).float(), torch.randn(20, 8, 8, generator=dice)  # many ties
    want = [stats.spearmanr(p.flatten(), q.flatten()).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), want, atol=1e-12)
    assert rank_correlation(b, -3*b.exp()).add(1).abs().max() < 1e-12
    assert rank_correlation(torch.ones(8, 8), b[0]).isnan()


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_interval_is_students(n):
    values = torch.randn(n, 3, generator=torch.Generator().manual_seed(n)).double()
    for level in (0.5, 0.95, 0.99):
        low, high = stats.t.interval(level, n - 1, loc=values.mean(0), scale=stats.sem(values.numpy()))
        got = mean_interval(values, level)
        np.testing.assert_allclose(got.low, low, rtol=1e-12)
        np.testing.assert_allclose(got.high, high, rtol=1e-12)


# ---- randomisation

def state(model):
    rng = torch.get_rng_state()
    return ({k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()], rng,
            [(p.requires_grad, p.grad) for p in model.parameters()], [len(m._forward_hooks) for m in model.modules()])


def same(a, b):
    return (all(a[0][k].equal(v) for k, v in b[0].items()) and a[1] == b[1] and a[2].equal(b[2]) and a[4] == b[4]
            and all(p[0] == q[0] and p[1] is q[1] for p, q in zip(a[3], b[3], strict=True)))


def test_the_model_stays_as_it_is_also_after_an_error():
    model = net().train()
    model.conv1.weight.requires_grad_(False)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    before = state(model)
    first = randomization_test(model, images(), "layer3", seed=1)
    assert same(before, state(model))

    def breaks(net, x, classes): raise RuntimeError("in the middle")
    with pytest.raises(RuntimeError, match="in the middle"): randomization_test(model, images(), method=breaks)
    assert same(before, state(model))
    again = randomization_test(model, images(), model.layer3, seed=1)                # by module, same draw
    assert first.maps.equal(again.maps)
    assert not randomization_test(model, images(), "layer3", seed=2).maps.equal(first.maps)


def test_what_is_randomised():
    model, seen = net(), []

    def method(copy, x, classes):
        seen.append({k: v.clone() for k, v in copy.state_dict().items()})
        return x.mean(1)
    names = ("fc", "layer4", "layer3", "layer2", "layer1", "bn1", "conv1")
    changed = lambda k: {n.split(".")[0] for n, v in seen[k].items() if n.endswith("weight") and not v.equal(model.state_dict()[n])}
    weights = set(names) - {"bn1"}                                                   # its fresh weights are ones: no change here
    result = randomization_test(model, images(), method=method)
    assert result.stages == names and result.correlation.shape == (7, 6)
    assert result.correlation.sub(1).abs().max() < 1e-12                             # a method that asks no network
    assert [changed(k) for k in range(8)] == [set(), *(weights & set(names[:k]) for k in range(1, 8))]
    seen.clear()
    randomization_test(model, images(), method=method, cascade=False, stages=("fc", "layer2"))
    assert [changed(k) for k in range(3)] == [set(), {"fc"}, {"layer2"}]


def test_classes_are_those_of_the_intact_model():
    model, x, asked = net(), images(), []
    randomization_test(model, x, method=lambda m, x, classes: asked.append(classes) or x.mean(1))
    with torch.no_grad(): want = model(x).argmax(1)
    assert all(a.equal(want) for a in asked)
    asked.clear()
    randomization_test(model, x, targets=4, method=lambda m, x, classes: asked.append(classes) or x.mean(1))
    assert all(a.eq(4).all() and a.shape == (6,) for a in asked)


def test_weights_without_a_reset_are_shuffled():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.arange(1.0, 65).view(1, 64, 1, 1))

        def forward(self, x): return x*self.scale
    model = nn.Sequential(nn.Conv2d(3, 64, 3), Scale(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)).eval()
    scales = []
    randomization_test(model, images(), method=lambda m, x, c: scales.append(m[1].scale.detach().flatten()) or x.mean(1),
                       stages=["1"])
    assert scales[0].equal(torch.arange(1.0, 65)) and not scales[1].equal(scales[0])
    assert scales[1].sort().values.equal(scales[0])


# ---- the moving figure

def figure(**state):
    made = MapThreshold.of(data.x[:4], mask[:4], {"edges": edge_map(data.x[:4], 8), "centre": center_prior((8, 8)).expand(4, -1, -1),
                                                  "none": torch.zeros(4, 8, 8)}, [data.class_names[c] for c in data.y[:4]])
    fields = {f: getattr(made, f) for f in ("pixels", "masks", "maps", "methods", "titles", "size")}
    return MapThreshold(**fields, **state)


def test_javascript_agrees():
    js, dice = load("math/localisation.js"), torch.Generator().manual_seed(0)
    for i in range(12):
        for m in (torch.randn(8, 8, generator=dice, dtype=torch.float64), edge_map(data.x)[i].double(),
                  torch.randn(4, 4, generator=dice, dtype=torch.float64), torch.zeros(8, 8, dtype=torch.float64)):
            on = mask[i].int().numpy()
            evidence = js("evidenceAt", m.numpy(), 32)
            np.testing.assert_allclose(evidence, evidence_at(m, (32, 32)), rtol=0, atol=1e-9*max(1, float(m.max())))
            assert js("massInMask", evidence, on) == pytest.approx(mass_in_mask(m, mask[i]).item(), abs=1e-9)
            assert js("pointingGame", evidence, on) == bool(pointing_game(m, mask[i]))
            for threshold in (0.02, 0.31, 0.5, 1.0):
                got = js("iouOf", js("regionOf", evidence, threshold), on)
                assert got == pytest.approx(iou_at(m, mask[i], threshold).item(), abs=1e-9)


def test_outline_has_the_border_of_every_pixel():
    js, on = load("math/localisation.js"), mask[0].int().numpy()
    pieces = sum(p[0] is None for p in js("outlineOf", on))
    padded = np.pad(on, 1)
    assert pieces == np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()


def test_figure_in_words():
    fig = figure(threshold=0.5, method=2)
    assert fig.measures() == (0.0, 0.0, False) and "its peak misses" in fig.alt()
    fig.method, fig.threshold = 0, 0.8
    raw = torch.tensor(fig.maps[0][0], dtype=torch.float64)
    assert fig.measures()[0] == pytest.approx(iou_at(raw, mask[0], 0.8).item())
    assert "80%" in fig.alt()


def test_the_page_says_what_python_says(browser, tmp_path):
    fig = figure(threshold=0.5)
    with opened(browser, [fig], tmp_path) as page:
        iou, mass, hit = fig.measures()
        words = page.inner_text(".cc-readout")
        assert f"the IoU is {iou:.2f} " in words and f"{100*mass:.0f} % of the mass" in words
        assert ("hits" if hit else "misses") in words
        page.select_option(".cc select", index=2)
        page.locator(".cc-choice label", has_text="centre").click()
        page.focus(".cc input[type=range]")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('52 %')")
        fig.image, fig.method, fig.threshold = 2, 1, 0.52
        assert f"the IoU is {fig.measures()[0]:.2f} " in page.inner_text(".cc-readout")
