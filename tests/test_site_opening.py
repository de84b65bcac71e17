"""The opening page: one screen that shows what the book does, and a card for each part of the path."""
import re

import chapter_map
import chapters
import pytest

import build

PAGE = chapters.page("CAM course", build.SITE)


def test_the_cards_are_those_of_the_table_of_contents():
    assert chapter_map.update(write=False), "run: python book/chapter_map.py"
    links = re.findall(r"\*\*\[([^\]]+)\]\(([^)]+)\.ipynb\)", chapter_map.cards())
    firsts = {caption: pages[0] for caption, pages in chapter_map.parts()}
    assert len(links) == 6 and [(c, f"nbs/{page}") for c, page in links] == [(c, firsts[c]) for c in chapter_map.ASKS]


def test_every_part_has_a_card_or_stands_behind(tmp_path):
    (tmp_path/"book").mkdir()
    (tmp_path/"book"/"_toc.yml").write_text("root: x\nparts:\n  - caption: Extras\n    chapters:\n      - file: book/a\n")
    (tmp_path/"book"/"a.md").write_text("# A page\n")
    with pytest.raises(ValueError, match="no question for the part 'Extras'"): chapter_map.cards(tmp_path)
    (tmp_path/"book"/"_toc.yml").write_text("root: x\nparts:\n  - caption: Start\n    chapters:\n      - file: book/a\n")
    with pytest.raises(ValueError, match="no part 'Descent'"): chapter_map.cards(tmp_path)
    with pytest.raises(ValueError, match="lost a mark"): chapter_map.filled("no marks here", "x")


@pytest.mark.parametrize(("minutes", "said"), [(0.2, "1 min"), (59.4, "59 min"), (60, "1 h"), (74, "1¼ h"), (113, "2 h")])
def test_times_are_rounded_as_one_says_them(minutes, said):
    assert chapter_map.hours(minutes) == said.replace(" ", "\u00a0")


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce", offline=True)
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    tab.goto(PAGE.as_uri())
    tab.wait_for_selector(".tag_opening .cc-readout")
    yield tab
    context.close()


def test_one_screen_of_a_laptop_shows_what_the_book_is(page):
    "Title, live figure and the three ways, all without scrolling; the figure stands beside the words."
    at = page.evaluate("""() => [".bd-article h1", ".tag_opening .cc", ".bd-article ul"].map((s) => {
        return document.querySelector(s).getBoundingClientRect().toJSON(); })""")
    title, figure, ways = at
    assert min(b["top"] for b in at) >= 0 and max(b["bottom"] for b in at) <= 800, at
    assert title["right"] <= figure["left"] and ways["right"] <= figure["left"], at
    assert page.locator(".bd-article ul").first.locator("li").count() == 3


def test_the_figure_answers_for_another_class(page):
    canvas = "document.querySelector('.tag_opening canvas').toDataURL()"
    first = page.evaluate(canvas)
    said = page.inner_text(".tag_opening .cc-readout")
    page.locator(".tag_opening select").select_option(index=1)
    page.wait_for_timeout(200)
    assert page.evaluate(canvas) != first and page.inner_text(".tag_opening .cc-readout") != said


def test_on_a_phone_one_thing_stands_under_the_other(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(200)
    boxes = [page.locator(s).first.bounding_box() for s in (".bd-article h1", ".tag_opening .cc", ".bd-article ul")]
    for above, below in zip(boxes, boxes[1:], strict=False): assert above["y"] + above["height"] <= below["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
