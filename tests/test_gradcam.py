"Grad-CAM against independent formulas and other libraries; what it leaves behind; what it refuses."
import gc
import random

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from cam_course.gradcam import GradCAM, heat_map, library_cam, normalize_maps, overlay, weighted_sum
from cam_course.layers import check_layer, resolve_layer, spatial_layers, suggest_layer
from cam_course.models.resnet import ResNet18, ResNet34
from cam_course.pictures import as_rgb


class Small(nn.Module):
    "Two convolutions, each followed by an in-place ReLU, pooling and a linear layer."

    def __init__(self, classes: int = 4):
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True)
        self.conv2, self.act2 = nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(inplace=True)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.pool(self.act2(self.conv2(self.act1(self.conv1(x))))).flatten(1))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


def images(n=4, size=16, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def formula(model, name, x, classes):
    "Raw maps with none of our code: zeros that need a gradient are added to the layer's output."
    seen = {}

    def add_zero(module, args, output):
        seen["a"] = output.detach().clone()
        seen["zero"] = torch.zeros_like(output, requires_grad=True)
        return output + seen["zero"]

    model.eval()
    handle = model.get_submodule(name).register_forward_hook(add_zero)
    with torch.enable_grad():
        scores = model(x)
    handle.remove()
    (g,) = torch.autograd.grad(scores[torch.arange(len(x)), classes].sum(), seen["zero"])
    return torch.einsum("nc,nchw->nhw", g.mean((2, 3)), seen["a"])


NETS = {
    "resnet18": (lambda: ResNet18(width=8), 32),
    "resnet34": (lambda: ResNet34(width=8), 32),
    "resnet18 plain, no norm": (lambda: ResNet18(width=8, residual=False, norm="none"), 32),
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=10), 80),
    "vgg11": (lambda: vgg11(), 64),
    "squeezenet": (lambda: torchvision.models.squeezenet1_0(num_classes=10), 80),
}


def vgg11():
    "torchvision's VGG11 with a small head: its own takes seconds to initialize, and no map lies there."
    model = torchvision.models.VGG(torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["A"]))
    model.classifier = nn.Sequential(nn.Linear(512*49, 32), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(32, 10))
    return model


@pytest.mark.parametrize("net", NETS)
def test_every_layer_equals_the_formula(net):
    torch.manual_seed(1)
    make, size = NETS[net]
    model, x, classes = make().eval(), images(2, size), torch.tensor([3, 7])
    names = [s.name for s in spatial_layers(model, size) if min(s.height, s.width) >= 5]
    assert len(names) >= 15
    maps = dict(zip(names, GradCAM(model, names)(x, classes, normalize=False), strict=True))
    for name in names:
        want = formula(model, name, x, classes)
        scale = want.abs().max()
        assert (maps[name] - want).abs().max() <= 1e-6*scale, name  # all layers from one forward
        alone = GradCAM(model, name)(x, classes, normalize=False)
        assert (alone - want).abs().max() <= 1e-6*scale, name  # graph from this layer on


def test_every_module_called_twice_is_refused():
    model = ResNet18(width=8)
    twice = [n for n, m in model.named_modules() if isinstance(m, nn.ReLU) and n != "relu"]
    assert len(twice) == 8
    for name in twice:
        with pytest.raises(ValueError, match=rf"'{name}' is called 2 times.*'{name.rpartition('.')[0]}'"):
            GradCAM(model, name, min_size=1)(images(1, 32))


@pytest.mark.parametrize("layers", ["layer3", ["layer2", "layer3"], ["layer1", "layer2", "layer3", "layer4"]])
@pytest.mark.parametrize("batch", [1, 8])
def test_equals_the_library_where_it_is_right(layers, batch):
    from pytorch_grad_cam import GradCAM as Library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(0)
    model, x = ResNet18(width=16).eval(), images(batch, 32, seed=5)
    names = [layers] if isinstance(layers, str) else layers
    for c in (0, 4):
        with Library(model, [model.get_submodule(n) for n in names]) as library:
            want = torch.from_numpy(library(x, [ClassifierOutputTarget(c)]*batch))
        ours = GradCAM(model, names, min_size=1)
        strong = (ours.explain(x, c).raw_max > 1e-3).all(0)
        assert strong.any()
        assert (ours(x, c) - want)[strong].abs().max() <= 1e-5
        assert (library_cam(model, x, names, c, min_size=1) - want).abs().max() <= 1e-6


def test_the_wrapped_library_is_right_under_in_place_operations(small):
    from pytorch_grad_cam import GradCAM as Library

    x = images()
    ours = GradCAM(small, "conv2")(x, 1)
    with Library(small, [small.conv2]) as bare:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
        wrong = torch.from_numpy(bare(x, [ClassifierOutputTarget(1)]*4))
    assert (ours - wrong).abs().max() > .1  # else this test has lost its subject
    assert (library_cam(small, x, "conv2", 1) - ours).abs().max() <= 1e-5


def test_identities_at_the_last_block():
    torch.manual_seed(0)
    model, x = ResNet18(width=16).eval(), images(4, 32)
    features = model.forward_to(x, "layer4").detach()
    got = GradCAM(model, "layer4", min_size=1).explain(x, "all")
    cam = torch.einsum("kc,nchw->nkhw", model.fc.weight, features).detach()
    area = features[0, 0].numel()
    assert (got.raw[0] - cam/area).abs().max() <= 1e-6*cam.abs().max()/area  # CAM of Zhou et al. over the area
    logits = got.raw[0].sum((2, 3)) + model.fc.bias.detach()
    assert (logits - got.logits).abs().max() <= 1e-6*got.logits.abs().max()


def test_other_libraries_agree():
    captum = pytest.importorskip("captum.attr", reason="captum is installed for comparisons only")
    torchcam = pytest.importorskip("torchcam.methods", reason="torchcam is installed for comparisons only")
    torch.manual_seed(0)
    model, x = ResNet18(width=8).eval(), images(3, 32)
    ours = GradCAM(model, "layer3")(x, 2, normalize=False)
    assert (captum.LayerGradCam(model, model.layer3).attribute(x, 2)[:, 0] - ours).abs().max() <= 1e-6*ours.abs().max()
    with torchcam.GradCAM(model, "layer3") as cam:
        theirs = cam(2, model(x), normalized=False)[0]
    assert (theirs - ours.clamp(min=0)).abs().max() <= 1e-6*ours.abs().max()


# ---- what is asked for ------------------------------------------------------------------------------------------------

def test_targets(small):
    x, cam = images(), GradCAM(small, "conv2")
    every = cam(x, "all", normalize=False)
    assert every.shape == (4, 4, 8, 8)
    predicted = small(x).argmax(1)
    rows = torch.arange(4)
    for targets, want in [
        (None, every[rows, predicted]), (2, every[:, 2]), (np.int64(2), every[:, 2]), ([0, 1, 2, 3], every[rows, rows]),
        (np.array([0, 1, 2, 3]), every[rows, rows]), (torch.tensor([0, 1, 2, 3]), every[rows, rows]),
        (torch.tensor([[0, 1]]*4), every[:, :2]), ([[3]]*4, every[:, 3:]),
        ([lambda row, k=k: row[k] for k in range(4)], every[rows, rows]), (lambda row: row[1], every[:, 1]),
    ]:
        assert torch.allclose(cam(x, targets, normalize=False), want, atol=1e-7), targets


@pytest.mark.parametrize(("targets", "words"), [
    ([1, 2], r"shape \(2,\) for 4 images"), (4, "target class 4 is not one of 0 to 3"), (-1, "target class -1"),
    (1.5, "whole numbers"), ([True]*4, "whole numbers"), ("cat", "'all'"), ([lambda row: row[0]]*3, "3 targets for 4"),
    ([[[1]]]*4, "shape"),
])
def test_wrong_targets(small, targets, words):
    for draw in (lambda: GradCAM(small, "conv2")(images(), targets), lambda: library_cam(small, images(), "conv2", targets)):
        with pytest.raises(ValueError, match=words):
            draw()


def test_chunks_don_t_matter(small):
    x, classes = images(10), torch.arange(10) % 4
    layers = ["conv1", "conv2"]
    whole, parts = GradCAM(small, layers).explain(x, classes), GradCAM(small, layers, batch_size=3).explain(x, classes)
    for a, b in zip(whole.raw, parts.raw, strict=True):
        assert (a - b).abs().max() <= 1e-6*a.abs().max()
    assert torch.equal(whole.targets, parts.targets) and torch.allclose(whole.logits, parts.logits, atol=1e-6)
    calls = [lambda row, k=k: row[k] for k in classes.tolist()]
    assert torch.allclose(GradCAM(small, layers, batch_size=3)(x, calls), whole.normalized(), atol=1e-5)


def test_no_positive_evidence_is_said(small):
    with torch.no_grad():
        small.fc.weight[0], small.fc.weight[1] = -1, 1  # after a ReLU: all against class 0, all for class 1
    found = GradCAM(small, ["act2", "conv1"]).explain(images(), torch.tensor([[0, 1]]*4))
    assert not found.evidence[0, :, 0].any() and found.evidence[0, :, 1].all()
    assert (found.raw_max[0, :, 0] <= 0).all()
    maps = GradCAM(small, "act2")(images(), 0)
    assert torch.equal(maps, torch.zeros(4, 16, 16))  # 0, no NaN and no full panel


# ---- what is left behind ----------------------------------------------------------------------------------------------

def state(model):
    "Everything a call could change."
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training) for m in model.modules()]
    params = [(p.requires_grad, None if p.grad is None else (p.grad.data_ptr(), p.grad.clone())) for p in model.parameters()]
    rng = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    return hooks, params, [b.clone() for b in model.state_dict().values()], rng, torch.is_grad_enabled()


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


class Noisy(ResNet18(width=4).__class__):
    "A ResNet that draws a random number in each forward, and may fail in the middle."

    fail = False

    def forward(self, x):
        x = self.forward_to(x, "layer3")
        torch.rand(1), random.random(), np.random.rand()
        if self.fail:
            raise RuntimeError("in the middle")
        return self.forward_from(x, "layer3")


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("draw", [
    lambda m, x: GradCAM(m, ["layer2", "layer3"])(x, "all"), lambda m, x: library_cam(m, x, "layer3"),
    lambda m, x: spatial_layers(m, x), lambda m, x: check_layer(m, "layer3", 32)])
def test_nothing_is_left_behind(draw, fail):
    torch.manual_seed(0)
    model, x = Noisy((2, 2, 2, 2), width=4), images(2, 32)
    model(x).sum().backward()
    model.conv1.weight.requires_grad_(False)
    model.layer2.eval()  # a mixed mode, as of a half-frozen net
    model.fail = fail
    before = state(model)
    if fail:
        with pytest.raises(RuntimeError, match="in the middle"):
            draw(model, x)
    else:
        draw(model, x)
    assert same(before, state(model))


def test_a_thousand_calls_keep_nothing(small):
    x, bad = images(1, 8), images(1, 4)
    cam = GradCAM(small, ["conv1", "conv2"], min_size=4)
    for warm in (True, False):
        for i in range(20 if warm else 1000):
            cam(x, "all") if i % 2 else pytest.raises(ValueError, cam, bad)
        gc.collect()
        alive = sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())
        if warm:
            first = alive
    assert alive == first
    assert not any(m._forward_hooks for m in small.modules())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_and_without_gradients(small, context, frozen):
    x = images()
    want = formula(small, "conv1", x, torch.tensor([1]*4))
    small.requires_grad_(not frozen).train()
    with context():
        y, classes = images(), torch.tensor([1]*4)  # made in here: inference tensors under inference_mode
        assert torch.allclose(GradCAM(small, "conv1")(y, classes, normalize=False), want, atol=1e-6)
        assert library_cam(small, y, "conv1", classes).amax() > .99
    assert small.training


class Frozen(Small):
    "Runs its backbone under torch.no_grad(), and may cut the graph after it."

    cut = False

    def forward(self, x):
        with torch.no_grad():
            x = self.act1(self.conv1(x))
        x = self.conv2(x.detach() if self.cut else x)
        return self.fc(self.pool(self.act2(x)).flatten(1))


@pytest.mark.parametrize("layers", [["conv1"], ["act1"], ["act1", "conv2"], ["conv2", "conv1"]])
def test_a_backbone_under_no_grad(small, layers):
    frozen, x = Frozen(), images()
    frozen.load_state_dict(small.state_dict())
    for got, want in zip(GradCAM(frozen, layers).explain(x, 1).raw, GradCAM(small, layers).explain(x, 1).raw, strict=True):
        assert torch.equal(got, want)
    frozen.cut = True
    if layers[0] != "conv2":
        with pytest.raises(ValueError, match=f"no gradient flows from the score to '{layers[0]}': the model detaches it"):
            GradCAM(frozen, layers)(x)
    assert torch.equal(GradCAM(frozen, "conv2")(x, 1), GradCAM(small, "conv2")(x, 1))


def test_reduced_precision_and_compiled_wrappers(small):
    x = images()
    want = GradCAM(small, "conv2")(x, 1, normalize=False)
    with torch.autocast("cpu", torch.bfloat16):
        half = GradCAM(small, "conv2")(x, 1, normalize=False)
    assert half.dtype == torch.float32 and (half - want).abs().max() < .05*want.abs().max()
    assert torch.equal(GradCAM(torch.compile(small), "conv2")(x, 1, normalize=False), want)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    torch.manual_seed(0)
    model, x, layers = ResNet18(width=16).eval(), images(8, 32), ["layer2", "layer3"]
    want = GradCAM(model, layers)(x, "all")
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        got = GradCAM(model.cuda(), layers)(x, "all")
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
    assert got.device.type == "cuda" and (got.cpu() - want).abs().max() <= 1e-4


# ---- layers -----------------------------------------------------------------------------------------------------------

def test_suggestions():
    assert suggest_layer(ResNet18(width=4), 32) == "layer3"
    assert suggest_layer(ResNet18(width=4), 32, min_size=4) == "layer4"
    assert suggest_layer(ResNet18(width=4), (32, 20)) == "layer3"
    assert suggest_layer(ResNet18(width=4), images(2, 64)) == "layer4"
    with pytest.raises(ValueError, match=r"no layer .* has a map of 40 px"):
        suggest_layer(ResNet18(width=4), 32, min_size=40)
    with pytest.raises(ValueError, match="no convolution"):
        suggest_layer(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), 2)


@pytest.mark.parametrize(("layer", "words"), [
    ("layer4", r"layer4 gives 4x4 maps, under min_size=5 px: use 'layer3' \(8x8\)"),
    ("layer4.1.conv2", r"4x4 maps.*'layer3' \(8x8\)"), ("avgpool", r"1x1 maps.*'layer3'"),
    ("fc", r"'fc' gives no map.*'layer3'"), ("layr3", "no layer 'layr3' in ResNet: try 'layer3'"),
    (3, "no layer 3 in ResNet"), (nn.Conv2d(1, 1, 1), "no part of this ResNet"), ([], "empty"), (["layer3"]*2, "each one once")])
def test_unfit_layers_are_refused_everywhere(layer, words):
    model = ResNet18(width=4)
    for call in (lambda: GradCAM(model, layer)(images(1, 32)), lambda: library_cam(model, images(1, 32), layer)):
        with pytest.raises(ValueError, match=words):
            call()
    assert resolve_layer(model, model.layer3)[0] == "layer3"


def test_enlarging_by_adaptive_pooling_doesn_t_count():
    model = torchvision.models.VGG(nn.Sequential(nn.Conv2d(3, 512, 3, 8, 1), nn.ReLU(inplace=True)), 10)
    assert next(s for s in spatial_layers(model, 16) if s.name == "avgpool")[2:] == (2, 2)
    with pytest.raises(ValueError, match="avgpool gives 2x2 maps"):
        GradCAM(model, "avgpool", min_size=3)(images(1, 16))


def test_wrong_models_and_inputs(small):
    class Pair(Small):
        def forward(self, x):
            return super().forward(x), x

    class Side(Small):
        def forward(self, x):
            self.act1(self.conv1(x))
            return super().forward(x)[:, :1]*0 + x.mean((1, 2, 3))[:, None]

    for call, words in [
        (lambda: GradCAM(Pair(), "conv2")(images()), "must return scores"),
        (lambda: GradCAM(Side(), "conv1")(images()), "called 2 times"),
        (lambda: GradCAM(small, "conv1")(images(), lambda row: torch.ones(())), "does not use it for this score"),
        (lambda: GradCAM(small, "conv2")(images()[0]), r"one image is x\[None\]"),
        (lambda: GradCAM(small, "conv2")(images()[:0]), r"must be a tensor of images"),
        (lambda: GradCAM(small, "conv2")((images()*50).byte()), "normalize the images first"),
        (lambda: GradCAM(small, "conv2", min_size=0), "min_size"), (lambda: GradCAM(small, "conv2", batch_size=0), "batch_size"),
        (lambda: library_cam(small, images(), "conv2", "all"), "one class per image"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


# ---- drawing ----------------------------------------------------------------------------------------------------------

def test_overlay_is_what_its_opacity_says():
    rng = np.random.default_rng(0)
    image, cam = rng.integers(0, 256, (37, 23, 3), dtype=np.uint8), rng.random((37, 23), dtype=np.float32)
    assert np.array_equal(overlay(image, cam, 0), image)
    assert np.array_equal(overlay(image, cam, 1), heat_map(cam))
    half = .5*image.astype(float) + .5*heat_map(cam)
    assert np.array_equal(overlay(image, cam, .5), np.rint(half))
    grey = np.full((8, 8, 3), 102, np.uint8)
    assert (overlay(grey, np.zeros((8, 8)), 0) == 102).all()  # grad-cam brightens it to 255
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert np.array_equal(overlay(tensor, torch.from_numpy(cam), 0), image)  # RGB stays RGB
    floats = image.astype(np.float32)/255
    assert np.array_equal(overlay(floats, cam, 0), floats)
    assert (heat_map(np.ones((2, 2))) == heat_map(np.ones((2, 2)))[0, 0]).all() and heat_map(np.ones((1, 1)))[0, 0, 0] > 100


def test_overlay_enlarges_the_map_as_the_library_does():
    import cv2

    cam = np.random.default_rng(0).random((8, 5), dtype=np.float32)
    want = heat_map(np.clip(cv2.resize(cam, (23, 37)), 0, 1)).astype(int)
    got = overlay(np.zeros((37, 23, 3), np.uint8), cam, 1).astype(int)
    assert (want != got).mean() < .01  # float32 rounding at the edge of a color


def test_pictures_of_all_kinds():
    from PIL import Image

    rgb = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(rgb)
    grey = picture.convert("L")
    assert np.array_equal(as_rgb(picture), rgb)
    assert np.array_equal(as_rgb(grey), np.asarray(grey)[..., None].repeat(3, 2))
    assert np.array_equal(as_rgb(torch.from_numpy(rgb).permute(2, 0, 1)[:1]), rgb[..., :1].repeat(3, 2))
    assert np.array_equal(as_rgb(picture.convert("RGBA")), rgb)  # opaque
    clear = np.dstack([rgb, np.full((9, 7), 128, np.uint8)])
    for image, words in [
        (clear, "transparency"), (rgb.astype(np.uint16)*257, "16 bits: image / 65535"), (picture.convert("P"), "convert"),
        (picture.convert("CMYK"), "convert"), (rgb.astype(np.float32), r"outside \[0, 1\]"), (rgb[None], "one image"),
        (np.full((4, 4, 3), np.nan), "outside"), (Image.fromarray((rgb[..., 0]).astype(np.int32), "I"), "int32"),
        (rgb[:0], "one image"),
    ]:
        with pytest.raises(ValueError, match=words):
            overlay(image, np.zeros((4, 4)))


@pytest.mark.parametrize(("cam", "words"), [
    (np.full((4, 4), np.nan), "not finite"), (np.full((4, 4), 1.01), r"\[0, 1\]"), (np.zeros((1, 4, 4)), "one map"),
    (-np.ones((4, 4)), r"\[0, 1\]"), (np.zeros((0, 0)), "one map")])
def test_maps_that_can_t_be_drawn(cam, words):
    with pytest.raises(ValueError, match=words):
        overlay(np.zeros((4, 4, 3), np.uint8), cam)
    with pytest.raises(ValueError, match="opacity"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), 1.2)


def test_normalize_maps_keeps_grad_cam_s_pipeline():
    import cv2

    raw = [torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)]

    def unit(m):
        m = m - m.min()
        return m/(1e-7 + m.max())

    want = np.stack([unit(np.mean([cv2.resize(unit(np.maximum(r[i].numpy(), 0)), (30, 20)) for r in raw], 0))
                     for i in range(3)])
    assert np.abs(normalize_maps(raw, (20, 30)).numpy() - want).max() < 1e-6
    a, g = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    assert torch.allclose(weighted_sum(a, g), torch.einsum("nc,nchw->nhw", g.mean((2, 3)), a), atol=1e-6)
