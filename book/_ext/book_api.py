"""API pages from the library: docments comments, links from backticked names, the list of modules."""
import ast
import re
import runpy
from pathlib import Path

import book_marks
import stamps
from docutils import nodes
from fastcore.docments import docments
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

MARK = "<!-- library-api -->"


def public_names(file: Path) -> set[str]:
    "`__all__` of a module, read without importing it."
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def symbols(package: str, root: Path) -> dict[str, str]:
    """Public name ('Trainer', 'Trainer.fit', 'cam_course.trainer') -> full name, from nbdev's index; a name that two
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


def chapters(root: Path) -> list[tuple[str, str, str]]:
    "(module, notebook's stem, its title) for every notebook that exports, in reading order."
    found = []
    for path in stamps.notebooks(root/"nbs"):
        nb = stamps.load(path)
        if module := stamps.default_exp(nb): found.append((module, path.stem, title_of(nb)))
    return found


def title_of(nb: dict) -> str:
    for c in nb["cells"]:
        if c["cell_type"] == "markdown" and (m := re.search(r"(?m)^#\s+(.+?)\s*$", c["source"])): return m[1]
    return "Untitled"


def expand(app, docname: str, source: list[str]) -> None:
    "Replace the mark on the API page by one section for each module."
    if MARK not in source[0]: return
    package, parts = app.config.nbdev_package, []
    for module, stem, title in chapters(Path(app.srcdir)):
        parts.append(f"(api-{module})=\n## {package}.{module}\n\nBuilt in the chapter [{title}](/nbs/{stem}.ipynb).\n\n"
                     f"```{{eval-rst}}\n.. automodule:: {package}.{module}\n   :members:\n   :undoc-members:\n"
                     "   :member-order: bysource\n```\n")
    source[0] = source[0].replace(MARK, "\n".join(parts))


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
    if what not in ("function", "method", "class"): return
    try:
        docs = docments(obj.__init__ if what == "class" and "__init__" in vars(obj) else obj, full=False)
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


def _parents(node):
    while (node := node.parent) is not None: yield node
