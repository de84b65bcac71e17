"""The notebooks without their solutions, for a class.

    python book/student.py [--out DIR]     writes build/student/*.ipynb, or DIR
    python book/student.py --start         writes cam_course/start anew: what `cam-course new` lays out

Every fold with a solution or an answer goes. In place of a code cell tagged `solution` stands a line that says whose turn
it is; its outputs go, too. Outputs of the chapter stay.

What `cam-course new` lays out is made from the blocks of the chapter "Your own repository": bodies of functions go, signatures
and first sentences stay. The tests beside it and the empty notebook are written by hand.
"""
import argparse
import ast
import copy
import json
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stamps

OUT = stamps.ROOT/"build"/"student"
TAG, TURN = "solution", "raise NotImplementedError(\"your turn\")"
fold = re.compile(r"[ \t]*<details[^>]*>\s*<summary>\s*(?:Solution|Answer)\b.*?</summary>.*?</details>[ \t]*\n?", re.S)
# Folds that give no solution away: they stay.
ASIDES = ("What the notes say", "Where the rule comes from", "It never quite arrives", "Is a flat minimum a better one?",
          "How the curves are computed", "Several layers, transformers, wrapped networks", "With many weights",
          "Negative eigenvalues, and a faster method", "Four cases that this comparison leaves out")
kept = re.compile(rf"<details>\s*<summary>(?:{'|'.join(map(re.escape, ASIDES))})</summary>.*?</details>", re.S)
_fence = re.compile(r"(?ms)^(`{3,}|~{3,}).*?^\1[ \t]*$")
_open = re.compile(r"<details[^>]*>|</details>", re.I)


class Unfinished(ValueError):
    "A notebook whose folds don't match, so that a solution could stay."


def without_folds(text: str, name: str = "") -> str:
    "Markdown less its solutions; `Unfinished` if a fold stays open, or has another name than those that are known."
    left = re.sub(r"\n{3,}", "\n\n", fold.sub("", text)).rstrip()
    if m := _open.search(_fence.sub("", kept.sub("", left))):
        raise Unfinished(f"{name}: {left[m.start():m.start() + 60]!r} is no fold that it knows: Solution, Answer, or one of ASIDES")
    return left


def student(nb: dict, name: str = "") -> dict:
    "The notebook (sources as strings, see `stamps.load`) without its solutions; the one given stays as it is."
    new = copy.deepcopy(nb)
    for c in new["cells"]:
        if c["cell_type"] == "markdown": c["source"] = without_folds(c["source"], name)
        elif TAG in c["metadata"].get("tags", []): c |= {"source": TURN, "outputs": [], "execution_count": None}
    new["cells"] = [c for c in new["cells"] if c["source"].strip()]
    new["metadata"].pop(stamps.KEY, None)   # the stamp says that the outputs are those of this code
    return new


def write_all(out: Path = OUT, folder: Path = stamps.NBS) -> list[Path]:
    "Write every notebook of `folder` to `out`, all or none; notebooks that were there before go."
    made = {p.relative_to(folder): student(stamps.load(p), p.name) for p in stamps.notebooks(folder)}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as new:
        for name, nb in made.items():
            for c in nb["cells"]: c["source"] = c["source"].splitlines(keepends=True)
            file = Path(new)/name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(nb, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        out.mkdir(exist_ok=True)   # all are written: from here on nothing can fail but a move
        for old in out.rglob("*.ipynb"): old.unlink()
        for name in made:
            (out/name).parent.mkdir(exist_ok=True)
            (Path(new)/name).replace(out/name)
    return [out/name for name in made]


# ---- what `cam-course new` lays out

START, OWN = stamps.ROOT/"cam_course"/"start", "Your own repository in an afternoon"
BY_HAND = ("assignment.ipynb.txt", "test_progress.py.txt")
OPEN = 'raise NotImplementedError("your turn")'
LEFT = {"train_transform": "None  # your turn: crop, then as test images, then cut out", "test_transform": "None  # your turn"}
_block = re.compile(r"%%writefile (-a )?(\S+)\n")


def typed(nb: dict) -> dict[str, str]:
    "The files that the blocks of a notebook write, as they are at its end."
    files: dict[str, str] = {}
    for source in (c["source"] for c in nb["cells"] if c["cell_type"] == "code"):
        if not (m := _block.match(source)): continue
        files[m[2]] = (files.get(m[2], "") if m[1] else "") + source[m.end():] + "\n"
    return files


def opened(source: str) -> str:
    "Python with the bodies of its functions taken out: docstrings stay, and what only keeps arguments."
    lines, tree = source.splitlines(), ast.parse(source)
    cuts = []
    for n in ast.walk(tree):
        if isinstance(n, ast.FunctionDef):
            body = n.body[ast.get_docstring(n) is not None:]
            keeps = n.name == "__init__" and all(isinstance(s, ast.Assign) for s in body)
            if not keeps: cuts.append((body[0].lineno, n.end_lineno, " "*body[0].col_offset + OPEN))
        if isinstance(n, ast.Assign) and (name := ast.unparse(n.targets[0])) in LEFT:
            cuts.append((n.lineno, n.end_lineno, f"{name} = {LEFT[name]}"))
    for first, last, line in sorted(cuts, reverse=True): lines[first - 1:last] = [line]
    return "\n".join(lines) + "\n"


def start_files(nb: dict) -> dict[str, str]:
    "Name in cam_course/start -> text. A name ends in .txt, so that nothing takes it for a module; a dot in front is written out."
    return {re.sub(r"^\.", "dot_", name) + ".txt": opened(text) if name.endswith(".py") else text for name, text in typed(nb).items()}


def write_start() -> int:
    import chapters
    made = start_files(stamps.load(chapters.chapter(OWN)))
    for old in START.rglob("*.txt"):
        if old.relative_to(START).as_posix() not in (*made, *BY_HAND): old.unlink()
    for name, text in made.items():
        (START/name).parent.mkdir(parents=True, exist_ok=True)
        (START/name).write_text(text, encoding="utf-8")
    print(f"{len(made)} files in {START.relative_to(stamps.ROOT)}")
    return 0


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=OUT, help="folder to write; the notebooks in it are replaced")
    p.add_argument("--start", action="store_true", help="write what `cam-course new` lays out, from the chapter")
    args = p.parse_args(argv)
    if args.start: return write_start()
    if args.out.exists() and any(f.is_file() and f.suffix != ".ipynb" for f in args.out.rglob("*")):
        print(f"student: {args.out} holds more than notebooks: give an empty or a new folder", file=sys.stderr)
        return 2
    try:
        made = write_all(args.out.absolute())
    except Unfinished as error:
        print(f"student: {error}", file=sys.stderr)
        return 1
    print(f"{len(made)} notebooks without solutions in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
