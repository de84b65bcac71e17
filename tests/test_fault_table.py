"The committed fault table has every fault that the tests know, all of them withstood; one that is older than the code says so."
import ast
import json

import pytest
import stamps
from book_faults import table_html
from fault_table import CODE, FAULTS, HERE, RESULTS

made = pytest.mark.skipif(not RESULTS.exists(), reason="no table yet: run python tests/fault_table.py")


def found() -> dict:
    return json.loads(RESULTS.read_text(encoding="utf-8"))["parts"]


def test_every_fault_names_tests_that_are_there():
    for fault in FAULTS:
        for test in fault.tests:
            file, _, function = test.partition("::")
            tree = ast.parse((HERE/file).read_text(encoding="utf-8"))
            there = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
            assert any(name.startswith(function.split("[")[0]) for name in there), test


@made
@pytest.mark.parametrize("part", CODE)
def test_the_table_is_whole(part):
    assert part in found(), f"run: python tests/fault_table.py {part!r}"
    rows = {row["name"]: row for row in found()[part]["rows"]}
    known = {fault.name: fault for fault in FAULTS if fault.part == part}
    assert rows.keys() == known.keys(), f"run: python tests/fault_table.py {part!r}"
    for name, row in rows.items():
        assert row["right"] == row["tried"] > 0, name
        assert row["outcome"] == known[name].outcome and tuple(row["tests"]) == known[name].tests, name


@pytest.mark.parametrize("part", CODE)
def test_the_code_of_a_part_is_there(part):
    "A function that was renamed would never be seen to change."
    assert all(stamps.code_of(CODE[part]).values())


def test_the_page_escapes_and_counts():
    row = {"part": "Runs", "name": "<script>", "outcome": "a & b", "tests": [], "tried": 1234, "right": 1233}
    page = table_html({"Runs": {"rows": [row], "stamp": {"date": "2026-01-02 03:04:05", "device": "<b>"}, "code": {"core": "x"}}})
    assert "<script>" not in page and "&lt;script&gt;" in page and "a &amp; b" in page and "<b>" not in page
    assert "1,234" in page and "1 lost" in page and "The code has changed since: core." in page
