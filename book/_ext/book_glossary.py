"""The glossary: a page from book/glossary.yml, and a link from the first use of each term on every chapter's page.

The notebooks need no mark for it. Headings, code, formulas, citations and what is a link already are left alone.
"""
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import book_inner
import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

PAGE, DATA = "book/glossary", "book/glossary.yml"
CHAPTERS = "nbs/"
_closed = (nodes.title, nodes.rubric, nodes.caption, nodes.topic, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block,
           nodes.raw, nodes.comment, nodes.reference, nodes.footnote_reference, nodes.system_message,
           addnodes.pending_xref, addnodes.desc)
_closed_classes = {"cell", "stamp"}
_closed_sections = {"Check yourself", "Sources"}


@dataclass
class Term:
    term: str
    text: str
    chapter: str
    forms: list[str] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return "term-" + re.sub(r"\W+", "-", self.term.lower()).strip("-")


@cache
def _terms(path: Path, _changed: float) -> list[Term]:
    return sorted((Term(**t) for t in yaml.safe_load(path.read_text(encoding="utf-8"))), key=lambda t: t.term.lower())


def terms(root: Path) -> list[Term]:
    "All terms in alphabetical order."
    return _terms(root/DATA, (root/DATA).stat().st_mtime)


def matcher(found: list[Term]) -> tuple[re.Pattern, dict[str, Term]]:
    """A pattern for every spelling, longest first, and whose it is. Abbreviations are matched as they are written, words
    with a capital first letter too."""
    whose = {form: t for t in found for form in (t.term, *t.forms)}
    whose |= {form[0].upper() + form[1:]: t for form, t in whose.items() if form[0].islower()}
    words = "|".join(re.escape(f).replace(r"\ ", r"\s+") for f in sorted(whose, key=len, reverse=True))
    return re.compile(rf"(?<![\w$/.-])(?:{words})(?![\w/]|-\w)"), whose


def is_open(node: nodes.Node) -> bool:
    "May a word in this node become a link?"
    while node is not None:
        if isinstance(node, _closed) or "inner" in node or _closed_classes & set(node["classes"]): return False
        if isinstance(node, nodes.section) and node[0].astext() in _closed_sections: return False
        node = node.parent
    return True


def link_first_uses(document: nodes.document, found: list[Term]) -> list[str]:
    "Link the first use of each term; the terms that were linked."
    pattern, whose = matcher(found)
    done: list[str] = []
    for text in list(document.findall(nodes.Text)):
        if not pattern.search(text) or not is_open(text.parent): continue
        new, last = [], 0
        for m in pattern.finditer(text):
            t = whose[re.sub(r"\s+", " ", m[0])]
            if t.term in done: continue
            done.append(t.term)
            new += [nodes.Text(text[last:m.start()]), book_inner.inner_link(m[0], PAGE, t.anchor, ("term",), t.text)]
            last = m.end()
        if new: text.parent.replace(text, [n for n in (*new, nodes.Text(text[last:])) if n.astext()])
    return done


class LinkTerms(SphinxTransform):
    "Chapters alone: the index and the reference pages stay as they are."
    default_priority = 450

    def apply(self, **kwargs) -> None:
        if not self.env.docname.startswith(CHAPTERS) or self.env.docname == CHAPTERS + "index": return
        root = Path(self.env.srcdir)
        self.env.note_dependency(str(root/DATA))
        link_first_uses(self.document, terms(root))


class Glossary(Directive):
    "`{terms}`: the whole list, a heading a letter, each term with the chapter that builds it."

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        root = Path(env.srcdir)
        env.note_dependency(str(root/DATA))
        out, letter = [], ""
        for t in terms(root):
            if not (root/"nbs"/f"{t.chapter}.ipynb").is_file():
                raise self.error(f"{DATA}: {t.term!r} is built in the chapter {t.chapter!r}, which does not exist")
            if t.term[0].upper() != letter:
                letter = t.term[0].upper()
                out.append(nodes.definition_list(classes=["terms"]))
            link = addnodes.pending_xref("", nodes.inline("", ""), refdomain="std", reftype="doc", reftarget=f"/nbs/{t.chapter}",
                                         refexplicit=False, refdoc=env.docname, refwarn=True)
            text = nodes.paragraph("", "", nodes.Text(t.text + " "), nodes.inline("", "Chapter: ", classes=["term-chapter"]), link)
            term = nodes.term("", t.term, ids=[t.anchor])
            out[-1] += nodes.definition_list_item("", term, nodes.definition("", text))
        return out


def setup(app) -> dict[str, bool]:
    app.setup_extension("book_inner")
    app.add_css_file("reference.css")
    app.add_directive("terms", Glossary)
    app.add_transform(LinkTerms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
