"""The notebooks without their solutions, for a class.

    python book/student.py [--out DIR]     writes build/student/*.ipynb, or DIR

Every fold with a solution or an answer goes. A code cell that comes after the solution of an exercise carries it out: of
its functions and classes the signatures stay, with the checks that call them, so that a student sees when the task is
done; all else becomes a line that says whose turn it is. A check that would tell the answer ends in `# solution`, and
goes. Outputs of such cells go too, those of the chapter stay.
"""
import argparse
import ast
import copy
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stamps

OUT = stamps.ROOT/"build"/"student"
TURN = "raise NotImplementedError(\"your turn\")"
fold = re.compile(r"[ \t]*<details[^>]*>\s*<summary>\s*(?:Solution|Answer)\b.*?</summary>.*?</details>[ \t]*\n?", re.S)
_heading = re.compile(r"(?m)^#{1,6}[ \t]+(.*?)[ \t]*$")
_fence = re.compile(r"(?ms)^(`{3,}|~{3,}).*?^\1[ \t]*$")
_open = re.compile(r"<details[^>]*>|</details>", re.I)


class Unfinished(ValueError):
    "A notebook whose folds don't match, so that a solution could stay."


def without_folds(text: str, name: str = "") -> str:
    "Markdown less its solutions; `Unfinished` if a fold stays open, or has another name than those that are known."
    left = re.sub(r"\n{3,}", "\n\n", fold.sub("", text)).rstrip()
    if m := _open.search(_fence.sub("", left)):
        raise Unfinished(f"{name}: {left[m.start():m.start() + 60]!r} is no fold with the summary Solution or Answer")
    return left


def solution_cells(nb: dict) -> Iterator[tuple[dict, str]]:
    "Code cells that carry out a solution, with the title of the exercise: they come after its fold."
    title, told = "", False
    for c in nb["cells"]:
        if c["cell_type"] == "markdown":
            text = _fence.sub("", c["source"])
            for m in sorted([*_heading.finditer(text), *fold.finditer(text)], key=lambda m: m.start()):
                if not m.re.groups: told = True
                else: title, told = (m[1].partition("Exercise:")[2].strip() if m[1].startswith("Exercise") else ""), False
        elif c["cell_type"] == "code" and title and told:
            yield c, title


def signature(node: ast.FunctionDef | ast.ClassDef, indent: str = "") -> str:
    "The first line of a function or class, and of the methods in it, with nothing done."
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        methods = [signature(n, indent + "    ") for n in node.body if isinstance(n, ast.FunctionDef)]
        head = f"{indent}class {node.name}" + (f"({bases})" if bases else "") + ":\n"
        return head + ("\n\n".join(methods) or f"{indent}    ...")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{indent}def {node.name}({ast.unparse(node.args)}){returns}:\n{indent}    {TURN}"


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _asserts(node: ast.stmt) -> bool:
    call = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    return isinstance(node, ast.Assert) or (call is not None and ast.unparse(call).startswith(("assert_", "torch.testing")))


def checks(body: list[ast.stmt], wanted: set[str]) -> list[ast.stmt]:
    "Assertions about what the student has to write (`wanted`), and the assignments that they rest on."
    plain = [n for n in body if isinstance(n, ast.Assign) or _asserts(n)]
    told = set(wanted)
    for n in plain:
        if isinstance(n, ast.Assign) and _names(n) & told: told |= set().union(*map(_names, n.targets))
    kept = [n for n in plain if _asserts(n) and _names(n) & told]
    needed = set().union(*map(_names, kept))
    for n in reversed(plain):
        if isinstance(n, ast.Assign) and set().union(*map(_names, n.targets)) & needed:
            kept.append(n)
            needed |= _names(n)
    return [n for n in plain if n in kept]


def stub(source: str, title: str, told: str) -> str:
    "What a student finds in place of a solution: signatures and checks, or a line. `told`: the text of the folds."
    marks = [line for line in source.splitlines() if re.match(r"\s*#\s*\|", line) and "hide" not in line]
    body = stamps.parse_cells([source]).body
    given = [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    secret = {i for i, line in enumerate(source.splitlines(), 1) if line.rstrip().endswith("# solution")}
    rest = [n for n in body if n not in given and not secret & set(range(n.lineno, (n.end_lineno or n.lineno) + 1))]
    shown = [ast.get_source_segment(source, n) or "" for n in checks(rest, {n.name for n in given})]
    shown = [s for s in shown if not any(line.strip() in told for line in s.splitlines())]
    parts = [*map(signature, given), *(["\n".join(shown)] if shown else [])]
    return "\n".join([*marks, f"# Your turn: {title}", *(["\n\n\n".join(parts)] if parts else [])])


def student(nb: dict, name: str = "") -> dict:
    "The notebook (sources as strings, see `stamps.load`) without its solutions; the one given stays as it is."
    new = copy.deepcopy(nb)
    told = "\n".join(m[0] for c in nb["cells"] if c["cell_type"] == "markdown" for m in fold.finditer(c["source"]))
    for c, title in list(solution_cells(new)):
        c["source"], c["outputs"], c["execution_count"] = stub(c["source"], title, told), [], None
    for c in new["cells"]:
        if c["cell_type"] == "markdown": c["source"] = without_folds(c["source"], name)
    new["cells"] = [c for c in new["cells"] if c["source"].strip()]
    new["metadata"].pop(stamps.KEY, None)   # the stamp says that the outputs are those of this code
    return new


def write_all(out: Path = OUT, folder: Path = stamps.NBS) -> list[Path]:
    "Write every notebook of `folder` to `out`, all or none; what was there before goes."
    made = {p.relative_to(folder): student(stamps.load(p), p.name) for p in stamps.notebooks(folder)}
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, nb in made.items():
        for c in nb["cells"]: c["source"] = c["source"].splitlines(keepends=True)
        (fresh/name).parent.mkdir(exist_ok=True)
        (fresh/name).write_text(json.dumps(nb, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    return [out/name for name in made]


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=OUT, help="folder to write; what is in it is replaced")
    args = p.parse_args(argv)
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
