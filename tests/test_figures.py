"""Plots, words and the Python half of the moving figures."""

import base64
import io
import json
import subprocess
import sys
import time

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")
import matplotlib.pyplot as plt
from PIL import Image

from cam_course.averages import BetaSlider, MouseSmoother, _noisy_wave
from cam_course.base import figures as fg
from cam_course.base.figures import Interactive, Tangent, bundle, label_lines, png, show, style


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_cheap():
    heavy = run("import sys, cam_course.base.figures, cam_course.averages\n"
                "print(sorted({'matplotlib', 'anywidget', 'IPython', 'PIL', 'torch'} & set(sys.modules)))")
    assert heavy.strip() == "[]"


def test_show_in_a_plain_process_prints_the_words():
    out = run("import matplotlib; matplotlib.use('agg')\nimport matplotlib.pyplot as plt\n"
              "from cam_course.base.figures import show\nshow(plt.figure(), 'two lines cross'); print(plt.get_fignums())")
    assert out.splitlines() == ["two lines cross", "[]"]


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


def a_plot():
    with style():
        fig, ax = plt.subplots()
        ax.plot(np.sin(np.arange(50)/5), color="C1", label="a")
    return fig


def test_png_is_opaque_small_sharp_and_repeatable():
    data = png(a_plot())
    image = Image.open(io.BytesIO(data))
    assert data == png(a_plot())
    assert image.width == 1008 and "transparency" not in image.info and image.mode in ("P", "RGB")
    assert len(data) < 40_000
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_color_names_mean_the_palette_even_after_the_block():
    pixels = np.asarray(Image.open(io.BytesIO(png(a_plot()))).convert("RGB")).reshape(-1, 3).astype(int)
    red = [int(fg.PALETTE[1][i:i+2], 16) for i in (1, 3, 5)]
    assert (np.abs(pixels - red).max(1) < 6).sum() > 500


def test_photographs_keep_their_colors():
    noise = np.random.default_rng(0).uniform(size=(200, 300, 3))
    with style():
        fig, ax = plt.subplots(figsize=(4, 3))
        ax.imshow(noise)
    assert Image.open(io.BytesIO(png(fig))).mode == "RGB"


def test_style_is_undone_after_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(KeyError), style(font_size=30): raise KeyError
    assert dict(matplotlib.rcParams) == before


def test_line_labels_do_not_touch_and_keep_their_order():
    with style():
        fig, ax = plt.subplots()
        for k in range(7): ax.plot([0, 1], [0, 1 + k/500], label=f"line {k}")
        ax.plot([0, 1], [np.nan, np.nan], label="_unlabelled")
        label_lines(ax)
        fig.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.texts]
    assert len(boxes) == 7
    for low, high in zip(boxes, boxes[1:], strict=False): assert high.y0 > low.y0 + 8 and not low.overlaps(high)
    assert all(b.x1 <= fig.bbox.width + 1 for b in boxes), "a label is cut off"


def test_line_labels_refuse_what_they_cannot_place():
    _, ax = plt.subplots()
    ax.plot([0, 1], [np.nan]*2, label="nowhere")
    with pytest.raises(ValueError, match="'nowhere' has no finite point"): label_lines(ax)
    with pytest.raises(ValueError, match="2 labels for 1 lines"): label_lines(ax, ["a", "b"])


def test_bundle_refuses_what_would_break_in_the_page(tmp_path):
    (tmp_path/"a.js").write_text("export const twice = 1;\n")
    (tmp_path/"b.js").write_text('import { twice } from "./a.js";\nconst twice = 2;\n')
    (tmp_path/"c.js").write_text('import { twice as two } from "./a.js";\n')
    (tmp_path/"d.js").write_text('import all from "./a.js";\n')
    with pytest.raises(ValueError, match=r"b.js and a.js both define 'twice'"): bundle(tmp_path/"b.js")
    with pytest.raises(ValueError, match="c.js renames an import"): bundle(tmp_path/"c.js")
    with pytest.raises(ValueError, match="d.js: write imports as"): bundle(tmp_path/"d.js")
    with pytest.raises(FileNotFoundError): bundle("no/such.js")


def test_bundle_takes_each_file_once_and_in_order(tmp_path):
    (tmp_path/"a.js").write_text("// said once\nexport const a = 1;\n")
    (tmp_path/"b.js").write_text('import { a } from "./a.js";\nexport const b = a + 1;\n')
    (tmp_path/"c.js").write_text('import { a } from "./a.js";\nimport { b } from "./b.js";\nexport default a + b;\n')
    assert bundle(tmp_path/"c.js") == "const a = 1;\n\nconst b = a + 1;\n\nexport default a + b;\n"


@pytest.mark.parametrize("make", [Tangent, lambda: BetaSlider(_noisy_wave()[1]), MouseSmoother])
def test_a_figure_carries_view_picture_and_words(make):
    figure = make()
    data, meta = figure._repr_mimebundle_()
    about = meta["image/png"]
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == figure.widget.model_id
    assert about["alt"] == data["text/plain"] == figure.alt() and len(figure.alt()) > 40
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.width == 1008 and abs(picture.height/picture.width - about["height"]/about["width"]) < .01
    assert repr(figure) == repr(make())
    assert not plt.get_fignums()
    state = figure.widget.get_state()
    assert json.dumps({k: v for k, v in state.items() if k != "layout"}, allow_nan=False)


def test_words_follow_the_state():
    figure = Tangent(x=0.5)
    before = figure.alt()
    figure.x = -0.5
    assert figure.alt() != before and "-0.50" in figure.alt()


def test_bad_state_changes_nothing():
    figure = Tangent()
    figure.widget   # noqa: B018   make it live
    with pytest.raises(ValueError, match="x must be finite, got inf"): figure.x = float("inf")
    with pytest.raises(Exception, match="'x' trait"): figure.x = "left"
    assert figure.x == figure.widget.x == -0.9


def test_arrays_and_bytes_reach_the_widget():
    class Holder(Interactive):
        js = "figures/tangent.js"
        values: list
        blob: bytes = b""
    figure = Holder(np.arange(3.)/2, b"\x00\x01")
    assert figure.widget.values == [0, .5, 1] and figure.widget.get_state()["blob"] == b"\x00\x01"
    with pytest.raises(ValueError, match="values must be finite, got nan"): figure.values = [1., float("nan")]
    with pytest.raises(NotImplementedError, match="Holder needs alt"): figure.alt()


def test_a_control_moved_in_a_live_kernel_reaches_python():
    from jupyter_client.manager import start_new_kernel
    manager, client = start_new_kernel()
    try:
        def execute(code):
            texts, opened = [], []
            def hook(message):
                kind, content = message["msg_type"], message["content"]
                if kind == "comm_open": opened.append(content)
                if kind in ("stream", "error"): texts.append(content.get("text") or content["evalue"])
            client.execute_interactive(code, timeout=60, output_hook=hook)
            return "".join(texts), opened
        text, comms = execute("from cam_course.averages import BetaSlider\nf = BetaSlider([1., 2., 3.])\nf")
        live = next(c for c in comms if "_esm" in c["data"]["state"])
        assert live["data"]["state"]["beta"] == 0.9, text
        data = {"method": "update", "state": {"beta": 0.75, "debias": False}, "buffer_paths": []}
        message = client.session.msg("comm_msg", {"comm_id": live["comm_id"], "data": data})
        client.shell_channel.send(message)
        for _ in range(20):
            text, _ = execute("print(f.beta, f.debias, f)")
            if "0.75" in text: break
            time.sleep(.1)
        assert text.strip() == "0.75 False BetaSlider(beta=0.75, debias=False, step=3)"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_show_needs_words():
    with pytest.raises(ValueError, match="alt is empty"): show(plt.figure(), "")
    with pytest.raises(ValueError, match="alt is given, but a Tangent says its own words: leave it out"): show(Tangent(), "a curve")


def test_show_takes_a_moving_figure_and_a_caption(capsys):
    show(Tangent(x=1.0), caption="The slope there is 0 at three points.")
    assert capsys.readouterr().out.splitlines() == [Tangent(x=1.0).alt(), "The slope there is 0 at three points."]


def test_caption_follows_the_picture(monkeypatch):
    shown = []
    monkeypatch.setattr(fg, "_in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, **kw: shown.append((data, kw)))
    show(Tangent(), caption="a < b")
    (first, about), (caption, _) = shown
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= first.keys()
    assert about["metadata"]["image/png"]["alt"] == Tangent().alt() == first["text/plain"]
    assert caption == {"text/html": '<p class="caption">a &lt; b</p>', "text/plain": "a < b"}
