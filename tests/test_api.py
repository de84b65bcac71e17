"""The API reference: every public name has an entry, says something, is typed, and is linked with the cell that builds it."""
import importlib
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import book_api
import chapters
import stamps
from sitefiles import SITE, links

ROOT = Path(__file__).resolve().parent.parent
HOMES = book_api.homes(ROOT)
CHAPTERS = book_api.chapters(ROOT)
MODULES = [f"cam_course.{c.module}" for c in CHAPTERS]


def members(module: str) -> Iterator[tuple[str, Any]]:
    "Public functions, classes and their public methods and properties that the module itself defines."
    m = importlib.import_module(module)
    for name in m.__all__:
        obj = getattr(m, name)
        if getattr(obj, "__module__", None) != module or not (inspect.isclass(obj) or inspect.isfunction(obj)): continue
        yield name, obj
        for key, value in vars(obj).items() if inspect.isclass(obj) else ():
            if key.startswith("_") and key not in ("__call__", "__init__"): continue
            plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            plain = plain.fget if isinstance(plain, property) else plain
            if isinstance(plain, types.FunctionType) and plain.__module__ == module: yield f"{name}.{key}", plain


def signature_faults(obj: Any) -> list[str]:
    "Parameters, and a result, without a type."
    s = inspect.signature(obj)
    bad = [p.name for p in s.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
    return bad + (["its result"] if s.return_annotation is s.empty and obj.__name__ != "__init__" else [])


def test_types_on_every_parameter_and_result():
    bad = {f"{module}.{name}": f for module in MODULES for name, obj in members(module)
           if inspect.isfunction(obj) and (f := signature_faults(obj))}
    assert not bad, bad


def text_of(module: str, name: str) -> str:
    "The docstring, its own or inherited; a property's getter is found on its class."
    obj: Any = importlib.import_module(module)
    for part in name.split("."): obj = inspect.getattr_static(obj, part) if inspect.isclass(obj) else getattr(obj, part)
    return inspect.getdoc(obj) or inherited(module, name) or ""


def inherited(module: str, name: str) -> str:
    owner, _, key = name.rpartition(".")
    if not owner: return ""
    bases = getattr(importlib.import_module(module), owner).__mro__[1:]
    return next((d for b in bases if key in vars(b) and (d := inspect.getdoc(vars(b)[key]))), "")


def says_nothing(name: str, text: str) -> bool:
    "Fewer than two words that are not the name again, or the text that a dataclass makes of its fields."
    words = set(re.findall(r"[a-z]+", text.lower())) - set(re.findall(r"[a-z]+", name.lower().replace("_", " ")))
    return len(words) < 2 or text.startswith(name + "(")


def test_docstrings_say_something():
    named = ((module, name) for module in MODULES for name, _ in members(module) if not name.endswith(("__init__", "__call__")))
    bad = [f"{module}.{name}: {text!r}" for module, name in named if says_nothing(name, text := text_of(module, name))]
    assert not bad, "\n".join(bad)


def test_a_bare_name_is_seen():
    "Without a type, without words, in the words of its name."
    def bare(x, y: int = 0): pass
    def typed(x: int) -> int: "Twice `x`, rounded."
    assert signature_faults(bare) == ["x", "its result"] and not signature_faults(typed)
    assert [t for t in ("", "Fit a line.", "Fit.", "fit_line(x: int)") if says_nothing("fit_line", t)] == ["", "Fit a line.", "Fit.",
                                                                                                            "fit_line(x: int)"]
    assert not says_nothing("fit_line", "Least squares through the points.")


def test_every_public_name_has_a_home():
    "Each name of each `__all__` is defined in an exported cell of the module's notebook, or comes from another module."
    for c in CHAPTERS:
        m = importlib.import_module(f"cam_course.{c.module}")
        own = {h.name for h in c.homes}
        elsewhere = {h.name for h in HOMES.values()} - own
        assert set(m.__all__) <= own | elsewhere, (c.module, set(m.__all__) - own - elsewhere)
    every = {f.stem for f in (ROOT/"cam_course").rglob("*.py")} - {"__init__", "_modidx"}
    assert {c.module.rpartition(".")[2] for c in CHAPTERS} == every


def test_sections_are_headings_of_the_chapter():
    for c in CHAPTERS:
        text = "\n".join(x["source"] for x in stamps.load(chapters.chapter(c.module.rpartition(".")[2]))["cells"])
        heads = {book_api._plain_heading(h) for h in re.findall(r"(?m)^#{1,4}\s+(.+?)\s*#*$", text)}
        assert {h.section for h in c.homes} <= heads, c.stem


# ---- the pages

def page_of(c: book_api.Chapter) -> Path:
    return SITE/"book"/"api"/f"{book_api.slug(c.part)}.html"


def test_every_public_name_has_an_entry():
    assert (SITE/"index.html").exists(), "there is no site: run `make book` first"
    names = set(book_api.symbols("cam_course", ROOT).values()) | set(HOMES)
    ids = {i.removeprefix("module-") for p in {page_of(c) for c in CHAPTERS} for i in links(p).ids}
    assert names and not names - ids, sorted(names - ids)


def test_entries_and_cells_are_linked_both_ways():
    "From the entry to the cell's anchor in the chapter, and from the cell to the entry."
    bad = []
    for c in CHAPTERS:
        up = "../"*(c.stem.count("/") + 1)
        api, chapter = page_of(c), chapters.page(c.module.rpartition(".")[2], SITE)
        there, back = links(api), links(chapter)
        for h in c.homes:
            if f"../../{chapter.relative_to(SITE).as_posix()}#{h.anchor}" not in there.hrefs:
                bad.append(f"the entry of {h.full} does not lead to its cell")
            if h.anchor not in back.ids: bad.append(f"{chapter.name} has no anchor {h.anchor}")
            if f"{up}book/api/{api.name}#{h.full}" not in back.hrefs: bad.append(f"the cell of {h.full} does not lead to its entry")
            if h.full not in there.ids: bad.append(f"{api.name} has no entry {h.full}")
    assert not bad, "\n".join(bad)


def test_each_part_of_the_house_has_its_page():
    parts = dict.fromkeys(c.part for c in CHAPTERS)
    assert "" not in parts, [c.stem for c in CHAPTERS if not c.part]
    made = {p.stem for p in (ROOT/"book"/"api").glob("*.md")}
    assert made == {book_api.slug(p) for p in parts}
