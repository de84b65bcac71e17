"""Which outputs are up to date?

Each executed notebook carries a stamp (`metadata.cam_course`): a hash of its code cells, a hash of every module of the
library that it reaches, and where and when it ran. `check` compares the stamp with the tree as it stands.
"""
import ast
import hashlib
import io
import json
import re
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, PACKAGE = ROOT/"nbs", "cam_course"
EXPENSIVE = ROOT/"book"/"expensive.txt"
KEY, INSTALL = "cam_course", "colab"   # metadata of a notebook; tag of the cell that installs the library


def notebooks(folder: Path = NBS) -> list[Path]:
    "Every notebook of the book, in reading order."
    return sorted(p for p in folder.glob("*.ipynb") if not p.name.startswith((".", "_")))


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
    "Source less comments and blank lines, so that mending a comment asks for no new run. Magics stay as they are."
    lines = source.splitlines()
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return "\n".join(line.rstrip() for line in lines if line.strip())
    for t in tokens:
        if t.type == tokenize.COMMENT: lines[t.start[0] - 1] = lines[t.start[0] - 1][:t.start[1]]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def code_hash(nb: dict) -> str:
    "Hash of what runs in the notebook: comments and outputs do not count."
    cells = [without_comments(s) for s in code_cells(nb)]
    return _digest("\0".join(c for c in cells if c))


def _digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]


def parse_cells(sources: Iterable[str]) -> ast.Module:
    "One syntax tree of all cells; a line that only IPython understands counts as `pass`."
    body = []
    for s in sources:
        try:
            body += ast.parse(s).body
        except SyntaxError:
            body += ast.parse(re.sub(r"(?m)^(\s*)[%!?].*$", r"\1pass", s)).body
    return ast.Module(body, [])


@cache
def _module_files(package: Path) -> dict[str, Path]:
    "Dotted name inside the package ('models.resnet') -> file."
    names = {}
    for f in sorted(package.rglob("*.py")):
        parts = f.relative_to(package).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = f
    return names


def imported(tree: ast.AST, package: Path, module: str = "", is_package: bool = False) -> set[str]:
    "Modules of the package that a tree imports, at the top or inside a function, absolutely or relatively."
    known, found = _module_files(package), set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = [package.name, *(module.split(".") if module else [])]
                up = up[:len(up) - node.level + is_package]
                base = ".".join([*up, *([base] if base else [])])
            names = [base, *(f"{base}.{a.name}" for a in node.names)]
        for n in names:
            if n == package.name: found.add("")
            elif n.startswith(package.name + ".") and (m := n[len(package.name) + 1:]) in known: found.add(m)
    return found & known.keys()


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def closure(start: set[str], package: Path) -> set[str]:
    "The modules and all that they import, transitively."
    known, seen, todo = _module_files(package), set(), set(start)
    while todo:
        m = todo.pop()
        seen.add(m)
        todo |= _imports(known[m], package, m) - seen
    return seen


@cache
def _imports(path: Path, package: Path, module: str) -> set[str]:
    return imported(_tree(path), package, module, path.name == "__init__.py")


@cache
def _scripts(module: Path, folder: Path) -> set[Path]:
    "JavaScript that a module names in a string, with what that imports: it is saved with the moving figures."
    names = {n.value for n in ast.walk(_tree(module)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    todo = {(folder/n).resolve() for n in names if re.fullmatch(r"[\w/-]+\.js", n)}
    seen: set[Path] = set()
    while todo:
        if not (path := todo.pop()).is_file() or path in seen: continue
        seen.add(path)
        todo |= {(path.parent/n).resolve() for n in re.findall(r'from "(\.[^"]+)"', path.read_text(encoding="utf-8"))}
    return seen


def without_docstrings(source: str) -> str:
    "Source less its docstrings: what a module says of itself changes no output."
    lines = [line.encode() for line in source.splitlines()]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            doc = node.body[0]
            first, last = doc.lineno - 1, doc.end_lineno - 1
            before, after = lines[first][:doc.col_offset], lines[last][doc.end_col_offset:]
            lines[first:last + 1] = [b"", *[b""]*(last - first)]   # the other line numbers stay
            lines[first] = before + b"..." + after
    return "\n".join(line.decode() for line in lines)


@cache   # of the text: a file may change under a running process
def module_source(source: str) -> str:
    "What an exported module does: less nbdev's cell marks, the version, comments and docstrings."
    source = without_comments(without_docstrings(source))
    return "\n".join(line for line in source.splitlines() if not line.startswith("__version__"))


def library_hash(nb: dict, package: Path = ROOT/PACKAGE) -> str:
    "Hash of the notebook's own module and of every module, and script of a moving figure, that the notebook reaches."
    known, start = _module_files(package), imported(parse_cells(code_cells(nb)), package)
    if (own := default_exp(nb)) in known: start.add(own)
    modules = sorted(closure(start, package))
    scripts = set().union(*(_scripts(known[m], package/"js") for m in modules))
    parts = [f"{m}\n{module_source(known[m].read_text(encoding='utf-8'))}" for m in modules]
    return _digest("\0".join([*parts, *(f"{s.name}\n{s.read_text(encoding='utf-8')}" for s in sorted(scripts))]))


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
        return "library", f"{path.name}: a module that it imports changed after the outputs were made; {redo}"
    return None


def stale(paths: Iterable[Path] | None = None) -> dict[Path, tuple[str, str, bool]]:
    "Stale notebooks: path -> (kind, message, tolerated)."
    found, lax = {}, expensive()
    for p in paths or notebooks():
        if problem := check(p): found[p] = (*problem, problem[0] == "library" and p.stem in lax)
    return found
