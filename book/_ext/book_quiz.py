"""Self-checks: questions in plain markdown, which read well in Colab and on GitHub, become buttons in the page.

    ## Check yourself

    **Question.** A constant signal of 1 is averaged with β = 0.9, starting from 0. What is the first average?

    - **A.** 1
    - **B.** 0.1

    <details><summary>Answer</summary>

    **B.** The new value has the weight 1-β, and the past is still 0.

    - **A.** That is what it becomes once it is divided by 1-β.

    </details>

A quiz is a cell of its own, one for a chapter. Whatever departs from this form fails the build, with notebook and question
named. `quiz.js` reads the page, not this file: without JavaScript the question, its options and the fold are what is seen.
"""
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import stamps
from sphinx.errors import ExtensionError

LETTERS = "ABCDE"
HEADING = "## Check yourself"
_heading = re.compile(r"(?im)^#+\s*(check yourself|quiz|self-?check)\b.*$")
_question = re.compile(r"(?m)^\*\*Question\.\*\*[ \t]+")
_fold = re.compile(r"<details>\s*<summary>(?P<label>.*?)</summary>[ \t]*\n(?P<body>.*?)\n[ \t]*</details>", re.S)
_option = re.compile(r"^- \*\*(?P<letter>\w)\.\*\*[ \t]+(?P<text>\S.*(?:\n(?:  .*\S.*))*)$", re.M)
_right = re.compile(r"\*\*(?P<letter>\w)\.\*\*[ \t]+(?P<text>\S.*)", re.S)


class QuizError(ValueError):
    "A quiz that does not keep to the form."


@dataclass(frozen=True)
class Question:
    "One question: its options in order, what is said about each, and the place of the right one."
    text: str
    options: tuple[str, ...]
    feedback: tuple[str, ...]
    right: int


def is_quiz(cell: str) -> bool:
    return bool(_heading.search(_without_code(cell)) or _question.search(_without_code(cell)))


def _without_code(text: str) -> str:
    return re.sub(r"(?ms)^(`{3,}|~{3,}).*?^\1", "", text)


def _items(text: str, where: str) -> dict[str, str]:
    "`- **A.** text` lines -> {letter: text}; anything else between them is refused."
    found: dict[str, str] = {}
    for m in _option.finditer(text):
        if m["letter"] in found: raise QuizError(f"{where} has two entries {m['letter']}")
        found[m["letter"]] = " ".join(m["text"].split())
    if rest := _option.sub("", text).strip():
        raise QuizError(f"{where}: {rest.splitlines()[0][:60]!r} is no entry of the form '- **A.** text' (further lines "
                        "of an entry begin with two spaces)")
    return found


def parse_question(text: str) -> Question:
    "One question without its `**Question.**`; QuizError names what is wrong with it."
    folds = list(_fold.finditer(text))
    if len(folds) != 1: raise QuizError(f"needs one <details> with the answer, has {len(folds)}")
    fold = folds[0]
    if fold["label"] != "Answer": raise QuizError(f"the fold's summary must be 'Answer', not {fold['label']!r}")
    if rest := text[fold.end():].strip(): raise QuizError(f"something comes after the fold: {rest[:60]!r}")
    ask, dash, options = text[:fold.start()].partition("\n- ")
    if not ask.strip(): raise QuizError("asks nothing")
    named = _items(dash[1:] + options, "the list of options")
    if len(named) < 2 or len(named) > len(LETTERS): raise QuizError(f"needs 2 to {len(LETTERS)} options, has {len(named)}")
    if list(named) != list(LETTERS[:len(named)]): raise QuizError(f"letters its options {', '.join(named)}, not A, B, ... in order")
    if any(re.search(r"\]\(|\[@|https?://", x) for x in named.values()): raise QuizError("has a link in an option, which is a button")
    if len(set(named.values())) < len(named): raise QuizError("has two options alike")
    answer, dash, others = fold["body"].strip().partition("\n- ")
    if not (right := _right.fullmatch(answer.strip())):
        raise QuizError("the fold must begin with the right letter and the reason: '**B.** Because ...'")
    if "\n\n" in right["text"]: raise QuizError("the reason must be one paragraph")
    if right["letter"] not in named: raise QuizError(f"the answer {right['letter']} is not among the options")
    said = {right["letter"]: " ".join(right["text"].split()), **(wrong := _items(dash[1:] + others, "the fold"))}
    if right["letter"] in wrong: raise QuizError(f"{right['letter']} is both right and wrong")
    if missing := [x for x in named if x not in said]: raise QuizError(f"doesn't say why {', '.join(missing)} is wrong")
    if extra := [x for x in said if x not in named]: raise QuizError(f"explains {', '.join(extra)}, which is no option")
    order = list(named)
    return Question(ask.strip(), tuple(named.values()), tuple(said[x] for x in order), order.index(right["letter"]))


def parse(cell: str, name: str = "notebook") -> list[Question]:
    "The questions of a quiz cell; QuizError names the notebook and the question."
    text = cell.strip()
    if not text.startswith(HEADING + "\n"):
        raise QuizError(f"{name}: a quiz is a cell of its own that begins with {HEADING!r}, not with {text[:40]!r}")
    intro, *asked = _question.split(text.removeprefix(HEADING))
    if re.search(r"(?m)^(#|- |<details>)", intro): raise QuizError(f"{name}: no '**Question.**' before {intro.strip()[:60]!r}")
    if not 2 <= len(asked) <= 3: raise QuizError(f"{name}: a quiz has two or three questions, this one {len(asked)}")
    questions = []
    for i, one in enumerate(asked, start=1):
        try:
            if m := re.search(r"(?m)^#.*$", one): raise QuizError(f"the heading {m[0]!r} belongs in a cell of its own")
            questions.append(parse_question(one))
        except QuizError as error:
            raise QuizError(f"{name}, question {i}: {error}") from None
    return questions


def quiz_of(nb: dict, name: str) -> list[Question]:
    "The questions of a notebook, none if it has no quiz; QuizError for a second quiz or a malformed one."
    cells = [c["source"] for c in nb["cells"] if c["cell_type"] == "markdown" and is_quiz(c["source"])]
    if len(cells) > 1: raise QuizError(f"{name}: {len(cells)} cells with questions; a chapter has one quiz")
    return [q for c in cells for q in parse(c, name)]


def faults(paths: Iterable[Path]) -> list[str]:
    "What is wrong with the quizzes of these notebooks."
    found = []
    for path in paths:
        try:
            quiz_of(stamps.load(path), path.stem)
        except QuizError as error:
            found.append(str(error))
    return found


def translate(text: str) -> str:
    "A quiz cell with each question in a `<div class='quiz'>` that quiz.js brings to life; other cells as they are."
    if not is_quiz(text): return text
    intro, *asked = _question.split(text.strip())
    out = [intro.rstrip()]
    for i, one in enumerate(asked, start=1):
        right = parse_question(one).right
        out.append(f'<div class="quiz" data-right="{right}">\n\n**Question {i}.** {one.strip()}\n\n</div>')
    return "\n\n".join(out) + "\n"


def check_all(app) -> None:
    if found := faults(stamps.notebooks(Path(app.srcdir)/"nbs")): raise ExtensionError("quiz: " + "\nquiz: ".join(found))


def setup(app) -> None:
    app.connect("builder-inited", check_all)
    app.add_js_file("quiz.js", defer="")
    app.add_css_file("quiz.css")
