"""Photographs: every kind of file taken as torchvision takes it or refused, weights from files and torchvision's cache."""

import hashlib
import io
import urllib.error
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models
from torchvision.transforms import functional as TF

from cam_course import photographs
from cam_course.base.core import DataError
from cam_course.base.target_layers import suggest_layer
from cam_course.gradcam import GradCAM
from cam_course.photographs import imagenet_net, load_photograph, photograph_data, sample_photographs

SHARED = Path(__file__).parents[2]/"shared"/"imagenet"


def scene(width=300, height=260):
    "A picture with a bright upper left corner, smooth so that JPEG and scaling keep it."
    down, across = np.mgrid[:height, :width]
    return np.stack([255 - 255*across/width, 255 - 255*down/height, 128 + 0*down], 2).astype(np.uint8)


@pytest.mark.parametrize("shape", [(300, 260), (260, 301), (227, 500), (60, 41), (256, 256), (1001, 333)])
@pytest.mark.parametrize("size", [224, 227])
def test_loads_as_torchvision_does(shape, size):
    image = Image.fromarray(scene(*shape))
    expected = TF.pil_to_tensor(TF.center_crop(TF.resize(image, 256), size))
    assert torch.equal(load_photograph(image, size), expected)


def test_the_whole_preprocessing_is_torchvision_s():
    image, net = Image.fromarray(scene()), imagenet_net("squeezenet", "untrained")
    theirs = models.SqueezeNet1_0_Weights.IMAGENET1K_V1.transforms()(image)
    ours = net.normalize(load_photograph(image, 224)[None])[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def saved(image, tmp_path, name, **options):
    image.save(tmp_path/name, **options)
    return tmp_path/name


@pytest.mark.parametrize(("name", "make"), [
    ("grey.png", lambda im: im.convert("L")), ("palette.png", lambda im: im.convert("P")),
    ("cmyk.jpg", lambda im: im.convert("CMYK")), ("bits.png", lambda im: im.convert("1")),
    ("rgba.png", lambda im: im.convert("RGBA")), ("photo.webp", lambda im: im), ("photo.bmp", lambda im: im)])
def test_kinds_of_files(tmp_path, name, make):
    file = saved(make(Image.fromarray(scene())), tmp_path, name)
    x = load_photograph(file)
    assert x.shape == (3, 227, 227) and x.dtype == torch.uint8 and x.is_contiguous()
    assert x[:, :40, :40].float().mean() > x[:, -40:, -40:].float().mean() + 50   # the corner is where it was
    assert torch.equal(load_photograph(str(file)), x)
    assert torch.equal(load_photograph(io.BytesIO(file.read_bytes())), x)


def test_sixteen_bits_keep_their_brightness(tmp_path):
    grey = scene()[..., 0]
    deep = saved(Image.fromarray(grey.astype(np.uint16)*257), tmp_path, "deep.png")
    flat = saved(Image.fromarray(grey), tmp_path, "flat.png")
    assert Image.open(deep).mode.startswith("I")
    assert torch.equal(load_photograph(deep), load_photograph(flat))


def test_transparency_lies_on_white(tmp_path):
    clear = np.dstack([scene(), np.zeros(scene().shape[:2], np.uint8)])
    assert (load_photograph(saved(Image.fromarray(clear), tmp_path, "clear.png")) == 255).all()


@pytest.mark.parametrize(("tag", "back"), [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90),
                                           (8, Image.Transpose.ROTATE_270), (2, Image.Transpose.FLIP_LEFT_RIGHT)])
def test_a_photograph_on_its_side_is_set_upright(tmp_path, tag, back):
    upright, exif = Image.fromarray(scene()), Image.Exif()
    exif[0x0112] = tag
    lying = saved(upright.transpose(back), tmp_path, "lying.png", exif=exif)
    assert torch.equal(load_photograph(lying), load_photograph(upright))


@pytest.mark.parametrize("size", [16, 96, 227, 454])
def test_any_size_is_given(size):
    assert load_photograph(scene(), size).shape == (3, size, size)


def test_what_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError): load_photograph(tmp_path/"none.jpg")
    (tmp_path/"text.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.jpg is no image"): load_photograph(tmp_path/"text.jpg")
    whole = saved(Image.fromarray(scene()), tmp_path, "whole.jpg").read_bytes()
    (tmp_path/"cut.jpg").write_bytes(whole[:len(whole)//2])
    with pytest.raises(DataError, match=r"cut\.jpg can't be read"): load_photograph(tmp_path/"cut.jpg")
    with pytest.raises(ValueError, match="2000x100 px.*Crop it first"): load_photograph(scene(2000, 100))
    with pytest.raises(ValueError, match=r"not in \[0, 1\]"): load_photograph(torch.randn(3, 64, 64))
    with pytest.raises(ValueError, match="photograph not taken: not an image"): load_photograph({"a": 1})
    with pytest.raises(ValueError, match="size must be"): load_photograph(scene(), 8)
    with pytest.raises(ValueError, match="resize must be"): load_photograph(scene(), 227, resize=100)


def test_weights_come_from_files_and_wrong_ones_are_refused(tmp_path):
    state = {k: v.half() for k, v in models.squeezenet1_0().state_dict().items()}
    save_file(state, tmp_path/"a.safetensors")
    torch.save(state, tmp_path/"a.pth")
    for name in ("a.safetensors", "a.pth"):
        net = imagenet_net(weights=tmp_path/name)
        assert net.source == f"squeezenet1_0, {name}" and not net.model.training
        for key, value in net.model.state_dict().items():
            assert value.dtype == torch.float32 and torch.equal(value, state[key].float())
    with pytest.raises(FileNotFoundError, match="no file of weights"): imagenet_net(weights=tmp_path/"b.pth")
    for name, content in (("junk.pth", b"junk"), ("junk.safetensors", b"junk"), ("empty.pth", b"")):
        (tmp_path/name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} holds no weights of a SqueezeNet"): imagenet_net(weights=tmp_path/name)
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path/"other.pth")
    with pytest.raises(DataError, match=r"other\.pth holds no weights"): imagenet_net(weights=tmp_path/"other.pth")
    with pytest.raises(ValueError, match="unknown network .alexnett.: did you mean .alexnet"): imagenet_net("alexnett")


def test_a_pickle_with_code_in_it_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self): return (Path.touch, (tmp_path/"trapped",))

    torch.save({"features.0.weight": Trap()}, tmp_path/"trap.pth")
    with pytest.raises(DataError): imagenet_net(weights=tmp_path/"trap.pth")
    assert not (tmp_path/"trapped").exists()


def test_torchvision_s_weights_are_taken_from_its_cache_or_its_server(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_line(*args, **kwargs): raise urllib.error.URLError("no line")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_line)
    with pytest.raises(ConnectionError, match=r"no line.*imagenet_net\(weights="): imagenet_net(progress=False)
    state = models.squeezenet1_0().state_dict()
    cached = tmp_path/"hub"/"checkpoints"/"squeezenet1_0-b66bff10.pth"
    cached.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, cached)
    net = imagenet_net(progress=False)
    assert "torchvision" in net.source and torch.equal(net.model.state_dict()["features.0.weight"], state["features.0.weight"])


def test_a_damaged_download_is_refused(tmp_path, monkeypatch):
    def damaged(url, destination, digest, progress): raise RuntimeError('invalid hash value (expected "b6", got "00")')

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", damaged)
    with pytest.raises(DataError, match="damaged file: invalid hash"): imagenet_net(progress=False)


def test_building_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = imagenet_net(weights="untrained"), imagenet_net(weights="untrained")
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


def test_names_and_layers():
    net = imagenet_net(weights="untrained")
    assert len(net.class_names) == 1000 and net.class_names[net.index("tiger cat")] == "tiger cat" and net.index("tiger cat") == 282
    assert suggest_layer(net.model, net.size) == net.layer
    with pytest.raises(ValueError, match="tiger cat"): net.index("tiger cats")
    top = net.top(load_photograph(scene()), 1000)
    assert sum(p for _, p in top) == pytest.approx(1, abs=1e-4) and top[0][1] == max(p for _, p in top)


def test_vgg_has_a_map_of_14_px():
    with torch.device("meta"): vgg = models.vgg16()
    sizes = []
    vgg.get_submodule(photographs._NETS["vgg16"][1]).register_forward_hook(lambda m, a, out: sizes.append(tuple(out.shape)))
    with torch.device("meta"): vgg(torch.zeros(1, 3, 224, 224))
    assert sizes == [(1, 512, 14, 14)]


def test_data_of_photographs():
    net = imagenet_net(weights="untrained")
    data = photograph_data(net, {"zebra": scene(), "mine": scene(200, 260)}, {"mine": "tabby"})
    assert data.x.shape == (2, 3, 227, 227) and [data.class_names[c] for c in data.y] == ["zebra", "tabby"]
    assert data.extra["names"] == ("zebra", "mine") and "untrained" in data.name and data.mean == (0.485, 0.456, 0.406)
    with pytest.raises(ValueError, match="mine"): photograph_data(net, {"mine": scene()})
    with pytest.raises(ValueError, match="no photographs"): photograph_data(net, {})


def test_samples_from_a_folder_and_from_nowhere(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="none of the photographs"): sample_photographs(tmp_path)
    Image.fromarray(scene()).save(tmp_path/"n02123159_tiger_cat.JPEG")
    with pytest.warns(UserWarning, match="9 photographs left out"):
        assert sample_photographs(tmp_path) == {"tiger cat": tmp_path/"n02123159_tiger_cat.JPEG"}
    asked = []

    def dead(url, sha256, folder, **options):
        asked.append(url)
        raise ConnectionError(f"{url}: no line")

    monkeypatch.setattr(photographs, "fetch", dead)
    with pytest.raises(ConnectionError, match=r"no photographs.*load_photograph"): sample_photographs()
    assert len(asked) == 1   # one try, not ten

    def one_is_gone(url, sha256, folder, **options):
        if "koala" in url: raise DataError("another file")
        (path := tmp_path/url.rsplit("/", 1)[-1]).touch()
        return path

    monkeypatch.setattr(photographs, "fetch", one_is_gone)
    with pytest.warns(UserWarning, match="1 photographs left out. koala: another file"):
        found = sample_photographs()
    assert len(found) == 9 and "dog and cat" in found


@pytest.mark.skipif(not SHARED.exists(), reason="needs trained weights and photographs beside the checkout")
def test_a_trained_net_on_photographs():
    "The published answers; the identity of the last layer; the downloads' table is that of the files."
    net = imagenet_net(weights=next(SHARED.glob("squeezenet*.safetensors")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = sample_photographs(SHARED/"photos")
    for file, digest in photographs._SAMPLES.items():
        assert hashlib.sha256((SHARED/"photos"/file).read_bytes()).hexdigest() == digest
    data = photograph_data(net, files, {"dog and cat": "bull mastiff"})
    found = GradCAM(net.model, net.layer).explain(net.normalize(data.x))
    said = [net.class_names[c] for c in found.targets]
    assert said == ["bull mastiff", "boxer", "zebra", "king penguin", "bald eagle",
                    "macaque", "passenger car", "grey fox", "car wheel", "cinema"]
    best = found.logits.amax(1)
    torch.testing.assert_close(found.raw[0].sum((1, 2)), best, rtol=1e-5, atol=0)
