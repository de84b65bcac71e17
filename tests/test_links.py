"""Every address in the book: those inside it lead somewhere, badges open their own notebook, those outside are well-formed."""
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import chapters
import pytest
import readme
import stamps
from sitefiles import NOTEBOOKS, PAGES, SITE, links

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("site")


def every_file() -> list[str]:
    "Pages, source listings, index and search: all HTML of the site but the report of the fresh run, made elsewhere."
    return [f.relative_to(SITE).as_posix() for f in sorted(SITE.rglob("*.html"))
            if not {"_static", "fresh_run"} & set(f.relative_to(SITE).parts)]


def lost(site: Path, page: str) -> list[str]:
    "Links of a page whose file or anchor does not exist."
    bad = []
    for href in links(site/page).hrefs:
        url, anchor = urldefrag(href)
        if urlparse(url).scheme or url.startswith("//"): continue
        target = (site/urlparse(urljoin("/" + page, unquote(url))).path.lstrip("/")) if url else site/page
        if target.is_dir(): target /= "index.html"
        gone = anchor and target.suffix == ".html" and target.exists() and unquote(anchor) not in links(target).ids
        if not target.exists() or gone: bad.append(href)
    return bad


def test_internal_links_and_anchors_lead_somewhere(site):
    pages = every_file()
    assert set(PAGES) <= set(pages) and len(pages) > len(PAGES)
    bad = {page: gone for page in pages if (gone := lost(site, page))}
    assert not bad, "\n".join(f"{page}: {', '.join(gone[:5])}" for page, gone in bad.items())


def test_a_lost_link_is_seen(tmp_path):
    "A file, an anchor and a page that are not there; and one of each that is."
    (tmp_path/"a.html").write_text('<p id="x"></p><a href="b.html#y">1</a><a href="#z">2</a><a href="c.html">3</a>'
                                   '<a href="#x">4</a><a href="b.html#w">5</a><img src="no.png">', encoding="utf-8")
    (tmp_path/"b.html").write_text('<p id="w"></p>', encoding="utf-8")
    assert lost(tmp_path, "a.html") == ["b.html#y", "#z", "c.html", "no.png"]


def test_no_id_stands_twice_on_a_page(site):
    bad = {p: twice for p in PAGES
           if (twice := sorted(i for i, n in links(site/p).ids.items() if n > 1 and not i.startswith("pst-")))}
    assert not bad, bad


def test_each_badge_opens_its_own_notebook(site):
    about = readme.settings(ROOT)
    base = f"https://colab.research.google.com/github/{about['user']}/{about['repo']}/blob/{about['branch']}/"
    own = {page: [base + path.relative_to(ROOT).as_posix()] for page, path in NOTEBOOKS.items()}
    found = {page: [h for h in links(site/page).hrefs if "colab.research" in h] for page in PAGES}
    assert not (bad := {page: said for page, said in found.items() if said != own.get(page, [])}), bad


def test_badges_inside_notebooks_open_themselves():
    "A badge that a notebook carries in its text, and any link to a notebook or file of this repository."
    about = readme.settings(ROOT)
    colab = f"https://colab.research.google.com/github/{about['user']}/{about['repo']}/blob/{about['branch']}/"
    github = re.compile(rf"https://github\.com/{about['user']}/{about['repo']}/(?:blob|tree)/{about['branch']}/([^\s)\"#]+)")
    bad = []
    for path in stamps.notebooks():
        text = "\n".join(c["source"] for c in stamps.load(path)["cells"] if c["cell_type"] == "markdown")
        own, opening = f"{colab}{path.relative_to(ROOT).as_posix()}", path == chapters.chapter("CAM course")
        for badge in re.findall(r"https://colab\.research\.google\.com/[^\s)\"]+", text):
            if badge != own and not opening: bad.append(f"{chapters.at(path)} opens another notebook: {badge}")
            if not (ROOT/badge.removeprefix(colab)).is_file(): bad.append(f"{chapters.at(path)} opens what isn't there: {badge}")
        bad += [f"{chapters.at(path)} links to {f}, which isn't there" for f in github.findall(text) if not (ROOT/f).exists()]
    assert not bad, "\n".join(bad)


def odd(href: str) -> bool:
    "An address outside that isn't https on a public host. Whether it leads somewhere: `make links`."
    at = urlparse(href)
    return at.scheme == "http" or (at.scheme == "https" and not re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", at.netloc))


def test_external_links_are_well_formed(site):
    outside = {h for p in PAGES for h in links(site/p).hrefs if h.startswith("http")}
    assert len(outside) > 20 and not (bad := sorted(filter(odd, outside))), bad
    assert all(map(odd, ("http://arxiv.org/abs/1412.6980", "https://localhost:8888/x", "https://127.0.0.1/", "https://me:word@a.org/")))
