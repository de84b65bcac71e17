"Grad-CAM against the bare formula, at every layer of six networks, and against other libraries where they are right."
import importlib.util
from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from cams import Small, formula, images
from torch import nn

from cam_course.base.target_layers import spatial_layers
from cam_course.gradcam import GradCAM, library_cam, normalize_maps, weighted_maps
from cam_course.resnet import ResNet18, ResNet34


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


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


@cache
def reference(net):
    "A net of NETS, two images, a class for each, and by the formula the raw map of every layer that has 5 px and is called once."
    torch.manual_seed(1)
    make, size = NETS[net]
    model, x, classes = make().eval(), images(2, size), torch.tensor([3, 7])
    names = [s.name for s in spatial_layers(model, size) if min(s.height, s.width) >= 5]
    return model, x, classes, {name: formula(model, name, x, classes) for name in names}


@pytest.mark.parametrize("net", NETS)
def test_every_layer_equals_the_formula(net):
    model, x, classes, wanted = reference(net)
    assert len(wanted) >= 15
    maps = GradCAM(model, list(wanted))(x, classes, normalize=False)
    for got, (name, want) in zip(maps, wanted.items(), strict=True):
        scale = want.abs().max()
        assert (got - want).abs().max() <= 3e-6*scale, name  # float32: sums in another order; all layers from one forward
        alone = GradCAM(model, name)(x, classes, normalize=False)
        assert (alone - want).abs().max() <= 3e-6*scale, name  # graph from this layer on


def from_grad_cam(model, names, x, classes):
    from pytorch_grad_cam import GradCAM as Library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(c) for c in classes.tolist()]
    with Library(model, [model.get_submodule(n) for n in names]) as cam:
        cam(x, targets)
        kept = cam.activations_and_grads
        return [torch.from_numpy(cam.get_cam_image(x, None, targets, a.numpy(), g.numpy()))
                for a, g in zip(kept.activations, kept.gradients, strict=True)]


def from_torchcam(model, names, x, classes):
    from torchcam.methods import GradCAM as Torchcam

    with Torchcam(model, names) as cam:
        return cam(classes.tolist(), model(x), normalized=False)  # with the ReLU


def from_captum(model, names, x, classes):
    from captum.attr import LayerGradCam

    return [LayerGradCam(model, model.get_submodule(n)).attribute(x, classes)[:, 0].detach() for n in names]


PEERS = {"pytorch_grad_cam": from_grad_cam, "torchcam": from_torchcam, "captum": from_captum}


def overwritten(model, names, x):
    "Which of the outputs is changed by what comes after: in-place operations."
    kept = {}

    def keep(name):
        return lambda module, args, output: kept.update({name: (output.detach(), output.detach().clone())})

    handles = [model.get_submodule(n).register_forward_hook(keep(n)) for n in names]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return [not torch.equal(now, then) for now, then in kept.values()]


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("net", ["resnet18", "resnet34", "vgg11", "squeezenet"])
def test_a_peer_that_keeps_no_copy_is_wrong_where_memory_is_overwritten(net, peer):
    "Shows that the table above has a subject; torchcam and captum are tested where they are installed."
    if importlib.util.find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed: it is no dependency, and the book's page has its figures")
    model, x, classes, wanted = reference(net)
    wrong = []
    for want, got in zip(wanted.values(), PEERS[peer](model, list(wanted), x, classes), strict=True):
        gap = (got - want if peer != "torchcam" else got - want.clamp(min=0)).abs().max()
        wrong.append(bool(gap > 1e-3*want.abs().max()))
    lost = overwritten(model, list(wanted), x)
    assert any(lost) and wrong == (lost if peer != "captum" else [False]*len(wrong))


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
    weights = torch.stack([g.mean((2, 3)), torch.ones(2, 3)])
    assert torch.allclose(weighted_maps(a, weights), torch.einsum("knc,nchw->nkhw", weights, a), atol=1e-6)
