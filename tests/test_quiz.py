"""Self-checks: the format is strict, every chapter has one, and in the page they answer by keyboard alone, without a network.

Also the line with a chapter's times, which is computed from the chapter.
"""
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import book_marks
import book_quiz
import book_time
import chapters
import nbformat
import pytest
import stamps
from markdown_it import MarkdownIt

ROOT = stamps.ROOT
STATIC = ROOT/"book"/"_static"
load = cache(stamps.load)
CHAPTERS = [p for p in stamps.notebooks() if any(book_time.GOALS in c["source"] for c in load(p)["cells"])]

GOOD = """## Check yourself

**Question.** What is `1 + 1`?

- **A.** $2$, or
  a little more
- **B.** 11

<details><summary>Answer</summary>

**A.** It is *two*,
by counting.

- **B.** Those are strings.

</details>

**Question.** And `2 + 2`, with
two lines?

- **A.** 22
- **B.** 5
- **C.** 4

<details><summary>Answer</summary>

**C.** Count [again](a.html).

- **A.** Strings.
- **B.** Only for large
  values of 2.

</details>
"""


# ---- the form

def test_a_quiz_is_read():
    one, two = book_quiz.parse(GOOD)
    assert one == book_quiz.Question("What is `1 + 1`?", ("$2$, or a little more", "11"),
                                     ("It is *two*, by counting.", "Those are strings."), 0)
    assert two.right == 2 and two.options[2] == "4"
    assert two.feedback == ("Strings.", "Only for large values of 2.", "Count [again](a.html).")


FAULTS = {
    "two or three questions, this one 1": lambda s: s[:s.index("**Question.** And")],
    "two or three questions, this one 4": lambda s: s + s[s.index("**Question.**"):],
    "a cell of its own": lambda s: "Text before.\n\n" + s,
    "begins with '## Check yourself'": lambda s: s.replace("## Check", "### Check"),
    "question 2: needs 2 to 5 options, has 1": lambda s: s.replace("- **A.** 22\n- **B.** 5\n- **C.** 4", "- **A.** 4"),
    "letters its options A, C, not A, B": lambda s: s.replace("- **B.** 11", "- **C.** 11"),
    "two entries A": lambda s: s.replace("- **B.** 11", "- **A.** 11"),
    "two options alike": lambda s: s.replace("- **B.** 5", "- **B.** 22"),
    "question 1: the answer D is not among": lambda s: s.replace("**A.** It is", "**D.** It is"),
    "question 1: B is both right and wrong": lambda s: s.replace("**A.** It is", "**B.** It is"),
    "question 2: doesn't say why B is wrong": lambda s: s.replace("- **B.** Only for large\n  values of 2.\n", ""),
    "question 1: explains C, which is no option": lambda s: s.replace("strings.\n\n</d", "strings.\n- **C.** No.\n\n</d"),
    "question 2: the fold must begin with the right letter": lambda s: s.replace("**C.** Count", "Count"),
    "question 1: the reason must be one paragraph": lambda s: s.replace("*two*,\n", "*two*.\n\nAnd so "),
    "question 1: the fold's summary must be 'Answer'": lambda s: s.replace("Answer", "Solution", 1),
    "question 1: needs one <details> with the answer, has 0": lambda s: s.replace("<details>", "<section>", 1),
    "question 1: something comes after the fold": lambda s: s.replace("</details>", "</details>\n\nMore.", 1),
    "question 1: asks nothing": lambda s: s.replace("What is `1 + 1`?", " "),
    "question 1: has a link in an option": lambda s: s.replace("- **B.** 11", "- **B.** [11](a.html)"),
    "is no entry of the form": lambda s: s.replace("- **B.** 11", "- B. 11"),
    "further lines of an entry begin with two spaces": lambda s: s.replace("  a little more", "a little more"),
    "belongs in a cell of its own": lambda s: s + "\n## Summary\n",
}


def test_a_malformed_quiz_is_refused():
    "The complaint names the notebook, the question and what is wrong."
    unsaid = []
    for message, spoil in FAULTS.items():
        broken = spoil(GOOD)
        assert broken != GOOD, message
        try: book_quiz.parse(broken, "50_x")
        except book_quiz.QuizError as e:
            if message not in str(e) or not str(e).startswith("50_x"): unsaid.append((message, str(e)))
        else: unsaid.append((message, "nothing said"))
    assert not unsaid


def test_a_malformed_quiz_fails_the_build(tmp_path):
    "All faults at once, before any page is read."
    from sphinx.errors import ExtensionError
    (tmp_path/"nbs").mkdir()
    for name, text in (("50_good", GOOD), ("51_bad", FAULTS["question 1: asks nothing"](GOOD)),
                       ("52_two", GOOD)):
        cells = [nbformat.v4.new_markdown_cell(text) for _ in range(2 if name == "52_two" else 1)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path/"nbs"/f"{name}.ipynb")
    with pytest.raises(ExtensionError) as caught: book_quiz.check_all(type("App", (), {"srcdir": tmp_path}))
    assert "51_bad, question 1" in str(caught.value) and "52_two: 2 cells" in str(caught.value)
    assert "50_good" not in str(caught.value)


def test_other_cells_are_left_alone():
    for text in ("## Summary\n\n- a", "```\n**Question.** no\n```", "A question. **Answer.**"):
        assert not book_quiz.is_quiz(text) and book_quiz.translate(text) == text


# ---- the chapters

def poor_quiz(questions: list[book_quiz.Question]) -> Iterator[str]:
    "Two or three questions; each option has words of its own, and no option gives itself away by its place."
    if not 2 <= len(questions) <= 3: yield f"{len(questions)} questions"
    if len({q.right for q in questions}) <= 1: yield "the right answer always stands in the same place"
    for q in questions:
        if not len(q.options) == len(q.feedback) == len(set(q.feedback)): yield f"options without words of their own: {q.text!r}"
        yield from (f"{f!r} explains nothing" for f in q.feedback if len(f.split()) < 4)


def test_every_chapter_has_a_quiz():
    bad = [f"{chapters.at(p)}: {what}" for p in CHAPTERS for what in poor_quiz(book_quiz.quiz_of(load(p), p.stem))]
    assert len(CHAPTERS) == len(stamps.notebooks()) - 1 and not bad, "\n".join(bad)   # all but the opening page


def test_a_poor_quiz_is_seen():
    one, two = book_quiz.parse(GOOD)
    good = [replace(q, feedback=tuple(f"{f} So it is, surely." for f in q.feedback)) for q in (one, two)]
    assert not list(poor_quiz(good))
    for spoiled, said in (([], "0 questions"), ([good[0]]*2, "same place"), ([one, good[1]], "explains nothing"),
                          ([replace(good[0], feedback=good[0].feedback[:1]*2), good[1]], "words of their own")):
        assert any(said in what for what in poor_quiz(spoiled)), said


def test_right_answers_are_spread():
    "Neither the place nor the length of an option tells which is right."
    asked = [q for p in CHAPTERS for q in book_quiz.quiz_of(load(p), p.stem)]
    places = Counter(q.right for q in asked)
    assert max(places.values()) < 0.5*len(asked) and all(places[i] > 0.15*len(asked) for i in range(3)), places
    longest = sum(len(q.options[q.right]) == max(map(len, q.options)) for q in asked)
    assert longest < 0.6*len(asked), f"in {longest} of {len(asked)} questions the right option is the longest"


# ---- the time

def notebook(*cells, **stamp):
    made = {"cells": [{"cell_type": kind, "source": text} for kind, text in cells], "metadata": {}}
    if stamp: made["metadata"][stamps.KEY] = stamp
    return made


GOALS = "# T\n\n**You will**\n\n- a\n  b;\n- c.\n\nA picture."


def test_times_follow_the_chapter():
    words, code = ("markdown", "word "*2000), ("code", "x = 1\n"*150)
    assert book_time.minutes(notebook(words)) == (10, 0, 0)
    assert book_time.minutes(notebook(words, code, ("code", "#| hide\n" + "y\n"*300))) == (15, 0, 0)
    ex = ("markdown", "### Exercise: a\n\n### Exercise: b\n\n## Exercises")
    assert book_time.minutes(notebook(ex)) == (5, 2, 20)
    line = book_time.line(notebook(ex, seconds=38.2, device="CPU, 2 cores"))
    assert "5 min to read" in line and "20 min for 2 exercises" in line
    assert "38 s (CPU, 2 cores)" in line and "a GPU is not needed" in line and "T4" not in line


def test_a_figure_for_the_t4_is_called_an_estimate():
    "It says what it rests on; a run on a GPU claims nothing about the T4."
    mark = ("markdown", "<!-- t4: about 12 minutes | operations over\nspeed -->")
    line = book_time.line(notebook(mark, seconds=9000, device="CPU, 2 cores"))
    assert "T4 about 12 minutes: an estimate, not measured (operations over speed)" in line and "not needed" not in line
    assert "T4" not in book_time.line(notebook(seconds=60, device="NVIDIA H100"))


def test_the_estimate_for_the_assignment_is_arithmetic():
    "Operations as torch counts them on the network itself, over the speed that the line names."
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cam_course.resnet import ResNet18

    model, image = ResNet18(), torch.zeros(2, 3, 32, 32)
    with FlopCounterMode(display=False) as training: model(image).sum().backward()
    with FlopCounterMode(display=False) as testing, torch.no_grad(): model.eval()(image)
    operations = 20*(50_000*training.get_total_flops() + 10_000*testing.get_total_flops())/2
    nb = load(chapters.chapter("The assignment"))
    said = next(m for c in nb["cells"] if (m := book_time._t4.search(c["source"])))
    assert f"{operations:.1e}".replace("+", "") in said["how"] and "sixth of the 65e12" in said["how"]
    assert f"about {operations/(65e12/6)/60:.0f} minutes" in said["time"]


def test_a_loaded_training_is_counted_by_its_log():
    "Each epoch once, though a log is printed again when a run goes on; not where the cells themselves trained."
    log = ("  1/2     1.8172 31.37%     1.6146 42.04%   2.63e-02       455  118.8s  0:37:37\n"
           "  2/2     1.4611 46.66%     1.2757 54.81%   7.42e-02       475  121.2s  0:00:00\n")
    nb = notebook(("code", "print(log)"), seconds=14, device="CPU, 2 cores")
    nb["cells"][0]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": log + log}]
    assert book_time.trained(nb) == pytest.approx(240)
    assert "load trainings that had taken 4 min" in book_time.line(nb)
    nb["metadata"][stamps.KEY]["seconds"] = 250
    assert "trainings" not in book_time.line(nb)


def test_the_time_stands_under_the_goals():
    nb = notebook(("markdown", GOALS))
    book_time.under_goals(nb, "<p>TIME</p>")
    assert nb["cells"][0]["source"] == "# T\n\n**You will**\n\n- a\n  b;\n- c.\n\n\n<p>TIME</p>\n\nA picture."


def test_every_chapter_shows_its_time():
    "The reader of the book puts it in, once, whatever the form of the list of goals."
    import nbdev_reader
    read = nbdev_reader.read(chapters.chapter("core").read_text(encoding="utf-8"), "cam_course")
    assert sum(c.source.count('<p class="time">') for c in read.cells) == 1
    for path in CHAPTERS:
        nb = load(path)
        goals = [dict(c) for c in nb["cells"] if book_time.GOALS in c["source"]]
        book_time.under_goals({"cells": goals}, "TIME")
        assert len(goals) == 1 and re.search(r"\n- .*\n\n+TIME\n", goals[0]["source"]), chapters.at(path)
        assert book_time.line(nb).startswith('<p class="time">')


# ---- the page

@contextmanager
def quiz_page(browser, folder, text=GOOD, dark=False, **context):
    "A quiz as the book makes it, opened from the file system, offline; fails if the page wrote an error."
    plain = text if 'class="quiz"' in text else book_quiz.translate(text)
    body = MarkdownIt("commonmark", {"html": True}).render(book_marks.translate(plain, book_marks.Exercises()))
    style = (STATIC/"custom.css").read_text(encoding="utf-8") + (STATIC/"quiz.css").read_text(encoding="utf-8")
    script = (STATIC/"quiz.js").read_text(encoding="utf-8")
    page_file = folder/"quiz.html"
    page_file.write_text(
        f'<!doctype html><html lang="en" data-theme="{"dark" if dark else "light"}"><meta charset="utf-8"><title>Quiz</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}'
        "body{margin:0;background:var(--pst-color-background);color:var(--pst-color-text-base);font:16px/1.6 sans-serif}"
        f'</style><main class="bd-article" style="padding:12px">{body}</main><script>{script}</script></html>', encoding="utf-8")
    made = browser.new_context(**{"viewport": {"width": 760, "height": 900}, **context})
    made.set_offline(True)
    page, trouble = made.new_page(), []
    page.on("request", lambda r: trouble.append(r.url) if not r.url.startswith("file:") else None)
    page.on("pageerror", lambda e: trouble.append(str(e)))
    page.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
    page.goto(page_file.as_uri())
    try:
        yield page
        assert not trouble
    finally: made.close()


def focused(page) -> str:
    return page.evaluate("document.activeElement.innerText.replace(/\\s+/g, ' ').trim()")


def test_quiz_by_keyboard_alone(browser, tmp_path):
    "Tab walks through the options in order; Enter and Space answer; the words for each option are announced."
    with quiz_page(browser, tmp_path) as page:
        said = page.locator(".quiz-said")
        assert said.all_inner_texts() == ["", ""] and page.locator("details:visible").count() == 0
        walk = []
        for _ in range(5):
            page.keyboard.press("Tab")
            walk.append(focused(page)[0])
        assert walk == list("ABABC")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        assert said.nth(1).inner_text() == "Not quite. Only for large values of 2."
        assert page.locator("details:visible").count() == 0      # a wrong try gives nothing away
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert said.nth(1).inner_text() == "Right. Count again." and said.nth(0).inner_text() == ""
        pressed = page.locator(".quiz").nth(1).locator("button").evaluate_all("b => b.map((x) => x.getAttribute('aria-pressed'))")
        assert pressed == ["false", "false", "true"]
        page.keyboard.press("Tab")
        assert focused(page) == "again"                          # the link in the words, then the fold
        page.keyboard.press("Tab")
        assert focused(page) == "All answers"
        page.keyboard.press("Enter")
        assert page.locator("details").nth(1).get_attribute("open") is not None


def test_each_option_has_its_own_answer(browser, tmp_path):
    wanted = [(q.right, q.feedback) for q in book_quiz.parse(GOOD)]
    with quiz_page(browser, tmp_path) as page:
        for quiz, (right, feedback) in zip(page.locator(".quiz").all(), wanted, strict=True):
            for i, words in enumerate(feedback):
                quiz.locator("button").nth(i).click(position={"x": 12, "y": 12})
                text = ("Right. " if i == right else "Not quite. ") + re.sub(r"\*|\[|\]\(.*?\)", "", words)
                assert quiz.locator(".quiz-said").inner_text() == text


def test_links_that_the_book_adds_are_taken_out_of_buttons(browser, tmp_path):
    "Glossary and API links are made after the quiz was read; in an option they would be a control inside a control."
    linked = book_quiz.translate(GOOD).replace("- **B.** 11", '- **B.** <a class="reference" href="g.html"><code>11</code></a>, so')
    with quiz_page(browser, tmp_path, linked) as page:
        assert page.locator(".quiz-option a").count() == 0
        assert page.get_by_role("button", name="B 11, so", exact=True).locator("code").count() == 1


def test_names_and_roles_for_screen_readers(browser, tmp_path):
    "A group named by its question, buttons named by letter and text, a polite live region."
    with quiz_page(browser, tmp_path) as page:
        assert page.get_by_role("group", name="Question 1. What is 1 + 1?", exact=True).count() == 1
        assert page.get_by_role("button", name="B 11", exact=True).count() == 1
        assert page.locator(".quiz-said[role=status][aria-live=polite]").count() == 2
        page.get_by_role("button", name="B 11").click()
        assert page.get_by_role("button", name="B 11", exact=True, pressed=True).count() == 1    # the mark isn't read


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1300, False)])
def test_quiz_fits_and_stays_readable(browser, tmp_path, width, dark):
    "No wider than the screen, targets of 44 px, text of contrast 4.5, and nothing moves."
    with quiz_page(browser, tmp_path, dark=dark, viewport={"width": width, "height": 900}, reduced_motion="reduce") as page:
        for button in page.locator(".quiz-option").all():
            assert button.bounding_box()["height"] >= 44
            button.click(position={"x": 12, "y": 12})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.getAnimations().length") == 0
        for contrast in page.evaluate(CONTRAST): assert contrast >= 4.5


CONTRAST = """() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = rgb(c).map((v) => (v /= 255) <= 0.04045 ? v/12.92 : ((v + 0.055)/1.055)**2.4);
    return 0.2126*r + 0.7152*g + 0.0722*b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if ((rgb(c)[3] ?? 1) > 0) return c; } };
  return [...document.querySelectorAll(".quiz-text, .quiz-letter, .quiz-mark, .quiz-said p, .quiz legend")].map((e) => {
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    return (a + 0.05)/(b + 0.05); }); }"""


def test_without_javascript_the_fold_answers(browser, tmp_path):
    with quiz_page(browser, tmp_path, java_script_enabled=False) as page:
        assert page.locator("button").count() == 0 and page.locator(".quiz li").first.is_visible()
        fold = page.locator("details").first
        assert fold.get_attribute("open") is None
        fold.locator("summary").click()
        assert fold.locator("p").first.inner_text().startswith("A. It is two")
