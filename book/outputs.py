"""Outputs made fit to be committed: no machine paths, no progress-bar litter, no widget that nobody shows.

The result is a fixed point of `nbdev_clean`, so that a clean never changes a notebook that `execute.py` wrote.
"""
import re
import sys
from pathlib import Path

KEEP = {"tags", "mystnb"}   # cell metadata, as settings.ini's allowed_cell_metadata_keys
STATE, VIEW = "application/vnd.jupyter.widget-state+json", "application/vnd.jupyter.widget-view+json"
_bar = re.compile(r"^(?P<name>.*?)\s*\d+%\|.*\|\s*[\d.]+\S*/\S+ \[.*\]\s*(?P<rest>.*)$")
_ansi_move = re.compile(r"\x1b\[\d*[A-HJK]")
_object_id = re.compile(r"(<.*?)( at 0x[0-9a-fA-F]+)(>)")


def tidy_stream(text: str) -> str:
    "What a terminal shows in the end: text after the last carriage return, each progress bar once, in its last state."
    lines: list[str] = []
    bars: dict[str, int] = {}
    for raw in _ansi_move.sub("", text).split("\n"):
        line = next((part for part in reversed(raw.split("\r")) if part.strip()), "")
        if m := _bar.match(line):
            if (name := m["name"]) in bars:
                lines[bars[name]] = line
                continue
            bars[name] = len(lines)
        elif "\r" in raw and not line:
            continue
        lines.append(line)
    out = "\n".join(lines)
    return out.rstrip("\n") + "\n" if bars and out.strip() else out


def merge_streams(outputs: list) -> list:
    "Neighbouring pieces of one stream become one; empty ones go."
    merged = []
    for o in outputs:
        if o.output_type == "stream" and merged and merged[-1].output_type == "stream" and merged[-1].name == o.name:
            merged[-1].text += o.text
        else:
            merged.append(o)
    for o in merged:
        if o.output_type == "stream": o.text = tidy_stream(o.text)
    return [o for o in merged if o.output_type != "stream" or o.text.strip()]


def _references(value: object) -> set[str]:
    "Ids of the models that a widget's state refers to."
    if isinstance(value, str): return {value[10:]} if value.startswith("IPY_MODEL_") else set()
    if isinstance(value, dict): value = list(value.values())
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def reachable(model_id: str, state: dict) -> set[str]:
    seen, todo = set(), {model_id}
    while todo:
        m = todo.pop()
        if m in state and m not in seen:
            seen.add(m)
            todo |= _references(state[m]["state"])
    return seen


def is_progress_bar(model_id: str, state: dict) -> bool:
    return any(state[m]["model_name"] == "FloatProgressModel" for m in reachable(model_id, state))


def prune_widgets(nb) -> None:
    "Drop progress bars, the view of a model that was not saved, and the state that no output shows."
    widgets = nb.metadata.get("widgets", {}).get(STATE, {})
    state, used = widgets.get("state", {}), set()
    for cell in nb.cells:
        if cell.cell_type != "code": continue
        kept = []
        for o in cell.outputs:
            view = o.get("data", {}).get(VIEW)
            if view:
                if is_progress_bar(view["model_id"], state): continue
                if view["model_id"] in state: used |= reachable(view["model_id"], state)
                else: o["data"].pop(VIEW)
            kept.append(o)
        cell.outputs = kept
    if used:
        nb.metadata["widgets"] = {STATE: {**widgets, "state": {k: v for k, v in state.items() if k in used}}}
    else:
        nb.metadata.pop("widgets", None)


def scrubber(*replacements: tuple[str | Path, str]):
    "A function that replaces folders of this machine in a text by neutral names, the longest first."
    pairs = sorted({(str(Path(a).expanduser()), b) for a, b in replacements}, key=lambda p: -len(p[0]))

    def scrub(text: str) -> str:
        for a, b in pairs:
            if len(a) > 1: text = re.sub(re.escape(a) + r"(?=[/\\:'\"\s)\],;>]|$)", lambda _, b=b: b, text)
        return text
    return scrub


def machine_scrubber(root: Path, cwd: Path):
    "Scrubber for a run in `cwd`: checkout and working folder become '.', the environment '<python>', home '~'."
    places = ((root, "."), (cwd, "."), (sys.prefix, "<python>"), (sys.base_prefix, "<python>"))
    both = [(p, name) for path, name in places for p in {Path(path), Path(path).resolve()}]
    return scrubber(*both, (Path.home(), "~"))


def _deep(value, scrub):
    if isinstance(value, str): return scrub(value)
    if isinstance(value, list): return [_deep(v, scrub) for v in value]
    if isinstance(value, dict): return type(value)({k: _deep(v, scrub) for k, v in value.items()})
    return value


def tidy(nb, scrub) -> None:
    "Normalise every output of an executed notebook, in place."
    prune_widgets(nb)
    for cell in nb.cells:
        cell.metadata = type(cell.metadata)({k: v for k, v in cell.metadata.items() if k in KEEP})
        if cell.cell_type != "code": continue
        cell.execution_count = None
        cell.outputs = merge_streams(cell.outputs)
        for o in cell.outputs:
            if o.output_type == "stream":
                o.text = _object_id.sub(r"\1\3", scrub(o.text))
            elif o.output_type == "error":
                o.traceback, o.evalue = [scrub(t) for t in o.traceback], scrub(o.evalue)
            else:
                if "execution_count" in o: o.execution_count = None
                o.metadata = _deep(o.metadata, scrub)
                for k, v in o.data.items():
                    if not isinstance(v, str): continue
                    if k.startswith("text"): o.data[k] = _object_id.sub(r"\1\3", scrub(v))
                    elif k.startswith("image") and "svg" not in k: o.data[k] = v.rstrip()
    widgets = nb.metadata.get("widgets")
    keep = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    if widgets: keep["widgets"] = _deep(widgets, scrub)
    nb.metadata = type(nb.metadata)(keep)
