"The widgets that need a kernel: their controls, moved by code as a mouse would, do what they say and leave no trace."
import base64
import io
import re
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cam_course.base.rendering import enlarge, image_html, overlay
from cam_course.data import shapes
from cam_course.gradcam import GradCAM, live_cam, live_photograph
from cam_course.lr_finder import DataBatches, LRFinder, live_range_test
from cam_course.photographs import imagenet_net
from cam_course.resnet import ResNet18
from cam_course.transforms import Normalize

pytest.importorskip("ipywidgets", reason="the live parts need ipywidgets")


def pictures(page: str) -> list[np.ndarray]:
    "The pictures inside a piece of HTML."
    found = re.findall(r'<img alt="[^"]+" src="data:image/png;base64,([^"]+)">', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(f))).convert("RGB")) for f in found]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return ResNet18(width=2).train()


def test_a_picture_travels_inside_its_tag():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    page = image_html(image, 'a "map" of <cats> & dogs')
    assert np.array_equal(pictures(page)[0], image)
    assert 'alt="a &quot;map&quot; of &lt;cats&gt; &amp; dogs"' in page
    assert np.array_equal(pictures(image_html(np.float32(image/255), "floats"))[0], image)


def test_a_click_runs_the_range_test_and_changes_nothing(net):
    data, before = shapes(130, seed=1), {k: v.clone() for k, v in net.state_dict().items()}
    finder = LRFinder(net, lambda p: torch.optim.SGD(p, lr=0.1), nn.functional.cross_entropy)
    ends, steps, button, shown = live_range_test(finder, DataBatches(data, 64)).children
    assert not shown.value                          # nothing is computed before the click
    steps.value = 20
    button.click()
    alone = finder.range_test(DataBatches(data, 64), 1e-7, 10, 20, progress=False)
    assert len(pictures(shown.value)) == 1 and str(alone).splitlines()[0] in shown.value
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and net.training
    ends.value = (2, 2)                             # an empty range: the error is shown, and the button lives on
    button.click()
    assert "ValueError: end_lr" in shown.value and not button.disabled


def test_live_cam_draws_what_its_controls_say(net):
    data = shapes(4, seed=2)
    normalize = Normalize.of(data)
    box = live_cam(net, data.x, normalize, data.class_names)
    (number, layer), (target, opacity), shown = box.children[0].children, box.children[1].children, box.children[2]
    assert (number.min, number.max, opacity.min, opacity.max) == (0, 3, 0, 1)
    assert "layer4" not in layer.options            # 4 px: under the rule of five
    number.value, layer.value, target.value, opacity.value = 3, "layer2", 5, 0.7
    cam = GradCAM(net, "layer2")(normalize(data.x[3:]), 5)[0]
    image, covered = pictures(shown.value)
    assert np.array_equal(image, enlarge(data.x[3]))
    assert np.array_equal(covered, overlay(enlarge(data.x[3]), cam, 0.7, "viridis"))
    assert data.class_names[5] in shown.value and "layer2" in shown.value and net.training


def upload_of(content: bytes) -> tuple[dict, ...]:
    return ({"name": "mine", "type": "image/png", "size": len(content), "content": content,
             "last_modified": datetime(2026, 1, 1, tzinfo=UTC)},)


def test_an_uploaded_photograph_is_mapped_and_a_bad_file_is_refused_in_words():
    net = imagenet_net("squeezenet", "untrained")
    box = live_photograph(net)
    (upload, answer), shown = box.children[0].children, box.children[1]
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), np.uint8)).save(file := io.BytesIO(), "PNG")
    upload.value = upload_of(file.getvalue())
    first = pictures(shown.value)
    assert [p.shape for p in first] == [(net.size, net.size, 3)]*2 and len(answer.options) == 10
    answer.index = 1
    second = pictures(shown.value)
    assert np.array_equal(first[0], second[0]) and not np.array_equal(first[1], second[1])
    upload.value = upload_of(b"no image")
    assert "no image that Pillow can read" in shown.value


def test_the_older_ipywidgets_hand_over_a_dict():
    from cam_course.gradcam import _uploaded
    assert _uploaded({"mine.png": {"content": b"bytes"}}).read() == b"bytes"
    with pytest.raises(ValueError, match="no file"):
        _uploaded(())
