"""The moving figures of the first chapters in a browser: keyboard, mouse, touch, dark mode, phone, reduced motion."""

import pytest
from figpage import check_playing, opened

from cam_course.averages import BetaSlider, MouseSmoother, _noisy_wave
from cam_course.base.figures import INK, PALETTE, PALETTE_DARK, Tangent
from cam_course.descent import OneStep
from cam_course.momentum import BallInValley, CyclingBall


def lines(page):
    "The drawn curves, as text."
    return page.eval_on_selector_all(".cc-line", "nodes => nodes.map(n => n.getAttribute('d')).join()")


def said(page): return page.inner_text(".cc-readout")


def test_keyboard_moves_the_point_and_the_words_follow(browser, tmp_path):
    with opened(browser, [Tangent()], tmp_path) as page:
        before = lines(page)
        page.focus(".cc-handle")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('x = −0.85')")
        assert lines(page) != before
        page.keyboard.press("Shift+ArrowLeft")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('x = −1.35')")
        handle = page.locator(".cc-handle")
        assert handle.get_attribute("aria-valuetext") == "-1.35, -1.40"
        assert handle.get_attribute("role") == "slider"
        page.wait_for_timeout(900)                               # the live region speaks when the figure has settled
        assert page.text_content(".cc-hidden") == said(page)


def test_mouse_drags_the_point(browser, tmp_path):
    with opened(browser, [Tangent()], tmp_path) as page:
        box = page.locator(".cc-knob").bounding_box()
        x, y = box["x"] + box["width"]/2, box["y"] + box["height"]/2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 200, y - 5, steps=5)
        page.mouse.up()
        page.wait_for_timeout(100)
        assert page.locator(".cc-knob").bounding_box()["x"] == pytest.approx(box["x"] + 200, abs=1.5)
        assert said(page).startswith("x = 0.")


def drag_finger(page, x, y, dx, dy):
    "A finger that goes down at (x, y) and moves by (dx, dy) in ten steps."
    touch = page.context.new_cdp_session(page)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for k in range(1, 11):
        at = {"x": x + dx*k/10, "y": y + dy*k/10}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [at]})
        page.wait_for_timeout(20)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(200)


def test_finger_drags_the_point_but_scrolls_elsewhere(browser, tmp_path):
    size = {"width": 390, "height": 300}
    with opened(browser, [Tangent(), Tangent()], tmp_path, has_touch=True, is_mobile=True, viewport=size) as page:
        target = page.locator(".cc-target").first.bounding_box()
        assert min(target["width"], target["height"]) >= 44
        box = page.locator(".cc-knob").first.bounding_box()
        drag_finger(page, box["x"] + box["width"]/2, box["y"] + box["height"]/2, 100, -60)
        assert page.evaluate("scrollY") == 0
        middle = page.locator(".cc-target").first.bounding_box()["x"] - target["x"]
        assert middle == pytest.approx(100, abs=2)
        plot = page.locator(".cc-plot").first.bounding_box()
        drag_finger(page, plot["x"] + 250, plot["y"] + 150, 0, -100)
        assert page.evaluate("scrollY") > 50


def test_beta_slider_recomputes_in_the_page(browser, tmp_path):
    with opened(browser, [BetaSlider(_noisy_wave()[1])], tmp_path) as page:
        assert said(page).startswith("β = 0.90: the newest point weighs 10 %, the last 10 points together 65 %")
        page.focus("input[type=range]")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('β = 0.91')")
        page.keyboard.press("End")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('β = 0.99')")
        assert page.get_attribute("input[type=range]", "aria-valuetext") == "0.99"
        before = lines(page)
        page.focus(".cc-handle")
        page.keyboard.press("Shift+ArrowLeft")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('At step 110')")
        page.uncheck("input[type=checkbox]")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('weights sum to 0.67')")
        assert lines(page) != before


def test_mouse_smoother_follows_pointer_and_keys_then_rests(browser, tmp_path):
    with opened(browser, [MouseSmoother()], tmp_path) as page:
        box = page.locator(".cc-pad").bounding_box()
        before = lines(page)
        for k in range(10): page.mouse.move(box["x"] + 100 + 40*k, box["y"] + 150)
        page.wait_for_timeout(300)
        assert lines(page) != before and page.locator(".cc-plot text", has_text="move over").count() == 0
        page.focus(".cc-pad")
        marker = page.locator(".cc-pad path[style*='--ink']")
        x = marker.bounding_box()["x"]
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(200)
        assert marker.bounding_box()["x"] < x - 15
        page.evaluate("""() => {
          const ask = window.requestAnimationFrame;
          window.asked = performance.now();
          window.requestAnimationFrame = (f) => { window.asked = performance.now(); return ask(f); };
        }""")
        page.wait_for_function("performance.now() - window.asked > 500", timeout=20_000)   # nobody moves: no frames


def test_played_movement_moves_only_where_motion_is_welcome(browser, tmp_path):
    for wish, moves in (("no-preference", True), ("reduce", False)):
        with opened(browser, [MouseSmoother()], tmp_path, reduced_motion=wish) as page:
            page.click("text=Play a movement")
            page.wait_for_timeout(400)
            first = lines(page)
            page.wait_for_timeout(300)
            assert (lines(page) != first) is moves, wish
            assert page.locator(".cc-line").first.get_attribute("d")


@pytest.mark.parametrize("dark", [False, True])
def test_colors_are_the_palette_of_the_theme(browser, tmp_path, dark):
    with opened(browser, [Tangent()], tmp_path, dark=dark) as page:
        names = [f"--c{i}" for i in range(6)]
        value = "n => getComputedStyle(document.querySelector('.cc')).getPropertyValue(n).trim()"
        seen = [page.evaluate(value, name) for name in names]
        assert tuple(seen) == (PALETTE_DARK if dark else PALETTE)
        stroke = page.evaluate("getComputedStyle(document.querySelector('.cc-line')).stroke")
        want = (PALETTE_DARK if dark else PALETTE)[0]
        assert stroke == "rgb({}, {}, {})".format(*(int(want[i:i+2], 16) for i in (1, 3, 5)))
        ink = page.evaluate("getComputedStyle(document.querySelector('.cc')).color")
        assert (ink == "rgb({}, {}, {})".format(*(int(INK[i:i+2], 16) for i in (1, 3, 5)))) is not dark


def test_figures_on_one_page_do_not_disturb_each_other(browser, tmp_path):
    with opened(browser, [Tangent(x=-1.5), Tangent(x=1.0)], tmp_path) as page:
        handles = page.locator(".cc-handle")
        other = handles.nth(1).get_attribute("transform")
        handles.nth(0).focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(100)
        assert page.locator(".cc-readout").nth(0).inner_text().startswith("x = −1.45")
        assert handles.nth(1).get_attribute("transform") == other


def test_one_step_is_taken_at_a_press(browser, tmp_path):
    with opened(browser, [OneStep()], tmp_path) as page:
        assert said(page).startswith("After 3 steps: w = −0.86, loss 0.37, slope −0.86. The next step is −0.30 × (−0.86) = 0.26")
        page.click("text=Take a step")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('After 4 steps: w = −0.60')")
        page.click("text=Back to the start")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('After 0 steps: w = −2.50')")
        page.focus(".cc-handle")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('w = −2.40')")


@pytest.mark.parametrize("wish", ["no-preference", "reduce"])
def test_the_ball_rolls_where_motion_is_welcome(browser, tmp_path, wish):
    with opened(browser, [BallInValley()], tmp_path, reduced_motion=wish) as page:
        assert said(page) == "β = 0.00: 179 steps to the bottom. Height of the swing: 0 % of the way, past the bottom."
        check_playing(page, "Let it roll", wish == "no-preference")
        page.evaluate("""() => { const s = document.querySelector('input[type=range]'); s.value = 0.9;
                                 s.dispatchEvent(new Event('input')); }""")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('β = 0.90: 132 steps')")
        assert "43 % of the way" in said(page)


def test_the_circle_and_what_breaks_it(browser, tmp_path):
    with opened(browser, [CyclingBall()], tmp_path) as page:
        assert "it never arrives. In the end it goes round" in said(page)
        for w in ("−1.80", "2.12", "0.65"): assert w in said(page)
        page.check("input[value=Nesterov]")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('Nesterov from w = 3.30: ')")
        assert "to a thousandth of the start" in said(page)
