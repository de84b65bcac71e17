"""The one command for a GPU, rehearsed: its kit is made, and runs offline, in a folder of its own, beside torch and numpy alone."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from cam_course.app.config import recipe
from cam_course.app.experiments import sweep_folder
from cam_course.base.weights import read_weights

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT/"book"/"gpu_kit"
sys.path.insert(0, str(TOOLS))
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kits are for Linux")

OFFLINE = """
import socket
def refused(*args, **options): raise OSError("this test is offline")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refused
"""


def closure(*names: str) -> list[metadata.Distribution]:
    "What is installed of these and of all that they require."
    found, todo = {}, list(names)
    while todo:
        try: dist = metadata.distribution(todo.pop())
        except metadata.PackageNotFoundError: continue  # for another system
        if dist.metadata["Name"] not in found:
            found[dist.metadata["Name"]] = dist
            todo += [re.match(r"[\w.-]+", r)[0] for r in dist.requires or [] if "extra ==" not in r]
    return list(found.values())


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    "A Python of a new virtual environment in which torch and numpy lie, with what they require, and nothing else; it has no network."
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    for dist in closure("torch", "numpy"):
        for top in {f.parts[0] for f in dist.files if ".." not in f.parts} - {"__pycache__"}:
            if not (site/top).exists(): (site/top).symlink_to(dist.locate_file(top))
    (site/"sitecustomize.py").write_text(OFFLINE)
    return folder/"bin"/"python"


def make(kit: Path, *options: str, **env: str) -> subprocess.CompletedProcess:
    "`make gpu-kit`'s command."
    command = [sys.executable, str(TOOLS/"make.py"), "--out", str(kit), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **env})


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Path:
    kit = tmp_path_factory.mktemp("made")/"gpu-kit"
    done = make(kit, "--dataset", "shapes")
    assert done.returncode == 0 and not done.stderr, done.stderr
    return kit


def start(python: Path, kit: Path, folder: Path, *options: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CAM_COURSE", "PIP"))}
    return subprocess.run([str(python), str(kit/"run.py"), *options], cwd=folder, capture_output=True, text=True, timeout=300,
                          env={**env, "OMP_NUM_THREADS": "1", "HOME": str(folder)})


@pytest.fixture(scope="module")
def results(python, kit, tmp_path_factory) -> Path:
    "What the whole command leaves at its tiny scale. The kit has been moved since it was made."
    folder = tmp_path_factory.mktemp("elsewhere")
    moved = shutil.copytree(kit, folder/"kit")
    done = start(python, moved, folder, "--out", "results", "--scale", "tiny", "--device", "cpu")
    log = folder/"results"/"log.txt"
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:] + log.read_text()[-3000:]
    assert {p.name for p in folder.iterdir()} <= {"kit", "results", ".cache", ".config"}  # torch's own
    return folder/"results"


def test_the_environment_is_bare(python):
    code = "import torch, numpy, importlib.util as u; print([m for m in {!r} if u.find_spec(m)])"
    lacks = ["cam_course", "accelerate", "safetensors", "tqdm", "tensorboard", "PIL", "pyarrow", "matplotlib"]
    done = subprocess.run([str(python), "-c", code.format(lacks)], cwd=python.parent, capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"]})
    assert done.stdout == "[]\n", done.stdout + done.stderr
    code = "import urllib.request as r; r.urlopen('http://127.0.0.1:9')"
    assert "this test is offline" in subprocess.run([str(python), "-c", code], capture_output=True, text=True).stderr


def test_all_steps_are_done_and_none_failed(results):
    told = json.loads((results/"table.json").read_text())
    rows = {row["step"]: row for row in told["steps"]}
    assert {row["status"] for row in rows.values()} == {"done"}
    assert {row["group"] for row in rows.values()} == {"checks", "speed", "assignment", "best20", "layernorm", "optimizers", "shipping"}
    assert all(row["seconds"] >= 0 and row["estimate"] > 0 for row in rows.values())
    for row in rows.values():
        if row["group"] not in ("checks", "speed"):
            assert 0 <= row["result"]["test_accuracy"] <= 1 and row["result"]["wall"] > 0
    found = {part["what"]: part for row in rows.values() if row["group"] == "checks" for part in row["result"]}
    measured = {what: part["found"] for what, part in found.items() if "allowed" in part}
    assert len(measured) >= 8 and all(value <= found[what]["allowed"] for what, value in measured.items())
    assert 0 < measured["fp32, channels-last: relative error of the worst gradient"] < 1e-3
    left = {what for what, part in found.items() if "left out" in part}
    assert {"fp16", "torch.compile", "TF32, channels-last", "the grad-cam library"} <= left
    speed = [part for part in rows["speed"]["result"] if "found" in part]
    for part in speed: assert part["share of the floor"] == pytest.approx(part["found"]/part["floor images/s"]) and part["found"] > 0
    assert [part["width"] for part in speed] == [4, 2]


def test_the_files_are_few_and_tell_the_same(results):
    files = sorted(p.name for p in results.iterdir())
    assert files == ["log.txt", "runs.zip", "table.json", "table.md", "weights.zip"]
    told, page = json.loads((results/"table.json").read_text()), (results/"table.md").read_text()
    for row in told["trainings"]: assert f"| {row['recipe']} |" in page and row["again"] in page
    assert "## Not done" not in page and "## Failed" not in page and "images: shapes; scale: tiny" in page
    assert str(results.parent) not in page + (results/"table.json").read_text()


def test_run_folders_are_whole_and_small(results, tmp_path):
    zipfile.ZipFile(results/"runs.zip").extractall(tmp_path)
    told = json.loads((results/"table.json").read_text())
    found = {run.config.name: run for run in sweep_folder(tmp_path)}
    trained = {row["step"]: row for row in told["steps"] if row["group"] not in ("checks", "speed")}
    assert found.keys() == trained.keys()
    for name, run in found.items():
        assert run.accuracy == trained[name]["result"]["test_accuracy"] and run.environment["commit"] == told["kit"]["commit"]
        assert {p.name for p in (tmp_path/name).iterdir()} == {"config.json", "environment.json", "history.csv", "log.txt"}
        assert json.loads((tmp_path/name/"config.json").read_text())["runs"] == "runs"


def test_kept_weights_can_be_read(results, tmp_path):
    zipfile.ZipFile(results/"weights.zip").extractall(tmp_path)
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["weights-assignment-w64.safetensors", *(f"weights-w16-{n}.safetensors" for n in ("e150-s0", "e20-s1", "e20-s2"))]
    for file in files:
        state, about = read_weights(tmp_path/file)
        assert about["parts"] == [file] and 0 <= about["accuracy"] <= 1 and state["fc.weight"].shape == (10, 16)


def test_large_weights_go_into_parts(tmp_path, monkeypatch):
    import pack_weights
    import work
    state = {f"{k}.weight": torch.randn(100, 40) for k in range(10)}
    monkeypatch.setattr(pack_weights, "describe", lambda run: (state, {"accuracy": 0.5}))
    monkeypatch.setattr(work, "PART", 45_000)
    names = work.keep(tmp_path, tmp_path, "net")
    assert names == ["weights-net-1of2.safetensors", "weights-net-2of2.safetensors"]
    parts = [load((tmp_path/name).read_bytes()) for name in names]
    assert all((tmp_path/name).stat().st_size < 46_000 for name in names)
    assert {**parts[0], **parts[1]}.keys() == state.keys() and not parts[0].keys() & parts[1].keys()
    for name, value in {**parts[0], **parts[1]}.items(): assert value.equal(state[name].half())


def test_time_that_is_over_and_failures_are_told(python, kit, tmp_path):
    "A worker that hangs is ended with the time, and what was not begun says so; a failed step leaves its traceback, and exit code 1."
    moved = shutil.copytree(kit, tmp_path/"kit")
    text = (moved/"checks.py").read_text()
    for name, line in (("data", "1/0"), ("gradcam", "time.sleep(600)")):
        head = f"def {name}(bench: Bench) -> Rows:\n"
        assert head in text
        text = text.replace(head, f"{head}    {line}\n")
    (moved/"checks.py").write_text(text)
    plan, few = (moved/"plan.py").read_text(), 'CHECKS = {"data": 1, "peak": 1, "gradcam": 1, "loop": 5}'
    (moved/"plan.py").write_text(re.sub(r"CHECKS = \{.*?\}", few, plan, flags=re.S))
    options = ("--out", "results", "--scale", "tiny", "--device", "cpu", "--only", "checks", "--minutes", "1")
    done = start(python, moved, tmp_path, *options)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {row["step"]: row for row in json.loads((tmp_path/"results"/"table.json").read_text())["steps"]}
    assert [row["status"] for row in rows.values()] == ["failed", "done", "cut", "left out"]
    assert rows["data"]["why"] == "ZeroDivisionError: division by zero" and "1/0" in rows["data"]["traceback"]
    page = (tmp_path/"results"/"table.md").read_text()
    for word in ("## Failed: data", "1/0", "| gradcam | cut | the time was over |", "| loop | left out |"): assert word in page


def test_wrong_calls_are_refused(python, kit, tmp_path):
    for options, word in ((["--scale", "full"], "the full plan is for CIFAR-10"),
                          (["--dataset", "cifar10"], "this kit holds no CIFAR-10"),
                          (["--scale", "tiny", "--only", "best02"], "unknown group 'best02'"),
                          (["--kit", "."], "no kit.json in it")):
        done = start(python, kit, tmp_path, "--out", "out", *options)
        assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_the_kit_is_made_again_without_a_network_if_its_wheels_are_there(kit, tmp_path):
    "What is installed is packed anew; another Python's wheels can't be, and without a network there is one clear line and no kit."
    wheels = {p.name: p.stat().st_mtime_ns for p in (kit/"wheels").iterdir()}
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull,
               "PIP_RETRIES": "0"}
    again = make(kit, "--dataset", "shapes", **offline)
    assert again.returncode == 0, again.stderr
    assert {p.name: p.stat().st_mtime_ns for p in (kit/"wheels").iterdir()} == wheels
    other = "3.99"
    failed = make(tmp_path/"other", "--dataset", "shapes", "--for", other, **offline)
    assert failed.returncode == 1 and len(failed.stderr.splitlines()) == 1, failed.stderr
    assert re.match(r"no wheel of PyYAML \S+ for Python 3\.99 could be fetched; is there a network\?", failed.stderr)
    assert not (tmp_path/"other"/"kit.json").exists()


def test_a_repacked_wheel_is_what_is_installed(kit):
    wheel = next((kit/"wheels").glob("tqdm-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.testzip() is None and not any(".." in name or name.endswith(".pyc") for name in names)
        record = next(name for name in names if name.endswith(".dist-info/RECORD"))
        assert {line.split(",")[0] for line in archive.read(record).decode().splitlines()} == set(names)
        for name in names:
            if name != record: assert archive.read(name) == metadata.distribution("tqdm").locate_file(name).read_bytes()


def test_the_plan_at_full_scale_is_that_of_the_recipes():
    "Names are unique and are plain folders; the trainings are those of the recipes."
    from plan import plan
    from run import GROUPS
    where = {"dataset": "cifar10", "data_dir": "data", "runs": "runs"}
    steps = plan("full", GROUPS, **where)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[\w.-]+", name) for name in names)
    of = lambda label: [s.config for s in steps if s.label == label]
    assert [c.seed for c in of("assignment")] == [c.seed for c in of("assignment with flip")] == [0, 1, 2, 3, 4]
    assert of("assignment")[0] == recipe("assignment", name="assignment-s0", **where)
    assert of("assignment with flip")[0].transforms == ("crop", "flip", "cutout") and of("assignment")[0].width == 64
    assert len(of("best20")) == 5 and all(len(of(f"best20, {k}")) == 5 for k in ("no whitening", "no averaging", "no flip at all"))
    assert [c.epochs for c in of("eva_s8, layer norm")] == [40]*3 and len(of("optimizer adamw")) == 3
    assert {s.config.epochs for s in steps if s.group == "shipping"} == {20, 150}
    assert [s.group for s in steps[:10]].count("checks") == 7 and sum(s.keep is not None for s in steps) == 4


def test_operations_are_those_of_the_paper():
    import checks
    assert checks._operations(recipe("assignment")) == pytest.approx(3.33e9, rel=0.01)


def test_a_wrong_gradient_is_found(monkeypatch):
    import checks
    bench = checks.Bench({"where": {"dataset": "shapes", "device": "cpu"}, "scale": "tiny", "compile": None})
    real = checks._gradients

    def wrong(net, x, y, autocast=None):
        found = real(net, x, y, autocast)
        if x.dtype == torch.float32: found["layer3.0.conv1.weight"] *= 1.01
        return found

    monkeypatch.setattr(checks, "_gradients", wrong)
    rows = {row["what"]: row for row in checks.gradients(bench)}
    assert [row["ok"] for what, row in rows.items() if what.startswith("fp32") and "ok" in row] == [False, False]


def test_make_has_the_target():
    done = subprocess.run(["make", "-n", "gpu-kit", "FOR=3.12", "DATASET=shapes", "READY="], cwd=ROOT, capture_output=True, text=True)
    assert "book/gpu_kit/make.py --for 3.12 --dataset shapes" in done.stdout, done.stderr
