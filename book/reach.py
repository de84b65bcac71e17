"""Which definitions of the library can a piece of code reach? Those that it names, that these name, and so on.

A module is cut into pieces: each function, each constant, each class without its methods, each method, and the body: the
statements that run when the module is imported. `Reach` follows names from piece to piece, as Python would: through
imports (relative, re-exported, inside functions), attributes of modules, and a package that imports on demand. Where
the text alone can't tell, more counts rather than less:

- A method of a reached class counts if its name stands anywhere in reached code, as an attribute, a keyword or a string,
  whatever the object; and always if Python or a class from elsewhere may call it.
- A module that is handed around as a value counts like a class, its definitions like methods.
- A local variable that bears the name of a definition counts as that definition.
"""
import ast
import builtins
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Union

Chain = tuple[str, ...]                    # a dotted name: ("torch", "nn", "Module")
Target = Union["Piece", "Module", str]     # what a name may stand for; a string: something from elsewhere
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Decorators and calls that leave a definition what it is. Any other may register it: then it counts without being named.
PLAIN = {"abstractmethod", "cache", "cached_property", "classmethod", "contextmanager", "dataclass", "dataclass_transform",
         "field", "final", "inference_mode", "lru_cache", "no_grad", "overload", "override", "property", "runtime_checkable",
         "staticmethod", "total_ordering", "wraps"}
PROPERTIES = {"property", "cached_property", "setter", "getter", "deleter", "patch_property"}
PATCHES = {"patch", "patch_to", "patch_property"}                   # fastcore's: a method that stands outside its class
HARMLESS = {"object", "ABC", "Generic", "NamedTuple", "Protocol"}   # bases that call no method of ours by its name
DUCK = {"close", "fileno", "flush", "get", "isatty", "items", "keys", "load_state_dict", "read", "readline", "state_dict",
        "step", "values", "write"}                                  # methods that code from elsewhere calls on any object
LOOKUPS = {"attrgetter", "delattr", "getattr", "globals", "hasattr", "methodcaller", "setattr", "vars", "__dict__"}
IMPORTERS = {"import_module", "__import__", "run_module"}
IDENTIFIER = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
SCRIPT = re.compile(r"[\w/-]+\.js")
NO_CODE = re.compile(r"""(\"{3}|'{3})(?:\\.|(?!\1).)*\1|(["'])(?:\\.|(?!\2)[^\\\n])*\2|#[^\n]*""", re.S)   # strings and comments


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def dotted(node: ast.AST) -> Chain:
    "The name of what is called, of a base or a decorator; '?' for what has no name."
    if isinstance(node, ast.Call): return dotted(node.func)
    if isinstance(node, ast.Subscript): return dotted(node.value)
    if isinstance(node, ast.Attribute): return (*dotted(node.value), node.attr)
    return (node.id,) if isinstance(node, ast.Name) else ("?",)


def absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    "The module that `from ... import` means inside `module`."
    if not node.level: return node.module or ""
    up = module.split(".")
    return ".".join([*up[:len(up) - node.level + is_package], *([node.module] if node.module else [])])


# ---- what a piece of code names

class Import(NamedTuple):
    "`from module import name as alias`; without `name` the module itself."
    alias: str
    module: str
    name: str | None


class Uses(ast.NodeVisitor):
    "Everything that some code names."

    def __init__(self, nodes: Iterable[ast.AST], module: "Module") -> None:
        self.module = module
        self.chains: set[Chain] = set()    # names, with the attributes behind them
        self.words: set[str] = set()       # what may be looked up on an object
        self.built: set[str] = set()       # patterns of words that are put together: f"on_{event}"
        self.modules: set[str] = set()     # strings that may be names of modules, or their beginnings
        self.scripts: set[str] = set()     # JavaScript that a string names
        self.imports: list[Import] = []
        self.stars: list[str] = []         # modules of `from module import *`
        self.runs: set[str] = set()        # modules that are imported
        self.idle: list[ast.stmt] = []     # what decides nothing: docstrings, and imports from the library, which are resolved
        for node in nodes: self.visit(node)
        if not self.words & LOOKUPS: self.built.clear()   # built for something else

    def visit_Name(self, node: ast.Name) -> None:
        self.chains.add((node.id,))
        if node.id in LOOKUPS | IMPORTERS: self.words.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts, value = [node.attr], node.value
        while isinstance(value, ast.Attribute): parts, value = [value.attr, *parts], value.value
        self.words.update(parts)
        if isinstance(value, ast.Name): self.chains.add((value.id, *parts))
        else: self.visit(value)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg: self.words.add(node.arg)
        self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(text := node.value, str): return
        if IDENTIFIER.fullmatch(text): self.words.update(text.split("."))
        if SCRIPT.fullmatch(text): self.scripts.add(text)
        if re.fullmatch(rf"(?:{self.module.package})?\.[\w.]*|{self.module.package}", text): self.modules.add(text)
        elif self.module.package in text and "import" in text: self._program(text)

    def _program(self, text: str) -> None:
        "Code for another process, perhaps."
        try: tree = ast.parse(text)
        except (SyntaxError, ValueError): return
        idle = len(self.idle)
        self.visit(tree)
        del self.idle[idle:]   # its lines are those of the string

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._build(node.values)
        for n in node.values: self.visit(n.value if isinstance(n, ast.FormattedValue) else n)   # a format names nothing

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Add): self._build([node.left, node.right])
        self.generic_visit(node)

    def _build(self, nodes: list[ast.expr]) -> None:
        parts = [n.value if isinstance(n, ast.Constant) else None for n in nodes]
        if all(isinstance(p, str | None) for p in parts) and re.fullmatch(r"\w+", "".join(filter(None, parts))):
            self.built.add("".join(r"\w*" if p is None else p for p in parts))

    def visit_Compare(self, node: ast.Compare) -> None:
        "`\"x\" in globals()` asks, and takes nothing."
        asks = isinstance(node.left, ast.Constant) and isinstance(node.ops[0], ast.In | ast.NotIn)
        if not (asks and dotted(node.comparators[0]) in (("globals",), ("sys", "modules"))): self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        "`sys.modules.get(\"x\")` takes a module by its name."
        known = dotted(node.func) == ("sys", "modules", "get") and all(isinstance(a, ast.Constant) for a in node.args)
        for n in node.args if known else ast.iter_child_nodes(node): self.visit(n)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        known = dotted(node.value) == ("sys", "modules") and isinstance(node.slice, ast.Constant)
        for n in [node.slice] if known else [node.value, node.slice]: self.visit(n)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant): self.idle.append(node)
        else: self.visit(node.value)

    def visit_Import(self, node: ast.Import) -> None:
        if all(self._is_ours(a.name) for a in node.names): self.idle.append(node)
        for a in node.names:
            self.runs.add(a.name)
            top = a.name.partition(".")[0]
            self.imports.append(Import(a.asname, a.name, None) if a.asname else Import(top, top, None))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = absolute(node, self.module.name, self.module.is_package)
        if self._is_ours(base): self.idle.append(node)
        self.runs |= {base, *(f"{base}.{a.name}" for a in node.names)}
        self.imports += [Import(a.asname or a.name, base, a.name) for a in node.names if a.name != "*"]
        self.stars += [base for a in node.names if a.name == "*"]

    def _is_ours(self, module: str) -> bool: return module.partition(".")[0] == self.module.package


# ---- a module in pieces

def decorators(node: ast.AST) -> list[Chain]:
    return [dotted(d) for d in getattr(node, "decorator_list", [])]


def head(node: ast.ClassDef) -> list[ast.AST]:
    "A class without its methods."
    return [*node.decorator_list, *node.bases, *node.keywords, *(n for n in node.body if not isinstance(n, Function))]


def made_of(node: ast.AST) -> list[ast.AST]:
    "What is evaluated when a definition is made, besides decorators."
    if isinstance(node, ast.ClassDef): return head(node)[len(node.decorator_list):]
    if isinstance(node, Function): return [*node.args.defaults, *filter(None, node.args.kw_defaults)]
    return [node]


def calls(node: ast.AST) -> Iterator[ast.Call]:
    "The calls that run when `node` is evaluated: a lambda runs if it is given to something, not if it is only kept."
    if isinstance(node, ast.Lambda): return
    if not isinstance(node, ast.Call):
        for n in ast.iter_child_nodes(node): yield from calls(n)
    elif dotted(node)[-1] not in PLAIN:
        yield node
        for n in [node.func, *node.args, *(k.value for k in node.keywords)]:
            yield from calls(n.body if isinstance(n, ast.Lambda) else n)


def stored(node: ast.stmt) -> set[str]:
    "The names that a statement binds."
    parts = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else \
        [] if isinstance(node, ast.Expr) else [node]
    found = [n for part in parts for n in ast.walk(part)]
    return {n.id for n in found if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} \
        | {n.name for n in found if isinstance(n, Function | ast.ClassDef)}


class Piece:
    "A part of a module that counts as a whole or not at all."

    def __init__(self, module: "Module", name: str) -> None:
        self.module, self.name = module, name
        self.nodes: list[ast.AST] = []            # several if the name is bound more than once
        self.methods: dict[str, Piece] = {}       # of a class
        self.is_table = False                     # of a package that imports on demand: see `Module.pairs`

    def __repr__(self) -> str: return f"{self.module.name}:{self.name}"

    @property
    def is_class(self) -> bool: return any(isinstance(n, ast.ClassDef) for n in self.nodes)

    @property
    def is_property(self) -> bool:
        patched = (k.arg for n in self.nodes for d in getattr(n, "decorator_list", []) for k in getattr(d, "keywords", []))
        return any(d[-1] in PROPERTIES for n in self.nodes for d in decorators(n)) or "as_prop" in patched

    @cached_property
    def uses(self) -> Uses:
        parts = chain.from_iterable(head(n) if isinstance(n, ast.ClassDef) else [n] for n in self.nodes)
        uses = Uses(parts, self.module)
        uses.words |= {c[0] for c in uses.chains} & self.methods.keys()   # `__repr__ = __str__`
        if self.is_table or self.name == "__getattr__": uses.words = uses.built = uses.modules = set()
        return uses

    @cached_property
    def lines(self) -> set[int]:
        "Line numbers, less those of methods."
        first = lambda n: min([n.lineno, *(d.lineno for d in getattr(n, "decorator_list", []))])
        own = set(chain.from_iterable(range(first(n), n.end_lineno + 1) for n in self.nodes))
        return own.difference(*(m.lines for m in self.methods.values()))

    @cached_property
    def text(self) -> str:
        "What it says, less comments, blank lines and what is idle."
        if self.is_table or not self.module.name: return ""   # the stamp has a hash of the cells
        lines = {n: self.module.lines[n - 1] for n in sorted(self.lines)}
        for node in self.uses.idle:
            for n in range(node.lineno, node.end_lineno + 1):
                start, stop = node.col_offset if n == node.lineno else 0, node.end_col_offset if n == node.end_lineno else None
                lines[n] = lines[n][:start] + (b"" if stop is None else b" "*(stop - start) + lines[n][stop:])
        inside = self.module.inside
        return b"\n".join(x if n in inside else x.rstrip() for n, x in lines.items() if n in inside or x.strip()).decode()

    @cached_property
    def digest(self) -> str: return digest(self.text)


class Module:
    "A module of the library, or the cells of a notebook."

    def __init__(self, name: str, source: str, package: str, is_package: bool = False) -> None:
        self.name, self.source, self.package, self.is_package = name, source, package, is_package
        self.tree = ast.parse(source)
        self.body = Piece(self, "<body>")
        self.pieces: dict[str, Piece] = {}
        self.patches: list[tuple[Piece, list[Chain]]] = []   # methods that stand outside, and their classes
        imports: list[ast.AST] = []
        typing: list[ast.AST] = []
        self._sort(self.tree.body, imports, typing)
        self.front_door = "__getattr__" in self.pieces
        if self.front_door:
            for c in self.pieces["__getattr__"].uses.chains:
                if p := self.pieces.get(c[0]): p.is_table = all(map(_is_table, p.nodes))
        runs = Uses(imports, self)
        self.runs, self.stars = runs.runs | self.body.uses.runs, runs.stars + self.body.uses.stars
        self.imports = runs.imports + self.body.uses.imports
        self.bound: dict[str, list[Import]] = defaultdict(list)
        for i in self.imports + Uses(typing, self).imports: self.bound[i.alias].append(i)   # the latter bind without running

    def _sort(self, nodes: list[ast.stmt], imports: list[ast.AST], typing: list[ast.AST]) -> None:
        for node in nodes:
            match node:
                case ast.Import() | ast.ImportFrom(): imports.append(node)
                case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                    typing += node.body
                    self._sort(node.orelse, imports, typing)
                case ast.If(test=ast.Compare(left=ast.Name("__name__"))): self._define("__main__", node)
                case ast.Expr(value=ast.Constant()) | ast.Pass(): pass
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef(): self._define(node.name, node)
                case ast.Assign() | ast.AnnAssign() if _is_constant(node):
                    for name in stored(node) - {"__all__", "__version__"}: self._define(name, node)
                case _:
                    self.body.nodes.append(node)
                    for name in stored(node): self.pieces.setdefault(name, self.body)

    def _define(self, name: str, node: ast.AST) -> None:
        patch = next((d for d in getattr(node, "decorator_list", []) if dotted(d)[-1] in PATCHES), None)
        if patch is not None:
            piece = Piece(self, name)
            self.patches.append((piece, _patched(patch, node)))
        else: piece = self.pieces.setdefault(name, Piece(self, name))
        piece.nodes.append(node)
        for n in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(n, Function): piece.methods.setdefault(n.name, Piece(self, f"{name}.{n.name}")).nodes.append(n)

    def all_pieces(self) -> Iterator[Piece]:
        for p in [self.body, *self.pieces.values(), *(p for p, _ in self.patches)]:
            yield p
            yield from p.methods.values()

    def digest(self, names: Iterable[str] = ()) -> str:
        "A hash of all that it does, or of these definitions."
        chosen = [p for p in self.all_pieces() if not names or p.name.partition(".")[0] in names]
        return digest("\0".join(sorted({p.text for p in chosen})))

    @cached_property
    def pairs(self) -> list[tuple[set[str], set[str]]]:
        "Pairs of strings, as in {\"GradCAM\": \"gradcam\"}: they may say which module offers which name."
        pairs = [pair for n in ast.walk(self.tree) if isinstance(n, ast.Dict) for pair in zip(n.keys, n.values, strict=True)]
        pairs += [n.elts for n in ast.walk(self.tree) if isinstance(n, ast.Tuple | ast.List) and len(n.elts) == 2]
        return [(_strings(a), _strings(b)) for a, b in pairs if a is not None]

    @cached_property
    def lines(self) -> list[bytes]:
        "The source by lines, less comments."
        return NO_CODE.sub(lambda m: "" if m[0][0] == "#" else m[0], self.source).encode().split(b"\n")

    @cached_property
    def inside(self) -> set[int]:
        "Numbers of the lines that end inside a string: there blanks are part of it."
        found = ((self.source.count("\n", 0, m.start()) + 1, m[0].count("\n")) for m in NO_CODE.finditer(self.source) if "\n" in m[0])
        return set(chain.from_iterable(range(first, first + more) for first, more in found))


def _is_constant(node: ast.Assign | ast.AnnAssign) -> bool:
    "Does it bind plain names, and no item or attribute of something?"
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return all(isinstance(n, ast.Name | ast.Tuple | ast.List | ast.Starred | ast.Store) for t in targets for n in ast.walk(t))


def _is_table(node: ast.AST) -> bool:
    "A constant whose literals are strings, more than one."
    constants = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
    return not isinstance(node, Function | ast.ClassDef) and len(constants) > 1 and all(isinstance(c, str) for c in constants)


def _strings(node: ast.AST) -> set[str]:
    texts = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return set(chain.from_iterable(re.split(r"[\s,:]+", t) for t in texts)) - {""}


def _patched(decorator: ast.expr, node: ast.AST) -> list[Chain]:
    "The classes that `@patch` (by the type of the first argument) or `@patch_to(A)` adds a method to."
    to = decorator.args[:1] if isinstance(decorator, ast.Call) and decorator.args else \
        [a.annotation for a in node.args.args[:1] if a.annotation]
    found = []
    for t in to:
        if isinstance(t, ast.Constant) and isinstance(t.value, str): t = ast.parse(t.value, mode="eval").body
        parts = ast.walk(t) if isinstance(t, ast.Tuple | ast.BinOp) else [t]   # (A, B), A | B
        found += [dotted(n) for n in parts if isinstance(n, ast.Name | ast.Attribute | ast.Subscript)]
    return found


# ---- the library

class Library:
    "All modules of a package, and what each name in them stands for."

    def __init__(self, package: str, modules: Iterable[Module]) -> None:
        self.package, self.modules = package, {m.name: m for m in modules}
        self.method_names = {n for m in self.modules.values() for p in m.pieces.values() for n in p.methods}
        self._found: dict[tuple[Module, str], set[Target]] = {}
        self._targets: dict[Piece, dict[Chain, set[Target]]] = {}
        self._marks: dict[Piece, str] = {}
        self._made: dict[Module, list[Piece]] = {}

    def find(self, module: Module, name: str) -> set[Target]:
        "What `name` stands for at the top of `module`; nothing for a builtin or a local variable."
        if (module, name) in self._found: return self._found[module, name]
        found = self._found[module, name] = set()
        if name in module.pieces: found.add(module.pieces[name])
        for i in module.bound.get(name, ()): found |= self.imported(i)
        for star in module.stars if not found else ():
            if star in self.modules: found |= self.find(self.modules[star], name)
        known = name in module.pieces or name in (i.alias for i in module.imports)
        asks = module.front_door and not known and not _is_dunder(name)
        if asks: found |= self._behind(module, name)
        if sub := self.modules.get(f"{module.name}.{name}"): found.add(sub)
        elif asks:
            found |= found or {m.pieces[name] for m in self.modules.values() if name in m.pieces}   # no table tells
            found.add(module.pieces["__getattr__"])
        return found

    def imported(self, i: Import) -> set[Target]:
        if i.module not in self.modules: return {f"{i.module}.{i.name}" if i.name else i.module}
        module = self.modules[i.module]
        return {module} if i.name is None else self.find(module, i.name) or {module}

    def _behind(self, module: Module, name: str) -> set[Target]:
        "What a package that imports on demand offers as `name`, by its tables of strings."
        found: set[Target] = set()
        for one, other in chain(module.pairs, (pair[::-1] for pair in module.pairs)):
            for text in other if name in one else ():
                if m := self.named(module, text):
                    for n in {name, *other}: found |= self.find(m, n)
                elif m := self.named(module, text.rpartition(".")[0]): found |= self.find(m, text.rpartition(".")[2])
        return found

    def named(self, module: Module, text: str) -> Module | None:
        "The module that a string names, absolutely or inside `module`."
        return self.modules.get(text) or (self.modules.get(f"{module.name}.{text.lstrip('.')}") if text.strip(".") else None)

    def resolve(self, module: Module, chain: Chain, local: Iterable[Import] = ()) -> set[Target]:
        "What a dotted name stands for, as far as modules and definitions go."
        found = set(self.find(module, chain[0])).union(*(self.imported(i) for i in local if i.alias == chain[0]))
        for name in chain[1:]:
            for m in [t for t in found if isinstance(t, Module)]:
                found.remove(m)
                if not _is_dunder(name): found |= self.find(m, name) or {m}
                elif name in ("__dict__", "__all__"): found.add(m)
        return found

    def targets(self, piece: Piece) -> dict[Chain, set[Target]]:
        if piece not in self._targets:
            uses = piece.uses
            found = {c: self.resolve(piece.module, c, uses.imports) for c in uses.chains}
            self._targets[piece] = {c: t for c, t in found.items() if t}
        return self._targets[piece]

    def mark(self, piece: Piece) -> str:
        "A hash of what the piece says, and of what the names in it stand for: wherever that is defined."
        if piece not in self._marks:
            label = lambda t: t.digest if isinstance(t, Piece) else t if isinstance(t, str) else ""
            names = sorted(f"{'.'.join(c)} {' '.join(sorted(map(label, ts)))}" for c, ts in self.targets(piece).items())
            self._marks[piece] = digest("\0".join([piece.text, *names]))
        return self._marks[piece]

    def bases(self, cls: Piece) -> tuple[set[Piece], bool]:
        "The bases of a class that are the library's; and has it others, which may call its methods?"
        ours, foreign = set(), False
        for base in (dotted(b) for n in cls.nodes if isinstance(n, ast.ClassDef) for b in n.bases):
            found = self.resolve(cls.module, base)
            classes = {t for t in found if isinstance(t, Piece) and t.is_class}
            ours |= classes - {cls}
            foreign |= base[-1] not in HARMLESS if not found else any(
                t.rpartition(".")[2] not in HARMLESS if isinstance(t, str) else t not in classes for t in found)
        return ours, foreign

    def ancestors(self, cls: Piece) -> set[Piece]:
        found, todo = set(), {cls}
        while todo:
            found |= todo
            todo = set().union(*(self.bases(c)[0] for c in todo)) - found
        return found

    def made(self, module: Module) -> list[Piece]:
        "Pieces that run when the module is imported, besides its body."
        if module not in self._made:
            found = [p for p in module.all_pieces() if p is not module.body and self._acts(p)]
            for p in (p for p in module.pieces.values() if p.is_class):
                hooks = [b.methods["__init_subclass__"] for b in self.ancestors(p) if b is not p and "__init_subclass__" in b.methods]
                found += hooks + [p]*any(map(_registers, hooks))
            self._made[module] = found
        return self._made[module]

    def _acts(self, piece: Piece) -> bool:
        "Does making this definition run code of the library, or register it somewhere?"
        if piece.name == "__main__": return False
        for node in piece.nodes:
            if any(d[-1] not in PLAIN | PROPERTIES | PATCHES for d in decorators(node)): return True
            if any(k.arg == "metaclass" and dotted(k.value)[-1] != "ABCMeta" for k in getattr(node, "keywords", [])): return True
            if any(self._runs(piece.module, c) for part in made_of(node) for c in calls(part)): return True
        return False

    def _runs(self, module: Module, call: ast.Call) -> bool:
        "May a call at import run code of the library, or do something besides giving a value?"
        name = dotted(call)
        found = self.resolve(module, name)
        if any(isinstance(t, str | Module) or _is_callable(t) for t in found): return True
        if len(name) > 1: return name[-1] in self.method_names   # a method of some object
        if found or not hasattr(builtins, name[0]): return True
        given = [a for a in [*call.args, *(k.value for k in call.keywords)] if isinstance(a, ast.Name | ast.Attribute)]
        return any(isinstance(t, Piece) and _is_callable(t) for a in given for t in self.resolve(module, dotted(a)))


def _is_callable(piece: Piece) -> bool:
    return any(isinstance(n, Function | ast.ClassDef) for n in piece.nodes)


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _registers(hook: Piece) -> bool:
    "Does this `__init_subclass__` put the new class somewhere, where it is found without being named?"
    for node in hook.nodes:
        cls = node.args.args[0].arg if node.args.args else ""
        is_cls = lambda n, cls=cls: isinstance(n, ast.Name) and n.id == cls
        for n in ast.walk(node):
            if isinstance(n, ast.Assign) and is_cls(n.value): return True
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and any(map(is_cls, n.args)): return True
    return False


@lru_cache(maxsize=1024)
def _module(name: str, source: str, package: str, is_package: bool) -> Module:
    return Module(name, source, package, is_package)


@lru_cache(maxsize=16)
def _library(package: str, files: tuple[tuple[str, str, bool], ...]) -> Library:
    return Library(package, [_module(name, source, package, is_package) for name, source, is_package in files])


def library(folder: Path) -> Library:
    "The library as its files are now."
    files = []
    for f in sorted(folder.rglob("*.py"), key=str):
        parts = (folder.name, *f.relative_to(folder).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        files.append((".".join(parts[:-1] if is_package else parts), f.read_text(encoding="utf-8"), is_package))
    return _library(folder.name, tuple(files))


# ---- from cells to all that they reach

class Reach:
    "The pieces that some code reaches, its own included, and the modules that it imports."

    def __init__(self, source: str, library: Library) -> None:
        self.library, self.cells = library, _module("", source, library.package, False)
        self.pieces: set[Piece] = set()
        self.modules: set[Module] = set()
        self._words: set[str] = set()
        self._built: set[str] = set()
        self._handed: set[Module] = set()                                 # modules that are used as values
        self._waiting: dict[str, list[Piece]] = defaultdict(list)         # methods whose name has not come up
        self._patches: dict[Piece, list[Piece]] = defaultdict(list)
        self._called: set[Piece] = set()                                  # classes whose methods are called from elsewhere
        self._todo: list[Piece] = []
        for p in self.cells.all_pieces(): self._take(p)
        while self._todo:
            while self._todo: self._follow(self._todo.pop())
            if "__subclasses__" in self._words: self._take_all(self._subclasses())

    def _take(self, target: Target) -> None:
        if isinstance(target, Module): self._hand_around(target)
        elif isinstance(target, Piece) and target not in self.pieces:
            self.pieces.add(target)
            self._todo.append(target)

    def _take_all(self, targets: Iterable[Target]) -> None:
        for t in targets: self._take(t)

    def _follow(self, piece: Piece) -> None:
        uses = piece.uses
        self._enter(piece.module)
        self._import(uses.runs, uses.imports)
        self._take_all(chain.from_iterable(self.library.targets(piece).values()))
        self._mention(uses)
        if piece.name != "__getattr__": self._take_all(self._by_string(piece))
        if piece.is_class: self._take_class(piece)

    def _enter(self, module: Module | None) -> None:
        "Import a module: the packages that it is in run too, and all that it imports."
        if module is None or module in self.modules: return
        self.modules.add(module)
        self._enter(self.library.modules.get(module.name.rpartition(".")[0]))
        self._import(module.runs, module.imports)
        for p in [module.body, *self.library.made(module)]: self._take(p)
        for patch, classes in module.patches:
            found = set().union(*(self.library.resolve(module, c) for c in classes))
            ours = {t for t in found if isinstance(t, Piece) and t.is_class}
            for cls in ours:
                self._patches[cls].append(patch)
                if cls in self.pieces: self._offer(cls, patch)
            if found != ours or not found: self._offer(None, patch)

    def _import(self, names: Iterable[str], imports: Iterable[Import]) -> None:
        for name in names: self._enter(self.library.modules.get(name))
        for i in imports:   # a package that imports on demand is asked at once
            if i.name and (door := self.library.modules.get(i.module)) and door.front_door:
                for t in self.library.imported(i):
                    if isinstance(t, Piece): self._enter(t.module)

    def _take_class(self, cls: Piece) -> None:
        if any(self.library.bases(c)[1] for c in self.library.ancestors(cls)): self._called.add(cls)
        for base in self.library.bases(cls)[0]:
            self._take(base)
            if cls in self._called and base not in self._called:   # a mixin beside a class from elsewhere
                self._called.add(base)
                self._todo.append(base)
        for method in [*cls.methods.values(), *self._patches[cls]]: self._offer(cls, method)

    def _offer(self, cls: Piece | None, method: Piece) -> None:
        "Take a method of a reached class now, or when its name comes up."
        name = method.name.rpartition(".")[2]
        by_python = (name.startswith("_") and name.endswith("_")) or method.is_property   # __len__, _repr_html_
        if by_python or cls in self._called or name in DUCK | self._words or any(re.fullmatch(b, name) for b in self._built):
            self._take(method)
        else: self._waiting[name].append(method)

    def _mention(self, uses: Uses) -> None:
        words, built = uses.words - self._words, uses.built - self._built
        self._words |= words
        self._built |= built
        words = words | {w for w in self._waiting if any(re.fullmatch(b, w) for b in built)}
        for w in words: self._take_all(self._waiting.pop(w, ()))
        for m in list(self._handed): self._look_up(m, words, built)

    def _hand_around(self, module: Module) -> None:
        if module in self._handed: return
        self._handed.add(module)
        self._enter(module)
        self._look_up(module, self._words, self._built)

    def _look_up(self, module: Module, words: Iterable[str], built: Iterable[str]) -> None:
        built = [n for n in module.pieces for b in built if re.fullmatch(b, n)]
        for name in {*words, *built}: self._take_all(self.library.find(module, name))

    def _by_string(self, piece: Piece) -> Iterator[Target]:
        "Modules that a piece may find by a string: the one that it is in, or those that it names."
        uses, package = piece.uses, self.library.package
        if any(c in (("globals",), ("eval",), ("exec",)) or c[:2] == ("sys", "modules") for c in uses.chains): yield piece.module
        for text in uses.modules:
            if text.startswith(package + "."):
                for m in self.library.modules.values():
                    if m.name.startswith(text): yield from (m, m.pieces.get("__main__", ""))
                parent, _, name = text.rpartition(".")
                if parent in self.library.modules: yield from self.library.find(self.library.modules[parent], name)
            elif uses.words & IMPORTERS:
                parent = piece.module.name if piece.module.is_package else piece.module.name.rpartition(".")[0]
                name = package if text == package else (parent or package) + text
                yield from (m for m in self.library.modules.values() if m.name == name or (text[-1] == "." and m.name.startswith(name)))

    def _subclasses(self) -> list[Piece]:
        classes = (p for m in self.modules for p in m.pieces.values() if p.is_class)
        return [c for c in classes if c not in self.pieces and self.library.bases(c)[0] & self.pieces]

    def scripts(self, folder: Path) -> set[Path]:
        "JavaScript that reached code names, with what that imports: it is saved with the moving figures."
        todo = {(folder/n).resolve() for p in self.pieces for n in p.uses.scripts}
        found: set[Path] = set()
        while todo:
            if not (path := todo.pop()).is_file() or path in found: continue
            found.add(path)
            todo |= {(path.parent/n).resolve() for n in re.findall(r'from "(\.[^"]+)"', path.read_text(encoding="utf-8"))}
        return found

    def digest(self, folder: Path) -> str:
        "One hash of all pieces and scripts, in whatever order and module they stand."
        marks = sorted({self.library.mark(p) for p in self.pieces})
        return digest("\0".join([*marks, *sorted(f"{s.name}\n{s.read_text(encoding='utf-8')}" for s in self.scripts(folder))]))
