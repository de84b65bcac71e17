"""One description of a training: who reads it, what it refuses, and that numbers are numbers. Rows of the faults table."""

import dataclasses
import json
from pathlib import Path
from types import NoneType

import numpy as np
import pytest
import torch
from torch import nn

from cam_course.__main__ import cli
from cam_course.app.config import CHANGEABLE, RECIPES, SETTINGS, TrainConfig, recipe
from cam_course.app.factory import build_model, load_model
from cam_course.app.main import read_config, resume_run, run
from cam_course.app.trainer import Trainer
from cam_course.base.core import check_number, keyed_generator, seed_everything
from cam_course.base.geometric import AlternatingFlip, RandomCrop, RandomHorizontalFlip
from cam_course.base.whitened import WhitenedNet
from cam_course.data import ImageData, shapes
from cam_course.optimizers import make_optimizer
from cam_course.resnet import BasicBlock, ResNet, ResNet18, _make_norm, _Shortcut, _stages
from cam_course.training import epoch_batches, predict, train_step
from cam_course.transforms import AddGaussianNoise, Compose, Cutout, RandomRotation

ROOT = Path(__file__).resolve().parent.parent
FIELDS = [f.name for f in dataclasses.fields(TrainConfig)]

T16 = [
    ("norm", "bach", "unknown norm 'bach'. Did you mean 'batch'"),
    ("pool", "maximum", "unknown pool 'maximum'"),
    ("seed", -1, "seed must be a whole number >= 0 and <= 4294967295, got -1"),
    ("seed", "a", "seed must be a whole number .*, got 'a'"),
    ("clip_norm", -1, "clip_norm must be a number > 0, got -1"),
    ("crop_padding", -3, "crop_padding must be a whole number >= 0, got -3"),
    ("cutout_size", 0, "cutout_size must be a whole number >= 1, got 0"),
    ("residual", "no", "residual must be True or False, got 'no'"),
    ("transforms", "crop", "transforms must be a list of words"),
    ("transforms", ["crop", "cutuot"], "unknown transform 'cutuot'. Did you mean 'cutout'"),
    ("source", "hubb", "unknown source 'hubb'. Did you mean 'hub'"),
    ("precision", "fp61", "unknown precision 'fp61'. Did you mean 'fp16'"),
    ("device", "gpu", "unknown device 'gpu'"),
    ("factor", 1, "factor must be a number > 0 and < 1, got 1"),
    ("patience", 1.5, "patience must be a whole number >= 0, got 1.5"),
    ("compile", "yes", "compile must be True or False, got 'yes'"),
    ("dataset", 3, "dataset must be text, got 3"),
    ("name", "", "name must be text or None, got ''"),
    ("scheduler", "plateau", "set held_out=0.1"),
]


@pytest.mark.parametrize(("name", "value", "message"), T16)
def test_t16_every_way_to_a_config_refuses(name, value, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [lambda: TrainConfig(**{name: value}), lambda: dataclasses.replace(RECIPES["assignment"], **{name: value}),
            lambda: recipe("assignment", **{name: value}), lambda: run(recipe("assignment", **{"dataset": "shapes", name: value}))]
    for make in made:
        with pytest.raises(ValueError, match=message):
            make()
    assert not list(tmp_path.iterdir())


def test_t16_what_the_machine_or_the_images_refuse_leaves_no_folder(tmp_path):
    small = {"dataset": "shapes", "n_train": 100, "n_test": 20, "width": 2, "batch_size": 20, "runs": str(tmp_path/"runs")}
    for changes, message in (({"batch_size": 101}, "give a batch_size of 100 or less"), ({"device": "cuda:99"}, "cuda:99"),
                             ({"batch_size": 95, "held_out": 0.1}, "give a batch_size of 90 or less"),
                             ({"target_layers": "layer9"}, "layer9"), ({"target_layers": "layer4"}, "layer3")):
        with pytest.raises(ValueError, match=message):
            run(recipe("assignment", **{**small, **changes}))
    assert not list(tmp_path.iterdir())


def test_t16_a_list_of_transforms_is_a_tuple_and_can_be_resumed(tmp_path):
    config = recipe("assignment", dataset="shapes", n_train=40, n_test=20, width=2, epochs=1, batch_size=20, device="cpu",
                    runs=str(tmp_path), name="a", transforms=["crop", "flip"])
    assert config.transforms == ("crop", "flip") and hash(config) == hash(dataclasses.replace(config))
    first = run(config, figures=False)
    assert read_config(first.folder) == config and run(config, resume=True, figures=False).accuracy == first.accuracy


def images(n: int = 24) -> ImageData:
    return shapes(n, seed=1)


def trainer(**changes) -> Trainer:
    net = ResNet18(width=2)
    options = {"optimizer": torch.optim.SGD(net.parameters(), 0.1), "epochs": 1, "batch_size": 8, "device": "cpu", **changes}
    return Trainer(net, images(), images(8), **options)


def batch(**options) -> torch.Tensor:
    x, _ = next(epoch_batches(images(), **{"batch_size": 8, "transform": Compose([RandomCrop(32, 4)]), **options}))
    return x


T16_BENEATH = {
    "make_norm": (lambda: _make_norm("bach", 4), "unknown norm 'bach'"),
    "Shortcut": (lambda: _Shortcut(2, 4, 2, "bach"), "unknown norm 'bach'"),
    "BasicBlock norm": (lambda: BasicBlock(2, 2, norm="bach"), "unknown norm 'bach'"),
    "BasicBlock residual": (lambda: BasicBlock(2, 2, residual="no"), "residual must be True or False, got 'no'"),
    "BasicBlock stride": (lambda: BasicBlock(2, 2, 0), "stride must be a whole number >= 1, got 0"),
    "ResNet norm": (lambda: ResNet18(width=2, norm="bach"), "unknown norm 'bach'"),
    "ResNet pool": (lambda: ResNet18(width=2, pool="mean"), "unknown pool 'mean'"),
    "ResNet residual": (lambda: ResNet18(width=2, residual="no"), "residual must be True or False, got 'no'"),
    "ResNet blocks": (lambda: ResNet((2, 2, 2), width=2), r"blocks must be four numbers, for layer1 to layer4, got \(2, 2, 2\)"),
    "ResNet no block": (lambda: ResNet((2, 2, 2, 0), width=2), "blocks of a layer must be a whole number >= 1, got 0"),
    "WhitenedNet components": (lambda: WhitenedNet(width=2, components=0), "components must be a whole number >= 1"),
    "WhitenedNet scale": (lambda: WhitenedNet(width=2, scale=0), "scale must be a number > 0, got 0"),
    "RandomCrop": (lambda: RandomCrop(32, padding=-3), "padding must be a whole number >= 0, got -3"),
    "Cutout": (lambda: Cutout(0), "size must be a whole number >= 1, got 0"),
    "RandomRotation": (lambda: RandomRotation("a"), "degrees must be a number"),
    "AddGaussianNoise": (lambda: AddGaussianNoise(-1), "std must be a number >= 0, got -1"),
    "AlternatingFlip": (lambda: AlternatingFlip(seed=-1), "seed must be a whole number >= 0, got -1"),
    "epoch_batches seed": (lambda: batch(seed="a"), "seed must be a whole number >= 0, got 'a'"),
    "epoch_batches size": (lambda: batch(batch_size=0), "batch_size must be a whole number >= 1, got 0"),
    "epoch_batches start": (lambda: batch(start=-1), "start must be a whole number >= 0, got -1"),
    "epoch_batches rank": (lambda: batch(share=(4, 4)), "rank of share must be a whole number >= 0 and <= 3, got 4"),
    "epoch_batches processes": (lambda: batch(share=(0, 9)), "processes of share must be a whole number >= 1 and <= 8, got 9"),
    "predict": (lambda: predict(ResNet18(width=2), images(4), batch_size=-1), "batch_size must be a whole number >= 1"),
    "train_step": (lambda: train_step(*[None]*6, clip_norm=-1), "clip_norm must be a number > 0, got -1"),
    "Trainer seed": (lambda: trainer(seed=-1), "seed must be a whole number >= 0, got -1"),
    "Trainer compile": (lambda: trainer(compile="no"), "compile must be True or False, got 'no'"),
    "Trainer clip_norm": (lambda: trainer(clip_norm=-1), "clip_norm must be a number > 0, got -1"),
    "Trainer checkpoints": (lambda: trainer(checkpoint_seconds=-1), "checkpoint_seconds must be a number >= 0, got -1"),
    "Trainer about": (lambda: trainer(about={"net": nn.ReLU()}), "about=.* can't be written"),
}


@pytest.mark.parametrize("name", T16_BENEATH)
def test_t16_what_lies_beneath_refuses_too(name):
    work, message = T16_BENEATH[name]
    with pytest.raises(ValueError, match=message):
        work()


def test_t17_numbers_of_numpy_are_numbers(tmp_path):
    config = recipe("assignment", seed=np.int64(3), max_lr=np.float32(0.25), residual=np.bool_(False), clip_norm=np.float64(2))
    assert config == recipe("assignment", seed=3, max_lr=0.25, residual=False, clip_norm=2.0)
    assert {type(getattr(config, n)) for n in ("seed", "max_lr", "residual")} == {int, float, bool}
    json.dumps(dataclasses.asdict(config))
    for value in (np.int64(3), np.float32(0.5), np.uint8(7)):
        assert check_number("it", value) == value and type(check_number("it", value)) in (int, float)
    for wrong in (np.bool_(True), np.array(3), np.float32("nan"), np.str_("3")):
        with pytest.raises(ValueError, match="it must be a number"):
            check_number("it", wrong)
    with pytest.raises(ValueError, match="whole number"):
        check_number("it", np.float32(3), integer=True)


def test_t17_the_same_draws_whatever_kind_of_number():
    draw = lambda *key: torch.rand(4, generator=keyed_generator(*key))
    assert draw(np.int64(1), "order", np.int32(2)).equal(draw(1, "order", 2))
    assert batch(seed=np.int64(1), epoch=np.int32(2), batch_size=np.int64(8)).equal(batch(seed=1, epoch=2))
    assert not batch(seed=np.int64(1)).equal(batch(seed=2))
    seed_everything(np.int64(5))
    first = torch.rand(3)
    seed_everything(5)
    assert torch.rand(3).equal(first)
    one, other = (images().split(n, seed=s)[1].y for n, s in ((np.int64(5), np.int64(2)), (5, 2)))
    assert one.equal(other) and len(images().split(np.float32(0.25))[1]) == 6


def test_t17_numbers_of_numpy_in_nets_transforms_and_optimizers():
    x = images(4).x
    for own, theirs in ((RandomCrop(np.int64(32), np.int32(4), np.float32(3)), RandomCrop(32, 4, 3.0)),
                        (Cutout(np.int64(8)), Cutout(8)), (RandomRotation(np.float32(5)), RandomRotation(5.0)),
                        (RandomRotation((np.float32(-5), np.int64(5))), RandomRotation((-5.0, 5))),
                        (RandomHorizontalFlip(np.float32(0.5)), RandomHorizontalFlip(0.5))):
        assert repr(own) == repr(theirs)
        drawn = (t(x, torch.Generator().manual_seed(0)) for t in (own, theirs))
        assert torch.equal(*drawn)
    assert _stages(ResNet18(width=np.int64(2)), np.int64(32)) == _stages(ResNet18(width=2), 32)
    group = make_optimizer("adam", [nn.Parameter(torch.ones(2))], lr=np.float32(0.5)).param_groups[0]
    assert group["lr"] == 0.5


def test_every_field_is_described_once_and_checks_its_own_default():
    assert list(SETTINGS) == FIELDS and tuple(RECIPES) == SETTINGS["recipe"].choices
    for name, s in SETTINGS.items():
        assert s.name == name and len(s.help) > 5 and s.kind in (int, float, bool, str) and s.check(s.default) == s.default
        assert s.optional == (type(s.default) is NoneType), f"{name}: None is the default where it is allowed, and only there"
        wrong = {int: 0.5, float: "x", bool: 1, str: 7}[s.kind]
        with pytest.raises(ValueError, match=s.name.removesuffix("s")):
            s.check(wrong)
    assert set(TrainConfig().result_settings()) == {n for n, s in SETTINGS.items() if s.result}
    assert {"device", "data_dir", "gallery"} <= set(CHANGEABLE) and not {"seed", "width", "runs", "name"} & set(CHANGEABLE)


def test_the_table_of_the_chapter_has_every_field():
    cells = json.loads((ROOT/"nbs"/"app"/"config.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = ["".join(o["data"]["text/markdown"]) for c in cells for o in c.get("outputs", []) if "text/markdown" in o.get("data", {})]
    rows = {line.split("|")[1].strip(" `"): [cell.strip() for cell in line.split("|")[2:-1]] for line in shown[0].splitlines()[2:]}
    assert list(rows) == FIELDS
    for name, (default, allowed, words, result) in rows.items():
        s = SETTINGS[name]
        assert (allowed, words, result) == (s.allowed, s.help, "yes" if s.result else ""), name
        assert default == (", ".join(s.default) if s.several else str(s.default))


def test_nobody_else_lists_settings():
    "Resuming, tables, packing and the command line read the description: no second list of names is left in them."
    for file in ("cam_course/app/main.py", "cam_course/__main__.py", "cam_course/app/experiments.py", "book/pack_weights.py"):
        text = (ROOT/file).read_text(encoding="utf-8")
        for name in ("checkpoint_seconds", "label_smoothing", "weight_decay"):
            assert f'"{name}"' not in text, f"{file} names {name}"


def test_only_what_the_result_does_not_depend_on_may_change(tmp_path):
    config = recipe("assignment", dataset="shapes", n_train=40, n_test=20, width=2, epochs=1, batch_size=20, device="cpu",
                    runs=str(tmp_path), name="a", gallery=4)
    run(config, figures=False)
    for name, value in (("max_lr", 0.1), ("seed", 1), ("tta", True), ("transforms", ("crop",))):
        with pytest.raises(ValueError, match=f"was made with {name}="):
            run(dataclasses.replace(config, **{name: value}), resume=True, figures=False)
        with pytest.raises(ValueError, match=f"unknown change on resuming '{name}'"):
            resume_run(tmp_path/"a", figures=False, **{name: value})
    assert run(dataclasses.replace(config, gallery=10), resume=True, figures=False).config.gallery == 4  # nothing said: as it was
    again = run(dataclasses.replace(config, gallery=3, target_layers="layer2"), resume=True, figures=False)
    assert (again.config.gallery, again.config.target_layers) == (3, "layer2")
    assert resume_run(tmp_path/"a", figures=False, gallery=2).config.gallery == 2


def test_t24_an_unknown_setting_comes_with_the_likely_one_first():
    with pytest.raises(ValueError, match=r"^unknown setting 'epoch'. Did you mean 'epochs'\? Choose one of 'recipe', "):
        recipe("assignment", epoch=3)


def test_t24_another_model_in_the_recipe_quick(tmp_path, monkeypatch):
    "No layer of one net stands in a recipe for another: the maps come from the last part that is large enough."
    monkeypatch.chdir(tmp_path)
    line = "train --recipe quick --model resnet18 --dataset shapes --n-train 60 --n-test 30 --epochs 1 --batch-size 20"
    assert cli([*line.split(), "--width", "2", "--device", "cpu", "--name", "a"]) == 0
    result, asked = resume_run("runs/a"), []
    monkeypatch.setattr(type(result.errors), "plot_cams", lambda self, model, n, layers, **kw: asked.append(layers))
    result.plot_cams(2)
    dataclasses.replace(result, model=build_model(recipe("quick", width=2), 10, 3).eval()).plot_cams(2)
    result.plot_cams(2, "layer2")
    assert asked == ["layer3", "stage1", "layer2"]
    assert type(load_model("runs/a/last.safetensors")).__name__ == "ResNet"


T24 = {
    "class of an optimizer": ({"optimizer": torch.optim.SGD}, r"^give an optimizer .*SGD\(model.parameters\(\), lr=0.1\)"),
    "word for an optimizer": ({"optimizer": "sgd"}, r"^give an optimizer .*torch.optim.SGD\(model.parameters\(\), lr=0.1\)"),
    "word for a schedule": ({"scheduler": "onecycle"}, r"^give a schedule .*OneCycleLR\(optimizer, max_lr=0.1, total_steps=6\)"),
    "class of a schedule": ({"scheduler": torch.optim.lr_scheduler.StepLR}, r"^give a schedule .*StepLR\(optimizer, ...\)"),
    "class of a transform": ({"transform": Cutout}, r"^give an object, Cutout\(...\), not the class"),
    "a function": ({"transform": lambda x: x}, "^write a subclass of cam_course.transforms.Transform"),
}


@pytest.mark.parametrize("name", T24)
def test_t24_what_the_trainer_is_given_by_mistake(name):
    options, message = T24[name]
    with pytest.raises(ValueError, match=message):
        trainer(epochs=2, **options)


def test_t24_transforms_of_torchvision_are_refused_with_ours():
    from torchvision import transforms as theirs
    for given in (theirs.RandomCrop(32, 4), [theirs.RandomCrop(32, 4)], theirs.Compose([theirs.RandomCrop(32, 4)])):
        name = "Compose" if isinstance(given, theirs.Compose) else "RandomCrop"
        with pytest.raises(ValueError, match=f"^use cam_course.{name}, whose draws a resumed training can repeat"):
            trainer(transform=given)
    for work in (lambda: Compose([theirs.ColorJitter()]), lambda: batch(transform=theirs.ColorJitter())):
        with pytest.raises(ValueError, match="^write a subclass of cam_course.transforms.Transform"):
            work()
