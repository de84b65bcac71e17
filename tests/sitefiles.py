"""The site's files, read once in each process: `text_of("nbs/index.html")`, `links(SITE/"nbs"/"index.html")`."""

import functools
from pathlib import Path

import chapters
import external_links
import stamps

import build

SITE = build.SITE
PAGES = [f"{p}.html" for p in build.toc_pages()]
NOTEBOOKS = {chapters.page_of(p): p for p in stamps.notebooks()}   # page -> its notebook


@functools.cache
def text_of(page: str) -> str: return (SITE/page).read_text(encoding="utf-8")


@functools.cache
def links(path: Path) -> external_links.Links: return external_links.links(path)
