"""The API reference: a page for each part of the book, docments comments, links from names to entries, from entries to
the section of the chapter that builds them, and from exported cells back to their entries."""
import ast
import os
import re
import runpy
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path

import book_marks
import stamps
from docutils import nodes
from fastcore.docments import docments
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

MARK = re.compile(r"<!-- library-api(?:: (?P<part>[\w ]+))? -->")


def public_names(file: Path) -> set[str]:
    "`__all__` of a module, read without importing it."
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def symbols(package: str, root: Path) -> dict[str, str]:
    """Public name ('Trainer', 'Trainer.fit', 'cam_course.app.trainer') -> full name, from nbdev's index; a name that two
    modules share is left out."""
    index = runpy.run_path(str(root/package/"_modidx.py"))["d"]["syms"]
    names: dict[str, str] = {}
    twice: set[str] = set()
    for module, syms in index.items():
        names[module] = module
        public = public_names(root.joinpath(*module.split(".")).with_suffix(".py"))
        for full in syms:
            short = full.removeprefix(module + ".")
            if short.split(".")[0] not in public or any(p.startswith("_") for p in short.split(".")): continue
            if short in names: twice.add(short)
            names[short] = names[full] = full
    return {k: v for k, v in names.items() if k not in twice}


@dataclass(frozen=True)
class Home:
    "Where a public name is built."
    name: str       # "PhaseDiagram"
    full: str       # "cam_course.momentum.PhaseDiagram"
    stem: str       # the notebook: "04_momentum", "base/core"
    section: str    # the heading above its cell, without marks
    anchor: str     # id of the cell on the chapter's page


@dataclass(frozen=True)
class Chapter:
    "A notebook that makes a module."
    module: str     # "momentum", "models.resnet"
    stem: str
    title: str
    hook: str       # its first paragraph
    part: str       # caption in _toc.yml
    homes: tuple[Home, ...]


def defined(source: str) -> list[str]:
    "Names that a cell defines at its top level."
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef): found.append(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        found += [t.id for target in targets for t in ast.walk(target) if isinstance(t, ast.Name)]
    return found


def anchor_of(full: str) -> str:
    return "built-" + re.sub(r"\W+", "-", full).lower().replace("_", "-") + ("-class" if full.split(".")[-1][:1].isupper() else "")


def _plain_heading(text: str) -> str:
    text = re.sub(r"<!--.*?-->|\[@[^\]]*\]", "", text)
    return re.sub(r"[`*$\\{}]", "", text).strip()


@cache
def chapters(root: Path, package: str = "cam_course") -> tuple[Chapter, ...]:
    "Every notebook that exports, in reading order, with the homes of its public names."
    parts, found = parts_of(root), []
    for path in stamps.notebooks(root/"nbs"):
        nb = stamps.load(path)
        if not (module := stamps.default_exp(nb)) or module == "__init__": continue   # that offers the names of others
        public = public_names(root.joinpath(package, *module.split(".")).with_suffix(".py"))
        section, homes = title_of(nb), {}
        for c in nb["cells"]:
            if c["cell_type"] == "markdown":
                outside = re.sub(r"(?ms)^```.*?^```|<details>.*?</details>", "", c["source"])
                if heads := re.findall(r"(?m)^#{1,4}\s+(.+?)\s*#*$", outside): section = _plain_heading(heads[-1])
            elif re.match(r"\s*#\s*\|\s*exports?\b", c["source"]):
                for name in defined(c["source"]):
                    full = f"{package}.{module}.{name}"
                    if name in public: homes.setdefault(name, Home(name, full, stamps.name(path), section, anchor_of(full)))
        here = stamps.name(path)
        found.append(Chapter(module, here, _plain_heading(title_of(nb)), hook_of(nb, path), parts.get(here, ""), tuple(homes.values())))
    return tuple(found)


def parts_of(root: Path) -> dict[str, str]:
    "Notebook (see `stamps.name`) -> the caption of its part in _toc.yml."
    import yaml
    tree = yaml.safe_load((root/"book"/"_toc.yml").read_text(encoding="utf-8"))

    def files(node) -> list[str]:
        if isinstance(node, list): return [f for n in node for f in files(n)]
        if not isinstance(node, dict): return []
        return ([node["file"]] if "file" in node else []) + [f for v in node.values() for f in files(v)]
    return {f.removeprefix("nbs/"): p["caption"] for p in tree["parts"] for f in files(p)}


def homes(root: Path, package: str = "cam_course") -> dict[str, Home]:
    "Full name -> where it is built, for every public name that a notebook defines."
    return {h.full: h for c in chapters(root, package) for h in c.homes}


def title_of(nb: dict) -> str:
    for c in nb["cells"]:
        if c["cell_type"] == "markdown" and (m := re.search(r"(?m)^#\s+(.+?)\s*$", c["source"])): return m[1]
    return "Untitled"


def hook_of(nb: dict, path: Path) -> str:
    "The paragraph under the title; its links lead from the root."
    from_root = lambda m: f"](/{os.path.normpath(Path('nbs', stamps.name(path)).parent/m[1])}"
    for c in nb["cells"]:
        if c["cell_type"] == "markdown" and (m := re.search(r"(?ms)^#\s+.+?$\s+(.*)", c["source"])):
            paragraphs = [p for p in re.split(r"\n\s*\n", m[1]) if p.strip() and not re.match(r"\s*(?:[-*#|<!]|\d+\.)", p)]
            text = re.sub(r"<!--.*?-->", "", paragraphs[0]).strip() if paragraphs else ""
            return re.sub(r"\]\(([\w./-]+\.ipynb)", from_root, book_marks.citations(text))
    return ""


def slug(part: str) -> str:
    return part.lower().replace(" ", "_")


def overview(package: str, root: Path) -> str:
    "All names at a glance: a table for each part."
    out = []
    found = chapters(root, package)
    for part in dict.fromkeys(c.part for c in found):
        out.append(f"## [{part}](/book/api/{slug(part)}.md)\n")
        rows = ["| module | holds |", "|---|---|"]
        for c in (c for c in found if c.part == part):
            names = [f"{{py:obj}}`{h.name} <{h.full}>`" for h in c.homes]
            rows.append(f"| {{ref}}`{c.module} <api-{c.module}>` | {' · '.join(names)} |")
        out.append("\n".join(rows) + "\n")
    return "\n".join(out)


def constants(c: Chapter, package: str) -> str:
    "Entries for the public values of a module: autodoc has none for what carries no docstring."
    import importlib
    import inspect
    module, out = importlib.import_module(f"{package}.{c.module}"), []
    for h in c.homes:
        value = getattr(module, h.name)
        shown = inspect.isclass(value) or inspect.isfunction(value) or hasattr(value, "__wrapped__")   # the last: cached ones
        if shown and value.__module__ == module.__name__: continue
        text = f"{{{', '.join(map(repr, value))}}}" if isinstance(value, dict) else repr(value)
        text = " ".join(text.replace(str(Path(str(module.__file__)).parent), package).split())
        text = text if len(text) < 200 and " at 0x" not in text else type(value).__name__
        section = h.section.replace("<", "\\<")
        out.append(f".. py:data:: {h.name}\n   :module: {module.__name__}\n   :value: {text}\n\n"
                   f"   :Built in: :ref:`{section} <{h.anchor}>`\n")
    return "\n".join(out)


def expand(app, docname: str, source: list[str]) -> None:
    "Replace the mark on an API page by the list of all names, or by one section for each module of a part."
    if not (m := MARK.search(source[0])): return
    package, root = app.config.nbdev_package, Path(app.srcdir)
    app.env.note_dependency(str(root/"book"/"_toc.yml"))
    if not m["part"]:
        source[0] = source[0].replace(m[0], overview(package, root))
        return
    out = []
    for c in chapters(root, package):
        if c.part != m["part"]: continue
        out.append(f"(api-{c.module})=\n## {package}.{c.module}\n\n*Built in the chapter [{c.title}](/nbs/{c.stem}.ipynb).* "
                   f"{c.hook}\n\n```{{eval-rst}}\n.. automodule:: {package}.{c.module}\n"
                   f"   :members:\n   :undoc-members:\n   :member-order: bysource\n\n{constants(c, package)}\n```\n")
    if not out: raise ValueError(f"{docname}: no module is made in the part {m['part']!r} of _toc.yml")
    source[0] = source[0].replace(m[0], "\n".join(out))


_code = re.compile(r"(``.+?``|:[\w:]+:`.+?`|(?<!`)`[^`]+`(?!`)"
                   r"|(?<![\\$\w])\$(?![\s$])[^$\n]+?(?<!\s)\$(?![\w$]))", re.S)
_emphasis = re.compile(r"((?<![\w*|)\\])\*{1,2}(?=[^\s*])[^*\n]+?(?<=\S)\*{1,2}(?![\w*]))")


def _plain(text: str) -> str:
    "Escape what reST would take for markup; *emphasis* stays."
    parts = _emphasis.split(text)
    for i in range(0, len(parts), 2): parts[i] = re.sub(r"([*|])", r"\\\1", re.sub(r"(?<=\w)_(?!\w)", r"\\_", parts[i]))
    return "".join(parts)


def markdown_to_rst(text: str) -> str:
    "Inline marks of a markdown docstring: `code`, $math$ and *emphasis*; everything else is plain text."
    parts = _code.split(text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = _plain(part)
        elif not part.startswith((":", "``")):
            before, after = parts[i - 1][-1:], parts[i + 1][:1]
            body = f"``{part[1:-1]}``" if part[0] == "`" else f":math:`{part[1:-1]}`"
            parts[i] = ("\\ " if before.isalnum() else "") + body + ("\\ " if after.isalnum() else "")
    return "".join(parts)


def process_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    "Markdown marks -> reST; the `#` comments of parameters (fastcore docments) -> a parameter list."
    lines[:] = markdown_to_rst(book_marks.citations_rst("\n".join(lines))).split("\n")
    add_parameters(what, obj, lines)
    if what in ("function", "method", "class") and (errors := errors_of(obj)):
        lines += ["", ":Errors:", *(f"    * {e}" for e in errors), ""]
    if (home := homes(Path(app.srcdir), app.config.nbdev_package).get(name)) and what != "module":
        text = home.section.replace("<", "\\<")
        lines += ["", f":Built in: :ref:`{text} <{home.anchor}>`", ""]


def errors_of(obj) -> list[str]:
    """What a function raises itself, read from its source so that it can't drift: "ValueError: beta must be ... got …".

    For a class: what making one raises. What it calls may raise more; values that the message quotes are "…".
    """
    import inspect
    import textwrap
    if inspect.isclass(obj):
        own = (vars(obj).get(n) for n in ("__init__", "__post_init__"))
        return [e for f in own if inspect.isfunction(f) for e in errors_of(f)]
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(obj)))
    except (OSError, TypeError, SyntaxError):
        return []
    found = []
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id.startswith("_"): continue
        if not call.func.id.endswith(("Error", "Exception")): continue
        text = _message(call.args[0]) if call.args else ""
        found.append(f"``{call.func.id}``" + (f": {_plain(text)}" if text else ""))
    return list(dict.fromkeys(found))


def _message(node: ast.expr) -> str:
    "The fixed words of a message."
    if isinstance(node, ast.Constant): return " ".join(str(node.value).replace("`", "").split())
    if isinstance(node, ast.JoinedStr):
        parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
        return " ".join("".join(map(str, parts)).replace("`", "").split())
    if isinstance(node, ast.BinOp): return f"{_message(node.left)}{_message(node.right)}"
    return ""


@cache
def _long_types() -> dict[str, str]:
    "What autodoc makes of an alias whose name says more."
    from numpy.typing import ArrayLike
    from sphinx.util.typing import stringify_annotation
    modes = "smart", "fully-qualified-except-typing", "fully-qualified"
    return {stringify_annotation(ArrayLike, mode): "~numpy.typing.ArrayLike" for mode in modes}


def short_types(app, what, name, obj, options, signature: str | None, result: str | None) -> tuple:
    "`ArrayLike` as the source writes it, in place of the union that it stands for."
    for long, short in _long_types().items():
        signature, result = (t.replace(long, short) if t else t for t in (signature, result))
    return signature, result


def add_parameters(what: str, obj, lines: list[str]) -> None:
    "The comments of a signature, or the help texts of a dataclass's fields, as a field list."
    if what not in ("function", "method", "class"): return
    docs = {f.name: f.metadata["help"] for f in fields(obj) if "help" in f.metadata} if is_dataclass(obj) else {}
    try:
        docs = docs or docments(obj.__init__ if what == "class" and "__init__" in vars(obj) else obj, full=False)
    except (TypeError, ValueError, OSError, AttributeError):
        return
    new = []
    for par, doc in docs.items():
        if doc and isinstance(doc, str):
            doc = markdown_to_rst(" ".join(doc.split()))
            new.append(f":returns: {doc}" if par == "return" else f":param {par}: {doc}")
    if new: lines += ["", *new, ""]


class LinkSymbols(SphinxTransform):
    "A backticked name that the library exports becomes a link to its entry on the API page."
    default_priority = 400

    def apply(self, **kwargs) -> None:
        names = self.config.nbdev_symbols
        for node in list(self.document.findall(nodes.literal)):
            target = names.get(node.astext().removesuffix("()"))
            inside = (addnodes.pending_xref, nodes.reference, nodes.title, addnodes.desc_signature)
            if not target or any(isinstance(p, inside) for p in _parents(node)): continue
            ref = addnodes.pending_xref("", node.deepcopy(), refdomain="py", reftype="obj", reftarget=target,
                                        refexplicit=True, refwarn=True, refdoc=self.env.docname)
            node.replace_self(ref)


class LinkHomes(SphinxTransform):
    "Each exported cell gets an anchor for every public name that it defines, and a discreet link to its entry."
    default_priority = 410

    def apply(self, **kwargs) -> None:
        here = {h.name: h for h in homes(Path(self.env.srcdir), self.config.nbdev_package).values()
                if self.env.docname == f"nbs/{h.stem}"}
        if not here: return
        domain = self.env.get_domain("std")
        for cell in self.document.findall(nodes.container):
            if "tag_export" not in cell["classes"]: continue
            source = "\n".join(n.astext() for n in cell.findall(nodes.literal_block))
            links = nodes.paragraph(classes=["api-link"])
            for home in (here.pop(n) for n in defined(source) if n in here):
                cell["ids"].append(home.anchor)
                domain.note_hyperlink_target(home.anchor, self.env.docname, home.anchor, home.section)
                links += nodes.Text(" · " if len(links) else "API: ")
                links += addnodes.pending_xref("", nodes.literal("", home.name), refdomain="py", reftype="obj", reftarget=home.full,
                                               refexplicit=True, refwarn=True, refdoc=self.env.docname)
            if len(links): cell += links
        if here: raise ValueError(f"{self.env.docname}: no exported cell found for {sorted(here)}")


def _parents(node):
    while (node := node.parent) is not None: yield node
