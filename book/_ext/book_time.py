"""The line under a chapter's goals that says how long it takes: computed, so that it can't drift.

Reading: words of the prose at 200 a minute, lines of code at 30 a minute. Exercises: 10 minutes each. Running: the seconds and the
device of the notebook's stamp; trainings that it only loads, by their logs. A chapter that a GPU would help says so itself,
with what the figure rests on:

    <!-- t4: about 12 minutes | 3.3e15 operations in all, at a fifth of the 65e12 a second that the T4 can do at best -->
"""
import html
import re

import book_folds
import book_pages
import book_quiz
import prose
import stamps

GOALS = "**You will**"
WORDS, LINES, EXERCISE = 200, 30, 10          # a minute, a minute, minutes
_exercise = re.compile(r"(?m)^#+\s+Exercise\b[^\n:]*:")
_epoch = re.compile(r"(?m)^( *\d+/\d+ .*?) +([\d.]+)s +\d+:\d\d:\d\d$")     # a line of a training's log, see cam_course.training
_sum = re.compile(r"(?m)^\d+ trainings took ([\d,]+) s$")               # the same of many, in one line
_t4 = re.compile(r"<!--\s*t4:\s*(?P<time>[^|]+?)\s*\|\s*(?P<how>.+?)\s*-->", re.S)


def _shown(cell: dict) -> bool:
    "Is the code of this cell in sight? What is folded takes no time from who doesn't open it."
    return not re.match(r"\s*#\s*\|\s*(hide|hide_input|default_exp)\b", cell["source"]) and not book_folds.is_folded(cell)


def minutes(nb: dict) -> tuple[int, int, int]:
    "(minutes to read, number of exercises, minutes for them); reading is rounded to 5 minutes and is never 0."
    text = [c["source"] for c in nb["cells"] if c["cell_type"] == "markdown"]
    words = sum(len(prose.strip(t).split()) for t in text)
    lines = sum(len(c["source"].splitlines()) for c in nb["cells"] if c["cell_type"] == "code" and _shown(c))
    n = sum(len(_exercise.findall(t)) for t in text)
    return max(5, 5*round((words/WORDS + lines/LINES)/5)), n, n*EXERCISE


def trained(nb: dict) -> float:
    "Seconds of the trainings whose logs the notebook shows; a log is printed again as a run goes on, so each epoch counts once."
    seen, many = dict[tuple[str, ...], float](), 0
    for c in nb["cells"]:
        for o in c.get("outputs", []):
            text = "".join(o.get("text", "")) + "".join(o.get("data", {}).get("text/plain", ""))
            seen |= {tuple(m[1].split()): float(m[2]) for m in _epoch.finditer(text)}
            many += sum(int(m[1].replace(",", "")) for m in _sum.finditer(text))
    return sum(seen.values()) + many


def line(nb: dict) -> str:
    "One paragraph of HTML: what the chapter costs the reader and the machine."
    read, n, work = minutes(nb)
    quiz = any(book_quiz.is_quiz(c["source"]) for c in nb["cells"] if c["cell_type"] == "markdown")
    parts = [f"{read} min to read"]
    if n: parts.append(f"{work} min for {'the exercise' if n == 1 else f'{n} exercises'}" + " and the questions"*quiz)
    stamp, gpu = stamps.stamp_of(nb), next((m for c in nb["cells"] if (m := _t4.search(c["source"]))), None)
    if stamp:
        device, seconds, training = html.escape(stamp["device"]), stamp["seconds"], trained(nb)
        parts.append(f"all cells run in {book_pages.duration(seconds)} ({device})")
        if training > seconds: parts[-1] += f", and load trainings that had taken {book_pages.duration(training)}"
    if gpu:
        how = html.escape(" ".join(gpu["how"].split()))
        parts.append(f"on Colab's T4 {html.escape(gpu['time'])}: an estimate, not measured ({how})")
    elif stamp and device.startswith("CPU") and training <= 600:
        parts.append("a GPU is not needed, on Colab the CPU runtime will do")
    return '<p class="time"><strong>Time</strong> about ' + " · ".join(parts) + "</p>"


def under_goals(nb: dict, text: str) -> bool:
    "Insert raw HTML after the list of goals; False if the notebook has none."
    for cell in nb["cells"]:
        if cell["cell_type"] != "markdown" or GOALS not in cell["source"]: continue
        head, goals, rest = cell["source"].partition(GOALS)
        lines = rest.split("\n")
        # the list ends where, after its first item, a line is neither item, nor its continuation, nor blank
        first = next((i for i, one in enumerate(lines) if one.startswith("- ")), None)
        if first is None: return False
        end = next((i for i in range(first, len(lines)) if lines[i] and not lines[i].startswith(("- ", " "))), len(lines))
        cell["source"] = head + goals + "\n".join([*lines[:end], "", text, "", *lines[end:]])
        return True
    return False
