"""Timing two ways of doing the same work, so that a noisy machine can't decide the result.

The two run in turn, A B B A A B ...; each pair gives a ratio, and the median ratio with its range is what is reported.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass
class Ratio:
    "How many times faster `ours` is than `theirs`: median, smallest and largest ratio of the pairs; median seconds."

    name: str
    ours: str
    theirs: str
    ratio: float
    low: float
    high: float
    seconds_ours: float
    seconds_theirs: float
    pairs: int
    goal: float | None = None

    def __str__(self) -> str:
        verdict = (
            "" if self.goal is None else f"   goal {self.goal:g}x: {'met' if self.ratio >= self.goal else 'MISSED'}"
        )
        return f"{self.name:<44} {self.ratio:6.2f}x  ({self.low:.2f}-{self.high:.2f}, {self.pairs} pairs){verdict}"


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start


def compare(
    name: str,
    ours: tuple[str, Callable[[], object]],  # what it is, and a call that does it once
    theirs: tuple[str, Callable[[], object]],
    pairs: int = 5,
    warmup: int = 1,
    goal: float | None = None,
    settle: float = 0.0,  # seconds of rest after each, where one leaves something running (workers that read ahead)
    clock: Callable[[], float] = time.perf_counter,  # `time.process_time`: other programs on the machine don't count
) -> Ratio:
    "Run the two in turn and return the ratio theirs/ours."

    def rested(work: Callable[[], object]) -> float:
        taken = seconds(work, clock)
        time.sleep(settle)
        return taken

    for _ in range(warmup):
        rested(ours[1]), rested(theirs[1])
    times = []
    for i in range(pairs):   # each goes first every other time
        order = (ours, theirs) if i % 2 == 0 else (theirs, ours)
        taken = [rested(way[1]) for way in order]
        times.append(tuple(taken if i % 2 == 0 else taken[::-1]))
    ratios = [b / a for a, b in times]
    mine, other = (statistics.median(t) for t in zip(*times, strict=True))
    found = Ratio(
        name, ours[0], theirs[0], statistics.median(ratios), min(ratios), max(ratios), mine, other, pairs, goal
    )
    print(found, flush=True)
    return found


def machine() -> dict[str, str]:
    "What the numbers were measured on."
    import torch

    from cam_course.base.core import environment

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {**environment(device), "cores": str(os.cpu_count()), "platform": platform.platform()}


def write(name: str, ratios: list[Ratio], **facts: object) -> Path:
    "Keep the results of one benchmark, with machine and versions, for the book's page."
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    text = json.dumps({"machine": machine(), "ratios": [asdict(r) for r in ratios], **facts}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
    return path
