"The explorer of maps: JavaScript computes what Python computes, and the page answers to its controls."
import numpy as np
import pytest
import torch
from figpage import opened
from jsbox import load

from cam_course.base.cam_explorer import _enlarged, explore_maps
from cam_course.base.rendering import enlarge, enlarge_map, heat_map, overlay

NAMES = ["cat", "dog", "<b>"]


def explorer(**settings):
    "Two images of 16x24; in layer3 the first class has no evidence, the last the most."
    raw = {"layer2": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
           "layer3": torch.stack([torch.full((4, 6), -1.), torch.eye(6)[:4], torch.ones(4, 6)*2]).repeat(2, 1, 1, 1)}
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    figure = explore_maps(images, raw, NAMES)
    for name, value in settings.items():
        setattr(figure, name, value)
    return figure, images, raw


@pytest.mark.parametrize("size", [(32, 20), (33, 47), (8, 5), (3, 2), (320, 320)])
def test_enlarging_is_the_same_three_times(size):
    js, cam = load("math/cams.js"), np.random.default_rng(1).random((8, 5))
    want = _enlarged(cam, size)
    assert np.array_equal(np.array(js("enlargeMap", cam.flatten(), 8, 5, *size), dtype=np.float32).reshape(size), want)
    assert np.abs(want - enlarge_map(cam, size)).max() <= 1e-6


@pytest.mark.parametrize("opacity", [0, .3, .5, 1])
@pytest.mark.parametrize("cmap", ["jet", "viridis"])
def test_the_page_mixes_what_overlay_mixes(opacity, cmap):
    js, rng = load("math/cams.js"), np.random.default_rng(2)
    photo, cam = rng.integers(0, 256, (8, 6, 3), dtype=np.uint8), rng.random((3, 4))
    cam[0, 0], cam[-1, -1] = 0, 1
    colors = heat_map(np.arange(256)[None]/255, cmap)
    large = enlarge(photo, 40)
    heat = _enlarged(cam, large.shape[:2])
    got = np.array(js("blend", photo.flatten(), 6, 5, heat.flatten(), colors.flatten(), opacity)).reshape(large.shape)
    exact = (1 - opacity)*large.astype(np.float64) + opacity*heat_map(heat, cmap).astype(np.float64)
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-9)
    assert np.abs(got - overlay(large, heat, opacity, cmap)).max() <= .5 + 1e-9  # Python rounds


def test_one_scale_or_each_its_own():
    js = load("math/cams.js")
    figure, _, raw = explorer(layer=1)
    for k in range(3):
        for shared in (True, False):
            figure.target, figure.shared = k, shared
            factor = js("sharedFactor", figure.peaks[0][1], k, shared)
            want = raw["layer3"][0, k].clamp(min=0).numpy()
            want = want/2 if shared else want/max(want.max(), 1e-9)
            assert np.abs(figure.cam() - want).max() <= .5/255 + 1e-6
            assert np.abs(figure.cam().max() - factor) <= 1e-9


def test_what_the_figure_holds():
    figure, images, raw = explorer()
    assert (figure.layer, figure.target) == (1, 2)  # the last layer, and there the class with the most evidence
    assert figure.peaks[1][1] == [-1, 1, 2] and figure.sides == [[8, 8], [4, 6]] and figure.size == [16, 24]
    assert figure.pixels == images.tobytes() and len(figure.maps) == 2*3*(64 + 24)
    figure.layer = figure.target = 0
    for figure.image in (0, 1):
        first = raw["layer2"][figure.image, 0].clamp(min=0)
        assert np.abs(figure.cam() - (first/raw["layer2"][figure.image].max()).numpy()).max() <= .5/255 + 1e-3
    figure.layer = 1
    assert "no positive evidence" in figure.alt() and not figure.cam().any()


@pytest.mark.parametrize(("change", "words"), [
    ({"class_names": ["cat", "dog"]}, r"2 images and 2 classes give maps \(2, 2, 'h', 'w'\)"), ({"raw": {}}, "give maps"),
    ({"titles": ["one"]}, "1 titles"), ({"layer": "layer4"}, "unknown layer .layer4."), ({"target": "cow"}, "unknown class .cow."),
    ({"images": [np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)]}, "several sizes"),
    ({"raw": {"layer2": torch.full((2, 3, 4, 4), torch.nan)}}, "not finite"),
])
def test_wrong_maps(change, words):
    _, images, raw = explorer()
    with pytest.raises(ValueError, match=words):
        explore_maps(**{"images": images, "raw": raw, "class_names": NAMES, **change})


def test_the_page_answers(browser, tmp_path):
    figure, images, _ = explorer(opacity=0., shared=False)
    with opened(browser, [figure], tmp_path) as page:
        canvas = "document.querySelector('canvas')"
        side = page.evaluate(f"{canvas}.width")//24

        def at(column, row):
            x, y = column*side + side//2, row*side + side//2
            return page.evaluate(f"Array.from({canvas}.getContext('2d').getImageData({x}, {y}, 1, 1).data)")[:3]

        assert at(5, 7) == images[0, 7, 5].tolist() and at(23, 15) == images[0, 15, 23].tolist()  # opacity 0: the image
        page.locator("input[data-trait=image][value='1']").check(force=True)  # the second image
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('image 1')")
        assert at(5, 7) == images[1, 7, 5].tolist()
        page.focus("input[type=range]")
        page.keyboard.press("End")
        page.wait_for_function(f"{canvas}.getAttribute('aria-label').includes('opacity 1.00')")
        assert at(5, 7) == heat_map(np.ones((1, 1)), "viridis")[0, 0].tolist()  # this class is 2 everywhere: its maximum
        page.select_option("select", label="cat")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('no positive evidence')")
        assert at(5, 7) == heat_map(np.zeros((1, 1)), "viridis")[0, 0].tolist()
        page.locator("input[data-trait=layer][value='0']").check(force=True)
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('layer2, 8x8, for cat')")
