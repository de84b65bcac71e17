"Small things of the maps that only a wrong program would show; each was once a surviving mutant (see mutants.py)."
import pytest
import torch
from cams import Small, images

from cam_course.base.target_layers import spatial_layers
from cam_course.data import shapes
from cam_course.gradcam import GradCAM, _seen, gradcam_steps


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


@pytest.mark.parametrize("setting", ["min_size", "batch_size"])
def test_whole_numbers_are_wanted(small, setting):
    with pytest.raises(ValueError, match=setting): GradCAM(small, "conv2", **{setting: 2.5})
    assert getattr(GradCAM(small, "conv2", **{setting: 1}), setting) == 1


def test_an_image_of_one_pixel_has_layers_too(small):
    assert {(layer.height, layer.width) for layer in spatial_layers(small, (1, 1))} == {(1, 1)}


def test_the_steps_end_in_the_map(small):
    "Each step follows from the one before, and the last is what `GradCAM` gives."
    x = images()
    steps = gradcam_steps(small, x[0], "conv2", 2)
    torch.testing.assert_close(steps.weights, steps.gradients.mean((1, 2)))
    torch.testing.assert_close(steps.summed, (steps.weights[:, None, None]*steps.activations).sum(0))
    torch.testing.assert_close(steps.heat, GradCAM(small, "conv2")(x[:1], 2)[0], rtol=0, atol=1e-6)


def test_words_below_a_map(small):
    "Positive evidence is told with its peak, none as such."
    data = shapes(1, seed=0)
    found = GradCAM(small, "conv2").explain(images()[:1], 1)
    k = int(found.targets[0])
    for sign in (1, -1):
        turned = type(found)(found.layers, tuple(sign*r.abs() for r in found.raw), found.logits, found.targets, found.image_size)
        said = _seen(data.x[0], turned, 0.5, [f"class {i}" for i in range(10)])
        peak = float(turned.raw_max[0, 0])
        assert (f"highest evidence {peak:.2f}" if sign > 0 else "no positive evidence") in said and f"class {k}, " in said
