"A run folder on another file system, as a mounted Drive is: it is stopped there, and goes on there from another machine's folder."

import errno
import fcntl
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from cam_course.app.config import recipe
from cam_course.app.main import run
from cam_course.app.trainer import Interrupted

SIZE = {"dataset": "shapes", "n_train": 256, "n_test": 64, "width": 4, "epochs": 4, "batch_size": 32, "gallery": 4}


@pytest.fixture
def drive(tmp_path) -> Iterator[Path]:
    "A folder on another file system than the working folder."
    there = Path("/dev/shm")
    if not there.is_dir() or there.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system that anyone may write to")
    folder = Path(tempfile.mkdtemp(prefix="drive-", dir=there))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    "Work in an empty folder, as after a restart on a new machine."
    def go(name: str) -> Path:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        return tmp_path / name
    return go


def stop_after_an_epoch(folder: Path) -> None:
    "SIGTERM to this process, which is what a machine that is taken away gets, once an epoch is written."
    deadline = time.time() + 120
    while not (folder / "history.csv").exists() and time.time() < deadline:
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_a_run_on_another_file_system_is_stopped_and_goes_on(locks, drive, elsewhere, monkeypatch):
    "The weights are those of a run that nothing stopped; some mounts know no locks, and the run goes on all the same."
    if not locks:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOTSUP, "Operation not supported")
        monkeypatch.setattr(fcntl, "flock", refuse)
    here = elsewhere("first")
    whole = run(recipe("assignment", runs="runs", name="whole", **SIZE))
    config = recipe("assignment", runs=str(drive / "runs"), name="mine", **SIZE)
    killer = threading.Thread(target=stop_after_an_epoch, args=(drive / "runs" / "mine",), daemon=True)
    killer.start()
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        run(config)
    killer.join()
    assert 1 <= len((drive / "runs" / "mine" / "history.csv").read_text().splitlines()) - 1 < 4
    shutil.rmtree(here)                       # the machine is gone, the drive stays
    elsewhere("second")
    result = run(config, resume=True)
    weights = load_file(drive / "runs" / "mine" / "last.safetensors")
    assert len(result.history) == 4 and result.folder == drive / "runs" / "mine"
    assert all(v.equal(weights[k]) for k, v in whole.model.cpu().state_dict().items())
    assert not os.listdir()                   # nothing was left in the working folder
    assert run(config, resume=True).history == result.history   # finished: it is only loaded
