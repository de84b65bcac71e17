"""The files to take away, and their links: a page that holds the mark `<!-- downloads -->` offers what exists.

A rendering drops what was made from the older pages (`reset`); `pdf.py` and `zip.py` make it anew and call `link`.
"""
import re
import shutil
from pathlib import Path

PDF, ZIP = Path("downloads/cam-course.pdf"), Path("downloads/cam-course-book.zip")
LABELS = {PDF: "The whole book as one PDF", ZIP: "The whole site as one zip: unpack it and open index.html"}
_mark = re.compile(r"<!-- ?downloads ?-->(.*?)<!-- ?/downloads ?-->", re.S)
MARK = "<!-- downloads --><!-- /downloads -->"


def offers(site: Path, up: str, files: tuple[Path, ...] = (PDF, ZIP)) -> str:
    "A list of links to the files that exist; `up` leads from the page to the site's root."
    rows = [f'<li><a href="{up}{f.as_posix()}" download>{LABELS[f]}</a> ({(site/f).stat().st_size/1e6:.0f} MB)</li>'
            for f in files if (site/f).is_file()]
    return f'<ul class="downloads">{"".join(rows)}</ul>' if rows else ""


def filled(text: str, content: str) -> str:
    "A page's text with `content` between its marks."
    return _mark.sub(lambda m: f"<!-- downloads -->{content}<!-- /downloads -->", text)


def marked(site: Path) -> list[Path]:
    "Pages that hold the mark."
    return [p for folder in ("nbs", "book") for p in sorted((site/folder).rglob("*.html"))
            if "<!-- /downloads -->" in p.read_text(encoding="utf-8")]


def link(site: Path) -> None:
    "Offer on the marked pages what exists now."
    for page in marked(site):
        up = "../"*(len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8")
        if (new := filled(text, offers(site, up))) != text: page.write_text(new, encoding="utf-8")


def reset(site: Path) -> None:
    "After a rendering: the old files are of older pages."
    shutil.rmtree(site/PDF.parent, ignore_errors=True)
    link(site)
