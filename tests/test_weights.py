"""Shipped weights: verified, described, as good as they say; files of others refused with the reason."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cam_course.core import DataError
from cam_course.models import weights as module
from cam_course.models.resnet import ResNet18, ResNet34
from cam_course.models.weights import SHIPPED, read_weights, weights_path, write_weights

JPEG = Path(__file__).parent.parent.parent/"shared"/"cifar10-jpeg"


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_what_is_shipped_is_small_whole_and_described(name):
    data = weights_path(name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHIPPED[name] and len(data) <= 6*2**20
    state, about = read_weights(name)
    assert all(v.dtype == torch.float32 for v in state.values() if v.is_floating_point())
    assert {"model", "width", "dataset", "recipe", "epochs", "accuracy", "mean", "std", "class_names"} <= set(about)


@pytest.mark.skipif(not JPEG.is_dir(), reason="needs the JPEG copy of CIFAR-10 beside the checkout")
def test_the_stated_accuracy_is_reached(monkeypatch, tmp_path):
    from cam_course.data import load_cifar10
    from cam_course.loop import predict
    monkeypatch.setenv("CAM_COURSE_CACHE", str(tmp_path))
    test, net = load_cifar10(JPEG, split="test"), ResNet18(weights="cifar10_jpeg")
    assert list(test.class_names) == net.about["class_names"]
    seen: list[torch.Tensor] = []
    net.register_forward_hook(lambda _, __, logits: seen.append(logits))
    both = predict(net, test, tta=True)                    # each batch as it is, then its mirror image
    plain = torch.cat(seen[::2])
    torch.testing.assert_close((plain + torch.cat(seen[1::2]))/2, both)
    for logits, stated in ((plain, "accuracy"), (both, "accuracy_tta")):
        assert abs((logits.argmax(1) == test.y).double().mean().item() - net.about[stated]) <= 0.001, stated


def test_a_changed_byte_is_noticed(monkeypatch, tmp_path):
    data = bytearray(weights_path("cifar10_jpeg").read_bytes())
    data[-1] ^= 1
    (tmp_path/"cifar10_jpeg.safetensors").write_bytes(data)
    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    with pytest.raises(DataError, match="reinstall cam-course"): ResNet18(weights="cifar10_jpeg")


@pytest.mark.parametrize("kind", ["empty", "cut", "plain safetensors", "pickle", "description is no JSON"])
def test_files_that_are_no_weights_of_ours(tmp_path, kind):
    path = tmp_path/"w.safetensors"
    state = ResNet18(width=1).state_dict()
    write_weights(path, state, torch.float16, model="resnet18")
    data = path.read_bytes()
    if kind == "empty": path.write_bytes(b"")
    if kind == "cut": path.write_bytes(data[:len(data)//2])
    if kind == "plain safetensors": save_file(state, path)
    if kind == "pickle": torch.save(state, path)
    if kind == "description is no JSON": save_file(state, path, {module.KEY: "{"})
    match = {"plain safetensors": "doesn't say what net", "description is no JSON": "description in .* can't be read"}
    with pytest.raises(DataError, match=match.get(kind, "is torn or no safetensors file")): read_weights(path)


def test_round_trip_of_a_net_with_other_settings(tmp_path):
    torch.manual_seed(0)
    net = ResNet34(num_classes=3, in_channels=1, width=2, norm="group", pool="max", residual=False)
    about = {"model": "resnet34", "norm": "group", "pool": "max", "residual": False, "note": "für uns"}
    digest = write_weights(tmp_path/"n.safetensors", net.state_dict(), torch.float16, **about)
    assert digest == hashlib.sha256((tmp_path/"n.safetensors").read_bytes()).hexdigest()
    back = ResNet34(weights=tmp_path/"n.safetensors")
    assert (back.width, back.norm, back.pool, back.residual, back.training) == (2, "group", "max", False, False)
    assert back.about == json.loads(json.dumps(about))
    for name, value in net.state_dict().items():
        assert torch.equal(back.state_dict()[name], value.half().float() if value.is_floating_point() else value), name
    assert ResNet34(weights=tmp_path/"n.safetensors", width=2).width == 2       # said again: no contradiction
    with pytest.raises(ValueError, match="have norm='group', not 'layer'"):
        ResNet34(weights=tmp_path/"n.safetensors", norm="layer")


def test_names_and_paths():
    with pytest.raises(ValueError, match="unknown weights 'imagenet'"): read_weights("imagenet")
    with pytest.raises(FileNotFoundError, match="no file"): read_weights("gone.safetensors")
