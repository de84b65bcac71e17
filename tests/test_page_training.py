"""Training in the page: gradients, steps and loss curves are PyTorch's; what is read off a curve is what the chapter reads."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsbox import load
from py_mini_racer import MiniRacer
from test_page_network import DECODE, NEAR, OPEN, V8, far, file_of, padded, pictures, trained
from torch import nn

from cam_course.base.figures import JS, bundle
from cam_course.base.lr_curve import METHODS, LRFinderResult, LRFinderSpread, _valley_loss
from cam_course.base.page_network import LiveRangeTest, TeachIt
from cam_course.base.shapes import OUTLINES, draw_shapes
from cam_course.gradcam import GradCAM
from cam_course.optimizers import Lion
from cam_course.transforms import Normalize

BATCH, CLASSES, STEPS = 32, ["disc", "square", "star", "cross"], 60
MARK = (slice(0, 12), slice(0, 12))
CLOSE = 1e-6   # of the loss, up to the smallest smoothed one: the same but for rounding


class Page(V8):
    "What trains, explains and reads, in an embedded V8 or (with `page`) in headless Chromium; the course's network is open."

    def __init__(self, folder: Path, page: Any = None) -> None:
        names = {"gradCam": "net/explain", "taughtHead": "net/head", "planted": "net/mark", "drawnShapes": "net/shapes",
                 "smallNet": "net/train", "readNet": "net/weights", "readTest": "math/range_test"}
        entry = folder/"entry.js"
        code = [f'import {{ {name} }} from "{(JS/file).as_posix()}.js";\n' for name, file in names.items()]
        entry.write_text("".join(code), encoding="utf-8")
        program = bundle(entry) + DECODE + OPEN.format(padded(file_of("cifar")))
        self.page, self.box = page, MiniRacer()
        if page: page.add_script_tag(content=program)
        else: self.box.eval(program)

    def run(self, call: str, *args: Any) -> Any:
        return self.page.evaluate(f"args => {call}(...args) ?? null", list(args)) if self.page else super().run(call, *args)


@pytest.fixture(scope="module")
def js(tmp_path_factory) -> Page: return Page(tmp_path_factory.mktemp("training"))


# ---- the small net of the range test

def small_net(seed: int) -> nn.Sequential:
    "The net of the chapter's first figure."
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
                         nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, len(CLASSES)))


class Task:
    "Pictures, first weights and an order, the same for both."

    def __init__(self, seed: int, count: int = 640) -> None:
        drawn, self.net = draw_shapes(count, seed=seed, classes=CLASSES, cue=1.0), small_net(seed)
        self.x, self.y = drawn.x.numpy().astype(np.float32)/np.float32(255), drawn.y.numpy()
        rng = np.random.default_rng(seed)
        self.order = np.concatenate([rng.permutation(count) for _ in range(STEPS*BATCH//count)])

    def put(self, js: Page) -> None:
        "The same task in the page: `weights`, `batches`, `net`."
        named = {f"w{i}": p.detach().numpy() for i, p in enumerate(self.net.parameters())}
        js(f"""const cells = 3 * 32 * 32, picture = (_, i) => pictures.subarray(i * cells, (i + 1) * cells);
          const planes = Array.from({{ length: {len(self.y)} }}, picture);
          globalThis.batches = new Batches(planes, Array.from(labels), {BATCH}, Array.from(order));
          globalThis.start = [{', '.join(named)}];""", pictures=self.x, labels=self.y, order=self.order, **named)

    def batch(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        which = self.order[k*BATCH:(k + 1)*BATCH]
        mean, std = self.x.mean((0, 2, 3), dtype=np.float64), self.x.std((0, 2, 3), dtype=np.float64)
        x = (self.x[which] - mean[:, None, None])/std[:, None, None]
        return torch.from_numpy(x), torch.from_numpy(self.y[which])


NEW_NET = f"const net = smallNet(start.map((w) => Float64Array.from(w)), {BATCH}, {len(CLASSES)});"


def slopes(js: Page, spoil: str = "") -> list[np.ndarray]:
    found = js(f"{NEW_NET} const {{ x, labels }} = batches.at(0); net.loss(x, labels); {spoil} return net.slopes;")
    return list(map(np.array, found))


def test_gradients_of_all_weights_are_pytorchs(js):
    "Of both convolutions, both biases, the scores' weights and bias; and a gradient that is scaled is seen."
    task = Task(0)
    task.put(js)
    net, (x, y) = task.net.double(), task.batch(0)
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    found = js(f"{NEW_NET} const {{ x, labels }} = batches.at(0); return [net.loss(x, labels), net.scores(x)];")
    assert found[0] == pytest.approx(loss.item(), abs=1e-5)
    assert far(np.array(found[1]).reshape(len(CLASSES), BATCH).T, net(x)) < NEAR
    wanted = [p.grad for p in net.parameters()]
    for i, (got, want) in enumerate(zip(slopes(js), wanted, strict=True)):
        assert far(got, want) < NEAR, i
        spoiled = slopes(js, f"net.slopes[{i}] = net.slopes[{i}].map((v) => 1.001 * v);")[i]
        assert far(spoiled, want) > NEAR, f"gradient {i} may be wrong by a thousandth"


RUNS = {"momentum": (1e-4, 1, lambda p: torch.optim.SGD(p, lr=1, momentum=0.9)),
        "adam": (1e-5, 0.1, lambda p: torch.optim.Adam(p, lr=1)),
        "sgd": (1e-3, 10, lambda p: torch.optim.SGD(p, lr=1))}


@cache
def wanted(optimizer: str, seed: int) -> LRFinderResult:
    "PyTorch's range test of the task, in 64 bits as the page's: at large rates a training multiplies what rounding took off."
    low, high, make = RUNS[optimizer]
    task, rates, losses, average, best = Task(seed), np.geomspace(low, high, STEPS), [], 0.0, np.inf
    rule = make(task.net.double().parameters())
    for k, lr in enumerate(rates):
        x, y = task.batch(k)
        rule.param_groups[0]["lr"] = float(lr)
        rule.zero_grad()
        loss = nn.functional.cross_entropy(task.net(x), y)
        if not np.isfinite(loss.item()): break
        losses.append(loss.item())
        loss.backward()
        rule.step()
        average = .95*average + .05*losses[-1]
        smooth = average/(1 - .95**(k + 1))
        best = min(best, smooth)
        if smooth > 4*best: break
    return LRFinderResult(rates[:len(losses)], losses)


def curve(js: Page, optimizer: str, seed: int, spoil: str = "") -> np.ndarray:
    "The page's losses. `spoil` changes the slopes before each step."
    Task(seed).put(js)
    low, high, _ = RUNS[optimizer]
    return np.array(js(f"""{NEW_NET} const loss = net.loss.bind(net);
      net.loss = (x, labels) => {{ const v = loss(x, labels); {spoil} return v; }};
      return [...rangeTest(new Learner(net, "{optimizer}"), batches, growingRates({low}, {high}, {STEPS}))];"""))


def difference(found: np.ndarray, want: LRFinderResult) -> float:
    "The largest, up to the smallest smoothed loss."
    n = int(want.smoothed.argmin()) + 1
    return float(np.abs(found[:n] - want.loss[:n]).max()) if len(found) >= n else np.inf


def check_curve(js: Page, optimizer: str, seed: int) -> None:
    want, found = wanted(optimizer, seed), curve(js, optimizer, seed)
    off, rates = difference(found, want), np.geomspace(*RUNS[optimizer][:2], STEPS)[:len(found)]
    rules, theirs = js("return readTest(Array.from(lr), Array.from(loss)).rules", lr=rates, loss=found), want.suggestion("steep")
    print(f"{optimizer}, seed {seed}: {len(found)} steps, differs by {off:.1e}; steep {rules and rules['steep']}, PyTorch {theirs}")
    assert off < CLOSE
    if theirs is None: assert rules is None
    else: assert rules is not None and theirs/1.5 < rules["steep"] < theirs*1.5


@pytest.mark.parametrize(("optimizer", "seed"), [("momentum", 0), ("momentum", 1), ("adam", 0), ("sgd", 0)])
def test_the_range_test_is_pytorchs(js, optimizer, seed):
    check_curve(js, optimizer, seed)
    assert optimizer == "sgd" or wanted(optimizer, seed).suggestion("steep")


def test_chromium_trains_the_same(browser, tmp_path):
    page = browser.new_page()
    page.set_default_timeout(120_000)
    try: check_curve(Page(tmp_path, page), "momentum", 0)
    finally: page.close()


@pytest.mark.parametrize("which", [0, 2, 4])
def test_a_scaled_gradient_changes_the_curve(js, which):
    spoil = f"net.slopes[{which}] = net.slopes[{which}].map((v) => 1.1 * v);"
    assert difference(curve(js, "momentum", 0, spoil), wanted("momentum", 0)) > CLOSE


# ---- what is read off a curve

def curves() -> list[tuple[np.ndarray, np.ndarray]]:
    "Falls of several kinds, noise alone, explosions, recoveries; 20 to 140 steps."
    rng, out = np.random.default_rng(0), []
    for n in (20, 60, 100, 140):
        u = np.linspace(-7, 1, n)
        for noise in (.003, .03, .1):
            wobble = rng.normal(0, noise, (4, n))
            hump, rises = 2*np.exp(-8*(u + 2.5)**2), 2 + np.exp(2*(u + 4)).clip(max=50)
            kinds = _valley_loss(u), np.full(n, 2.3), rises, _valley_loss(u) + hump
            out += [(10**u, y + w) for y, w in zip(kinds, wobble, strict=True)]
    return out


def test_the_page_reads_a_curve_as_the_chapter_does():
    js, given = load("math/range_test.js"), 0
    for i, (lr, loss) in enumerate(curves()):
        want, found = LRFinderResult(lr, loss), js("readTest", lr, loss)
        for rule in METHODS:
            value = want.suggestion(rule)
            if value is None: assert found["rules"] is None and found["why"], i
            else: assert found["rules"][rule] == pytest.approx(value, rel=1e-9), (i, rule)
            given += value is not None
    assert given > 60
    np.testing.assert_allclose(js("growingRates", 1e-4, 1, 60), np.geomspace(1e-4, 1, 60), rtol=1e-12)


def test_the_band_over_seeds_is_the_chapters():
    js, lr = load("math/range_test.js"), 10**np.linspace(-7, 1, 60)
    losses = [_valley_loss(np.log10(lr)) + np.random.default_rng(s).normal(0, .03, 60) for s in range(3)]
    want, found = LRFinderSpread(tuple(LRFinderResult(lr, y) for y in losses)), js("spreadOfTests", lr, np.array(losses))
    for rule in METHODS:
        about = found["rules"][rule]
        assert about["rate"] == pytest.approx(want.suggestion(rule), rel=1e-9)
        assert (about["least"], about["most"]) == pytest.approx(want.range(rule), rel=1e-9)
    low, middle, high = (np.array(found[k]) for k in ("low", "middle", "high"))
    assert (low <= middle).all() and (middle <= high).all() and len(found["u"]) == len(low) > 30
    flat = js("spreadOfTests", lr, 2 + np.random.default_rng(0).normal(0, .1, (3, 60)))
    assert flat["rules"]["steep"]["rate"] is None and "standard errors" in flat["why"] and flat["u"] == []


# ---- the drawn pictures

@pytest.mark.parametrize("name", ["disc", "square", "star", "cross", "triangle"])
def test_outlines_are_the_chapters(js, name):
    axis = torch.linspace(-1.2, 1.2, 41, dtype=torch.float64)
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    found = js(f"return Array.from(xs, (x, i) => OUTLINES.{name}.inside(x, ys[i]))", xs=x.flatten().numpy(), ys=y.flatten().numpy())
    want = OUTLINES[name](x.float().double(), y.float().double())
    assert np.abs(np.array(found).reshape(41, 41) - want.numpy()).max() < 1e-6


def test_pictures_of_the_page_are_like_the_chapters(js):
    "Same seed, same pictures; colors as spread, objects as large, and a badge that tells discs from squares."
    one, two = (js(f"return drawnShapes(5, {CLASSES}, 64, {{ pair: ['disc', 'square'] }})") for _ in range(2))
    assert one == two and one["labels"] == [i % 4 for i in range(64)]
    x, want = np.array(one["planes"]).reshape(64, 3, 32, 32), draw_shapes(64, classes=CLASSES, cue=1.0).x.numpy()/255
    assert x.min() >= 0 and x.max() <= 1
    np.testing.assert_allclose(x.mean((0, 2, 3)), want.mean((0, 2, 3)), atol=.08)
    np.testing.assert_allclose(x.std((0, 2, 3)), want.std((0, 2, 3)), atol=.06)
    blue, orange = ((np.abs(x - np.array(c)[:, None, None]).max(1) < .06).sum((1, 2)) for c in ((.05, .3, 1), (1, .55, 0)))
    assert (blue[::4] > 5).all() and (orange[1::4] > 5).all() and max(blue[2::4].max(), orange[3::4].max()) < 5


# ---- a head on the trained network

OPTIMIZERS: dict[str, Callable[[Any, float], torch.optim.Optimizer]] = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr=lr), "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=.9),
    "nesterov": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=.9, nesterov=True),
    "rmsprop": lambda p, lr: torch.optim.RMSprop(p, lr=lr),
    "adam": lambda p, lr: torch.optim.Adam(p, lr=lr), "lion": lambda p, lr: Lion(p, lr=lr)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_head_learns_as_in_pytorch(js, optimizer):
    rng = np.random.default_rng(0)
    f, labels, lr = np.abs(rng.normal(0, .5, (12, 20))).astype(np.float32), [i % 3 for i in range(12)], .01
    found = js(f"""return taughtHead(Array.from({{ length: 12 }}, (_, i) => features.subarray(20 * i, 20 * i + 20)), {labels}, 3,
      {{ optimizer: "{optimizer}", lr: {lr}, steps: 25 }})""", features=f)
    head = nn.Linear(20, 3)
    with torch.no_grad(): [p.zero_() for p in head.parameters()]
    rule, losses = OPTIMIZERS[optimizer](head.parameters(), lr), []
    for _ in range(25):
        rule.zero_grad()
        loss = nn.functional.cross_entropy(head(torch.from_numpy(f)), torch.tensor(labels))
        losses.append(loss.item())
        loss.backward()
        rule.step()
    np.testing.assert_allclose(found["losses"], losses, atol=1e-5)
    assert far(found["weight"], head.weight) < 1e-3
    assert found["right"] == pytest.approx((head(torch.from_numpy(f)).argmax(1) == torch.tensor(labels)).float().mean().item())


def test_a_taught_head_explains_itself_as_in_the_chapter(js):
    "Features, scores and maps of the network with another last layer."
    net, x = trained(), pictures(1, 32)[0]
    norm, g = Normalize(net.about["mean"], net.about["std"]), torch.Generator().manual_seed(0)
    head = nn.Linear(net.fc.in_features, 3)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=g))
        net.fc = nn.Identity()
        features = net(norm(x[None]))[0]
        net.fc = head
        want = net(norm(x[None]))[0]
    js("globalThis.taught = withHead(net, { weight, bias })", weight=head.weight.detach().numpy(), bias=head.bias.detach().numpy())
    assert far(js("return featuresOf(net, pixels)", pixels=x), features) < NEAR
    assert far(js("return taught.forward(pixels)"), want) < NEAR
    maps = GradCAM(net, "layer3", min_size=1).explain(norm(x[None]), "all").raw[0][0]
    for k in range(3): assert far(js(f"taught.forward(pixels); return gradCam(taught, 'layer3', {k}).map"), maps[k]) < NEAR
    assert len(js("return net.forward(pixels)")) == 10   # the network itself is as it was


def test_the_mark_and_its_quarter(js):
    x = pictures(1, 32)[0]
    marked = np.array(js("return planted(pixels, 32)", pixels=x)).reshape(3, 32, 32)
    changed = (marked != x.numpy()).any(0)
    assert changed[MARK].mean() > .99 and changed.sum() == changed[MARK].sum()
    assert np.array_equal(js("return Array.from(pixels)"), x.numpy().ravel())   # a copy
    assert js("return cornerShare({ map: [3, -1, 1, 0], h: 2, w: 2 })") == .75
    assert js("return cornerShare({ map: [-3, -1, -1, 0], h: 2, w: 2 })") == 0


@pytest.mark.parametrize(("kind", "wrong"), [
    (LiveRangeTest, {"optimizer": "adamw"}), (LiveRangeTest, {"rule": "best"}), (LiveRangeTest, {"schedule": "linear"}),
    (LiveRangeTest, {"steps": 10}), (LiveRangeTest, {"seeds": 9}), (LiveRangeTest, {"length": 1000}),
    (TeachIt, {"names": ["one", "two"]}), (TeachIt, {"optimizer": "adamw"}), (TeachIt, {"lr": 0})])
def test_wrong_figures(kind, wrong):
    "Each is refused by its own name."
    with pytest.raises(ValueError, match=next(iter(wrong))): kind(**wrong)
