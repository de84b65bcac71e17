"""Move the house: apply book/move/map.yml to the tree as it stands.

    python book/move/apply.py --check   what it has no row for, and what of the table is gone; nothing is written
    python book/move/apply.py           move, export the library, carry the stamps over

References to Python names are followed on the syntax tree: a name counts if it was imported from the module that owned it (or
from one that offered it again), or is an attribute of that module. The table tells what each becomes.

Stamps: what was current stays current, since the code is the same under the table; what was stale stays stale.
"""
import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import symtable
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT/"book"), str(ROOT/"book"/"_ext")]
import stamps  # noqa: E402
import yaml  # noqa: E402

HERE = Path(__file__).resolve().parent
NEW = HERE/"new"        # files that the move puts in place; ".new" at the end of a name goes
LIB = "cam_course"
WIDTH = 120
Key = tuple[str, str]   # old module, old name


def say(*words: object) -> None: print(*words, flush=True)


# ---- the table

def front_door() -> set[str]:
    "The names that the package offers at its top, as the notebook of the front door lists them."
    for s in stamps.code_cells(stamps.load(NEW/"nbs"/"app"/"front_door.ipynb.new")):
        for node in ast.parse(s).body:
            if "_HOMES" in bound(node): return {n for names in ast.literal_eval(node.value).values() for n in names}
    raise ValueError("the notebook of the front door has no table _HOMES")


def words(value: object) -> list[str]: return str(value or "").split()


class Table:
    "The map, with what the library before the move says about it."

    def __init__(self, root: Path = ROOT) -> None:
        raw = yaml.safe_load((HERE/"map.yml").read_text(encoding="utf-8"))
        self.raw, self.root, self.told = raw, root, []
        self.gone: list[str] = []                 # listed, and not there
        self.notebooks: dict[Path, str] = {}      # old path -> new name inside nbs
        self.modules: dict[str, str] = {}         # old module -> new module
        self._find_notebooks()
        self.defs: dict[str, list[str]] = {}      # old module -> names defined in it
        self.alls: dict[str, list[str]] = {}
        self.again: dict[Key, Key] = {}           # offered again -> where it is defined
        self.used: set[Key] = set()               # imported by another module of the library
        self._read_library()
        self.home: dict[Key, str] = {}            # a definition that changes its notebook -> old module of the new home
        for move in raw["cells"]: self.home |= {(move["from"], name): move["to"] for name in words(move["defines"])}
        self.new: dict[Key, str] = {}
        self.shared: set[Key] = set()
        self._read_names()
        self.front = front_door()

    def _find_notebooks(self) -> None:
        rows, plain = self.raw["modules"], self.raw["notebooks"]
        seen: set[str] = set()
        for path in stamps.notebooks(self.root/"nbs"):
            module = stamps.default_exp(stamps.load(path))
            key = module or re.sub(r"^\d+_", "", path.stem)
            row = rows.get(module) if module else plain.get(key)
            seen.add(key)
            if row is None:
                self.told.append(f"no row for {path.relative_to(self.root)} ({'exports ' + module if module else 'exports nothing'})")
                name, target = stamps.name(path), module
                if module and module.startswith("models."): name, target = f"base/{module[7:]}", f"base.{module[7:]}"
            else: name, target = row if module else (row, None)
            self.notebooks[path] = name
            if module and target: self.modules[module] = target
        gone = [k for k in [*rows, *plain] if k not in seen]
        self.gone += gone

    def _read_library(self) -> None:
        for m in self.modules:
            file = self.root.joinpath(LIB, *m.split(".")).with_suffix(".py")
            if not file.exists():
                self.told.append(f"{file.relative_to(self.root)} is missing: export first")
                continue
            tree = ast.parse(file.read_text(encoding="utf-8"))
            self.defs[m], self.alls[m] = [], []
            for node in tree.body:
                names = bound(node)
                if "__all__" in names: self.alls[m] = ast.literal_eval(node.value)
                elif isinstance(node, ast.ImportFrom):
                    if (origin := old_module(node, m)) is not None:
                        for a in node.names: self.again[m, a.asname or a.name] = (origin, a.name)
                else: self.defs[m] += [n for n in names if n not in self.defs[m]]
            for node in ast.walk(tree):
                origin = old_module(node, m) if isinstance(node, ast.ImportFrom) else None
                if origin: self.used |= {(origin, a.name) for a in node.names}
        self.used = {self.owner(key) for key in self.used}

    def owner(self, key: Key) -> Key:
        while key[1] not in self.defs.get(key[0], ()) and key in self.again: key = self.again[key]
        return key

    def _read_names(self) -> None:
        for m, lists in self.raw["names"].items():
            kinds = {n: kind for kind in ("public", "shared", "hide") for n in words(lists.get(kind))}
            rename = lists.get("rename") or {}
            if m not in self.defs: continue
            self.gone += [f"{m}.{n}" for n in [*kinds, *rename] if n not in self.defs[m]]
            for n in self.defs[m]:
                kind = kinds.get(n, "public" if n in self.alls[m] else "private")
                if (m, n) in self.used and (kind == "hide" or (kind == "private" and rename.get(n, n).startswith("_"))):
                    self.told.append(f"{m}.{n} would be hidden, but another module imports it: shared")
                    kind = "shared"
                if n in self.alls[m] and n not in kinds: self.told.append(f"no row for the public name {m}.{n}: it stays public")
                self.new[m, n] = rename.get(n) or ("_" + n if kind == "hide" else n)
                if kind == "shared": self.shared.add((m, n))
        for m in self.defs:
            if m not in self.raw["names"]:
                for n in self.defs[m]: self.new[m, n] = n
                if self.alls[m]: self.told.append(f"no names listed for {m}: {', '.join(self.alls[m])} stay public")

    def module_of(self, key: Key) -> str:
        "The new module of a definition."
        key = self.owner(key)
        return self.modules[self.home.get(key, key[0])]

    def name_of(self, key: Key) -> str: return self.new.get(self.owner(key), key[1])

    @cached_property
    def stems(self) -> dict[str, str]:
        "Old stem -> new name inside nbs."
        return {p.stem: new for p, new in self.notebooks.items()}

    @cached_property
    def everywhere(self) -> dict[str, str]:
        "Names that mean one thing in the whole library, and whose name changes: old -> new."
        owners = defaultdict(set)
        for (_, n), new in self.new.items(): owners[n].add(new)
        return {n: next(iter(new)) for n, new in owners.items() if len(new) == 1 and n not in new
                and n in {x for a in self.alls.values() for x in a} and (re.search(r"[A-Z_]", n) or len(n) > 8)}


def bound(node: ast.stmt) -> list[str]:
    "Names that a top-level statement defines (imports do not count)."
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef): return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]


def old_module(node: ast.ImportFrom, inside: str = "") -> str | None:
    "The library's module, less the package's name, that `from ... import` means; None for something else."
    module = node.module or ""
    if node.level:
        up = [LIB, *inside.split(".")]
        module = ".".join([*up[:len(up) - node.level], *([node.module] if node.module else [])])
    if module == LIB: return ""
    return module[len(LIB) + 1:] if module.startswith(LIB + ".") else None


# ---- references in a piece of Python

@dataclass
class Scope:
    "What names stand for in a module, function, class or comprehension."
    kind: str
    stops: set[str] = field(default_factory=set)               # bound to something of its own
    names: dict[str, str] = field(default_factory=dict)        # bound to what the table renames: old local name -> new
    modules: dict[str, str] = field(default_factory=dict)      # bound to a module of the library: local name -> old module


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Rewriter(ast.NodeVisitor):
    "Collects the edits that one source needs."

    def __init__(self, table: Table, source: str, outer: Scope, front: bool) -> None:
        self.table, self.source, self.front = table, source, front
        self.starts = [0]
        for line in source.encode().split(b"\n"): self.starts.append(self.starts[-1] + len(line) + 1)
        self.bytes = source.encode()
        self.edits: list[tuple[int, int, str]] = []            # byte offsets
        self.scopes = [outer]
        self.in_string: list[set[tuple[str, str]]] = []        # names to replace inside an f-string

    def at(self, line: int, column: int) -> int: return self.starts[line - 1] + column

    def replace(self, start: int, end: int, old: str, new: str) -> None:
        if self.bytes[start:end] != old.encode(): raise ValueError(f"{self.bytes[start:end].decode()!r} is not {old!r}")
        self.edits.append((start, end, new))

    def swap(self, node: ast.AST, old: str, new: str, end: bool = False) -> None:
        "Replace a name at the start of a node, or at its end."
        if old == new: return
        if self.in_string: self.in_string[-1].add((old, new))
        else:
            size = len(old.encode())
            start = self.at(node.end_lineno, node.end_col_offset) - size if end else self.at(node.lineno, node.col_offset)
            self.replace(start, start + size, old, new)

    # what a name stands for

    def look_up(self, name: str, what: str) -> str | None:
        for depth, scope in enumerate(reversed(self.scopes)):
            if scope.kind == "class" and depth: continue
            if name in (found := getattr(scope, what)): return found[name]
            if name in scope.stops or name in scope.names or name in scope.modules: return None
        return None

    def module(self, node: ast.AST) -> str | None:
        "The old module that an expression stands for ('' for the package)."
        if isinstance(node, ast.Name): return self.look_up(node.id, "modules")
        if isinstance(node, ast.Attribute) and (outer := self.module(node.value)) is not None:
            inner = f"{outer}.{node.attr}".lstrip(".")
            if inner in self.table.modules or any(m.startswith(inner + ".") for m in self.table.modules): return inner
        return None

    def visit_Name(self, node: ast.Name) -> None:
        if (new := self.look_up(node.id, "names")) is not None: self.swap(node, node.id, new)
        elif (m := self.look_up(node.id, "modules")) and node.id == m.rpartition(".")[2]:
            self.swap(node, node.id, self.table.modules.get(m, m).rpartition(".")[2])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        outer, here = self.module(node.value), self.module(node)
        if here in self.table.modules and isinstance(node.value, ast.Name | ast.Attribute) and not self.in_string:
            text = ast.get_source_segment(self.source, node) or ""
            if text.startswith(LIB):                           # cam_course.core, written out
                start = self.at(node.lineno, node.col_offset)
                self.replace(start, start + len(text.encode()), text, f"{LIB}.{self.table.modules[here]}")
                return
        if outer and outer in self.table.modules: self.swap(node, node.attr, self.table.name_of((outer, node.attr)), end=True)
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        "`monkeypatch.setattr(module, \"name\", ...)` names a definition by a string."
        match node.args:
            case [first, ast.Constant(value=str() as name), *_] if (m := self.module(first)):
                if (new := self.table.name_of((m, name))) != name:
                    start = self.at(node.args[1].lineno, node.args[1].col_offset)
                    self.replace(start + 1, start + 1 + len(name.encode()), name, new)
        self.generic_visit(node)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        "`(module, \"name\")`: the same, in a table."
        match node.elts:
            case [first, ast.Constant(value=str() as name)] if (m := self.module(first)):
                if (new := self.table.name_of((m, name))) != name:
                    start = self.at(node.elts[1].lineno, node.elts[1].col_offset)
                    self.replace(start + 1, start + 1 + len(name.encode()), name, new)
        self.generic_visit(node)

    # imports

    def visit_body(self, body: list[ast.stmt]) -> None:
        run: list[ast.ImportFrom] = []
        for node in [*body, None]:
            ours = isinstance(node, ast.ImportFrom) and not node.level and old_module(node) is not None
            if ours and (not run or (node.lineno == run[-1].end_lineno + 1 and self.noqa(node) == self.noqa(run[-1]))): run.append(node)
            else:
                if run: self.imports(run)
                run = [node] if ours else []
            if node is not None and not ours: self.visit(node)

    def noqa(self, node: ast.stmt) -> str:
        "The comment behind a statement that silences a check."
        lines = self.source.split("\n")[node.lineno - 1:node.end_lineno]
        return next((m[0] for line in lines if (m := re.search(r"  # noqa.*$", line))), "")

    def imports(self, run: list[ast.ImportFrom]) -> None:
        "Lines of imports from the library, written anew."
        wanted: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
        for node in run:
            base = old_module(node)
            for a in node.names:
                inner = f"{base}.{a.name}".lstrip(".")
                if inner in self.table.modules:                # from cam_course import core
                    package, _, last = self.table.modules[inner].rpartition(".")
                    wanted[f"{LIB}.{package}".rstrip(".")].append((last, a.asname))
                elif base in self.table.defs:
                    new, module = self.table.name_of((base, a.name)), self.table.module_of((base, a.name))
                    door = self.front and new in self.table.front
                    wanted[LIB if door else f"{LIB}.{module}"].append((new, a.asname))
                else: wanted[f"{LIB}.{base}".rstrip(".")].append((a.name, a.asname))
        indent = " "*run[0].col_offset
        start, end = self.at(run[0].lineno, run[0].col_offset), self.at(run[-1].end_lineno, run[-1].end_col_offset)
        noqa = self.noqa(run[0])
        lines = [import_line(m, names, len(indent)) for m, names in sorted(wanted.items())]
        if noqa:
            end = self.at(run[-1].end_lineno, 0) + len(self.source.split("\n")[run[-1].end_lineno - 1].encode())
            lines = [first + noqa + rest for first, rest in (re.fullmatch(r"(.*)((?:\n.*)*)", line).groups() for line in lines)]
        text = ("\n" + indent).join(lines)
        if self.bytes[start:end].decode() != text: self.edits.append((start, end, text))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if not node.level and old_module(node) is not None: self.imports([node])

    def visit_Import(self, node: ast.Import) -> None:
        for a in node.names:
            if (m := a.name.removeprefix(LIB + ".")) in self.table.modules and a.name != m:
                start = self.at(a.lineno, a.col_offset)
                self.replace(start, start + len(a.name), a.name, f"{LIB}.{self.table.modules[m]}")

    # scopes

    def visit_Module(self, node: ast.Module) -> None: self.visit_body(node.body)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self.visit_body(node.body)
        self.visit_body(node.orelse)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items: self.visit(item)
        self.visit_body(node.body)

    def visit_Try(self, node: ast.Try) -> None:
        self.visit_body(node.body)
        for h in node.handlers:
            if h.type: self.visit(h.type)
            self.visit_body(h.body)
        self.visit_body(node.orelse)
        self.visit_body(node.finalbody)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for d in node.decorator_list: self.visit(d)
        self.define(node, node.name)
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *annotations(node)): self.annotation(part)
        self.scopes.append(scope_of(self.table, node))
        self.visit_body(node.body)
        self.scopes.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults)): self.visit(part)
        self.scopes.append(scope_of(self.table, node))
        self.visit(node.body)
        self.scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for d in (*node.decorator_list, *node.bases, *node.keywords): self.visit(d)
        self.define(node, node.name)
        self.scopes.append(scope_of(self.table, node))
        self.visit_body(node.body)
        self.scopes.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        self.annotation(node.annotation)
        if node.value: self.visit(node.value)

    def annotation(self, node: ast.AST) -> None:
        "A type may stand in quotes."
        for n in ast.walk(node):
            if isinstance(n, ast.Constant) and isinstance(n.value, str) and re.fullmatch(r"[\w.\[\], |]+", n.value):
                start = self.at(n.lineno, n.col_offset) + 1
                new = re.sub(r"(?<![\w.])\w+", lambda m: self.look_up(m[0], "names") or m[0], n.value)
                if new != n.value: self.replace(start, start + len(n.value.encode()), n.value, new)
        self.visit(node)

    def comprehension(self, node: ast.AST) -> None:
        self.scopes.append(scope_of(self.table, node))
        self.generic_visit(node)
        self.scopes.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = comprehension

    def define(self, node: ast.AST, name: str) -> None:
        "The name after `def` or `class`."
        if (new := self.look_up(name, "names")) is None or new == name: return
        start = self.at(node.lineno, node.col_offset)
        m = re.compile(rb"(?:async\s+)?(?:def|class)\s+").match(self.bytes, start)
        self.replace(m.end(), m.end() + len(name.encode()), name, new)

    # strings

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        "Python 3.11 does not say where a name inside an f-string stands: it is looked for between the braces."
        self.in_string.append(set())
        self.generic_visit(node)
        found = self.in_string.pop()
        if self.in_string:
            self.in_string[-1] |= found
            return
        start, end = self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)
        text = new = self.bytes[start:end].decode()
        for old, name in sorted(found): new = inside_braces(new, old, name)
        if new != text: self.edits.append((start, end, new))

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, str) or self.in_string or node.lineno is None: return
        start, end = self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)
        raw = self.bytes[start:end].decode()
        new = text_with(self.table, raw, self.spans())
        if new != raw: self.edits.append((start, end, new))

    def spans(self) -> dict[str, str]: return self.scopes[0].names

    def result(self) -> str:
        out, last = [], 0
        for start, end, new in sorted(set(self.edits)):
            if start < last: raise ValueError(f"two edits of one place: {self.bytes[start:end].decode()!r}")
            out += [self.bytes[last:start].decode(), new]
            last = end
        return "".join([*out, self.bytes[last:].decode()])


def annotations(node: ast.FunctionDef) -> Iterator[ast.AST]:
    a = node.args
    for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg):
        if arg is not None and arg.annotation: yield arg.annotation
    if node.returns: yield node.returns


def inside_braces(text: str, old: str, new: str) -> str:
    "Replace a name in the expressions of an f-string's source."
    out, depth, i = [], 0, 0
    word = re.compile(rf"(?<![\w.]){re.escape(old)}(?!\w)")
    while i < len(text):
        if depth == 0 and text[i:i + 2] in ("{{", "}}"):
            out.append(text[i:i + 2])
            i += 2
            continue
        depth += (text[i] == "{") - (text[i] == "}")
        if depth > 0 and (m := word.match(text, i)):
            out.append(new)
            i = m.end()
            continue
        out.append(text[i])
        i += 1
    return "".join(out)


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    "The nodes of a function or class that belong to its own scope."
    todo = list(node.body) if isinstance(getattr(node, "body", None), list) else []
    while todo:
        n = todo.pop()
        yield n
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            todo += [*n.decorator_list, *getattr(n, "bases", [])]
        elif isinstance(n, ast.Lambda): continue
        elif isinstance(n, COMPREHENSIONS):
            todo += [w for w in ast.walk(n) if isinstance(w, ast.NamedExpr)]
        else: todo += ast.iter_child_nodes(n)


def bind(table: Table, scope: Scope, nodes: Iterable[ast.AST]) -> None:
    "What statements bind in their scope."
    free: set[str] = set()
    for n in nodes:
        if isinstance(n, ast.Global | ast.Nonlocal): free.update(n.names)
        elif isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef): scope.stops.add(n.name)
        elif isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store): scope.stops.add(n.id)
        elif isinstance(n, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and n.name: scope.stops.add(n.name)
        elif isinstance(n, ast.Import):
            for a in n.names:
                m = a.name.removeprefix(LIB).lstrip(".")
                if a.name.split(".")[0] != LIB: scope.stops.add(a.asname or a.name.split(".")[0])
                elif a.asname: scope.modules[a.asname] = m
                else: scope.modules[LIB] = ""
        elif isinstance(n, ast.ImportFrom):
            base = None if n.level else old_module(n)
            for a in n.names:
                local = a.asname or a.name
                if base is not None and (m := f"{base}.{a.name}".lstrip(".")) in table.modules: scope.modules[local] = m
                elif base in table.defs and not a.asname: scope.names[local] = table.name_of((base, a.name))
                else: scope.stops.add(local)
    for name in free:
        scope.stops.discard(name)
    for name in scope.names: scope.stops.discard(name)
    for name in scope.modules: scope.stops.discard(name)


def scope_of(table: Table, node: ast.AST) -> Scope:
    if isinstance(node, COMPREHENSIONS):
        scope = Scope("comprehension")
        for g in node.generators: scope.stops |= {n.id for n in ast.walk(g.target) if isinstance(n, ast.Name)}
        return scope
    scope = Scope("class" if isinstance(node, ast.ClassDef) else "function")
    if isinstance(node, FUNCTIONS):
        a = node.args
        scope.stops |= {arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if arg is not None}
    args = set(scope.stops)
    bind(table, scope, own_nodes(node))
    scope.stops |= args - scope.names.keys()
    return scope


def top_scope(table: Table, trees: Iterable[ast.Module], own: str | None = None) -> Scope:
    "The scope of a module, or of all cells of the notebook that exports the old module `own`."
    scope = Scope("module")
    for tree in trees: bind(table, scope, own_nodes(tree))
    for name in table.defs.get(own or "", ()): scope.names[name] = table.name_of((own, name))
    scope.stops -= scope.names.keys()
    return scope


def import_line(module: str, names: list[tuple[str, str | None]], indent: int) -> str:
    kind = lambda n: (0 if n.isupper() and len(n) > 1 else 1 if n[:1].isupper() else 2, n)
    parts = [n if a is None else f"{n} as {a}" for n, a in sorted(dict.fromkeys(names), key=lambda x: (*kind(x[0]), x[1] or ""))]
    line = f"from {module} import {', '.join(parts)}"
    if indent + len(line) <= WIDTH: return line
    inner, lines, row = " "*(indent + 4), [], ""
    for p in parts:
        if row and len(inner) + len(row) + len(p) + 2 > WIDTH: lines, row = [*lines, row], ""
        row += (" " if row else "") + p + ","
    return f"from {module} import (\n" + "".join(f"{inner}{r}\n" for r in [*lines, row]) + " "*indent + ")"


# ---- texts that are no Python

def text_with(table: Table, text: str, names: dict[str, str]) -> str:
    "Dotted names, file names, imports in a program that stands in a string, names in backticks."
    local = dict(names)

    def an_import(m: re.Match) -> str:
        base = m[2].lstrip(".")
        if base not in table.defs: return m[0]
        groups = defaultdict(list)
        for part in re.split(r"\s*,\s*", m[3].strip("() ")):
            name, _, alias = part.partition(" as ")
            new = table.name_of((base, name))
            if not alias and new != name: renamed[name] = new
            groups[table.module_of((base, name))].append(new + (f" as {alias}" if alias else ""))
        return "; ".join(f"from {LIB}.{mod} import {', '.join(ns)}" for mod, ns in sorted(groups.items()))

    def a_dotted(m: re.Match) -> str:
        parts = m[1].split(".")
        for n in (2, 1):
            old = ".".join(parts[:n])
            if old in table.modules and len(parts) >= n:
                rest = parts[n:]
                if rest: rest[0] = table.name_of((old, rest[0]))
                return ".".join([LIB, table.modules[old], *rest])
        return m[0]

    def a_file(m: re.Match) -> str:
        old = m[1].replace("/", ".")
        return f"{LIB}/{table.modules[old].replace('.', '/')}.py" if old in table.modules else m[0]

    renamed: dict[str, str] = {}
    text = re.sub(rf"from {LIB}((\.[\w.]+)) import (\([^)]*\)|\w+(?: as \w+)?(?:, *\w+(?: as \w+)?)*)", an_import, text)
    for old, new in renamed.items(): text = re.sub(rf"(?<![\w.`]){old}(?=\()", new, text)
    text = re.sub(rf"\b{LIB}\.((?:models\.)?[a-z_0-9]+(?:\.\w+)?)", a_dotted, text)
    text = re.sub(rf"\b{LIB}/((?:models/)?\w+)\.py\b", a_file, text)

    def a_span(m: re.Match) -> str:
        if m[0].startswith(f"`{LIB}"): return m[0]
        def a_word(w: re.Match) -> str:
            if w[1] and w[1] in table.modules and (w[1], w[2]) in table.new: return \
                f"{table.modules[w[1]].rpartition('.')[2]}.{table.name_of((w[1], w[2]))}"
            if w[1]: return w[0]
            return local.get(w[2]) or table.everywhere.get(w[2]) or w[2]
        return re.sub(r"(?<![\w.'\"/])(?:((?:models\.)?[a-z_]+)\.)?([A-Za-z_]\w*)(?!\w|\s*=[^=])", a_word, m[0])
    text = re.sub(r"(?<!`)`[^`\n]+`(?!`)", a_span, text)
    return paths_with(table, text)


def paths_with(table: Table, text: str) -> str:
    "Notebooks by their path or their stem."
    text = re.sub(r"\bnbs/(\w+)(?=\.ipynb|\.html|\b)", lambda m: f"nbs/{table.stems.get(m[1], m[1])}", text)
    stems = "|".join(sorted((s for s in table.stems if s[0].isdigit()), key=len, reverse=True))
    return re.sub(rf"(?<![\w/])({stems})(?![\w/])", lambda m: table.stems[m[1]].rpartition("/")[2], text)


# ---- Python files

def python(table: Table, source: str, scope: Scope | None = None, front: bool = False) -> str:
    "A Python source under the table."
    tree = ast.parse(source)
    scope = scope or top_scope(table, [tree])
    rewriter = Rewriter(table, source, scope, front)
    rewriter.visit(tree)
    return comments_with(table, rewriter.result(), scope.names)


def comments_with(table: Table, source: str, names: dict[str, str]) -> str:
    lines = source.split("\n")
    for t in tokenize.generate_tokens(StringIO(source).readline):
        if t.type == tokenize.COMMENT and (new := text_with(table, t.string, names)) != t.string:
            row = t.start[0] - 1
            lines[row] = lines[row][:t.start[1]] + new
    return "\n".join(lines)


# ---- notebooks

def magic_free(source: str) -> tuple[str, dict[int, str]]:
    "A cell as Python; the lines that only IPython reads are kept aside, by their number."
    python = stamps.python_of(source)
    before, after = source.split("\n"), python.split("\n")
    return python, {i: b for i, (b, a) in enumerate(zip(before, after, strict=True)) if a != b}


def cell_with(table: Table, source: str, scope: Scope, front: bool) -> str:
    plain, aside = magic_free(source)
    if aside:                                                  # such cells install, or show the command line
        new = python(table, plain, scope, front).split("\n")
        if len(new) != plain.count("\n") + 1: raise ValueError(f"a magic cell whose imports change their length:\n{source}")
        for i, line in aside.items(): new[i] = paths_with(table, line)
        return "\n".join(new)
    return python(table, source, scope, front)


EXPORT = re.compile(r"\s*#\s*\|\s*exporti?\b")


def split_shared(table: Table, module: str, source: str) -> list[str]:
    "An exported cell in pieces: what is public, and what is shared inside the library only (`#| exporti`)."
    body = ast.parse(source).body
    shared = lambda n: (module, n) in table.shared
    kinds: list[bool | None] = []
    for node in body:
        names = [n for n in bound(node) if n in table.alls.get(module, ()) or shared(n)]
        kinds.append(None if not names else all(map(shared, names)))
    if True not in kinds: return [source]
    if False not in kinds: return [source.replace("#| export\n", "#| exporti\n", 1)]
    lines, cuts, kind = source.split("\n"), [], None
    for node, k in zip(body, kinds, strict=True):
        if k is None: continue
        if kind is not None and k != kind:
            row = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
            while row > 0 and (lines[row - 1].startswith("#") or not lines[row - 1].strip()): row -= 1
            cuts.append((row, k))
        elif kind is None: first = k
        kind = k
    parts, last, k = [], 0, first
    for row, after in [*cuts, (len(lines), None)]:
        text = "\n".join(lines[last:row]).strip("\n")
        text = re.sub(r"^#\| export\n", "", text)
        parts.append(f"#| {'exporti' if k else 'export'}\n{text}")
        last, k = row, after
    return parts


def link_with(table: Table, text: str, old: Path, new: str) -> str:
    "Relative links of a notebook, as seen from its new place."
    here = Path("nbs", new).parent

    def a_link(m: re.Match) -> str:
        target, anchor = m[1], m[2] or ""
        if re.match(r"[a-z]+:|/|#", target): return m[0]
        path = Path(os.path.normpath(Path("nbs")/target))
        if path.suffix == ".ipynb" and path.stem in table.stems: path = Path("nbs", table.stems[path.stem] + ".ipynb")
        return f"]({Path(os.path.relpath(path, here)).as_posix()}{anchor})"
    return re.sub(r"\]\(([\w./-]+\.(?:ipynb|md|png|svg|jpg))(#[^)\s]*)?\)", a_link, text)


def prose_with(table: Table, text: str, names: dict[str, str], scope: Scope, old: Path, new: str) -> str:
    def fence(m: re.Match) -> str:
        if m[1].strip() != "python": return m[0]
        try: tree = ast.parse(m[2])
        except SyntaxError: return f"```{m[1]}\n{text_with(table, m[2], names)}```"
        inner = Scope("module", set(scope.stops), dict(scope.names), dict(scope.modules))
        extra = top_scope(table, [tree])
        inner.names |= extra.names
        inner.modules |= extra.modules
        return f"```{m[1]}\n{python(table, m[2], inner, True)}```"
    parts = re.split(r"(```[^\n]*\n.*?```)", text, flags=re.S)
    for i, part in enumerate(parts):
        if i % 2: parts[i] = re.sub(r"```([^\n]*)\n(.*?)```", fence, part, flags=re.S)
        else: parts[i] = text_with(table, link_with(table, part, old, new), names)
    return "".join(parts)


class Notebook:
    "A notebook on its way."

    def __init__(self, table: Table, path: Path, new: str) -> None:
        self.table, self.path, self.new = table, path, new
        self.nb = stamps.load(path)
        self.module = stamps.default_exp(self.nb)
        trees = [stamps.parse_cells([s]) for s in stamps.code_cells(self.nb)]
        self.scope = top_scope(table, trees, self.module)

    def rewrite(self) -> None:
        cells = []
        for c in self.nb["cells"]:
            if c["cell_type"] == "markdown":
                c["source"] = prose_with(self.table, c["source"], self.scope.names, self.scope, self.path, self.new)
            elif c["cell_type"] == "code" and c["source"].strip():
                pieces = [c["source"]]
                if EXPORT.match(c["source"]):
                    if re.search(r"(?m)^_all_ = ", c["source"]): continue      # names are offered by the front door alone
                    pieces = split_shared(self.table, self.module, c["source"])
                for i, piece in enumerate(pieces):
                    new = cell_with(self.table, piece, self.scope, front=not EXPORT.match(piece))
                    new = re.sub(r"(#\s*\|\s*default_exp\s+)\S+", lambda m: m[1] + self.table.modules[self.module], new)
                    cells.append(c | {"source": new} if i == len(pieces) - 1 else {
                        **c, "id": f"{c['id']}-{i}", "source": new, "outputs": [], "execution_count": None})
                continue
            cells.append(c)
        self.nb["cells"] = cells

    def defining(self, name: str) -> int:
        for i, c in enumerate(self.nb["cells"]):
            if c["cell_type"] == "code" and EXPORT.match(c["source"]) and any(name in bound(n) for n in ast.parse(c["source"]).body):
                return i
        raise ValueError(f"{self.path.name}: no exported cell defines {name}")

    def split_at(self, heading: str) -> int:
        "The place in front of a heading; its cell is cut in two where it stands inside."
        for i, c in enumerate(self.nb["cells"]):
            if c["cell_type"] != "markdown" or not re.search(rf"(?m)^{re.escape(heading)}$", c["source"]): continue
            before, after = re.split(rf"(?m)^(?={re.escape(heading)}$)", c["source"], maxsplit=1)
            if before.strip():
                self.nb["cells"].insert(i, {**c, "id": c["id"] + "-0", "source": before.strip()})
                c["source"], i = after, i + 1
            return i
        raise ValueError(f"{self.path.name}: no heading {heading!r}")

    def write(self, folder: Path) -> None:
        for c in self.nb["cells"]: c["source"] = c["source"].splitlines(keepends=True)
        target = folder/f"{self.new}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(self.nb, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def free_names(source: str) -> set[str]:
    "Names that a cell takes from the notebook, or that are built in."
    def walk(scope: symtable.SymbolTable) -> Iterator[str]:
        top = scope.get_type() == "module"
        yield from (s.get_name() for s in scope.get_symbols() if s.is_referenced() and (top or s.is_global()))
        for inner in scope.get_children(): yield from walk(inner)
    return set(walk(symtable.symtable(stamps.python_of(source), "cell", "exec")))


def local_name(a: ast.alias) -> str:
    "What an import binds: `import a.b` binds a."
    return a.asname or a.name.partition(".")[0]


def imported(source: str) -> dict[str, tuple[str, str]]:
    "What a cell imports at its top: local name -> (module, name)."
    found = {}
    for node in ast.parse(stamps.python_of(source)).body:
        if isinstance(node, ast.ImportFrom): found |= {a.asname or a.name: (node.module or "", a.name) for a in node.names}
        elif isinstance(node, ast.Import): found |= {local_name(a): (a.name, "") for a in node.names}
    return found


def sorted_imports(source: str) -> str:
    command = [sys.executable, "-m", "ruff", "check", "-q", "--isolated", "--fix", "--select", "I001", "--line-length", str(WIDTH),
               "--config", "lint.isort.known-first-party=['cam_course']", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False).stdout or source


def mend_imports(table: Table, book: Notebook, offers: dict[str, tuple[str, str]]) -> None:
    """After definitions came or went: imports that nobody needs go, those that are needed come.
    `offers`: where a name can be had, (module, name)."""
    cells = [c for c in book.nb["cells"] if c["cell_type"] == "code" and c["source"].strip() and not stamps.is_install(c)]
    exported = [c for c in cells if EXPORT.match(c["source"])]
    others = [c for c in cells if c not in exported]
    of_export = set().union(*(free_names(c["source"]) for c in exported))
    of_others = set().union(*(free_names(c["source"]) for c in others))
    for c in book.nb["cells"]:                                  # solutions run too
        if c["cell_type"] == "markdown":
            for code in re.findall(r"```python\n(.*?)```", c["source"], re.S): of_others |= free_names(code)
    defined = {n for c in cells for node in ast.parse(stamps.python_of(c["source"])).body for n in bound(node)}
    here = f"{LIB}.{table.modules[book.module]}"
    have: set[str] = set()
    late: dict[str, tuple[str, str]] = {}
    for c in cells:
        drop = set()
        for local, (module, name) in imported(c["source"]).items():
            used = of_export | of_others if c in exported else of_others
            if module == here or local not in used or (c in others and local in defined and module.startswith(LIB)): drop.add(local)
            elif c in exported and local not in of_export:
                drop.add(local)
                late[local] = (module, name)
            else: have.add(local)
        if drop: c["source"] = without_imports(c["source"], drop)
    wanted = [{n: offers[n] for n in of_export - have - defined if n in offers},
              late | {n: offers[n] for n in of_others - of_export - have - defined if n in offers}]
    for group, names in zip((exported, others), wanted, strict=True):
        if not names: continue
        target = next(c for c in group if imported(c["source"]))
        lines = []
        for local, (m, n) in sorted(names.items()):
            door = m.startswith(LIB) and n in table.front and group is others
            what, usual = (f"from {LIB if door else m} import {n}", n) if n else (f"import {m}", m.partition(".")[0])
            lines.append(what + (f" as {local}" if local != usual else ""))
        first = next(n for n in ast.parse(stamps.python_of(target["source"])).body if isinstance(n, ast.Import | ast.ImportFrom))
        rows = target["source"].split("\n")
        rows[first.lineno - 1:first.lineno - 1] = lines
        target["source"] = "\n".join(rows)
    for c in cells:
        if imported(c["source"]): c["source"] = sorted_imports(c["source"]).rstrip("\n")


def without_imports(source: str, drop: set[str]) -> str:
    lines = source.split("\n")
    for node in reversed(ast.parse(stamps.python_of(source)).body):
        if not isinstance(node, ast.Import | ast.ImportFrom) or not drop & set(map(local_name, node.names)): continue
        kept = [(a.name, a.asname) for a in node.names if local_name(a) not in drop]
        if not kept: new = []
        elif isinstance(node, ast.ImportFrom): new = import_line(node.module or "", kept, 0).split("\n")
        else: new = [f"import {n}" + (f" as {a}" if a else "") for n, a in kept]
        lines[node.lineno - 1:node.end_lineno] = new
    return "\n".join(lines)


def move_cells(table: Table, books: dict[str, Notebook]) -> None:
    "Definitions that change their notebook."
    touched: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for row in table.raw["cells"]:
        source, target = books.get(row["from"]), books.get(row["to"])
        if source is None or target is None:
            table.told.append(f"cells {row['defines']}: no notebook {row['from']} or {row['to']}")
            continue
        try:
            moved = [source.nb["cells"][source.defining(table.new.get((row["from"], n), n))] for n in words(row["defines"])]
            at = target.split_at(row["before"])
        except ValueError as error:
            table.told.append(f"cells {row['defines']}: {error}")
            continue
        moved = [c for i, c in enumerate(moved) if c not in moved[:i]]
        source.nb["cells"] = [c for c in source.nb["cells"] if c not in moved]
        new = {"cell_type": "markdown", "id": f"moved{moved[0]['id'][:3]}", "metadata": {}, "source": row["text"].strip()}
        target.nb["cells"][at:at] = [new, *moved]
        there, here = (f"{LIB}.{table.modules[row[k]]}" for k in ("to", "from"))
        names = {n for c in moved for node in ast.parse(c["source"]).body for n in bound(node)}
        offers = {n: (here, n) for c in source.nb["cells"] if c["cell_type"] == "code" and EXPORT.match(c["source"])
                  for node in ast.parse(c["source"]).body for n in bound(node)}
        for c in source.nb["cells"]:
            if c["cell_type"] == "code" and EXPORT.match(c["source"]): offers |= imported(c["source"])
        touched[row["to"]] = offers | touched[row["to"]]
        touched[row["from"]] |= {n: (there, n) for n in names}
    placed = {n: m for key in touched for n, (m, k) in touched[key].items() if m.startswith(LIB) and k == n}
    for row in table.raw["cells"]:                              # the newest home of what moved
        for n in words(row["defines"]): placed[table.new.get((row["from"], n), n)] = f"{LIB}.{table.modules.get(row['to'], '')}"
    for key, offers in touched.items():
        offers = {n: (m, n) for n, m in placed.items()} | offers
        mend_imports(table, books[key], {n: (placed.get(n, m) if m.startswith(LIB) else m, k) for n, (m, k) in offers.items()})


def edit(table: Table, books: dict[str, Notebook]) -> None:
    "Exact replacements in notebooks, after everything else."
    for row in table.raw["edits"]:
        book = books.get(row["in"])
        cells = [c for c in book.nb["cells"] if row["old"].rstrip("\n") in c["source"]] if book else []
        if len(cells) != 1:
            table.told.append(f"edit in {row['in']}: {len(cells)} cells hold {row['old'][:60]!r}")
            continue
        cells[0]["source"] = cells[0]["source"].replace(row["old"].rstrip("\n"), row["new"].rstrip("\n"))


# ---- everything else

TEXTS = ("book/*.md", "book/*/*.md", "book/*.yml", "book/*.txt", "CONTRIBUTING.md", "Makefile", "settings.ini", "setup.py", "ruff.toml",
         "mypy.ini",
         ".github/*/*.yml", ".ci/*", "MANIFEST.in")
KEEP = ("book/move/", "book/references.bib", "book/_toc.yml", "book/external_links.txt")


def files(root: Path, patterns: Iterable[str]) -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in sorted(filter(None, listed)):
        path = root/name
        if path.is_file() and not name.startswith(KEEP) and any(path.match(p) or Path(name).match(p) for p in patterns): yield path


def special_strings(table: Table, source: str) -> str:
    "Tables of tests that name modules by strings: the values of mutants.GROUPS, fault_table.CODE and the like."
    def listed(m: re.Match) -> str:
        last = ""                                               # a list of names may go on in a second string
        def one(s: re.Match) -> str:
            nonlocal last
            head, colon, rest = s[1].partition(":")
            if last and not colon: head, colon, rest, first = last, ":", s[1], ""
            elif head in table.modules: first = table.modules[head] + colon
            else: return s[0]
            last = head if s[1].endswith(",") else ""
            return f'"{first}{",".join(table.name_of((head, n)) for n in rest.split(",")) if colon else ""}"'
        return re.sub(r'"([\w.,:]+)"', one, m[0])
    for name in table.raw["tables"]:
        source = re.sub(rf"(?ms)^{name}\b.*?^\}}", listed, source)
    return source


def sources(table: Table) -> dict[Path, str]:
    "Tests and book tools under the table."
    out = {}
    for path in files(table.root, ("tests/*.py", "tests/*/*.py", "book/*.py", "book/*/*.py")):
        text = path.read_text(encoding="utf-8")
        try: new = special_strings(table, python(table, text))
        except Exception as error:
            table.told.append(f"{path.relative_to(table.root)}: {error}")
            continue
        def a_chapter(m: re.Match) -> str:
            return f'{m[1]}"{table.modules[m[2]].rpartition(".")[2]}"' if m[2] in table.modules else m[0]
        new = re.sub(r'(chapters?\.(?:chapter|page)\()"([\w.]+)"', a_chapter, new)
        new = re.sub(r'"(core|figures)\.py"', lambda m: f'"{table.modules[m[1]].replace(".", "/")}.py"', new)   # of a copied library
        if str(path.relative_to(table.root)) in table.raw["pairs"]:
            last = lambda m: f'("{table.modules[m[1]].rpartition(".")[2]}", "' if m[1] in table.modules else m[0]
            new = re.sub(r'\("([\w.]+)", "', last, new)
        if new != text: out[path] = new
    return out


def plain_texts(table: Table) -> dict[Path, str]:
    out = {}
    for path in files(table.root, TEXTS):
        try: text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError: continue
        if path.name == "glossary.yml":
            new = re.sub(r"(?m)^(\s*chapter: )(\S+)$", lambda m: m[1] + table.stems.get(m[2], m[2]), text)
        else: new = text
        new = text_with(table, new, {}) if path.suffix in (".md", ".yml") else paths_with(table, dotted_only(table, new))
        if new != text: out[path] = new
    return out


def dotted_only(table: Table, text: str) -> str: return text_with(table, text.replace("`", "\0"), {}).replace("\0", "`")


def toc(table: Table, have: set[str]) -> str:
    lines, listed = ["format: jb-book", "root: nbs/index", "options: {numbered: false}", "parts:"], {"index"}
    for part in table.raw["toc"]:
        (caption, pages), = part.items()
        lines += [f"  - caption: {caption}", "    chapters:"]
        for page in pages:
            if page == "API":
                lines += ["      - file: book/api", "        sections:"]
                lines += [f"          - file: book/api/{slug(p)}" for p in api_parts(table, have)]
                continue
            name = page if page.startswith("book/") else f"nbs/{page}"
            if not page.startswith("book/") and page not in have:
                table.gone.append(f"_toc.yml: {page}")
                continue
            listed.add(page)
            lines.append(f"      - file: {name}")
    if lost := have - listed: table.told.append(f"in no part of the table of contents: {', '.join(sorted(lost))}")
    return "\n".join(lines) + "\n"


def slug(caption: str) -> str: return caption.lower().replace(" ", "_")


def api_parts(table: Table, have: set[str]) -> list[str]:
    "Parts of the book that build a module."
    building = {n for n in have if (m := stamps.default_exp(stamps.load(table.root/"nbs"/f"{n}.ipynb"))) and m[:2] != "__"}
    return [c for part in table.raw["toc"] for c, pages in part.items() if building & set(pages)]


def file_edits(table: Table) -> None:
    for row in table.raw["file_edits"]:
        path = table.root/row["file"]
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text.count(row["old"].rstrip("\n")) != 1:
            table.told.append(f"edit of {row['file']}: {text.count(row['old'].rstrip(chr(10)))} times {row['old'][:70]!r}")
            continue
        old, new = row["old"].rstrip("\n"), row["new"].rstrip("\n")
        path.write_text(text.replace(old if new else old + "\n", new), encoding="utf-8")


def changelog(table: Table) -> None:
    "The table, for those who used version 0.1.0."
    path = table.root/"CHANGELOG.md"
    rows = ["### Where things went", "", "| notebook of 0.1.0 | notebook | module of 0.1.0 | module |", "|---|---|---|---|"]
    known = {new: old for old, new in table.modules.items()}
    for old, new in sorted(table.notebooks.items(), key=lambda x: x[1]):
        module = stamps.default_exp(stamps.load(table.root/"nbs"/f"{new}.ipynb"))
        pair = f"`{known[module]}` | `{module}`" if module in known else " | "
        rows.append(f"| `{old.stem}` | `{new}` | {pair} |")
    rows += ["", "Names that are called otherwise. Inner helpers, besides, have an underscore or are no longer in `__all__`.", ""]
    for m, module in sorted(table.modules.items(), key=lambda x: x[1]):
        pairs = [(n, table.new[m, n]) for n in table.defs[m]]
        changed = [f"`{n}` → `{new}`" for n, new in pairs if n.lstrip("_") != new.lstrip("_")]
        if changed: rows.append(f"- `{module}`: {', '.join(changed)}")
    of = table.modules
    moved = [f"`{table.name_of((m, n))}` from `{of[m]}` to `{table.module_of((m, n))}`" for m, n in table.home if n[0] != "_"]
    rows.append(f"- in another module: {', '.join(moved)}")
    text = path.read_text(encoding="utf-8")
    if not (m := re.search(r"(?ms)^## 0\.2\.0.*?(?=^## )", text)):
        table.told.append("CHANGELOG.md has no entry 0.2.0")
        return
    path.write_text(text[:m.end()] + "\n".join(rows) + "\n\n" + text[m.end():], encoding="utf-8")


# ---- stamps

def before(root: Path) -> dict[str, str | None]:
    "Notebook (stem) -> what is stale: None, 'library', 'code' or 'unstamped'."
    return {p.stem: (found := stamps.check(p)) and found[0] for p in stamps.notebooks(root/"nbs")}


def restamp(table: Table, was: dict[str, str | None]) -> None:
    stamps._module_files.cache_clear()
    for old, new in table.notebooks.items():
        path, state = table.root/"nbs"/f"{new}.ipynb", was.get(old.stem)
        raw = json.loads(path.read_text(encoding="utf-8"))
        if (stamp := raw["metadata"].get(stamps.KEY)) is None or state in ("code", "unstamped"): continue
        nb = stamps.load(path)
        stamp["code_hash"] = stamps.code_hash(nb)
        if state is None: stamp["library_hash"] = stamps.library_hash(nb, table.root/LIB)
        path.write_text(json.dumps(raw, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def results_before(root: Path) -> dict[Path, dict[str, str]]:
    "Kept results -> the hashes, of the code they are about, that are those of the tree."
    out = {}
    for path in [*root.glob("tests/results/*.json"), *root.glob("tests/bench/results/*.json")]:
        told = {k: v for code in codes(json.loads(path.read_text(encoding="utf-8"))) for k, v in code.items()}
        if told: out[path] = stamps.code_of(told, root)
    return out


def codes(value: object) -> Iterator[dict[str, str]]:
    if isinstance(value, dict):
        for k, v in value.items():
            if k == "code" and isinstance(v, dict): yield v
            else: yield from codes(v)
    elif isinstance(value, list):
        for v in value: yield from codes(v)


def restamp_results(table: Table, were: dict[Path, dict[str, str]]) -> None:
    def key_of(k: str) -> str:
        head, colon, rest = k.partition(":")
        if head not in table.modules: return k
        return table.modules[head] + colon + (table.name_of((head, rest)) if colon else "")
    for path, now in were.items():
        data = json.loads(path.read_text(encoding="utf-8"))
        for code in codes(data):
            kept = {key_of(k): (v, now.get(k) == v) for k, v in code.items()}
            fresh = stamps.code_of(kept, table.root)
            code.clear()
            code.update({k: fresh.get(k, v) if current else v for k, (v, current) in kept.items()})
        for row in data.get("mutants", []) if isinstance(data, dict) else []:
            row["module"] = table.modules.get(row["module"], row["module"])
            head, _, rest = row["scope"].partition(".")
            old = next((m for m, n in table.modules.items() if n == row["module"]), "")
            row["scope"] = ".".join(filter(None, [table.name_of((old, head)) if head else "", rest]))
        text = path.read_text(encoding="utf-8")
        indent = len(m[1]) if (m := re.search(r"\n( +)\"", text)) else None
        path.write_text(json.dumps(data, indent=indent, ensure_ascii=False) + ("\n" if text.endswith("\n") else ""), encoding="utf-8")


# ---- all of it

def tool(*command: str, root: Path = ROOT) -> None:
    env = os.environ | {"PYTHONPATH": str(root), "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    subprocess.run(command, cwd=root, check=True, env=env)


def apply(table: Table) -> None:
    root, folder = table.root, table.root/"nbs"
    say("what is stale before the move ...")
    was, were = before(root), results_before(root)
    say(f"{sum(v is None for v in was.values())} of {len(was)} notebooks are current; stale: "
        + (", ".join(f"{k} ({v})" for k, v in was.items() if v) or "none"))
    books = {}
    for path, new in table.notebooks.items():
        book = Notebook(table, path, new)
        try: book.rewrite()
        except Exception as error: raise RuntimeError(f"{path.name}: {error}") from error
        books[book.module or re.sub(r"^\d+_", "", path.name)] = book   # "index.ipynb" where nothing is exported
    move_cells(table, books)
    edit(table, books)
    code, texts = sources(table), plain_texts(table)
    for path in table.notebooks: path.unlink()
    for book in books.values(): book.write(folder)
    for path, text in [*code.items(), *texts.items()]: path.write_text(text, encoding="utf-8")
    for old in root.glob("book/api/*.md"): old.unlink()
    for path in [p for p in NEW.rglob("*") if p.is_file() and "__pycache__" not in p.parts]:
        target = root/path.relative_to(NEW)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, str(target).removesuffix(".new"))
    shutil.rmtree(NEW)
    have = {stamps.name(p) for p in stamps.notebooks(folder)}
    (root/"book"/"_toc.yml").write_text(toc(table, have), encoding="utf-8")
    for caption in api_parts(table, have):
        (root/"book"/"api"/f"{slug(caption)}.md").write_text(f"# API: {caption}\n\n<!-- library-api: {caption} -->\n", encoding="utf-8")
    file_edits(table)
    changelog(table)
    say("exporting ...")
    for old in table.modules: root.joinpath(LIB, *old.split(".")).with_suffix(".py").unlink(missing_ok=True)
    shutil.rmtree(root/LIB/"models", ignore_errors=True)
    tool("nbdev_export", root=root)
    tool("nbdev_clean", root=root)
    tool(sys.executable, "-m", "ruff", "check", "-q", "--fix", "--select", "I001,F401", "tests", "book", root=root)
    say("stamps ...")
    restamp(table, was)
    restamp_results(table, were)
    tool(sys.executable, "book/execute.py", "front_door", root=root)
    try: tool(sys.executable, "book/readme.py", root=root)
    except subprocess.CalledProcessError: table.told.append("book/readme.py failed, see above: run it again when that is mended")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true", help="tell what the table lacks; write nothing")
    args = p.parse_args()
    table = Table()
    if not args.check: apply(table)
    public = sum(n in table.alls[m] and (m, n) not in table.shared and not table.new[m, n].startswith("_") for m, n in table.new)
    say(f"{len(table.notebooks)} notebooks, {len(table.modules)} modules; {public} public names after it, {len(table.shared)} shared")
    if table.gone: say(f"rows for what is not here (any more, or yet): {', '.join(table.gone)}")
    for line in table.told: say("LOOK:", line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
