"""One palette for the pages, matplotlib and the moving figures, and colors that stay apart for every reader.

Color blindness is simulated with the matrices of Machado, Oliveira & Fernandes (2009) at full severity; differences are CIEDE2000,
in which about 1 is just visible side by side and 10 is told apart at a glance, also between thin lines.
"""
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from cam_course.base.figures import INK, PALETTE, PALETTE_DARK, stylesheet

STATIC = Path(__file__).resolve().parent.parent/"book"/"_static"
SIGHT = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
DARK = "html[data-theme=dark] .cc, body[data-jp-theme-light=false] .cc, html[theme=dark] .cc, .vscode-dark .cc"
NAMES = ("blue", "red", "teal", "purple", "olive", "coal")


def linear(color: str) -> np.ndarray:
    "'#1F509C' -> linear RGB in [0, 1]."
    c = np.array([int(color[i:i+2], 16) for i in (1, 3, 5)])/255
    return np.where(c <= .04045, c/12.92, ((c + .055)/1.055)**2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    "Linear RGB -> CIE L*a*b* under D65."
    m = [[.4124564, .3575761, .1804375], [.2126729, .7151522, .0721750], [.0193339, .1191920, .9503041]]
    t = np.asarray(m) @ np.clip(rgb, 0, 1)/np.array([.95047, 1, 1.08883])
    f = np.where(t > (6/29)**3, np.cbrt(t), t/(3*(6/29)**2) + 4/29)
    return np.array([116*f[1] - 16, 500*(f[0] - f[1]), 200*(f[1] - f[2])])


def ciede2000(one: np.ndarray, two: np.ndarray) -> float:
    "Difference of two L*a*b* colors (Sharma, Wu & Dalal 2005)."
    (l1, a1, b1), (l2, a2, b2) = one, two
    c = (np.hypot(a1, b1) + np.hypot(a2, b2))/2
    g = .5*(1 - np.sqrt(c**7/(c**7 + 25**7)))
    a1, a2 = (1 + g)*a1, (1 + g)*a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    dh = 0 if c1*c2 == 0 else (h2 - h1 + 180) % 360 - 180
    dl, dc, dhh = l2 - l1, c2 - c1, 2*np.sqrt(c1*c2)*np.sin(np.radians(dh)/2)
    lm, cm = (l1 + l2)/2, (c1 + c2)/2
    hm = h1 + h2 if c1*c2 == 0 else (h1 + dh/2) % 360
    t = (1 - .17*np.cos(np.radians(hm - 30)) + .24*np.cos(np.radians(2*hm)) + .32*np.cos(np.radians(3*hm + 6))
         - .2*np.cos(np.radians(4*hm - 63)))
    sl = 1 + .015*(lm - 50)**2/np.sqrt(20 + (lm - 50)**2)
    sc, sh = 1 + .045*cm, 1 + .015*cm*t
    rt = -np.sin(np.radians(60*np.exp(-((hm - 275)/25)**2)))*2*np.sqrt(cm**7/(cm**7 + 25**7))
    return float(np.sqrt((dl/sl)**2 + (dc/sc)**2 + (dhh/sh)**2 + rt*dc/sc*dhh/sh))


def contrast(a: str, b: str) -> float:
    "WCAG's ratio of two colors."
    y = sorted(float(np.array([.2126, .7152, .0722]) @ linear(c)) for c in (a, b))
    return (y[1] + .05)/(y[0] + .05)


def test_the_difference_is_ciede2000():
    "Pairs 1, 7, 16, 17 and 25 of the paper's table of test data."
    table = [((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425), ((50, 0, 0), (50, -1, 2), 2.3669),
             ((50, 2.5, 0), (50, 0, -2.5), 4.3065), ((50, 2.5, 0), (73, 25, -18), 27.1492),
             ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644)]
    for one, two, wanted in table: assert ciede2000(one, two) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("palette", [PALETTE, PALETTE_DARK], ids=["light", "dark"])
def test_every_pair_of_the_palette_stays_apart(palette, sight):
    "At least 10 for every pair, whatever the eye."
    seen = [lab(np.asarray(SIGHT[sight]) @ linear(c)) for c in palette]
    least, pair = min((ciede2000(a, b), names) for (a, b), names in zip(
        itertools.combinations(seen, 2), itertools.combinations(NAMES, 2), strict=True))
    print(f"{sight}: nearest are {' and '.join(pair)}, {least:.1f} apart")
    assert least >= 10, pair


@pytest.mark.parametrize(("palette", "ground"), [(PALETTE, "#FFFFFF"), (PALETTE_DARK, "#16191F")], ids=["light", "dark"])
def test_lines_stand_out_from_their_ground(palette, ground):
    "WCAG 1.4.11: 3:1 for what is drawn."
    assert min(contrast(c, ground) for c in palette) >= 3


def variables(css: str, selector: str) -> dict[str, str]:
    "Custom properties that the rules of `selector` set, `var(...)` followed."
    found: dict[str, str] = {}
    for body in re.findall(r"^" + re.escape(selector) + r"\s*\{(.*?)\}", css, re.S | re.M):
        found |= {k: v.strip() for k, v in re.findall(r"(--[\w-]+)\s*:\s*([^;}]+)", body)}
    return {k: found.get(v[4:-1], v) if v.startswith("var(") else v for k, v in found.items()}


def test_pages_and_figures_share_the_palette():
    "custom.css (pages) = figures.PALETTE (matplotlib) = what the stylesheet of the moving figures sets, light and dark."
    css, moving = (STATIC/"custom.css").read_text(encoding="utf-8"), stylesheet()
    for theme, palette, selector in (("light", PALETTE, ".cc"), ("dark", PALETTE_DARK, DARK)):
        page, figure = variables(css, f'html[data-theme="{theme}"]'), variables(moving, selector)
        assert [page[f"--cc-{name}"] for name in NAMES] == list(palette)
        assert [figure[f"--c{i}"] for i in range(6)] == list(palette)
        assert page["--pst-color-primary"] == palette[0], "the pages' one blue is the palette's"
    assert variables(css, 'html[data-theme="light"]')["--pst-color-text-base"] == INK


@pytest.mark.parametrize(("file", "palette"), [("logo.svg", PALETTE), ("favicon.svg", PALETTE), ("logo-dark.svg", PALETTE_DARK)])
def test_logos_go_from_the_palettes_blue_to_its_red(file, palette):
    "A map in the book's own colors: the coldest cell is near the blue, the hottest near the red."
    svg = (STATIC/file).read_text(encoding="utf-8")
    cells = [lab(linear(c)) for c in re.findall(r'fill="(#\w{6})"', svg)]
    assert len(cells) in (16, 36) and "<title>" in svg
    for color in palette[:2]: assert min(ciede2000(c, lab(linear(color))) for c in cells) < 6
