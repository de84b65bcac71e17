"""axe-core on every page of the site, light and dark: no violation of WCAG 2.1 A or AA.

Each page is looked at as a reader leaves it: scrolled through, so that every moving figure is drawn and the mathematics set, every
fold and solution open, every question answered. It is loaded once; the theme is switched in place, as its own button does.
"""
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Error

import build

pytestmark = pytest.mark.long

SITE = build.SITE
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
PAGES = sorted({f"{p}.html" for p in build.toc_pages()} | {
    p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html") if "_static" not in p.parts and p != SITE/"index.html"})

READ = """async () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  for (const question of document.querySelectorAll(".quiz")) question.querySelector(".quiz-option")?.click();
  for (let y = 0; y < document.documentElement.scrollHeight; y += 1500) {
    scrollTo(0, y);
    await new Promise((done) => setTimeout(done, 15));
  }
  if (window.MathJax?.startup) await MathJax.startup.promise;
}"""
LOOK = """async ([theme, tags]) => {
  document.documentElement.dataset.theme = theme;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));   // figures draw themselves anew
  const found = await axe.run(document, { runOnly: tags, resultTypes: ["violations"], iframes: false, preload: false });
  return found.violations.map((v) => `${theme}: ${v.id}, ${v.nodes.length} times: ${v.help}\\n` + v.nodes.slice(0, 4).map(
    (n) => [n.html.slice(0, 140), n.failureSummary.slice(0, 240)].map((t) => "    " + t.replace(/\\s+/g, " ")).join("\\n")).join());
}"""


@pytest.fixture(scope="module")
def page(browser) -> Iterator[Any]:
    "One page for all: the theme's scripts and styles are read once."
    context = browser.new_context(viewport={"width": 1300, "height": 900}, color_scheme="light", reduced_motion="reduce", offline=True)
    context.set_default_timeout(120_000)   # a busy machine is slow, not wrong
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def axe() -> str:
    "axe-core, as the development tool axe-playwright-python brings it along."
    return (files("axe_playwright_python")/"axe.min.js").read_text(encoding="utf-8")


def test_axe_finds_nothing(page, axe):
    "In any page; a page that doesn't answer is named too."
    bad = []
    for name in PAGES:
        try:
            page.goto((SITE/name).as_uri())
            page.evaluate(READ)
            page.evaluate(axe)
            bad += [f"{name}, {text}" for theme in ("light", "dark") for text in page.evaluate(LOOK, [theme, TAGS])]
        except Error as e: bad.append(f"{name}: {e}")
    assert not bad, "\n" + "\n".join(bad)


def test_axe_sees_what_is_wrong(page, axe):
    "The test can fail: a picture without alt text and pale words are found, in the theme in which they are pale."
    page.goto("about:blank")
    page.set_content("""<html lang="en"><title>t</title><style>[data-theme=dark] body { background: #111 } p { color: #222 }</style>
        <main><h1>t</h1><p style="color: #999">pale</p><p>words</p><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="></main>""")
    page.evaluate(axe)
    light, dark = (page.evaluate(LOOK, [theme, TAGS]) for theme in ("light", "dark"))
    assert [v.split(",")[0] for v in light] == ["light: color-contrast", "light: image-alt"]
    assert "1 times" in light[0] and "words" not in light[0]
    assert any("color-contrast" in v and "<p>words" in v for v in dark)
