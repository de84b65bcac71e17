"Grad-CAM: what can be asked for, which layers fit, what is refused and in which words."
import numpy as np
import pytest
import torch
import torchvision
from cams import Frozen, Small, images
from torch import nn

from cam_course.base.target_layers import resolve_layer, spatial_layers, suggest_layer
from cam_course.gradcam import GradCAM, library_cam
from cam_course.resnet import ResNet18


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


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


class Double(torch.autograd.Function):
    "An operation that knows no vmap."

    @staticmethod
    def forward(ctx, x):
        return 2*x

    @staticmethod
    def backward(ctx, grad):
        return 2*torch.from_numpy(grad.numpy())


def test_classes_side_by_side_equal_one_after_another(small, monkeypatch):
    x, layers = images(6), ["conv1", "conv2"]
    want = GradCAM(small, layers).explain(x, "all")
    monkeypatch.setattr("cam_course.gradcam._side_by_side", lambda scores: True)
    got = GradCAM(small, layers).explain(x, "all")
    for a, b in zip(got.raw, want.raw, strict=True):
        assert (a - b).abs().max() <= 1e-6*b.abs().max()
    with pytest.raises(ValueError, match="no gradient flows from the score to 'conv1'"):
        frozen = Frozen()
        frozen.cut = True
        GradCAM(frozen, ["conv2", "conv1"])(x, "all")


def test_operations_without_vmap(small, monkeypatch):
    monkeypatch.setattr("cam_course.gradcam._side_by_side", lambda scores: True)

    class Custom(Small):
        def forward(self, x):
            return Double.apply(super().forward(x))

    custom, x = Custom(), images()
    custom.load_state_dict(small.state_dict())
    torch.testing.assert_close(GradCAM(custom, "conv1")(x, "all", normalize=False),
                               2*GradCAM(small, "conv1")(x, "all", normalize=False))


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


# ---- layers ----------------------------------------------------------------------------------------------------------

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
