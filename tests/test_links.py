"""Every address in the book: those inside it lead somewhere, badges open their own notebook, those outside are listed in
one file and well-formed."""
import re
from pathlib import Path
from urllib.parse import urlparse

import chapters
import external_links
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


def test_internal_links_and_anchors_lead_somewhere(site):
    pages = every_file()
    assert set(PAGES) <= set(pages) and len(pages) > len(PAGES)
    bad = {page: lost for page in pages if (lost := external_links.lost(site, page, links))}
    assert not bad, "\n".join(f"{page}: {', '.join(lost[:5])}" for page, lost in bad.items())


def test_a_lost_link_is_seen(tmp_path):
    "A file, an anchor and a page that are not there; and one of each that is."
    (tmp_path/"a.html").write_text('<p id="x"></p><a href="b.html#y">1</a><a href="#z">2</a><a href="c.html">3</a>'
                                   '<a href="#x">4</a><a href="b.html#w">5</a><img src="no.png">', encoding="utf-8")
    (tmp_path/"b.html").write_text('<p id="w"></p>', encoding="utf-8")
    assert external_links.lost(tmp_path, "a.html", external_links.links) == ["b.html#y", "#z", "c.html", "no.png"]


def test_no_id_stands_twice_on_a_page(site):
    bad = {p: twice for p in PAGES if (twice := external_links.doubled(links(site/p)))}
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


def test_the_list_of_external_links_is_current():
    assert external_links.LIST.is_file(), "run `python book/external_links.py`"
    listed, found = external_links.listed(), set(external_links.found())
    assert listed == sorted(set(listed)) and set(listed) == found, (
        f"run `python book/external_links.py`; new {sorted(found - set(listed))}, gone {sorted(set(listed) - found)}")


def test_external_links_are_well_formed():
    assert len(external_links.listed()) > 20
    assert not (bad := {u: why for u in external_links.listed() if (why := external_links.fault(u))}), bad


def test_a_malformed_link_is_named():
    said = {"http://arxiv.org/abs/1412.6980": "https", "https://localhost:8888/x": "host", "https://127.0.0.1/": "host",
            "https://arxiv/abs": "host", "https://example.org/?utm_source=x": "tracker", "https://a.org/?fbclid=1": "tracker",
            "https://a.org/x y": "character", "https://user:word@a.org/": "user", "https://a.org/x).": "character"}
    assert not (unsaid := [url for url, why in said.items() if why not in external_links.fault(url)]), unsaid


def test_the_site_has_no_other_external_links(site):
    "What the pages link to outside is in the list: the theme adds the repository, Colab and makers of the tools alone."
    hosts = {urlparse(u).hostname for u in external_links.listed()}
    known = {"github.com", "colab.research.google.com", "ebp.jupyterbook.org", "executablebooks.org", "jupyterbook.org"}
    seen = {urlparse(h).hostname for p in PAGES for h in links(site/p).hrefs if h.startswith(("http:", "https:"))}
    assert seen <= hosts | known, sorted(seen - hosts - known)
