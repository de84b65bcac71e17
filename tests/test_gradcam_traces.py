"What a call leaves behind: nothing; and under which circumstances it works: frozen, without gradients, half precision."
import gc
import random
import resource

import numpy as np
import pytest
import torch
from cams import Frozen, Small, formula, images

from cam_course.base.target_layers import check_layer, spatial_layers
from cam_course.gradcam import GradCAM, library_cam
from cam_course.resnet import ResNet18


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


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
    "Half of them fail in the middle of a forward, at a layer that is too small. One kept activation would be 98 kB."
    x, bad = images(4, 32), images(4, 8)
    cam = GradCAM(small, ["conv1", "conv2"])
    found = []
    for calls in (50, 1000):
        for i in range(calls):
            cam(x, "all") if i % 2 else pytest.raises(ValueError, cam, bad)
        gc.collect()
        alive = sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())
        found.append((alive, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024))
    (before, low), (after, high) = found
    assert before == after and high - low < 16  # MB
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
