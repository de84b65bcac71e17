"""The page on the course texts' claims, made from book/claims.yml and the marks `<!-- claim: N -->` in the notebooks.

Each claim has a number, the texts that make it (S8, S11), the claim and what is right in one sentence each, a verdict and
a kind. A claim about *behaviour* names in `shown` a piece of what a code cell of the page prints (or, for a silent check, of
its code); the page of claims quotes the whole line as it is today. A claim about the *literature* names its `source`. So a
claim without a mark, a mark without a claim, and a behaviour whose cell is gone all stop the build.
"""
import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

import book_inner
import book_marks
import nbdev_reader
import stamps
import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.transforms import SphinxTransform

VERDICTS = {"holds": "holds", "condition": "holds with a condition", "wrong": "wrong"}
KINDS = ("behaviour", "literature")
TEXTS = {"S8": "EVA, session 8", "S11": "ERA, session 11"}
PAGE, DATA = "book/claims", "book/claims.yml"
_mark = re.compile(r"<!--\s*claim:\s*(\d+)\s*-->")
_swallowed = re.compile(r"(?m)^[ \t]*(?:[-*+>]\s+|\d+[.)]\s+)?<!--[^\n]*?-->[ \t]*(?!<!--)\S.*$")


@dataclass
class Claim:
    number: int
    texts: list[str]
    claim: str
    verdict: str
    right: str
    kind: str
    theme: str = ""
    shown: str = ""
    source: str = ""


@dataclass
class Place:
    "Where a notebook marks a claim, and what is shown there."
    stem: str
    title: str
    line: str = ""         # what a code cell near the mark shows; "" if the claim's `shown` was not found
    code: bool = False     # the line is code or printed text, not a sentence


@dataclass
class Found:
    "All claims with their places; `problems` is what the build complains about."
    claims: list[Claim]
    places: dict[int, list[Place]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_claims(path: Path) -> list[Claim]:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Claim(theme=theme, **entry) for theme, entries in data.items() for entry in entries]


def own_problems(claims: list[Claim], keys: set[str]) -> list[str]:
    "What is wrong with the list by itself."
    bad = [f"claim {n} is listed twice" for n, times in Counter(c.number for c in claims).items() if times > 1]
    for c in claims:
        if c.verdict not in VERDICTS: bad.append(f"claim {c.number}: verdict {c.verdict!r}, not one of {', '.join(VERDICTS)}")
        if c.kind not in KINDS: bad.append(f"claim {c.number}: kind {c.kind!r}, not one of {', '.join(KINDS)}")
        if c.kind == "behaviour" and not c.shown: bad.append(f"claim {c.number} is about behaviour and needs `shown`")
        if c.kind == "literature" and not c.source: bad.append(f"claim {c.number} is about the literature and needs `source`")
        if not c.texts or set(c.texts) - TEXTS.keys(): bad.append(f"claim {c.number}: texts {c.texts}")
        cited = book_marks.cited(" ".join((c.right, c.source)))
        bad += [f"claim {c.number} cites {k!r}, which book/references.bib lacks" for k in cited if k not in keys]
    return bad


@cache
def bib_keys(path: Path) -> set[str]:
    return set(re.findall(r"(?m)^@\w+\{([^,\s]+),", path.read_text(encoding="utf-8")))


def outward(cells: list[dict], at: int) -> Iterator[dict]:
    "The code cells that the book shows, those nearest to cell `at` first: a verdict may be folded at the end of its section."
    for i in sorted(range(len(cells)), key=lambda i: abs(i - at)):
        if cells[i]["cell_type"] != "code": continue
        if not nbdev_reader.REMOVE & nbdev_reader.split_directives(cells[i]["source"])[0].keys(): yield cells[i]


def shown_lines(cell: dict) -> list[tuple[str, bool]]:
    "What a code cell shows: (a line or sentence, is it printed text), outputs first, then the alt texts of pictures."
    printed, alts = [], []
    for o in cell["outputs"]:
        alts += [str(v["alt"]) for v in o.get("metadata", {}).values() if isinstance(v, dict) and "alt" in v]
        texts = ["".join(t) for t in (o.get("text", ""), o.get("data", {}).get("text/plain", ""))]
        printed += [line for t in texts if t not in alts and not t.startswith("<") for line in t.splitlines()]
    return [(s, True) for s in printed] + [(s, False) for alt in alts for s in re.split(r"(?<=\.)\s+(?=[A-Z])", alt)]


@cache
def statements(source: str) -> tuple[str, ...]:
    "The lines of a cell, then its statements of several lines, each in one."
    lines = source.splitlines()
    try: found = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.stmt) and n.end_lineno != n.lineno]
    except SyntaxError: return tuple(lines)
    whole = (" ".join((ast.get_source_segment(source, n) or "").split()) for n in found)
    return (*lines, *(re.sub(r"(?<=[(\[{]) | (?=[)\]}])", "", s) for s in whole))


def evidence(cells: list[dict], at: int, wanted: str) -> tuple[str, bool]:
    """What the visible code cell nearest to cell `at` shows with `wanted` in it: what is printed or drawn, else a line of
    code; ('', False) if none does."""
    around = list(outward(cells, at))
    lines = chain((x for c in around for x in shown_lines(c)), ((s, True) for c in around for s in statements(c["source"])))
    return next(((line.strip(), code) for line, code in lines if wanted in line), ("", False))


def marks(root: Path, wanted: dict[int, str], found: Found) -> None:
    "Fill in the places of all marks, and complain about unknown ones."
    for path in stamps.notebooks(root/"nbs"):
        nb = stamps.load(path)
        title = next((m[1] for c in nb["cells"] if c["cell_type"] == "markdown"
                      and (m := re.search(r"(?m)^#\s+(.+?)\s*$", c["source"]))), stamps.name(path))
        for i, cell in enumerate(nb["cells"]):
            if cell["cell_type"] != "markdown": continue
            if m := _swallowed.search(cell["source"]):
                found.problems.append(f"{stamps.name(path)}, cell {i}: a mark at the start of a line keeps the line from being read as "
                                      f"markdown; put it at the line's end: {m[0].strip()[:80]!r}")
            for number in map(int, _mark.findall(cell["source"])):
                if number not in wanted:
                    found.problems.append(f"{stamps.name(path)}, cell {i}: mark of claim {number}, which {DATA} lacks")
                    continue
                line, code = evidence(nb["cells"], i, wanted[number]) if wanted[number] else ("", False)
                found.places.setdefault(number, []).append(Place(stamps.name(path), title, line, code))


def find(root: Path) -> Found:
    "Everything that the page shows, with every complaint."
    claims = read_claims(root/DATA)
    found = Found(claims, problems=own_problems(claims, bib_keys(root/"book"/"references.bib")))
    marks(root, {c.number: c.shown for c in claims}, found)
    for c in claims:
        places = found.places.get(c.number, [])
        if not places:
            found.problems.append(f"claim {c.number} ({c.claim[:60]}…) has no mark <!-- claim: {c.number} --> in any notebook")
        elif c.kind == "behaviour" and not any(p.line for p in places):
            where = " or ".join(p.stem for p in places)
            found.problems.append(f"claim {c.number} ({c.claim[:60]}…): no code cell in {where} shows {c.shown!r}; "
                                  f"put the cell back, or correct `shown` in {DATA}")
        places.sort(key=lambda p: not p.line)
    return found


def counts_html(claims: list[Claim]) -> str:
    rows = []
    for verdict, words in VERDICTS.items():
        group = [c for c in claims if c.verdict == verdict]
        by_text = "".join(f"<td>{sum(t in c.texts for c in group)}</td>" for t in TEXTS)
        rows.append(f'<tr><th scope=row><span class="verdict {verdict}">{words}</span></th>{by_text}<td>{len(group)}</td></tr>')
    head = "".join(f"<th scope=col>{t}</th>" for t in ("verdict", *(t.split(",")[0] for t in TEXTS.values()), "all"))
    both = "".join(f"<td>{sum(t in c.texts for c in claims)}</td>" for t in TEXTS)
    rows.append(f"<tr><th scope=row>all</th>{both}<td>{len(claims)}</td></tr>")
    return f'<table class="claim-counts"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def filter_html(claims: list[Claim]) -> str:
    "Radio buttons; the style sheet does the rest, so that it needs no script."
    choices = {"all": f"all {len(claims)}"} | {v: f"{w} ({sum(c.verdict == v for c in claims)})" for v, w in VERDICTS.items()}
    labels = "".join(f'<label><input type="radio" name="claim-verdict" id="show-{v}"{" checked" if v == "all" else ""}> {w}</label>'
                     for v, w in choices.items())
    return f'<fieldset class="claim-filter"><legend>Show the claims whose verdict is</legend>{labels}</fieldset>'


class ClaimsDirective(Directive):
    "`{claims} THEME`: the claims of one theme; `{claims}` alone: the counts and the filter."
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        root = Path(env.srcdir)
        for path in (root/DATA, root/"book"/"references.bib", *stamps.notebooks(root/"nbs")): env.note_dependency(str(path))
        found = find(root)
        if not self.arguments:
            if found.problems: raise self.error("\n  ".join([f"{len(found.problems)} problems with the claims:", *found.problems]))
            shown = sum(c.kind == "behaviour" for c in found.claims)
            text = (f"The list has **{len(found.claims)}** claims: {shown} about behaviour, each shown by a cell that you can run, "
                    f"and {len(found.claims) - shown} about the literature, each with the paper.")
            return [*self.parsed(text), nodes.raw("", counts_html(found.claims), format="html"),
                    nodes.raw("", filter_html(found.claims), format="html")]
        group = sorted((c for c in found.claims if c.theme == self.arguments[0]), key=lambda c: c.number)
        if not group: raise self.error(f"{DATA} has no theme {self.arguments[0]!r}")
        items = [self.item(c, found.places.get(c.number, [])) for c in group]
        return [nodes.bullet_list("", *items, classes=["claims"])]

    def parsed(self, text: str) -> list[nodes.Node]:
        holder = nodes.Element()
        self.state.nested_parse(StringList([book_marks.citations(text)]), self.content_offset, holder)
        return holder.children

    def item(self, c: Claim, places: list[Place]) -> nodes.list_item:
        about = f"claim {c.number} · {' and '.join(TEXTS[t] for t in c.texts)}"
        head = nodes.paragraph("", "", nodes.inline("", VERDICTS[c.verdict], classes=["verdict", c.verdict]), nodes.Text(" "),
                               nodes.inline("", about, classes=["claim-meta"]), classes=["claim-head"])
        said, right = self.parsed(c.claim), self.parsed(c.right)
        said[0]["classes"].append("claim-said")
        item = nodes.list_item("", head, *said, *right, ids=[f"claim-{c.number}"], classes=[f"is-{c.verdict}"])
        proof = nodes.paragraph(classes=["claim-proof"])
        for i, p in enumerate(places):
            proof += [nodes.Text(" and " if i else "Checked in "), book_inner.inner_link(p.title, f"nbs/{p.stem}", f"claim-{c.number}")]
        if places and places[0].line and c.kind == "behaviour":
            line = places[0].line if len(places[0].line) <= 230 else places[0].line[:230].rsplit(" ", 1)[0] + " …"
            proof += [nodes.Text(": "), nodes.literal("", line) if places[0].code else nodes.Text(f"“{line}”")]
        if c.source:
            cited = self.parsed("Source: " + c.source)[0]
            proof += [nodes.Text(". " if places else ""), *cited.children]
        item += proof
        return item


class Anchors(SphinxTransform):
    "A mark in a chapter -> an anchor with a small link to the claim's entry on the page."
    default_priority = 390

    def apply(self, **kwargs) -> None:
        seen: set[int] = set()
        for raw in list(self.document.findall(nodes.raw)):
            numbers = [int(n) for n in _mark.findall(raw.astext())]
            if not numbers or _mark.sub("", raw.astext()).strip(): continue
            anchor = nodes.inline("", "", ids=[f"claim-{n}" for n in numbers if n not in seen], classes=["claim-anchor"])
            seen.update(numbers)
            text = self.place(raw, anchor)
            for n in numbers:
                link = book_inner.inner_link(f"claim {n}", PAGE, f"claim-{n}", ("claim-mark",), "To the list of claims")
                text += [nodes.Text(" "), link]

    @staticmethod
    def place(raw: nodes.raw, anchor: nodes.inline) -> nodes.Element:
        """Put the anchor where the mark stood; a mark on a line of its own belongs to the text after it, or else before it.
        Returns the paragraph, whose end is the place for the link."""
        parent = raw.parent
        at = parent.index(raw)
        if isinstance(parent, nodes.TextElement):
            raw.replace_self(anchor)
            while isinstance(parent.parent, nodes.TextElement): parent = parent.parent
            return parent
        parent.remove(raw)
        after, before = parent.children[at:at + 1], parent.children[max(at - 1, 0):at]
        text = next((p for p in (*after, *before) if isinstance(p, nodes.paragraph)), None)
        if text is None: parent.insert(at, text := nodes.paragraph())
        text.insert(0, anchor)
        return text


def setup(app) -> dict[str, bool]:
    app.setup_extension("book_inner")
    app.add_css_file("reference.css")
    app.add_directive("claims", ClaimsDirective)
    app.add_transform(Anchors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
