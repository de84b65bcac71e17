"""The command line: what it offers, what a typing error gets, `find-lr`, `results`, photographs. Rows of the faults table."""

import csv
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tyro
from PIL import Image

from cam_course import __main__ as shell
from cam_course import __version__
from cam_course.__main__ import cli
from cam_course.app.config import RECIPES, SETTINGS, recipe
from cam_course.app.main import run
from cam_course.base.lr_curve import METHODS
from cam_course.data import load_data

COMMANDS = ["train", "resume", "find-lr", "results", "report", "data", "explain", "check", "new"]
SMALL = ["--dataset", "shapes", "--n-train", "120", "--n-test", "30", "--width", "2", "--batch-size", "20", "--device", "cpu"]


def said(capsys, *args: str) -> tuple[int, str, str]:
    try:
        code = cli(args)
    except SystemExit as stopped:
        code = stopped.code
    out = capsys.readouterr()
    return code, out.out, out.err


def plain(text: str) -> str:
    "The words of a help page, less its frames and line breaks."
    return " ".join(re.sub("[|│╭╮╰╯─•+]|-{3,}", " ", text).split())


@pytest.mark.parametrize("module", [True, False])
def test_t25_version_and_python_m(module, tmp_path):
    code = ["-m", "cam_course"] if module else ["-c", "import sys; from cam_course.__main__ import cli; sys.exit(cli())"]
    env = {**os.environ, "PYTHONPATH": str(Path(shell.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = [subprocess.run([sys.executable, *code, arg], cwd=tmp_path, env=env, capture_output=True, text=True)
            for arg in ("--version", "trian")]
    assert [d.returncode for d in done] == [0, 2]
    assert done[0].stdout == f"cam-course {__version__}\n"
    assert done[1].stderr.startswith("cam-course: error: unknown command 'trian'. Did you mean 'train'?")
    assert not list(tmp_path.iterdir())


def test_t25_help_of_the_program_names_every_command(capsys):
    code, out, _ = said(capsys, "--help")
    assert code == 0 and list(shell._COMMANDS) == COMMANDS and "--version" in out
    for name, command in shell._COMMANDS.items():
        assert plain(command.__doc__) in plain(out), name


@pytest.mark.parametrize("command", COMMANDS)
def test_t25_every_argument_has_a_help_text(command, capsys):
    code, out, _ = said(capsys, command, "--help")
    own = signature(shell._COMMANDS[command]).parameters.values()
    options = [o for p in own for o in shell._options(p, RECIPES["assignment"], tyro)]
    assert code == 0 and options
    for option in options:
        said_of = get_args(option.annotation)[1]
        words, name = said_of.help, said_of.name or option.name.replace("_", "-")
        assert len(words.split()) >= 2 and plain(words) in plain(out), option.name
        assert option.kind is option.POSITIONAL_ONLY or f"--{name}" in out


def test_t25_recipes_sources_and_choices_are_listed(capsys):
    _, out, _ = said(capsys, "train", "--help")
    for s in SETTINGS.values():
        assert f"--{s.name.replace('_', '-')}" in out and s.help.split()[0] in out
        assert not s.choices or ",".join(s.choices) in out.replace("\n", ""), s.name
    assert ",".join(RECIPES) in out
    _, out, _ = said(capsys, "data", "--help")
    assert "auto,folder,cache,hub,mirror,toronto" in out and plain(SETTINGS["size"].help) in plain(out)


def test_every_setting_is_an_option_that_arrives(monkeypatch):
    "The command line makes the configuration that its words say, field for field."
    values = {"recipe": "best20", "dataset": "x", "data_dir": "d", "source": "hub", "size": 48, "n_train": 7, "n_test": 8,
              "model": "resnet34", "width": 3, "norm": "group", "pool": "max", "residual": False, "whitening": False, "epochs": 5,
              "batch_size": 9,
              "optimizer": "adam", "scheduler": "step", "max_lr": 0.3, "pct_start": 0.5, "momentum": 0.1, "weight_decay": 0.2,
              "bias_lr": 3.0, "patience": 4, "factor": 0.6, "label_smoothing": 0.7, "clip_norm": 0.8, "ema_decay": 0.9, "tta": False,
              "transforms": ("flip", "noise"), "crop_padding": 1, "cutout_size": 2, "rotation": 6.0, "noise_std": 0.4, "held_out": 0.11,
              "seed": 12, "device": "cuda:1", "precision": "bf16", "compile": True, "runs": "r", "name": "n", "gallery": 13,
              "target_layers": "layer1", "checkpoint_seconds": 14.0}
    assert list(values) == list(SETTINGS)
    words = ["train"]
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool) and name != "compile":
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    asked = []
    monkeypatch.setattr(shell, "run", lambda config, resume: asked.append((config, resume)) or type("Run", (), {"folder": "f"}))
    assert cli([*words, "--resume"]) == 0
    config, resume = asked[0]
    assert dataclasses.asdict(config) == values and resume
    assert all(value != getattr(RECIPES["best20"], name) for name, value in values.items() if name not in ("recipe",))


@pytest.mark.parametrize(("args", "start"), [
    (["trian"], "unknown command 'trian'. Did you mean 'train'? "),
    (["find_lr"], "unknown command 'find_lr'. Did you mean 'find-lr'? "),
    (["train", "--recipe", "qiuck"], "unknown recipe 'qiuck'. Did you mean 'quick'? "),
    (["train", "--dataset", "cifar-10"], "unknown data set 'cifar-10'. Did you mean 'cifar10'? "),
    (["train", "--data-dir", "/no/such"], "give a folder that holds CIFAR-10, or leave it out"),
    (["data", "--data-dir", "/no/such"], "give a folder that holds CIFAR-10, or leave it out"),
    (["train", "--dataset", "/no/such"], "give a folder with train/ and test/, or 'cifar10', or 'shapes': there is no folder"),
    (["data", "--dataset", "photos/mine"], "give a folder with train/ and test/, or 'cifar10', or 'shapes': there is no folder"),
    (["find-lr", *SMALL, "--out", "no/such/lr"], "make the folder first: there is no 'no/such'"),
    (["resume", "no/such"], "give the folder that `train` made: "),
    (["report", "no/such"], "give the folder that `train` made: "),
    (["results"], "give a run folder, or a folder of them: 'runs' is neither"),
    (["results", "--csv", "--json"], "give --csv or --json, not both"),
])
def test_t24_one_error_with_the_remedy_first(args, start, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAM_COURSE_DATA", raising=False)
    code, out, err = said(capsys, *args)
    assert code == 2 and err.startswith(f"cam-course: error: {start}") and err.count("\n") == 1 and not out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("args", "near"), [(["train", "--widht", "3"], "--width"), (["train", "--epoch", "3"], "--epochs"),
                                            (["find-lr", "--num-itre", "3"], "--num-iter"), (["results", "--jsno"], "--json")])
def test_t24_near_misses_of_options_are_suggested(args, near, capsys):
    code, _, err = said(capsys, *args)
    assert code == 2 and "Perhaps you meant" in err and near in err


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    "Pictures of mixed sizes and modes, as a camera and the web give them."
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for part, n in (("train", 12), ("test", 4)):
        for kind, level in (("dark", 40), ("light", 200)):
            (root/part/kind).mkdir(parents=True)
            for i in range(n):
                size = (int(rng.integers(60, 200)), int(rng.integers(60, 200)))
                picture = Image.fromarray(rng.integers(level - 30, level + 30, (*size, 3), dtype=np.uint8))
                picture.convert("L" if i == 1 else "RGB").save(root/part/kind/f"{i}.{'png' if i % 2 else 'jpg'}")
    return root


def test_t22_photographs_of_mixed_sizes(photographs, capsys, tmp_path):
    code, out, _ = said(capsys, "data", "--dataset", str(photographs))
    assert code == 0 and "not all images are squares of one size; taken as 64x64 px" in out and "--size" in out
    assert "train: 24 images of photographs0, 2 classes, (3, 64, 64)" in out and "test: 8 images" in out
    code, out, _ = said(capsys, "data", "--dataset", str(photographs), "--size", "48")
    assert code == 0 and "(3, 48, 48)" in out and "taken as" not in out
    small = "--size 32 --width 2 --epochs 1 --batch-size 8 --device cpu --name a"
    code, out, _ = said(capsys, "train", "--dataset", str(photographs), *small.split(), "--runs", str(tmp_path))
    assert code == 0 and json.loads((tmp_path/"a"/"config.json").read_text())["size"] == 32


def test_t22_squares_of_one_size_stay_as_they_are(tmp_path, capsys):
    for part in ("train", "test"):
        for kind in "ab":
            (tmp_path/part/kind).mkdir(parents=True)
            for i in range(2): Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path/part/kind/f"{i}.png")
    assert load_data(tmp_path)[1].image_size == 40 and "taken as" not in capsys.readouterr().out
    for part in ("train", "test"):  # one camera, all alike, and not square
        for file in (tmp_path/part).rglob("*.png"): Image.new("RGB", (90, 60)).save(file)
    assert load_data(tmp_path)[1].image_size == 64 and "taken as 64x64" in capsys.readouterr().out


def test_find_lr_leaves_a_picture_and_the_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = ["find-lr", *SMALL, "--num-iter", "30", "--start-lr", "1e-4", "--end-lr", "1", "--step-mode", "exp", "--out", "a"]
    code, out, err = said(capsys, *line)
    assert code == 0, err
    assert "30 steps" in out and any(m in out for m in (*METHODS, "no suggestion")) and "picture: a.png\nnumbers: a.csv" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.png"]
    rows = list(csv.DictReader(io.StringIO(Path("a.csv").read_text())))
    found = shell.find_lr(recipe("assignment", dataset="shapes", n_train=120, n_test=30, width=2, batch_size=20, device="cpu"),
                          30, 1e-4, 1, "exp", progress=False)
    assert [float(r["lr"]) for r in rows] == found.lr.tolist() and [float(r["loss"]) for r in rows] == found.loss.tolist()
    with Image.open("a.png") as picture: assert min(picture.size) > 300
    code, _, err = said(capsys, *line)
    assert code == 2 and "give another --out, for 'a.png' exists" in err
    code, out, _ = said(capsys, *line[:-2])
    assert code == 0 and len(list(tmp_path.glob("lr-assignment-w2-*.png"))) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "steps", "changes"), [
    ("best20", 1, {"held_out": 0.25}),   # its biases learn at eight times the rate, in the test at the one that is tried
    ("assignment", 4, {"momentum": 0.9}),   # weights that autocast kept would show in the second step
])
def test_find_lr_is_of_the_training_that_run_makes(monkeypatch, precision, name, steps, changes):
    "The first losses of the test are those of the training's first batches: same net, images, order, augmentation and format."
    config = recipe(name, dataset="shapes", n_train=120, n_test=30, width=2, batch_size=20, device="cpu", epochs=1,
                    scheduler="constant", max_lr=0.05, precision=precision, **changes)
    from cam_course.app import factory
    losses = []
    real = factory.Trainer.__init__.__globals__["train_step"]
    monkeypatch.setitem(factory.Trainer.__init__.__globals__, "train_step", lambda *a: losses.append(real(*a)) or losses[-1])
    train, test = factory.load_images(config)
    factory.build_trainer(config, train, test).fit()
    found = factory.find_lr(config, 5, 0.05, 0.05*(1 + 1e-9), progress=False)
    assert found.loss[:steps].tolist() == pytest.approx([x[0].item() for x in losses[:steps]], rel=1e-5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")/"runs"
    small = {"dataset": "shapes", "n_train": 60, "n_test": 30, "width": 2, "epochs": 1, "batch_size": 20, "device": "cpu"}
    small["runs"] = str(folder)
    for name, changes in (("a0", {}), ("a1", {"seed": 1}), ("b", {"max_lr": 0.1})):
        run(recipe("assignment", **small, **changes, name=name), figures=False)
    (folder/"begun").mkdir()
    (folder/"begun"/"config.json").write_text((folder/"b"/"config.json").read_text())
    return folder


def test_results_as_text_csv_and_json(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    code, out, err = said(capsys, "results")
    lines = out.splitlines()
    assert code == 0 and err == "not finished, and left out: runs/begun\n"
    assert len(lines) == 3 and "--max-lr 0.1" in out and re.search(r"assignment .*± .*% \(2\)", out) and "% (1)" in out
    code, out, _ = said(capsys, "results", "runs/a0", "runs/b", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and [r["run"] for r in rows] == ["runs/a0", "runs/b"]
    code, out, _ = said(capsys, "results", "runs", "--json")
    found = json.loads(out)
    assert code == 0 and [r["seed"] for r in found] == [0, 1, 0]
    history = list(csv.DictReader((runs/"a1"/"history.csv").open()))
    assert found[1]["accuracy"] == float(history[-1]["test_accuracy"]) and "--seed 1" in found[1]["command"]
