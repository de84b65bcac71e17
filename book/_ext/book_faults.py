"""The page on faults: the tables that tests/fault_table.py, `make test-long` and the tools that try the tests have made,
never typed. A result that is older than the code that it is about says so.

    ```{faults}
    ```
    ```{long-tests}
    ```
    ```{tried-tests}
    ```
"""
import ast
import html
import json
from pathlib import Path

import stamps
from docutils import nodes
from docutils.parsers.rst import Directive


def age(code: dict[str, str]) -> str:
    "What has changed since, if anything: `code` is what `stamps.code_of` told then."
    if not (changed := stamps.changed_since(code)): return ""
    shown = ", ".join(changed[:6]) + (f" and {len(changed) - 6} more" if len(changed) > 6 else "")
    return f' <strong class="stamp-old">The code has changed since: {html.escape(shown)}.</strong>'


def table_html(parts: dict) -> str:
    "A table for each part, and the machine that it was made on."
    out = []
    for part, found in parts.items():
        rows = []
        for row in found["rows"]:
            lost = row["tried"] - row["right"]
            result = "nothing lost" if row["tried"] and not lost else f"<strong>{lost:,} lost</strong>"
            rows.append(f"<tr><th scope=row>{html.escape(row['name'])}</th><td>{row['tried']:,}</td>"
                        f"<td>{html.escape(row['outcome'])}</td><td>{result}</td></tr>")
        head = "".join(f"<th scope=col>{name}</th>" for name in ("fault", "times tried", "what happens", "result"))
        stamp = " · ".join(html.escape(v) for v in (
            found["stamp"].get("device", ""), *(f"{k} {found['stamp'][k]}" for k in ("torch", "commit") if k in found["stamp"]),
            found["stamp"].get("date", "")[:10]) if v)
        out.append(f"<h2>{html.escape(part)}</h2><table class=\"bench faults\"><thead><tr>{head}</tr></thead>"
                   f"<tbody>{''.join(rows)}</tbody></table><p class=\"stamp\">Made on {stamp}.{age(found['code'])}</p>")
    return "".join(out)


def long_html(files: dict[str, dict], tests: Path) -> str:
    "A row for each file of tests that `make test` leaves out: what it holds to, and what became of it last."
    rows = []
    for name, row in files.items():
        doc = ast.get_docstring(ast.parse((tests/name).read_text(encoding="utf-8"))) or name
        doc = doc.split("\n\n")[0].replace("\n", " ").replace("`", "")
        result = f"<strong>{len(row['failed'])} failed</strong>" if row["failed"] else "all passed"
        if row["skipped"]: result += f", {len(row['skipped'])} left out"
        minutes = f"{row['seconds']/60:.0f} min" if row["seconds"] >= 90 else f"{row['seconds']} s"
        rows.append(f"<tr><th scope=row>{html.escape(doc)} <code>{html.escape(name)}</code></th><td>{row['passed']:,}</td>"
                    f"<td>{result}</td><td>{minutes}</td><td>{html.escape(row['stamp']['date'][:10])}{age(row['code'])}</td></tr>")
    head = "".join(f"<th scope=col>{name}</th>" for name in ("tests", "passed", "result", "time", "last run"))
    return f'<table class="bench faults"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def tried_html(mutants: dict, fuzz: dict, coverage: dict) -> str:
    "A row for each way in which the tests were tried: what was done, what came of it, when."
    rows = (("Small faults put into the code, one at a time", mutants,
             f"{mutants['killed']} of {mutants['tried']} noticed by a test; the others change nothing that can be seen"),
            ("Bad inputs at public entry points", fuzz,
             f"{fuzz['calls']:,} calls: {fuzz['refused']:,} refused by name, {fuzz['taken']:,} rightly taken, "
             f"{len(fuzz['failures'])} neither"),
            ("Lines and branches that the tests run", coverage,
             f"{coverage['lines_percent']} % of {coverage['lines']:,} lines, "
             f"{coverage['branches_percent']} % of {coverage['branches']:,} branches"))
    body = "".join(f"<tr><th scope=row>{name} <code>{html.escape(told['made_by'])}</code></th><td>{result}</td>"
                   f"<td>{html.escape(told['date'])}{age(told['code'])}</td></tr>" for name, told, result in rows)
    head = "".join(f"<th scope=col>{name}</th>" for name in ("what was tried", "result", "last run"))
    return f'<table class="bench faults"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


class Results(Directive):
    "A table from files of tests/results."
    files: tuple[str, ...] = ()
    remedy = ""

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        env.note_reread()   # the page tells which code has changed since: any file may decide that
        told, tests = [], Path(env.srcdir)/"tests"
        for path in (tests/"results"/name for name in self.files):
            if not path.exists(): raise self.error(f"no {path.name}: run `{self.remedy}`")
            told.append(json.loads(path.read_text(encoding="utf-8")))
        return [nodes.raw("", self.table(*told, tests), format="html")]


class Faults(Results):
    files, remedy = ("faults.json",), "python tests/fault_table.py"

    def table(self, found: dict, tests: Path) -> str: return table_html(found["parts"])


class LongTests(Results):
    files, remedy = ("long.json",), "make test-long"

    def table(self, found: dict, tests: Path) -> str: return long_html(found["files"], tests)


class TriedTests(Results):
    files = ("mutants.json", "fuzz.json", "coverage.json")
    remedy = "python tests/mutants.py`, `python tests/fuzz.py`, `make coverage"

    def table(self, mutants: dict, fuzz: dict, coverage: dict, tests: Path) -> str: return tried_html(mutants, fuzz, coverage)


def setup(app) -> None:
    app.add_directive("faults", Faults)
    app.add_directive("long-tests", LongTests)
    app.add_directive("tried-tests", TriedTests)
