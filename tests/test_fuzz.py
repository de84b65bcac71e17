"""Bad inputs: each is refused with a documented error that names it, or taken with a right result (see fuzz.py)."""

import os
from collections import Counter
from pathlib import Path

import fuzz
import pytest

LONG = os.environ.get("CAM_COURSE_LONG") == "1"
ENTRIES = fuzz.entries()
SLOW = ("LRFinder.range_test", "load_cifar10", "load_data")  # without a wrong argument they ask for batches, or make a data set
TOTAL = 10_500 if LONG else 1_000


@pytest.mark.parametrize("name", ENTRIES)
def test_bad_inputs(name):
    entry = ENTRIES[name]
    count = round(TOTAL*entry.weight/sum(e.weight for e in ENTRIES.values())) + 1
    outcomes, failures = fuzz.fuzz(name, entry, count, key=1)
    assert not failures, "\n".join(failures[:5])
    assert outcomes["refused"] > 0.3*count, outcomes  # most of what is tried is bad


@pytest.mark.parametrize("name", [n for n, e in ENTRIES.items() if n not in SLOW])
def test_good_inputs_are_taken(name):
    "Without a wrong argument each call works: what is refused above is refused for what was put in."
    assert fuzz.attempt(ENTRIES[name], ENTRIES[name].good, [])[0] == "taken"


def broken(value):
    "What the harness must notice."
    if value == "silent": return -1
    if value == "crash": raise IndexError("list index out of range")
    if value == "mute": raise ValueError("no")
    if value == "file": Path("left.txt").write_text("x")
    if value == "hang":
        while True: pass
    return 1


@pytest.mark.parametrize(("value", "outcome"), [
    ("silent", "wrong result"), ("crash", "undocumented"), ("mute", "unnamed"), ("hang", "hang")])
def test_the_harness_notices(value, outcome, monkeypatch):
    monkeypatch.setattr(fuzz, "HANG", 1)
    entry = fuzz.Entry(broken, {"value": ""}, {"value": fuzz.st.just(value)}, lambda r, a: r == 1)
    found, failures = fuzz.fuzz("broken", entry, 1)
    assert found == Counter({outcome: 1}) and value in failures[0]


def test_the_harness_notices_files():
    entry = fuzz.Entry(broken, {"value": ""}, {"value": fuzz.st.just("file")})
    assert "left.txt" in fuzz.fuzz("broken", entry, 1)[1][0]


def test_the_code_that_the_result_is_about_is_there():
    code = fuzz.code()
    assert {"tests/fuzz.py", "gradcam", "resnet"} <= code.keys() and all(code.values())
