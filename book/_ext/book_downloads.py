"""The links to the PDF and the zip (book/downloads.py): where they stand on a page, and when they go."""
from pathlib import Path

import downloads


def place(app, pagename, templatename, context, doctree) -> None:
    "The mark at the end of the opening page and of the API's first page."
    if pagename in ("nbs/index", "book/api") and downloads.MARK not in (body := context.get("body") or ""):
        context["body"] = body + f'<div class="take-away">{downloads.MARK}</div>'


def after_build(app, exception) -> None:
    "What was made from the older pages is dropped, and its links with it."
    if exception is None and app.builder.name == "html": downloads.reset(Path(app.outdir))


def setup(app) -> None:
    app.connect("html-page-context", place)
    app.connect("build-finished", after_build)
