"""The keyboard alone: a walk through every moving figure and every quiz of the book, with Tab, arrows, Space and Enter.

The walk goes from a button before the figure to one behind it and back. On the way every control must take the focus, show it, and
answer to its keys; `-s` prints the record.
"""
import io
from collections.abc import Iterator
from typing import Any

import chapters
import numpy as np
import pytest
import stamps
from figpage import opened
from PIL import Image
from playwright.sync_api import Error
from test_every_figure import KINDS

import build

pytestmark = pytest.mark.long

SITE = build.SITE
QUIZZES = [p for p in build.toc_pages()
           if (SITE/f"{p}.html").exists() and 'class="quiz' in (SITE/f"{p}.html").read_text(encoding="utf-8")]

AROUND = """selector => {
  const figure = document.querySelector(selector);
  for (const [id, where] of [["walk-before", "before"], ["walk-after", "after"]]) {
    const button = Object.assign(document.createElement("button"), { id, textContent: id });
    figure[where](button);
  }
  const focusable = [...figure.querySelectorAll("button, select, input, summary, a[href], [tabindex='0']")].filter(
    (n) => !n.disabled && n.getClientRects().length);
  const groups = new Set();                                    // Tab stops once at a group of radio buttons
  window.walkStops = focusable.filter((n) => n.type !== "radio" || (n.checked && !groups.has(n.name) && groups.add(n.name)));
  return window.walkStops.length;
}"""
HERE = """() => { const n = document.activeElement; return n.id.startsWith("walk-") ? n.id : window.walkStops.indexOf(n); }"""
ABOUT = """() => {
  const n = document.activeElement;
  const name = n.labels?.[0]?.textContent || n.getAttribute("aria-label") || n.textContent;
  return { kind: n.type || n.getAttribute("role") || n.tagName.toLowerCase(), name: name.trim().replace(/\\s+/g, " ").slice(0, 50) };
}"""
STATE = """() => [...document.querySelectorAll(".cc")].map((f) => f.querySelector(".cc-readout")?.textContent
  + [...f.querySelectorAll(".cc-plot *")].map((n) => ["d", "transform", "cx", "x1"].map((a) => n.getAttribute(a))).join()
  + [...f.querySelectorAll("canvas")].map((c) => c.toDataURL()).join()
  + [...f.querySelectorAll("input, select")].map((n) => n.value + n.checked).join()).join()"""


def looks(page: Any, element: Any) -> np.ndarray:
    "Pixels in and around an element."
    box = element.evaluate("""n => { const b = (n.closest("label") || n).getBoundingClientRect();
        return { x: b.x, y: b.y, width: b.width, height: b.height }; }""")
    pad = 8
    clip = {"x": max(0, box["x"] - pad), "y": max(0, box["y"] - pad), "width": box["width"] + 2*pad, "height": box["height"] + 2*pad}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip, animations="disabled"))).convert("RGB")).astype(int)


def focus_is_seen(page: Any) -> bool:
    "The focused control looks different once the focus has gone elsewhere: more than 40 pixels by more than 60 levels."
    page.evaluate("document.activeElement.scrollIntoView({ block: 'center', behavior: 'instant' })")
    page.wait_for_timeout(60)
    element = page.evaluate_handle("document.activeElement")
    with_focus = looks(page, element)
    element.evaluate("n => n.blur()")
    page.wait_for_timeout(60)
    without = looks(page, element)
    element.evaluate("n => n.focus({ focusVisible: true, preventScroll: true })")
    return with_focus.shape == without.shape and int((np.abs(with_focus - without).max(2) > 60).sum()) > 40


KEYS = {"range": ("ArrowRight", "ArrowLeft"), "select-one": ("ArrowDown", "ArrowUp"), "checkbox": ("Space",),
        "radio": ("ArrowRight", "ArrowLeft"), "slider": ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown")}


def answers(page: Any, kind: str) -> bool:
    "One of the control's keys changes what the figure shows or says; a button hears Space and Enter."
    if kind in ("button", "submit"):
        page.evaluate("""() => { window.heard = 0; document.activeElement.addEventListener("click", (e) => {
            window.heard++; e.stopImmediatePropagation(); }, { capture: true }); }""")
        page.keyboard.press("Enter")
        page.keyboard.press("Space")
        return page.evaluate("window.heard") == 2
    for key in KEYS.get(kind, KEYS["slider"]):
        before = page.evaluate(STATE)
        page.keyboard.press(key)
        page.wait_for_timeout(120)
        if page.evaluate(STATE) != before:
            if kind == "checkbox": page.keyboard.press(key)      # back: it may have switched off what comes next
            page.wait_for_timeout(60)
            return True
    return False


@pytest.mark.parametrize("name", KINDS)
def test_a_walk_through_every_figure(browser, tmp_path, name):
    with opened(browser, [KINDS[name]()], tmp_path, reduced_motion="reduce") as page:
        stops = page.evaluate(AROUND, ".widget-live")
        assert stops, "a moving figure without a control"
        page.focus("#walk-before")
        seen, order = set(), []
        for _ in range(stops + 1):
            page.keyboard.press("Tab")
            here = page.evaluate(HERE)
            if here == "walk-after": break
            assert isinstance(here, int) and here >= 0, f"the focus went to {page.evaluate(ABOUT)}"
            about = page.evaluate(ABOUT)
            print(f"{name} {here}: {about['kind']}, {about['name']}")
            assert about["name"], f"control {here} has no name"
            assert focus_is_seen(page), f"nobody sees the focus on {about}"
            if about["kind"] == "radio":                        # which one is chosen changes where Tab stops: by name
                assert answers(page, "radio"), about
                here = page.evaluate("() => window.walkStops.findIndex((n) => n.name && n.name === document.activeElement.name)")
            else: assert answers(page, about["kind"]), f"no key changes {about}"
            seen.add(here)
            order.append(here)
        assert page.evaluate(HERE) == "walk-after", "Tab does not lead out of the figure"
        assert len(seen) == stops, f"Tab passes by {sorted(set(range(stops)) - seen)}"
        assert order == sorted(order), "the order of Tab is not that of the figure"
        for _ in range(stops + 1): page.keyboard.press("Shift+Tab")
        assert page.evaluate(HERE) == "walk-before", "Shift+Tab does not lead back"


def walk(page: Any) -> Iterator[str]:
    "Through the quiz of a page: what doesn't answer to the keyboard."
    for i in range(page.locator(".quiz").count()):
        quiz = page.locator(".quiz").nth(i)
        options = quiz.locator(".quiz-option")
        right = int(quiz.get_attribute("data-right"))
        quiz.evaluate("""n => { const b = Object.assign(document.createElement("button"), { id: "walk-before" });
            n.before(b); b.focus(); }""")
        for link in quiz.locator("legend a[href]").all():
            page.keyboard.press("Tab")
            if not link.evaluate("n => n === document.activeElement"): yield f"question {i + 1}: a link is passed by"
        for k in range(options.count()):
            at = f"question {i + 1}, option {k + 1}"
            page.keyboard.press("Tab")
            if not options.nth(k).evaluate("n => n === document.activeElement"): yield f"{at} is not the next stop"
            if k == 0 and not focus_is_seen(page): yield f"{at}: nobody sees the focus"
            page.keyboard.press("Space" if k % 2 else "Enter")
            if options.nth(k).get_attribute("aria-pressed") != "true": yield f"{at} does not hear its key"
            said = quiz.locator("[role=status]").inner_text()
            if not said.startswith("Right." if k == right else "Not quite.") or len(said) <= 20: yield f"{at} says {said!r}"
        page.keyboard.press("Tab")
        at_fold = quiz.locator("summary").evaluate("n => n === document.activeElement")
        if not at_fold: yield f"question {i + 1}: the fold is not the next stop"
        page.keyboard.press("Enter")
        if quiz.locator("details").get_attribute("open") is None: yield f"question {i + 1}: the fold stays closed"
        for _ in range(12):
            page.keyboard.press("Tab")
            if not quiz.evaluate("n => n.contains(document.activeElement)"): break
        else: yield f"question {i + 1}: Tab does not lead out"
        page.evaluate("document.querySelector('#walk-before').remove()")


def test_a_walk_through_every_quiz(browser):
    "Links of the question, then its options take the focus; Enter and Space answer; the words say so; the fold opens; Tab leads on."
    context = browser.new_context(viewport={"width": 1000, "height": 900}, reduced_motion="reduce", offline=True)
    page, bad = context.new_page(), []
    page.set_default_timeout(60_000)
    for name in QUIZZES:
        try:
            page.goto((SITE/f"{name}.html").as_uri())
            page.wait_for_selector(".quiz-live")
            bad += [f"{name}: {what}" for what in walk(page)]
        except Error as e: bad.append(f"{name}: {e}")
    context.close()
    assert len(QUIZZES) == len(stamps.notebooks()) - 1 and not bad, "\n".join(bad)   # all but the opening page


def test_a_page_from_its_first_stop_to_its_last(browser):
    "The skip link comes first and leads to the text; Tab then visits the whole page and shows where it is."
    context = browser.new_context(viewport={"width": 1300, "height": 900}, reduced_motion="reduce", offline=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(chapters.page("CAM course", SITE).as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0, "the skip link stays out of sight"
    trail = []
    for _ in range(400):
        page.keyboard.press("Tab")
        at = page.evaluate("""() => { const n = document.activeElement, s = getComputedStyle(n), b = n.getBoundingClientRect();
            return n === document.body ? null : [n.outerHTML.slice(0, 80), s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2
              || n.closest(".cc-choice, .cc-handle, .cc-pad") !== null, b.bottom > 0 && b.top < innerHeight]; }""")
        if at is None: break
        trail.append(at)
    else: pytest.fail("the page has no end for Tab")
    assert len(trail) > 50
    assert not [html for html, outlined, _ in trail if not outlined], "no outline"
    assert not [html for html, _, visible in trail if not visible], "focus out of sight"
    context.close()
