"""What a page costs its reader: at most 1 MB over the line, ready in a second, and nothing that jumps.

Weights are gzipped, as every web host sends them, and leave out the pictures of the page itself.
"""
import functools
import gzip
import re
from typing import Any
from urllib.parse import urlparse

import pytest

import build

pytestmark = pytest.mark.long

SITE = build.SITE
PAGES = [f"{p}.html" for p in build.toc_pages()]
WEIGHT, READY, JUMP = 1_000_000, 1.0, 0.1
WATCH = """() => {
  window.jumps = [];
  new PerformanceObserver((list) => { for (const e of list.getEntries()) if (!e.hadRecentInput) window.jumps.push([e.value,
    e.sources.map((s) => s.node?.outerHTML?.slice(0, 80) || s.node?.textContent?.slice(0, 40)).join(" | ")]); })
    .observe({ type: "layout-shift", buffered: true });
}"""
READ = """async () => {
  for (let y = 0; y < document.documentElement.scrollHeight; y += 600) { scrollTo(0, y); await new Promise((r) => setTimeout(r, 25)); }
  if (window.MathJax?.startup) await MathJax.startup.promise;
  await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
}"""


@functools.cache
def wire(path: str) -> int:
    "Bytes that a file of the site costs on the line, without the pictures that a page (the report) carries inside."
    data = (SITE/path).read_bytes()
    if path.endswith(".html"): data = re.sub(rb"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", b"", data)
    return min(len(data), len(gzip.compress(data, 6)))


def cost(browser: Any, address: str, page: str, width: int) -> list[str]:
    "What is heavy, slow or restless about a page that is opened for the first time."
    ready = []
    for attempt in range(3):                                     # the best of three: the machine has other work too
        context = browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce")
        context.set_default_timeout(90_000)
        tab, asked = context.new_page(), []
        tab.on("request", lambda r, asked=asked: asked.append(r.url))
        tab.add_init_script(f"({WATCH})()")
        tab.goto(address + page, wait_until="load")
        ready.append(tab.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")/1000)
        if attempt == 0:
            first = {urlparse(u).path.lstrip("/") for u in asked if u.startswith(address)}
            away = [u for u in asked if not u.startswith((address, "data:", "blob:"))]
            weights = {p: wire(p) for p in first if not p.startswith("_images/") and (SITE/p).is_file()}
            tab.evaluate(READ)
            jumps = tab.evaluate("window.jumps")
        context.close()
        if ready[-1] <= READY: break
    total, jump = sum(weights.values()), sum(v for v, _ in jumps)
    print(f"{page} at {width} px: {total/1e3:.0f} kB, ready after {min(ready)*1e3:.0f} ms, moved by {jump:.3f}")
    return [what for wrong, what in (
        (away, f"asks elsewhere: {away}"),
        (total > WEIGHT, f"{total} bytes; the heaviest: {sorted(weights.items(), key=lambda kv: -kv[1])[:4]}"),
        (min(ready) > READY, f"ready after {ready} s"),
        (jump > JUMP, f"moved by {jump:.3f}: {sorted(jumps, reverse=True)[:4]}")) if wrong]


@pytest.mark.parametrize("width", [1300, 390])
def test_every_page_is_light_quick_and_calm(browser, address, width):
    bad = [f"{page} at {width} px: {what}" for page in PAGES for what in cost(browser, address, page, width)]
    assert not bad, "\n".join(bad)
