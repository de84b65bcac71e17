"""README.md from nbs/index.ipynb: prose, code, printed results and the opening picture; other pictures stay in the book.

    python book/readme.py           write README.md
    python book/readme.py --check   exit status 1 if it is not what the notebook says
"""
import base64
import re
import sys
from configparser import ConfigParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import chapter_map
import stamps

PICTURE = "book/_static/opening.png"   # of the cell tagged `opening`
LOGO = '<img src="book/_static/logo.svg" alt="" width="64" align="right">\n'
NOTE = "<!-- Made from nbs/index.ipynb by book/readme.py: edit the notebook. -->\n"
_directive = re.compile(r"^\s*#\s*\|\s*(\w+).*(?:\n|$)", re.M)
_ansi = re.compile(r"\x1b\[[0-9;]*m")


def settings(root: Path) -> dict[str, str]:
    parser = ConfigParser(delimiters=["="])
    parser.read(root/"settings.ini", encoding="utf-8")
    return dict(parser["DEFAULT"])


def outputs_text(cell: dict) -> str:
    "What the cell printed or returned, less progress bars."
    parts = []
    for o in cell["outputs"]:
        if o["output_type"] == "stream" and o["name"] == "stdout": parts.append("".join(o["text"]))
        elif "text/plain" in o.get("data", {}) and not any(k.startswith(("image/", "application/")) for k in o["data"]):
            parts.append("".join(o["data"]["text/plain"]))
    return _ansi.sub("", "\n".join(p.rstrip("\n") for p in parts if p.strip()))


def code(cell: dict) -> str:
    "The cell as fenced code with its result, or nothing if it is hidden."
    marks = set(_directive.findall(cell["source"]))
    if marks & {"hide", "default_exp"}: return ""
    source = re.sub(r"(?m)\s*# smoke: .*$", "", _directive.sub("", cell["source"])).strip()
    text = outputs_text(cell)
    shown = [f"```python\n{source}\n```"] if source and not marks & {"hide_input", "echo"} else []
    return "\n\n".join(shown + ([f"```text\n{text}\n```"] if text else []))


def prose(text: str) -> str:
    "Markdown without its comments, and with links to other pages as seen from the root of the repository."
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"<!--.*?-->\n?", "", text, flags=re.S)).strip()
    return re.sub(r"\]\(\.\./", "](", re.sub(r"\]\((?![a-z]+:|#|/|\.\./)([\w./-]+\.ipynb)", r"](nbs/\1", text))


def opening(nb: dict) -> tuple[bytes, str]:
    "PNG and alt text of the still picture on the opening page."
    cell = next(c for c in nb["cells"] if "opening" in c["metadata"].get("tags", []))
    found = next(o for o in cell["outputs"] if "image/png" in o.get("data", {}))
    return base64.b64decode("".join(found["data"]["image/png"])), found["metadata"]["image/png"]["alt"]


def readme(root: Path = stamps.ROOT) -> str:
    about = settings(root)
    site = about["doc_host"] + about["doc_baseurl"]
    parts, nb = [NOTE + LOGO], stamps.load(root/"nbs"/"index.ipynb")
    for c in nb["cells"]:
        if "opening" in c["metadata"].get("tags", []): part = f"![{opening(nb)[1]}]({PICTURE})"
        else: part = code(c) if c["cell_type"] == "code" else prose(c["source"])
        if part: parts.append(part + "\n")
    parts.append(f"The book: {site}. Its source is in `nbs/`, one notebook for each module.\n")
    return "\n".join(parts)


def main() -> int:
    if "--check" not in sys.argv[1:]: chapter_map.update()
    path, text = stamps.ROOT/"README.md", readme()
    if "--check" in sys.argv[1:]:
        same = path.exists() and path.read_text(encoding="utf-8") == text
        if not same: print("README.md is not what nbs/index.ipynb says: run python book/readme.py", file=sys.stderr)
        return int(not same)
    path.write_text(text, encoding="utf-8")
    (stamps.ROOT/PICTURE).write_bytes(opening(stamps.load(stamps.ROOT/"nbs"/"index.ipynb"))[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
