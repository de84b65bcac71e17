"""Two voices on one page: the idea stays in sight, the library is one click away.

What is folded is decided by rule. A cell that exports is folded to its signature and the first sentence of its doc string,
unless it is tagged `idea`: then it is what the chapter explains, and short. A cell tagged `figure` only draws, one tagged
`aside` helps or checks; what they print and show stays in sight.
"""
import ast
import re

FIGURE, ASIDE, IDEA = "figure", "aside", "idea"
LABELS = {FIGURE: "Code of this figure", ASIDE: "Show the code"}
IDEA_LINES, COLUMNS = 15, 80
LONGEST = 64   # characters of a signature; a longer one loses its defaults, then its arguments
_code = re.compile(r"`([^`]+)`")


def fold(cell, label: str) -> None:
    "Fold the code of a cell behind `label`; what stands between backticks in it is set as code."
    tags = cell.metadata.setdefault("tags", [])
    if "hide-input" not in tags: tags.append("hide-input")
    cell.metadata["mystnb"] = {**cell.metadata.get("mystnb", {}), "code_prompt_show": label, "code_prompt_hide": label}


def by_rule(cell, exports: bool) -> None:
    "Fold what the rule folds. `exports`: the cell is part of the library."
    tags = cell.metadata.get("tags", [])
    if only_imports(cell.source) and (exports or len(cell.source.splitlines()) > 6): fold(cell, "Imports")
    elif exports and IDEA not in tags: fold(cell, library_label(cell.source))
    else:
        for tag, label in LABELS.items():
            if tag in tags: return fold(cell, label)


def is_folded(cell: dict) -> bool:
    "Does the rule fold this cell of a notebook, given with its marks?"
    tags, exports = cell.get("metadata", {}).get("tags", []), re.match(r"\s*#\s*\|\s*export", cell["source"]) is not None
    return IDEA not in tags if exports else bool({FIGURE, ASIDE} & set(tags))


def only_imports(source: str) -> bool:
    "Nothing but imports."
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False
    plain = (ast.Import, ast.ImportFrom)
    checked = all(isinstance(n, plain) or (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)) for n in body)
    return bool(body) and checked


def library_label(source: str) -> str:
    "What stands for a folded cell of the library: `name(arguments)`: first sentence of the doc string."
    body = ast.parse(source).body
    made = [n for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    if not made: return ", ".join(f"`{n}`" for n in _assigned(body)) or "Code of the library"
    first = next((n for n in made if not n.name.startswith("_")), made[0])
    others = [f"`{n.name}`" for n in made if n is not first and not n.name.startswith("_")]
    text = f"`{_signature(first)}`"
    if others: text += " and " + ", ".join(others)
    if sentence := first_sentence(ast.get_docstring(first) or ""): text += f": {sentence}"
    return text


def first_sentence(doc: str) -> str:
    "The first sentence of a doc string, in one line, without a full stop inside brackets or a number ending it."
    paragraph = " ".join(re.sub(r"\s*\[@[^\]]*\]", "", doc.split("\n\n")[0]).split())   # a label cites nobody
    end = re.search(r"(?<![ (][a-z])(?<!e\.g)(?<!i\.e)(?<!al)[.!?](?= [A-Z`\"(\d]|$)", paragraph)
    return paragraph[:end.end()] if end else paragraph


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    "`name(a, b=1)` without types; a class is written as it is called, if it says how."
    if isinstance(node, ast.ClassDef):
        init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if init is None: return f"class {node.name}"
        args, drop = init.args, 1
    else: args, drop = node.args, 0
    for defaults in (True, False):
        text = f"{node.name}({', '.join(_arguments(args, defaults)[drop:])})"
        if len(text) <= LONGEST: return text
    return f"{node.name}(...)"


def _arguments(args: ast.arguments, defaults: bool) -> list[str]:
    "The arguments of a signature, with their defaults or without."
    plain = [*args.posonlyargs, *args.args]
    given = dict(zip([a.arg for a in plain][len(plain) - len(args.defaults):], args.defaults, strict=True))
    given |= {a.arg: d for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d is not None}

    def one(a: ast.arg) -> str: return f"{a.arg}={ast.unparse(given[a.arg])}" if defaults and a.arg in given else a.arg

    found = [one(a) for a in plain]
    if args.vararg: found.append(f"*{args.vararg.arg}")
    elif args.kwonlyargs: found.append("*")
    return [*found, *map(one, args.kwonlyargs), *([f"**{args.kwarg.arg}"] if args.kwarg else [])]


def _assigned(body: list[ast.stmt]) -> list[str]:
    "Names that a cell of constants gives values to."
    found = []
    for n in body:
        targets = n.targets if isinstance(n, ast.Assign) else [n.target] if isinstance(n, ast.AnnAssign) else []
        found += [m.id for t in targets for m in ast.walk(t) if isinstance(m, ast.Name)]
    return found


def set_code(html: str) -> str:
    "Backticks in the labels of folds -> code."
    return re.sub(r'(<p class="(?:collapsed|expanded) admonition-title">)(.*?)(</p>)',
                  lambda m: m[1] + _code.sub(r"<code>\1</code>", m[2]) + m[3], html, flags=re.S)
