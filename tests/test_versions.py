"""The lowest and the newest versions of every dependency pass the tests of the library.

Each gets a virtual environment of its own (downloads of gigabytes): CAM_COURSE_LONG=1. With CAM_COURSE_LOWEST or
CAM_COURSE_NEWEST naming one that is there, that one is used.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import versions


def test_every_dependency_states_a_floor_and_no_ceiling():
    assert len(versions.floors()) >= 15  # floors() takes nothing but name>=version
    assert all((versions.ROOT/"tests"/f"test_{name}.py").exists() for name in versions.LIBRARY)


def test_what_is_asked_of_pip():
    low = versions.floors()
    assert f"torch=={low['torch']}" in versions.wanted("lowest") and f"numpy=={low['numpy']}" in versions.wanted("lowest")
    assert f"torch=={low['torch']}" in versions.wanted("torch-2.6") and f"numpy>={low['numpy']}" in versions.wanted("torch-2.6")
    assert not [r for r in versions.wanted("newest") if "==" in r]


def environment(which: str, folder: Path) -> Path:
    "The Python of an environment with these versions."
    if given := os.environ.get(f"CAM_COURSE_{which.upper()}"): return Path(given)/"bin"/"python"
    venv.create(folder, with_pip=True)
    python = folder/"bin"/"python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "pip>=25"], check=True)
    subprocess.run([*pip, *versions.wanted(which)], check=True)
    return python


def run_tests(python: Path) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(versions.ROOT), "OMP_NUM_THREADS": "1", "HYPOTHESIS_MAX_EXAMPLES": "10"}
    env.pop("CAM_COURSE_LONG", None)
    return subprocess.run([python, str(versions.ROOT/"tests"/"versions.py"), "--test"], env=env, capture_output=True, text=True)


@pytest.mark.long
def test_lowest(tmp_path):
    python = environment("lowest", tmp_path/"venv")
    told = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    found = {p["name"].lower(): p["version"] for p in json.loads(told.stdout)}
    for name, floor in versions.floors().items():  # it is the lowest that is tested
        assert found[name].split("+")[0].startswith(floor), f"{name} {found[name]}, not {floor}"
    done = run_tests(python)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.long
def test_newest(tmp_path):
    "Where pip would put nothing newer than what is here, the other tests have said it already."
    ask = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--upgrade", "--report", str(tmp_path/"report.json")]
    subprocess.run([*ask, *versions.wanted("newest")[:len(versions.floors())]], check=True)
    newer = [i["metadata"]["name"].lower() for i in json.loads((tmp_path/"report.json").read_text())["install"]]
    if set(newer) & set(versions.floors()):
        done = run_tests(environment("newest", tmp_path/"venv"))
        assert done.returncode == 0, done.stdout[-3000:]
