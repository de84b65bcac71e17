"The eight methods against the grad-cam library, and against their formulas where that is wrong."
import importlib
import re
from functools import cache
from typing import get_args

import pytest
import stamps
import torch
import torchvision
from cams import Frozen, Small, images
from chapters import chapter
from torch import nn

from cam_course.cam_methods import CAM_NAMES, AnyCAM, CamMethod
from cam_course.gradcam import GradCAM, normalize_maps
from cam_course.resnet import ResNet18

METHODS = get_args(CamMethod)
LIBRARY = {"gradcam": "GradCAM", "hirescam": "HiResCAM", "layercam": "LayerCAM", "gradcam++": "GradCAMPlusPlus", "xgradcam": "XGradCAM",
           "eigencam": "EigenCAM", "scorecam": "ScoreCAM", "ablationcam": "AblationCAM"}


def small_vgg():
    "torchvision's VGG11 with few channels and a small head; what its pooling layers give is overwritten by nobody."
    plan = [16, "M", 24, "M", 32, 32, "M", 48, 48]
    net = torchvision.models.VGG(torchvision.models.vgg.make_layers(plan), num_classes=10)
    net.classifier = nn.Sequential(nn.Linear(48*49, 32), nn.ReLU(inplace=True), nn.Linear(32, 10))
    return net


NETS = {
    "trained": (lambda: ResNet18(weights="cifar10_jpeg"), 32, ("layer1", "layer2", "layer3", "layer4")),
    "random": (lambda: ResNet18(width=8), 32, ("layer1", "layer2", "layer3", "layer4")),
    "vgg": (small_vgg, 32, ("features.1", "features.2", "features.5", "features.10")),
}


@cache
def net(name: str) -> nn.Module:
    torch.manual_seed(3)
    return NETS[name][0]().eval()


def library(method: str, model: nn.Module, layers: tuple[str, ...], x: torch.Tensor, classes: list[int]) -> torch.Tensor:
    "What grad-cam 1.5.7 draws, (N, H, W)."
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    kind = getattr(pytorch_grad_cam, LIBRARY[method])
    with kind(model=model, target_layers=[model.get_submodule(n) for n in layers]) as cam:
        cam.batch_size = 32  # of Score-CAM and Ablation-CAM
        return torch.from_numpy(cam(x, [ClassifierOutputTarget(c) for c in classes]))


@pytest.fixture(autouse=True)
def no_bars(monkeypatch):
    "grad-cam draws a progress bar for each image of Score-CAM and Ablation-CAM."
    for name in ("score_cam", "ablation_cam"):
        monkeypatch.setattr(importlib.import_module(f"pytorch_grad_cam.{name}").tqdm, "tqdm", lambda it: it)


SLOW = ("scorecam", "ablationcam")  # a pass for each channel, and grad-cam's for each image


@pytest.mark.parametrize(("few", "n"), [(True, 1), (True, 8), (False, 1), (False, 8)])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("method", [*(m for m in METHODS if m not in SLOW), *(pytest.param(m, marks=pytest.mark.long) for m in SLOW)])
def test_equals_the_library(method, name, few, n):
    check_against_the_library(method, name, NETS[name][2][2:3] if few else NETS[name][2], n)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("method", SLOW)
def test_forward_methods_equal_the_library_on_two_layers(method, name):
    check_against_the_library(method, name, NETS[name][2][2:], 2)


def check_against_the_library(method, name, layers, n):
    model, (_, size, _) = net(name), NETS[name]
    x = images(n, size, seed=n)
    with torch.no_grad(): classes = model(x).argmax(1).tolist()  # with a score above 0: see the next test
    ours = AnyCAM(model, layers, method=method, min_size=1)(x, classes)
    if method == "eigencam": return check_eigen(ours, model, layers, x)
    torch.testing.assert_close(ours, library(method, model, layers, x, classes), rtol=0, atol=1e-5)


def check_eigen(ours, model, layers, x):
    "grad-cam's EigenCAM leaves the sign to the SVD; its own correction (Seg-Eigen-CAM, eq. 13) decides it."
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction

    kept = GradCAM(model, layers, min_size=1)._look(x, 0).outputs
    want = [torch.from_numpy(get_2d_projection_with_sign_correction(a.detach().numpy())) for a in kept]
    torch.testing.assert_close(ours, normalize_maps(want, x.shape[-2:]), rtol=0, atol=1e-5)


# ---- where the library is wrong: the formula, on copies

def copies(model, name, x, classes):
    "Activations and gradients of one layer with none of our code: zeros that need a gradient are added to its output."
    seen = {}

    def add_zero(module, args, output):
        seen["a"], seen["zero"] = output.detach().clone(), torch.zeros_like(output, requires_grad=True)
        return output + seen["zero"]

    handle = model.get_submodule(name).register_forward_hook(add_zero)
    scores = model(x)
    handle.remove()
    (g,) = torch.autograd.grad(scores[torch.arange(len(x)), classes].sum(), seen["zero"])
    return seen["a"].double(), g.double(), scores.detach().double()


def scores_with(model, name, x, change):
    "Scores when `change` is made to a copy of the layer's output."
    handle = model.get_submodule(name).register_forward_hook(lambda module, args, output: change(output.clone()))
    with torch.no_grad(): scores = model(x)
    handle.remove()
    return scores.double()


def formula(method, model, name, x, classes):
    "A raw map (h, w) per image, by loops, in float64."
    found = []
    for a, g, n in zip(*copies(model, name, x, classes)[:2], range(len(x)), strict=True):
        one, c = x[n:n + 1], int(classes[n])
        total = torch.zeros(a.shape[1:], dtype=torch.float64)
        falls, masked = [], []
        for k in range(len(a)):
            def without(output, k=k):
                output[:, k] = 0
                return output

            large = torch.nn.functional.interpolate(a[k][None, None], x.shape[2:], mode="bilinear", align_corners=True)
            large = (large - large.min())/(large.max() - large.min() + 1e-8)
            with torch.no_grad():
                falls.append(float(model(one)[0, c] - scores_with(model, name, one, without)[0, c]))
                masked.append(float(model((one*large).float())[0, c]))
        softened = torch.tensor(masked, dtype=torch.float64).softmax(0)
        for k in range(len(a)):
            alpha = g[k]**2/(2*g[k]**2 + a[k].sum()*g[k]**3 + 1e-6)
            total += a[k]*{"gradcam": g[k].mean(), "hirescam": g[k], "layercam": g[k].clamp(min=0),
                           "gradcam++": (g[k].clamp(min=0)*alpha).sum(), "xgradcam": (g[k]*a[k]).sum()/(a[k].sum() + 1e-7),
                           "scorecam": softened[k], "ablationcam": falls[k], "eigencam": 0.0}[method]
        if method == "eigencam":
            rows = a.flatten(1).T - a.flatten(1).T.mean(0)
            total = (rows @ torch.linalg.svd(rows, full_matrices=False)[2][0]).view(a.shape[1:])
            total = -total if -total.min() > total.max() else total
        found.append(total)
    return torch.stack(found)


@pytest.mark.parametrize("method", METHODS)
def test_equals_the_formula_under_in_place_operations(method):
    torch.manual_seed(0)
    model, x, classes = Small().eval(), images(3), torch.tensor([0, 1, 3])
    want = formula(method, model, "conv2", x, classes)
    got = AnyCAM(model, "conv2", method=method)(x, classes, normalize=False)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=float(1e-5*want.abs().max()))
    if method in ("gradcam", "gradcam++", "eigencam"):  # else this test has lost its subject
        theirs = library(method, model, ("conv2",), x, classes.tolist())
        assert (theirs - AnyCAM(model, "conv2", method=method)(x, classes)).abs().max() > 0.1


def test_where_the_score_is_below_zero_ablation_keeps_its_sign():
    model, x = net("random"), images(4, 32, seed=9)
    with torch.no_grad(): scores, lowest = model(x).min(1)
    assert (scores < 0).all()
    got = AnyCAM(model, "layer3", method="ablationcam")(x, lowest, normalize=False)
    want = formula("ablationcam", model, "layer3", x, lowest)
    torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=float(1e-4*want.abs().max()))
    turned = AnyCAM(model, "layer3", method="ablationcam")(x, [lambda row, k=k: -row[k] for k in lowest.tolist()])
    torch.testing.assert_close(turned, library("ablationcam", model, ("layer3",), x, lowest.tolist()), rtol=0, atol=1e-5)


def test_at_the_last_block_three_of_them_are_cam():
    model, x = net("trained"), images(3, 32)
    cam = torch.einsum("kc,nchw->nkhw", model.fc.weight, model.forward_to(x, "layer4")).detach()/16
    for method in ("gradcam", "hirescam", "xgradcam"):
        raw = AnyCAM(model, "layer4", method=method, min_size=1)(x, "all", normalize=False)
        torch.testing.assert_close(raw, cam, rtol=1e-3, atol=1e-4)


# ---- one class for all of them

@pytest.mark.parametrize("method", METHODS)
def test_batch_chunk_classes_and_layers_change_nothing(method):
    model, x = ResNet18(width=4).eval(), images(3, 32)
    whole = AnyCAM(model, ["layer2", "layer3"], method=method).explain(x, "all")
    assert [r.shape for r in whole.raw] == [(3, 10, 16, 16), (3, 10, 8, 8)] and whole.targets.shape == (3, 10)
    alone = AnyCAM(model, "layer3", method=method, batch_size=2).explain(x, [4, 0, 9])
    scale = float(whole.raw[1].abs().max())
    torch.testing.assert_close(alone.raw[0], whole.raw[1][range(3), [4, 0, 9]], rtol=1e-3, atol=1e-5*scale)
    called = AnyCAM(model, "layer3", method=method)(x, [lambda row: row[4], lambda row: row[0], lambda row: row[9]], normalize=False)
    torch.testing.assert_close(called, alone.raw[0], rtol=1e-3, atol=1e-5*scale)
    smooth = AnyCAM(model, "layer3", method=method)(x, 1, aug_smooth=True, eigen_smooth=True)
    assert smooth.shape == (3, 32, 32) and smooth.isfinite().all()


def test_its_grad_cam_is_grad_cam():
    model, x = net("trained"), images(4, 32)
    assert AnyCAM(model, "layer2")(x, "all").equal(GradCAM(model, "layer2")(x, "all"))
    assert isinstance(AnyCAM(model, "layer2"), GradCAM) and set(CAM_NAMES) == set(METHODS)


def test_eigencam_knows_no_class():
    maps = AnyCAM(net("random"), "layer3", method="eigencam")(images(2, 32), "all")
    assert maps.equal(maps[:, :1].expand_as(maps))


@pytest.mark.parametrize("method", METHODS)
def test_no_trace(method):
    model = Frozen().train().requires_grad_(False)
    before, state = [m.training for m in model.modules()], torch.get_rng_state()
    x = images(2)
    with torch.inference_mode(): AnyCAM(model, "conv2", method=method)(x, "all")
    with pytest.raises(ValueError, match="not one of 0 to 3"): AnyCAM(model, "conv2", method=method)(x, 4)
    assert before == [m.training for m in model.modules()] and state.equal(torch.get_rng_state())
    assert all("forward" not in m.__dict__ and not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


def test_channels_last_and_tokens():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.mix, self.fc = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(self.mix(self.patch(x).flatten(2).transpose(1, 2)).relu().mean(1))

    torch.manual_seed(0)
    model, x = Tokens().eval(), images(2, 32)
    as_map = lambda t: t.unflatten(1, (8, 8)).permute(0, 3, 1, 2)
    for method in METHODS:
        maps = AnyCAM(model, "mix", reshape_transform=as_map, method=method)(x, "all", normalize=False)
        assert maps.shape == (2, 3, 8, 8)
        if method == "ablationcam":
            def without(output):
                output[..., 2] = 0
                return output
            with torch.no_grad(): fall = model(x) - scores_with(model, "mix", x, without)
            weights = torch.linalg.lstsq(as_map(copies(model, "mix", x, torch.tensor([0, 0]))[0])[0].flatten(1).T,
                                         maps[0, 0].flatten()[:, None].double()).solution
            assert abs(float(weights[2]) - float(fall[0, 0])) < 1e-4
    with pytest.raises(ValueError, match="returns a copy"):
        AnyCAM(model, "mix", reshape_transform=lambda t: as_map(t).contiguous(), method="ablationcam")(x)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match=r"method.*hirescam"): AnyCAM(net("random"), "layer3", method="hires")


# ---- the tail of a net

@pytest.mark.parametrize("layer", ["layer1", "layer2.0", "layer2.0.conv2", "layer3.1.bn1", "layer3.0.downsample", "layer4"])
def test_the_tail_is_the_net(layer):
    model, x, k = net("random"), images(2, 32, seed=3), torch.tensor([2, 5])
    got = AnyCAM(model, layer, method="ablationcam", min_size=1)(x, k, normalize=False)
    want = formula("ablationcam", model, layer, x, k)
    torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=float(1e-4*want.abs().max()))


def test_the_tail_runs_what_comes_after_and_nothing_else(monkeypatch):
    model, calls = ResNet18(width=4).eval(), []
    plain = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: calls.append((self, len(x))) or plain(self, x))
    AnyCAM(model, "layer3", method="ablationcam")(images(1, 32))
    run = [conv for conv, n in calls if n == 16]  # as many as layer3 has channels
    assert set(run) == {m for m in model.layer4.modules() if isinstance(m, nn.Conv2d)}


class Awkward(nn.Module):
    "Adds in place to what came before the layer, calls one module twice, and one that gives a pair."

    class Pair(nn.Module):
        def forward(self, x): return x, 2*x

    def __init__(self):
        super().__init__()
        self.a, self.b, self.act, self.pair = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), self.Pair()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        first, twice = self.pair(self.act(self.a(x)))
        side = self.act(self.a(x*1.5))
        side += self.b(first + twice)
        return self.fc(self.act(side).mean((2, 3)))


def test_an_awkward_net_is_run_whole():
    torch.manual_seed(0)
    model, x, k = Awkward().eval(), images(2, 8), torch.tensor([0, 2])
    got = AnyCAM(model, "b", method="ablationcam")(x, k, normalize=False)
    want = formula("ablationcam", model, "b", x, k)
    torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=float(1e-5*want.abs().max()))
    assert not any("forward" in m.__dict__ for m in model.modules())


def test_another_thread_runs_the_net_as_it_is():
    from threading import Thread

    model, x, seen = net("random"), images(2, 32), []
    with torch.no_grad(): want = model(x)

    def other(row):
        if not seen:
            def run():
                with torch.no_grad(): seen.append(model(x))
            thread = Thread(target=run)
            thread.start(), thread.join()
        return row[1]

    AnyCAM(model, "layer3", method="ablationcam")(x, other)
    assert seen[0].equal(want)


# ---- what the chapter says

def test_the_conclusion_follows_from_the_comparison():
    "Its first sentences, counted again from what the page prints."
    cells = stamps.load(chapter("cam_methods"))["cells"]
    said = "\n".join("".join(o["text"]) for c in cells for o in c.get("outputs", []) if o.get("output_type") == "stream")
    rows = re.findall(r"^  (\S+) +better: (.*)\n +worse:  (.*)$", said, re.M)
    assert len(rows) == 14 and {name for name, _, _ in rows} == set(CAM_NAMES.values()) - {"Grad-CAM"}
    listed = lambda text: [] if text == "nothing" else text.split("; ")
    counts = {name: [sum(len(listed(row[k])) for row in rows if row[0] == name) for k in (1, 2)] for name, _, _ in rows}
    first = r"^(\S+) gains most on Grad-CAM: it is better in (\d+) of 22 judgments and worse in (\d+)\.$"
    lead, up, down = re.search(first, said, re.M).groups()
    assert counts[lead] == [int(up), int(down)] and all(int(up) - int(down) >= a - b for a, b in counts.values())
    spotless = [name for name, (a, b) in counts.items() if a and not b]
    assert f"{', '.join(spotless) if spotless else 'No method is'}{':' if spotless else ''} better somewhere" in said
    everywhere = {j for _, better, _ in rows for j in listed(better)}
    beaten = re.search(r"^Nothing here beats Grad-CAM in: (.*)\.$", said, re.M)
    never = beaten[1].split("; ") if beaten else []
    assert len(everywhere) + len(never) == 11 and not everywhere & set(never)
