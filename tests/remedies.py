"""The messages of the library that name a remedy, read from its source: see test_remedies.py.

A message is a string in a `raise`, in `warnings.warn(...)`, in what a function returns, or in an assignment to one of the
names in `SAYING`. It names a remedy if an imperative of `VERBS`, and a word after it, stands at its beginning, or after a
mark (: ; , or a bracket) or "or", "and". Values in a message are written as {}.
"""
import ast
import re
from functools import cache
from pathlib import Path

LIB = Path(__file__).resolve().parent.parent/"cam_course"
SAYING = {"remedy", "hint", "more", "said", "words", "where"}
VERBS = ("add attack be call check choose compute connect continue convert crop delete do don't fetch free give install join "
         "keep leave load lower make move name normalize pass pip put raise remove rename repeat resume retrain run say set shorten "
         "split start step take test train try turn update use wrap write").split()
LOWER, UPPER = "|".join(VERBS), "|".join(v.capitalize() for v in VERBS)
REMEDY = re.compile(rf"(?:^|{{}}|[:;,(] |\bor |\band )(?:{LOWER}) (?!of\b)|(?:^|[.] )(?:{UPPER}) ")


def text(node: ast.expr) -> str:
    "A string as its literal parts, with {} for what is put in; '' where it is none."
    if isinstance(node, ast.Constant): return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr): return "".join(text(v) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    if isinstance(node, ast.BinOp): return (text(node.left) or "{}") + (text(node.right) or "{}")
    return ""


def outermost(node: ast.AST) -> list[str]:
    "The strings in an expression, each whole: an f-string or a sum of strings is one."
    if isinstance(node, ast.expr) and (found := text(node)).replace("{}", ""): return [found]
    return [s for child in ast.iter_child_nodes(node) for s in outermost(child)]


def speaking(node: ast.AST) -> list[ast.AST]:
    "The parts of a statement that hold messages."
    if isinstance(node, ast.Raise): return [node]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("warnings.warn", "warn"): return [node]
    if isinstance(node, ast.Return) and node.value is not None: return [node.value]
    if isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(t, ast.Name) and t.id in SAYING for t in targets): return [node.value]
    return []


@cache
def modules() -> tuple[str, ...]:
    paths = (p.relative_to(LIB).with_suffix("") for p in LIB.rglob("*.py") if p.stem not in ("_modidx", "__init__"))
    return tuple(sorted(".".join(p.parts) for p in paths))


@cache
def remedies(module: str) -> tuple[str, ...]:
    "The messages of a module that name a remedy, in the order of its lines; each once."
    tree = ast.parse(LIB.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
    nodes = sorted((n for n in ast.walk(tree) if isinstance(n, ast.stmt | ast.Call)), key=lambda n: (n.lineno, n.col_offset))
    found = [s for node in nodes for part in speaking(node) for s in outermost(part) if REMEDY.search(s)]
    return tuple(dict.fromkeys(found))


if __name__ == "__main__":
    for m in modules():
        for line in remedies(m): print(f"{m:24} {line}")
