"""The site that `make book` made, seen with a real browser: complete, offline, without an error, on every screen.

Chromium is driven by playwright, with every request that would leave the machine blocked and counted. Where it is
missing these tests are skipped, with a word on how to get it; CAM_COURSE_REQUIRE_BROWSER=1 makes that a failure.
"""
import contextlib
import functools
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import book_numbers
import chapters
import outputs
import pytest
import reading
import stamps
from playwright.sync_api import TimeoutError as StillOther
from sitefiles import NOTEBOOKS, PAGES, text_of

import build

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("site")


# ---- the files

# Still pictures in sight beside figures that move; a figure that sleeps keeps its own until it is woken.
STILL = """() => [...document.querySelectorAll('.widget-still')].filter((e) =>
  e.checkVisibility() && e.getClientRects().length && !e.closest('.cell, body').querySelector('.cc-wake')).length"""


def test_every_page_of_the_toc_exists(site):
    assert not build.missing_pages(site)


def test_every_notebook_is_in_the_toc():
    assert not [chapters.at(path) for page, path in NOTEBOOKS.items() if page not in PAGES]


def test_the_site_is_up_to_date(site):
    assert build.is_current(), "the site is older than its sources: run `make book`"


class Pictures(HTMLParser):
    "Sources and alternative texts of a page's pictures."

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "img": self.found.append((a.get("src", ""), (a.get("alt") or "").strip()))


def saved_words(path: Path) -> set[str]:
    "The alt texts of the pictures that a notebook shows."
    cells = filter(book_numbers.has_picture, stamps.load(path)["cells"])
    made = [(o["metadata"], mime) for c in cells for o in c["outputs"] for mime in o.get("data", {}) if mime.startswith("image/")]
    return {(about.get(mime, {}).get("alt") or about.get("alt") or "").strip() for about, mime in made}


def lost_words(page: str, text: str, saved: set[str]) -> Iterator[str]:
    "The words that a notebook gives to its pictures come with them; no picture goes without, but the logo, whose link says the name."
    shown = [(src, alt) for src, alt in Pictures(text).found if "logo" not in src]
    yield from (f"{page}: {src[-60:]} has no words" for src, alt in shown if not alt)
    yield from (f"{page}: no picture says {alt!r}" for alt in sorted(saved - {alt for _, alt in shown}))


def test_pictures_say_what_their_notebooks_say():
    "That a picture has words at all is test_notebooks.py's: there it can be mended."
    words = {page: saved_words(path) for page, path in NOTEBOOKS.items()}
    bad = [what for page in PAGES for what in lost_words(page, text_of(page), words.get(page, set()))]
    assert sum(map(len, words.values())) > 100 and not bad, "\n".join(bad)


def foreign_loads(page: str, text: str) -> Iterator[str]:
    "No script, style sheet, font or picture has an address outside the site (the browser test sees what scripts add)."
    for pattern in (r"<(?:script|img|iframe|source)[^>]*\bsrc=\"(?:https?:)?//[^\"]*",
                    r"<link[^>]*rel=\"(?:stylesheet|\w*preload|icon)\"[^>]*href=\"https?://[^\"]*"):
        yield from (f"{page}: {m[0]}" for m in re.finditer(pattern, text))


def test_nothing_is_fetched_from_elsewhere():
    bad = [what for page in PAGES for what in foreign_loads(page, text_of(page))]
    assert not bad, "\n".join(bad)


def raw_marks(page: str, text: str) -> Iterator[str]:
    "Directives, citations and exercises were translated, and nothing printed an object's address."
    text = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)
    prose = re.sub(r"<[^>]+>", "", re.sub(r"<pre.*?</pre>", "", text, flags=re.S))
    code = re.sub(r"<[^>]+>", "", "\n".join(re.findall(r"<pre>(.*?)</pre>", text, flags=re.S)))
    for where, pattern in ((prose, r"\[@\w+|\{cite|&lt;details|show_doc\(|Exercise:"),
                           (code, r"(?m)^#\s*\|\s*\w+|# smoke: |object at 0x")):
        yield from (f"{page}: {where[max(0, m.start() - 30):m.end() + 30]!r}" for m in re.finditer(pattern, where))


def test_no_mark_is_left_raw():
    bad = [what for page in PAGES for what in raw_marks(page, text_of(page))]
    assert not bad, "\n".join(bad)


def test_the_rules_for_pages_see_what_breaks_them():
    def seen(rule, *texts, **more): return all(list(rule("p.html", t, **more)) for t in texts)
    assert seen(foreign_loads, '<script src="https://a.org/x.js">', '<img src="//a.org/x.png">', '<iframe id="i" src="http://a.org">',
                '<link rel="stylesheet" href="https://a.org/x.css">', '<link rel="modulepreload" href="https://a.org/x.js">')
    assert seen(raw_marks, "<p>[@smith2017]</p>", "<p>{cite}`x`</p>", "<p>&lt;details></p>", "<p>### Exercise: a</p>",
                "<pre>#| export\nx</pre>", "<pre>n = 3  # smoke: 1</pre>", "<pre><span>&lt;f object at 0x7f</span></pre>")
    assert seen(lost_words, "<img src='a.png'>", "<img src='a.png' alt=' '>", "<img alt='another line'>", "", saved={"a line"})
    good = '<script src="a.js"></script><img src="logo.svg"><img src="a.png" alt="a line"><p>Text</p><pre>x = 1  # one</pre>'
    assert not [*foreign_loads("", good), *raw_marks("", good), *lost_words("", good, {"a line"})]


def test_pages_show_their_stamp():
    bad = []
    for page, path in NOTEBOOKS.items():
        nb, text = stamps.load(path), text_of(page)
        stamp = stamps.stamp_of(nb)
        if not stamp:
            bad.append(f"{chapters.at(path)} has no stamp: make outputs NB={path.stem}")
            continue
        shown = 'class="stamp"' in text and stamp["date"] in text and stamp["versions"]["torch"] in text
        if not shown: bad.append(f"{page} doesn't show when and with what it ran")
        changed = stamp["library_hash"] != stamps.library_hash(nb)
        if ("library has changed since" in text) != changed: bad.append(f"{page}: has the library changed since?")
    assert not bad, "\n".join(bad)


# ---- the browser

class Visit:
    "A page opened in a fresh context; `trouble` holds what should not have happened."

    def __init__(self, browser, base: str, page: str, width: int = 1300, scheme: str = "light"):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme,
                                           reduced_motion="reduce")
        self.context.set_default_timeout(90_000)   # a busy machine is slow, not wrong
        self.page, self.trouble = self.context.new_page(), []
        self.page.on("request", lambda r: self.trouble.append(f"request to {r.url}")
                     if not r.url.startswith((base, "data:", "blob:")) else None)
        self.page.on("response", lambda r: self.trouble.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        self.page.on("console", lambda m: self.trouble.append(f"console: {m.text}") if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.trouble.append(f"error: {e}"))
        self.base = base
        self.page.goto(base + page, wait_until="load")

    def open(self, page: str, width: int, scheme: str) -> None:
        "Another page in the same tab."
        self.page.wait_for_load_state("networkidle")           # what the last one asked for isn't this one's trouble
        self.trouble.clear()
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        self.page.goto(self.base + page, wait_until="load")

    def read_to_the_end(self):
        "Scroll through, so that everything lazy is loaded, and wait for the mathematics."
        self.page.evaluate("""async () => {
            for (let y = 0; y < document.documentElement.scrollHeight; y += 1500) {   // figures wake 2,000 px ahead
                scrollTo(0, y); await new Promise((r) => setTimeout(r, 30)); }
            if (window.MathJax?.startup) await MathJax.startup.promise; }""")
        self.page.wait_for_load_state("networkidle")

    def __enter__(self): return self

    def __exit__(self, *exc): self.context.close()


@pytest.fixture(scope="module")
def visit(browser, address) -> Iterator["Visit"]:
    "One tab for all pages: the theme's scripts and the mathematics are read once."
    with Visit(browser, address, PAGES[0]) as v: yield v


def looked_at(v: "Visit", page: str, figures: int = 0) -> Iterator[str]:
    """No request leaves the machine, nothing fails, nothing is wider than the screen, no picture is stretched; a wide page
    is opened in the dark, and lit; `figures` are drawn in place of their pictures."""
    for width, schemes in ((1300, ["dark", "light"]), (390, ["light"])):
        v.open(page, width, schemes[0])
        for scheme in schemes:
            at = f"{page} at {width} px, {scheme}"
            v.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            v.read_to_the_end()
            with contextlib.suppress(StillOther):   # the page hears of the change a moment later
                v.page.wait_for_function("(wanted) => document.documentElement.dataset.theme === wanted", arg=scheme, timeout=3000)
            if (theme := v.page.evaluate("document.documentElement.dataset.theme")) != scheme: yield f"{at}: the theme is {theme}"
            wide = v.page.evaluate("document.documentElement.scrollWidth")
            if wide > width: yield f"{at}: {wide} px wide: {v.page.evaluate(WIDEST)}"
            if (width, scheme) == (1300, "light"): yield from reading.faults(page, v.page.evaluate(reading.LOOK))
        if stretched := v.page.evaluate(STRETCHED): yield f"{at}: shown in another shape than they have: {stretched}"
        drawn, still = v.page.locator(".widget-live > *").count(), v.page.evaluate(STILL)
        if drawn < figures or (figures and still): yield f"{at}: {drawn} of {figures} moving figures are drawn, {still} still ones show"
        yield from (f"{at}: {what}" for what in v.trouble)


def test_marks_of_reading_are_seen():
    good = {"height": 9000, "end": 800, "tallest": 480, "code": .15, "cut": [], "run": 400}
    bad = {"first figure": {"end": 901}, "code": {"code": .31}, "cut": {"cut": ["x = 1"]}, "run": {"run": 601}}
    assert not reading.missed(good) and "first figure" in reading.missed({**good, "tallest": 701})
    assert "first figure" in reading.missed({**good, "end": None})
    for mark, change in bad.items(): assert list(reading.missed({**good, **change})) == [mark]
    assert not [name for name in reading.not_yet() if f"nbs/{name}.html" not in PAGES]


# Every eighth page each: a worker that has nothing left takes one of the groups
@pytest.mark.parametrize("pages", [PAGES[i::8] for i in range(8)], ids=range(1, 9))
def test_pages_in_the_browser(visit, pages):
    figures = moving_pages()
    bad = [what for page in pages for what in looked_at(visit, page, figures.get(page, 0))]
    assert not bad, "\n".join(bad)


SPOILED = {   # what is added to a page -> what is said of it
    "<img src='http://192.0.2.1/a.png' alt='a'>": "request to http://192.0.2.1/a.png",
    "<script src='gone.js'></script>": "404 ",
    "<script>console.error('oh')</script>": "console: oh",
    "<script>throw new Error('ouch')</script>": "error: ouch",
    "<div style='width: 2000px; height: 1px'></div>": "px, light: 20",
    "<img src='/_static/favicon.svg' alt='a' style='width: 90px; height: 30px'>": "shown in another shape",
    "<script>setInterval(() => { document.documentElement.dataset.theme = 'light'; }, 1);</script>": "px, dark: the theme is light",
    "<img class='widget-still' src='/_static/favicon.svg' alt='a'>": "0 of 1 moving figures are drawn, 1 still",
}


def test_the_browser_sees_what_is_wrong(visit):
    "A page of the site with every fault at once: each is said."
    page = next(p for p in PAGES if p not in moving_pages())
    body = text_of(page).replace("</article>", "".join(SPOILED) + "</article>", 1)
    visit.page.route(f"**/{page}", lambda route: route.fulfill(body=body, content_type="text/html"))
    told = list(looked_at(visit, page, figures=1))
    visit.page.unroute(f"**/{page}")
    assert not (unsaid := [said for said in SPOILED.values() if not any(said in t for t in told)]), (unsaid, told)
    assert all(t.startswith(f"{page} at ") for t in told)


WIDEST = """() => [...document.querySelectorAll("main *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1
        && !e.closest("pre, .pst-scrollable-table-container, mjx-container")).slice(0, 3)
    .map((e) => e.outerHTML.slice(0, 120))"""


STRETCHED = """() => [...document.querySelectorAll("main img")].filter((i) => i.clientWidth && i.naturalWidth
        && Math.abs(i.clientWidth / i.clientHeight * i.naturalHeight / i.naturalWidth - 1) > 0.03)
    .slice(0, 3).map((i) => `${i.src.slice(-30)}: ${i.clientWidth}x${i.clientHeight} of ${i.naturalWidth}x${i.naturalHeight}`)"""


@functools.cache
def moving_pages() -> dict[str, int]:
    "Page -> how many moving figures its notebook has saved."
    books = {page: stamps.load(path) for page, path in NOTEBOOKS.items()}
    return {page: sum(outputs.VIEW in o.get("data", {}) for c in nb["cells"] for o in c.get("outputs", []))
            for page, nb in books.items() if "widgets" in nb["metadata"]}


def test_without_javascript_moving_figures_are_pictures(browser, address):
    "That they are drawn where there is JavaScript: test_pages_in_the_browser."
    context = browser.new_context(java_script_enabled=False)
    page, bad = context.new_page(), {}
    for name, figures in moving_pages().items():
        page.goto(address + name)
        if (shown := page.locator("img.widget-still").count()) != figures: bad[name] = f"{shown} pictures for {figures} figures"
    context.close()
    assert len(moving_pages()) > 10 and not bad, bad


def search(v: Visit, word: str) -> list[str]:
    v.page.wait_for_selector("#search-results li a")
    return v.page.locator("#search-results li a").all_inner_texts()


def test_search_finds(browser, address):
    with Visit(browser, address, "search.html?q=momentum") as v:
        assert any("omentum" in t for t in search(v, "momentum")) and not v.trouble


def test_everything_works_from_the_file_system(browser, site):
    "index.html opened by a double click: mathematics, moving figures and search included."
    base = site.as_uri() + "/"
    with Visit(browser, base, "index.html") as v:
        v.page.wait_for_url("**/nbs/index.html")
        assert not v.trouble
    with Visit(browser, base, "search.html?q=momentum") as v:
        assert any("omentum" in t for t in search(v, "momentum")) and not v.trouble
    page = next(p for p in moving_pages() if 'class="math' in (site/p).read_text(encoding="utf-8"))
    with Visit(browser, base, page) as v:
        v.read_to_the_end()
        assert v.page.locator(".widget-live > *").count() and v.page.locator("mjx-container").count()
        assert not v.trouble


def test_solutions_open_by_keyboard(browser, address):
    "A hidden solution is closed at first, takes the focus and opens with Enter."
    page = next(p for p in PAGES if "<summary>Solution</summary>" in text_of(p))   # an answer opens with its question
    with Visit(browser, address, page) as v:
        solution = v.page.locator('details.solution:has(> summary:text-is("Solution"))').first
        assert solution.get_attribute("open") is None
        solution.locator("summary").focus()
        v.page.keyboard.press("Enter")
        assert solution.get_attribute("open") is not None


def test_theme_button_switches(browser, address):
    with Visit(browser, address, PAGES[0]) as v:
        seen = set()
        for _ in range(3):
            v.page.locator("button.theme-switch-button:visible").first.click()
            seen.add(v.page.evaluate("document.documentElement.dataset.theme"))
        assert seen == {"light", "dark"}


def test_fresh_run_is_shown(site):
    summary = json.loads((site/"fresh_run"/"summary.json").read_text(encoding="utf-8"))
    text = (site/"book"/"fresh_run.html").read_text(encoding="utf-8")
    assert summary["shown"]["test accuracy"] in text and (site/"fresh_run"/"report.html").stat().st_size > 50_000
