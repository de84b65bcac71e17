"""`explain` and its command: every kind of picture, every kind of network, nothing half-done, and the pictures' credits."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cam_course.__main__ import cli
from cam_course.app import explanation
from cam_course.app.explanation import Explanation, explain, explain_files, find_net
from cam_course.base.core import DataError
from cam_course.base.weights import write_weights
from cam_course.cam_methods import CAM_NAMES, AnyCAM
from cam_course.gradcam import GradCAM
from cam_course.photographs import PhotoNet, imagenet_net, open_photograph, shipped_photographs
from cam_course.resnet import ResNet18

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = {name: photo.path for name, photo in shipped_photographs().items()}


@pytest.fixture(scope="module")
def net() -> PhotoNet: return find_net("mobilenet_v2")


class Bright(nn.Module):
    "Class 1 is brightness, class 0 nothing; its layer `blur` keeps the size, so where it is bright the map is."

    def __init__(self, sign: float = 1.0):
        super().__init__()
        self.blur = nn.Conv2d(3, 1, 1)
        nn.init.constant_(self.blur.weight, sign/3)
        nn.init.zeros_(self.blur.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.blur(x).mean((2, 3))
        return torch.cat([0*y, y], 1)


PLAIN = {"mean": (0.0,)*3, "std": (1.0,)*3}


def bright(sign: float = 1.0, size: int = 32) -> PhotoNet:
    from cam_course.transforms import Normalize
    return PhotoNet(Bright(sign), ("dark", "bright, shining"), Normalize(**PLAIN), "blur", size, "two words", resize=size)


def corner(width: int = 60, height: int = 40) -> Image.Image:
    "Black, but for its lower right quarter."
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height//2:, width//2:] = 255
    return Image.fromarray(pixels)


# ---- the object

def test_what_is_found_is_where_it_is():
    found = explain(corner(), bright(), target="shining")
    assert found.picture.shape == (40, 60, 3) and found.square == pytest.approx((10, 0, 50, 40), abs=1)
    assert found.map.shape == (32, 32) and found.evidence and found.target == 1 and found.cells == (32, 32)
    inside, outside = found.map[20:, 20:], found.map[:12]
    assert inside.min() > 0.9 and outside.max() < 0.1
    assert found.probabilities.sum() == pytest.approx(1) and found.answer == "bright, shining" and len(found.top()) == 2


def test_the_map_is_gradcam_s_and_the_answer_the_net_s(net):
    found = explain(PHOTOS["coffee"], net)
    x = net.normalize(net.load(PHOTOS["coffee"])[None])
    torch.testing.assert_close(found.map, GradCAM(net.model, "head")(x)[0])
    assert found.top(3)[0] == net.top(net.load(PHOTOS["coffee"]), 1)[0] and found.answer == "espresso"
    assert explain(PHOTOS["coffee"], net, "stage4").cells == (14, 14)
    asked = explain(PHOTOS["coffee"], net, target="cup")
    assert net.class_names[asked.target] == "cup" and not torch.equal(asked.map, found.map) and "map of cup" in str(asked)


@pytest.mark.parametrize("method", ["hirescam", "eigencam", "ablationcam"])
def test_another_kind_of_map(net, method):
    found = explain(PHOTOS["coffee"], net, "stage4", "cup", method=method)
    x = net.normalize(net.load(PHOTOS["coffee"])[None])
    torch.testing.assert_close(found.map, AnyCAM(net.model, "stage4", method=method)(x, net.index("cup"))[0])
    figure = found.plot()
    texts = " ".join(t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text")))
    assert CAM_NAMES[method] in texts and f"its {CAM_NAMES[method]} map for cup" in figure.alt_text


def test_a_method_that_there_is_not_is_refused(net, tmp_path, capsys):
    with pytest.raises(ValueError, match="hires"): explain(PHOTOS["coffee"], net, method="hires")
    with pytest.raises(ValueError, match="hires"): explain_files([PHOTOS["coffee"]], net, out=tmp_path/"new", method="hires")
    with pytest.raises(SystemExit) as ended: cli(["explain", str(PHOTOS["coffee"]), "--method", "hires"])
    assert ended.value.code == 2 and "hirescam" in capsys.readouterr().err and not (tmp_path/"new").exists()


def test_the_drawing_shows_the_map_in_its_place(tmp_path):
    "Bright colors in the corner that is bright, the picture pale outside of the square, the frame where the square is."
    found = explain(corner(), bright(), target=1)
    drawn = explanation._mapped(found, "viridis", 0.6).astype(int)
    assert abs(drawn[30, 45] - (0.4*255 + 0.6*np.array([253, 231, 36]))).max() < 4   # viridis' top on white
    assert abs(drawn[5, 20] - 0.6*np.array([68, 1, 84])).max() < 4                    # and its bottom on black
    assert drawn[5, 2].min() > 150 and (drawn[30, 58] == 255).all()
    figure = found.plot()
    texts = [t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text"))]
    assert "bright, 56 %" in " ".join(texts) and "two words" in texts and "bottom right" in figure.alt_text
    file = found.save(tmp_path/"a.png")
    with Image.open(file) as image: assert image.format == "PNG" and image.width > 900
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match=r"a\.png' exists.*overwrite=True"): found.save(file)
    assert file.read_bytes() == before == found.save(file, overwrite=True).read_bytes()


def test_no_evidence_is_said_and_nothing_is_painted():
    found = explain(corner(), bright(-1.0), target="bright")
    assert not found.evidence and found.map.max() == 0
    assert str(found).endswith("no positive evidence for bright at blur")
    assert "no positive evidence for bright" in found.plot().alt_text
    inside = explanation._mapped(found, "viridis", 0.6)[:, 12:48]
    assert (inside == np.asarray(corner())[:, 12:48]).all()


# ---- pictures

def saved(folder: Path, name: str, image: Image.Image, **options) -> Path:
    image.save(folder/name, **options)
    return folder/name


def rgba(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(Image.new("L", image.size, 255))
    return image


@pytest.mark.parametrize(("name", "make"), [
    ("rgb.jpg", lambda im: im), ("rgba.png", rgba), ("grey.png", lambda im: im.convert("L")),
    ("palette.gif", lambda im: im.convert("P")),
    ("cmyk.jpg", lambda im: im.convert("CMYK")), ("bits.png", lambda im: im.convert("1")),
    ("deep.png", lambda im: Image.fromarray(np.asarray(im.convert("L")).astype(np.uint16)*257))])
def test_every_mode_is_seen_alike(tmp_path, name, make):
    found = explain(saved(tmp_path, name, make(corner(64, 64))), bright(), target=1)
    assert found.map[20:, 20:].min() > 0.8 and found.map[:12].max() < 0.2 and found.name == name


def test_a_phone_s_portrait_is_set_upright(tmp_path):
    upright, exif = corner(300, 400), Image.Exif()
    exif[0x0112] = 6
    file = saved(tmp_path, "phone.jpg", upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    found = explain(file, bright(), target=1)
    assert found.picture.shape == (400, 300, 3) and found.square == pytest.approx((0, 50, 300, 350), abs=7)
    assert found.map[20:, 20:].min() > 0.8 and found.map[:12].max() < 0.2


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (7, 31), (3000, 400)])
def test_every_size(tmp_path, size):
    found = explain(corner(*size), bright(), target=1)
    assert max(found.picture.shape) <= 1024 and max(found.picture.shape[:2]) == min(1024, max(size))
    found.save(tmp_path/"a.png")


def test_only_the_first_picture_of_an_animation(tmp_path):
    dark = Image.new("RGB", (40, 40))
    corner(40, 40).save(tmp_path/"a.gif", save_all=True, append_images=[dark]*3, loop=0)
    assert explain(tmp_path/"a.gif", bright(), target=1).map[20:, 20:].min() > 0.8


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    file = saved(tmp_path, "bomb.png", Image.new("1", (400, 400)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)       # 1.6 times this: Pillow would only warn
    with pytest.raises(DataError, match=r"bomb\.png has more than"): open_photograph(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(DataError, match=r"bomb\.png has more than"): open_photograph(file)


# ---- networks

def test_a_module_of_ones_own():
    found = explain(corner(300, 300), Bright(), layer="blur")
    assert found.class_names == ("class 0", "class 1") and found.source == "Bright" and found.cells == (224, 224)
    assert explain(corner(), Bright(), target="0").target == 0
    with pytest.raises(ValueError, match="scores"): find_net(nn.Conv2d(3, 4, 1))


def test_a_torchvision_net_by_name(tmp_path, monkeypatch):
    "From its cache; without a cache and a line one sentence says what to do."
    from torchvision import models
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_line(*args, **kwargs): raise OSError("no line")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_line)
    with pytest.raises(ConnectionError, match="'mobilenet_v2', which needs no download"): find_net("resnet18")
    torch.manual_seed(0)
    there, weights = models.resnet18(), models.ResNet18_Weights.DEFAULT
    (tmp_path/"hub"/"checkpoints").mkdir(parents=True, exist_ok=True)
    torch.save(there.state_dict(), tmp_path/"hub"/"checkpoints"/Path(weights.url).name)
    net = find_net("resnet18")
    assert (net.layer, net.size, net.resize, net.source) == ("layer4", 224, 256, f"resnet18, torchvision's {weights.name}")
    with Image.open(PHOTOS["rocket"]) as image: theirs = weights.transforms()(image)
    torch.testing.assert_close(net.normalize(net.load(PHOTOS["rocket"])[None])[0], theirs, rtol=0, atol=1e-5)
    assert torch.equal(net.model.fc.weight, there.fc.weight)
    with pytest.raises(ConnectionError): find_net("torchvision/mobilenet_v2")   # theirs of that name is asked for
    with pytest.raises(ValueError, match="no maps behind its first layer"): find_net("vit_b_16")
    with pytest.raises(ValueError, match="unknown network 'resnet5': did you mean .*'resnet50'"): find_net("resnet5")


def test_a_file_of_weights(tmp_path):
    assert (explain(PHOTOS["jockey"], "cifar10_jpeg").answer, find_net("cifar10_jpeg").layer) == ("horse", "layer3")
    about = {"model": "resnet18", "norm": "batch", "pool": "avg", "residual": True}
    torch.manual_seed(0)
    grey = ResNet18(num_classes=2, in_channels=1, width=4)
    write_weights(tmp_path/"grey.safetensors", grey.state_dict(), **about, class_names=["a", "b"], mean=[0.5], std=[0.2])
    found = explain(corner(), tmp_path/"grey.safetensors")
    assert found.class_names == ("a", "b") and found.source == "resnet18, grey.safetensors"
    write_weights(tmp_path/"mute.safetensors", grey.state_dict(), **about)
    with pytest.raises(DataError, match="do not say their class_names, mean, std"): find_net(tmp_path/"mute.safetensors")
    with pytest.raises(FileNotFoundError, match="no file"): find_net(tmp_path/"gone.safetensors")


def test_a_run_folder(tmp_path):
    "The net that a run left is the net that explains; the data are not needed for it."
    from cam_course.app.config import recipe
    from cam_course.app.main import run
    config = recipe("assignment", dataset="shapes", n_train=64, n_test=32, epochs=1, width=4, batch_size=32,
                    runs=str(tmp_path), name="mine", device="cpu")
    result = run(config, figures=False)
    net = find_net(tmp_path/"mine")
    assert net.class_names == result.test.class_names and (net.size, net.layer) == (32, "layer3")
    x = result.test.x[:4]
    with torch.no_grad(): ours, theirs = net.model(net.normalize(x)), result.model(result.normalize(x))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert torch.equal(net.load(Image.fromarray(x[0].permute(1, 2, 0).numpy())), x[0])
    (tmp_path/"mine"/"last.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights yet.*cam-course resume"): find_net(tmp_path/"mine")
    (tmp_path/"mine"/"last.safetensors").write_bytes(b"junk")
    with pytest.raises(DataError, match="no safetensors file"): find_net(tmp_path/"mine")
    (tmp_path/"empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no run folder"): find_net(tmp_path/"empty")


def test_classes_by_name_and_number(net):
    assert net.index("tabby, tabby cat") == net.index("Tabby cat") == net.index("tabby") == net.index("282") == net.index(282)
    with pytest.raises(ValueError, match="unknown class 'tiger cats': did you mean 'tiger cat'"): net.index("tiger cats")
    with pytest.raises(ValueError, match="did you mean 'tabby cat', 'tiger cat', 'Persian cat'[?] Or give a number"): net.index("cat")
    with pytest.raises(ValueError, match="'crane' is 2 classes: give the number, 135 or 518"): net.index("crane")
    for wrong in ("1001", "-1", 1001, "", "q"*300):
        with pytest.raises(ValueError, match=r"unknown class .*from 0 to 1000"): net.index(wrong)


# ---- the command

def test_the_command_goes_on_after_a_picture_that_is_none(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"text.jpg").write_text("no picture")
    whole = PHOTOS["coffee"].read_bytes()
    (tmp_path/"cut.jpg").write_bytes(whole[:len(whole)//2])
    (tmp_path/"folder").mkdir()
    saved(tmp_path, "long.png", Image.new("RGB", (900, 20)))
    given = ["text.jpg", str(PHOTOS["rocket"]), "gone.jpg", "cut.jpg", "folder", "long.png", str(PHOTOS["coffee"])]
    assert cli(["explain", *given]) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == 5 and all(line.startswith("cam-course: failed: ") for line in lines)
    for line, told in zip(lines, ["text.jpg is no image", "no file 'gone.jpg'", "cut.jpg can't be read", "folder is a folder",
                                  "long.png: photograph of 900x20"], strict=True): assert told in line, line
    assert [line.rpartition(" -> ")[2] for line in out.splitlines()] == ["rocket-explained.png", "coffee-explained.png"]
    assert "missile 65 %" in out and "espresso 97 %" in out
    assert {p.name for p in tmp_path.iterdir()} == {"text.jpg", "cut.jpg", "folder", "long.png", "rocket-explained.png",
                                                    "coffee-explained.png"}


def test_nothing_is_overwritten_unless_one_says_so(tmp_path, capsys):
    arguments = ["explain", str(PHOTOS["teddy"]), "--class", "teddy", "--layer", "stage4", "--out"]
    assert cli([*arguments, str(tmp_path/"new"/"a.png")]) == 0 and "map of teddy 19 %" in capsys.readouterr().out
    before = (tmp_path/"new"/"a.png").read_bytes()
    assert cli([*arguments, str(tmp_path/"new"/"a.png")]) == 1 and "exists" in capsys.readouterr().err
    assert (tmp_path/"new"/"a.png").read_bytes() == before
    assert cli([*arguments, str(tmp_path/"new"/"a.png"), "--overwrite"]) == 0


@pytest.mark.parametrize(("arguments", "told"), [
    (["a.jpg", "--class", "elephant"], "did you mean 'Indian elephant', 'African elephant'"),
    (["a.jpg", "--layer", "stage9"], "no layer 'stage9'.*'stage"), (["a.jpg", "--layer", "fc"], "gives no map"),
    (["a.jpg", "--model", "mobilenet_v4"], "unknown network 'mobilenet_v4': did you mean"),
    (["a.jpg", "b.jpg", "--out", "one.png"], "one file for 2 pictures"), ([], "no pictures")])
def test_a_wrong_question_is_refused_before_a_picture_is_read(arguments, told, tmp_path, capsys, monkeypatch):
    import re
    monkeypatch.chdir(tmp_path)
    assert cli(["explain", *arguments]) == 2
    err = capsys.readouterr().err
    assert re.search(told, err) and err.count("\n") == 1 and not list(tmp_path.iterdir()), err


def test_explain_files_takes_a_net_and_counts_what_failed(tmp_path, net, capsys):
    assert explain_files([PHOTOS["coffee"], tmp_path/"none.jpg"], net, out=tmp_path) == 1
    assert isinstance(explain(PHOTOS["coffee"], net), Explanation)


# ---- whose pictures

PICTURES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}


def without_credit(root: Path) -> list[str]:
    "Pictures of the package and of the notebooks' folder that no row of credits.csv in their folder names in full."
    bad = []
    for folder in (root/"cam_course", root/"nbs"):
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES and ".ipynb_checkpoints" not in p.parts):
            credits = path.parent/"credits.csv"
            rows = list(csv.DictReader(io.StringIO(credits.read_text(encoding="utf-8")))) if credits.is_file() else []
            mine = [row for row in rows if row["file"] == path.name]
            full = len(mine) == 1 and all((mine[0].get(k) or "").strip() for k in ("shows", "author", "source", "license"))
            if not full: bad.append(str(path.relative_to(root)))
    return bad


def test_every_picture_has_its_credits():
    assert not without_credit(ROOT)
    assert len(PHOTOS) >= 5 and all(path.is_file() for path in PHOTOS.values())
    assert sum(path.stat().st_size for path in PHOTOS.values()) < 500_000
    assert {p.name for p in PHOTOS.values()} == {p.name for p in (ROOT/"cam_course"/"photos").glob("*.jpg")}
    assert {photo.license for photo in shipped_photographs().values()} <= {"CC0-1.0", "public domain"}


def test_a_picture_without_credits_is_seen(tmp_path):
    for place in ("cam_course/photos", "nbs/images"):
        (tmp_path/place).mkdir(parents=True)
        (tmp_path/place/"a.JPG").touch()
        (tmp_path/place/"b.png").touch()
    (tmp_path/"cam_course"/"photos"/"credits.csv").write_text("file,shows,author,source,license\na.JPG,a,b,c,d\nb.png,a,,c,d\n")
    assert without_credit(tmp_path) == ["cam_course/photos/b.png", "nbs/images/a.JPG", "nbs/images/b.png"]


def test_a_cell_shows_the_credits():
    import json
    nb = json.loads(next((ROOT/"nbs").rglob("*photographs.ipynb")).read_text(encoding="utf-8"))
    shown = "".join("".join(o.get("text", "")) for c in nb["cells"] for o in c.get("outputs", []))
    for photo in shipped_photographs().values():
        assert all(part in shown for part in (photo.shows, photo.author, photo.source, photo.license))


# ---- offline, as anybody

@pytest.mark.parametrize("more", [[], ["--method", "hirescam", "--layer", "stage4"], ["--method", "ablationcam"]])
def test_offline_in_an_empty_folder_with_a_read_only_home(more, tmp_path):
    "The command reaches for no network and writes nothing but its picture."
    home, work = tmp_path/"home", tmp_path/"work"
    home.mkdir()
    work.mkdir()
    home.chmod(0o555)
    code = ("import socket, sys\n"
            "def none(*a, **k): raise AssertionError('a connection was asked for')\n"
            "socket.socket.connect = socket.create_connection = none\n"
            "from cam_course.__main__ import cli\nsys.exit(cli())")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CAM_COURSE", "TORCH", "MPL", "XDG"))}
    env |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code, "explain", str(PHOTOS["coffee"]), *more], cwd=work, env=env,
                          capture_output=True, text=True, check=False)
    home.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "") and "espresso" in done.stdout, done.stderr
    assert [p.name for p in work.iterdir()] == ["coffee-explained.png"] and (os.getuid() == 0 or not list(home.iterdir()))


def test_the_net_s_words_are_the_shipped_net_s(net):
    assert imagenet_net("mobilenet_v2").source == net.source and "mobilenet_v2" in net.source
