"""What a worker does: take one task after another from its standard input, and answer each with a line of JSON."""

import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

import torch

from cam_course.app.config import TrainConfig
from cam_course.app.main import run
from cam_course.base.core import environment, get_device, write_json
from cam_course.base.weights import write_weights

PART = 15_000_000  # bytes: the largest file of weights
LEFT = ("config.json", "environment.json", "history.csv", "log.txt")  # of a run folder


def hello(device: str) -> dict[str, Any]:
    "What this worker runs on."
    found = get_device(device)
    about: dict[str, Any] = {"environment": environment(found), "device": found.type, "gigabytes": 0.0}
    if found.type == "cuda":
        about["gigabytes"] = torch.cuda.get_device_properties(found).total_memory / 2**30
        about["environment"] |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return about


def train(task: dict[str, Any]) -> dict[str, Any]:
    "Run one training, keep its weights if they are wanted, and leave of its folder what is small."
    values = task["config"]
    config = TrainConfig(**{**values, "transforms": tuple(values["transforms"])})
    torch.backends.cudnn.benchmark = task["benchmark"]
    began = time.perf_counter()
    result = run(config, figures=False)
    about = result.history[-1] | {"training seconds": sum(row["seconds"] for row in result.history)}
    if task["commit"]:  # a kit lies in no checkout, or in a later one
        path = result.folder / "environment.json"
        write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"commit": task["commit"]})
    if task["keep"]:
        about["weights"] = keep(result.folder, Path(task["weights"]), task["keep"])
    for path in result.folder.iterdir():
        if path.name not in LEFT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return about | {"wall": time.perf_counter() - began}


def keep(run_folder: Path, folder: Path, name: str) -> list[str]:
    "Write a run's weights as fp16 with their description: into several files where one would be too large."
    from pack_weights import describe

    state, about = describe(run_folder)
    sizes = {key: 2 * value.numel() for key, value in state.items()}
    count = -(-sum(sizes.values()) // PART)
    parts: list[dict[str, Any]] = [{} for _ in range(count)]
    filled = 0
    for key, value in state.items():
        parts[min(count - 1, filled * count // sum(sizes.values()))][key] = value
        filled += sizes[key]
    names = [f"weights-{name}.safetensors"] if count == 1 else [
        f"weights-{name}-{k + 1}of{count}.safetensors" for k in range(count)]
    for file, part in zip(names, parts, strict=True):
        write_weights(folder / file, part, torch.float16, **about, parts=names)
    return names


def compile_many() -> None:
    "Let one process compile many nets: past 8 torch would go on without compiling."
    import torch._dynamo.config as dynamo

    name = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"  # torch 2.6 has the older one
    setattr(dynamo, name, 64)


def do(task: dict[str, Any]) -> Any:
    "The result of a task, as JSON can hold it."
    if task["do"] == "hello":
        return hello(task["device"])
    if task["do"] == "train":
        return train(task)
    import checks

    return checks.run_check(task)


def main() -> None:
    "Tasks come in and answers go out through pipes; all that is printed goes to the log."
    answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if torch.cuda.is_available():
        compile_many()
    for line in sys.stdin:
        task = json.loads(line)
        try:
            answer = {"result": do(task)}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # reported in the table; the next task goes on
            answer = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
