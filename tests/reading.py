"""How a chapter is to read, measured in the browser: the figure first, little code in sight, nothing cut off.

The marks hold for the chapters of the path (those with a number). book/not_yet.yml lists which of them a chapter misses; a
mark that is met must leave the list, so it can only shrink.
"""
import functools
import re
from collections.abc import Iterator
from typing import Any

import yaml
from stamps import ROOT

FIRST, TALLEST, CODE, RUN = 900, 700, .30, 600   # px, px, share of the height, px
LIST = ROOT/"book"/"not_yet.yml"
CODE_IS_THE_POINT = {"41_own_repository"}   # a chapter that types a repository: the share of code says nothing there
LOOK = """() => {
  const art = document.querySelector('article'), height = (e) => e.getBoundingClientRect().height;
  const top = (e) => e.getBoundingClientRect().top + scrollY, seen = (e) => e.checkVisibility() && height(e) > 0;
  const blocks = [...art.querySelectorAll('div.highlight')].filter((e) => seen(e) && !e.closest('.cell_output'));
  const figures = [...art.querySelectorAll('img, canvas, svg, figure, .widget-live > *')]
    .filter((e) => seen(e) && height(e) >= 120 && !e.parentElement.closest('figure, svg, .widget-live > *'))
    .sort((a, b) => top(a) - top(b));
  let run = 0, longest = 0;
  for (const e of art.querySelectorAll('div.highlight, p, li, table, h2, h3, img, canvas, svg')) {
    if (!seen(e)) continue;
    if (e.matches('div.highlight')) { if (!e.closest('.cell_output')) longest = Math.max(longest, run += height(e)); }
    else if (!e.closest('div.highlight') && (height(e) >= 120 || (e.innerText || '').trim().length >= 20)) run = 0;
  }
  const cut = blocks.filter((e) => { const p = e.querySelector('pre'); return p && p.scrollWidth > p.clientWidth + 2; });
  return {height: height(art), end: figures.length ? top(figures[0]) + height(figures[0]) : null,
          tallest: figures.length ? height(figures[0]) : 0, code: blocks.reduce((a, e) => a + height(e), 0)/height(art),
          cut: cut.map((e) => e.innerText.slice(0, 60)), run: longest};
}"""


@functools.cache
def not_yet() -> dict[str, list[str]]:
    "Page -> the marks that it still misses."
    return yaml.safe_load(LIST.read_text(encoding="utf-8")) or {}


def missed(look: dict[str, Any]) -> dict[str, str]:
    "Mark -> how a page misses it."
    marks = {
        "first figure": look["end"] is None or look["end"] > FIRST or look["tallest"] > TALLEST,
        "code": look["code"] > CODE, "cut": bool(look["cut"]), "run": look["run"] > RUN}
    told = {"first figure": f"the first figure ends at {look['end']} px and is {look['tallest']:.0f} px high",
            "code": f"{look['code']:.0%} of the height is code in sight", "cut": f"cut off at the right: {look['cut']}",
            "run": f"{look['run']:.0f} px of code in a row"}
    return {mark: told[mark] for mark, is_missed in marks.items() if is_missed}


def is_chapter(page: str) -> bool: return re.match(r"nbs/\d\d_", page) is not None


def faults(page: str, look: dict[str, Any]) -> Iterator[str]:
    "What an open page (wide, light) misses and is not on the list, and what is on the list though it is met."
    if not is_chapter(page): return
    name, found = page.removeprefix("nbs/").removesuffix(".html"), missed(look)
    if name in CODE_IS_THE_POINT: found.pop("code", None)
    listed = not_yet().get(name, [])
    yield from (f"{page} at 1300 px: {how}" for mark, how in found.items() if mark not in listed)
    yield from (f"{page} at 1300 px meets the mark {mark!r}: take it off {LIST.name}" for mark in listed if mark not in found)
