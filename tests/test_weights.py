"""Shipped weights: verified, described, as good as they say; files of others refused with the reason."""

import hashlib
import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cam_course.app.config import recipe
from cam_course.app.factory import load_model
from cam_course.app.main import resume_run, run
from cam_course.app.trainer import Trainer
from cam_course.base import weights as module
from cam_course.base.checkpoints import read_tensors
from cam_course.base.core import DataError
from cam_course.base.weights import SHIPPED, check_hash, read_weights, weights_path, write_weights
from cam_course.data import shapes
from cam_course.resnet import ResNet18, ResNet34

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
    from cam_course.training import predict
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
    if kind == "description is no JSON": save_file(state, path, {module._KEY: "{"})
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
    given = {"in_channels": 1, "width": 2, "norm": "group", "pool": "max", "residual": False}
    assert ResNet34(weights=tmp_path/"n.safetensors", **given).architecture() == net.architecture()
    for name, other in {"in_channels": 3, "width": 64, "norm": "batch", "pool": "avg", "residual": True}.items():  # what a new net has
        with pytest.raises(ValueError, match=f"have {name}={given[name]!r}, not {other!r}: leave {name} out"):
            ResNet34(weights=tmp_path/"n.safetensors", **{name: other})


def test_a_description_of_another_net_than_the_weights(tmp_path):
    net = ResNet18(5, width=2)
    for name, other in {"num_classes": 4, "in_channels": 1, "width": 3, "norm": "layer", "residual": False, "whitening": True}.items():
        write_weights(tmp_path/"w.safetensors", net.state_dict(), **{**net.architecture(), name: other})
        with pytest.raises(DataError, match="doesn't hold the weights of the resnet18 that it describes"):
            ResNet18(weights=tmp_path/"w.safetensors")


def test_names_and_paths():
    with pytest.raises(ValueError, match="unknown weights 'imagenet'"): read_weights("imagenet")
    with pytest.raises(FileNotFoundError, match="no file"): read_weights("gone.safetensors")


def test_files_of_others_are_read_as_they_are(tmp_path):
    given = {"a": torch.arange(4, dtype=torch.uint8), "b": torch.ones(2, dtype=torch.float16)}
    save_file(given, tmp_path/"a.safetensors", {"note": "für uns"})
    digest = hashlib.sha256((tmp_path/"a.safetensors").read_bytes()).hexdigest()
    tensors, texts = read_tensors(tmp_path/"a.safetensors")
    assert texts == {"note": "für uns"} and tensors.keys() == given.keys()
    assert all(torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in given.items())
    check_hash(tmp_path/"a.safetensors", digest)
    save_file(given, tmp_path/"mute.safetensors")
    assert read_tensors(tmp_path/"mute.safetensors")[1] == {}
    with pytest.raises(DataError, match="has sha256"): check_hash(tmp_path/"a.safetensors", "0"*64)
    with pytest.raises(FileNotFoundError, match="no file"): read_tensors(tmp_path/"b.safetensors")
    (tmp_path/"a.safetensors").write_bytes(b"junk")
    with pytest.raises(DataError, match="no safetensors file"): read_tensors(tmp_path/"a.safetensors")


def test_floats_stay_as_they_are_unless_asked(tmp_path):
    state = {"w": torch.randn(5), "d": torch.randn(2).double(), "n": torch.tensor(3)}
    write_weights(tmp_path/"a.safetensors", state, note="x")
    back, about = read_weights(tmp_path/"a.safetensors")
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in state.items()) and about == {"note": "x"}
    write_weights(tmp_path/"b.safetensors", state, torch.float16)
    assert torch.equal(read_weights(tmp_path/"b.safetensors")[0]["w"], state["w"].half().float())


def test_a_byte_each_is_off_by_half_a_step(tmp_path):
    torch.manual_seed(0)
    net = ResNet18(width=4)
    net.conv1.weight.data[0] = 0                                                # a dead filter has no largest entry
    state = net.state_dict()
    write_weights(tmp_path/"a.safetensors", state, torch.int8, model="resnet18", width=4)
    back = read_weights(tmp_path/"a.safetensors")[0]
    assert back.keys() == state.keys()
    for name, v in state.items():
        if v.is_floating_point() and v.ndim > 1:
            step = v.flatten(1).abs().amax(1)/127
            assert ((back[name] - v).flatten(1).abs() <= step[:, None]*(0.5 + 1e-5)).all(), name
        else:
            assert torch.equal(back[name], v), name
    assert (tmp_path/"a.safetensors").stat().st_size < 0.35*4*sum(v.numel() for v in state.values())
    assert ResNet18(weights=tmp_path/"a.safetensors").width == 4
    given = {"a": torch.arange(-3, 3, dtype=torch.int8)}                         # whole numbers of others stay whole
    write_weights(tmp_path/"b.safetensors", given, note="x")
    assert torch.equal(read_weights(tmp_path/"b.safetensors")[0]["a"], given["a"])


def test_an_edited_file_is_noticed(tmp_path):
    path = tmp_path/"a.safetensors"
    write_weights(path, {"w": torch.zeros(4)}, accuracy=0.1234)
    data = path.read_bytes()
    for edited in (data[:-1] + bytes([data[-1] ^ 1]), data.replace(b"0.1234", b"0.9999")):
        assert edited != data
        path.write_bytes(edited)
        with pytest.raises(DataError, match="was changed after it was written"): read_weights(path)


SMALL = {"dataset": "shapes", "n_train": 60, "n_test": 30, "width": 2, "epochs": 1, "batch_size": 20, "device": "cpu"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> dict:
    "A finished run of each kind of net."
    folder, kinds = tmp_path_factory.mktemp("runs"), {"assignment": {}, "eva_s8": {"held_out": 0.2}, "best20": {}, "quick": {}}
    made = {name: recipe(name, **{**SMALL, **changes}, runs=str(folder), name=name) for name, changes in kinds.items()}
    return {name: run(config, figures=False) for name, config in made.items()}


@pytest.mark.parametrize("name", ["assignment", "eva_s8", "best20", "quick"])
def test_t23_the_file_of_a_run_loads_by_one_line(finished, name):
    result = finished[name]
    file, net = result.folder/"last.safetensors", result.model.state_dict()
    loaded = [load_model(file)] + ([ResNet18(weights=str(file))] if name != "quick" else [])
    for model in loaded:
        assert not model.training and model.state_dict().keys() == net.keys()
        assert all(torch.equal(v, net[k]) and v.dtype == net[k].dtype for k, v in model.state_dict().items())  # every bit
        x = result.normalize(result.test.x[:4])
        assert torch.allclose(model(x), result.model(x), atol=1e-5)
        about = model.about
        assert about["class_names"] == list(result.test.class_names) and about["recipe"] == name and about["epochs"] == 1
        assert about["accuracy"] == result.accuracy and about["mean"] == list(result.normalize.mean) and about["seed"] == 0
    with pytest.raises(ValueError, match="not of 'resnet34'.*`load_model`"): ResNet34(weights=file)


def test_t23_a_trainer_of_ones_own_leaves_such_a_file(tmp_path):
    net = ResNet34(width=2, norm="group")
    train, test = shapes(40, seed=1), shapes(20, seed=2)
    Trainer(net, train, test, torch.optim.SGD(net.parameters(), 0.1), epochs=1, batch_size=20, device="cpu", run_dir=tmp_path,
            about={"note": "mine"}).fit()
    back = ResNet34(weights=tmp_path/"last.safetensors")
    assert back.norm == "group" and back.about["note"] == "mine" and back.about["dataset"] == "shapes"
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3*32*32, 10))
    (tmp_path/"b").mkdir()
    optimizer = torch.optim.SGD(other.parameters(), 0.1)
    Trainer(other, train, test, optimizer, epochs=1, batch_size=20, device="cpu", run_dir=tmp_path/"b").fit()
    assert read_weights(tmp_path/"b"/"last.safetensors")[1]["model"] == "Sequential"
    with pytest.raises(ValueError, match="'Sequential', which is none of this library's nets: build it yourself"):
        load_model(tmp_path/"b"/"last.safetensors")


def test_t23_other_classes_get_a_new_last_layer_and_it_says_so(finished):
    file = finished["assignment"].folder/"last.safetensors"
    with pytest.warns(UserWarning, match="know 10 classes: the last layer, for 5, is new; train it") as caught:
        net = ResNet18(num_classes=5, weights=file)
    assert caught[0].filename == __file__
    old, new = finished["assignment"].model.state_dict(), net.state_dict()
    assert net.fc.weight.shape == (5, 16) and all(torch.equal(new[k], v) for k, v in old.items() if not k.startswith("fc"))
    assert not {"class_names", "accuracy"} & set(net.about) and net(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in (None, 10): assert ResNet18(num_classes=same, weights=file).fc.out_features == 10
    for wrong in (0, 2.5, "5"):
        with pytest.raises(ValueError, match="num_classes must be a whole number >= 1"): ResNet18(num_classes=wrong, weights=file)
    assert ResNet18(width=2).fc.out_features == 10


def test_t23_ten_classes_of_a_file_with_five(tmp_path):
    "Ten is what a net has when nothing is said; here it is said."
    write_weights(tmp_path/"w.safetensors", ResNet18(5, width=2).state_dict(), **ResNet18(5, width=2).architecture())
    assert ResNet18(weights=tmp_path/"w.safetensors").fc.out_features == 5
    with pytest.warns(UserWarning, match="know 5 classes"): assert ResNet18(10, weights=tmp_path/"w.safetensors").fc.out_features == 10


def test_t23_a_run_without_description_is_one_clear_line_and_still_resumes(finished, tmp_path):
    "As version 0.1 left them."
    result = finished["assignment"]
    file = result.folder/"last.safetensors"
    whole = file.read_bytes()
    try:
        save_file({k: v.contiguous() for k, v in result.model.state_dict().items()}, file)
        with pytest.raises(DataError, match="doesn't say what net it is of .*version 0.1.*build that net, then") as caught:
            ResNet18(weights=file)
        assert "\n" not in str(caught.value)
        net = ResNet18(width=2)
        net.load_state_dict(read_weights(file, described=False)[0])  # what the line says
        assert resume_run(result.folder, figures=False).accuracy == result.accuracy
    finally:
        file.write_bytes(whole)


def test_t23_a_file_that_lies_is_damaged(tmp_path):
    write_weights(tmp_path/"w.safetensors", {"fc.weight": torch.zeros(3, 4)}, model="resnet18")
    write_weights(tmp_path/"v.safetensors", {"fc.weight": torch.zeros(3, 4)}, model="whitened")
    for file in ("w", "v"):
        with pytest.raises(DataError, match="doesn't hold the weights of the"): load_model(tmp_path/f"{file}.safetensors")
