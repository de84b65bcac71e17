"""Plain marks of the notebooks' markdown -> MyST: citations, numbered exercises, hidden solutions.

A notebook says `[@kingma2015]`, `### Exercise: Halve the rate` and `<details><summary>Solution</summary>`, which read
well on GitHub and Colab. Code, mathematics and comments are never touched.
"""
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SOLUTIONS = ("Solution", "Answer")   # how the label of a fold begins that paper sets at the chapter's end
_protected = re.compile(
    r"(?P<fence>^(?P<tick>`{3,}|~{3,})[^\n]*\n.*?^(?P=tick)[^\n]*$)"       # fenced code
    r"|(?P<code>(?P<q>`+)(?!`).+?(?<!`)(?P=q)(?!`))"                       # inline code
    r"|(?P<comment><!--.*?-->)"
    r"|(?P<block>\$\$.+?\$\$)"
    r"|(?P<math>(?<![\\$])\$(?![\s$])[^$\n]+?(?<![\s\\])\$(?![\d$]))",
    re.S | re.M)
_cite = re.compile(r"\[(?P<body>@[\w:./-]+(?:,[^\];@]*)?(?:;\s*@[\w:./-]+(?:,[^\];@]*)?)*)\]")
_cite_item = re.compile(r"@(?P<key>[\w:./-]*\w)(?:,\s*(?P<where>.*\S))?")
_heading = re.compile(r"^(?P<level>#{1,6})\s+(?P<text>.*?)\s*#*$")
_exercise = re.compile(r"^Exercise(?:\s+\d+)?\s*:\s*(?P<title>.+)$")
_lead = re.compile(r"^\*\*Exercise\.\*\*\s*")


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    "The text cut into ('', prose) and ('fence' | 'code' | 'comment' | 'block' | 'math', what is protected)."
    last = 0
    for m in _protected.finditer(text):
        yield "", text[last:m.start()]
        yield next(k for k in ("fence", "code", "comment", "block", "math") if m[k] is not None), m[0]
        last = m.end()
    yield "", text[last:]


def outside_code(text: str, change: Callable[[str], str]) -> str:
    "Apply `change` to the stretches of `text` that are prose."
    return "".join(piece if kind else change(piece) for kind, piece in _pieces(text))


def _targets(m: re.Match) -> str:
    "`@a; @b, section 2` as sphinxcontrib-bibtex wants it."
    items = [_cite_item.fullmatch(part.strip()) for part in m["body"].split(";")]
    return ",".join(f"{i['key']}{{{i['where']}}}" if i["where"] else i["key"] for i in items)


def citations(text: str) -> str:
    "`[@a; @b, section 2]` -> one MyST citation."
    return outside_code(text, lambda s: _cite.sub(lambda m: f"{{cite:p}}`{_targets(m)}`", s))


def citations_rst(text: str) -> str:
    "The same in a docstring."
    return _cite.sub(lambda m: f":cite:p:`{_targets(m)}`", text)


def cited(text: str) -> list[str]:
    "Keys that a markdown text cites, in order."
    keys: list[str] = []
    outside_code(text, lambda s: keys.extend(
        i["key"] for m in _cite.finditer(s) for i in _cite_item.finditer(m["body"])) or s)
    return keys


@dataclass
class Exercises:
    "Numbers the exercises of one chapter, in order of appearance."
    count: int = 0

    def __call__(self, text: str) -> str:
        "Each `### Exercise: title` section, up to the next heading of its level or above, becomes an admonition."
        out: list[str] = []
        open_level, fence = 0, ""
        for line in text.split("\n"):
            if m := re.match(r"^\s*(`{3,}|~{3,})", line):
                fence = "" if fence and m[1].startswith(fence) else fence or m[1]
            heading = None if fence else _heading.match(line)
            if heading and open_level and len(heading["level"]) <= open_level:
                out += [self._close(), ""]
                open_level = 0
            if heading and (m := _exercise.match(heading["text"])):
                open_level = len(heading["level"])
                self.count += 1
                out += [f"::::::{{admonition}} Exercise {self.count}: {m['title']}", ":class: exercise",
                        f":name: exercise-{self.count}", ""]
            else:
                out.append(_lead.sub("", line) if open_level else line)
        if open_level: out.append(self._close())
        return "\n".join(out)

    @staticmethod
    def _close() -> str:
        return "::::::"


def details(text: str) -> str:
    "Markdown inside `<details>` is read as markdown: blank lines around the tags, and a class for the style sheet."
    def opened(m: re.Match) -> str:
        kind = "solution" if m[1].strip().startswith(SOLUTIONS) else "notes"
        return f'<details class="{kind}">\n<summary>{m[1]}</summary>\n\n'

    def fix(s: str) -> str:
        s = re.sub(r"<details>\s*<summary>(.*?)</summary>[ \t]*\n?", opened, s, flags=re.S)
        return re.sub(r"\n*[ \t]*</details>", "\n\n</details>", s)
    return outside_code(text, fix)


def glue(text: str) -> str:
    "No line break between a bracket and the formula inside it: a word joiner on either side."
    out = list(_pieces(text))
    for i, (kind, piece) in enumerate(out):
        if kind != "math": continue
        if i and out[i - 1][1].endswith(("(", "[")): out[i - 1] = ("", out[i - 1][1] + "\u2060")
        if i + 1 < len(out) and re.match(r"[)\].,;:?!%]", out[i + 1][1]): out[i] = (kind, piece + "\u2060")
    return "".join(piece for _, piece in out)


def translate(text: str, exercises: Exercises) -> str:
    "All marks of one markdown cell; `<!-- constants -->`, which speaks to a test, goes."
    text = text.replace("<!-- constants -->", "")
    return citations(exercises(details(glue(text))))
