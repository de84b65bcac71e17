"""The site that `make book` made, seen with a real browser: complete, offline, without an error, on every screen.

Chromium is driven by playwright, with every request that would leave the machine blocked and counted. Where it is
missing these tests are skipped, with a word on how to get it; CAM_COURSE_REQUIRE_BROWSER=1 makes that a failure.
"""
import functools
import http.server
import json
import re
import threading
from html.parser import HTMLParser
from pathlib import Path

import outputs
import pytest
import stamps

import build

ROOT = Path(__file__).resolve().parent.parent
SITE = build.SITE
PAGES = [f"{p}.html" for p in build.toc_pages()]
every_page = pytest.mark.parametrize("page", PAGES)


@pytest.fixture(scope="session", autouse=True)
def site() -> Path:
    if not (SITE/"index.html").exists(): pytest.fail("there is no site: run `make book` first")
    return SITE


# ---- the files

def test_every_page_of_the_toc_exists(site):
    assert not build.missing_pages(site)


def test_every_notebook_is_in_the_toc():
    toc = set(build.toc_pages())
    assert not [p.stem for p in stamps.notebooks() if f"nbs/{p.stem}" not in toc]


def test_the_site_is_up_to_date(site):
    assert build.is_current(), "the site is older than its sources: run `make book`"


class Pictures(HTMLParser):
    "Sources and alternative texts of a page's pictures."

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "img": self.found.append((a.get("src", "")[:60], a.get("alt")))


@every_page
def test_every_picture_has_alt_text(site, page):
    "Empty alt text is for the logo alone, whose link says the name."
    parser = Pictures()
    parser.feed((site/page).read_text(encoding="utf-8"))
    bad = [src for src, alt in parser.found if not alt and "logo" not in src]
    assert not bad, f"{page}: {bad}"


@every_page
def test_nothing_is_fetched_from_elsewhere(site, page):
    "No script, style sheet, font or picture has an address outside the site (the browser test sees what scripts add)."
    text = (site/page).read_text(encoding="utf-8")
    loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\bsrc=\"(https?:)?//[^\"]*", text)
    loaded += re.findall(r"<link[^>]*rel=\"(?:stylesheet|\w*preload|icon)\"[^>]*href=\"https?://[^\"]*", text)
    assert not loaded


@every_page
def test_no_mark_is_left_raw(site, page):
    "Directives, citations and exercises were translated, and nothing printed an object's address."
    text = re.sub(r"<(script|style).*?</\1>", "", (site/page).read_text(encoding="utf-8"), flags=re.S)
    prose = re.sub(r"<[^>]+>", "", re.sub(r"<pre.*?</pre>", "", text, flags=re.S))
    code = re.sub(r"<[^>]+>", "", "\n".join(re.findall(r"<pre>(.*?)</pre>", text, flags=re.S)))
    assert not re.findall(r"\[@\w+|\{cite|&lt;details|show_doc\(|Exercise:", prose)
    assert not re.findall(r"(?m)^#\s*\|\s*\w+|# smoke: |object at 0x", code)


def test_pages_show_their_stamp(site):
    for path in stamps.notebooks():
        nb, text = stamps.load(path), (site/"nbs"/f"{path.stem}.html").read_text(encoding="utf-8")
        stamp = stamps.stamp_of(nb)
        assert stamp, f"{path.stem} has no stamp: make outputs NB={path.stem}"
        assert 'class="stamp"' in text and stamp["date"] in text and stamp["versions"]["torch"] in text, path.stem
        changed = stamp["library_hash"] != stamps.library_hash(nb)
        assert ("library has changed since" in text) == changed, path.stem


# ---- the browser

@pytest.fixture(scope="session")
def address(site):
    "The site, served on this machine alone."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


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
        self.page.goto(base + page, wait_until="load")

    def read_to_the_end(self):
        "Scroll through, so that everything lazy is loaded, and wait for the mathematics."
        self.page.evaluate("""async () => {
            for (let y = 0; y < document.documentElement.scrollHeight; y += 1500) {   // figures wake 2,000 px ahead
                scrollTo(0, y); await new Promise((r) => setTimeout(r, 30)); }
            if (window.MathJax?.startup) await MathJax.startup.promise; }""")
        self.page.wait_for_load_state("networkidle")

    def __enter__(self): return self

    def __exit__(self, *exc): self.context.close()


@every_page
@pytest.mark.parametrize(("width", "schemes"), [(1300, ["dark", "light"]), (390, ["light"])], ids=["wide", "phone"])
def test_page_in_the_browser(browser, address, page, width, schemes):
    """No request leaves the machine, nothing fails, nothing is wider than the screen, no picture is stretched; a wide page
    is opened in the dark, and lit."""
    with Visit(browser, address, page, width, schemes[0]) as v:
        for scheme in schemes:
            v.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            v.read_to_the_end()
            assert v.page.evaluate("document.documentElement.dataset.theme") == scheme
            wide = v.page.evaluate("document.documentElement.scrollWidth")
            assert not v.trouble
            assert wide <= width, f"{wide} px wide on a screen of {width}: {v.page.evaluate(WIDEST)}"
        assert not (stretched := v.page.evaluate(STRETCHED)), f"shown in another shape than they have: {stretched}"


WIDEST = """() => [...document.querySelectorAll("main *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1
        && !e.closest("pre, .pst-scrollable-table-container, mjx-container")).slice(0, 3)
    .map((e) => e.outerHTML.slice(0, 120))"""


STRETCHED = """() => [...document.querySelectorAll("main img")].filter((i) => i.clientWidth && i.naturalWidth
        && Math.abs(i.clientWidth / i.clientHeight * i.naturalHeight / i.naturalWidth - 1) > 0.03)
    .slice(0, 3).map((i) => `${i.src.slice(-30)}: ${i.clientWidth}x${i.clientHeight} of ${i.naturalWidth}x${i.naturalHeight}`)"""


def moving_pages() -> list[str]:
    with_widgets = [p for p in stamps.notebooks() if "widgets" in stamps.load(p)["metadata"]]
    return [f"nbs/{p.stem}.html" for p in with_widgets]


@pytest.mark.parametrize("page", moving_pages())
def test_moving_figures_come_alive(browser, address, page):
    "Each saved figure is drawn in place of its picture; with JavaScript off the picture is there."
    nb = stamps.load(ROOT/page.replace(".html", ".ipynb"))
    saved = [o for c in nb["cells"] for o in c.get("outputs", [])]
    n = sum(outputs.VIEW in o.get("data", {}) for o in saved)
    with Visit(browser, address, page) as v:
        v.read_to_the_end()
        assert v.page.locator(".widget-live > *").count() >= n
        assert v.page.locator(".widget-still:visible").count() == 0
        assert not v.trouble
    context = browser.new_context(java_script_enabled=False)
    still = context.new_page()
    still.goto(address + page)
    assert still.locator("img.widget-still").count() == n
    context.close()


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
    page = next(p for p in PAGES if 'class="solution"' in (SITE/p).read_text(encoding="utf-8"))
    with Visit(browser, address, page) as v:
        solution = v.page.locator("details.solution").first
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
