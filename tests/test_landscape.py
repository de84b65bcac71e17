"""cam_course.landscape beyond what its chapter asserts: hard spectra, no side effects, the film, JavaScript."""
import copy
import json
from functools import cache
from gzip import compress

import numpy as np
import pytest
import torch
from figpage import opened
from jsbox import load
from torch import nn
from torch.func import grad, hessian, jacrev

from cam_course.base.core import get_rng_state
from cam_course.landscape import (
    EdgeOfStability,
    SliceDescent,
    _bilinear,
    _filter_normalized,
    _filter_norms,
    _flatten,
    _follow,
    _loss_of,
    _on_slice,
    _plane_of,
    _random_direction,
    _unflatten,
    _weights_of,
    follow_two_losses,
    hessian_product,
    lanczos,
    power_iteration,
    sharpness,
    slice_1d,
    slice_2d,
    top_eigenvalue,
)
from cam_course.resnet import ResNet18

CURVES = torch.tensor([9.0, 1.0], dtype=torch.float64)


def bowl(w): return 0.5*(CURVES*w["w"]**2).sum() + 0.01


def small_net(norm=True):
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), *([nn.BatchNorm2d(4)] if norm else []), nn.Tanh(), nn.Flatten(), nn.Linear(4*16, 3)]
    net = nn.Sequential(*layers).double()
    return net, torch.randn(20, 2, 6, 6, dtype=torch.float64), torch.randint(3, (20,))


def film(size=9):
    start = {"w": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    return _on_slice(bowl, [_follow(bowl, start, lr, 40, 4) for lr in (0.05, 0.1, 0.2)], start, size)


@cache
def edge() -> EdgeOfStability: return EdgeOfStability.of(follow_two_losses(steps=12, moments=5))


def exact_hessian(loss, weights, relative=False, forward=True):
    scale = _flatten(_filter_norms(weights)) if relative else 1
    at = lambda v: loss(_unflatten(scale*v + _flatten(weights), weights))
    # torch 2.15: jacfwd through batch norm on the batch's statistics gives a matrix that isn't even symmetric
    return (hessian(at) if forward else jacrev(grad(at)))(torch.zeros_like(_flatten(weights)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("batch_stats", [False, True])
def test_hessian_of_a_convolutional_net(norm, relative, batch_stats):
    net, x, y = small_net(norm)
    loss, weights = _loss_of(net, x, y, batch_stats=batch_stats), _weights_of(net)
    full = exact_hessian(loss, weights, relative, forward=not (norm and batch_stats))
    v = torch.randn(len(full), dtype=torch.float64)
    torch.testing.assert_close(full, full.T, rtol=0, atol=1e-9)
    torch.testing.assert_close(hessian_product(loss, weights, relative)(v), full @ v, rtol=1e-9, atol=1e-9)
    values = torch.linalg.eigvalsh(full)
    assert values[0] < -1e-3*values[-1]                          # there is a negative end to confuse
    for method in ("power", "lanczos"):
        for which, want in (("largest", values[-1]), ("smallest", values[0])):
            found = top_eigenvalue(loss, weights, which, method, relative, max_products=3000)
            assert found.value == pytest.approx(want.item(), rel=0.01), (method, which)
            assert torch.linalg.vector_norm(found.vector).item() == pytest.approx(1, abs=1e-9)
            assert (full @ found.vector - found.value*found.vector).norm() <= found.residual*1.01 + 1e-9


@pytest.mark.parametrize("values", [[-10, 1, 2, 3], [3, 3, 3, -1], [0, 0, 0, 5], [-4, -3, -2, -1], [1e-9, 2e-9, 1e-12, 0]])
def test_both_methods_on_hard_spectra(values):
    q, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    matrix = q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.T
    start, product = torch.ones(4, dtype=torch.float64), lambda v: matrix @ v
    for which, want in (("largest", max(values)), ("smallest", min(values)), ("magnitude", max(values, key=abs))):
        assert lanczos(product, start, which).value == pytest.approx(want, rel=1e-5, abs=1e-15)
    found = power_iteration(product, start, tol=1e-6)
    assert found.value == pytest.approx(max(values, key=abs), rel=1e-6)
    wrapped = {"w": torch.zeros(4, dtype=torch.float64)}
    loss = lambda w: 0.5*w["w"] @ matrix @ w["w"]
    for which, want in (("largest", max(values)), ("smallest", min(values))):
        got = top_eigenvalue(loss, wrapped, which, "power", tol=1e-5, max_products=10_000).value
        assert got == pytest.approx(want, rel=1e-4, abs=1e-4*max(map(abs, values)))


def test_a_flat_loss_has_no_curvature():
    flat = {"w": torch.zeros(5)}
    for method in ("power", "lanczos"):
        assert top_eigenvalue(lambda w: (0*w["w"]).sum(), flat, method=method).value == 0
    assert sharpness(lambda w: (0*w["w"]).sum(), flat, 1.0) == 0


@pytest.mark.parametrize("method", ["power", "lanczos"])
def test_a_diverged_net_is_named(method):
    with pytest.raises(ValueError, match="the curvature is nan here: has the training diverged?"):
        top_eigenvalue(lambda w: (w["w"]**3).sum(), {"w": torch.tensor([float("nan"), 1.0])}, method=method)


def test_an_unfinished_search_says_so():
    values = torch.linspace(1, 1.001, 300, dtype=torch.float64)
    for found in (lanczos(lambda v: values*v, torch.ones(300, dtype=torch.float64), tol=1e-12, max_products=5),
                  power_iteration(lambda v: values*v, torch.ones(300, dtype=torch.float64), 1e-12, 5)):
        assert found.products == 5 and found.residual > 1e-12


def test_nothing_touches_the_model():
    model = ResNet18(4, width=4).train()
    x, y = torch.randn(8, 3, 16, 16), torch.randint(4, (8,))
    model(x).sum().backward()
    model.fc.requires_grad_(False)
    before = copy.deepcopy(model.state_dict()), [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    rng, modes = get_rng_state(), [m.training for m in model.modules()]
    for batch_stats in (False, True):
        loss, w = _loss_of(model, x, y, batch_stats=batch_stats), _weights_of(model)
        assert "fc.weight" not in w and "conv1.weight" in w
        d = _filter_normalized(_random_direction(w, 1), w)
        values = slice_1d(loss, w, d, [-1, 0, 1])
        assert values[1] == loss(w).item() and slice_2d(loss, w, d, d, [0], [-1, 0, 1])[:, 0] == pytest.approx(values)
        top_eigenvalue(loss, w, max_products=2)
        sharpness(loss, w, 0.1, steps=2)
        _follow(loss, w, 0.01, 1, 1)
    for k, v in model.state_dict().items(): assert torch.equal(v, before[0][k]), k
    for p, g in zip(model.parameters(), before[1], strict=True): assert p.grad is None if g is None else torch.equal(p.grad, g)
    assert modes == [m.training for m in model.modules()] and not model.fc.weight.requires_grad
    assert torch.equal(rng["torch"], get_rng_state()["torch"]) and rng["numpy"] == get_rng_state()["numpy"]
    kept = loss(w).item()
    with torch.no_grad(): model.conv1.weight.add_(1)
    assert loss(w).item() == kept                                # and the loss does not follow the model either


def test_batch_stats_are_those_of_training_mode():
    net, x, y = small_net()
    want = nn.functional.cross_entropy(copy.deepcopy(net).train()(x), y).item()
    assert _loss_of(net, x, y, batch_stats=True)(_weights_of(net)).item() == pytest.approx(want, abs=1e-12)
    assert _loss_of(net, x, y)(_weights_of(net)).item() != pytest.approx(want, abs=1e-3)


def test_filter_normalization_by_hand():
    w = {"a": torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]]), "b": torch.tensor([7.0, 7.0])}
    d = _filter_normalized({"a": torch.tensor([[[0.0, 2.0]], [[1.0, 1.0]]]), "b": torch.ones(2)}, w)
    assert d["a"].tolist() == [[[0, 5]], [[0, 0]]] and d["b"].tolist() == [0, 0]
    still = _filter_normalized({"a": torch.zeros(2, 1, 2), "b": torch.ones(2)}, w)
    assert torch.equal(still["a"], torch.zeros(2, 1, 2))         # no direction: no NaN
    wide = _random_direction({"w": torch.zeros(64, 3, 3, 3)}, 5)
    assert torch.equal(wide["w"], _random_direction({"w": torch.zeros(64, 3, 3, 3)}, 5)["w"])
    w = {"w": torch.randn(64, 3, 3, 3)*torch.linspace(0.1, 9, 64)[:, None, None, None]}
    torch.testing.assert_close(_filter_norms(_filter_normalized(wide, w)), _filter_norms(w))


def test_rise_in_a_ball():
    w = {"w": torch.tensor([1.0, 0.0], dtype=torch.float64)}     # slope 9, curvature 9 along the first axis
    assert sharpness(bowl, w, 0.5, steps=60) == pytest.approx(4.5*(1.5**2 - 1), rel=1e-6)
    assert sharpness(lambda w: -bowl(w), {"w": torch.zeros(2, dtype=torch.float64)}, 0.5) == 0
    with pytest.raises(ValueError, match="radius must be a number > 0, got 0"): sharpness(bowl, w, 0)
    with pytest.raises(ValueError, match="steps must be a whole number >= 1, got 0"): sharpness(bowl, w, 1, steps=0)
    for method in ("lanczos", "power"):
        with pytest.raises(ValueError, match="max_products must be a whole number >= 1, got 0"):
            top_eigenvalue(bowl, w, method=method, max_products=0)


def test_follow_is_gradient_descent_and_stops_where_it_explodes():
    start = {"w": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    track = _follow(bowl, start, 0.1, 20, 5)
    k = np.array(track.at)[:, None]
    np.testing.assert_allclose(track.points.numpy(), [1, 2]*(1 - 0.1*CURVES.numpy())**k, atol=1e-12)
    assert track.sharpness == pytest.approx([9]*5) and track.at == [0, 5, 10, 15, 20]
    wild = _follow(bowl, start, 50.0, 1000, 1)
    assert 10 < len(wild.at) < 1000 and np.isfinite(wild.loss).all() and torch.isfinite(wild.points).all()


def test_follow_records_the_steps_it_is_told():
    start = {"w": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    some, all_ = _follow(bowl, start, 0.1, 20, [0, 3, 20]), _follow(bowl, start, 0.1, 20, 1)
    assert some.at == [0, 3, 20] and torch.equal(some.points, all_.points[[0, 3, 20]])
    assert some.loss == [all_.loss[k] for k in some.at]


def test_two_losses_from_one_start():
    tracks = follow_two_losses((0.05, 0.1), (0.5, 1.0), steps=12, moments=5)
    starts = [t.points[0] for group in tracks.values() for t in group]
    assert list(tracks) == ["squared", "logistic"] and all(torch.equal(s, starts[0]) for s in starts)
    assert tracks["squared"][0].at[0] == 0 and tracks["squared"][0].at[-1] == 12
    squared, logistic = (tracks[name][0].sharpness[0] for name in ("squared", "logistic"))
    assert 5 < squared/logistic < 10          # near score 0 a square curves by 2, the logistic loss by 1/4
    with pytest.raises(ValueError, match="as many rates, got 1 and 2"): follow_two_losses((0.1,), (0.5, 1.0), 4, 2)
    with pytest.raises(ValueError, match="steps must be a whole number"): follow_two_losses(steps=0)
    diverged = {**tracks, "squared": [tracks["squared"][0], tracks["squared"][1]._replace(at=[0, 1])]}
    with pytest.raises(ValueError, match="the squared loss at rate 0.1 was recorded up to step 1 of 12"): EdgeOfStability.of(diverged)


def test_the_edge_plays_and_says_what_it_shows(browser, tmp_path):
    figure, says = edge(), "document.querySelector('.cc-readout').textContent.startsWith({!r})"
    shown = [loss["runs"][2]["sharpness"][0] for loss in figure.losses]
    assert figure.at[figure.moment] == 12 and "squared loss at rate 0.1: from 8.38" in figure.alt()
    with pytest.raises(ValueError, match="run must be a whole number"): EdgeOfStability(figure.losses, figure.at, run=3)
    with opened(browser, [figure], tmp_path) as page:
        page.wait_for_function(says.format("Step 12. Squared loss, rate 0.1: sharpness"))
        page.check("input[type=radio][value='2']")
        page.focus("input[type=range]")
        page.keyboard.press("Home")
        page.wait_for_function(says.format("Step 0. Squared loss, rate 0.2: sharpness 8.4,"))
        assert f"logistic loss, rate 1: sharpness {shown[1]:.1f}," in page.inner_text(".cc-readout")
        page.click("text=Play")
        page.wait_for_function(says.format("Step 12."), timeout=20_000)
        assert page.inner_text(".cc-button") == "Play"


def test_the_plane_of_points():
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(30, 2, generator=rng).double() @ torch.randn(2, 50, generator=rng).double() + 3
    plane = _plane_of(points)
    assert plane.share == pytest.approx(1)
    torch.testing.assert_close(plane.axes @ plane.axes.T, torch.eye(2, dtype=torch.float64))
    back = plane.middle + (points - plane.middle) @ plane.axes.T @ plane.axes
    torch.testing.assert_close(back, points)


def test_the_film_shows_the_slice():
    f = film(65)
    assert len(compress(json.dumps([f.codes, f.runs]).encode())) < 60_000
    for r in f.runs:                                             # a plane through all of a two-weight net: exact
        for point, loss in zip(r["points"], r["loss"], strict=True):
            assert 10**_bilinear(f.grid(), f.extent, *point) == pytest.approx(loss, rel=0.1)
    steps = (f.levels[1] - f.levels[0])/65535
    assert f.grid().min() == f.levels[0] and f.grid().max() == pytest.approx(f.levels[1]) and steps < 1e-3
    f.step = 40
    assert "100% of the movement" in f.alt() and "sharpness 9 where 2/lr is 10" in f.alt()
    with pytest.raises(ValueError, match="run must be a whole number"): SliceDescent([0], [0, 1], 1, [0]*4, [{}], 1., 9, 3, run=1)


def test_javascript_agrees():
    js, rng = load("math/landscape.js"), np.random.default_rng(0)
    grid, extent = rng.normal(size=(7, 5)), [-2.0, 3.0, 1.0, 1.5]
    for x, y in [*rng.uniform((-3, 0.8), (4, 1.7), (60, 2)), (-2, 1), (3, 1.5), (3, 1), (0.5, 1.25)]:
        assert js("bilinear", grid.ravel(), 5, extent, x, y) == pytest.approx(_bilinear(grid, extent, x, y), abs=1e-9)
    f = film()
    np.testing.assert_allclose(js("unpacked", f.codes, *f.levels), f.grid().ravel(), rtol=0, atol=1e-9)
    at = [0, 15, 30, 45]
    for step in range(-3, 60): assert js("nearestStep", at, step) == int(np.abs(np.array(at) - step).argmin())


def test_the_film_plays_pauses_and_obeys_the_keys(browser, tmp_path):
    says = "document.querySelector('.cc-readout').textContent.startsWith({!r})"
    with opened(browser, [film()], tmp_path) as page:
        page.wait_for_function(says.format("lr 0.05, step 0: loss"))
        page.focus("input[type=range]")
        page.keyboard.press("ArrowRight")
        page.wait_for_function(says.format("lr 0.05, step 4: loss"))
        page.keyboard.press("End")
        page.wait_for_function(says.format("lr 0.05, step 40: loss"))
        page.check("input[type=radio][value='2']")
        page.wait_for_function(says.format("lr 0.2, step 40: loss"))
        assert page.inner_text(".cc-readout").endswith("sharpness 9, 90 % of 2/lr = 10.")
        page.click("text=Play")
        page.wait_for_function("document.querySelector('.cc-button').textContent === 'Pause'")
        page.focus("input[type=range]")
        page.keyboard.press("End")                               # the reader's hand stops the film
        page.wait_for_function(says.format("lr 0.2, step 40: loss"))
        page.wait_for_timeout(600)
        assert page.inner_text(".cc-readout").startswith("lr 0.2, step 40:")
        assert page.inner_text(".cc-button") == "Play"
    with opened(browser, [film()], tmp_path, reduced_motion="reduce") as page:
        page.click("text=Play")
        page.wait_for_function(says.format("lr 0.05, step 40: loss"))
