"""The site's files, read once in each process: `output_text("nbs/index.html")`, `links(SITE/"nbs"/"index.html")`."""

import functools
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import chapters
import stamps

import build

SITE = build.SITE
PAGES = [f"{p}.html" for p in build.toc_pages()]
NOTEBOOKS = {chapters.page_of(p): p for p in stamps.notebooks()}   # page -> its notebook


@functools.cache
def text_of(page: str) -> str: return (SITE/page).read_text(encoding="utf-8")


class Links(HTMLParser):
    "ids, links and sources of a page."

    def __init__(self):
        super().__init__()
        self.ids, self.hrefs = Counter(), []

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get("id"): self.ids[a["id"]] += 1
        if tag == "a" and a.get("name"): self.ids[a["name"]] += 1
        if tag in ("a", "link") and a.get("href"): self.hrefs.append(a["href"])
        if tag in ("script", "img", "iframe", "source") and a.get("src"): self.hrefs.append(a["src"])


@functools.cache
def links(path: Path) -> Links:
    parser = Links()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser
