"""Which outputs are up to date?

Each executed notebook carries a stamp (`metadata.cam_course`): a hash of its code cells, a hash of the definitions of the
library that these reach (see reach.py), and where and when it ran. `check` compares the stamp with the tree as it stands.
"""
import ast
import gc
import hashlib
import io
import json
import re
import tokenize
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

import reach

ROOT = Path(__file__).resolve().parent.parent
NBS, PACKAGE = ROOT/"nbs", "cam_course"
EXPENSIVE = ROOT/"book"/"expensive.txt"
_magic = re.compile(r"(?m)^(\s*)[%!?].*$")
LEVELS = ("base", "nbs", "app")   # folders of notebooks: beneath the chapters, the chapters, above them
KEY, INSTALL = "cam_course", "colab"   # metadata of a notebook; tag of the cell that installs the library


def notebooks(folder: Path = NBS) -> list[Path]:
    "Every notebook of the book, in folders too: what lies beneath the chapters, the chapters in reading order, what stands above."
    found = (p for p in folder.rglob("*.ipynb") if not any(part.startswith((".", "_")) for part in p.relative_to(folder).parts))
    return sorted(found, key=lambda p: (LEVELS.index(p.parent.name) if p.parent.name in LEVELS else 1, p.relative_to(folder).parts))


def name(path: Path) -> str:
    "How pages and tables name a notebook: its path inside nbs/ without suffix, as '04_momentum' or 'base/core'."
    return f"{path.parent.name}/{path.stem}" if path.parent.name in LEVELS[::2] else path.stem


def expensive() -> set[str]:
    "Stems of the notebooks whose outputs may be older than the library (book/expensive.txt)."
    lines = EXPENSIVE.read_text(encoding="utf-8").splitlines() if EXPENSIVE.exists() else []
    return {line.split("#")[0].strip() for line in lines} - {""}


def load(path: Path) -> dict:
    "The notebook as plain JSON, sources joined to strings."
    nb = json.loads(Path(path).read_text(encoding="utf-8"))
    for c in nb["cells"]: c["source"] = "".join(c["source"])
    return nb


def is_install(cell: dict) -> bool:
    "The first cell, tagged `colab`: it fetches the library where it is missing, and is the same everywhere."
    return INSTALL in cell["metadata"].get("tags", [])


def code_cells(nb: dict) -> list[str]:
    "Sources of the code cells, less the cell that installs: it decides nothing that an output shows."
    return [c["source"] for c in nb["cells"] if c["cell_type"] == "code" and c["source"].strip() and not is_install(c)]


def without_comments(source: str) -> str:
    "Source less comments and blank lines; magics stay as they are."
    lines = source.splitlines()
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return "\n".join(line.rstrip() for line in lines if line.strip())
    for t in tokens:
        if t.type == tokenize.COMMENT: lines[t.start[0] - 1] = lines[t.start[0] - 1][:t.start[1]]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def code_hash(nb: dict) -> str:
    "Hash of what runs in the notebook: its syntax trees. Comments, line breaks and outputs do not count."
    return _digest("\0".join(filter(None, map(_tree_of, code_cells(nb)))))


def _tree_of(source: str) -> str:
    "A cell as its syntax tree, written out; without comments where a line is for IPython."
    try:
        return ast.unparse(ast.parse(source))
    except SyntaxError:
        return without_comments(source)


def _digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]


def python_of(source: str) -> str:
    "A cell as Python: a line that only IPython understands counts as `pass`."
    if source.startswith("%%writefile"): return "pass"   # the text of a file that the reader writes
    if not _magic.search(source): return source
    try: ast.parse(source)
    except SyntaxError: return _magic.sub(r"\1pass", source)
    return source


def parse_cells(sources: Iterable[str]) -> ast.Module:
    "One syntax tree of all cells."
    return ast.Module([n for s in sources for n in ast.parse(python_of(s)).body], [])


@cache
def _module_files(package: Path) -> dict[str, Path]:
    "Dotted name inside the package ('models.resnet') -> file."
    names = {}
    for f in sorted(package.rglob("*.py")):
        parts = f.relative_to(package).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = f
    return names


def imported(tree: ast.AST, package: Path) -> set[str]:
    "Modules of the package that cells import, at the top or inside a function."
    known, found = _module_files(package), set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import): names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom): names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
        for n in names:
            if n == package.name: found.add("")
            elif n.startswith(package.name + ".") and (m := n[len(package.name) + 1:]) in known: found.add(m)
    return found & known.keys()


def reached(sources: Iterable[str], package: Path = ROOT/PACKAGE) -> reach.Reach:
    "What code reaches in the library, as both are now."
    enabled = gc.isenabled()
    gc.disable()   # syntax trees are many objects without a cycle: looking for garbage among them takes half the time
    try: return _reached("\n".join(map(python_of, sources)), reach.library(package))
    finally:
        if enabled: gc.enable()


_reached = lru_cache(maxsize=128)(reach.Reach)


def library_hash(nb: dict, package: Path = ROOT/PACKAGE) -> str:
    "Hash of all definitions, and scripts of moving figures, that the notebook reaches."
    return reached(code_cells(nb), package).digest(package/"js")


def missed(sources: Iterable[str], ran: Iterable[tuple[str, int]], package: Path = ROOT/PACKAGE) -> list[str]:
    "Functions that ran, given by module and line, though the hash of this code does not count them: there should be none."
    pieces = {(p.module.name, n) for p in reached(sources, package).pieces for n in p.lines}
    owners = {(p.module.name, n): p for m in reach.library(package).modules.values() for p in m.all_pieces() for n in p.lines}
    return sorted({str(owners[place]) for place in map(tuple, ran) if place not in pieces})


def code_of(names: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """Hashes of the code that a kept result is about: modules of the library ("core"), some of their definitions
    ("main:run,cli": a hash for each), files ("tests/fuzz.py") and whole folders ("book"). '' for what is not there."""
    names = [f"{m}:{d}" if d else m for m, _, ds in (n.partition(":") for n in names) for d in ds.split(",")]
    return {n: _code_of(n, root) for n in names}


def _code_of(name: str, root: Path) -> str:
    name, _, wanted = name.partition(":")
    path, module = root/name, reach.library(root/PACKAGE).modules.get(f"{PACKAGE}.{name}")
    if module is None and path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
        return _digest("\0".join(_code_of(f.relative_to(root).as_posix(), root) for f in files))
    if module is None and path.is_file():
        if path.suffix != ".py": return _digest(path.read_bytes())
        module = reach.Module(path.stem, path.read_text(encoding="utf-8"), PACKAGE)
    if module is None or (wanted and wanted not in module.pieces): return ""
    return module.digest([wanted] if wanted else [])


def modules(root: Path = ROOT) -> list[str]:
    "All modules of the library that are written by hand, by their names inside the package."
    return [m for m in _module_files(root/PACKAGE) if m and m != "_modidx"]


def modules_behind(source: str, root: Path = ROOT) -> list[str]:
    "Modules of the library that some code imports, with what these import, by their names inside the package."
    found = reached([source], root/PACKAGE).modules
    return sorted(m.name.partition(".")[2] for m in found if "." in m.name)


def changed_since(told: dict[str, str], root: Path = ROOT) -> list[str]:
    "The names of the code that is another than when `code_of` made these hashes."
    return [name.replace(":", ".") for name, now in code_of(told, root).items() if now != told[name]]


def default_exp(nb: dict) -> str | None:
    "The module that the notebook exports, or None."
    for s in code_cells(nb):
        if m := re.search(r"(?m)^\s*#\s*\|\s*default_exp\s+(\S+)", s): return m[1]
    return None


def stamp_of(nb: dict) -> dict | None:
    return nb["metadata"].get(KEY)


def check(path: Path, package: Path = ROOT/PACKAGE) -> tuple[str, str] | None:
    """What is stale: None, or (kind, message). Kind 'library' of an expensive notebook is tolerated and shown on its
    page; all else is an error."""
    nb = load(path)
    stamp, redo = stamp_of(nb), f"run: make outputs NB={path.stem}"
    if not code_cells(nb): return None
    if not stamp: return "unstamped", f"{path.name} has no stamp: its outputs were not made by book/execute.py; {redo}"
    if stamp.get("code_hash") != code_hash(nb):
        return "code", f"{path.name}: the code cells changed after the outputs were made; {redo}"
    if stamp.get("library_hash") != library_hash(nb, package):
        return "library", f"{path.name}: code of the library that it reaches changed after the outputs were made; {redo}"
    return None


def stale(paths: Iterable[Path] | None = None) -> dict[Path, tuple[str, str, bool]]:
    "Stale notebooks: path -> (kind, message, tolerated)."
    found, lax = {}, expensive()
    for p in paths or notebooks():
        if problem := check(p): found[p] = (*problem, problem[0] == "library" and p.stem in lax)
    return found
