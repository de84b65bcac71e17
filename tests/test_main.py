"The command line and its run folders: what it leaves, how it refuses, what a kill costs."

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cam_course.__main__ import cli
from cam_course.app.config import TrainConfig, recipe
from cam_course.app.factory import build_model, build_optimizer, build_scheduler
from cam_course.app.main import ProcessLost, _how_to_go_on, resume_run, run
from cam_course.data import shapes

TINY = [
    "--width",
    "4",
    "--epochs",
    "3",
    "--batch-size",
    "32",
    "--gallery",
    "4",
    "--transforms",
    "crop",
    "flip",
    "cutout",
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    "A small data set as people have it: train/ and test/ with a folder for each class."
    root = tmp_path_factory.mktemp("images")
    for part, n, seed in (("train", 192, 1), ("test", 60, 2)):
        data = shapes(n, seed=seed)
        for i, (x, y) in enumerate(zip(data.x, data.y.tolist(), strict=True)):
            target = root / part / data.class_names[y]
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x.permute(1, 2, 0).numpy()).save(target / f"{i}.png")
    return root


def command(*args: str, cwd: Path, **kwargs) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CAM_COURSE_CACHE": str(cwd / "cache")}
    code = "import sys; from cam_course.__main__ import cli; sys.exit(cli())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        cwd=cwd,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,
    )


def weights(path: Path) -> dict:
    return load_file(path / "last.safetensors")


def newest_step(path: Path) -> int:
    steps = [int(f.stem) for f in path.glob("checkpoints/*.safetensors") if f.stem.isdigit()]
    return max(steps, default=-1)


@pytest.fixture(scope="session")
def undisturbed(folder, tmp_path_factory) -> Path:
    cwd = tmp_path_factory.mktemp("undisturbed")
    process = command("train", "--dataset", str(folder), *TINY, "--name", "a", cwd=cwd)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "run folder: runs/a" in out
    return cwd / "runs" / "a"


def test_a_run_leaves_everything(undisturbed):
    names = {str(p.relative_to(undisturbed)) for p in undisturbed.rglob("*") if p.is_file()}
    expected = {
        "config.json",
        "environment.json",
        "history.csv",
        "log.txt",
        "last.safetensors",
        "report.html",
        "figures/alt.json",
    }
    expected |= {f"figures/{n}.png" for n in ("curves", "misclassified", "gradcam", "confusion")}
    assert expected <= names
    assert any(n.startswith("tensorboard/events") for n in names)
    assert sum(n.startswith("checkpoints/") for n in names) == 2
    assert not [n for n in names if n.endswith(".tmp")]
    page = (undisturbed / "report.html").read_text()
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert page.count("<img ") == 4 and page.count('alt="') == 4 and 'alt=""' not in page


def test_sigkill_and_resume_give_the_same_weights(undisturbed, folder, tmp_path):
    "Killed three times, in the first, the second and the third epoch (of 18 steps), and gone on with each time."
    start = ("train", "--dataset", str(folder), *TINY, "--name", "a", "--checkpoint-seconds", "0")
    run_dir, deadline = tmp_path / "runs" / "a", time.time() + 240
    for kill_at, words in ((2, start), (7, ("resume", "runs/a")), (13, ("resume", "runs/a"))):
        process = command(*words, cwd=tmp_path)
        while newest_step(run_dir) < kill_at and process.poll() is None and time.time() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"finished before it could be killed: {err}"
        assert kill_at <= newest_step(run_dir) < 18
    resumed = command("resume", "runs/a", cwd=tmp_path)
    _, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, err
    a, b = weights(undisturbed), weights(run_dir)
    assert a.keys() == b.keys() and all(a[k].equal(b[k]) for k in a)


def test_an_error_of_ones_own_is_not_the_loss_of_another_process(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    lost = ("[pair.cc:534] Connection closed by peer [127.0.0.1]:29500", "Gloo AllReduce failed: timed out", "NCCL error in: utils.hpp",
            "The client socket has timed out", "wait timeout after 300000ms, keys in TCPStore", "ProcessGroupNCCL's watchdog")
    for words in lost:
        with pytest.raises(ProcessLost, match="another process .* has ended; go on with `accelerate launch"), _how_to_go_on(tmp_path):
            raise RuntimeError(words)
    for words in ("the weights can't be restored", "size of the stored tensor 3 must match", "the disconnection of layer 3"):
        with pytest.raises(RuntimeError, match=words) as caught, _how_to_go_on(tmp_path): raise RuntimeError(words)
        assert caught.type is RuntimeError


def test_sigterm_saves_and_says_how_to_go_on(folder, tmp_path):
    process = command(
        "train",
        "--dataset",
        str(folder),
        *TINY,
        "--name",
        "a",
        "--epochs",
        "50",
        "--checkpoint-seconds",
        "1000",
        cwd=tmp_path,
    )
    run_dir, deadline = tmp_path / "runs" / "a", time.time() + 120
    while newest_step(run_dir) < 6 and time.time() < deadline:
        time.sleep(0.01)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "stopped by SIGTERM after step" in err and "resume" in err
    said = int(err.split("after step ")[1].split(";")[0])
    assert newest_step(run_dir) == said


def test_resuming_a_finished_run_only_loads_it(undisturbed):
    before = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*")}
    result = resume_run(undisturbed, device="cpu")
    assert {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*")} == before
    assert result.accuracy == pytest.approx(result.errors.accuracy) == pytest.approx(1 - len(result.errors) / 60)


def test_same_name_other_settings_is_refused(undisturbed, folder):
    config = recipe("assignment", dataset=str(folder), width=8, epochs=3, runs=str(undisturbed.parent), name="a")
    with pytest.raises(ValueError, match="was made with width=4, not 8: give the new run another name"):
        run(config, resume=True)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["train", "--dataset", "cifar11"], 2, "cifar11"),
        (["train", "--dataset", "shapes", "--width", "0"], 2, "width must be a whole number >= 1, got 0"),
        (["train", "--dataset", "shapes", "--max-lr", "-0.1"], 2, "max_lr must be a number > 0, got -0.1"),
        (
            ["train", "--dataset", "shapes", "--n-train", "300", "--n-test", "50", "--target-layers", "layer4"],
            2,
            "layer3",
        ),
        (["train", "--dataset", "shapes", "--recipe", "asignment"], 2, "Did you mean 'assignment'"),
        (["train", "--dataset", "shapes", "--scheduler", "plateau"], 2, "held_out=0.1"),
        (["resume", "nowhere"], 2, "nowhere"),
        (["report", "nowhere"], 2, "nowhere"),
        (["train", "--device", "cuda:99"], 2, "cuda:99"),
    ],
)
def test_wrong_input_is_one_clear_error_and_leaves_nothing(args, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAM_COURSE_DATA", raising=False)
    assert cli(args) == code
    err = capsys.readouterr().err
    assert message in err and err.startswith("cam-course: error:") and err.count("\n") == 1
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("args", [["train", "--optimizer", "adm"], ["train", "--nonsense", "1"], []])
def test_what_the_parser_refuses_exits_with_2(args):
    with pytest.raises(SystemExit) as stopped:
        cli(args)
    assert stopped.value.code == 2


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli(["train", "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(f"--{name.replace('_', '-')}" in text for name in read_fields())
    assert "folder that holds the run folders" in text


def read_fields() -> list[str]:
    from dataclasses import fields

    return [f.name for f in fields(TrainConfig)]


def test_run_folder_that_exists(undisturbed, folder, capsys):
    assert cli(["train", "--dataset", str(folder), *TINY, "--runs", str(undisturbed.parent), "--name", "a"]) == 2
    assert "exists: give another name" in capsys.readouterr().err


def test_a_damaged_config_is_a_data_error(undisturbed, tmp_path, capsys):
    (tmp_path / "config.json").write_text((undisturbed / "config.json").read_text()[:-20])
    assert cli(["resume", str(tmp_path)]) == 1
    assert "damaged or of another version" in capsys.readouterr().err
    values = json.loads((undisturbed / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "widht": 3}))
    assert cli(["resume", str(tmp_path)]) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_stops_with_one_error_and_a_whole_checkpoint(folder, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("no permission to mount")
    try:
        process = command("train", "--dataset", str(folder), *TINY, "--name", "a", "--runs", str(small), cwd=tmp_path)
        _, err = process.communicate(timeout=300)
        assert (
            process.returncode == 1
            and "No space left" in err
            and err.strip().splitlines()[-1].startswith("cam-course: failed")
        )
        assert not list(small.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_submission_has_log_galleries_and_links(undisturbed, tmp_path, capsys):
    assert cli(["report", str(undisturbed), "--submission", str(tmp_path / "handin")]) == 0
    text = (tmp_path / "handin" / "README.md").read_text()
    assert (undisturbed / "log.txt").read_text().strip() in text
    for name in ("curves", "misclassified", "gradcam"):
        assert f"](figures/{name}.png)" in text and (tmp_path / "handin" / "figures" / f"{name}.png").exists()
    for name in ("resnet.py", "app/main.py", "transforms.py"):
        assert f"/cam_course/{name})" in text
    assert cli(["report", str(undisturbed), "--submission", str(tmp_path / "handin")]) == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [2, 3, 4, 5, 10, 40])
def test_one_cycle_of_few_steps(steps):
    "torch's schedule divides by zero where the rise is one step long: pct_start=0.25 and 4 steps."
    config = recipe("assignment", epochs=1, pct_start=0.25)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.max_lr)
    schedule, rates = build_scheduler(config, optimizer, steps), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(rates) < steps else None
    assert min(rates) > 0 and max(rates) <= config.max_lr*(1 + 1e-6) and rates[-1] < config.max_lr/10


def test_biases_have_a_rate_of_their_own():
    config = recipe("quick", width=2, bias_lr=64)
    model = build_model(config, 10, 3)
    weights, biases = build_optimizer(config, model).param_groups
    assert biases["lr"] == 64*weights["lr"] and biases["weight_decay"] == weights["weight_decay"]/64
    assert all(p.ndim == 1 for p in biases["params"]) and all(p.ndim > 1 for p in weights["params"])
    assert not any(p is model.white.weight for p in weights["params"])
