"""All links of the book that lead out of it, in one file: `python book/external_links.py` writes book/external_links.txt.

The sources are read, not the site: markdown of the notebooks and of book/, library, bibliography, README. The file is
for whoever checks addresses with a network; the tests hold it current and every address well-formed.
"""
import re
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urldefrag, urljoin, urlparse

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stamps

ROOT = stamps.ROOT
LIST = ROOT/"book"/"external_links.txt"
_url = re.compile(r"https?://[^\s<>\"'`\\\]}|]+")
TRACKERS = re.compile(r"^(utm_\w+|fbclid|gclid|msclkid|mc_[ce]id|igshid|ref_src|yclid|_hs\w+)$")
TEXTS = ("book/**/*.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff")


def urls(text: str) -> list[str]:
    "Addresses in a text, without the punctuation that ends a sentence or closes a bracket."
    found = []
    for url in _url.findall(text):
        url = url.rstrip(".,;:!?*")
        while url.endswith(")") and url.count("(") < url.count(")"): url = url[:-1].rstrip(".,;:")
        if "{" not in url and urlparse(url).netloc: found.append(url)
    return found


def found(root: Path = ROOT) -> list[str]:
    "Every address that a reader can follow, sorted."
    texts = [f.read_text(encoding="utf-8") for pattern in TEXTS for f in sorted(root.glob(pattern))]
    for path in stamps.notebooks(root/"nbs"):
        texts += [c["source"] for c in stamps.load(path)["cells"] if c["cell_type"] == "markdown"]
    bib = (root/"book"/"references.bib").read_text(encoding="utf-8")
    fields = re.findall(r"\b(url|doi|eprint)\s*=\s*[{\"]+([^}\"]+)", bib)
    texts += [v for k, v in fields if k == "url"] + re.findall(r"\\url\{([^}]+)\}", bib)
    dois = [v for k, v in fields if k == "doi"]
    prints = [v for k, v in fields if k == "eprint"]
    texts += [f.read_text(encoding="utf-8") for f in sorted((root/"cam_course").rglob("*.py")) if f.name != "_modidx.py"]
    texts += [f"https://doi.org/{d}" for d in dois] + [f"https://arxiv.org/abs/{p}" for p in prints]
    return sorted({u for t in texts for u in urls(t) if not local(u)})


def local(url: str) -> bool:
    "The reader's own machine, as an instruction such as `make serve` names it."
    return urlparse(url).hostname in ("localhost", "127.0.0.1") and url.startswith("http:")


def fault(url: str) -> str:
    "What is wrong with an address, '' if nothing is."
    p = urlparse(url)
    if p.scheme != "https": return "not https"
    if p.username or p.password: return "holds a user or password"
    if not p.hostname or "." not in p.hostname or p.hostname == "localhost" or re.fullmatch(r"[\d.]+", p.hostname):
        return "not a public host"
    if re.search(r"[\s<>\"`{}|\\^]|[.,;:!?]$", url) or url.count("(") != url.count(")"): return "an odd character"
    if bad := [k for k, _ in parse_qsl(p.query, keep_blank_values=True) if TRACKERS.match(k)]: return f"tracker {bad[0]}"
    return ""


def listed() -> list[str]:
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


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


def links(path: Path) -> Links:
    parser = Links()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def doubled(found: Links) -> list[str]:
    return sorted(i for i, n in found.ids.items() if n > 1 and not i.startswith("pst-"))


def lost(site: Path, page: str, read: Callable[[Path], Links]) -> list[str]:
    "Links of a page whose file or anchor does not exist."
    bad = []
    for href in read(site/page).hrefs:
        url, anchor = urldefrag(href)
        if urlparse(url).scheme or url.startswith("//"): continue
        target = (site/urlparse(urljoin("/" + page, unquote(url))).path.lstrip("/")) if url else site/page
        if target.is_dir(): target /= "index.html"
        gone = anchor and target.suffix == ".html" and target.exists() and unquote(anchor) not in read(target).ids
        if not target.exists() or gone: bad.append(href)
    return bad


def main() -> int:
    text = ("# Every address outside the book that its pages, library and bibliography name.\n"
            "# Written by `python book/external_links.py`.\n" + "\n".join(found()) + "\n")
    LIST.write_text(text, encoding="utf-8")
    bad = {u: why for u in listed() if (why := fault(u))}
    for url, why in bad.items(): print(f"{url}: {why}", file=sys.stderr)
    print(f"{len(listed())} addresses in {LIST.relative_to(ROOT)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
