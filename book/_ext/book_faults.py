"""The page on faults: the table that tests/fault_table.py made, never typed.

    ```{faults}
    ```
"""
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


class Faults(Directive):
    "All parts of tests/results/faults.json."

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        path = Path(env.srcdir)/"tests"/"results"/"faults.json"
        env.note_dependency(str(path))
        if not path.exists():
            raise self.error("no fault table: run `python tests/fault_table.py`")
        parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
        return [nodes.raw("", table_html(parts), format="html")]


def setup(app) -> None:
    app.add_directive("faults", Faults)
