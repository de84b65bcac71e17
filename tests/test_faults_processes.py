"One of two processes is killed: all end, with a word on how to go on; and the run that goes on ends as if undisturbed."
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import SMALL
from faults_left import differences, fingerprint
from test_faults import LONG

HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).with_name("cam-course")
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
          "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
TRAIN = ["train", *SMALL, "--norm", "group", "--epochs", "30"]


def start(box: Path, *args: str) -> subprocess.Popen:
    box.mkdir(exist_ok=True)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent), "HF_HOME": str(box.parent)}
    return subprocess.Popen([sys.executable, *LAUNCH, COMMAND, *args], cwd=box, env=env, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True)


def ranks(box: Path) -> dict[str, int]:
    "The processes that train in `box`, by rank."
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = dict(v.split("=", 1) for v in (folder/"environ").read_text().split("\0") if "=" in v)
            if variables["HF_HOME"] == str(box.parent):
                found[variables["RANK"]] = int(folder.name)
        except (OSError, KeyError, ValueError):
            continue
    return found


def newest(box: Path) -> int:
    return max((int(p.stem) for p in box.glob("runs/a/checkpoints/0*.safetensors")), default=-1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    box = tmp_path_factory.mktemp("two")/"box"
    process = start(box, *TRAIN)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said[-3000:]
    return fingerprint(box)


@pytest.mark.skipif(not LONG, reason="takes minutes: make test-long")
@pytest.mark.parametrize(("rank", "number"), [("1", signal.SIGKILL), ("0", signal.SIGKILL), ("1", signal.SIGTERM)])
def test_one_of_two_is_killed(rank, number, tmp_path, undisturbed):
    box = tmp_path/"box"
    process = start(box, *TRAIN)
    try:
        end = time.monotonic() + 300
        while newest(box) < 10 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(ranks(box)[rank], number)
        killed = time.monotonic()
        said, _ = process.communicate(timeout=300)
        seconds = time.monotonic() - killed
    finally:
        if process.poll() is None:
            for pid in (process.pid, *ranks(box).values()):
                os.kill(pid, signal.SIGKILL)
            process.wait()
    assert process.returncode != 0 and "cam-course resume runs/a" in said, said[-3000:]
    told = "stopped by SIGTERM after step" if number == signal.SIGTERM else "another process of this training has ended"
    assert told in said and seconds < 120 and not ranks(box), said[-3000:]
    again = start(box, *TRAIN)
    said, _ = again.communicate(timeout=600)
    assert again.returncode == 0, said[-3000:]
    assert differences(box, undisturbed) == []
