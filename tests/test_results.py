"Tables made of run folders: the command repeats the run, and what doesn't belong together isn't averaged."
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from cam_course import __main__ as shell
from cam_course.app.config import recipe
from cam_course.app.experiments import _mean_sd, read_finished, results_table, run_command, sweep, sweep_folder
from cam_course.data import shapes

run_folder = type("Run", (), {"folder": "runs/none"})
SMALL = {"dataset": "shapes", "n_train": 120, "n_test": 60, "width": 2, "epochs": 1, "batch_size": 40, "precision": "fp32"}


@pytest.mark.parametrize("changes", [
    {}, {"recipe": "best20"}, {"recipe": "eva_s8", "norm": "batch", "max_lr": 0.025},
    {"recipe": "best20", "whitening": False, "tta": False}, {"optimizer": "adamw", "weight_decay": 0.05},
    {"transforms": ("crop",), "n_train": 100, "residual": False, "clip_norm": 0.5, "seed": 3},
])
def test_the_command_gives_the_same_configuration(changes, monkeypatch):
    config = recipe(changes.get("recipe", "assignment"), **{k: v for k, v in changes.items() if k != "recipe"})
    words = run_command(config).split()
    assert words[:3] == ["cam-course", "train", "--recipe"]
    asked = []
    monkeypatch.setattr(shell, "run", lambda given, resume: asked.append(given) or run_folder)
    assert shell.cli(words[1:]) == 0 and asked == [config]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return sweep([recipe("assignment", seed=s, runs=str(folder), name=f"a{s}", **SMALL) for s in (0, 1)], None)


def test_the_row_is_computed_from_the_folders(runs):
    (row,) = results_table({"mine": runs})
    mean = 50*(runs[0].accuracy + runs[1].accuracy)
    assert row["accuracy"].startswith(f"{mean:.2f} ± ") and row["accuracy"].endswith("% (2)") and row["with TTA"] == ""
    assert row["data"] == "shapes, 120 images" and "--width 2" in row["again"] and "--seed" not in row["again"]
    assert sweep_folder(runs[0].config.runs) == runs


def test_the_command_of_a_row_repeats_the_run_of_its_lowest_seed(runs):
    last = max(runs, key=lambda run: run.config.seed)
    (row,) = results_table({"one": [last]})
    assert last.config.seed > 0 and f"--seed {last.config.seed}" in row["again"]


def test_what_differs_in_more_than_the_seed_is_refused(runs):
    other = dataclasses.replace(runs[1], config=dataclasses.replace(runs[1].config, max_lr=0.1))
    with pytest.raises(ValueError, match="'mine' differ in more than the seed"): results_table({"mine": [runs[0], other]})
    with pytest.raises(ValueError, match="differ"): results_table({"mine": [runs[0], dataclasses.replace(runs[1], data="other")]})


def test_the_same_command_gives_the_same_number(runs, tmp_path):
    (again,) = sweep([dataclasses.replace(runs[1].config, runs=str(tmp_path), name="again")], None)
    assert [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in again.history] == \
           [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in runs[1].history]


def test_a_diverged_run_is_none_and_left_out(runs, tmp_path, capsys):
    wild = recipe("assignment", runs=str(tmp_path), name="wild", **{**SMALL, "max_lr": 1e30, "optimizer": "sgd"})
    (found,) = sweep([wild], None)
    assert found is None and "wild: the loss was not finite" in capsys.readouterr().out
    assert results_table({"wild": [found], "mine": runs}) == results_table({"mine": runs})


def test_unfinished_and_nameless_runs(runs, tmp_path):
    assert read_finished(tmp_path) is None and read_finished(tmp_path/"none") is None
    with pytest.raises(ValueError, match="needs a name"): sweep([recipe("assignment", **SMALL)], None)


def test_a_single_run_has_no_deviation():
    assert _mean_sd([0.5]) == "50.00 % (1)" and _mean_sd([0.5, 0.6]) == "55.00 ± 7.07 % (2)"


def test_each_original_finds_its_compressed_copy(tmp_path):
    "book/copy_cost.py: what the JPEG copy costs is counted over pairs of the same image."
    import copy_cost
    original = shapes(60, seed=1).x
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    copy = []
    for x in original[order]:
        Image.fromarray(x.permute(1, 2, 0).numpy()).save(tmp_path/"one.jpg", quality=75)
        copy.append(torch.from_numpy(np.array(Image.open(tmp_path/"one.jpg"))).permute(2, 0, 1))
    for k in (0, 1):  # row n is image n
        rows = original[30*k:30*(k + 1)].permute(0, 2, 3, 1).reshape(30, 1024, 3).numpy()
        Image.fromarray(rows).save(tmp_path/f"strip_{k}.png")
    read = copy_cost.read_strips(tmp_path)
    assert torch.equal(read, original)
    number = copy_cost.paired(read, torch.stack(copy))
    assert torch.equal(order[number], torch.arange(60)) and not torch.equal(number, torch.arange(60))
    with pytest.raises(SystemExit, match="not images of one data set"):
        copy_cost.paired(shapes(20, seed=2).x, torch.stack(copy))
    with pytest.raises(SystemExit, match="no PNG file"):
        copy_cost.read_strips(tmp_path/"empty")
