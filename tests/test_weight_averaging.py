"Averages of weights against torch.optim.swa_utils, SAM against the paper's formula, both resumed; what they refuse."
import copy
import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import chapters
import numpy as np
import pytest
import torch
from figpage import check_playing, opened
from jsbox import load
from torch import Tensor, nn
from torch.optim import swa_utils

from cam_course import weight_averaging as W
from cam_course.optimizers import Adadelta, Adam
from cam_course.weight_averaging import SAM, AveragedWalk, WeightAverage, update_bn

NOTEBOOK = chapters.chapter("weight_averaging")


def small(seed: int = 0) -> nn.Module:
    "A net with batch norm, in float64."
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).double()


def batch(t: int, n: int = 8) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1000 + t)
    return torch.randn(n, 2, 6, 6, generator=g, dtype=torch.float64), torch.randint(4, (n,), generator=g)


def trained(net: nn.Module, steps: int, optimizer: Any = None, first: int = 0) -> Iterator[int]:
    "Steps of SGD, whose number is given out after each."
    optimizer = optimizer or torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for t in range(first, first + steps):
        x, y = batch(t)

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        yield t


def floats(net: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in net.state_dict().items() if v.is_floating_point()}


def close(a: nn.Module, b: nn.Module, tol: float = 1e-12) -> bool:
    found, wanted = floats(a), floats(b)
    assert found.keys() == wanted.keys() and len(found) > 5
    return all(torch.allclose(v, wanted[k], rtol=0, atol=tol) for k, v in found.items())


def same(a: Any, b: Any) -> bool:
    "State dicts equal to the last bit."
    if isinstance(a, Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple): return len(a) == len(b) and all(map(same, a, b))
    return a == b


# ---- against torch

TORCH = {
    "ema": (dict(avg="ema", decay=0.9), dict(avg_fn=swa_utils.get_ema_avg_fn(0.9))),
    "ema, many": (dict(avg="ema", decay=0.97), dict(multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.97))),
    "polyak": (dict(avg="polyak"), dict(avg_fn=swa_utils.get_swa_avg_fn())),
    "swa": (dict(avg="swa"), dict(avg_fn=swa_utils.get_swa_avg_fn()))}


@pytest.mark.parametrize("use_buffers", [True, False])
@pytest.mark.parametrize("name", TORCH)
def test_equals_torch(name, use_buffers):
    ours, theirs = TORCH[name]
    net = small()
    mine = WeightAverage(net, **ours, use_buffers=use_buffers)
    other = swa_utils.AveragedModel(net, **theirs, use_buffers=use_buffers)
    start = copy.deepcopy(net)
    for t in trained(net, 25):
        mine.update_parameters(net)
        other.update_parameters(net)
        assert close(mine.module, other.module), t
    assert mine.n_averaged == other.n_averaged == 25
    assert not close(mine.module, net, 1e-3) and not close(mine.module, start, 1e-3)
    x, _ = batch(99)
    mine.eval(), other.eval()
    assert torch.allclose(mine(x), other(x), rtol=0, atol=1e-12)
    assert mine.module[1].num_batches_tracked == 25   # a count is the model's own, never a mean of counts


def test_the_trainers_average_to_the_last_bit():
    "Drop-in for what the trainer has used so far."
    net = small()
    mine = WeightAverage(net, "ema", 0.998)
    other = swa_utils.AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True)
    for _ in trained(net, 20):
        mine.update_parameters(net)
        other.update_parameters(net)
    assert same(floats(mine.module), floats(other.module))


def test_a_state_of_torchs_average_is_gone_on_with():
    net = small()
    other = swa_utils.AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in trained(net, 7): other.update_parameters(net)
    mine = WeightAverage(small(3), "ema", 0.9)
    mine.load_state_dict(other.state_dict())
    assert mine.n_seen == mine.n_averaged == 7
    for _ in trained(net, 5, first=7):
        mine.update_parameters(net)
        other.update_parameters(net)
    assert close(mine.module, other.module)


@pytest.mark.parametrize(("start", "every"), [(100, 1), (3, 2)])
def test_a_state_of_torchs_average_is_gone_on_with_where_averaging_begins_late(start, every):
    "It says how many were averaged, not how many came before; what is there goes on at once."
    net = small()
    other = swa_utils.AveragedModel(net, use_buffers=True)
    for _ in trained(net, 7): other.update_parameters(net)
    mine = WeightAverage(small(3), "swa", start=start, every=every)
    mine.load_state_dict(other.state_dict())
    for k, _ in enumerate(trained(net, 4, first=7), 1):
        mine.update_parameters(net)
        if k % every == 0: other.update_parameters(net)
        assert mine.n_averaged == 7 + k//every
    assert close(mine.module, other.module)


def weights_seen(net: nn.Module, average: WeightAverage, steps: int) -> list[Tensor]:
    seen = []
    for _ in trained(net, steps):
        average.update_parameters(net)
        seen.append(nn.utils.parameters_to_vector(net.parameters()).detach().clone())
    return seen


def now(average: WeightAverage) -> Tensor: return nn.utils.parameters_to_vector(average.module.parameters()).detach()


def test_start_and_every():
    net = small()
    average = WeightAverage(net, "swa", start=10, every=4)
    seen = []
    for k in range(1, 24):
        for _ in trained(net, 1, first=k): average.update_parameters(net)
        seen.append(nn.utils.parameters_to_vector(net.parameters()).detach().clone())
        if k < 14: assert torch.equal(now(average), seen[-1])                  # until the first it follows the model
        if k == 14: assert torch.equal(now(average), seen[13]) and average.n_averaged == 1
        if k == 17: assert torch.equal(now(average), seen[13])
    assert average.n_averaged == 3 and average.n_seen == 23
    assert torch.allclose(now(average), (seen[13] + seen[17] + seen[21])/3, rtol=0, atol=1e-12)


def test_tail_mean_and_debiased_average_are_the_closed_forms():
    net = small()
    tail = WeightAverage(net, "polyak", start=5)
    seen = torch.stack(weights_seen(net, tail, 20))
    assert torch.allclose(now(tail), seen[5:].mean(0), rtol=0, atol=1e-12)
    net = small()
    ema = WeightAverage(net, "ema", 0.8, debias=True)
    seen = torch.stack(weights_seen(net, ema, 20))
    w = 0.8**torch.arange(19, -1, -1, dtype=torch.float64)
    assert torch.allclose(now(ema), (w[:, None]*seen).sum(0)/w.sum(), rtol=0, atol=1e-12)
    shares = [WeightAverage(net, "ema", 0.9999, debias=True).share(t) for t in (1, 2, 10)]
    assert np.allclose(shares, [1, 1/2, 1/10], rtol=1e-3)                        # at first a plain mean


def test_the_model_is_left_alone_and_decay_0_follows_it():
    net = small()
    before = copy.deepcopy(net.state_dict())
    average = WeightAverage(net, decay=0)
    assert same(before, net.state_dict())
    for _ in trained(net, 6): average.update_parameters(net)
    assert same(average.module.state_dict(), net.state_dict())


def test_a_half_precision_model_is_averaged_in_float32():
    net = nn.Linear(50, 1, bias=False).to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"weight is bfloat16.*deepcopy\(model\).float\(\)"): WeightAverage(net)
    average = WeightAverage(copy.deepcopy(net).float(), decay=0.999)
    nn.init.zeros_(net.weight)
    average.update_parameters(net)
    nn.init.ones_(net.weight)
    for _ in range(100): average.update_parameters(net)
    assert torch.allclose(average.module.weight, torch.tensor(1 - 0.999**100), atol=1e-5)


# ---- resumed

@pytest.mark.parametrize("settings", [dict(avg="ema", decay=0.9), dict(avg="ema", decay=0.9, debias=True, start=4),
                                      dict(avg="polyak", start=3), dict(avg="swa", start=3, every=5)], ids=str)
def test_average_resumes_bit_for_bit(settings):
    net = small()
    whole = WeightAverage(net, **settings)
    for t in trained(net, 20):
        whole.update_parameters(net)
        if t == 10:
            file = io.BytesIO()
            torch.save(whole.state_dict(), file)
            again = WeightAverage(small(9), **settings)
            again.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
        elif t > 10: again.update_parameters(net)
    assert same(whole.state_dict(), again.state_dict()) and whole.n_averaged > 1


# ---- batch norm

class Odd(nn.Module):
    "Batch norms of several kinds, one of them frozen by its owner, one without statistics."
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.BatchNorm2d(2), nn.BatchNorm1d(4, momentum=0.3), nn.BatchNorm1d(4, track_running_stats=False)
        self.fc = nn.Linear(72, 4)

    def forward(self, x): return self.c(self.b(self.fc(self.a(x).flatten(1))))


@pytest.mark.parametrize("kind", ["tensors", "pairs", "lists"])
def test_update_bn_equals_torch(kind):
    torch.manual_seed(0)
    net = Odd().double()
    net(batch(0)[0])
    net.eval()
    net.b.train()
    other = copy.deepcopy(net)
    pairs = [batch(t, n=4 + t) for t in range(6)]
    loader = {"tensors": [x for x, _ in pairs], "pairs": pairs, "lists": [list(p) for p in pairs]}[kind]
    update_bn(iter(loader), net)
    swa_utils.update_bn(iter(loader), other)
    assert all(torch.allclose(v, other.state_dict()[k], rtol=0, atol=1e-12) for k, v in net.state_dict().items())
    assert net.a.num_batches_tracked == 6
    assert [m.training for m in net.modules()] == [False, False, True, False, False]  # torch would switch `b` off
    assert net.a.momentum == 0.1 and net.b.momentum == 0.3
    by_hand = torch.stack([x.mean((0, 2, 3)) for x, _ in pairs]).mean(0)
    assert torch.allclose(net.a.running_mean, by_hand, rtol=0, atol=1e-12)


def test_update_bn_of_an_average_and_of_a_net_without_batch_norm():
    net = small()
    average = WeightAverage(net, "swa", use_buffers=False)
    for _ in trained(net, 8): average.update_parameters(net)
    stale = average.module[1].running_mean.clone()
    update_bn([batch(t)[0] for t in range(4)], average)
    assert not torch.allclose(stale, average.module[1].running_mean, atol=1e-4)
    plain = nn.Linear(3, 2)
    update_bn(itertools.repeat(None), plain)                     # isn't read at all: it would never end


def test_update_bn_puts_back_what_was_there():
    net = small()
    for _ in trained(net, 3): pass
    net[0].eval()
    before, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]

    def breaks():
        yield batch(0)[0]
        raise OSError("disk")

    for loader, error, words in ((breaks(), OSError, "disk"), ([], ValueError, "gave no batch"), ([{"x": 1}], TypeError, "got dict"),
                                 ([batch(0)[0][:, :1]], RuntimeError, "channels"), ([()], TypeError, "got tuple")):
        with pytest.raises(error, match=words): update_bn(loader, net)
        assert same(before, net.state_dict()) and modes == [m.training for m in net.modules()] and net[1].momentum == 0.1


# ---- SAM

def quadratic(w: Tensor) -> Tensor: return (w**4).sum()/4 + (w[0]*w[1] - 1)**2


def test_sam_is_the_papers_formula():
    "w - lr grad L(w + rho g/|g|), |g| over all tensors together (Foret et al. 2021, equations 2 and 3)."
    start = torch.tensor([1.5, -0.3, 0.7], dtype=torch.float64)
    a, b = start[:2].clone().requires_grad_(), start[2:].clone().requires_grad_()
    optimizer = SAM(torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.05), rho=0.2)

    def closure():
        loss = quadratic(torch.cat([a, b]))
        loss.backward()
        return loss

    gradient = torch.func.grad(quadratic)
    w = start.clone()
    for _ in range(30):
        assert optimizer.step(closure).item() == pytest.approx(quadratic(w).item(), abs=1e-12)
        g = gradient(w)
        w = w - 0.05*gradient(w + 0.2*g/g.norm())
        assert torch.allclose(torch.cat([a, b]).detach(), w, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1), lambda p: Adam(p, lr=0.01),
                                  lambda p: Adadelta(p, rho=0.8), lambda p: torch.optim.AdamW(p, lr=0.01)])
def test_sam_with_rho_0_is_the_optimizer_alone(make):
    one, two = small(), small()
    optimizer = SAM(make(one.parameters()), rho=0)
    assert optimizer.param_groups[0].get("rho", 0.8) == 0.8       # Adadelta's own
    one[1].eval(), two[1].eval()                                  # the second look would count in the running statistics
    for _ in trained(one, 6, optimizer): pass
    for _ in trained(two, 6, make(two.parameters())): pass
    assert same(one.state_dict(), two.state_dict())


def test_sam_resumes_bit_for_bit_and_schedules_work():
    def schedule(optimizer): return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=30)
    whole = small()
    optimizer = SAM(torch.optim.SGD(whole.parameters(), lr=0.1, momentum=0.9), rho=0.1)
    steps = schedule(optimizer)
    for t in trained(whole, 20, optimizer):
        steps.step()
        if t == 9:
            again, file = copy.deepcopy(whole), io.BytesIO()
            torch.save([optimizer.state_dict(), steps.state_dict()], file)
    other = SAM(torch.optim.SGD(again.parameters(), lr=0.7, momentum=0.5), rho=0.3)
    more = schedule(other)
    for part, state in zip((other, more), torch.load(io.BytesIO(file.getvalue()), weights_only=True), strict=True):
        part.load_state_dict(state)
    assert other.rho == 0.1 and other.param_groups is other.optimizer.param_groups
    for _ in trained(again, 10, other, first=10): more.step()
    assert same(whole.state_dict(), again.state_dict()) and same(optimizer.state_dict(), other.state_dict())
    assert optimizer.param_groups[0]["lr"] == optimizer.optimizer.param_groups[0]["lr"] != 0.1
    other.load_state_dict(torch.optim.SGD(again.parameters(), lr=0.3).state_dict())
    assert other.rho == 0.1 and other.param_groups[0]["lr"] == 0.3


def test_sam_puts_the_weights_back_when_the_second_look_fails():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer, calls = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5), []

    def closure():
        calls.append(w.detach().clone())
        if len(calls) == 2: raise OSError("disk")
        loss = (w**2).sum()
        loss.backward()
        return loss

    with pytest.raises(OSError, match="disk"): optimizer.step(closure)
    assert w.tolist() == [1, 2] and (calls[1] - calls[0]).norm().item() == pytest.approx(0.5)


def test_sam_without_slope_and_with_a_new_group():
    w, v = torch.zeros(2, requires_grad=True), torch.ones(1, requires_grad=True)
    optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum() + (v**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert w.tolist() == [0, 0]
    optimizer.add_param_group({"params": [v], "lr": 0.2})
    assert len(optimizer.optimizer.param_groups) == len(optimizer.param_groups) == 2
    optimizer.step(closure)
    assert v.item() == pytest.approx(1 - 0.2*2*1.5)


# ---- what is refused

def net2() -> nn.Module: return nn.Linear(2, 2)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no model": (lambda: WeightAverage("model"), TypeError, "must be an nn.Module, got 'model'"),
    "misspelt": (lambda: WeightAverage(net2(), "emma"), ValueError, "unknown avg 'emma'. Did you mean 'ema'"),
    "decay 1": (lambda: WeightAverage(net2(), decay=1), ValueError, "decay must be a number >= 0 and < 1, got 1"),
    "decay nan": (lambda: WeightAverage(net2(), decay=float("nan")), ValueError, "decay must be"),
    "start": (lambda: WeightAverage(net2(), "swa", start=-1), ValueError, "start must be a whole number >= 0, got -1"),
    "every": (lambda: WeightAverage(net2(), "swa", every=0), ValueError, "every must be a whole number >= 1, got 0"),
    "polyak's every": (lambda: WeightAverage(net2(), "polyak", every=5), ValueError, "for one in 5 write avg='swa'"),
    "swa's bias": (lambda: WeightAverage(net2(), "swa", debias=True), ValueError, "debias=True is for avg='ema'"),
    "debias": (lambda: WeightAverage(net2(), debias="yes"), ValueError, "debias must be True or False, got 'yes'"),
    "buffers": (lambda: WeightAverage(net2(), use_buffers=2), ValueError, "use_buffers must be True or False, got 2"),
    "lazy": (lambda: WeightAverage(nn.LazyLinear(3)), ValueError, "run the model on one batch"),
    "another net": (lambda: WeightAverage(net2()).update_parameters(nn.Linear(3, 2)), ValueError, "6 numbers|8 numbers"),
    "fewer tensors": (lambda: WeightAverage(net2()).update_parameters(nn.Linear(2, 2, bias=False)), ValueError, "1 tensors"),
    "update by words": (lambda: WeightAverage(net2()).update_parameters({}), TypeError, "must be an nn.Module"),
    "bn of words": (lambda: update_bn([], "net"), TypeError, "must be an nn.Module, got 'net'"),
    "bn of a tensor": (lambda: update_bn(torch.ones(4, 2), nn.BatchNorm1d(2)), TypeError, r"write update_bn\(\[x\], model\)"),
    "bn of nothing": (lambda: update_bn(None, nn.BatchNorm1d(2)), TypeError, "as a DataLoader or a list of tensors does, got None"),
    "sam's class": (lambda: SAM(torch.optim.SGD), TypeError, r"SAM\(torch.optim.SGD\(model.parameters\(\)"),
    "sam's sam": (lambda: SAM(SAM(torch.optim.SGD(net2().parameters(), lr=1))), ValueError, "got SAM"),
    "sam's lbfgs": (lambda: SAM(torch.optim.LBFGS(net2().parameters())), ValueError, "got LBFGS"),
    "rho": (lambda: SAM(torch.optim.SGD(net2().parameters(), lr=1), rho=-1), ValueError, "rho must be a number >= 0, got -1"),
    "no closure": (lambda: SAM(torch.optim.SGD(net2().parameters(), lr=1)).step(), ValueError, r"write step\(closure\)"),
    "no backward": (lambda: SAM(torch.optim.SGD(net2().parameters(), lr=1)).step(lambda: torch.zeros(1)), ValueError,
                    r"must call backward\(\)"),
    "figure's rate": (lambda: AveragedWalk(lr=2), ValueError, "lr must be a number > 0 and < 2, got 2"),
    "figure's memory": (lambda: AveragedWalk(memory=0.5), ValueError, "memory must be a number >= 1, got 0.5"),
    "figure's start": (lambda: AveragedWalk(start=400), ValueError, "start must be a whole number >= 0 and <= 399, got 400"),
    "figure's steps": (lambda: AveragedWalk(steps=0), ValueError, "steps must be"),
    "figure's seed": (lambda: AveragedWalk(seed=-1), ValueError, "seed must be")}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_a_remedy(what):
    call, error, words = REFUSED[what]
    with pytest.raises(error, match=words) as caught: call()
    assert "\n" not in str(caught.value)


def test_remedies_work():
    lazy = nn.LazyLinear(3)
    lazy(torch.zeros(1, 2))
    WeightAverage(lazy).update_parameters(lazy)
    assert WeightAverage(net2(), "swa", every=5).every == 5
    with pytest.raises(RuntimeError, match="Missing key"): WeightAverage(net2()).load_state_dict(net2().state_dict())


# ---- the moving figure

def test_javascript_walks_the_same_walk():
    js = load("math/weight_averaging.js")
    from cam_course.base.core import counter_normal
    for lr, memory, start, seed in ((0.4, 100., 100, 0), (1.9, 1., 0, 3), (0.02, 1000., 390, 7), (0.7, 5., 37, 1)):
        noise = counter_normal(torch.tensor([seed]), 800, torch.float64)[0].numpy()
        walk, average = AveragedWalk(lr=lr, memory=memory, start=start, seed=seed).paths()
        found = js("noisyWalk", lr, noise)
        np.testing.assert_allclose(found, walk, rtol=0, atol=1e-9)
        np.testing.assert_allclose(js("averagedPath", found, 1 - 1/memory, start), average, rtol=0, atol=1e-9)
        losses = js("((path) => path.map(valleyLoss))", found)
        np.testing.assert_allclose(losses, W._valley_loss(walk), rtol=0, atol=1e-9)


def test_the_figures_average_is_the_librarys():
    "The hero's red point is what `WeightAverage` makes of the same walk."
    path, average = AveragedWalk(memory=50, start=30, steps=120).paths()
    holder = nn.Module()
    holder.w = nn.Parameter(torch.tensor(path[0]))
    model = WeightAverage(holder, decay=1 - 1/50, debias=True, start=30)
    for p, wanted in zip(path[1:], average[1:], strict=True):
        holder.w.data.copy_(torch.tensor(p))
        model.update_parameters(holder)
        np.testing.assert_allclose(model.module.w.detach(), wanted, rtol=0, atol=1e-12)


def test_the_figure_says_its_numbers_and_averages_help():
    ratio = []
    for seed in range(20):
        figure = AveragedWalk(seed=seed)
        walk, average = figure.losses()
        assert f"{walk:.3f}" in figure.alt() and f"{average:.3f}" in figure.alt()
        ratio.append(walk/average)
    assert np.median(ratio) > 2
    assert AveragedWalk(memory=1, start=0).losses()[0] == pytest.approx(AveragedWalk(memory=1, start=0).losses()[1])


def test_the_figure_in_a_page(browser, tmp_path):
    figure = AveragedWalk()
    with opened(browser, [figure], tmp_path) as page:
        said = page.inner_text(".cc-readout")
        walk, average = figure.losses()
        assert f"the walk {walk:.2g}" in said and f"the average {average:.2g}" in said
        page.focus("input[data-trait=memory]")
        page.keyboard.press("Home")
        page.wait_for_function("!document.querySelector('.cc-readout').textContent.includes('times')")
        page.keyboard.press("End")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('times less')")
        before = page.inner_text(".cc-readout")
        page.click("text=Other noise")
        page.wait_for_function("(old) => document.querySelector('.cc-readout').textContent !== old", arg=before)
        check_playing(page, "▶ Walk", True)
