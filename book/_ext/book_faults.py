"""The page on faults: the tables that tests/fault_table.py and `make test-long` made, never typed.

    ```{faults}
    ```
    ```{long-tests}
    ```
"""
import ast
import html
import json
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive


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
                   f"<tbody>{''.join(rows)}</tbody></table><p class=\"stamp\">Made on {stamp}.</p>")
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
                    f"<td>{result}</td><td>{minutes}</td><td>{html.escape(row['stamp']['date'][:10])}</td></tr>")
    head = "".join(f"<th scope=col>{name}</th>" for name in ("tests", "passed", "result", "time", "last run"))
    return f'<table class="bench faults"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


class Results(Directive):
    "A table from a file of tests/results."
    file, remedy = "", ""

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        path = Path(env.srcdir)/"tests"/"results"/self.file
        env.note_dependency(str(path))
        if not path.exists(): raise self.error(f"no {path.name}: run `{self.remedy}`")
        return [nodes.raw("", self.table(json.loads(path.read_text(encoding="utf-8")), path.parents[1]), format="html")]


class Faults(Results):
    file, remedy = "faults.json", "python tests/fault_table.py"

    def table(self, found: dict, tests: Path) -> str: return table_html(found["parts"])


class LongTests(Results):
    file, remedy = "long.json", "make test-long"

    def table(self, found: dict, tests: Path) -> str: return long_html(found["files"], tests)


def setup(app) -> None:
    app.add_directive("faults", Faults)
    app.add_directive("long-tests", LongTests)
