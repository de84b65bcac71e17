"""The claims page: complete, in step with the notebooks, and readable in every way that its readers have."""
import re
import shutil
from pathlib import Path

import book_claims
import book_numbers
import chapters
import pytest
import stamps
from sitefiles import NOTEBOOKS, SITE, text_of

ROOT = Path(__file__).resolve().parent.parent
PAGE = SITE/"book"/"claims.html"


@pytest.fixture(scope="module")
def found() -> book_claims.Found:
    return book_claims.find(ROOT)


@pytest.fixture
def copy(tmp_path) -> Path:
    "What the page is made from, in a folder that a test may spoil."
    (tmp_path/"book").mkdir()
    other = lambda at, names: [n for n in names if not n.endswith(".ipynb") and not Path(at, n).is_dir()]
    shutil.copytree(ROOT/"nbs", tmp_path/"nbs", ignore=other)
    for name in (book_claims.DATA, "book/references.bib"): shutil.copy(ROOT/name, tmp_path/name)
    return tmp_path


def averages(root: Path) -> Path: return chapters.chapter("averages", root/"nbs")


def spoil(path: Path, change) -> None:
    "Change a notebook as one would by hand."
    import nbformat
    nb = nbformat.read(path, 4)
    change(nb.cells)
    nbformat.write(nb, path)


def marked(cells, number: int) -> int:
    return next(i for i, c in enumerate(cells) if c.cell_type == "markdown" and f"<!-- claim: {number} -->" in c.source)


def test_every_claim_has_its_place_and_its_proof(found):
    assert not found.problems
    assert len(found.claims) >= 120 and sorted(c.number for c in found.claims) == list(range(1, len(found.claims) + 1))
    assert all(any(p.line for p in found.places[c.number]) for c in found.claims if c.kind == "behaviour")


def test_every_theme_is_on_the_page(found):
    listed = re.findall(r"```\{claims\} (\w+)", (ROOT/"book"/"claims.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted({c.theme for c in found.claims})


def test_every_behaviour_claim_needs_its_cell(found):
    "Take the cell away that shows a claim: nothing else on the page may pass for it."
    passes = []
    books = {stamps.name(p): stamps.load(p)["cells"] for p in stamps.notebooks()}
    for c in found.claims:
        if c.kind != "behaviour": continue
        for p in found.places[c.number]:
            cells, mark = books[p.stem], f"<!-- claim: {c.number} -->"
            at = next(i for i, x in enumerate(cells) if x["cell_type"] == "markdown" and mark in x["source"])
            def shows(x, text=cells[at], c=c, p=p) -> bool:
                return x["cell_type"] == "code" and book_claims.evidence([x, text], 1, c.shown)[0] == p.line
            if not p.line: continue
            cell = next(filter(shows, cells))
            left = [x for x in cells if x is not cell]
            other = book_claims.evidence(left, left.index(cells[at]), c.shown)[0]
            if other not in ("", p.line): passes.append((c.number, p.stem, c.shown))   # the same line printed twice is no loss
    assert not passes, f"`shown` of these claims is found without their cell too: {passes}"


@pytest.mark.parametrize("number", [7, 34, 96, 142])
def test_a_removed_mark_is_named(copy, number):
    def change(cells):
        for c in cells: c.source = c.source.replace(f"<!-- claim: {number} -->", "")
    for path in stamps.notebooks(copy/"nbs"):
        if f"claim: {number} -->" in path.read_text(encoding="utf-8"): spoil(path, change)
    problems = book_claims.find(copy).problems
    assert len(problems) == 1 and f"claim {number} (" in problems[0] and "has no mark" in problems[0]


def test_a_removed_cell_is_named(copy):
    spoil(averages(copy),
          lambda cells: cells.pop(next(i for i, c in enumerate(cells) if c.cell_type == "code" and "as printed" in c.source)))
    problems = book_claims.find(copy).problems
    assert len(problems) == 1
    assert "claim 33" in problems[0] and f"no code cell in {averages(copy).stem} shows 'as printed 2.33'" in problems[0]


def test_a_cell_without_outputs_shows_nothing(copy):
    spoil(averages(copy), lambda cells: [c.update(outputs=[]) for c in cells if c.cell_type == "code"])
    assert {int(n) for p in book_claims.find(copy).problems for n in re.findall(r"^claim (\d+)", p)} >= {31, 33, 34}


def test_unknown_numbers_and_swallowed_lines_are_named(copy):
    def change(cells):
        at = marked(cells, 34)
        cells[at].source = "<!-- claim: 999 --> *This line* would stay raw.\n" + cells[at].source
    spoil(averages(copy), change)
    problems = "\n".join(book_claims.find(copy).problems)
    assert "mark of claim 999, which book/claims.yml lacks" in problems
    assert "a mark at the start of a line" in problems and averages(copy).stem in problems


@pytest.mark.parametrize(("field", "old", "new", "said"), [
    ("verdict", "verdict: wrong", "verdict: false-ish", "verdict 'false-ish'"),
    ("kind", "kind: literature", "kind: hearsay", "kind 'hearsay'"),
    ("number", "- number: 7\n", "- number: 8\n", "claim 8 is listed twice"),
    ("source", "[@lee2016]", "[@lee2061]", "cites 'lee2061', which book/references.bib lacks"),
    ("shown", "  shown: 'αL 1.99'\n", "", "claim 6 is about behaviour and needs `shown`")])
def test_mistakes_in_the_list_are_named(copy, field, old, new, said):
    path = copy/book_claims.DATA
    text = path.read_text(encoding="utf-8")
    assert old in text, field
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert any(said in p for p in book_claims.find(copy).problems)


def test_the_build_stops_at_a_problem(monkeypatch, found):
    "The directive turns a problem into an error of the build."
    from docutils.core import publish_doctree
    from docutils.parsers.rst import directives
    from docutils.utils import SystemMessage

    class Env:
        srcdir = str(ROOT)
        def note_dependency(self, path): pass

    directives.register_directive("claims", book_claims.ClaimsDirective)
    settings = {"env": Env(), "halt_level": 3, "report_level": 5, "raw_enabled": True}
    assert publish_doctree(".. claims::", settings_overrides=settings).astext().startswith(f"The list has {len(found.claims)}")
    monkeypatch.setattr(book_claims, "find", lambda root: book_claims.Found(found.claims, found.places, ["claim 5 is lost"]))
    with pytest.raises(SystemMessage, match="claim 5 is lost"): publish_doctree(".. claims::", settings_overrides=settings)


def test_no_sentence_of_the_course_is_copied(found):
    "Runs where the course texts are. Ten words in a row would be a copy."
    folder = ROOT.parent/"shared"/"course-notes"
    if not folder.is_dir(): pytest.skip("the course texts are not here")
    def words(text: str) -> list[str]: return re.findall(r"\w+", text.lower())
    texts = [" ".join(words(p.read_text(encoding="utf-8", errors="replace"))) for p in folder.glob("*.txt")]
    assert texts
    for c in found.claims:
        w = words(c.claim)
        assert not [s for i in range(len(w) - 9) for s in texts if " ".join(w[i:i + 10]) in s], c.number


# ---- the page

def test_the_page_counts_and_links(found):
    text = PAGE.read_text(encoding="utf-8")
    for verdict, words in book_claims.VERDICTS.items():
        assert f"{words} ({sum(c.verdict == verdict for c in found.claims)})" in text
    for c in found.claims:
        assert f'id="claim-{c.number}"' in text
        for p in found.places[c.number]:
            assert f'href="../nbs/{p.stem}.html#claim-{c.number}"' in text
            assert f'id="claim-{c.number}"' in text_of(f"nbs/{p.stem}.html")


@pytest.mark.parametrize("script", [True, False])
def test_the_filter_works_by_keyboard_with_and_without_scripts(browser, found, script):
    context = browser.new_context(java_script_enabled=script)
    page = context.new_page()
    page.goto(PAGE.as_uri())
    def visible() -> int: return page.locator("ul.claims > li:visible").count()
    assert visible() == len(found.claims)
    page.locator("#show-all").focus()
    for verdict in book_claims.VERDICTS:
        page.keyboard.press("ArrowRight")
        assert page.locator(f"#show-{verdict}").is_checked()
        assert visible() == sum(c.verdict == verdict for c in found.claims)
    context.close()


# ---- numbers of equations and figures

def test_numbered_equations_and_references():
    assert not book_numbers.problems(ROOT)


def test_a_reference_without_target_is_named(copy):
    spoil(averages(copy), lambda cells: cells[0].update(
        source=cells[0].source + "\n\nBy equation (2.99) and the figure above."))
    problems = book_numbers.problems(copy)
    assert any("equation (2.99)" in p and averages(copy).stem in p for p in problems)
    assert any("there is no figure above" in p and averages(copy).stem in p for p in problems)


def test_figures_are_numbered_in_order_and_once():
    seen, bad = [], []
    for page, path in NOTEBOOKS.items():
        found = [tuple(map(int, n.split("."))) for n in re.findall(r'<p class="figure-number" id="figure-([\d.]+)"', text_of(page))]
        if any(n[0] != book_numbers.chapter(path.stem) for n in found): bad.append(f"{page}: of another chapter: {found}")
        if found and [n[1] for n in found] != list(range(found[0][1], found[0][1] + len(found))): bad.append(f"{page}: {found}")
        seen += found
    assert len(seen) == len(set(seen)) and len(seen) > 80 and not bad, "\n".join(bad)
