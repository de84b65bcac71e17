"What is imported is declared in settings.ini, what is declared is used, and constraints.txt pins that and no more."
import ast
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import readme
import stamps

ROOT = stamps.ROOT
SETTINGS = readme.settings(ROOT)
BROUGHT = {   # module -> the declared requirement that brings it along, as part of what it is
    "IPython": "ipywidgets", "traitlets": "ipywidgets", "cycler": "matplotlib", "cv2": "grad-cam", "coverage": "pytest-cov",
    "jupyter_client": "nbclient", "nbformat": "nbclient", "docutils": "jupyter-book", "sphinx": "jupyter-book",
    "myst_nb": "jupyter-book", "pybtex": "jupyter-book", "markdown_it": "jupyter-book", "yaml": "jupyter-book"}
UNNAMED = {   # requirement -> what it is for; no import names it
    "tensorboard": "torch.utils.tensorboard writes through it", "pillow": "PIL",
    "execnb": "held back: nbdev fails with the next", "ghapi": "held back: nbdev fails with the next",
    "ipykernel": "runs the notebooks", "pytest-cov": "make coverage: --cov",
    "pytest-xdist": "make test: -n 2", "wheel": "builds the wheel without a network",
    "types-requests": "mypy reads it", "types-tqdm": "mypy reads it"}
PEERS = {"torch_lr_finder", "torchcam"}   # tests/bench/peers.txt


def plain(name: str) -> str:
    "A distribution's name as the index compares it."
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*keys: str) -> set[str]:
    return {plain(re.split(r"[<>=!~ \[;]", r)[0]) for key in keys for r in SETTINGS[key].split()}


def imported(files: Iterable[Path]) -> dict[str, Path]:
    "Foreign module -> a file that imports it."
    files = list(files)
    own = {"cam_course", *(f.stem for folder in ("book", "tests") for f in (ROOT/folder).rglob("*.py"))}
    found = {}
    for f in files:
        for n in ast.walk(ast.parse(f.read_text(encoding="utf-8"))):
            names = [a.name for a in n.names] if isinstance(n, ast.Import) else (
                [n.module or ""] if isinstance(n, ast.ImportFrom) and not n.level else [])
            found |= {name.split(".")[0]: f for name in names}
    return {m: f for m, f in found.items() if m and m not in sys.stdlib_module_names | own | PEERS}


def undeclared(modules: dict[str, Path], given: set[str]) -> list[str]:
    "Modules whose distribution nobody declared."
    owners = metadata.packages_distributions()
    fine = lambda m: plain(BROUGHT.get(m, "")) in given or {plain(d) for d in owners.get(m, ())} & given
    return sorted(f"{m} ({f.relative_to(ROOT)})" for m, f in modules.items() if not fine(m))


def closure(names: Iterable[str]) -> set[str]:
    "Distributions that these need, themselves included, as far as they are installed."
    seen: set[str] = set()

    def needs(name: str) -> Iterator[str]:
        try: lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError: return
        yield from (plain(re.split(r"[<>=!~ \[;(]", line)[0]) for line in lines if "extra ==" not in line)
    left = [plain(n) for n in names]
    while left:
        if (name := left.pop()) not in seen:
            seen.add(name)
            left += needs(name)
    return seen


def test_the_library_declares_what_it_imports():
    files = (f for f in (ROOT/"cam_course").rglob("*.py") if f.name != "_modidx.py")
    assert undeclared(imported(files), declared("requirements")) == [], "add it to requirements in settings.ini"


def test_tools_and_tests_declare_what_they_import():
    files = [f for folder in ("book", "tests") for f in (ROOT/folder).rglob("*.py") if "_static" not in f.parts]
    both = declared("requirements", "dev_requirements")
    assert undeclared(imported(files), both) == [], "add it to dev_requirements in settings.ini"
    assert undeclared({"scipy": ROOT/"x.py", "nosuch": ROOT/"x.py"}, {"numpy"}) == ["nosuch (x.py)", "scipy (x.py)"]


def test_what_brings_a_module_along_needs_it():
    owners = metadata.packages_distributions()
    wrong = {m: owner for m, owner in BROUGHT.items() if not {plain(d) for d in owners[m]} & closure([owner])}
    assert not wrong and plain("ipywidgets") in declared("requirements")


def test_no_requirement_is_dead():
    "Each is imported, named by a command, or stands in UNNAMED with what it is for."
    owners = metadata.packages_distributions()
    files = [f for folder in ("cam_course", "book", "tests") for f in (ROOT/folder).rglob("*.py")]
    used = {plain(d) for m in imported(files) for d in owners.get(m, ())}
    texts = [ROOT/"Makefile", *(ROOT/".github").rglob("*.yml"), *(f for f in files if f.name != Path(__file__).name)]
    said = "\n".join(f.read_text(encoding="utf-8") for f in texts)
    both = declared("requirements", "dev_requirements")
    dead = [r for r in both - used - UNNAMED.keys() if not re.search(rf"[\"'/ ]{re.escape(r)}[\"' ]", said.replace("_", "-"))]
    assert not dead, f"take out of settings.ini, and of constraints.txt: {sorted(dead)}"
    assert not (gone := UNNAMED.keys() - both), f"not required any more: {sorted(gone)}"


def test_constraints_pin_what_is_needed_and_no_more():
    lines = (ROOT/"constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {plain(line.split("==")[0]) for line in lines if line and not line.startswith("#")}
    both = declared("requirements", "dev_requirements")
    assert not (missing := both - pinned), f"no pin in constraints.txt: {sorted(missing)}"
    idle = {p for p in pinned - closure([*both, "pip", "setuptools"]) if not p.startswith("nvidia-")}   # extras of torch's
    assert not idle, f"pinned for nobody: {sorted(idle)}"
