"""Glossary, symbols, bibliography: every entry is used, every use has an entry."""
import re
from pathlib import Path

import book_api
import book_claims
import book_glossary
import book_marks
import chapters
import pytest
import stamps
from docutils import nodes
from docutils.utils import new_document
from sitefiles import NOTEBOOKS, SITE, text_of

ROOT = Path(__file__).resolve().parent.parent
TERMS = book_glossary.terms(ROOT)


def linked(*children: nodes.Node) -> tuple[list[str], nodes.document]:
    document = new_document("")
    document += children
    return book_glossary.link_first_uses(document, TERMS), document


def test_the_list():
    assert len(TERMS) >= 60 and len({t.anchor for t in TERMS}) == len(TERMS)
    forms = [f for t in TERMS for f in (t.term, *t.forms)]
    assert len(forms) == len(set(forms))
    for t in TERMS:
        assert (ROOT/"nbs"/f"{t.chapter}.ipynb").is_file(), t.term
        assert 25 <= len(t.text) <= 260 and t.text.endswith(".") and not set("$`*[") & set(t.text), t.term


def test_every_term_is_linked_from_somewhere():
    pages = [text_of(page) for page in NOTEBOOKS]
    unused = [t.term for t in TERMS if not any(f'glossary.html#{t.anchor}"' in text for text in pages)]
    assert not unused


def test_only_the_first_use_on_a_page_is_linked():
    found = {page: re.findall(r'class="term [^"]*"[^>]*href="[^"#]*#(term-[\w-]+)"', text_of(page)) for page in NOTEBOOKS}
    assert not (bad := {page: terms for page, terms in found.items() if len(terms) != len(set(terms))}), bad


def test_where_terms_are_linked():
    parts = (nodes.literal("", "momentum"), nodes.Text(" Momentum, "), nodes.emphasis("", "learning rates"),
             nodes.Text(" and momentum."))
    done, document = linked(nodes.title("", "Momentum"), nodes.paragraph("", "", *parts))
    assert done == ["momentum", "learning rate"]
    links = [n for n in document.findall(nodes.inline) if "inner" in n]
    assert [n.astext() for n in links] == ["Momentum", "learning rates"]
    assert links[0]["inner"] == ("book/glossary", "term-momentum") and "memory" in links[0]["inner_title"]
    assert document.astext().replace("\n", "") == "Momentummomentum Momentum, learning rates and momentum."


@pytest.mark.parametrize("text", ["mini-batch-like", "subgradient", "the path nbs/momentum", "adam"])
def test_parts_of_words_and_other_words_are_left_alone(text):
    assert linked(nodes.paragraph("", text))[0] == []


def test_longest_spelling_wins():
    assert linked(nodes.paragraph("", "batch norm and Nesterov momentum"))[0] == ["batch norm", "Nesterov momentum"]


def test_headings_quizzes_and_sources_are_left_alone():
    quiz = nodes.section("", nodes.title("", "Check yourself"), nodes.paragraph("", "momentum"))
    assert linked(quiz)[0] == []


def test_a_focused_term_shows_its_meaning(browser):
    page = browser.new_page()
    page.goto(chapters.page("momentum", SITE).as_uri())
    term = page.locator("a.term").first
    term.focus()
    page.keyboard.press("Shift+Tab"), page.keyboard.press("Tab")   # the focus of a keyboard, not of a script
    shown = term.evaluate("e => getComputedStyle(e, '::after').content")
    assert shown.strip('"') == term.get_attribute("title").replace('"', '\\"')
    page.close()


# ---- symbols

def test_symbols_name_what_exists():
    text = (ROOT/"book"/"symbols.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| $")]
    names = book_api.symbols("cam_course", ROOT)
    assert len(rows) >= 30
    for symbol, meaning, code, where in rows:
        assert meaning.strip() and re.search(r"\]\(/nbs/([\w/]+)\.ipynb\)", where), symbol
        for stem in re.findall(r"/nbs/([\w/]+)\.ipynb", where): assert (ROOT/"nbs"/f"{stem}.ipynb").is_file(), stem
        for name in re.findall(r"`(\w+)\(\w*\)`", code): assert name in names, f"{symbol}: {name}"
    symbols = [r[0].strip() for r in rows]
    assert len(symbols) == len(set(symbols))


# ---- bibliography

def cited() -> dict[str, set[str]]:
    "Key -> where it is cited: markdown of notebooks, docstrings, pages of the book, the list of claims."
    found: dict[str, set[str]] = {}
    def add(text: str, where: str) -> None:
        for key in book_marks.cited(text): found.setdefault(key, set()).add(where)
    for p in stamps.notebooks():
        for c in stamps.load(p)["cells"]: add(c["source"], p.stem)
    for p in (ROOT/"book").glob("*.md"): add(p.read_text(encoding="utf-8"), p.name)
    for c in book_claims.read_claims(ROOT/book_claims.DATA): add(f"{c.right} {c.source}", "claims")
    return found


def test_every_paper_is_cited_and_every_citation_has_its_paper():
    keys, used = book_claims.bib_keys(ROOT/"book"/"references.bib"), cited()
    assert not used.keys() - keys, {k: used[k] for k in used.keys() - keys}
    assert not keys - used.keys(), f"cited nowhere: {sorted(keys - used.keys())}"


def plain(name: str) -> str:
    "Without accents, be they Unicode's or LaTeX's."
    import unicodedata
    name = re.sub(r"\\[a-zA-Z](?![a-zA-Z])|\\[^a-zA-Z]|[{}\s]", "", name)
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def test_papers_named_in_the_prose_are_cited():
    "'Someone et al.' stands beside a citation, or the chapter cites a paper of that someone."
    bib = (ROOT/"book"/"references.bib").read_text(encoding="utf-8")
    entries = re.finditer(r"@\w+\{([^,]+),\s*author\s*=\s*\{([^,]+),", bib)
    first = {m[1]: plain(m[2]) for m in entries}
    lost = []
    for p in stamps.notebooks():
        prose = "\n".join(c["source"] for c in stamps.load(p)["cells"] if c["cell_type"] == "markdown")
        names = {first.get(k, "") for k in book_marks.cited(prose)}
        lost += [(p.stem, m[1]) for m in re.finditer(r"([A-Z][\w-]+) et al\.", prose) if plain(m[1]) not in names]
    assert not lost
