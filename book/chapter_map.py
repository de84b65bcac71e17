"""The cards of the opening page, one a part, made from book/_toc.yml and the notebooks, so that they can't drift.

    python book/chapter_map.py           write it into nbs/index.ipynb, between its two marks
    python book/chapter_map.py --check   exit status 1 if it is not what the table of contents says
"""
import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent/"_ext"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import book_time
import stamps

START, END = "<!-- map of the chapters: made by book/chapter_map.py -->", "<!-- end of the map -->"
ASKS = {   # what each part of the path answers, by its caption in _toc.yml
    "Start": "What does it look like when it works?",
    "Descent": "Which way is down, and how far may one step?",
    "A network": "What does a network learn from, and how is it made to learn?",
    "How fast": "How fast may it learn, and who decides?",
    "Seeing": "What did it look at, and is the picture of that true?",
    "Assignment": "Does it all work together?",
}
BEHIND = ("Engine room", "For teachers", "Reference")   # parts that have no card: the page names them in a sentence


def parts(toc: Path = stamps.ROOT/"book"/"_toc.yml") -> list[tuple[str, list[str]]]:
    "(caption, its pages in order) for each part of the book."
    import yaml
    tree = yaml.safe_load(toc.read_text(encoding="utf-8"))
    return [(part["caption"], [chapter["file"] for chapter in part["chapters"]]) for part in tree["parts"]]


def title(path: Path) -> str:
    "The first level-1 heading of a notebook or a markdown file."
    texts = [path.read_text(encoding="utf-8")] if path.suffix == ".md" else [
        c["source"] for c in stamps.load(path)["cells"] if c["cell_type"] == "markdown"]
    for text in texts:
        if m := re.search(r"(?m)^#\s+(.+?)\s*$", text): return m[1]
    raise ValueError(f"{path.name} has no title: begin it with `# ...`")


def hours(minutes: float) -> str:
    "To the minute under an hour, to the quarter of an hour above; the parts of the number are kept together."
    if minutes < 60: return f"{max(1, round(minutes))}\u00a0min"
    whole, quarter = divmod(round(minutes/15), 4)
    return f"{whole}{('', '¼', '½', '¾')[quarter]}\u00a0h"


def chapter(page: str, root: Path = stamps.ROOT) -> tuple[str, str, float]:
    "(title, address as seen from nbs/, minutes to read) of a page."
    file = next(p for p in (root/f"{page}.ipynb", root/f"{page}.md") if p.exists())
    target = os.path.relpath(file, root/"nbs").replace(os.sep, "/")
    return title(file), target, 0 if file.suffix == ".md" else book_time.minutes(stamps.load(file))[0]


def cards(root: Path = stamps.ROOT) -> str:
    "A list with an entry for each part of the path: its name, what it answers, how many chapters it has, and the first."
    found = {caption: [chapter(p, root) for p in pages] for caption, pages in parts(root/"book"/"_toc.yml")}
    if unknown := [c for c in found if c not in ASKS and c not in BEHIND]:
        raise ValueError(f"chapter_map.py has no question for the part {unknown[0]!r}: add it to ASKS")
    lines = []
    for caption, asks in ASKS.items():
        pages = found.get(caption)
        if not pages: raise ValueError(f"book/_toc.yml has no part {caption!r}, which the opening page shows")
        count = "1 chapter" if len(pages) == 1 else f"{len(pages)} chapters"
        first = "" if len(pages) == 1 else f" <br>First: {pages[0][0]}"
        lines.append(f"- **[{caption}]({pages[0][1]})** <br>{asks} <br>{count}, {hours(sum(p[2] for p in pages))}{first}")
    return "\n".join(lines)


def filled(text: str, inner: str) -> str:
    "`text` with `inner` between the marks."
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not start or not end: raise ValueError("nbs/index.ipynb has lost a mark of its map of the chapters")
    return f"{head}{START}\n\n{inner}\n\n{END}{tail}"


def update(path: Path = stamps.ROOT/"nbs"/"index.ipynb", write: bool = True) -> bool:
    "Put the map into the opening page; True if it was there already, word for word."
    nb = json.loads(path.read_text(encoding="utf-8"))
    cell = next((c for c in nb["cells"] if START in "".join(c["source"])), None)
    if cell is None: raise ValueError("nbs/index.ipynb has no map of the chapters")
    old = "".join(cell["source"])
    new = filled(old, cards())
    if write and new != old:
        cell["source"] = new.splitlines(keepends=True)
        path.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    return new == old


def main() -> int:
    if "--check" not in sys.argv[1:]:
        update()
        return 0
    same = update(write=False)
    if not same: print("nbs/index.ipynb: the map of the chapters is old: run python book/chapter_map.py", file=sys.stderr)
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
