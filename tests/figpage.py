"""Moving figures on a static page, in headless Chromium, without a network.

    def test_keys(browser, tmp_path):
        with opened(browser, [Tangent()], tmp_path) as page: page.keyboard.press("ArrowRight")
"""

import base64
import html
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MIME = "application/vnd.jupyter.widget-"


def write_page(figures: Sequence[Any], path: Path) -> Path:
    "A page as the book makes it: still pictures, views, the saved state, the host script."
    body, state = [], {}
    for figure in figures:
        bundle, meta = figure._repr_mimebundle_()
        key = figure.widget.model_id
        alt = html.escape(meta["image/png"]["alt"], quote=True)
        body += [f'<div><img class="widget-still" alt="{alt}" src="data:image/png;base64,{bundle["image/png"]}">',
                 f'<script type="{MIME}view+json">{json.dumps(bundle[MIME + "view+json"])}</script></div>']
        values, buffers = {}, []
        for name, value in figure.widget.get_state().items():
            if isinstance(value, bytes | memoryview):
                data = base64.b64encode(bytes(value)).decode()
                buffers.append({"path": [name], "encoding": "base64", "data": data})
            elif name != "layout": values[name] = value
        state[key] = {"model_name": "AnyModel", "model_module": "anywidget", "state": values, "buffers": buffers}
    saved = json.dumps({"version_major": 2, "version_minor": 0, "state": state}).replace("</", "<\\/")
    host = (ROOT/"book/_static/host.js").read_text(encoding="utf-8")
    head = ('<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>Figures</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><style>[hidden]{display:none}'
            "body{max-width:720px;margin:0 auto;padding:12px}html[data-theme=dark]{background:#14181e}</style><main>")
    tail = f'</main><script type="{MIME}state+json">{saved}</script><script>{host}</script></html>'
    path.write_text(head + "".join(body) + tail, encoding="utf-8")
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
