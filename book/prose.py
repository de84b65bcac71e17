"""Numbers that the prose quotes must be shown by the notebook: printed, in an alt text, or written in a code cell.

Checked are numbers of three significant digits or more, and everything in percent. Left alone are numbers in code, in
mathematics and in links, years, and every number of a cell that says `<!-- constants -->` (quoted from a paper, say).
"11.2 million" is shown by 11,173,962: the prose may round, and may say percent for a fraction.
"""
import re
import tokenize
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from io import StringIO

import stamps

ESCAPE = "<!-- constants -->"
_skip = re.compile(
    r"^(`{3,}|~{3,})[^\n]*\n.*?^\1[^\n]*$"      # fenced code
    r"|(`+)(?!`).+?(?<!`)\2(?!`)"               # inline code
    r"|<!--.*?-->|<[^>\n]+>"                    # comments, tags
    r"|\$\$.+?\$\$|(?<![\\$])\$(?![\s$])[^$\n]+?(?<![\s\\])\$(?![\d$])"   # mathematics
    r"|\[@[^\]]*\]|(?<=\])\([^)\s]*(?:\s+\"[^\"]*\")?\)|https?://\S+"     # citations, targets of links, addresses
    r"|\[[^\]]*\]:\s*\S+", re.S | re.M)
_number = re.compile(
    r"(?<![\w.,/:#-])(?P<sign>[-−+±]?)(?P<n>\d{1,3}(?:[,  ]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"(?P<exp>[eE][-−+]?\d+|\s?[×x·]\s?10(?:\^\{?[-−]?\d+\}?|[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?"
    r"(?![\d]|[.,]\d)(?P<unit>\s?%|\s?‰|\s(?:percent|per cent|thousand|million|billion)\b|[kM]\b)?(?!\w)")
_any = re.compile(r"[-−]?(?:\d{1,3}(?:[,  _]\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-−]?\.\d+(?:[eE][-+]?\d+)?")
_label = re.compile(   # what comes after these is a name, not a quantity
    r"(?:\b(?:Fig|Figure|Eq|Equation|section|chapter|arXiv|claims?|issue|pages?|pp?|RFC|Python|torch|numpy|version)\.?"
    r"|§)\s*\(?$", re.I)
_super = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_scale = {"thousand": 3, "k": 3, "million": 6, "M": 6, "billion": 9}
_ansi = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Quoted:
    "A number in the prose."
    text: str          # as written
    value: Decimal     # what it says, percent not applied
    step: Decimal      # one unit of its last digit
    percent: bool
    cell: int
    sentence: str


def strip(markdown: str) -> str:
    "Prose only; what is left out becomes blanks."
    return _skip.sub(lambda m: " "*len(m[0]), markdown)


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(re.sub(r"[,_  ]", "", text).replace("−", "-"))
    except InvalidOperation:
        return None


def significant(text: str) -> int:
    "Significant digits as written: 0.012 has two, 1,200 has two, 1.20 has three."
    digits = re.sub(r"[^\d.]", "", text)
    return len(digits.replace(".", "").lstrip("0")) if "." in digits else len(digits.strip("0"))


def is_year(m: re.Match) -> bool:
    return bool(re.fullmatch(r"(18|19|20)\d\d", m["n"])) and not m["unit"] and not m["sign"]


def quoted(markdown: str, cell: int = 0) -> list[Quoted]:
    "The numbers of a markdown cell that have to be shown somewhere."
    if ESCAPE in markdown: return []
    text, found = strip(markdown), []
    for m in _number.finditer(text):
        unit = (m["unit"] or "").strip()
        percent = unit in ("%", "‰", "percent", "per cent")
        if is_year(m) or not (percent or significant(m["n"]) >= 3): continue
        if _label.search(text[:m.start()]): continue
        power = _scale.get(unit, 0) + _power(m["exp"])
        value, step = _decimal(m["n"]), Decimal(1).scaleb(-len(m["n"].partition(".")[2]))
        where = _sentence(text, m.start())
        found.append(Quoted(m[0].strip(), value.scaleb(power), step.scaleb(power), percent, cell, where))
    return found


def _power(exp: str | None) -> int:
    if not exp: return 0
    digits = re.sub(r"^[eE]|\s?[×x·]\s?10|[\^{}+]", "", exp.strip()).translate(_super).replace("−", "-")
    return int(digits)


def _sentence(text: str, at: int) -> str:
    start = max(text.rfind(". ", 0, at) + 2, text.rfind("\n\n", 0, at) + 2, 0)
    ends = [e for e in (text.find(". ", at), text.find("\n\n", at)) if e >= 0]
    return " ".join(text[start:min(ends, default=len(text)) + 1].split())


class Shown:
    "All the numbers that a notebook shows, sorted by size."

    def __init__(self, texts: Iterable[str]):
        values = {abs(v) for t in texts for m in _any.finditer(_ansi.sub("", t)) if (v := _decimal(m[0])) is not None}
        self.values = sorted(v for v in values if v.is_finite())

    def within(self, low: Decimal, high: Decimal) -> bool:
        i = bisect_left(self.values, low)
        return i < len(self.values) and self.values[i] <= high

    def has(self, q: Quoted) -> bool:
        "Does a shown number round to the quoted one? In percent, fractions count too."
        half = q.step/2
        for factor in (Decimal(1), Decimal("0.01")) if q.percent else (Decimal(1),):
            if self.within((q.value - half)*factor, (q.value + half)*factor): return True
        return False


def _code_numbers(source: str) -> str:
    "Number literals of a code cell, and the numbers in its strings; comments do not count."
    try:
        tokens = tokenize.generate_tokens(StringIO(source).readline)
        return " ".join(t.string for t in tokens if t.type not in (tokenize.COMMENT, tokenize.NAME))
    except (tokenize.TokenError, SyntaxError):
        return stamps.without_comments(source)


def shown_texts(nb: dict) -> list[str]:
    "Text outputs, alt texts, and literals of the code."
    texts = []
    for c in nb["cells"]:
        if c["cell_type"] != "code": continue
        texts.append(_code_numbers(c["source"]))
        for o in c["outputs"]:
            texts.append("".join(o.get("text", "")))
            texts += ["".join(v) for k, v in o.get("data", {}).items() if k.startswith("text/")]
            texts += [str(v["alt"]) for v in o.get("metadata", {}).values() if isinstance(v, dict) and "alt" in v]
    return texts


def unsupported(nb: dict) -> list[Quoted]:
    "Quoted numbers that nothing in the notebook shows."
    shown = Shown(shown_texts(nb))
    return [q for i, c in enumerate(nb["cells"]) if c["cell_type"] == "markdown"
            for q in quoted(c["source"], i) if not shown.has(q)]


def message(name: str, missing: list[Quoted]) -> str:
    lines = [f"{name}: numbers in the prose that no output of the notebook shows"]
    lines += [f"  cell {q.cell}: {q.text!r} in: {q.sentence[:160]}" for q in missing]
    remedy = f"  Print them in a cell, correct them, or mark a cell of quoted constants with {ESCAPE}."
    return "\n".join([*lines, remedy])
