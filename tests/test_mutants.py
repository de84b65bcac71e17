"The mutation tester finds what it should, and the page tells what came of its last run."

import ast
import os

import measure_coverage
import mutants
import pytest
from book_faults import tried_html

SOURCE = '''
def f(x: int = 3) -> int:
    "Doc."
    if x < 0: raise ValueError(f"x must be >= 0, got {x + 1}")
    g(x, 2.0)
    return x + 1
'''


def test_every_kind_of_fault_once():
    tree = ast.parse(SOURCE)
    found = [(kind, ast.unparse(new)) for node, _, _ in mutants.walk(tree) for kind, new in mutants.changes(node)]
    kinds = [kind for kind, _ in found]
    assert kinds.count("comparison") == 2 and kinds.count("constant") == 4 and kinds.count("arithmetic") == 1
    assert ("swapped arguments", "g(2.0, x)") in found and ("removed statement", "pass") in found and ("constant", "4") in found
    assert ("arithmetic", "x - 1") in found and ("nothing returned", "return None") in found
    assert not any("Doc" in new and kind != "negated condition" for kind, new in found)
    assert "x + 2" not in {new for _, new in found}  # words of messages are left alone


def test_one_place_changes_and_the_rest_stays():
    tree = ast.parse(SOURCE)
    node, _, path = next((n, s, p) for n, s, p in mutants.walk(tree) if isinstance(n, ast.BinOp))
    kind, new = next(mutants.changes(node))
    changed = ast.unparse(mutants.replaced(tree, path, new))
    assert changed == ast.unparse(tree).replace("return x + 1", "return x - 1") and kind == "arithmetic"


def test_the_draw_is_seeded_and_even():
    first, second, other = (mutants.draw(30, seed) for seed in (0, 0, 1))
    assert [m["id"] for m in first] == [m["id"] for m in second] != [m["id"] for m in other]
    assert [sum(m["group"] == g for m in first) for g in mutants.GROUPS] == [10, 10, 10]
    assert len({m["id"] for m in mutants.draw(150, 0)}) == 150


@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants are tried in forked processes")
def test_children_that_hang_or_die_are_noticed():
    assert mutants.in_child(lambda: [1, "a"], 20) == [1, "a"]
    assert mutants.in_child(lambda: os._exit(3), 20) == "crash"
    assert mutants.in_child(lambda: __import__("time").sleep(60), 0.5) == "timeout"


def test_coverage_is_summed_right():
    counts = {"num_statements": 8, "covered_lines": 6, "num_branches": 4, "covered_branches": 1}
    told = measure_coverage.summary({"totals": counts, "files": {"cam_course/base/core.py": {"summary": counts}}})
    assert (told["lines_percent"], told["branches_percent"], told["modules"]["base/core.py"]["lines"]) == (75.0, 25.0, 8)


def test_the_code_that_a_result_is_about_is_there():
    "What was renamed would never be seen to change."
    for code in (mutants.code(), measure_coverage.code()): assert code and all(code.values())


def test_the_page_tells_what_came_of_it_and_how_old_it_is():
    told = {"made_by": "<run>", "date": "2026-01-02", "code": {}}
    rows = (told | {"killed": 141, "tried": 150, "code": {"moves": "x"}},
            told | {"calls": 12345, "refused": 12000, "taken": 345, "failures": []},
            told | {"lines": 6887, "lines_percent": 98.0, "branches": 1658, "branches_percent": 94.3})
    page = tried_html(*rows)
    assert "141 of 150" in page and "12,345 calls" in page and "98.0 % of 6,887 lines" in page and "&lt;run&gt;" in page
    assert page.count("The code has changed since") == 1 and "since: moves." in page
