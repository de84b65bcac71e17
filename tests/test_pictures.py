"Overlays and the pictures they are laid over: exact at both ends, every kind of photograph taken or refused."
import numpy as np
import pytest
import torch

from cam_course.base.rendering import as_rgb, enlarge_map, heat_map, overlay


def test_overlay_is_what_its_opacity_says():
    rng = np.random.default_rng(0)
    image, cam = rng.integers(0, 256, (37, 23, 3), dtype=np.uint8), rng.random((37, 23), dtype=np.float32)
    assert np.array_equal(overlay(image, cam, 0), image)
    assert np.array_equal(overlay(image, cam, 1), heat_map(cam))
    half = .5*image.astype(float) + .5*heat_map(cam)
    assert np.array_equal(overlay(image, cam, .5), np.rint(half))
    grey = np.full((8, 8, 3), 102, np.uint8)
    assert (overlay(grey, np.zeros((8, 8)), 0) == 102).all()  # grad-cam brightens it to 255
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert np.array_equal(overlay(tensor, torch.from_numpy(cam), 0), image)  # RGB stays RGB
    floats = image.astype(np.float32)/255
    assert np.array_equal(overlay(floats, cam, 0), floats)
    assert (heat_map(np.ones((2, 2))) == heat_map(np.ones((2, 2)))[0, 0]).all() and heat_map(np.ones((1, 1)))[0, 0, 0] > 100


def test_overlay_enlarges_the_map_as_the_library_does():
    import cv2

    cam = np.random.default_rng(0).random((8, 5), dtype=np.float32)
    want = heat_map(np.clip(cv2.resize(cam, (23, 37)), 0, 1)).astype(int)
    got = overlay(np.zeros((37, 23, 3), np.uint8), cam, 1).astype(int)
    assert (want != got).mean() < .01  # float32 rounding at the edge of a color


def test_pictures_of_all_kinds():
    from PIL import Image

    rgb = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(rgb)
    grey = picture.convert("L")
    assert np.array_equal(as_rgb(picture), rgb)
    assert np.array_equal(as_rgb(grey), np.asarray(grey)[..., None].repeat(3, 2))
    assert np.array_equal(as_rgb(torch.from_numpy(rgb).permute(2, 0, 1)[:1]), rgb[..., :1].repeat(3, 2))
    assert np.array_equal(as_rgb(picture.convert("RGBA")), rgb)  # opaque
    clear = np.dstack([rgb, np.full((9, 7), 128, np.uint8)])
    for image, words in [
        (clear, "transparency"), (rgb.astype(np.uint16)*257, "16 bits: image / 65535"), (picture.convert("P"), "convert"),
        (picture.convert("CMYK"), "convert"), (rgb.astype(np.float32), r"outside \[0, 1\]"), (rgb[None], "one image"),
        (np.full((4, 4, 3), np.nan), "outside"), (Image.fromarray((rgb[..., 0]).astype(np.int32), "I"), "int32"),
        (rgb[:0], "one image"),
    ]:
        with pytest.raises(ValueError, match=words):
            overlay(image, np.zeros((4, 4)))


@pytest.mark.parametrize(("cam", "words"), [
    (np.full((4, 4), np.nan), "not finite"), (np.full((4, 4), 1.01), r"\[0, 1\]"), (np.zeros((1, 4, 4)), "one map"),
    (-np.ones((4, 4)), r"\[0, 1\]"), (np.zeros((0, 0)), "one map")])
def test_maps_that_can_t_be_drawn(cam, words):
    with pytest.raises(ValueError, match=words):
        overlay(np.zeros((4, 4, 3), np.uint8), cam)
    with pytest.raises(ValueError, match="opacity"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), 1.2)


@pytest.mark.parametrize("size", [(1, 1), (31, 17), (3, 200), (227, 227)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_any_photograph_comes_back_whole(mode, size):
    from PIL import Image

    rgb = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    photo, cam = Image.fromarray(rgb).convert(mode), np.random.default_rng(2).random((8, 8), dtype=np.float32)
    want = np.asarray(photo.convert("RGB"))
    assert np.array_equal(overlay(photo, cam, 0), want)  # the image bit for bit, red where it was red
    assert np.array_equal(overlay(photo, cam, 1), heat_map(enlarge_map(cam, size)))


def test_sixteen_bits_are_refused_until_divided(tmp_path):
    from PIL import Image

    deep = np.random.default_rng(3).integers(0, 2**16, (9, 7), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path/"deep.png")
    with Image.open(tmp_path/"deep.png") as photo:
        with pytest.raises(ValueError, match=r"16 bits: image / 65535"):
            overlay(photo, np.zeros((4, 4)))
        ready = np.asarray(photo)/65535
    shown = overlay(ready, np.zeros((4, 4)), 0)
    assert shown.dtype == np.float32 and np.array_equal(shown, ready.astype(np.float32)[..., None].repeat(3, 2))
