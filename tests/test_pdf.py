"""The book on paper and in a bag: the PDF holds every line of code and every picture, the zip works without a network.

Two chapters are printed here; the whole book when CAM_COURSE_LONG is set (`make test-long`).
"""
import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import chapters
import downloads
import nbdev_reader
import nbformat
import outputs
import pdf
import pytest
import stamps

import build

ROOT = Path(__file__).resolve().parent.parent
SITE = build.SITE
FEW = [chapters.page_of(chapters.chapter(name)).removesuffix(".html") for name in ("momentum", "config")]
site_zip = importlib.import_module("zip")
pytestmark = pytest.mark.long
pypdf = pytest.importorskip("pypdf", reason="pip install pypdf")
IMAGES = ("image/png", "image/jpeg")


def squeezed(text: str) -> str:
    "Without white space: where a line is broken on paper does not count."
    return re.sub(r"\s+", "", text)


class Book:
    "A PDF of the book, with its chapters' pages."

    def __init__(self, path: Path):
        self.path, self.reader = path, pypdf.PdfReader(path)
        starts = [(item.title, self.reader.get_destination_page_number(item)) for item in self.chapter_items()]
        ends = [start for _, start in starts[1:]] + [len(self.reader.pages)]
        self.spans = {title: range(a, b) for (title, a), b in zip(starts, ends, strict=True)}
        self.text = {title: squeezed("".join(self.body(i) for i in span)) for title, span in self.spans.items()}

    def chapter_items(self):
        "Parts stand at the top of the outline, chapters below them; a page of no part stands at the top."
        top = self.reader.outline
        for item, below in zip(top, [*top[1:], None], strict=True):
            if isinstance(item, list): continue
            if item.title in PARTS and isinstance(below, list):
                yield from (x for x in below if not isinstance(x, list))
            else: yield item

    def body(self, i: int) -> str:
        "Text of a page above its foot."
        parts = []

        def keep(text, cm, tm, font, size):
            if tm[5]*cm[3] + cm[5] > 40: parts.append(text)
        self.reader.pages[i].extract_text(visitor_text=keep)
        return "".join(parts)

    def pictures(self, title: str) -> int:
        n = 0
        for i in self.spans[title]:
            found = self.reader.pages[i]["/Resources"].get("/XObject")
            n += sum(x.get_object().get("/Subtype") == "/Image" for x in found.get_object().values()) if found else 0
        return n


PARTS = {c.part for c in pdf.chapters()}


def title_of(name: str) -> str:
    text = (SITE/f"{name}.html").read_text(encoding="utf-8")
    heading = re.search(r"<h1>((?:(?!<h1>).)*?)<a class=\"headerlink", text, flags=re.S)
    return squeezed(re.sub(r"<[^>]+>", "", heading[1]))


def visible_code(name: str) -> list[str]:
    "Lines of code that the page shows."
    nb = nbdev_reader.read((ROOT/f"{name}.ipynb").read_text(encoding="utf-8"), "cam_course")
    shown = [c.source for c in nb.cells if c.cell_type == "code"
             and not {"remove-cell", "remove-input", "remove_cell", "remove_input"} & set(c.metadata.get("tags", []))]
    return [line for source in shown for line in source.splitlines() if line.strip()]


def expected_pictures(name: str) -> int:
    nb = nbformat.read(ROOT/f"{name}.ipynb", 4)
    return sum(any(m in o.get("data", {}) for m in IMAGES) for c in nb.cells if c.cell_type == "code"
               and "#| hide\n" not in c.source for o in c.outputs)


def check(book: Book, names: list[str]) -> None:
    text = {squeezed(t): (t, x) for t, x in book.text.items()}
    for name in names:
        title, body = text[title_of(name)]
        assert "objectat0x" not in body, name
        code = [squeezed(line) for line in visible_code(name)] if name.startswith("nbs/") else []
        prose = body
        for line in sorted(code, key=len, reverse=True): prose = prose.replace(line, "")   # docstrings cite with marks
        assert not re.search(r"\$\\[a-z]+|\{cite|\[@\w", prose), f"{name}: a raw mark"
        lost = [line for line in code if line not in body]
        assert not lost, f"{name}: {len(lost)} lines of code are not in the PDF: {lost[:3]}"
        if code: assert book.pictures(title) >= expected_pictures(name), f"{name}: a picture is missing"


def check_links(book: Book) -> int:
    "No link leads to a file or to `book:`; links inside the book have a place. How many there are."
    inside = 0
    for page in book.reader.pages:
        for note in (n.get_object() for n in page.get("/Annots") or []):
            if note.get("/Subtype") != "/Link": continue
            uri = str(note["/A"].get("/URI", "")) if "/A" in note else ""
            assert not uri.startswith(("file:", "book:")), uri
            inside += "/Dest" in note
            assert uri or "/Dest" in note
    return inside


def printed(out: Path, *more: str) -> Book:
    "The PDF that the command makes."
    subprocess.run([sys.executable, ROOT/"book"/"pdf.py", "--out", out, *more], check=True, timeout=900)
    return Book(out)


@pytest.fixture(scope="module")
def few(tmp_path_factory, request) -> Book:
    if not any(map(shutil.which, pdf.BROWSERS)): request.getfixturevalue("browser")   # skips, or fails where one is required
    if not (SITE/"index.html").exists(): pytest.fail("there is no site: run `make book` first")
    out = tmp_path_factory.mktemp("pdf")/"few.pdf"
    return printed(out, "--pages", *FEW)


def test_code_and_pictures_are_on_paper(few):
    check(few, FEW)


def test_links_lead_into_the_pdf(few):
    assert check_links(few) > 20


def test_pages_are_numbered_and_named(few):
    "Roman numbers for title and contents, then 1, 2, ...; each foot tells chapter and number; bookmarks down to sections."
    r, first = few.reader, min(s.start for s in few.spans.values())
    assert r.page_labels[0] == "i" and r.page_labels[first] == "1" and r.page_labels[-1] == str(len(r.pages) - first)
    assert r.pages[-1].extract_text().split()[-1] == str(len(r.pages) - first)
    front = " ".join(r.pages[i].extract_text() for i in range(first))
    about = nbdev_reader.book_pages.settings(ROOT)
    assert about["title"] in front and about["version"] in front and "CC BY 4.0" in front and "Contents" in front
    assert r.metadata.title == about["title"] and r.page_mode == "/UseOutlines"


def test_solutions_are_printed_at_the_end(few):
    text = next(t for t in few.text.values() if "Solutionattheendofthechapter" in t)
    assert text.rindex("Solutionattheendofthechapter") < text.rindex("Solutions")


@pytest.mark.parametrize(("body", "why"), [
    ('<img src="gone.png" alt="x" style="width:10px;height:10px">', "did not load"),
    ('<pre style="white-space:pre">' + "x"*400 + "</pre>", "wider than the paper")])
def test_what_paper_would_lose_is_an_error(tmp_path, body, why, browser):
    page = tmp_path/"a.html"
    page.write_text(f'<!doctype html><title>t</title><article class="bd-article"><h1>t</h1>{body}</article>', encoding="utf-8")
    found = browser.new_page(viewport={"width": pdf.WIDTH, "height": 900})
    found.goto(page.as_uri())
    seen = found.evaluate(pdf.PREPARE.read_text(encoding="utf-8"), [tmp_path.as_uri() + "/", "https://example.org/"])
    found.close()
    assert seen["lost" if "load" in why else "wide"]


def test_the_whole_book(tmp_path):
    book = printed(tmp_path/"book.pdf")
    assert len(book.reader.pages) > 200 and book.path.stat().st_size < 60e6
    check(book, build.toc_pages())
    assert check_links(book) > 1000


# ---- the zip

@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    "A site of three files, one of them with the mark."
    site = tmp_path_factory.mktemp("small")
    (site/"nbs").mkdir()
    (site/"index.html").write_text("<p>index</p>", encoding="utf-8")
    (site/"nbs"/"index.html").write_text(f"<p>{downloads.MARK}</p>", encoding="utf-8")
    (site/"nbs"/"a.html").write_text("<p>a</p>", encoding="utf-8")
    return site


def test_links_follow_the_files(small):
    "No file, no link; a file, its link; in the zip the PDF alone; after a rendering nothing."
    page, text = small/"nbs"/"index.html", lambda: (small/"nbs"/"index.html").read_text(encoding="utf-8")
    downloads.link(small)
    assert "href" not in text()
    (small/downloads.PDF).parent.mkdir()
    (small/downloads.PDF).write_bytes(b"%PDF-1.7")
    site_zip.make(small, small/downloads.ZIP)
    downloads.link(small)
    assert f'href="../{downloads.PDF.as_posix()}"' in text() and f'href="../{downloads.ZIP.as_posix()}"' in text()
    again = small/"again.tmp"
    site_zip.make(small, again)
    assert again.read_bytes() == (small/downloads.ZIP).read_bytes()
    again.unlink()
    with zipfile.ZipFile(small/downloads.ZIP) as z:
        inside = z.read(f"{site_zip.FOLDER}/nbs/index.html").decode()
        assert downloads.PDF.name in inside and downloads.ZIP.name not in inside
        assert sorted(z.namelist()) == [f"{site_zip.FOLDER}/{n}" for n in
                                        ("downloads/cam-course.pdf", "index.html", "nbs/a.html", "nbs/index.html")]
    downloads.reset(small)
    assert "href" not in text() and not (small/"downloads").exists() and page.is_file()


def test_zip_without_a_site_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="make site"): site_zip.make(tmp_path, tmp_path/"x.zip")


def test_half_a_zip_is_not_left(small, tmp_path, monkeypatch):
    def full(*args): raise OSError("disk full")
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="disk full"): site_zip.make(small, tmp_path/"x.zip")
    assert not list(tmp_path.iterdir())


def test_the_unpacked_zip_works_offline(browser, tmp_path):
    "Unpacked elsewhere and opened from the file system: first page, mathematics, moving figures, search; no request leaves."
    if not (SITE/"index.html").exists(): pytest.fail("there is no site: run `make book` first")
    site_zip.make(SITE, tmp_path/"book.zip")
    with zipfile.ZipFile(tmp_path/"book.zip") as z: z.extractall(tmp_path)
    root = tmp_path/site_zip.FOLDER
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(90_000)
    context.set_offline(True)
    page, trouble = context.new_page(), []
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else trouble.append(r.url))
    page.on("pageerror", lambda e: trouble.append(str(e)))
    page.goto((root/"index.html").as_uri())
    page.wait_for_url("**/nbs/index.html")
    moving = next(p for p in stamps.notebooks() if "widgets" in stamps.load(p)["metadata"]
                  and any(outputs.VIEW in o.get("data", {}) for c in stamps.load(p)["cells"] for o in c.get("outputs", [])))
    page.goto((root/chapters.page_of(moving)).as_uri())
    page.locator(".widget-still").first.scroll_into_view_if_needed()   # a figure starts when it comes near
    page.wait_for_selector(".widget-live > *")
    page.goto((root/"search.html").as_uri() + "?q=momentum")
    page.wait_for_selector("#search-results li a")
    assert any("omentum" in t for t in page.locator("#search-results li a").all_inner_texts())
    context.close()
    assert not trouble
