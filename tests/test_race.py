"""The race of the optimizers: paths and scores, JavaScript against Python, and the figure in a browser."""


import numpy as np
import pytest
from figpage import check_playing, drawn, opened
from jsbox import load

from cam_course import optimizers as O
from cam_course.descent import SURFACES
from cam_course.optimizers import _RACERS, OptimizerPath, OptimizerRace, make_optimizer


def test_a_path_that_leaves_ends_in_nan_and_alone():
    make = lambda p: O.SGD(p, lr=1.0)
    path = O._trajectory(make, SURFACES["beale"], [[1.0, 1.5], [3.0, 0.5]], 20)
    assert path.shape == (21, 2, 2) and np.isnan(path[-1, 0]).all() and (path[:, 1] == [3, 0.5]).all()
    assert np.isinf(O._race_score(SURFACES["beale"], path)[0])


def test_javascript_agrees_with_python():
    """Same tuned rates, same paths to 1e-9.

    Some runs are chaotic (RMSProp hopping about a minimum): there a difference of rounding grows without bound. So each
    path is compared up to where Python's own path, started 1e-13 beside, has grown apart a thousandfold.
    """
    js, rng, compared, total = load("math/optimizers.js"), np.random.default_rng(0), 0, 0
    for name in O._RACE_SURFACES:
        surface = SURFACES[name]
        x0, x1, y0, y1 = surface.limits
        for start in (list(surface.start), rng.uniform((x0, y0), (x1, y1)).tolist()):
            for optimizer in _RACERS:
                tuned = O._tuned_rate(optimizer, surface, start, 40)
                assert js("tunedRate", optimizer, name, start, 40) == tuned, (name, optimizer)
                for lr in (tuned, 0.1, 0.001):
                    a = np.array(js("raceTrajectory", optimizer, name, start, lr, 40), dtype=float)
                    both = O._trajectory(
                        lambda p, o=optimizer, lr=lr: make_optimizer(o, p, lr=lr),
                        surface,
                        [start, [v * (1 + 1e-13) + 1e-13 for v in start]],
                        40,
                    )
                    b, beside = both[:, 0], both[:, 1]
                    growth = np.maximum.accumulate(np.abs(b - beside).max(1) / 1e-13)
                    tame = np.isfinite(a).all(1) & np.isfinite(b).all(1) & (growth < 1e3)
                    np.testing.assert_allclose(
                        a[tame], b[tame], rtol=1e-9, atol=1e-9, err_msg=f"{name} {optimizer} {lr}"
                    )
                    gaps = np.array(js("lossGap", name, b[tame]), dtype=float)
                    np.testing.assert_allclose(gaps, O._loss_gap(surface, b[tame]), rtol=1e-9, atol=1e-9)
                    compared, total = compared + tame.sum(), total + np.isfinite(b).all(1).sum()
    assert compared > 0.9 * total, f"only {compared} of {total} points could be compared"


def test_race_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="unknown surface 'bowel'.*Did you mean 'bowl'"):
        OptimizerRace("bowel")
    with pytest.raises(ValueError, match="start must be two numbers"):
        OptimizerRace("bowl", [1.0])


def test_race_says_its_numbers():
    words = OptimizerRace("beale", lr=0.1).alt()
    assert "SGD gone" in words and "from (1.00, 1.50), all at rate 0.1" in words
    assert "(rate 0.2)" in OptimizerRace("ravine", tuned=True).alt()


def said(page):
    return page.inner_text(".cc-readout")


def test_race_is_driven_by_keyboard_mouse_and_controls(browser, tmp_path):
    with opened(browser, [OptimizerRace("ravine")], tmp_path) as page:
        assert said(page).startswith("All at rate 0.1, after 150 steps: RMSProp under 1e−12, Nesterov 4e−8")
        before = drawn(page)
        page.focus(".cc-handle")
        page.keyboard.press("Shift+ArrowRight")
        page.wait_for_function("document.querySelector('.cc-handle').getAttribute('aria-valuetext') === '-4.00, 1.50'")
        page.wait_for_timeout(100)
        assert (moved := drawn(page)) != before
        box = page.locator(".cc-knob").bounding_box()
        page.mouse.move(box["x"] + 9, box["y"] + 9)
        page.mouse.down()
        page.mouse.move(box["x"] + 100, box["y"] + 60, steps=4)
        page.mouse.up()
        page.wait_for_timeout(100)
        assert drawn(page) != moved
        page.check("input[type=checkbox]")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('Each at its best rate')")
        assert page.locator(".cc-name").first.text_content().startswith("SGD 0.")
        page.select_option("select", label="Rosenbrock's valley")
        page.wait_for_function("document.querySelector('.cc-handle').getAttribute('aria-valuetext') === '-1.50, 2.00'")


@pytest.mark.parametrize("wish, moves", [("no-preference", True), ("reduce", False)])
def test_race_runs_only_where_motion_is_welcome(browser, tmp_path, wish, moves):
    with opened(browser, [OptimizerRace("ravine", steps=40)], tmp_path, reduced_motion=wish) as page:
        check_playing(page, "Race", moves)


# ---- one optimizer alone: the first figure of the chapter


def test_path_figure_in_javascript_is_pythons():
    "Paths and rates of eight optimizers at three rates on both ravines, to 1e-9; see above for what is chaotic."
    js, compared, total = load("math/optimizers.js"), 0, 0
    for name in O._PATHS:
        for lr in (0.02, 0.3, 2.0):
            for tilted in (False, True):
                figure = OptimizerPath(name, lr=lr, tilted=tilted, steps=60)
                surface = figure._surface()
                path, rates = figure.run()
                beside = O._path_and_rates(
                    lambda p, o=name, lr=lr: make_optimizer(o, p, lr=lr), surface, np.array(surface.start) * (1 + 1e-13), 60
                )[0]
                mine = js("pathWithRates", name, surface.name, surface.start, lr, 60)
                a, b = (np.array(mine[key], dtype=float) for key in ("path", "rates"))
                growth = np.maximum.accumulate(np.abs(path - beside).max(1) / 1e-13)
                tame = np.isfinite(path).all(1) & np.isfinite(a).all(1) & (growth < 1e3)
                np.testing.assert_allclose(a[tame], path[tame], rtol=1e-9, atol=1e-9, err_msg=f"{name} {lr}")
                np.testing.assert_allclose(b[tame[1:]], rates[tame[1:]], rtol=1e-9, atol=1e-9, err_msg=f"{name} {lr}")
                compared, total = compared + tame.sum(), total + np.isfinite(path).all(1).sum()
                gaps = O._loss_gap(surface, path)
                if tame.all():
                    assert js("arrival", gaps) == figure.arrives()
    assert compared > 0.8 * total, f"only {compared} of {total} points could be compared"


def test_own_rates_are_what_the_gradient_is_multiplied_by():
    for name in ("sgd", "adagrad", "rmsprop"):
        path, rates = OptimizerPath(name, lr=0.1, steps=20).run()
        moved = (path[:-1] - path[1:]) / SURFACES["ravine"].grad(path[:-1])
        np.testing.assert_allclose(rates, moved, rtol=1e-9)
    assert (OptimizerPath("lion").run()[1] == 0.3).all()


def test_path_figure_says_its_numbers_and_refuses_what_it_does_not_know():
    assert "SGD at rate 0.3 in a ravine: 83 steps to a thousandth of the loss" in OptimizerPath().alt()
    assert "Adagrad at rate 2 in a tilted ravine" in OptimizerPath("adagrad", lr=2.0, tilted=True).alt()
    assert "it is gone" in OptimizerPath("momentum", lr=10.0).alt() and OptimizerPath("momentum", lr=10.0).arrives() == 101
    assert "not at a thousandth of the loss after 100 steps" in OptimizerPath("adadelta", lr=1.0).alt()
    for wrong, words in (
        ({"optimizer": "adm"}, "Did you mean 'adam'"), ({"lr": 0.0}, "lr must be a number >= 0.001"), ({"steps": 0}, "steps must be"),
    ):
        with pytest.raises(ValueError, match=words):
            OptimizerPath(**wrong)


def test_path_figure_is_driven_by_keyboard_and_controls(browser, tmp_path):
    with opened(browser, [OptimizerPath()], tmp_path) as page:
        assert said(page) == "SGD at rate 0.3: 83 steps to a thousandth of the loss; both weights have one rate."
        before = drawn(page)
        page.select_option("select", label="Adagrad")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('Adagrad at rate 0.3')")
        assert "w₁ has 7.3 times the rate of w₂" in said(page) and drawn(page) != before
        page.check("input[type=checkbox]")
        page.wait_for_function("!document.querySelector('.cc-readout').textContent.includes('w₁ has 7.3 times')")
        page.focus("input[type=range]")
        page.keyboard.press("End")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('Adagrad at rate 10')")
        page.select_option("select", label="Momentum")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('it is gone')")


@pytest.mark.parametrize("wish, moves", [("no-preference", True), ("reduce", False)])
def test_path_is_walked_only_where_motion_is_welcome(browser, tmp_path, wish, moves):
    with opened(browser, [OptimizerPath(steps=20)], tmp_path, reduced_motion=wish) as page:
        check_playing(page, "Walk", moves)
