"""The page on speed: tables of what `make bench` measured, made from tests/bench/results/*.json and never typed.

    ```{benchmarks} loop transforms
    ```
"""
import html
import json
import math
import statistics
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive


def seconds(value: float) -> str:
    return f"{value*1e3:.1f} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def bar(low: float, median: float, high: float, top: float) -> str:
    "Range and median of a ratio on a logarithmic axis from 1/2 to `top`, as a small picture beside its numbers."
    def x(value: float) -> float: return 100*math.log(max(value, 0.5)/0.5)/math.log(top/0.5)
    return (f'<svg class="ratio" viewBox="0 0 100 12" aria-hidden="true"><line class="one" x1="{x(1):.1f}" x2="{x(1):.1f}" '
            f'y1="0" y2="12"/><line class="range" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="6" y2="6"/>'
            f'<circle cx="{x(median):.1f}" cy="6" r="3"/></svg>')


def ratios_html(ratios: list[dict]) -> str:
    top = max(2.0, *(r["high"] for r in ratios))
    rows = []
    for r in ratios:
        goal = "" if r["goal"] is None else f"{r['goal']:g}×, {'met' if r['ratio'] >= r['goal'] else '<strong>missed</strong>'}"
        rows.append(
            f"<tr><th scope=row>{html.escape(r['name'])}</th>"
            f"<td>{html.escape(r['ours'])} {seconds(r['seconds_ours'])}<br>{html.escape(r['theirs'])} {seconds(r['seconds_theirs'])}"
            f"</td><td><strong>{r['ratio']:.2f}×</strong></td>"
            f"<td>{bar(r['low'], r['ratio'], r['high'], top)} {r['low']:.2f}–{r['high']:.2f}, {r['pairs']} pairs</td>"
            f"<td>{goal}</td></tr>")
    head = "".join(f"<th scope=col>{name}</th>" for name in ("what", "who, median time", "faster by", "range", "goal"))
    return f'<table class="bench"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def runs_html(runs: list[dict]) -> str:
    "Trainings: a row a seed, then mean and standard deviation."
    def cells(accuracy: str, tta: str, time: str) -> str: return f"<td>{accuracy}</td><td>{tta}</td><td>{time}</td>"
    rows = [f"<tr><th scope=row>seed {r['seed']}</th>"
            + cells(f"{r['test_accuracy']:.2%}", f"{r['tta_accuracy']:.2%}", f"{r['seconds']:.0f} s") + "</tr>" for r in runs]
    if len(runs) > 1:
        def both(name: str, scale: float, unit: str) -> str:
            values = [scale*r[name] for r in runs]
            return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} {unit}"
        rows.append("<tr><th scope=row>mean ± sd</th>" + cells(
            both("test_accuracy", 100, "%"), both("tta_accuracy", 100, "%"), both("seconds", 1, "s")) + "</tr>")
    head = "".join(f"<th scope=col>{n}</th>" for n in ("", "accuracy, last epoch", "with mirror images (TTA)", "wall time"))
    return f'<table class="bench"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def machine_html(m: dict) -> str:
    parts = [m["device"], f"{m['cores']} cores", f"{m['threads']} threads" if m["threads"] != "1" else "1 thread",
             f"torch {m['torch']}", f"Python {m['python']}", m["date"][:10], f"commit {m['commit']}"]
    return '<p class="stamp">Measured on ' + " · ".join(html.escape(p) for p in parts) + ".</p>"


def profile_html(profile: dict[str, dict[str, float]]) -> str:
    "Where our time goes, a line for each width."
    lines = (f"<li>width {width}: " + ", ".join(f"{name} {share:g} %" for name, share in shares.items()) + "</li>"
             for width, shares in profile.items())
    return f"<p>Where the time of our loop goes:</p><ul>{''.join(lines)}</ul>"


class Benchmarks(Directive):
    "The results named, each with the machine that it was measured on."
    required_arguments, final_argument_whitespace = 1, True

    def run(self) -> list[nodes.Node]:
        env, out = self.state.document.settings.env, []
        for name in self.arguments[0].split():
            path = Path(env.srcdir)/"tests"/"bench"/"results"/f"{name}.json"
            env.note_dependency(str(path))
            if not path.exists():
                raise self.error(f"no results of the benchmark {name!r}: run `make bench`")
            found = json.loads(path.read_text(encoding="utf-8"))
            body = (ratios_html(found["ratios"]) if found["ratios"] else "") + (runs_html(found["runs"]) if "runs" in found else "")
            body += profile_html(found["profile"]) if "profile" in found else ""
            out.append(nodes.raw("", body + machine_html(found["machine"]), format="html"))
        return out


def setup(app) -> None:
    app.add_directive("benchmarks", Benchmarks)
