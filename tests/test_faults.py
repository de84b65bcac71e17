"""What a run survives: kills, signals and full disks at the points where it writes, damaged files, locked and read-only folders.

A sample of the points in `make test`, all of them in `make test-long`; what came of it is the table of tests/fault_table.py.
"""
import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from faults import RECIPES, SMALL
from faults_left import differences, fingerprint

from cam_course.__main__ import cli
from cam_course.app import trainer as trainer_module
from cam_course.base.checkpoints import FolderInUse, lock_folder

HERE = Path(__file__).resolve().parent
LONG = bool(os.environ.get("CAM_COURSE_LONG"))
long = pytest.mark.long
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def harness(tmp_path, record_property, *args: object) -> None:
    out = tmp_path/"result.json"
    command = [sys.executable, HERE/"faults.py", *args, "--out", out]
    done = subprocess.run([*map(str, command)], env=ONE_THREAD, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = json.loads(out.read_text())
    record_property("tried", found["at_points"] + found["at_moments"])
    assert found["right"] == found["at_points"] + found["at_moments"] > 0 and found["wrong"] == []
    assert not LONG or found["at_points"] in (0, found["points"]) or "--points" in args


# ---- at the points where something is written


@pytest.mark.parametrize("job", ["cache", "train", "report"])
def test_killed_where_it_writes(job, tmp_path, record_property):
    harness(tmp_path, record_property, job, "kill", *([] if LONG else ["--points", 2]))


@long
@pytest.mark.parametrize(("job", "times"), [("cache", 5), ("train", 12), ("report", 3)])
def test_killed_at_random_moments(job, times, tmp_path, record_property):
    harness(tmp_path, record_property, job, "kill", "--points", 0, "--moments", times)


@pytest.mark.parametrize("job", ["train", pytest.param("cache", marks=long), pytest.param("report", marks=long)])
def test_disk_full_where_it_writes(job, tmp_path, record_property):
    harness(tmp_path, record_property, job, "full", *([] if LONG else ["--points", 1]))


@pytest.mark.parametrize("way", ["interrupt", pytest.param("term", marks=long)])
def test_asked_to_stop_where_it_writes(way, tmp_path, record_property):
    harness(tmp_path, record_property, "train", way, *(["--points", 40] if LONG else ["--points", 1]))


@long
@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "assignment"])
def test_every_recipe_goes_on_as_if_undisturbed(recipe, tmp_path, record_property):
    harness(tmp_path, record_property, "train", "kill", "--recipe", recipe, "--points", 10, "--moments", 2)


# ---- in this process


def train(box: Path, *more: str) -> int:
    old = os.getcwd()
    os.chdir(box)
    try:
        return cli(["train", *SMALL, *more])
    finally:
        os.chdir(old)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    box = tmp_path_factory.mktemp("finished")
    assert train(box) == 0
    return box


@pytest.fixture(scope="module")
def undisturbed(finished) -> dict:
    return fingerprint(finished)


@contextmanager
def signalled(number: int, function: str, call: int):
    "A signal arrives in the given call of a function of the trainer."
    real, calls = getattr(trainer_module, function), []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(number)
        return real(*args, **kwargs)

    setattr(trainer_module, function, wrapped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what a shell starts in the background
    try:
        yield
    finally:
        setattr(trainer_module, function, real)
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory) -> Path:
    box = tmp_path_factory.mktemp("stopped")
    with signalled(signal.SIGTERM, "train_step", 5):
        assert train(box) == 143
    assert [p.stem for p in sorted((box/"runs"/"a"/"checkpoints").iterdir())] == ["000000004", "000000005"]
    return box


@pytest.fixture
def stopped(stopped_once, tmp_path) -> Path:
    "A run that was stopped after its fifth of six steps; checkpoints 4 and 5."
    return shutil.copytree(stopped_once, tmp_path/"box")


@pytest.mark.parametrize(("number", "code", "function", "call"), [
    (signal.SIGTERM, 143, "train_step", 1),
    (signal.SIGINT, 130, "train_step", 6), (signal.SIGTERM, 143, "evaluate", 2), (signal.SIGINT, 130, "evaluate", 1)])
def test_asked_to_stop_at_any_time(number, code, function, call, tmp_path, undisturbed, capsys):
    "During a step, and while the test images are measured: also after the last epoch, when nothing is trained any more."
    with signalled(number, function, call):
        assert train(tmp_path) == code
    err = capsys.readouterr().err
    name, step = signal.Signals(number).name, {("train_step", 1): 1, ("evaluate", 1): 3}.get((function, call), 6)
    assert err.splitlines()[-1] == f"cam-course: stopped by {name} after step {step}; go on with `cam-course resume runs/a`"
    assert train(tmp_path) == 0 and differences(tmp_path, undisturbed) == []


class Evil:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def damage(path: Path, kind: str, marker: Path) -> None:
    whole = path.read_bytes()
    if kind == "torch":
        torch.save({"w": Evil(marker)}, path)
    else:
        path.write_bytes({"cut": whole[:-40], "empty": b"", "flip": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
                          "pickle": pickle.dumps(Evil(marker))}[kind])


KINDS = ["cut", "empty", "flip", "pickle", "torch"]


@pytest.mark.parametrize("kind", KINDS)
def test_newest_checkpoint_damaged(kind, stopped, undisturbed):
    "It is reported, and the one before used; the end is the same."
    damage(stopped/"runs/a/checkpoints/000000005.safetensors", kind, stopped/"ran")
    with pytest.warns(UserWarning, match="000000005.*(torn|changed).*going on from 000000004"):
        assert train(stopped) == 0
    assert differences(stopped, undisturbed) == []  # so nothing was run by opening it, either


@pytest.mark.parametrize("kind", KINDS)
def test_all_checkpoints_damaged(kind, stopped, capsys):
    for path in (stopped/"runs/a/checkpoints").iterdir():
        damage(path, kind, stopped/"ran")
    before = fingerprint_or_bytes(stopped)
    assert train(stopped) == 1
    err = capsys.readouterr().err
    assert "000000004" in err and "000000005" in err and "start the run again" in err and fingerprint_or_bytes(stopped) == before


def fingerprint_or_bytes(box: Path) -> dict:
    return {p: p.read_bytes() for p in box.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_finished_run_damaged(kind, finished, undisturbed, tmp_path):
    "They are taken from the last checkpoint, and written anew."
    box = tmp_path/"box"
    shutil.copytree(finished, box)
    damage(box/"runs/a/last.safetensors", kind, box/"ran")
    with pytest.warns(UserWarning, match="last.safetensors.*(torn|changed).*taken from the newest checkpoint"):
        assert train(box) == 0
    assert differences(box, undisturbed) == []
    damage(box/"runs/a/last.safetensors", kind, box/"ran")
    shutil.rmtree(box/"runs/a/checkpoints")
    assert train(box) == 1 and not (box/"ran").exists()  # nothing to take them from: not trained anew behind your back


def test_a_checkpoint_of_another_training_is_refused(stopped, capsys):
    config = stopped/"runs/a/config.json"
    config.write_text(config.read_text().replace('"width": 2', '"width": 3'))
    with contextlib.chdir(stopped):
        assert cli(["resume", "runs/a"]) == 1
    assert "is of another training" in capsys.readouterr().err


def test_a_report_of_half_a_run_does_not_finish_it(stopped, undisturbed):
    with contextlib.chdir(stopped):
        assert cli(["report", "runs/a"]) == 0
    assert train(stopped) == 0 and differences(stopped, undisturbed) == []


def test_what_a_loss_scaler_knows_is_kept(tmp_path):
    "fp16 is for GPUs; the scaler itself can be tried on any machine. Its scale changes with every good or bad step."
    from test_trainer import make, signal_after

    def scaled(*args, **kwargs):
        made = make(*args, scheduler="none", **kwargs)
        made.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        return made

    whole = scaled()
    whole.fit()
    first = scaled(tmp_path)
    signal_after(first, 7)
    with pytest.raises(trainer_module.Interrupted):
        first.fit()
    second = scaled(tmp_path, seed=9)
    assert second.resume() and second.accelerator.scaler.get_scale() == first.accelerator.scaler.get_scale() == 8.0*2**3
    second.fit()
    assert second.accelerator.scaler.state_dict() == whole.accelerator.scaler.state_dict()
    for a, b in zip(whole.model.state_dict().values(), second.model.state_dict().values(), strict=True):
        assert a.equal(b)


# ---- the folder


HOLDER = "import sys, time; from cam_course.base.checkpoints import lock_folder\n" \
    "with lock_folder(sys.argv[1]): print('held', flush=True); time.sleep(100)"


def test_a_folder_that_another_process_has(stopped, undisturbed, capsys):
    "The training is refused, naming the process; when that one is killed, its lock is gone with it."
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, stopped/"runs/a"], stdout=subprocess.PIPE, env=ONE_THREAD)
    try:
        assert holder.stdout.readline() == b"held\n"
        before = fingerprint_or_bytes(stopped)
        assert train(stopped) == 1
        assert f"runs/a' is in use by process {holder.pid} on " in capsys.readouterr().err
        assert fingerprint_or_bytes(stopped) == before
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert train(stopped) == 0 and differences(stopped, undisturbed) == []


def test_a_lock_may_be_taken_twice_by_its_process(tmp_path):
    with lock_folder(tmp_path/"a"), lock_folder(tmp_path/"a"):
        pass
    with lock_folder(tmp_path/"a"):
        ask = [sys.executable, "-c", HOLDER, tmp_path/"a"]
        assert FolderInUse.__name__ in subprocess.run(ask, capture_output=True, text=True, env=ONE_THREAD).stderr
    temporary = tmp_path/"a"/".last.safetensors.abcd1234.tmp"
    for path in (temporary, tmp_path/"a"/".other.tmp"):
        path.touch()
    with lock_folder(tmp_path/"a"):
        assert [p.name for p in (tmp_path/"a").iterdir() if p.suffix == ".tmp"] == [".other.tmp"]


@long
def test_the_same_name_twice_at_once(tmp_path, undisturbed, record_property):
    code = "import sys; from cam_course.__main__ import cli; sys.exit(cli())"
    for k in range(3):
        (tmp_path/str(k)).mkdir()
        both = [subprocess.Popen([sys.executable, "-c", code, "train", *SMALL[:-1]], cwd=tmp_path/str(k), env=ONE_THREAD,
                                 stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
        errors = [p.communicate(timeout=200)[1] for p in both]
        assert sorted(p.returncode for p in both)[0] == 0 and sorted(p.returncode for p in both)[1] in (1, 2), errors
        assert any(word in "".join(errors) for word in ("exists: give another name", "in use by", "just been taken"))
        assert differences(tmp_path/str(k), undisturbed) == []
    record_property("tried", 3)


@contextmanager
def read_only(folder: Path):
    "Nobody can write to `folder`: by a read-only mount of itself where we are root, else by its permissions."
    def mount(*args: str) -> bool:
        return subprocess.run(["mount", *args, str(folder)], capture_output=True).returncode == 0

    if os.geteuid():
        folder.chmod(0o500)
    elif not (mount("--bind", str(folder)) and mount("-o", "remount,ro,bind")):
        pytest.skip("root may write anywhere, and no mount is permitted here")
    try:
        yield
    finally:
        if os.geteuid():
            folder.chmod(0o700)
        else:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("where", ["runs", "runs/a"])
def test_a_folder_that_can_not_be_written_to(where, stopped, undisturbed, capsys):
    "New run or old one: refused before the first step, in one line; when it can be written to, the run goes on."
    with warnings.catch_warnings(), read_only(stopped/where):
        assert train(stopped, *(["--name", "b"] if where == "runs" else [])) == 1
        err = capsys.readouterr().err.strip()
        assert err.startswith("cam-course: failed: [Errno ") and err.count("\n") == 0, err
        assert "Read-only file system" in err or "Permission denied" in err
    assert train(stopped) == 0 and differences(stopped, undisturbed) == []
