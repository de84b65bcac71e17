"""One PDF of the whole book: every page of the site printed by headless Chromium, joined, numbered, linked.

    python book/pdf.py                 build/site -> build/site/downloads/cam-course.pdf
    python book/pdf.py --pages nbs/04_momentum book/api --out some.pdf

Moving figures are their pictures, hidden solutions stand at the end of their chapter, links between pages lead to pages
of the PDF. A picture that did not load and code that the page would cut are errors.
"""
import argparse
import asyncio
import html
import io
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent/"_ext"))
import book_pages
import downloads
import stamps

import build

ROOT = stamps.ROOT
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MARGIN = {"top": "17mm", "bottom": "19mm", "left": "18mm", "right": "18mm"}
PREPARE = Path(__file__).with_name("pdf.js")
WIDTH = 658   # A4 less the margins, in CSS px: what is too wide here is cut on paper


class PdfError(RuntimeError):
    "The book can't be printed as it is; the message names page and cause."


@dataclass
class Chapter:
    "One page of the site, printed."
    name: str                                             # "nbs/04_momentum"
    part: str = ""                                        # caption in _toc.yml
    title: str = ""
    pdf: bytes = b""
    headings: list[dict[str, Any]] = field(default_factory=list)   # {"level", "text", "id"} in order
    first: int = 0                                        # index of its first page in the book


def chapters(toc: Path = ROOT/"book"/"_toc.yml") -> list[Chapter]:
    "Every page in reading order, with the caption of its part."
    import yaml
    tree = yaml.safe_load(toc.read_text(encoding="utf-8"))
    parts = {f: p["caption"] for p in tree["parts"] for f in _files(p)}
    return [Chapter(name, parts.get(name, "")) for name in build.toc_pages(toc)]


def _files(node: Any) -> list[str]:
    if isinstance(node, list): return [f for n in node for f in _files(n)]
    if not isinstance(node, dict): return []
    return ([node["file"]] if "file" in node else []) + [f for v in node.values() for f in _files(v)]


async def print_page(browser: Any, site: Path, chapter: Chapter, online: str) -> None:
    "Fill in `chapter` from its page; PdfError if a picture is missing or something is too wide."
    page = await browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
    page.set_default_timeout(300_000)   # a busy machine is slow, not wrong
    try:
        await page.route("**/host.js*", lambda r: r.abort())   # moving figures stay pictures
        await page.goto((site/f"{chapter.name}.html").as_uri(), wait_until="load")
        await page.emulate_media(media="print")
        found = await page.evaluate(PREPARE.read_text(encoding="utf-8"), [site.as_uri() + "/", online])
        if found["lost"]: raise PdfError(f"{chapter.name}: pictures that did not load: {found['lost'][:3]}")
        if found["wide"]: raise PdfError(f"{chapter.name}: wider than the paper: {found['wide'][:3]}")
        chapter.title, chapter.headings = found["title"], found["headings"]
        chapter.pdf = await page.pdf(format="A4", margin=MARGIN, print_background=True)
    finally:
        await page.close()


async def print_html(browser: Any, text: str) -> bytes:
    page = await browser.new_page(color_scheme="light")
    await page.set_content(text)
    try:
        return await page.pdf(format="A4", margin=MARGIN, print_background=True)
    finally:
        await page.close()


async def print_all(site: Path, found: list[Chapter], workers: int = 2) -> tuple[list[Chapter], bytes]:
    "Print the chapters, `workers` at a time; the chapters, and title page with contents."
    from playwright.async_api import async_playwright
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None: raise PdfError("no Chromium: install it (Debian, Ubuntu: `apt install chromium`)")
    about = book_pages.settings(ROOT)
    online = f"{about['doc_host'].replace('%(user)s', about['user'])}{about['doc_baseurl'].replace('%(repo)s', about['repo'])}"
    async with async_playwright() as p:
        browser = await p.chromium.launch(executable_path=path, args=FLAGS)
        turn = asyncio.Semaphore(workers)

        async def one(chapter: Chapter) -> None:
            async with turn: await print_page(browser, site, chapter, online)
        try:
            await asyncio.gather(*(one(c) for c in found))
            place(found)
            front = await print_html(browser, front_html(found, about))
        finally:
            await browser.close()
    return found, front


def place(found: list[Chapter]) -> int:
    "Number of pages; `first` of every chapter is set."
    from pypdf import PdfReader
    total = 0
    for c in found:
        c.first, total = total, total + len(PdfReader(io.BytesIO(c.pdf)).pages)
    return total


def front_html(found: list[Chapter], about: dict[str, str]) -> str:
    "Title page and contents."
    rows, part = [], ""
    for c in found:
        if c.part != part: rows.append(f"<h2>{html.escape(c.part)}</h2>")
        part = c.part
        rows.append(f'<p><a href="book:{c.name}">{html.escape(c.title)}</a><i></i><b>{c.first + 1}</b></p>')
    logo = (ROOT/"book"/"_static"/"logo.svg").read_text(encoding="utf-8")
    day = time.strftime("%d %B %Y", time.gmtime()).lstrip("0")
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><style>
        body {{ font: 10.5pt/1.5 Georgia, Charter, "DejaVu Serif", serif; color: #1f2328; margin: 0 }}
        header {{ height: 240mm; display: flex; flex-direction: column; break-after: page }}
        header svg {{ width: 34mm; height: 34mm; margin-top: 42mm }} h1 {{ font-size: 34pt; margin: 12mm 0 4mm; line-height: 1.1 }}
        header p {{ margin: 0 0 2mm; max-width: 130mm }} header footer {{ margin-top: auto; font-size: 9pt; color: #5a6069 }}
        h2 {{ font-size: 11pt; margin: 5mm 0 1mm; color: #1d4f9e; break-after: avoid }}
        .toc p {{ margin: 0; display: flex; gap: 2mm; break-inside: avoid }}
        .toc i {{ flex: 1; border-bottom: 1px dotted #a5acb5; margin-bottom: 1.6mm }} a {{ color: inherit; text-decoration: none }}
        .toc b {{ font-weight: 400; font-variant-numeric: tabular-nums }} .toc h1 {{ font-size: 22pt; margin: 0 0 4mm }}
        </style><header>{logo}<h1>{html.escape(about['title'])}</h1><p>{html.escape(about['description'])}</p>
        <p>Version {about['version']}</p><footer><p>Printed on {day} from the pages of the book. {html.escape(about['author'])}.</p>
        <p>Text and figures: CC BY 4.0. Code: Apache License 2.0. Moving figures are pictures here; hidden solutions stand
        at the end of each chapter.</p></footer></header><div class="toc"><h1>Contents</h1>{''.join(rows)}</div></html>"""


def join(found: list[Chapter], front: bytes, out: Path) -> int:
    "Write the book; the number of pages."
    from pypdf import PdfReader, PdfWriter
    from pypdf.generic import NameObject
    writer = PdfWriter()
    writer.append(io.BytesIO(front), import_outline=False)
    offset, places = len(writer.pages), {}
    for c in found:
        reader = PdfReader(io.BytesIO(c.pdf))
        for name, dest in reader.named_destinations.items():
            number = reader.get_destination_page_number(dest)
            places[c.name, unquote(name.lstrip("/"))] = (c.first + offset + (number or 0), float(dest.top or 800))
        places[c.name, ""] = (c.first + offset, 842.0)
        for page in reader.pages: writer.add_page(page)
    names = {c.name for c in found}
    for i, page in enumerate(writer.pages):
        here = next((c.name for c in reversed(found) if c.first + offset <= i), "")
        relink(writer, page, here, places, names)
    about = book_pages.settings(ROOT)
    number_pages(writer, found, offset, about["title"])
    outline(writer, found, places)
    writer.set_page_label(0, offset - 1, style="/r")
    writer.set_page_label(offset, len(writer.pages) - 1, style="/D")
    writer.add_metadata({"/Title": about["title"], "/Author": about["author"], "/Subject": about["description"],
                         "/Keywords": about["keywords"]})
    writer.root_object[NameObject("/PageMode")] = NameObject("/UseOutlines")
    writer.compress_identical_objects(remove_duplicates=True, remove_unreferenced=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp")
    writer.write(temporary)
    temporary.replace(out)
    return len(writer.pages)


def relink(writer: Any, page: Any, here: str, places: dict, names: set[str]) -> None:
    "Links to a place in the book lead there; `here` is the chapter that the page belongs to."
    from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject
    for ref in page.get("/Annots") or []:
        note = ref.get_object()
        if note.get("/Subtype") != "/Link": continue
        uri = str(note["/A"].get("/URI", "")) if "/A" in note else ""
        if uri.startswith("book:"):
            url, anchor = urldefrag(uri.removeprefix("book:"))
        elif "/Dest" in note and not isinstance(note["/Dest"], ArrayObject):
            url, anchor = here, str(note["/Dest"]).lstrip("/")
        else:
            continue
        number, top = places.get((url, unquote(anchor))) or places[(url if url in names else here), ""]
        note.pop("/A", None)
        note[NameObject("/Dest")] = ArrayObject([writer.pages[number].indirect_reference, NameObject("/XYZ"),
                                                 FloatObject(0), FloatObject(top + 8), NullObject()])


def number_pages(writer: Any, found: list[Chapter], offset: int, title: str) -> None:
    "Foot of each page: the chapter's title on the left, the number on the right."
    from pypdf.generic import (
        ArrayObject,
        DecodedStreamObject,
        DictionaryObject,
        NameObject,
    )
    font = writer._add_object(DictionaryObject({NameObject(k): NameObject(v) for k, v in {
        "/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica", "/Encoding": "/WinAnsiEncoding"}.items()}))

    def stream(data: bytes) -> Any:
        made = DecodedStreamObject()
        made.set_data(data)
        return writer._add_object(made)

    before, starts = stream(b"q\n"), {c.first + offset: c for c in found}
    chapter = None
    for i, page in enumerate(writer.pages):
        chapter = starts.get(i, chapter)
        if chapter is None: continue
        left = (chapter.title if len(chapter.title) < 90 else title).encode("cp1252", "replace")
        left = left.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
        number = str(i - offset + 1)
        x = 595 - 51 - 4.45*len(number)
        text = (b"\nQ q 0.35 g BT /FootF 8 Tf 51 30 Td (" + left + b") Tj ET "
                b"BT /FootF 8 Tf %.2f 30 Td (%s) Tj ET Q\n" % (x, number.encode()))
        old = page["/Contents"]
        parts = list(old) if isinstance(old.get_object(), ArrayObject) else [page.raw_get("/Contents")]
        page[NameObject("/Contents")] = ArrayObject([before, *parts, stream(text)])
        resources = page["/Resources"].get_object()
        fonts = resources.setdefault(NameObject("/Font"), DictionaryObject()).get_object()
        fonts[NameObject("/FootF")] = font


def outline(writer: Any, found: list[Chapter], places: dict) -> None:
    "Bookmarks: parts, chapters, sections, down to the third level of headings."
    from pypdf.generic import Fit
    part, above = "", None
    for c in found:
        first = places[c.name, ""][0]
        if c.part != part: part, above = c.part, writer.add_outline_item(title=c.part, page_number=first, is_open=False)
        parents = {1: writer.add_outline_item(title=c.title, page_number=first, parent=above, is_open=False)}
        for h in c.headings:
            number, top = places.get((c.name, h["id"]), (first, 800.0))
            parent = parents[max(k for k in parents if k < h["level"])]
            item = writer.add_outline_item(title=h["text"], page_number=number, parent=parent, fit=Fit.xyz(0, top + 8), is_open=False)
            parents = {k: v for k, v in parents.items() if k < h["level"]} | {h["level"]: item}


def make(site: Path, out: Path, names: list[str] | None = None) -> int:
    "Print `names` (all pages of _toc.yml) into one file; the number of pages."
    found = [c for c in chapters() if not names or c.name in names]
    if missing := [c.name for c in found if not (site/f"{c.name}.html").is_file()]:
        raise PdfError(f"not in {site}: {', '.join(missing)}; run `make site` first")
    found, front = asyncio.run(print_all(site, found))
    return join(found, front, out)


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--site", type=Path, default=build.SITE)
    p.add_argument("--out", type=Path, default=None, help="default: SITE/downloads/cam-course.pdf")
    p.add_argument("--pages", nargs="+", default=None, help="only these, such as nbs/04_momentum")
    args = p.parse_args(argv)
    start, out = time.monotonic(), args.out or args.site/downloads.PDF
    try:
        pages = make(args.site.resolve(), out, args.pages)
    except PdfError as e:
        print(f"pdf: {e}", file=sys.stderr)
        return 1
    downloads.link(args.site)
    print(f"{out}: {pages} pages, {out.stat().st_size/1e6:.1f} MB ({time.monotonic() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
