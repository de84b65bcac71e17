"Stamps: what makes outputs stale, and which definitions of the library a notebook reaches (small made-up libraries)."
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import execute
import pytest
import reach
import stamps
import watch

ROOT = stamps.ROOT


def package(folder: Path, **files: str) -> Path:
    "A library `lib`; `sub__a` stands for the file sub/a.py."
    root = folder/"lib"
    for name, text in {"__init__": "", **files}.items():
        path = root/(name.replace("__", "/") + ".py" if not name.startswith("__") else "__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if not (path.parent/"__init__.py").exists(): (path.parent/"__init__.py").write_text("")
    return root


@pytest.fixture
def names(tmp_path) -> Callable[..., set[str]]:
    "What `code` reaches in the library of the `files`: names of definitions, less the module's."
    def told(code: str, **files: str) -> set[str]:
        found = stamps.reached([code], package(tmp_path, **files)).pieces
        return {p.name for p in found if p.module.name and p.name != "<body>"}
    return told


# ---- what a name stands for

A = "def f(): return g()\ndef g(): return K\ndef other(): pass\nK = 1\nL = 2\n"


@pytest.mark.parametrize("code", [
    "from lib.a import f", "from lib.a import f as h\nh()", "import lib.a\nlib.a.f()", "import lib.a as z\nz.f()",
    "from lib import a\na.f()",
    "def late():\n    from lib.a import f\n    return f()", "from lib.a import *\nf()", "import lib\nimport lib.a\nx = [lib.a.f]",
    "import lib.a\nm = lib.a\nm.f()", "import lib.a\ngetattr(lib.a, 'f')()", "import importlib\nimportlib.import_module('lib.a').f()",
    "import importlib\nn = 'a'\nimportlib.import_module(f'lib.{n}').f()",
    "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'from lib.a import f; f()'])"])
def test_names_are_followed_through_imports(names, code):
    used = code + ("\nf" if code.endswith("import f") else "")
    assert names(used, a=A) == {"f", "g", "K"}


def test_relative_imports_and_names_offered_again(names):
    files = {"a": A, "b": "from .a import f as again",
             "sub__c": "from ..b import again\nfrom . import d\ndef h(): return again(), d.e()",
             "sub__d": "def e(): pass\ndef unused(): pass"}
    assert names("from lib.sub.c import h\nh()", **files) == {"h", "f", "g", "K", "e"}


LAZY = {"table": """
import importlib
_WHERE = {"f": "a", "C": "b"}
__all__ = list(_WHERE)
def __getattr__(name):
    if name not in _WHERE: raise AttributeError(name)
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
""", "names by module": """
from importlib import import_module
_OFFERS = {"a": ("f", "other"), "b": "C D"}
def __getattr__(name):
    for module, names in _OFFERS.items():
        if name in names: return getattr(import_module("." + module, __name__), name)
""", "tuples": """
import importlib
_TABLE = (("f", "lib.a"), ("C", "lib.b:C"))
def __getattr__(name): return getattr(importlib.import_module(dict(_TABLE)[name]), name)
""", "comprehension": """
import importlib
_MODULE = {n: m for m, ns in {"a": "f other", "b": "C"}.items() for n in ns.split()}
def __getattr__(name): return globals().setdefault(name, getattr(importlib.import_module("lib." + _MODULE[name]), name))
""", "type checking": """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from .a import f, other
    from .b import C
def __getattr__(name): return _somehow(name)
def _somehow(name): ...
""", "no table at all": "def __getattr__(name): return look_up(name)"}


@pytest.mark.parametrize("how", LAZY)
@pytest.mark.parametrize("code", ["from lib import f, C\nf()\nC().m()", "import lib as l\nl.f()\nl.C().m()"])
def test_a_package_that_imports_on_demand(names, how, code):
    files = {"__init__": LAZY[how], "a": A, "b": "class C:\n    def m(self): pass\n    def n(self): pass\nD = 1"}
    found = names(code, **files)
    assert {"f", "g", "K", "C", "C.m", "__getattr__"} <= found and not found & {"other", "L", "C.n", "D"}


def test_a_front_door_imports_when_it_is_asked(names):
    files = {"__init__": LAZY["table"], "a": "def set_up(): pass\nset_up()\n" + A, "b": "class C: pass"}
    assert names("from lib import f", **files) == {"set_up"}
    assert names("from lib import C", **files) == names("import lib", **files) == set()


def test_a_new_name_at_the_front_door_changes_nothing(tmp_path):
    def hashed(table: str) -> str:
        init = f"from importlib import import_module\n_WHERE = {table}\n" \
               "def __getattr__(n): return getattr(import_module('.' + _WHERE[n], 'lib'), n)"
        return stamps.library_hash(notebook("from lib import f\nf()"), package(tmp_path, __init__=init, a=A, b="def f(): pass\nx = 1"))
    assert hashed("{'f': 'a', 'L': 'a'}") == hashed("{'f': 'a', 'L': 'a', 'x': 'b'}") != hashed("{'f': 'b', 'L': 'a'}")


def test_registries(names):
    by_function = "def one(): pass\ndef two(): pass\nALL = {'1': one, '2': two}\nOTHER = {'3': three}\ndef three(): pass\n" \
                  "def pick(k): return ALL[k]()"
    assert names("from lib.a import pick\npick('1')", a=by_function) == {"pick", "ALL", "one", "two"}
    by_name = "NAMES = ('one', 'two')\ndef one(): pass\ndef two(): pass\ndef three(): pass\ndef pick(k): return globals()[NAMES[k]]()"
    assert names("from lib.a import pick\npick(1)", a=by_name) == {"pick", "NAMES", "one", "two"}
    of_itself = by_name.replace("globals()[NAMES[k]]", "getattr(sys.modules[__name__], NAMES[k])")
    assert names("from lib.a import pick\npick(1)", a="import sys\n" + of_itself) == {"pick", "NAMES", "one", "two"}


def test_defaults_decorators_bases_and_class_attributes(names):
    a = "def deco(x): return x\ndef value(): pass\nSIZE = 3\nKIND = 4\ndef unused(): pass\n" \
        "class Base:\n    size = SIZE\n    def m(self): return KIND\n    def n(self): pass\n" \
        "class C(Base):\n    pass\ndef f(x=SIZE): pass\ndef g(x=value()): pass\n@deco\ndef h(): pass"
    assert names("from lib.a import C\nC().m()", a=a) >= {"C", "Base", "SIZE", "Base.m", "KIND"}
    assert "Base.n" not in names("from lib.a import C\nC().m()", a=a)
    assert names("from lib.a import f\nf()", a=a) >= {"f", "SIZE"}
    # what runs at import counts for all that import the module: the default of `g`, the decorator of `h`
    assert names("import lib.a", a=a) == {"g", "value", "h", "deco"}


# ---- methods

METHODS = """
class C:
    "Doc."
    def __init__(self): self.x = 1
    @property
    def p(self): return helper()
    @classmethod
    def made(cls): return cls()
    def m(self): return 1
    def on_end(self): return 2
    def _repr_html_(self): return ""
    def state_dict(self): return {}
    def n(self): return 3
def helper(): pass
def maker(): return C()
def unknown(x): return x.m()
"""
ALWAYS = {"C", "C.__init__", "C.p", "C._repr_html_", "C.state_dict", "helper"}


@pytest.mark.parametrize(("code", "more"), [
    ("from lib.a import C\nC()", set()),
    ("from lib.a import maker\nmaker().m()", {"maker", "C.m"}),
    ("from lib.a import maker, unknown\nunknown(maker())", {"maker", "unknown", "C.m"}),
    ("from lib.a import C\nC.made()", {"C.made"}),
    ("from lib.a import C\nfor n in ('m', 'n'): getattr(C(), n)()", {"C.m", "C.n"}),
    ("from lib.a import C\nhasattr(C(), 'm')", {"C.m"}),
    ("from lib.a import C\ngetattr(C(), f'on_{1}')", {"C.on_end"}),
    ("from lib.a import C\ngetattr(C(), 'on_' + 'end')", {"C.on_end"}),
    ("from lib.a import C\nC()\ndict(m=1)", {"C.m"}),
    ("from lib.a import C\nclass D(C): pass", set()),
    ("from lib.a import C\nfrom torch import nn\nclass D(C, nn.Module): pass", {"C.made", "C.m", "C.on_end", "C.n"})])
def test_methods_count_when_their_names_come_up(names, code, more):
    assert names(code, a=METHODS) == ALWAYS | more


def test_a_class_from_elsewhere_may_call_every_method(names):
    a = "from torch import nn\nfrom abc import ABC\n" \
        "class M(nn.Module):\n    def forward(self, x): return step(x)\ndef step(x): return x\n" \
        "class L(list):\n    def sort(self): pass\nclass N(M):\n    def extra_repr(self): pass\nclass P(ABC):\n    def free(self): pass"
    assert names("from lib.a import M\nM()", a=a) == {"M", "M.forward", "step"}
    assert names("from lib.a import L, N, P\nL(), N(), P()", a=a) == {"M", "M.forward", "step", "L", "L.sort", "N", "N.extra_repr", "P"}


@pytest.mark.parametrize("patch", ["@patch\ndef added(self: C, x): return extra()", "@patch\ndef added(self: C | int): return extra()",
                                   "@patch_to(C)\ndef added(self): return extra()", "@patch\ndef added(self: 'C'): return extra()"])
def test_a_patched_method_counts_like_one_of_the_class(names, patch):
    imports = "from fastcore.basics import patch, patch_to\nfrom .a import C\n"
    files = {"a": "class C:\n    pass", "b": f"{imports}def extra(): pass\n{patch}"}
    assert names("from lib.a import C\nimport lib.b\nC().added()", **files) == {"C", "added", "extra"}
    assert names("from lib.a import C\nimport lib.b\nC()", **files) == {"C"}
    assert names("from lib.a import C\nC().added()", **files) == {"C"}   # nobody imports b
    assert names("import lib.b\nx.added()", **files) == set()   # nobody reaches C


def test_a_patched_property_or_dunder_counts_with_the_class(names):
    a = "from fastcore.basics import patch\nclass C:\n    pass\n" \
        "@patch(as_prop=True)\ndef p(self: C): pass\n@patch\ndef __len__(self: C): pass"
    assert names("from lib.a import C\nC()", a=a) == {"C", "p", "__len__"}


def test_classes_found_through_their_base(names):
    hooked = "class Base:\n    found = []\n    def __init_subclass__(cls): cls.found.append(cls)\n" \
             "class A(Base):\n    x = 1\ndef f(): return Base.found"
    assert names("from lib.a import f\nf()", a=hooked) >= {"f", "Base", "A"}
    asked = "class Base:\n    pass\nclass A(Base):\n    x = 1\nclass B(A):\n    y = 1\ndef f(): return Base.__subclasses__()"
    assert names("from lib.a import f\nf()", a=asked) == {"f", "Base", "A", "B"}


# ---- what runs at import

def test_what_runs_at_import_counts_for_every_module_imported(names):
    files = {"a": "def set_up(): pass\nset_up()\ndef unused(): pass", "b": "from . import a\nfrom .a import unused\ndef f(): pass",
             "c": "import re\n"
                  "DONE = {}\ndef f(): pass\nDONE['f'] = f\nCONSTANT = re.compile('x')\nPLAIN = (1, 2)\nSAME = sorted(PLAIN)"}
    assert names("import lib.b", **files) == {"set_up"}
    assert names("import lib.c", **files) >= {"DONE", "f"}
    assert "PLAIN" not in names("import lib.c", **files)


def test_a_program_of_its_own_is_not_run_by_an_import(names):
    a = "def main(): pass\nif __name__ == '__main__': main()"
    assert names("import lib.a", a=a) == set()
    assert "main" in names("import subprocess\nsubprocess.run(['python', '-m', 'lib.a'])", a=a)


# ---- the hash

def notebook(source: str) -> dict:
    cell = {"cell_type": "code", "id": "c", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}


CODE = 'def f():\n    return g() + len("""a\n\n  b""")\n\n\ndef g():\n    return 1\n\n\ndef h():\n    return 2\n'
SAME = ["# % cell\n" + CODE, '"Of the module."\n' + CODE, CODE.replace("f():\n", 'f():\n    "Doc."\n', 1),
        CODE.replace("():\n", "():  # x '\"\n"),
        CODE.replace("\n\n\n", "\n"), "__all__ = ['f']\n__version__ = '9'\n" + CODE, CODE.replace("return 2", "return 3"),
        "def g():\n    return 1\ndef f():\n    return g() + len(\"\"\"a\n\n  b\"\"\")\n", "import os\n" + CODE, CODE + "X = 1\n",
        CODE.replace("def f():\n", "def f():\n    from lib.b import y\n", 1)]
OTHER = [CODE.replace("return 1", "return 3"), CODE.replace("g() +", "g() -"),
         CODE.replace("a\n\n", "a\n"), CODE.replace("a\n\n", "a \n\n"),
         CODE + "print(h())\n", CODE.replace("def g", "@cache\ndef g")]


def test_the_hash_is_of_what_the_definitions_do(tmp_path):
    def hashed(a: str, **files: str) -> str:
        shutil.rmtree(tmp_path/"lib", ignore_errors=True)
        return stamps.library_hash(notebook("from lib.a import f\nprint(f())"), package(tmp_path, a=a, b="y = 1\n", **files))
    first = hashed(CODE)
    assert [c for c in SAME if hashed(c) != first] == []
    assert [c for c in OTHER if hashed(c) == first] == []
    f, g = CODE.split("\n\n\ndef g")
    moved = hashed("from .d import *\nfrom .c import g\n" + f, c="def g" + g, d="")
    assert moved == first   # where a definition stands does not matter, ...
    one, two = "def g():\n    return 1\n", "def g():\n    return 2\n"
    use = f.replace("g()", "g() + k()") + "\nfrom .{} import g\nfrom .{} import g as k\n"
    assert hashed(use.format("c", "d"), c=one, d=two) != hashed(use.format("c", "d"), c=two, d=one)   # ... but which one is meant
    assert hashed("import math as m\ndef f(): return m.pi") != hashed("import cmath as m\ndef f(): return m.pi")


def test_scripts_that_reached_code_names_count(tmp_path):
    root = package(tmp_path, a="class F:\n    js = 'fig/one.js'\nclass G:\n    js = 'fig/two.js'\n")
    (root/"js"/"fig").mkdir(parents=True)
    for name, text in (("one", 'import {x} from "./base.js";\n'), ("two", ""), ("base", "")):
        (root/"js"/"fig"/f"{name}.js").write_text(text)
    nb = notebook("from lib.a import F\nF()")
    before = stamps.library_hash(nb, root)
    (root/"js"/"fig"/"two.js").write_text("// changed")
    assert stamps.library_hash(nb, root) == before
    (root/"js"/"fig"/"base.js").write_text("// changed")
    assert stamps.library_hash(nb, root) != before


def test_a_stale_stamp_fails(tmp_path):
    "A changed cell, a changed definition and a missing stamp are each noticed; a changed comment is not."
    root = package(tmp_path, a="x = 1\n", b="def f():\n    from .a import x\n    return x\n")
    nb = notebook("from lib.b import f  # why\nprint(f())")
    nb["metadata"]["cam_course"] = {"code_hash": stamps.code_hash(nb), "library_hash": stamps.library_hash(nb, root)}
    path = tmp_path/"50_x.ipynb"

    def problem(**change):
        path.write_text(json.dumps({**nb, "cells": [{**nb["cells"][0], **change}]}))
        found = stamps.check(path, root)
        return found and found[0]

    assert problem() is None
    assert problem(source="from lib.b import f  # another reason\n\nprint(f())") is None
    assert problem(source="from lib.b import f\nprint(f() + 1)") == "code"
    (root/"a.py").write_text("x = 2\n")   # which the notebook reaches through b, inside a function
    assert problem() == "library"
    del nb["metadata"]["cam_course"]
    assert problem() == "unstamped"


# ---- this library

def test_a_line_of_core_makes_stale_what_reaches_it(tmp_path):
    """`core.write_text` writes runs, reports and the notes of caches: notebooks that touch none of these stay fresh. A
    docstring and a comment make none stale."""
    copy = tmp_path/"cam_course"
    shutil.copytree(ROOT/"cam_course", copy, ignore=shutil.ignore_patterns("__pycache__"))
    books = {p.stem: stamps.load(p) for p in stamps.notebooks()}
    text = (copy/"base/core.py").read_text(encoding="utf-8")

    def changed(old: str, new: str) -> set[str]:
        assert text.count(old) == 1
        (copy/"base/core.py").write_text(text.replace(old, new), encoding="utf-8")
        return {stem for stem, nb in books.items() if stamps.library_hash(nb, copy) != before[stem]}

    before = {stem: stamps.library_hash(nb, copy) for stem, nb in books.items()}
    line = "        file.write(text)\n"
    found = changed(line, line + "        file.flush()\n")
    assert {"13_training", "main", "01_start"} <= found and len(found) < 0.6*len(books)
    assert not found & {"core", "02_averages", "05_optimizers", "12_resnet", "20_lr_finder", "25_landscape", "rendering"}
    assert changed('"Write `text` (UTF-8) to `path`, atomically."', '"Writes."') == set()
    assert changed(line, line.rstrip() + "  # at once\n") == set()


# ---- which functions run

def test_functions_that_run_are_noted(tmp_path, monkeypatch):
    source = '@staticmethod\ndef f(x):\n    "Doc."\n    return [g(y) for y in x]\ndef g(y): return (lambda: y)()\ndef h(): pass\n' \
             "class C:\n    def m(self): yield 1\n    async def n(self): pass\n"
    tree = watch.ast.fix_missing_locations(watch._Notes("lib.a").visit(watch.ast.parse(source)))
    space = {watch.NOTE: set()}
    exec(compile(tree, "a.py", "exec"), space)
    assert space["f"]([1, 2]) == [1, 2] and space["f"].__doc__ == "Doc." and list(space["C"]().m()) == [1]
    assert space[watch.NOTE] == {("lib.a", 2), ("lib.a", 5), ("lib.a", 8)}


def test_a_function_that_the_hash_misses_is_named(tmp_path):
    root = package(tmp_path, a=A)
    assert stamps.missed(["from lib.a import f\nf()"], [("lib.a", 1), ("lib.a", 2)], root) == []
    assert stamps.missed(["from lib.a import f\nf()"], [("lib.a", 3)], root) == ["lib.a:other"]


def test_a_watched_run_tells_what_ran(tmp_path, monkeypatch):
    "In the kernel, in a thread, too."
    cell = "import threading\nfrom cam_course.base.core import check_number, check_choice\n" \
           "t = threading.Thread(target=check_number, args=('x', 1))\nt.start()\nt.join()"
    path = tmp_path/"50_x.ipynb"
    path.write_text(json.dumps(notebook(cell)))
    monkeypatch.setattr(stamps, "missed", lambda sources, ran: list(ran))
    ran = [tuple(r) for r in execute.execute(path, smoke=True, watch=True).metadata[stamps.KEY]["missed"]]
    core = reach.library(ROOT/"cam_course").modules["cam_course.base.core"]
    assert [m for m, _ in ran] == ["cam_course.base.core"] and ran[0][1] in core.pieces["check_number"].lines


# ---- the age of kept results

def test_kept_results_tell_what_has_changed_since(tmp_path):
    (tmp_path/"tests").mkdir()
    (tmp_path/"build").mkdir()   # a folder that is called like a module
    lib = tmp_path/"cam_course"
    package(tmp_path, a="def f():\n    return 1\ndef g(): return 2\n", build="x = 1\n").rename(lib)
    (tmp_path/"tests"/"test_a.py").write_text("def test_f(): pass\n")
    told = stamps.code_of(["a:f,g", "build", "tests/test_a.py", "tests", "gone"], tmp_path)
    assert list(told) == ["a:f", "a:g", "build", "tests/test_a.py", "tests", "gone"]
    assert all(told[n] for n in told if n != "gone") and told["gone"] == "" and stamps.changed_since(told, tmp_path) == []
    (lib/"a.py").write_text('def f():\n    "Doc."\n    return 1   # one\ndef g(): return 3\n')
    (tmp_path/"build"/"site.html").touch()
    (tmp_path/"tests"/"test_a.py").write_text("def test_f(): f()\n")
    assert stamps.changed_since(told, tmp_path) == ["a.g", "tests/test_a.py", "tests"]
    (lib/"a.py").write_text("def f():\n    return 1\n")
    assert "a.g" in stamps.changed_since(told, tmp_path)
    assert stamps.modules_behind("from cam_course.a import f", tmp_path) == ["a"]
