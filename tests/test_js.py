"""JavaScript and Python compute the same: every module of the figures compiles, and its arithmetic agrees to 1e-9."""

import re

import numpy as np
import pytest
from jsbox import load
from py_mini_racer import MiniRacer

from cam_course import averages as av
from cam_course.base import figures as fg

FILES = {p.relative_to(fg.JS).as_posix(): p.read_text("utf-8") for p in sorted(fg.JS.rglob("*.js"))}
ENTRIES = [name for name, code in FILES.items() if "export default" in code]
MATH = [name for name in FILES if name.startswith("math/")]


def same(js, py): np.testing.assert_allclose(np.array(js, dtype=float), py, rtol=0, atol=1e-9)


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_figure_compiles_and_is_small(entry):
    code = fg.bundle(entry)
    assert code.count("export default") == 1 and not re.search(r"^(import|export (?!default))", code, re.M)
    MiniRacer().eval("async function module() {" + code.replace("export default", "return") + "}")
    assert len(code) < 80_000
    assert "http" not in code.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("entry", MATH)
def test_arithmetic_needs_no_page(entry):
    code = fg.bundle(entry)
    assert not re.search(r"\b(document|window|getComputedStyle|requestAnimationFrame|performance)\b", code)
    MiniRacer().eval(code)


def test_css_variables_used_are_defined():
    defined = set(re.findall(r"(--[a-z]\w*):", fg.stylesheet())) | {"--part", "--c"}   # "--c" + a number
    for name, code in FILES.items() | {("theme.css", fg.stylesheet())}:
        code = re.sub(r"/\*.*?\*/|^\s*//.*$", "", code, flags=re.S | re.M if name.endswith("css") else re.M)
        used = set(re.findall(r"(?<=[\"'(`])--[a-z]\w*", code))
        assert used <= defined, f"{name}: {used - defined}"


def test_averages():
    js, rng = load("math/averages.js"), np.random.default_rng(0)
    for beta in (0., .5, .9, .98, .999):
        xs = rng.normal(3, 50, 300)
        for debias in (True, False):
            same(js("ewma", xs, beta, debias), av.ewma(xs, beta, debias))
            same(js("ewmaWeights", 40, beta, debias), av.ewma_weights(40, beta, debias))
    for snap in (.001, .01, .3):
        errors, hand = [0, 1, 50, 99.9, 100, 1e4], av._gesture() + xs[:240]/5
        same([js("snapCurve", e, snap) for e in errors], av._snap_curve(errors, snap))
        for sleep in (0., 4.): same(js("responsive", hand, snap, sleep), av._responsive(hand, snap, sleep))
    same(js("rms", xs, xs[::-1]), np.sqrt(np.mean((xs - xs[::-1])**2)))


def test_the_curve_of_the_first_figure():
    js, x = load("math/figures.js"), np.linspace(-2, 2, 81)
    same([js("valley", float(v)) for v in x], fg._valley(x))
    same([js("valleySlope", float(v)) for v in x], fg._valley_slope(x))
    same(fg._valley_slope(x), (fg._valley(x + 1e-6) - fg._valley(x - 1e-6))/2e-6)


def test_scales_there_and_back():
    js = load("math/scale.js")
    for domain, rng, log in (([-2, 5], [40, 700], False), ([1e-8, 10], [300, 10], True), ([3, 0], [0, 1], False)):
        for p in np.linspace(*rng, 7):
            there_and_back = "((d, r, l, p) => makeScale(d, r, l)(makeScale(d, r, l).invert(p)))"
            back = js(there_and_back, domain, rng, log, float(p))
            assert back == pytest.approx(p, abs=1e-9)
    assert js("makeScale([0, 10], [0, 100])", 2.5) == 25


def test_ticks_are_round_and_inside():
    js = load("math/scale.js")
    assert js("niceTicks", 0, 1, 5) == [0, .2, .4, .6, .8, 1]
    assert js("niceTicks", -2.1, 2.1, 4) == [-2, -1, 0, 1, 2]
    assert js("niceTicks", 3, 3, 5) == [3]
    assert js("logTicks", 1e-8, 1, 4) == [1e-8, 1e-6, 1e-4, 1e-2, 1]
    rng = np.random.default_rng(0)
    for _ in range(200):
        lo, span, n = rng.normal(0, 100), np.exp(rng.normal(0, 4)), rng.integers(2, 9)
        ticks = js("niceTicks", float(lo), float(lo + span), int(n))
        assert n/2.5 - 1 <= len(ticks) <= n/.8 + 1, (lo, span, n, ticks)
        assert all(lo - span*1e-6 <= t <= lo + span*(1 + 1e-6) for t in ticks)


def test_numbers_are_written_with_a_true_minus():
    js = load("math/scale.js")
    assert [js("shortNumber", v) for v in (0, 250, -.5, 1e-4, 2e6)] == ["0", "250", "−0.5", "1e−4", "2e6"]
    assert [js("fixed", v) for v in (1, -1.5, -.001)] == ["1.00", "−1.50", "0.00"]


def test_labels_are_spread_as_in_python():
    js, rng = load("math/scale.js"), np.random.default_rng(0)
    for n in (1, 2, 5, 9):
        ys = rng.uniform(0, 100, n)
        same(js("spread", ys, 16), fg._spread(ys, 16))
        out = np.sort(fg._spread(ys, 16))
        assert (np.diff(out) >= 16 - 1e-9).all()
        assert np.mean(fg._spread(ys, 16)) == pytest.approx(np.mean(ys))
        assert (np.argsort(fg._spread(ys, 16)) == np.argsort(ys)).all()


def test_random_numbers_are_the_same_everywhere():
    def mulberry32(seed, n):
        out, a = [], seed
        for _ in range(n):
            a = (a + 0x6D2B79F5) % 2**32
            t = (a ^ a >> 15)*(1 | a) % 2**32
            t ^= (t + (t ^ t >> 7)*(61 | t)) % 2**32
            out.append((t ^ t >> 14)/2**32)
        return out
    js, draw = load("math/random.js"), "((g, n) => Array.from({{ length: n }}, {}(g)))".format
    assert js(draw("uniform"), 42, 50) == mulberry32(42, 50)
    z = np.array(js(draw("normal"), 1, 20_000))
    assert abs(z.mean()) < .03 and abs(z.std() - 1) < .02 and abs((z**3).mean()) < .08
