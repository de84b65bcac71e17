"""The messages of the library that name a remedy, read from its source: see test_remedies.py.

A message is a string in a `raise`, in `warnings.warn(...)`, in what a function returns, or in an assignment to one of the
names in `SAYING`. It names a remedy if an imperative of `VERBS`, and a word after it, stands at its beginning, or after a
mark (: ; , or a bracket) or "or", "and", "so". Values in a message are written as {}.

A case is a message, a call that says it, and what does as it says: `case`, or `follows` where it takes more than a line.
"""
import ast
import re
import tempfile
import warnings
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path

LIB = Path(__file__).resolve().parent.parent/"cam_course"
SAYING = {"again", "hint", "instead", "more", "remedy", "said", "say", "undo", "use", "where", "words"}
VERBS = ("add ask attack be begin build call check choose clear collect compute connect continue convert crop delete divide do don't "
         "draw fetch finish free give import index install join keep leave load look lower make mend move name normalize open pass pip "
         "print put raise reinstall remove rename repair repeat restart resume retrain run save say scale set shorten show split start "
         "step stop take test train try turn undo update use wait wrap write").split()
LOWER, UPPER = "|".join(VERBS), "|".join(v.capitalize() for v in VERBS)
REMEDY = re.compile(rf"(?:^|{{}}|[:;,(] |\bor |\band |\bso )(?:{LOWER}) (?!of\b)|(?:^|[.?] )(?:{UPPER}) ")


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


# ---- cases

Story = Callable[[], Generator[Callable[[], object], str, None]]
CASES: list[tuple[str, Story]] = []
_ROOMS = tempfile.TemporaryDirectory(prefix="remedies-")


def follows(message: str) -> Callable[[Story], Story]:
    "Registers a story: it yields a call that raises or returns the message, is sent what that says, and does so."
    def register(story: Story) -> Story:
        CASES.append((message, story))
        return story

    return register


def case(message: str, wrong: Callable[[], object], *right: Callable[[str], object]) -> None:
    "A story in a line."
    def story() -> Generator[Callable[[], object], str, None]:
        said = yield wrong
        for follow in right: follow(said)

    assert right
    follows(message)(story)


def warned(call: Callable[[], object]) -> str:
    "The warnings of this library in a call, as the text that a `wrong` returns."
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return "\n".join(str(w.message) for w in found if issubclass(w.category, UserWarning))


def part(pattern: str, said: str) -> str:
    "What the group of a pattern finds in a message."
    match = re.search(pattern, said)
    assert match, f"{pattern} is not in: {said}"
    return match[1]


def quoted(said: str) -> list[str]: return re.findall(r"'([^']+)'", said)


def room() -> Path:
    "A new, empty folder; gone when Python ends."
    return Path(tempfile.mkdtemp(dir=_ROOMS.name))


if __name__ == "__main__":
    for m in modules():
        for line in remedies(m): print(f"{m:24} {line}")
