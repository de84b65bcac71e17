"""What holds for every moving figure of the book: readable on a phone, controls with names, small, quick to start."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from gzip import compress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from figpage import opened, shown, write_page
from test_landscape import edge, film

from cam_course.adversarial import AttackExplorer, PixelModel, _attack_trace, explore_attack
from cam_course.averages import BetaSlider, MouseSmoother, _noisy_wave
from cam_course.base.cam_explorer import CamExplorer, explore_maps
from cam_course.base.figures import Interactive, Tangent, bundle, stylesheet
from cam_course.base.lr_curve import FourRules, LRFinderResult, _valley_loss
from cam_course.base.page_network import (
    AttackPicture,
    ForgetLayers,
    LiveRangeTest,
    PaintOver,
    TeachIt,
    YourPhotograph,
    YourPicture,
)
from cam_course.data import shapes
from cam_course.descent import LearningRate, OneStep
from cam_course.gallery import Misclassified, WouldYouKnow, practice_images
from cam_course.gradient_noise import NoiseFloor
from cam_course.localization import MapThreshold, center_prior, edge_map
from cam_course.lr_finder import WatchedRangeTest
from cam_course.momentum import BallInValley, CyclingBall, PhaseDiagram
from cam_course.optimizers import OptimizerPath, OptimizerRace
from cam_course.plateau import PlateauWatch
from cam_course.resnet import ResNet18
from cam_course.saddles import FlatGround, NoiseEscape
from cam_course.schedules import OneCycleShape, ScheduleChoice
from cam_course.transforms import Normalize, drawn_again
from cam_course.weight_averaging import AveragedWalk
from cam_course.which_optimizer import FairRace


def map_threshold() -> MapThreshold:
    data = shapes(6)
    maps = {"edges": edge_map(data.x, 8), "centre": center_prior((8, 8)).expand(6, -1, -1)}
    return MapThreshold.of(data.x, data.masks[:, 0], maps, [data.class_names[c] for c in data.y])


def cam_explorer() -> CamExplorer:
    torch.manual_seed(0)
    maps = {f"layer{k}": torch.rand(3, 10, 2**(6 - k), 2**(6 - k)) for k in (1, 2, 3, 4)}
    pictures = np.zeros((3, 32, 32, 3), np.uint8)
    return explore_maps(pictures, maps, [f"class {k}" for k in range(10)], ["horse", "ship", "dog, called deer"])


def attack() -> AttackExplorer:
    torch.manual_seed(0)
    model = PixelModel(ResNet18(width=4).eval(), Normalize((0.5,)*3, (0.25,)*3))
    return explore_attack(_attack_trace(model, torch.rand(3, 32, 32), 0, steps=4, target=7), [f"class {k}" for k in range(10)])


def would_you_know() -> WouldYouKnow:
    torch.manual_seed(0)
    data = practice_images(60)
    return WouldYouKnow.of(Misclassified.find(ResNet18(width=4).eval(), data, None), data, 12)


def watched() -> WatchedRangeTest:
    u = np.linspace(-7, 1, 100)
    loss = _valley_loss(u) + np.random.default_rng(0).normal(0, 0.05, 100)
    return WatchedRangeTest.of(LRFinderResult(10**u, loss))


CHAPTERS: dict[str, list[Callable[[], Interactive]]] = {   # by the module
    "figures": [Tangent],
    "averages": [lambda: BetaSlider(_noisy_wave()[1]), MouseSmoother],
    "descent": [OneStep, LearningRate],
    "momentum": [BallInValley, CyclingBall, PhaseDiagram],
    "optimizers": [OptimizerRace, OptimizerPath],
    "which_optimizer": [FairRace],
    "noise": [NoiseEscape, FlatGround],
    "gradient_noise": [NoiseFloor],
    "weight_averaging": [AveragedWalk],
    "transforms": [lambda: drawn_again(shapes(1).x[0], (128, 128, 128))],
    "lr_curve": [FourRules, watched],
    "schedules": [ScheduleChoice, OneCycleShape, PlateauWatch],
    "landscape": [edge, film],
    "explorer": [cam_explorer],
    "localisation": [map_threshold],
    "adversarial": [attack],
    "gallery": [would_you_know],
    "laboratory": [YourPicture, ForgetLayers, PaintOver, AttackPicture, YourPhotograph, LiveRangeTest, TeachIt],
}
KINDS = {f"{chapter}-{i}": cache(make) for chapter, makers in CHAPTERS.items() for i, make in enumerate(makers, 1)}


def figures_of(chapter: str) -> list[Interactive]: return [KINDS[f"{chapter}-{i + 1}"]() for i in range(len(CHAPTERS[chapter]))]


def misfits(page: Any, width: int) -> Iterator[str]:
    "What a phone's reader would complain about."
    if (wide := page.evaluate("document.documentElement.scrollWidth")) > width: yield f"{wide} px wide"
    if page.locator(".widget-still:visible").count(): yield "a still picture shows"
    sizes = page.eval_on_selector_all(".cc *", """nodes => nodes
      .filter((n) => n.textContent.trim() && n.getClientRects().length && !n.closest('.cc-hidden'))
      .map((n) => parseFloat(getComputedStyle(n).fontSize))""")
    if min(sizes) < 12: yield f"words of {min(sizes)} px"
    outside = page.evaluate("""() => [...document.querySelectorAll('.cc')].flatMap((figure) => {
        const frame = figure.getBoundingClientRect();
        return [...figure.querySelectorAll('.cc-plot text')].filter((t) => { const b = t.getBoundingClientRect();
          return b.left < frame.left - 1 || b.right > frame.right + 1; }).map((t) => t.textContent);
    })""")
    yield from (f"the text {t!r} leaves the frame" for t in outside)


def nameless(page: Any, width: int) -> Iterator[str]:
    "Controls of which a screen reader would say no name."
    for control in page.evaluate("""() => [...document.querySelectorAll(
            ".cc input, .cc button, .cc select, .cc svg, .cc [tabindex]")]
          .filter((n) => !(n.labels?.length || n.getAttribute('aria-label') || n.textContent.trim()))
          .map((n) => n.outerHTML.slice(0, 120))"""): yield f"a control without a name: {control}"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, tuple[Path, int]]:
    "A page for each chapter's figures, and their number; made once, since the still pictures take their time."
    folder = tmp_path_factory.mktemp("figures")
    return {name: (write_page(figures_of(name), folder/f"{name}.html"), len(CHAPTERS[name])) for name in CHAPTERS}


def test_every_figure_fits_its_page_and_names_its_controls(browser, pages):
    "On a phone and on a wide screen: none is wider than its page or too small to read, none writes an error."
    bad = []
    for name, (path, figures) in pages.items():
        for width in (390, 760):
            at = f"{name} at {width} px"
            try:
                with shown(browser, path, figures, viewport={"width": width, "height": 900}) as page:
                    bad += [f"{at}: {what}" for rule in (misfits, nameless) for what in rule(page, width)]
            except Exception as e: bad.append(f"{at}: {e}")
    assert not bad, "\n".join(bad)


SPOILED = {   # what a script does to a figure -> what is said of it
    "document.querySelector('.cc').style.minWidth = '2000px'": "px wide",
    "document.querySelector('.widget-still').style = 'display: block !important'": "a still picture shows",
    "document.querySelector('.cc-readout').style.fontSize = '11px'": "words of 11 px",
    "document.querySelector('.cc-plot text').setAttribute('x', -500)": "leaves the frame",
    "document.querySelector('.cc').append(document.createElement('button'))": "without a name: <button",
}


def test_a_figure_that_does_not_fit_is_seen(browser, tmp_path):
    with opened(browser, [Tangent()], tmp_path) as page:
        for script, said in SPOILED.items():
            page.reload()
            page.wait_for_selector(".cc-readout")
            page.evaluate(script)
            assert any(said in what for rule in (misfits, nameless) for what in rule(page, 760)), said


def wire(figures: list[Interactive]) -> int:
    "Gzipped bytes that figures add to a page."
    states = [json.dumps({k: v for k, v in f.widget.get_state().items()
                          if k not in ("_esm", "_css") and not isinstance(v, bytes | memoryview)}, default=str)
              for f in figures]
    binary = sum(len(v) for f in figures for v in f.widget.get_state().values() if isinstance(v, bytes | memoryview))
    code = {bundle(f.js) for f in figures} | {stylesheet()}
    return sum(len(compress(text.encode())) for text in [*code, *states]) + binary


def test_every_chapter_stays_small_and_starts_at_once(browser, pages):
    "What its figures add to the page is less than 60 kB gzipped; they can be used 1.2 s after the page was asked for."
    bad = []
    for chapter, (path, figures) in pages.items():
        times: list[float] = []
        if (size := wire(figures_of(chapter))) >= 60_000: bad.append(f"{chapter}: {size} bytes")
        with shown(browser, path, figures) as page:
            while not times or (min(times) >= 1200 and len(times) < 5):   # the best of five: the machine has other work too
                page.reload()
                page.wait_for_function(f"document.querySelectorAll('.cc-readout').length === {figures}")
                times.append(page.evaluate("performance.now()"))
        print(f"chapter {chapter}: {size/1e3:.1f} kB, {min(times):.0f} ms")
        if min(times) >= 1200: bad.append(f"{chapter}: {min(times):.0f} ms")
    assert not bad, "\n".join(bad)


def test_every_figure_class_is_tested():
    "A new subclass of `Interactive` must be added to CHAPTERS."
    import importlib
    import pkgutil

    import cam_course
    for module in pkgutil.walk_packages(cam_course.__path__, "cam_course."):
        if not module.name.endswith("__main__"): importlib.import_module(module.name)
    known = {type(make()) for make in KINDS.values()}

    def kinds(parent: type) -> set[type]:
        "Those that are figures, not what several share."
        found = [c for c in parent.__subclasses__() if c.__module__.startswith("cam_course.")]
        return set().union(*map(kinds, found)) if found else {parent}

    missing = {c.__name__ for c in kinds(Interactive) - known}
    assert not missing, sorted(missing)
