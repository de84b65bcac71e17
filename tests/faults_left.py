"What a stopped program left behind: which files are torn, and what a folder holds apart from times of day and durations."

import csv
import hashlib
import json
import re
from collections.abc import Container
from pathlib import Path

TIMING = {"images_per_second", "seconds"}


def torn(
    root: Path,
    known: Container[str] = (),  # hashes of the files that may have been downloaded
) -> list[str]:
    "Files below `root` that have their final name and are not whole."
    from PIL import Image

    from cam_course.base.checkpoints import load_checkpoint
    from cam_course.base.weights import read_weights
    from cam_course.training import History

    def image(path: Path) -> None:
        with Image.open(path) as opened:
            opened.load()

    def page(path: Path) -> None:
        if not path.read_text(encoding="utf-8").rstrip().endswith(("</html>", ")")):
            raise ValueError("it has no end")

    def array(path: Path) -> None:
        import numpy as np

        np.load(path, allow_pickle=False)

    def whole(path: Path) -> None:
        if hashlib.sha256(path.read_bytes()).hexdigest() not in known:
            raise ValueError("other bytes")

    checks = {".json": lambda p: json.loads(p.read_text(encoding="utf-8")), ".csv": History.from_csv, ".png": image, ".html": page,
              ".md": page, ".npy": array, ".parquet": whole, ".gz": whole}
    bad = []
    for path in root.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        check = checks.get(path.suffix, lambda p: None)
        if path.suffix == ".safetensors":
            check = load_checkpoint if path.parent.name == "checkpoints" else read_weights
        try:
            check(path)
        except Exception as error:
            bad.append(f"{path.relative_to(root)}: {error!r}")
    return bad


def _state(path: Path) -> str:
    "The hash of a checkpoint without its durations."
    from cam_course.base.checkpoints import _digest, _pack_state, load_checkpoint

    state = load_checkpoint(path)
    state.pop("elapsed")
    state["history"] = [{k: v for k, v in row.items() if k not in TIMING} for row in state["history"]]
    skeleton, tensors = _pack_state(state)
    return _digest(json.dumps(skeleton), tensors)


def _scalars(folder: Path) -> dict:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.partition("/")[2] not in TIMING]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in sorted(tags)}


def fingerprint(box: Path) -> dict[str, object]:
    "What is in `box`, by file, without times of day and durations."
    from cam_course.base.checkpoints import _digest, read_tensors

    found: dict[str, object] = {}
    notes = [json.loads(p.read_text(encoding="utf-8")) for p in box.rglob("environment.json")]
    commits = {str(note["commit"]) for note in notes if note.get("commit")}    # somebody may commit while the trials run
    for path in sorted(box.rglob("*")):
        name = str(path.relative_to(box))
        if not path.is_file() or "tensorboard/" in name or "/hashes/" in name or path.name == ".lock":
            continue  # events are compared by value, below; notes of hashes are keyed by the time of change
        value: object = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.parent.name == "checkpoints" and not path.name.startswith("."):
            value = _state(path)
        elif path.suffix == ".safetensors" and not path.name.startswith("."):
            tensors, texts = read_tensors(path)  # safetensors writes the texts of a header in any order
            value = _digest(json.dumps(texts, sort_keys=True), tensors)
        elif path.name == "history.csv":
            with open(path, encoding="utf-8", newline="") as file:
                value = [{k: v for k, v in row.items() if k not in TIMING} for row in csv.DictReader(file)]
        elif path.name == "environment.json":
            value = sorted(json.loads(path.read_text(encoding="utf-8")))
        elif path.name in ("log.txt", "report.html", "README.md"):
            text = re.sub(r" +\d+ +\d+\.\ds +\d+:\d\d:\d\d$|<b>[\d.]+ min</b>", "", path.read_text(encoding="utf-8"), flags=re.M)
            for commit in commits: text = text.replace(commit, "")
            value = hashlib.sha256(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "", text).encode()).hexdigest()
        found[name] = value
    for folder in box.glob("runs/*/tensorboard"):
        found[str(folder.relative_to(box))] = _scalars(folder)
    return found


def differences(box: Path, undisturbed: dict[str, object]) -> list[str]:
    there = fingerprint(box)
    names = sorted({*there, *undisturbed})
    return [n for n in names if there.get(n) != undisturbed.get(n)]
