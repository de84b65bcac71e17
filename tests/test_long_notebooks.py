"""Every notebook as Colab runs it: an environment with torch and numpy, the library as a wheel, an empty folder.

`CAM_COURSE_LONG_VENV` names an environment to use in place of a new one: it needs ipykernel, torch, torchvision and
numpy, and gets the library if it has none."""

import copy
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

import chapters
import execute
import nbformat
import pytest
import stamps
from nbclient import NotebookClient
from traitlets.config import Config

pytestmark = pytest.mark.long

ROOT = stamps.ROOT
COLAB = ("ipykernel", "torch==2.11.*", "torchvision", "numpy<2.3")   # older than the newest: an upgrade would show
KEPT = ("torch", "torchvision", "numpy")
SNAPSHOT = f"""
import importlib.metadata as m, json
found = {{n: m.version(n) for n in {KEPT!r}}}
for n in {KEPT!r}:
    for f in m.files(n):
        if f.suffix != ".pyc" and (p := f.locate()).exists(): found[str(f)] = [p.stat().st_size, p.stat().st_mtime_ns]
print(json.dumps(found))
"""
LIBRARY = "import cam_course.app.main, json, sys; print(json.dumps([cam_course.app.main.__file__, sys.prefix]))"


def sh(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, env={**bare(), **env}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def bare() -> dict[str, str]:
    "The environment less everything that leads to this checkout, its data or its Python."
    away = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {k: v for k, v in os.environ.items() if k not in away and not k.startswith("CAM_COURSE")}


def build_wheel(folder: Path) -> Path:
    "The wheel of this tree, built from a copy: an old build/lib can't get into it."
    copied = folder/"source"
    shutil.copytree(ROOT/"cam_course", copied/"cam_course", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "settings.ini", "README.md", "LICENSE"): shutil.copy(ROOT/name, copied/name)
    sh(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, copied, cwd=folder)
    return next(folder.glob("*.whl"))


class Colab:
    "A Python of its own with a Jupyter kernel; `run` executes a notebook in it, in an empty folder."

    def __init__(self, folder: Path, prefix: Path):
        self.folder, self.python, self.wheel = folder, prefix/"bin"/"python", folder/"wheel"
        spec = folder/"jupyter"/"kernels"/"colab"
        self.env = {**bare(), "PATH": f"{prefix/'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder/"home"),
                    "IPYTHONDIR": str(folder/"ipython"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
                    "PYDEVD_DISABLE_FILE_VALIDATION": "1", "TQDM_MININTERVAL": "5"}
        if not spec.exists():
            for d in (spec, folder/"home", folder/"ipython"): d.mkdir(parents=True, exist_ok=True)
            argv = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            (spec/"kernel.json").write_text(json.dumps({"argv": argv, "display_name": "colab", "language": "python"}))

    def snapshot(self) -> dict:
        return json.loads(sh(self.python, "-c", SNAPSHOT, cwd=self.folder))

    def run(self, nb, cwd: Path, timeout: float = 600) -> None:
        "Execute `nb` in `cwd`; raises CellExecutionError with the failing cell."
        config = Config()
        config.KernelManager.update(transport="ipc", ip=str(cwd.parent/"k"))
        client = NotebookClient(nb, timeout=timeout, kernel_name="colab", record_timing=False, config=config,
                                resources={"metadata": {"path": str(cwd)}})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JUPYTER_PATH", str(self.folder/"jupyter"))
            client.execute(env=self.env)


def printed(cell: Any) -> str:
    "What a cell printed: a busy kernel may send one line in two pieces."
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


@pytest.fixture(scope="session")
def colab(tmp_path_factory) -> Colab:
    "Made once, also when several processes share the tests."
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own)/"colab"
    folder.mkdir(exist_ok=True)
    given = os.environ.get("CAM_COURSE_LONG_VENV")
    prefix = Path(given).absolute() if given else folder/"venv"
    with open(folder/"lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        machine = Colab(folder, prefix)
        if not (folder/"ready").exists(): prepare(machine, folder, None if given else prefix)
    return machine


def prepare(machine: Colab, folder: Path, new: Path | None) -> None:
    "What a Colab session begins with; then the first cell of a notebook, which has to do the rest."
    if new:
        venv.create(new, with_pip=True)
        sh(machine.python, "-m", "pip", "install", "-q", *COLAB, cwd=folder)
    machine.wheel.mkdir(exist_ok=True)
    before, wheel = machine.snapshot(), build_wheel(machine.wheel)
    known = subprocess.run([machine.python, "-c", "import cam_course"], cwd=folder, env=bare(), capture_output=True)
    if known.returncode == 0: sh(machine.python, "-m", "pip", "uninstall", "-q", "-y", "cam-course", cwd=folder)
    nb = nbformat.read(chapters.chapter("The assignment"), as_version=4)
    cell = copy.deepcopy(next(c for c in nb.cells if "colab" in c.metadata.get("tags", [])))
    cell.source, n = re.subn(r'"cam-course @ git\+https://[^"]+"', f'"{wheel}"', cell.source)
    assert n == 1, "the first cell installs from another address than expected"
    probe = nbformat.v4.new_code_cell(LIBRARY)   # in the same kernel: nothing was restarted
    (folder/"first").mkdir()
    start = time.monotonic()
    machine.run(nbformat.v4.new_notebook(cells=[cell, probe]), folder/"first", timeout=1200)
    seconds = time.monotonic() - start
    found, after = json.loads(printed(probe)), machine.snapshot()
    result = {"seconds": seconds, "library": found, "before": before, "after": after}
    (folder/"ready").write_text(json.dumps(result))


def test_the_first_cell_installs_and_touches_neither_torch_nor_numpy(colab):
    "Versions, sizes and times of all files are as before; the library is the wheel's, in the kernel that installed it."
    result = json.loads((colab.folder/"ready").read_text())
    library, prefix = map(Path, result["library"])
    assert library.is_relative_to(prefix) and not library.is_relative_to(ROOT/"cam_course")
    assert len(result["before"]) > 5000 and result["before"] == result["after"]
    print(f"{result['seconds']:.0f} s;", *(f"{n} {result['after'][n]}" for n in KEPT))


@pytest.mark.parametrize("path", stamps.notebooks(), ids=lambda p: p.stem)
def test_runs_as_colab_runs_it(path, colab, tmp_path):
    nb = nbformat.read(path, as_version=4)
    execute.apply_smoke(nb)
    nb.cells.append(nbformat.v4.new_code_cell(LIBRARY))
    cwd = tmp_path/"content"
    cwd.mkdir()
    colab.run(nb, cwd)
    library, prefix = map(Path, json.loads(printed(nb.cells[-1])))
    assert library.is_relative_to(prefix) and not library.is_relative_to(ROOT/"cam_course")


def test_every_notebook_that_needs_the_library_can_install_it():
    "One first cell, the same in each, before any other code."
    texts = set()
    for path in stamps.notebooks():
        nb = stamps.load(path)
        if not stamps.imported(stamps.parse_cells(stamps.code_cells(nb)), ROOT/"cam_course"): continue
        first = next(c for c in nb["cells"] if c["cell_type"] == "code")
        assert stamps.is_install(first), f"{path.name}: the first code cell is not the one that installs the library"
        texts.add(first["source"])
    assert len(texts) == 1
