"""What holds for every moving figure of the book: readable on a phone, controls with names, small, quick to start."""

import json
from collections.abc import Callable
from gzip import compress

import numpy as np
import pytest
import torch
from figpage import opened
from test_landscape import film

from cam_course.adversarial import AttackExplorer, PixelModel, attack_trace, explore_attack
from cam_course.averages import BetaSlider, MouseSmoother, noisy_wave
from cam_course.data import shapes
from cam_course.explorer import CamExplorer, explore_maps
from cam_course.figures import Interactive, Tangent, bundle, stylesheet
from cam_course.localisation import MapThreshold, centre_prior, edge_map
from cam_course.lr_curve import FourRules
from cam_course.models.resnet import ResNet18
from cam_course.momentum import PhaseDiagram
from cam_course.noise import NoiseEscape
from cam_course.optimizers import OptimizerRace
from cam_course.plateau import PlateauWatch
from cam_course.schedules import OneCycleShape
from cam_course.surfaces import LearningRate
from cam_course.transforms import Normalize


def map_threshold() -> MapThreshold:
    data = shapes(6)
    maps = {"edges": edge_map(data.x, 8), "centre": centre_prior((8, 8)).expand(6, -1, -1)}
    return MapThreshold.of(data.x, data.masks[:, 0], maps, [data.class_names[c] for c in data.y])


def cam_explorer() -> CamExplorer:
    torch.manual_seed(0)
    maps = {f"layer{k}": torch.rand(3, 10, 2**(6 - k), 2**(6 - k)) for k in (1, 2, 3, 4)}
    pictures = np.zeros((3, 32, 32, 3), np.uint8)
    return explore_maps(pictures, maps, [f"class {k}" for k in range(10)], ["horse", "ship", "dog, called deer"])


def attack() -> AttackExplorer:
    torch.manual_seed(0)
    model = PixelModel(ResNet18(width=4).eval(), Normalize((0.5,)*3, (0.25,)*3))
    return explore_attack(attack_trace(model, torch.rand(3, 32, 32), 0, steps=4, target=7), [f"class {k}" for k in range(10)])


CHAPTERS: dict[str, list[Callable[[], Interactive]]] = {
    "01": [Tangent],
    "02": [lambda: BetaSlider(noisy_wave()[1]), MouseSmoother],
    "03": [LearningRate],
    "04": [PhaseDiagram],
    "05": [OptimizerRace],
    "06": [NoiseEscape],
    "20": [FourRules],
    "21": [OneCycleShape, PlateauWatch],
    "22": [film],
    "29": [cam_explorer],
    "30_localisation": [map_threshold],
    "32": [attack],
}
KINDS = {f"{chapter}-{i}": make for chapter, makers in CHAPTERS.items() for i, make in enumerate(makers, 1)}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("width", [390, 760])
def test_no_figure_is_wider_than_its_page_or_too_small_to_read(browser, tmp_path, name, width):
    with opened(browser, [KINDS[name]()], tmp_path, viewport={"width": width, "height": 900}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".widget-still").is_hidden()
        sizes = page.eval_on_selector_all(".cc *", """nodes => nodes
          .filter((n) => n.textContent.trim() && n.getClientRects().length && !n.closest('.cc-hidden'))
          .map((n) => parseFloat(getComputedStyle(n).fontSize))""")
        assert min(sizes) >= 12
        inside = page.evaluate("""() => {
            const frame = document.querySelector('.cc').getBoundingClientRect();
            return [...document.querySelectorAll('.cc-plot text')].map((t) => t.getBoundingClientRect())
              .every((b) => b.left >= frame.left - 1 && b.right <= frame.right + 1);
        }""")
        assert inside, "a text leaves the frame"


@pytest.mark.parametrize("name", KINDS)
def test_every_control_has_a_name(browser, tmp_path, name):
    with opened(browser, [KINDS[name]()], tmp_path) as page:
        controls = ".cc input, .cc button, .cc select, .cc svg, .cc [tabindex]"
        nameless = page.evaluate("""(controls) => [...document.querySelectorAll(controls)]
          .filter((n) => !(n.labels?.length || n.getAttribute('aria-label') || n.textContent.trim()))
          .map((n) => n.outerHTML)""", controls)
        assert nameless == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_stays_small_and_starts_at_once(browser, tmp_path, chapter):
    "What its figures add to the page is at most 60 kB gzipped; they can be used 1.2 s after the page was asked for."
    figures = [make() for make in CHAPTERS[chapter]]
    states = [json.dumps({k: v for k, v in f.widget.get_state().items()
                          if k not in ("_esm", "_css") and not isinstance(v, bytes | memoryview)}, default=str)
              for f in figures]
    binary = sum(len(v) for f in figures for v in f.widget.get_state().values() if isinstance(v, bytes | memoryview))
    code = {bundle(f.js) for f in figures} | {stylesheet()}
    wire = sum(len(compress(text.encode())) for text in [*code, *states]) + binary
    assert wire < 60_000, f"{wire} bytes"
    with opened(browser, figures, tmp_path) as page:
        times = []
        for _ in range(5):                                       # the best of five: the machine has other work too
            page.reload()
            page.wait_for_function(f"document.querySelectorAll('.cc-readout').length === {len(figures)}")
            times.append(page.evaluate("performance.now()"))
        print(f"chapter {chapter}: {wire/1e3:.1f} kB, {min(times):.0f} ms")
        assert min(times) < 1200


def test_every_figure_class_is_tested():
    "A new subclass of `Interactive` must be added to CHAPTERS."
    import importlib
    import pkgutil

    import cam_course
    for module in pkgutil.iter_modules(cam_course.__path__):
        importlib.import_module(f"cam_course.{module.name}")
    known = {type(make()) for make in KINDS.values()}
    missing = {c.__name__ for c in Interactive.__subclasses__() if c.__module__.startswith("cam_course.")} - {c.__name__ for c in known}
    assert not missing, sorted(missing)
