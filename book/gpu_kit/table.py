"""The results as one page of Markdown."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def _lines(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in [list(names), ["---"] * len(names), *cells]] + [""]


def _number(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_number, value))
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _checks(rows: Sequence[Row]) -> list[str]:
    found = []
    for row in rows:
        for part in row["result"]:
            if "left out" in part:
                found.append([row["step"], part["what"], "left out", "", part["left out"]])
                continue
            verdict = {True: "ok", False: "**wrong**", None: ""}[part.get("ok")]
            allowed = _number(part["allowed"]) if "allowed" in part else ""
            found.append([row["step"], part["what"], f"{_number(part['found'])} {part.get('unit', '')}".strip(), allowed, verdict])
    return _lines(["check", "what", "found", "allowed", ""], found)


def _speed(rows: Sequence[Row]) -> list[str]:
    parts = [part for row in rows for part in row["result"] if "share of the floor" in part]
    found = [[p["what"], f"{p['found']:,.0f}", f"{p['floor images/s']:,.0f}", f"{p['share of the floor']:.1%}",
              f"{p['GFLOP an image']:.2f}", f"{p['first epoch s']:.1f}"] for p in parts]
    names = ["training", "images/s", "at the peak of a product", "share", "GFLOP an image", "first epoch, s"]
    return _lines(names, found) if found else []


def markdown(head: Sequence[str], rows: Sequence[Row], trainings: Sequence[Row]) -> str:
    "All steps: what they found, what they trained, what was left out, and what failed."
    measured = [r for r in rows if isinstance(r.get("result"), list)]
    lines = ["# What the GPU brought", "", *(f"- {line}" for line in head), ""]
    if measured:
        lines += ["## Checks and ceilings", "", *_checks([r for r in measured if r["step"] != "speed"])]
        if speed := _speed([r for r in measured if r["step"] == "speed"]):
            lines += ["## Speed of a training", "", *speed]
    if trainings:
        lines += ["## Trainings", "", *_lines(list(trainings[0]), [list(row.values()) for row in trainings])]
    if kept := [name for r in rows if isinstance(r.get("result"), dict) for name in r["result"].get("weights", [])]:
        lines += ["Weights kept, as fp16: " + ", ".join(f"`{name}`" for name in kept), ""]
    if missing := [r for r in rows if r["status"] in ("left out", "cut", "to do", "running")]:
        lines += ["## Not done", "", *_lines(["step", "", "why"], [[r["step"], r["status"], r.get("why", "")] for r in missing])]
    for row in (r for r in rows if r["status"] == "failed"):
        lines += [f"## Failed: {row['step']}", "", row["why"], ""]
        if row.get("traceback"):
            lines += ["```text", row["traceback"].strip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"
