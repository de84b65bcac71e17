r"""Numbers of equations and figures, from marks that read well everywhere.

A formula that is referred to ends in `\tag{4.1}`, chapter and count, which Jupyter, Colab, GitHub and the book all print;
prose says "equation (4.1)", and the book makes a link of it, across chapters too. Every cell with a picture gets a number
in the book, "Figure 4.3"; prose says "the figure below" or "above", which needs no number in Colab, and the book adds it.
"""
import html
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import book_glossary
import book_inner
import nbdev_reader
import stamps
from docutils import nodes
from sphinx.transforms import SphinxTransform

_tag = re.compile(r"\\tag\{(\d+\.\d+)\}")
_equation = re.compile(r"\b[Ee]quations?\s+\((\d+\.\d+)\)")
_figure = re.compile(r"\b[Ff]igure (above|below)\b")
_caption = re.compile(r'^<p class="caption">(.*)</p>$', re.S)   # what `show(..., caption=)` displays after its picture
_picture = ("image/png", "image/jpeg", "image/svg+xml", "image/gif")


def chapter(stem: str) -> int:
    "The number that a chapter's file begins with; 0 for the opening page and for what is no chapter."
    return int(m[0]) if (m := re.match(r"\d+", stem)) else 0


def has_picture(cell: dict) -> bool:
    "Is this a code cell whose picture the book shows?"
    if cell["cell_type"] != "code": return False
    found = nbdev_reader.split_directives(cell["source"])[0]
    tags = set(cell["metadata"].get("tags", []))
    if (nbdev_reader.REMOVE | {"hide_output"}) & (found.keys() | tags) or tags & {"remove-output", "remove-cell"}: return False
    return any(mime in o.get("data", {}) for o in cell["outputs"] for mime in _picture)


def in_chapter(stem: str, root: Path) -> list[Path]:
    "The notebooks that share this one's chapter number."
    return [p for p in stamps.notebooks(root/"nbs") if chapter(p.stem) == chapter(stem)]


def figures_before(stem: str, root: Path) -> int:
    "How many figures the chapter's earlier notebooks hold."
    return sum(has_picture(c) for p in in_chapter(stem, root) if p.stem < stem for c in stamps.load(p)["cells"])


def prose(root: Path) -> Iterator[tuple[str, list[dict], int, str]]:
    "(name, cells, number of the cell, its text) for each markdown cell."
    for path in stamps.notebooks(root/"nbs"):
        cells = stamps.load(path)["cells"]
        for i, c in enumerate(cells):
            if c["cell_type"] == "markdown": yield stamps.name(path), cells, i, c["source"]


def problems(root: Path) -> list[str]:
    "Numbers given twice, in the wrong chapter, or referred to and missing; figures 'below' that are not there."
    texts, bad = list(prose(root)), []
    tags = [(t, stem) for stem, _, _, text in texts for t in _tag.findall(text)]
    bad += [f"equation ({t}) is numbered {n} times" for t, n in Counter(t for t, _ in tags).items() if n > 1]
    bad += [f"equation ({t}) is in {stem}, another chapter" for t, stem in tags if int(t.split(".")[0]) != chapter(stem)]
    known = {t for t, _ in tags}
    for stem, cells, i, text in texts:
        bad += [f"{stem}, cell {i}: equation ({t}) has no \\tag in any notebook" for t in _equation.findall(text) if t not in known]
        for where in _figure.findall(text):
            side = cells[i + 1:] if where == "below" else cells[:i]
            if not any(map(has_picture, side)): bad.append(f"{stem}, cell {i}: there is no figure {where}")
    return bad


@cache
def equation_pages(root: Path) -> dict[str, str]:
    return {t: f"nbs/{name}" for name, _, _, text in prose(root) for t in _tag.findall(text)}


def captions(cell: nodes.container) -> list[str]:
    "Takes the captions out of a cell's outputs: they stand beside the number."
    texts = []
    for raw in list(cell.findall(nodes.raw)):
        if not (m := _caption.match(raw.astext().strip())): continue
        texts.append(html.unescape(m[1]))
        raw.parent.remove(raw)
    return texts


class Numbers(SphinxTransform):
    default_priority = 440

    def apply(self, **kwargs) -> None:
        folder, _, stem = self.env.docname.rpartition("/")
        if folder != "nbs" or not chapter(stem): return
        root = Path(self.env.srcdir)
        for p in in_chapter(stem, root): self.env.note_dependency(str(p))
        for block in self.document.findall(nodes.math_block):
            if m := _tag.search(block.astext()): block["ids"].append(f"equation-{m[1]}")
        order = {id(n): i for i, n in enumerate(self.document.findall())}
        self.refer(order, self.number_figures(stem, root, order), equation_pages(root))

    def number_figures(self, stem: str, root: Path, order: dict[int, int]) -> list[tuple[int, str]]:
        "(place in the document, number) of each figure; the number is written under it."
        found = []
        for cell in list(self.document.findall(lambda n: isinstance(n, nodes.container) and "cell_output" in n["classes"])):
            if next(cell.findall(nodes.image), None) is None: continue
            number = f"{chapter(stem)}.{figures_before(stem, root) + len(found) + 1}"
            found.append((order[id(cell)], number))
            line = nodes.paragraph("", f"Figure {number}", classes=["figure-number"], ids=[f"figure-{number}"])
            for text in captions(cell): line += [nodes.Text(". "), nodes.inline("", text, classes=["figure-caption"])]
            cell += line
        return found

    def refer(self, order: dict[int, int], figures: list[tuple[int, str]], pages: dict[str, str]) -> None:
        for text in list(self.document.findall(nodes.Text)):
            matches = sorted([*_equation.finditer(text), *_figure.finditer(text)], key=lambda m: m.start())
            if not matches or not book_glossary.is_open(text.parent): continue
            new, last = [], 0
            for m in matches:
                if m.re is _equation:
                    if m[1] not in pages: continue
                    new += [nodes.Text(text[last:m.start()]), book_inner.inner_link(m[0], pages[m[1]], f"equation-{m[1]}")]
                else:
                    here = order[id(text)]
                    side = [n for at, n in figures if at > here][:1] if m[1] == "below" else [n for at, n in figures if at < here][-1:]
                    if not side: continue
                    link = book_inner.inner_link(f"Figure {side[0]}", self.env.docname, f"figure-{side[0]}")
                    new += [nodes.Text(text[last:m.end()] + " ("), link, nodes.Text(")")]
                last = m.end()
            if new: text.parent.replace(text, [n for n in (*new, nodes.Text(text[last:])) if n.astext()])


def setup(app) -> dict[str, bool]:
    app.setup_extension("book_inner")
    app.add_css_file("reference.css")
    app.add_transform(Numbers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
