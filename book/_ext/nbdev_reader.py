"""jupyter-book reads nbdev notebooks in place: no copy of nbs/ to keep in step, and no mark that only the book knows.

`read` is plugged into myst-nb by `nb_custom_formats`: `#|` lines become cell tags, `show_doc(x)` becomes autodoc, the
marks of `book_marks` become MyST, and the stamp of the outputs is shown under the title.
"""
import re
import sys
from functools import cache
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import book_api
import book_bibliography
import book_downloads
import book_faults
import book_folds
import book_lexers
import book_marks
import book_nets
import book_outputs
import book_pages
import book_quiz
import book_speed
import book_time
import stamps

_directive = re.compile(r"^\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$")
_show_doc = re.compile(r"^show_doc\(\s*([\w.]+)\s*(?:,.*)?\)\s*;?\s*$")
REMOVE = {"hide", "default_exp"}
EXPORTS = {"export", "exporti", "exports"}
SHOW = {"hide_input": "remove-input", "hide_output": "remove-output"}


def split_directives(source: str) -> tuple[dict[str, str], str]:
    "The leading `#|` lines as {name: value}, and the source without them."
    lines, found = source.splitlines(keepends=True), {}
    while lines and (not lines[0].strip() or _directive.match(lines[0])):
        if m := _directive.match(lines.pop(0)): found[m[1]] = m[2]
    return found, "".join(lines) if found else source


def _tag(cell, tag: str) -> None:
    tags = cell.metadata.setdefault("tags", [])
    if tag not in tags: tags.append(tag)


def directives_to_tags(cell) -> None:
    found, cell.source = split_directives(cell.source)
    tags = set(cell.metadata.get("tags", []))
    if REMOVE & (found.keys() | tags) or found.get("include", "").lower() == "false" or not cell.source.strip():
        _tag(cell, "remove-cell")
    for name, tag in SHOW.items():
        if name in found: _tag(cell, tag)
    if found.get("echo", "").lower() == "false": _tag(cell, "remove-input")
    if found.keys() & EXPORTS: _tag(cell, "export")
    if "remove-cell" not in cell.metadata.get("tags", []): book_folds.by_rule(cell, bool(found.keys() & EXPORTS))
    if is_parameters(cell): cell.source = re.sub(r"(?m)\s*# smoke: .*$", "", cell.source)


def is_parameters(cell) -> bool:
    return "parameters" in cell.metadata.get("tags", [])


def autodoc_cell(name: str, module: str, cell_id: str):
    kind = "automethod" if "." in name else "autoclass" if name[0].isupper() else "autofunction"
    text = f"```{{eval-rst}}\n.. {kind}:: {module}.{name}\n   :no-index:\n```"
    return nbformat.v4.new_markdown_cell(text, id=cell_id)


def read(text: str, package: str = ""):
    "Reader for myst-nb: the text of an .ipynb file -> a notebook."
    nb = nbformat.reads(text, as_version=4)
    stamp, time = book_pages.stamp_html(nb), book_time.line(nb)
    module, exercises, cells = package, book_marks.Exercises(), []
    if name := stamps.default_exp(nb): module = f"{package}.{name}"
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = book_marks.translate(book_quiz.translate(cell.source), exercises)
        elif cell.cell_type == "code":
            if m := _show_doc.match(split_directives(cell.source)[1].strip()):
                cell = autodoc_cell(m[1], module, cell.id)
            else:
                directives_to_tags(cell)
        cells.append(cell)
    nb.cells = cells
    quiet = "\n\n".join(filter(None, (time, stamp)))   # below the goals, which stand below the first figure
    if not book_time.under_goals(nb, quiet): book_pages.under_title(nb, stamp)
    book_outputs.prepare(nb)
    nb.metadata.pop(stamps.KEY, None)
    return nb


@cache
def version_of_library(package_dir: Path) -> str:
    "Changes when any source of the library changes: the pages that quote it are then read again."
    return stamps._digest(b"".join(f.read_bytes() for f in sorted(package_dir.rglob("*.py"))))


def load_settings(app, config) -> None:
    "settings.ini is the one place for the address, the branch, the title and the author."
    settings = book_pages.settings(Path(app.srcdir))
    config.nbdev_symbols = book_api.symbols(config.nbdev_package, Path(app.srcdir))
    config.nbdev_library = version_of_library(Path(app.srcdir)/config.nbdev_package)
    config.project = config.html_title = settings["title"]
    config.author, config.copyright = settings["author"], settings["copyright"]
    config.release = config.version = settings["version"]
    config.html_theme_options = {
        **config.html_theme_options, "path_to_docs": "",
        "logo": {**config.html_theme_options.get("logo", {}), "text": settings["title"]},
        "repository_url": settings["git_url"], "repository_branch": settings["branch"]}


def setup(app):
    app.add_config_value("nbdev_package", "cam_course", "env")
    app.add_config_value("nbdev_symbols", {}, "env")
    app.add_config_value("nbdev_library", "", "env")
    app.connect("config-inited", load_settings, priority=100)
    app.connect("source-read", book_api.expand)
    app.connect("autodoc-process-docstring", book_api.process_docstring)
    app.connect("autodoc-process-signature", book_api.short_types)
    app.add_transform(book_api.LinkSymbols)
    app.add_transform(book_api.LinkHomes)
    book_downloads.setup(app)
    book_faults.setup(app)
    book_lexers.setup(app)
    book_nets.setup(app)
    book_pages.setup(app)
    book_quiz.setup(app)
    book_speed.setup(app)
    book_bibliography.setup(app)
    book_outputs.install()
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
