"""MobileNetV2 of the wheel: read as its file says, right on photographs, with gradients, as it was published."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from cam_course.base import mobilenet
from cam_course.base.checkpoints import read_tensors
from cam_course.base.core import DataError, memory_format
from cam_course.base.mobilenet import (
    _WEIGHTS,
    _WEIGHTS_SHA256,
    MobileNetV2,
    _dequantize,
    _InvertedResidual,
    _SameConv2d,
    mobilenet_v2,
)
from cam_course.base.target_layers import suggest_layer
from cam_course.base.weights import weights_path
from cam_course.gradcam import GradCAM
from cam_course.photographs import imagenet_net, shipped_photographs

ROOT = Path(__file__).resolve().parents[1]
GIVEN = Path(os.environ.get("CAM_COURSE_IMAGENET") or ROOT.parent/"shared"/"imagenet")
PHOTOS = GIVEN/"photos"


@pytest.fixture(scope="module")
def net() -> MobileNetV2: return mobilenet_v2()


def interpreted(x: torch.Tensor) -> torch.Tensor:
    "The logits, from the file's list of operations alone."
    tensors, texts = read_tensors(_WEIGHTS)
    values = {"image": x}
    for op in json.loads(texts["ops"]):
        if op["op"] == "add":
            values[op["name"]] = values[op["inputs"][0]] + values[op["inputs"][1]]
            continue
        y = values[op["input"]]
        if op["op"] == "conv":
            assert op["padding"] == "same"
            weight = (tensors[op["name"] + ".weight"].double() - op["zero"])*op["scale"]
            pads = []
            for n in (y.shape[3], y.shape[2]):
                lacking = max((-(-n//op["stride"]) - 1)*op["stride"] + weight.shape[-1] - n, 0)
                pads += [lacking//2, lacking - lacking//2]
            y = F.conv2d(F.pad(y, pads), weight, tensors[op["name"] + ".bias"].double(), op["stride"], groups=op["groups"])
            y = y.clamp(op["low"], op["high"])
        elif op["op"] == "mean": y = y.mean((2, 3), keepdim=True)
        else: y = y.flatten(1)
        values[op["name"]] = y
    return values["logits"]


def logit_range() -> tuple[float, float]:
    ops = json.loads(read_tensors(_WEIGHTS)[1]["ops"])
    last = [op for op in ops if op["op"] == "conv"][-1]
    return last["low"], last["high"]


@pytest.mark.parametrize("size", [(224, 224), (223, 160), (65, 97)])
def test_it_is_what_the_file_says(net, size):
    "Also for odd sides, where other pixels are padded; the last clamp alone is left out."
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))*2 - 1
    with torch.no_grad(): ours = net(x)
    torch.testing.assert_close(ours.double().clamp(*logit_range()), interpreted(x.double()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("wrong", ["padding", "range", "zero"])
def test_a_port_that_is_wrong_is_seen(wrong):
    "The comparison above would notice: the usual padding, ReLU6 in the wrong place, a zero that is off by one."
    net, x = mobilenet_v2(), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))*2 - 1
    block = net.stage2[0]
    if wrong == "padding": block.depthwise.conv.forward = lambda y: F.conv2d(
        y, block.depthwise.conv.weight, block.depthwise.conv.bias, 2, 1, groups=96)
    if wrong == "range": block.project.clamp.min_val = 0.0
    if wrong == "zero": block.expand.conv.weight.data += 0.0098
    with torch.no_grad(): assert (net(x).double().clamp(*logit_range()) - interpreted(x.double())).abs().max() > 1e-2


def test_the_same_padding_is_tensorflow_s():
    "Windows of an even side begin at pixel 0, of an odd one at -1: SAME of tf.nn.conv2d, by its definition."
    conv = _SameConv2d(1, 1, 3, stride=2)
    nn.init.ones_(conv.weight)
    nn.init.zeros_(conv.bias)
    row = torch.tensor([1., 10, 100, 1000, 10000, 100000])
    sums = conv(row.expand(1, 1, 6, 6))[0, 0, 1].tolist()
    assert sums == [3*111, 3*11100, 3*(1e4 + 1e5)]
    assert conv(row[:5].expand(1, 1, 5, 5))[0, 0, 1].tolist() == [3*11, 3*1110, 3*11000]


def test_shapes_names_and_size(net):
    from cam_course.base.target_layers import spatial_layers
    sizes = {s.name: (s.channels, s.height, s.width) for s in spatial_layers(net, 224)}
    assert {n: sizes[n][1] for n in ("stem", "stage1", "stage2", "stage3", "stage4", "stage5", "head")} == {
        "stem": 112, "stage1": 112, "stage2": 56, "stage3": 28, "stage4": 14, "stage5": 7, "head": 7}
    assert sizes["stage4"] == (96, 14, 14) and suggest_layer(net, 224) == "head"
    assert sum(p.numel() for p in net.parameters()) == 3_489_097 and not net.training
    assert len(net.about["class_names"]) == 1001 and net.about["class_names"][0] == "background"
    assert "Apache-2.0" in net.about["source"]


def test_gradients_flow_and_maps_add_up_to_the_score(net):
    "At the last layer Grad-CAM is the class's own map: its mean is the score less the bias."
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(3), requires_grad=True)
    net(x*2 - 1).amax(1).sum().backward()
    assert x.grad.abs().amax((1, 2, 3)).min() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.zero_grad()
    found = GradCAM(net, "head").explain((x*2 - 1).detach(), [[5, 900], [5, 900]])
    for i, k in ((0, 0), (1, 1)):
        score = found.logits[i, (5, 900)[k]] - net.fc.bias[(5, 900)[k]]
        torch.testing.assert_close(found.raw[0][i, k].sum(), score, rtol=1e-3, atol=1e-3)


def test_layout_and_random_numbers():
    torch.manual_seed(4)
    before = torch.get_rng_state()
    net = mobilenet_v2()
    assert torch.equal(before, torch.get_rng_state()) and memory_format(net) == torch.channels_last
    assert net.stage4[0].depthwise.conv.weight.is_contiguous(memory_format=torch.channels_last)
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad(): torch.testing.assert_close(net(x), net.to(memory_format=torch.contiguous_format)(x), rtol=1e-3, atol=1e-4)


def test_a_net_of_ones_own(net):
    fresh = MobileNetV2(num_classes=3)
    assert fresh(torch.zeros(2, 3, 40, 40)).shape == (2, 3) and fresh.about == {}
    assert _InvertedResidual(8, 8)(torch.rand(1, 8, 5, 5)).shape == (1, 8, 5, 5)
    assert isinstance(_InvertedResidual(8, 8, expansion=1).expand, nn.Identity)
    with pytest.raises(ValueError, match="num_classes"): MobileNetV2(0)
    for x in (torch.zeros(3, 9, 9), torch.zeros(1, 1, 9, 9), torch.zeros(1, 3, 9, 9, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="images must be float"): net(x)


def test_bytes_to_weights():
    stored = torch.tensor([[0, 120], [121, 255]], dtype=torch.uint8)
    torch.testing.assert_close(_dequantize(stored, 0.5, 120), torch.tensor([[-60., 0], [0.5, 67.5]]))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no weights of a MobileNetV2"): mobilenet_v2(weights_path("cifar10_jpeg"))
    tensors, texts = read_tensors(_WEIGHTS)
    save_file(tensors, tmp_path/"ours.safetensors", texts)
    assert torch.equal(mobilenet_v2(tmp_path/"ours.safetensors").fc.weight, mobilenet_v2().fc.weight)
    save_file({k: v for k, v in tensors.items() if k != "conv52.bias"}, tmp_path/"less.safetensors", texts)
    with pytest.raises(DataError, match=r"less\.safetensors.*conv52\.bias"): mobilenet_v2(tmp_path/"less.safetensors")
    shorter = texts | {"ops": json.dumps(json.loads(texts["ops"])[:-2])}
    save_file(tensors, tmp_path/"short.safetensors", shorter)
    with pytest.raises(DataError, match="no weights of a MobileNetV2"): mobilenet_v2(tmp_path/"short.safetensors")


def test_the_file_is_the_published_one_with_its_licence():
    assert hashlib.sha256(_WEIGHTS.read_bytes()).hexdigest() == _WEIGHTS_SHA256
    licence = (_WEIGHTS.parent/"LICENSE-mobilenet_v2-Apache-2.0").read_text(encoding="utf-8")
    assert "Apache License" in licence and "Version 2.0" in licence and len(licence) > 10_000
    assert all(v.dtype == (torch.uint8 if k.endswith("weight") else torch.float32) for k, v in load_file(_WEIGHTS).items())


def test_a_changed_byte_is_noticed(tmp_path, monkeypatch):
    data = bytearray(_WEIGHTS.read_bytes())
    data[-1] ^= 1
    (tmp_path/_WEIGHTS.name).write_bytes(data)
    monkeypatch.setattr(mobilenet, "_WEIGHTS", tmp_path/_WEIGHTS.name)
    with pytest.raises(DataError, match="reinstall cam-course"): mobilenet_v2(mobilenet._WEIGHTS)


def test_answers_on_the_shipped_photographs():
    net = imagenet_net("mobilenet_v2")
    said = {name: net.top(net.load(photo.path), 1)[0][0].partition(",")[0] for name, photo in shipped_photographs().items()}
    assert said == {"cat_chelsea": "Egyptian cat", "coffee": "espresso", "jockey": "sorrel", "rocket": "missile",
                    "teddy": "park bench"}


REFERENCE = {"golden_retriever": 0.68, "tiger_cat": 0.73, "school_bus": 0.94, "koala": 1.00, "trolleybus": 0.62}


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs ImageNet photographs, which may not be shipped: CAM_COURSE_IMAGENET")
def test_right_on_every_photograph_with_one_right_answer():
    "And as sure as the reference says, to a percent."
    net, right = imagenet_net("mobilenet_v2"), 0
    for path in sorted(PHOTOS.glob("n*.JPEG")):
        wanted = path.stem.partition("_")[2]
        name, p = net.top(net.load(path), 1)[0]
        assert net.index(wanted.replace("_", " ")) == net.index(name), (wanted, name)
        assert p == pytest.approx(REFERENCE.get(wanted, p), abs=0.01), wanted
        right += 1
    assert right == 16
    both = dict(net.top(net.load(PHOTOS/"dog_and_cat.png"), 2))
    assert both == {"bull mastiff": pytest.approx(0.51, abs=0.01), "boxer": pytest.approx(0.44, abs=0.01)}


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs ImageNet photographs, which may not be shipped: CAM_COURSE_IMAGENET")
def test_the_last_clamp_would_empty_the_maps_of_the_surest_answers():
    "Why the logits are not clamped: the score of some photographs lies above the range, where a clamp has no gradient."
    net, (_, high) = imagenet_net("mobilenet_v2"), logit_range()
    x = torch.stack([net.load(path) for path in sorted(PHOTOS.glob("n*.JPEG"))])
    found = GradCAM(net.model, "head").explain(net.normalize(x))
    assert int((found.logits.amax(1) > high).sum()) >= 2 and found.evidence.all()

    class Clamped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net.model

        def forward(self, y): return self.net(y).clamp(max=high)

    empty = ~GradCAM(Clamped(), "net.head").explain(net.normalize(x)).evidence[0]
    assert torch.equal(empty, found.logits.amax(1) > high)
