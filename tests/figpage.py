"""Moving figures on a static page, in headless Chromium, without a network.

    def test_keys(browser, tmp_path):
        with opened(browser, [Tangent()], tmp_path) as page: page.keyboard.press("ArrowRight")
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from cam_course.base.page_network import figure_page


def write_page(figures: Sequence[Any], path: Path) -> Path:
    "A page as the book makes it: still pictures, views, the saved state, the host script."
    path.write_text(figure_page(figures), encoding="utf-8")
    return path


@contextmanager
def shown(browser: Any, path: Path, figures: int = 1, dark: bool = False, **context: Any) -> Iterator[Any]:
    "A page that `write_page` made, offline; fails if it wrote an error. `context`: viewport, reduced_motion, has_touch, ..."
    made = browser.new_context(**{"viewport": {"width": 760, "height": 1000}, **context})
    made.set_offline(True)
    page, errors = made.new_page(), []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(path.as_uri())
    page.wait_for_function(f"document.querySelectorAll('.cc').length >= {figures}")
    page.eval_on_selector_all(".cc-wake", "buttons => buttons.forEach((b) => b.click())")
    page.wait_for_function("!document.querySelector('.cc-wake')")
    page.wait_for_function(f"document.querySelectorAll('.cc-plot').length >= {figures}")
    if dark: page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(100)
    try:
        yield page
        assert not errors, errors
    finally: made.close()


def opened(browser: Any, figures: Sequence[Any], folder: Path, **about: Any) -> AbstractContextManager[Any]:
    "The page of `figures`, as `shown`."
    return shown(browser, write_page(figures, folder/"page.html"), len(figures), **about)


def drawn(page: Any) -> str:
    "The drawn curves, as text."
    return page.eval_on_selector_all(".cc-line", "nodes => nodes.map((n) => n.getAttribute('d')).join()")


def check_playing(page: Any, button: str, moves: bool) -> None:
    "The button plays the curves from their start where motion is welcome; either way the whole picture comes back."
    whole = drawn(page)
    page.click(f"text={button}")
    page.wait_for_timeout(100)
    assert (drawn(page) != whole) is moves
    page.wait_for_function(
        "d => [...document.querySelectorAll('.cc-line')].map((n) => n.getAttribute('d')).join() === d", arg=whole)
