"""The house: which module may import which, what is public, and that the front door gives what it says."""
import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import stamps

import build

ROOT = stamps.ROOT
LIB = ROOT/"cam_course"
DOOR = "__init__"
MOST_CHAPTERS, MOST_NAMES = 31, 220


@cache
def homes() -> dict[str, Path]:
    "Module -> the notebook that exports it."
    found = {stamps.default_exp(stamps.load(p)): p for p in stamps.notebooks()}
    return {m: p for m, p in found.items() if m}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(LIB.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))


def imports(t: ast.Module, module: str) -> set[tuple[str, str]]:
    "(module of the library, name) of each import, wherever it stands; '' is the front door."
    found = set()
    for node in ast.walk(t):
        if isinstance(node, ast.Import):
            found |= {(a.name[len("cam_course."):], "") for a in node.names if a.name.startswith("cam_course.")}
        elif isinstance(node, ast.ImportFrom):
            up = ["cam_course", *module.split(".")]
            base = ".".join([*up[:len(up) - node.level], *([node.module] if node.module else [])]) if node.level else node.module or ""
            if base.partition(".")[0] != "cam_course": continue
            inner = base.removeprefix("cam_course").lstrip(".")
            for a in node.names:
                if a.name.startswith("__"): continue   # __version__
                if (sub := f"{inner}.{a.name}".lstrip(".")) in homes(): found.add((sub, ""))
                else: found.add((inner, a.name))
    return found


def level(module: str) -> tuple[int, int]:
    "0 beneath the chapters, 1 and the number of a chapter, 2 above."
    if module == "__main__": return 2, 0
    package, _, _ = module.rpartition(".")
    if package: return {"base": 0, "app": 2}[package], 0
    return 1, int(homes()[module].stem.partition("_")[0])


# ---- rooms

def wrong_arrows(module: str, t: ast.Module) -> list[str]:
    "What a module may not import: a chapter its own or a later one, what is beneath a chapter, and nobody the front door."
    bad = []
    for other, name in sorted(imports(t, module)):
        if other not in homes(): bad.append(f"{module} imports {name or other} from the front door or from nowhere")
        elif level(other)[0] > level(module)[0] or (level(module)[0] == 1 and level(other) >= level(module)):
            bad.append(f"{module} imports {other}, which stands above it")
    return bad


def test_arrows_run_one_way():
    modules = homes().keys() - {DOOR}
    assert len(modules) > 35
    assert not [line for m in sorted(modules) for line in wrong_arrows(m, tree(m))]


@pytest.mark.parametrize(("module", "source"), [
    ("base.core", "from cam_course.averages import ewma"), ("momentum", "from .optimizers import SGD"),
    ("momentum", "def f():\n    from cam_course.app.main import run"), ("gradcam", "from cam_course import Trainer"),
    ("base.figures", "import cam_course.app.trainer"), ("data", "from .data import shapes"), ("data", "from . import gallery")])
def test_a_wrong_arrow_is_seen(module, source):
    assert wrong_arrows(module, ast.parse(source))


def test_within_a_room_nothing_goes_round():
    left = {m: {o for o, _ in imports(tree(m), m)} - {m} for m in homes().keys() - {DOOR}}
    while left:
        free = {m for m, needs in left.items() if not needs & left.keys()}
        assert free, f"these import each other: {sorted(left)}"
        left = {m: needs for m, needs in left.items() if m not in free}


def test_the_library_mirrors_the_notebooks():
    for module, path in homes().items():
        if module in (DOOR, "__main__"): continue   # Python says what they are called
        package, _, last = module.rpartition(".")
        assert path.parent == ROOT/"nbs"/package, f"{path.name} exports {module}"
        assert path.stem.partition("_")[2] == last if not package else path.stem == last, f"{path.name} exports {module}"
    stems = Counter(p.stem for p in stamps.notebooks())
    assert max(stems.values()) == 1, "two notebooks of one name"


def test_chapters_stand_in_reading_order():
    "At the top the chapters alone, each with a number of its own; the table of contents follows the numbers."
    top = [p.stem for p in sorted((ROOT/"nbs").glob("*.ipynb")) if p.stem != "index"]
    numbers = [s.partition("_")[0] for s in top]
    assert all(n.isdigit() for n in numbers) and len(set(numbers)) == len(top) <= MOST_CHAPTERS
    told = [p.removeprefix("nbs/") for p in build.toc_pages() if p.startswith("nbs/") and p.count("/") == 1]
    assert told == ["index", *top]


def test_importing_the_trainer_loads_no_figures():
    code = "import sys, cam_course.app.trainer; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "cam_course.transforms" in loaded
    assert not {"cam_course.base.figures", "cam_course.descent", "cam_course.saddles", "matplotlib"} & set(loaded)


# ---- names

def offered(t: ast.Module) -> list[str]:
    return next((ast.literal_eval(n.value) for n in t.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"), [])


def test_public_names_are_few_and_none_is_twice():
    names = Counter(n for m in homes().keys() - {DOOR} for n in offered(tree(m)))
    assert len(names) > 100 and len(names) <= MOST_NAMES
    assert not [n for n, times in names.items() if times > 1]


def test_no_module_imports_what_has_an_underscore():
    bad = [f"{m} imports {other}.{n}" for m in homes() for other, n in imports(tree(m), m) if n.startswith("_")]
    assert not bad


# ---- the front door

def table() -> dict[str, tuple[str, ...]]:
    "Module -> names, as the door looks them up."
    found = (n for n in tree(DOOR).body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "_HOMES")
    return ast.literal_eval(next(found).value)


def face(t: ast.Module) -> dict[str, set[str]]:
    "Module -> names, as a type checker and an editor read them."
    typed = next(n for n in t.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    return {n.module.removeprefix("cam_course."): {a.name for a in n.names} for n in typed.body if isinstance(n, ast.ImportFrom)}


def test_the_typed_face_is_what_the_door_gives():
    given = {m: set(names) for m, names in table().items()}
    every = [n for names in table().values() for n in names]
    assert given == face(tree(DOOR)) and 35 <= len(every) <= 55
    assert sorted(every) == sorted(set(offered(tree(DOOR)))) and len(set(every)) == len(every)
    for m, names in given.items(): assert names <= set(offered(tree(m))), m


def test_each_name_is_given_and_is_that_of_its_module():
    code = ("import cam_course, importlib, sys\n"
            "for m, names in cam_course._HOMES.items():\n"
            "    for n in names:\n"
            "        value = getattr(cam_course, n)\n"
            "        assert value is getattr(importlib.import_module('cam_course.' + m), n), n\n"
            "        assert cam_course.__dict__[n] is value and n in dir(cam_course)\n"
            "try: cam_course.Grandcam\n"
            "except AttributeError as error: print(error)\n")
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "'cam_course' has no attribute 'Grandcam'" in told


def test_the_package_alone_loads_nothing():
    "And what is offered is there before it is asked for, as far as `dir` and `*` go."
    code = "import sys; before = {*sys.modules}; import cam_course\n" \
        "print(sorted({*sys.modules} - before), 'GradCAM' in dir(cam_course))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.strip() == "['cam_course'] True"


def test_mypy_knows_the_names_and_misses_others(tmp_path):
    use = tmp_path/"wrong_use.py"   # see mypy.ini
    use.write_text("from cam_course import LRFinder, ResNet18, Trainer, load_data, recipe, run\n"
                   "reveal_type(ResNet18)\nreveal_type(load_data)\nfrom cam_course import Grandcam\n")
    done = subprocess.run([sys.executable, "-m", "mypy", str(use)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "width: " in done.stdout and "tuple[cam_course.data.ImageData" in done.stdout, done.stdout
    assert done.stdout.count("error:") == 1 and 'has no attribute "Grandcam"' in done.stdout
