"""The network in the page: its scores, maps and gradients are PyTorch's; what it is asked there is what the chapters define."""

import base64
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from py_mini_racer import MiniRacer
from torchvision.models import resnet18

from cam_course.adversarial import PixelModel, pgd
from cam_course.base.figures import bundle
from cam_course.base.mobilenet import mobilenet_v2
from cam_course.base.page_network import network_file
from cam_course.gradcam import GradCAM
from cam_course.resnet import ResNet18, ResNet34
from cam_course.transforms import Normalize

NEAR = 1e-4   # of the largest number


def trained() -> torch.nn.Module: return ResNet18(weights="cifar10_jpeg")


@cache
def file_of(name: str) -> bytes: return network_file({"cifar": trained, "mobilenet": mobilenet_v2}[name]())


DECODE = """
const unbase = (text) => {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", out = new Uint8Array(text.length / 4 * 3);
  const value = new Uint8Array(128);
  for (let i = 0; i < 64; i++) value[letters.charCodeAt(i)] = i;
  for (let i = 0, k = 0; i < text.length; i += 4) {
    const n = (value[text.charCodeAt(i)] << 18) | (value[text.charCodeAt(i + 1)] << 12)
      | (value[text.charCodeAt(i + 2)] << 6) | value[text.charCodeAt(i + 3)];
    out[k++] = n >> 16; out[k++] = (n >> 8) & 255; out[k++] = n & 255;
  }
  return out;
};
"""


OPEN = """const {{ graph, load }} = readNet(unbase('{}')), net = new Network(graph, load);
const plain = (key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
globalThis.run = (code) => JSON.stringify(eval(`(() => {{ ${{code}} }})() ?? null`), plain);
globalThis.give = (name, text, size) => {{ globalThis[name] = new Float32Array(unbase(text).buffer.slice(0, 4 * size)); }};
"""


class V8:
    "The network in an embedded V8: `js(code, name=numbers)` gives what the code returns."

    def __init__(self, file: bytes) -> None:
        self.box = MiniRacer()
        self.box.eval(program(file))

    def run(self, call: str, *args: Any) -> Any: return self.box.eval(f"{call}({', '.join(map(json.dumps, args))})")

    def __call__(self, code: str, **values: Any) -> Any:
        for name, value in values.items():
            numbers = np.ascontiguousarray(value, np.float32)
            self.run("give", name, padded(numbers.tobytes()), numbers.size)
        return json.loads(self.run("run", code))

    def forward(self, pixels: Any) -> np.ndarray: return np.array(self("return net.forward(pixels)", pixels=pixels))


def program(file: bytes) -> str:
    "The engine, what may be asked of it, and a network opened."
    return bundle("net/explain.js") + bundle("net/weights.js") + DECODE + OPEN.format(padded(file))


def padded(data: bytes) -> str: return base64.b64encode(data + bytes(-len(data) % 3)).decode()


@cache
def engine(name: str) -> V8: return V8(file_of(name))


def far(found: Any, wanted: Any) -> float:
    "Largest difference, in units of the largest number."
    wanted = wanted.detach().numpy() if isinstance(wanted, torch.Tensor) else np.asarray(wanted)
    return float(np.abs(np.asarray(found).reshape(wanted.shape) - wanted).max()/np.abs(wanted).max())


def pictures(count: int, side: int) -> torch.Tensor:
    "Smooth color fields with a little noise, in [0, 1]: they wake more of a network than noise alone."
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (smooth + 0.08*torch.randn(count, 3, side, side, generator=g)).clamp(0, 1)


def asked(net: torch.nn.Module, x: torch.Tensor, norm: Normalize, stages: dict[str, torch.nn.Module]) -> dict[str, Any]:
    "PyTorch's scores, what leaves each stage, and the gradient of the best score there and at the pixels, for one picture."
    kept: dict[str, torch.Tensor] = {}
    hooks = [m.register_forward_hook(lambda m, i, o, n=n: kept.update({n: o})) for n, m in stages.items()]
    x = x[None].clone().requires_grad_()
    scores = net(norm(x))[0]
    for hook in hooks: hook.remove()
    slopes = torch.autograd.grad(scores.max(), [x, *kept.values()])
    return {"scores": scores, "values": kept, "slopes": dict(zip(["pixels", *kept], slopes, strict=True))}


def stages_of(net: torch.nn.Module, names: list[str]) -> dict[str, torch.nn.Module]:
    "By name the module whose output a stage is; a ResNet's stem ends in the first ReLU."
    found = dict(net.named_modules())
    return {n: found["relu" if n == "stem" and "relu" in found else n] for n in names}


CASES = {"cifar": (trained, 32, ["stem", "layer1", "layer2", "layer3", "layer4"]),
         "mobilenet": (mobilenet_v2, 224, ["stem", "stage1", "stage2", "stage3", "stage4", "stage5", "head"])}


def differences(js: V8, net: torch.nn.Module, norm: Normalize, x: torch.Tensor, names: list[str]) -> dict[str, float]:
    want = asked(net, x, norm, stages_of(net, names))
    best = int(want["scores"].argmax())
    out = {"scores": far(js.forward(x), want["scores"])}
    for name in ["pixels", *names]:
        slope = js(f"return net.backward(oneOf(net.graph.classes.length, {best}), '{name}')")
        out[f"slope at {name}"] = far(slope, want["slopes"][name])
        if name != "pixels": out[name] = far(js(f"return net.value('{name}').data"), want["values"][name])
    return out


def check_equal(js: V8, case: str, count: int) -> None:
    """On `count` pictures. Where a ReLU's input is 0 up to rounding, its slope may be 0 or 1, and either gradient is right: such a
    picture, at most one in ten, has to agree after it was moved by a hundredth of a grey level."""
    make, side, names = CASES[case]
    net, bad, moved = make(), [], 0
    norm, g = Normalize(net.about["mean"], net.about["std"]), torch.Generator().manual_seed(1)
    for i, x in enumerate(pictures(count, side)):
        found = differences(js, net, norm, x, names)
        if any(d > NEAR for what, d in found.items() if "slope" in what) and moved < max(1, count/10):
            moved += 1
            nudged = (x + 4e-5*torch.randn(x.shape, generator=g)).clamp(0, 1)
            found = {**differences(js, net, norm, nudged, names), **{k: d for k, d in found.items() if "slope" not in k}}
        bad += [f"picture {i}: {what} differs by {d:.1e}" for what, d in found.items() if d > NEAR]
    print(f"{case}: {count} pictures, {moved} of them moved")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(("case", "count"), [("cifar", 50), ("mobilenet", 2)])
def test_scores_maps_and_gradients_are_pytorchs(case, count): check_equal(engine(case), case, count)


@pytest.mark.parametrize("case", ["cifar", pytest.param("mobilenet", marks=pytest.mark.long)])
def test_a_scaled_channel_of_any_layer_is_seen(case):
    "Where PyTorch's own scores move by more than 1e-3 of their largest, the comparison fails: no layer escapes it."
    make, side, _ = CASES[case]
    net, js = make(), engine(case)
    norm, x = Normalize(net.about["mean"], net.about["std"]), pictures(1, side)
    order, named = js("return graph.ops.filter((op) => op.weight).map((op) => op.name)"), dict(net.named_modules())
    if case == "cifar": modules = [named[{"stem": "conv1", "scores": "fc"}.get(n, n)] for n in order]
    else: modules = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(modules) == len(order) == len({id(m) for m in modules})
    with torch.no_grad():
        want = net(norm(x))[0]
        assert far(js.forward(x[0]), want) < NEAR
        for name, module in zip(order, modules, strict=True):
            weight = module.weight.clone()
            for k, factor in ((k, f) for f in (1.2, 3, 30) for k in range(min(12, len(weight)))):
                module.weight[k] *= factor
                moved = far(net(norm(x))[0], want)
                module.weight.copy_(weight)
                if moved > 1e-3: break
            assert moved > 1e-3, f"{name}: no channel moves the scores"
            js(SCALE, which=[order.index(name), k, factor])
            seen = far(js.forward(x[0]), want)
            js("net.layers.set(kept[0], kept[1])")
            assert seen > NEAR, f"{name}: {seen:.1e}, while PyTorch moves by {moved:.1e}"
            assert seen == pytest.approx(moved, rel=.02)


SCALE = """
  const op = graph.ops.filter((o) => o.weight)[which[0]], old = net.layers.get(op.name), found = load(op);
  const each = found.weight.length / op.out, limits = { low: old.low, high: old.high };
  for (let i = which[1] * each; i < (which[1] + 1) * each; i++) found.weight[i] *= which[2];
  const shape = op.inputs[0] === "pixels" ? graph.input : net.layers.get(op.inputs[0]).shape;
  const layer = new old.constructor({ ...op, ...limits }, shape, found.weight, found.bias);
  layer.inputs = op.inputs;
  globalThis.kept = [op.name, old];
  net.layers.set(op.name, layer);
"""


def small_net(**settings: Any) -> torch.nn.Module:
    "A net with random weights and batch norms that have seen something."
    torch.manual_seed(3)
    make = settings.pop("make", ResNet18)
    net = make(width=4, **settings)
    net(torch.randn(16, 3, 32, 32))
    return net.eval()


ABOUT = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3), "class_names": [f"class {k}" for k in range(10)]}


@pytest.mark.parametrize("settings", [{}, {"make": ResNet34}, {"pool": "max"}, {"norm": "none"}, {"residual": False}],
                         ids=["resnet18", "resnet34", "max pooling", "no norm", "no shortcuts"])
def test_other_nets_of_the_family(settings):
    net = small_net(**settings)
    js = V8(network_file(net, {**net.architecture(), **ABOUT}))
    norm = Normalize(ABOUT["mean"], ABOUT["std"])
    found = differences(js, net, norm, pictures(1, 32)[0], CASES["cifar"][2])
    assert max(found.values()) < NEAR, found


@pytest.mark.parametrize("settings", [{}, {"pool": "max"}, {"norm": "none"}, {"residual": False}], ids=str)
def test_a_net_says_itself_how_it_is_built(settings):
    "Its eps too, which no state_dict has; what `about` says of it counts only where there is no net to ask."
    net = small_net(**settings)
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d): part.eps = 0.05
    file = network_file(net, {**ABOUT, "norm": "batch", "pool": "avg", "residual": True})
    found = differences(V8(file), net, Normalize(ABOUT["mean"], ABOUT["std"]), pictures(1, 32)[0], CASES["cifar"][2])
    assert max(found.values()) < NEAR, found
    if settings.get("norm") != "none": assert network_file(net.state_dict(), {**net.architecture(), **ABOUT}) != file


def test_numbers_are_kept_as_they_are(tmp_path):
    "In a file of 8 bits a weight, 8 bits; in one of 16, 16; and the description says what a page needs."
    assert len(file_of("mobilenet")) < 3_700_000 and len(file_of("cifar")) < 1_500_000
    net = small_net()
    for dtype, bits in ((None, 32), (torch.float16, 16), (torch.int8, 8)):
        state = read_weights_of(net, dtype, tmp_path)
        net.load_state_dict(state)
        file = network_file(state, {**net.architecture(), **ABOUT})
        kinds = {op["weight"]["type"] for op in json.loads(file[4:4 + int.from_bytes(file[:4], "little")])["ops"] if "weight" in op}
        assert kinds == {{8: "u8", 16: "f16", 32: "f32"}[bits]}
        found = differences(V8(file), net, Normalize(ABOUT["mean"], ABOUT["std"]), pictures(1, 32)[0], CASES["cifar"][2])
        assert max(found.values()) < NEAR
    js = engine("cifar")
    assert js("return graph.input") == [3, 32, 32] and js("return graph.classes") == list(trained().about["class_names"])
    bits = np.arange(65536, dtype=np.uint16)
    want = bits.view(np.float16).astype(float)
    got = js("return Array.from({ length: 65536 }, (_, i) => { const v = half(i); return Number.isFinite(v) ? v : String(v); })")
    got = np.array(got, dtype=float)
    np.testing.assert_array_equal(got, want)


def read_weights_of(net: torch.nn.Module, dtype: torch.dtype | None, folder: Any) -> dict[str, torch.Tensor]:
    "The state of a net after it was written in this form and read again."
    from cam_course.base.weights import read_weights, write_weights
    write_weights(folder/"w.safetensors", net.state_dict(), dtype)
    return read_weights(folder/"w.safetensors", described=False)[0]


def test_what_cannot_be_written_is_refused():
    with pytest.raises(ValueError, match="layer norm|no batch norm"):
        network_file(small_net(norm="layer"), {**ABOUT, "norm": "layer"})
    with pytest.raises(ValueError, match=r"about says nothing of 'mean'"): network_file(small_net(), {})
    with pytest.raises(ValueError, match="Linear is no ResNet of this course"): network_file(torch.nn.Linear(2, 2), ABOUT)
    theirs = resnet18(num_classes=10)   # a larger stem, with a stride and pooling behind it
    for one in (theirs, theirs.state_dict()):
        with pytest.raises(ValueError, match="is no ResNet of this course"): network_file(one, ABOUT)
    with pytest.raises(ValueError, match=r"image_size must be a whole number >= 8, got \(32, 48\)"):
        network_file(small_net(), {**ABOUT, "image_size": (32, 48)})
    with pytest.raises(ValueError, match="about has 1 class_names, the net 10 scores"):
        network_file(small_net(), {**ABOUT, "class_names": ["a"]})
    with pytest.raises(ValueError, match="the net takes 1 channels, about has 3 of mean"):
        network_file(ResNet18(in_channels=1, width=2), ABOUT)


def test_maps_are_those_of_the_grad_cam_chapter():
    net, js = trained(), engine("cifar")
    norm = Normalize(net.about["mean"], net.about["std"])
    for x in pictures(3, 32):
        js.forward(x)
        for stage in CASES["cifar"][2][1:]:
            raw = GradCAM(net, stage, min_size=1).explain(norm(x[None]), "all").raw[0][0]
            for k in range(10):
                found = js(f"return gradCam(net, '{stage}', {k})")
                assert far(found["map"], raw[k]) < NEAR and found["h"] == raw.shape[1]
                assert (found["peak"] > 0) == bool(raw[k].max() > 0)


def test_a_covered_place_costs_what_pytorch_says():
    net, js = trained(), engine("cifar")
    norm, x = Normalize(net.about["mean"], net.about["std"]), pictures(1, 32)[0]
    found = js("return [...occlusion(net, pixels, 3, { patch: 8, step: 8 })]", pixels=x)
    assert len(found) == 16
    for row, column, score in found:
        covered = x.clone()
        covered[:, 8*row:8*row + 8, 8*column:8*column + 8] = .5
        with torch.no_grad(): assert score == pytest.approx(float(net(norm(covered[None]))[0, 3]), abs=2e-3)


@pytest.mark.parametrize("target", [None, 5])
def test_a_step_of_the_attack_is_the_chapters(target):
    net, js = trained(), engine("cifar")
    model, x = PixelModel(net, Normalize(net.about["mean"], net.about["std"])), pictures(1, 32)[0]
    label, eps = int(model(x[None]).argmax()), 4/255
    assert label != 5
    want = pgd(model, x[None], label, eps, alpha=eps/4, steps=3, targets=target)[0].numpy()
    k, towards = (label, "false") if target is None else (target, "true")
    step = f"current = attackStep(net, original, current, {{ k: {k}, towards: {towards}, alpha: {eps/4}, eps: {eps} }});"
    found = np.array(js(f"let current = original; {step*3} return current", original=x)).reshape(want.shape)
    assert np.mean(np.abs(found - want) > 1e-6) < .01   # a gradient next to 0 may have either sign
    assert np.abs(found - x.numpy()).max() <= eps + 1e-7


def test_noise_goes_as_far_as_the_attack():
    x = pictures(1, 32)[0]
    noisy = np.array(engine("cifar")(f"return equalNoise(original, {8/255}, 1)", original=x)).reshape(x.shape)
    inside = (x > 8/255) & (x < 1 - 8/255)
    assert np.abs(np.abs(noisy - x.numpy())[inside] - 8/255).max() < 1e-6
    assert noisy.min() >= 0 and noisy.max() <= 1 and abs(np.sign(noisy - x.numpy())[inside].mean()) < .06


def test_layers_forget_from_the_last():
    js, x = engine("cifar"), pictures(1, 32)[0]
    js("globalThis.blank = shuffled({ graph, load })")
    clean, none, some, whole = (js(code, pixels=x) for code in (
        "return net.forward(pixels)", "return forgetful(net, blank, 0).forward(pixels)",
        "const m = forgetful(net, blank, 3); m.forward(pixels); return [m.value('layer3').data, m.value('layer4').data]",
        "return forgetful(net, blank, 21).forward(pixels)"))
    assert none == clean and far(whole, np.array(clean)) > .1
    js.forward(x)
    assert some[0] == js("return net.value('layer3').data") and some[1] != js("return net.value('layer4').data")
    assert js("return weighted(graph)")[0] == "scores" and len(js("return weighted(graph)")) == 21


def test_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr
    rng, js = np.random.default_rng(0), engine("cifar")
    for a, b in ((rng.normal(size=64), rng.normal(size=64)), (rng.integers(0, 4, 64), rng.integers(0, 4, 64))):
        assert js("return rankCorrelation(a, b)", a=a, b=b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)


class Chrome(V8):
    "The network in a page of headless Chromium."

    def __init__(self, page: Any, file: bytes) -> None:
        self.page = page
        page.add_script_tag(content=program(file))

    def run(self, call: str, *args: Any) -> Any: return self.page.evaluate(f"args => {call}(...args) ?? null", list(args))


@pytest.mark.parametrize(("case", "count"), [("cifar", 50), ("mobilenet", 2)])
def test_chromium_computes_the_same(case, count, browser):
    page = browser.new_page()
    page.set_default_timeout(120_000)
    try: check_equal(Chrome(page, file_of(case)), case, count)
    finally: page.close()
