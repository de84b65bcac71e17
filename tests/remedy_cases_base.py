"What the messages of cam_course.base tell to do: see remedies.py."
import copy
import errno
import hashlib
import re
import shutil
import subprocess
import sys
from collections import OrderedDict
from contextlib import contextmanager
from functools import cache
from unittest import mock

import numpy as np
import pooch
import pytest
import torch
from data_faults import StandIn, loopback
from PIL import Image
from remedies import case, follows, part, quoted, room, warned
from safetensors.torch import save_file
from torch import nn

from cam_course.app.trainer import Trainer
from cam_course.base import cifar10
from cam_course.base import shapes as drawing
from cam_course.base import weights as module
from cam_course.base.cam_explorer import explore_maps
from cam_course.base.checkpoints import Checkpoints, load_checkpoint, lock_folder, save_checkpoint
from cam_course.base.cifar10 import cache_dir, cifar10_arrays, fetch, find_in
from cam_course.base.confusion import confusion_matrix
from cam_course.base.core import check_run_name, create_run_dir, get_device, resolve_precision
from cam_course.base.figures import bundle, show, style
from cam_course.base.geometric import RandomCrop, RandomHorizontalFlip
from cam_course.base.page_network import TeachIt, YourPicture, network_file
from cam_course.base.rendering import as_rgb
from cam_course.base.shapes import draw_shapes
from cam_course.base.target_layers import check_layer, suggest_layer
from cam_course.base.weights import read_weights, write_weights
from cam_course.data import shapes
from cam_course.gradcam import GradCAM
from cam_course.momentum import BallInValley
from cam_course.transforms import AddGaussianNoise, Cutout, Normalize

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def net() -> nn.Sequential:
    "Layers 0 and 2 have maps of 14 and 12 px."
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return nn.Sequential(*parts)


def maps(model, layer, x=IMAGES, targets=None, **options) -> torch.Tensor:
    "The maps, which are of the images' size, and not all empty."
    found = GradCAM(model, layer, **options)(x, targets)
    assert found.shape[-2:] == x.shape[-2:] and found.isfinite().all()
    return found


def option(name: str, said: str, **known) -> dict:
    "An argument that a message spells out to its end: {name: value}."
    return eval(f"dict({part(rf'({name}=.*)', said)})", {"torch": torch, **known})


# ---- cam_explorer, checkpoints

@follows("images of several sizes, {}: make one figure for each")
def one_figure_for_each():
    images, raw = [np.zeros((16, 16, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)], {"last": torch.rand(2, 3, 4, 4)}
    yield lambda: explore_maps(images, raw, "abc")
    for i, image in enumerate(images): assert explore_maps([image], {"last": raw["last"][i:i + 1]}, "abc").said()


@follows("about says nothing of {}: give about={'mean': ..., 'std': ..., 'class_names': ...}")
def about_a_network():
    from cam_course.resnet import ResNet18
    net = ResNet18(width=4)
    said = yield lambda: network_file(net, {})
    names = re.findall(r"'(\w+)': [.]", said)
    assert network_file(net, dict(zip(names, ((0.5,)*3, (0.2,)*3, "abcdefghij"), strict=True)))


@follows("pixels hold {} bytes, not {} titles times 32*32*3: give one title a picture")
def a_title_a_picture():
    two = bytes(2*32*32*3)
    yield lambda: YourPicture(pixels=two, titles=["one"])
    assert YourPicture(pixels=two, titles=["one", "two"]).alt()


@follows("names={}: give three, such as ['cup', 'pen', 'hand']")
def three_names():
    said = yield lambda: TeachIt(names=["cup", "pen"])
    assert TeachIt(names=re.findall(r"'(\w+)'", said.partition("such as")[2])).names == ["cup", "pen", "hand"]


@follows("a checkpoint can't hold {}, a {}: keep numbers and tensors")
def numbers_and_tensors():
    file, state = room()/"a.safetensors", {"mean": np.ones(3), "step": 4, "seen": {1, 2}}
    said = yield lambda: save_checkpoint(file, state)
    state[part(r"can't hold /(\w+)", said)] = torch.from_numpy(state["mean"])
    said = yield lambda: save_checkpoint(file, state)
    state[part(r"can't hold /(\w+)", said)] = sorted(state["seen"])
    save_checkpoint(file, state)
    assert load_checkpoint(file)["mean"].sum() == 3 and load_checkpoint(file)["seen"] == [1, 2]


@follows("{}: start the run again")
def start_again():
    data, folder = shapes(32, seed=0, size=16), room()

    def trainer() -> Trainer:
        model = net()
        model[-1] = nn.Linear(4, 10)
        return Trainer(model, data, data, torch.optim.SGD(model.parameters(), 0.1), epochs=1, batch_size=16, run_dir=folder)

    trainer().fit()
    for file in Checkpoints(folder/"checkpoints").files(): file.write_bytes(file.read_bytes()[:100])
    yield lambda: trainer().resume()
    trainer().fit()
    assert trainer().resume()


HOLDER = """
import fcntl, os, sys
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.truncate(0)
print(f"process {os.getpid()}", file=file, flush=True)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(folder):
    "Another process that has the folder, until its input ends."
    words = [sys.executable, "-c", HOLDER, str(folder/".lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process


@follows("folder {} is in use by {}: wait for it, or stop it")
def folder_in_use():
    def locked(folder):
        with lock_folder(folder): return "had"

    folder = room()
    with held(folder) as process:
        yield lambda: locked(folder)
        process.communicate()                               # its training ends
        assert locked(folder)
    with held(folder) as process:
        said = yield lambda: locked(folder)
        assert int(part(r"process (\d+)", said)) == process.pid
        process.terminate()
        process.wait()
        assert locked(folder)


# ---- cifar10

@cache
def prepared() -> StandIn: return StandIn(room())


@contextmanager
def cifar(**variables):
    "A small stand-in for CIFAR-10, an empty home, an empty cache, and no host that answers."
    empty = room()
    with pytest.MonkeyPatch.context() as patch:
        prepared().use(patch.setattr)
        patch.chdir(empty)
        nobody = {f"CAM_COURSE_{host}": "http://127.0.0.1:9" for host in ("HUB", "MIRROR", "TORONTO")}
        values = {"HOME": empty, "USERPROFILE": empty, "CAM_COURSE_CACHE": empty/"cache", "NO_PROXY": "127.0.0.1", **nobody}
        for name, value in (values | variables).items(): patch.setenv(name, str(value))
        for name in ("CAM_COURSE_DATA", "HF_ENDPOINT"): patch.delenv(name, raising=False)
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(empty/"hf"))
        yield patch


def loaded(*args, **options) -> bool:
    "Whether the test images of the stand-in are had so."
    return prepared().is_right(cifar10_arrays(*args, split="test", say=lambda _: None, progress=False, **options), "test")


@follows("Free some space, or let CAM_COURSE_CACHE name another folder.")
def full_disk():
    body, full = b"images"*99, OSError(errno.ENOSPC, "No space left on device")
    with cifar() as patch, loopback({"a.gz": body}) as server:
        def fetched(): return fetch(f"{server.address}/a.gz", hashlib.sha256(body).hexdigest(), cache_dir(), progress=False)

        with mock.patch.object(pooch.HTTPDownloader, "__call__", side_effect=full): said = yield fetched
        assert fetched().read_bytes() == body
        patch.setenv(part(r"let (\w+)", said), str(room()))
        assert fetched().read_bytes() == body


@follows("no cache: {} can't be written ({}). Set CAM_COURSE_CACHE.")
def cache_in_a_file():
    packs, file = prepared().folder/"packs", room()/"file"
    file.write_text("no folder")
    with cifar(CAM_COURSE_CACHE=file/"cache") as patch:
        said = yield lambda: warned(lambda: loaded(packs))
        patch.setenv(part(r"Set (\w+)", said), str(room()))
        assert not warned(lambda: loaded(packs)) and any(cache_dir().rglob("x.npy"))


@follows("{} holds {} parquet files for {}: keep the one you mean")
def two_tables():
    folder = room()
    for name in ("test-0.parquet", "test-old.parquet"): (folder/name).write_bytes(b"")
    yield lambda: find_in(folder, "test")
    (folder/"test-old.parquet").unlink()
    assert find_in(folder, "test").name == "test-0.parquet"


@follows("Check that it may be read, or name a good copy with root=.")
def unreadable():
    packs = prepared().folder/"packs"
    with cifar():
        with mock.patch.object(cifar10, "open", side_effect=PermissionError(errno.EACCES, "Permission denied"), create=True):
            yield lambda: loaded(packs)
        assert loaded(packs) and loaded(root=prepared().folder/"archive")


@follows("root={} and source={} contradict each other: give one of them")
def root_and_source():
    packs = prepared().folder/"packs"
    with cifar() as patch, loopback(prepared().served()) as server:
        yield lambda: loaded(packs, source="hub")
        patch.setenv("CAM_COURSE_HUB", server.address)
        assert loaded(root=packs) and loaded(source="hub")


# ---- confusion, core

@follows("give num_classes={} or more")
def more_classes():
    true, predicted = torch.tensor([0, 3]), torch.tensor([1, 1])
    said = yield lambda: confusion_matrix(true, predicted, 3)
    assert confusion_matrix(true, predicted, int(part(r"num_classes=(\d+)", said))).sum() == 2


@follows("leave out what has no class")
def no_class():
    true, predicted = torch.tensor([0, -1]), torch.tensor([1, 1])
    yield lambda: confusion_matrix(true, predicted)
    assert confusion_matrix(true[true >= 0], predicted[true >= 0]).sum() == 1


@follows("unknown device {}: use 'auto', 'cpu', 'cuda' or 'cuda:0'")
def device_names():
    said = yield lambda: get_device("gpu")
    for name in quoted(said.partition("use ")[2]): assert get_device(name, here=False).type in ("cpu", "cuda")


@follows("device {} is not available here: use 'auto' or 'cpu'")
def missing_device():
    said = yield lambda: get_device("cuda:99")
    for name in quoted(said.partition("use ")[2]): torch.zeros(1, device=get_device(name))


@follows("precision 'fp16' has no loss scaler on the CPU: use 'auto', 'fp32' or 'bf16'")
def precisions():
    said = yield lambda: resolve_precision("fp16", torch.device("cpu"))
    data = shapes(32, seed=0, size=16)
    for name in quoted(said.partition("use ")[2]):
        model = nn.Sequential(nn.Flatten(), nn.Linear(768, 10))
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        assert Trainer(model, data, data, optimizer, epochs=1, batch_size=16, device="cpu", precision=name).fit()


@follows("run name {} must be a plain folder name on every system: letters, digits, '-', '_' and '.' (not at an end), and not con, "
         "nul, com1, ...")
def run_names():
    for name in ("a/b", "wie?", ".hidden", "end.", "lr=0.1: 5%", "con", "com1"):
        said = yield lambda name=name: check_run_name(name)
        marks, _, devices = said.partition("digits, ")[2].partition("(not at an end), and not ")
        devices = devices.removesuffix(", ...").split(", ")
        plain = "".join(c if c.isalnum() or c in quoted(marks) else "-" for c in name).strip(".")
        create_run_dir(room(), f"{plain}-1" if plain in devices else plain)


@follows("give another name, for other files are in it")
def other_files():
    root = room()
    (root/"a").mkdir()
    (root/"a"/"notes.txt").write_text("mine")
    yield lambda: create_run_dir(root, "a")
    assert create_run_dir(root, "b").is_dir() and (root/"a"/"notes.txt").exists()


# ---- figures

def styled(name: str) -> None:
    with style(**{name: False}): pass


def drawn():
    from matplotlib.figure import Figure
    figure = Figure()
    figure.subplots().plot([0, 1])
    return figure


case("style() knows no matplotlib setting {}: write 'axes.grid' as axes_grid", lambda: styled("axes.grid"),
     lambda said: styled(quoted(said)[0].replace(".", "_")))
case("alt is given, but a {} says its own words: leave it out", lambda: show(BallInValley(), alt="a race"),
     lambda _: show(BallInValley()))
case("alt is empty: say in words what the figure shows", lambda: show(drawn()),
     lambda _: show(drawn(), alt="A line that rises from 0 to 1."))


def scripts(**files: str):
    "JavaScript files in a new folder; the first is the entry."
    folder = room()
    for name, text in files.items(): (folder/f"{name}.js").write_text(text + "\n")
    return folder/f"{next(iter(files))}.js"


@follows('{}: write imports as `import { a, b } from "./c.js";`')
def imports():
    c, use = "export const a = 1;\nexport const b = 2;", "\nexport default { render: () => c };"
    said = yield lambda: bundle(scripts(entry='import * as c from "./c.js";' + use, c=c))
    assert "const a = 1" in bundle(scripts(entry=part("`(.*)`", said) + use, c=c))


@follows("{} and {} both define {}: rename one")
def one_scope():
    entry = 'import { a } from "./c.js";\nconst limit = 3;\nexport default { render: () => limit + a };'
    said = yield lambda: bundle(scripts(entry=entry, c="const limit = 2;\nexport const a = limit;"))
    name = quoted(said)[0]
    assert bundle(scripts(entry=entry.replace(name, f"{name}2"), c=f"const {name} = 2;\nexport const a = {name};"))


# ---- geometric, rendering, shapes

@follows("images must be uint8 or float, got {}: use x.to(torch.uint8) or x.float()")
def kinds_of_numbers():
    x = torch.randint(256, (4, 3, 16, 16))
    for transform in (RandomHorizontalFlip(), Cutout(4), AddGaussianNoise(0.1)):
        said = yield lambda transform=transform: transform(x)
        for how in said.partition("use ")[2].split(" or "): assert transform(eval(how, {"x": x, "torch": torch})).shape == x.shape


@follows("{} takes parameters {}, got {}: use draw()")
def drawn_parameters():
    crop, x = RandomCrop(16, padding=2), IMAGES
    yield lambda: crop.apply(x, corner=torch.zeros(2).long())
    assert crop.apply(x, **crop.draw(len(x), 16)).shape == x.shape


@follows("{}: {} is drawn for {} samples, the batch has {}: draw(len(x), ...), or index the parameters as you index the images")
def parameters_of_all():
    crop, rows = RandomCrop(16, padding=2), torch.tensor([1])
    drawn, x = crop.draw(len(IMAGES), 16), IMAGES[rows]
    said = yield lambda: crop.apply(x, **drawn)
    own = eval("crop." + part(r": (draw\(.*\)), or", said).replace("...", "16"), {"crop": crop, "x": x})
    assert crop.apply(x, **own).shape == x.shape
    assert crop.apply(x, **{name: value[rows] for name, value in drawn.items()}).equal(crop.apply(IMAGES, **drawn)[rows])


@follows("fill {} is no color of uint8 images: give 0...255, such as [255*m for m in mean]")
def fill_color():
    mean, x = (0.5, 0.4, 0.3), torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    said = yield lambda: Cutout(4, fill=mean)(x)
    assert Cutout(4, fill=eval(part(r"such as (.*)", said), {"mean": mean}))(x)[0].amax((1, 2)).tolist() == [128, 102, 76]


@follows("a crop of {} px does not fit {}x{} px padded by {}: use size <= {} or padding >= {}")
def crop_fits():
    said = yield lambda: RandomCrop(23, padding=2)(IMAGES)
    size, padding = int(part(r"size <= (\d+)", said)), int(part(r"padding >= (\d+)", said))
    assert RandomCrop(size, padding=2)(IMAGES).shape[-1] == size and RandomCrop(23, padding=padding)(IMAGES).shape[-1] == 23


@follows("a PIL image of mode {}: pass image.convert('RGB')")
def modes():
    for mode in ("P", "1", "CMYK", "YCbCr", "HSV"):
        image = Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).convert(mode)
        said = yield lambda image=image: as_rgb(image)
        assert as_rgb(eval(part("pass (.*)", said), {"image": image})).shape == (8, 8, 3)


@follows("image of shape {}: give one image, a tensor (3, H, W) or an array (H, W, 3)")
def one_image():
    yield lambda: as_rgb(IMAGES)
    yield lambda: as_rgb(IMAGES.permute(0, 2, 3, 1).numpy())
    assert as_rgb(IMAGES[0]).shape == as_rgb(IMAGES.permute(0, 2, 3, 1).numpy()[0]).shape == (16, 16, 3)


@follows("divide by 255")
def to_255():
    said = yield lambda: as_rgb(255*IMAGES[0])
    assert as_rgb(255*IMAGES[0]/int(part(r"divide by (\d+)", said))).max() <= 1


@follows("undo the normalization of the batch first, Normalize(mean, std).inverse(x)[i]")
def normalized_image():
    mean, std = (0.5,)*3, (0.2,)*3
    x = Normalize(mean, std)(IMAGES)
    said = yield lambda: as_rgb(x[1])
    known = {"Normalize": Normalize, "mean": mean, "std": std, "x": x, "i": 1}
    assert np.allclose(as_rgb(eval(part("first, (.*)", said), known)), as_rgb(IMAGES[1]), atol=1e-6)


@follows("image with transparency: choose what lies behind it, image.convert('RGB')")
def transparency():
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 100))
    said = yield lambda: as_rgb(image)
    assert as_rgb(eval(part("behind it, (.*)", said), {"image": image}))[0, 0].tolist() == [200, 0, 0]


@follows("image of {}: give uint8 or float in [0, 1]; 16 bits: image / 65535 (of a PIL image first np.asarray(image))")
def sixteen_bits():
    array = np.full((8, 8), 40000, np.uint16)
    for image in (array, Image.fromarray(array)):
        said = yield lambda image=image: as_rgb(image)
        if not isinstance(image, np.ndarray): image = eval(part(r"first (.*)\)$", said), {"image": image, "np": np})
        assert as_rgb(eval(part(r"16 bits: (.*?) \(", said), {"image": image})).max() == pytest.approx(40000/65535)
    yield lambda: as_rgb(np.full((8, 8, 3), 99))
    assert as_rgb(np.full((8, 8, 3), 99).astype(np.uint8)).max() == 99


case("classes={}: give two different ones or more", lambda: draw_shapes(4, classes=("disc", "disc")),
     lambda _: draw_shapes(4, classes=("disc", "ring")), lambda _: draw_shapes(4, classes=("disc", "ring", "star")))
case("cue_pair={}: give two different classes", lambda: draw_shapes(4, cue=0.9, cue_pair=("star", "star")),
     lambda _: draw_shapes(4, cue=0.9, cue_pair=("star", "ring")))


@follows("n={} images of size={} take {} GiB: ask for 16 GiB at most")
def too_many():
    said = yield lambda: draw_shapes(10**6, size=512)
    most = int(part(r"ask for (\d+) GiB", said))*2**30//(3*512**2)
    def checked(n): return drawing._check_options(n, 0, 512, None, False, 3, (0.5, 0.9), None, None)    # drawing takes so much
    yield lambda: checked(most + 1)
    assert checked(most)


# ---- target_layers

class Wrapped(nn.Module):
    "A module whose forward is a function of a net."

    def __init__(self, inner: nn.Module, forward=None):
        super().__init__()
        self.net, self.function = inner, forward

    def forward(self, x): return self.function(x)


@follows("model must be a torch.nn.Module, got {}: put a function into the forward of one")
def a_function():
    inner = net()
    def scored(x): return 2*inner(x)
    yield lambda: GradCAM(scored, "0")
    maps(Wrapped(inner, scored), "net.0")


@follows("{} is {}: its layers can't be listened to, or have no gradients. Take {}")
def closed_nets():
    plain = net().eval()
    for closed in (torch.jit.trace(plain, IMAGES), torch.jit.script(plain), torch.ao.quantization.quantize_dynamic(plain)):
        said = yield lambda closed=closed: GradCAM(closed, "0")
        assert part("Take the (float model|module) from which it was made", said) and maps(plain, "0").any()
    shard = type("Sharded", (nn.Sequential,), {"__module__": "torch.distributed.fsdp.fully_sharded_data_parallel"})
    sharded = shard(*net())                                  # in place of torch's, which needs a process group
    said = yield lambda: GradCAM(sharded, "0")
    whole = copy.deepcopy(plain)
    whole.load_state_dict(sharded.state_dict())
    assert "fill a plain module" in said and maps(whole, "0").any()


class Pair(nn.Module):
    "Takes images and a number."

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x, factor): return factor*self.net(x)


@follows("the model takes more than images ({}): put it into a module whose forward(x) adds the rest")
def more_inputs():
    pair = Pair()
    yield lambda: maps(pair, "net.0")
    maps(Wrapped(pair, lambda x: pair(x, 2.0)), "net.net.0")


@follows("the model must return scores (N, classes), got one score per image, {}: make two of it, scores=lambda z: {}([-z/2, z/2], 1)")
def one_score():
    for last in ([nn.Linear(4, 1)], [nn.Linear(4, 1), nn.Flatten(0)]):
        model = nn.Sequential(*net()[:-1], *last)
        said = yield lambda model=model: explore(model)
        explore(model, **option("scores", said))


def explore(model, **options) -> None:
    "What wants a score for each of two classes."
    from cam_course.photographs import PhotoNet
    PhotoNet(model, ("no", "yes"), Normalize((0.5,)*3, (0.5,)*3), "0", 16, **options).top(IMAGES[0])


@follows("the model's scores for {} of {} images (the first: {}) are not finite: look for NaN in the images and in the weights")
def scores_that_are_nan():
    x, model = IMAGES.clone(), net()
    x[1, 0, 3, 3] = torch.nan
    said = yield lambda: maps(model, "0", x)
    assert x[int(part(r"the first: (\d+)", said))].isnan().any()
    maps(model, "0", x[x.flatten(1).isfinite().all(1)])
    with torch.no_grad(): model[-1].bias[2] = torch.nan
    yield lambda: maps(model, "0")
    bad = [name for name, w in model.named_parameters() if w.isnan().any()]
    assert bad == ["5.bias"]
    nn.init.zeros_(model.get_parameter(bad[0]))
    maps(model, "0")


@follows("say which part: scores={}")
def scores_inside():
    model = net()
    for answer in (lambda x: {"logits": model(x), "loss": 0.1}, lambda x: (0.1, model(x))):
        wrapped = Wrapped(model, answer)
        said = yield lambda wrapped=wrapped: maps(wrapped, "net.0")
        maps(wrapped, "net.0", **option("scores", said))


@follows("use {} ({}x{})")
def no_map():
    said = yield lambda: maps(net(), "4")
    maps(net(), part("use '(.*?)'", said))


@follows("the scores of each image sum to 1: the model ends in a softmax, and what is computed from them would take it twice. Leave it "
         "out, or give scores=lambda p: p.clamp(min=1e-30).log()")
def softmax_inside():
    model = nn.Sequential(*net(), nn.Softmax(1))
    said = yield lambda: warned(lambda: maps(model, "0"))
    assert not warned(lambda: maps(model[:-1], "0")) and not warned(lambda: maps(model, "0", **option("scores", said)))


@follows("{} has no convolution: give images (N, C, H, W) in place of a size")
def no_convolution():
    model = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(192, 3))
    yield lambda: suggest_layer(model, 16)
    maps(model, suggest_layer(model, IMAGES))


@follows("input_tensor is {}: normalize the images first, Normalize(mean, std)(x)")
def bytes_to_gradcam():
    x, known = (255*IMAGES).to(torch.uint8), {"mean": (0.5,)*3, "std": (0.2,)*3, "Normalize": Normalize}
    said = yield lambda: maps(net(), "0", x)
    maps(net(), "0", eval(part("first, (.*)", said), {"x": x, **known}))


@follows("the target layer {} is no part of this {}: take it from the model that you pass, or give its name")
def layer_of_another():
    model, other = net(), net()
    yield lambda: maps(model, other[2])
    assert maps(model, model[2]).equal(maps(model, "2"))


@follows("no layer {} in {}: try {}")
def near_layers():
    model = nn.Sequential(OrderedDict(zip(["stem", "relu", "layer1", "pool", "flat", "fc"], net(), strict=True)))
    for wrong in ("layer3", "Layer", "layer1.conv", "zzz"):
        said = yield lambda wrong=wrong: maps(model, wrong)
        assert [maps(model, name) for name in quoted(said.partition("try ")[2]) if name in ("stem", "relu", "layer1")]


@follows("give larger images, or min_size={}, the largest there is")
def small_maps():
    model = net()
    said = yield lambda: suggest_layer(model, 6)
    assert suggest_layer(model, 6, min_size=int(part(r"min_size=(\d+)", said))) and suggest_layer(model, 16)


class Twice(nn.Module):
    "Convolutions, each followed by ReLU: the same module, or each its own."

    def __init__(self, shared: bool):
        super().__init__()
        self.a, self.b, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.relu2 = self.relu if shared else nn.ReLU()

    def forward(self, x): return self.relu2(self.b(self.relu(self.a(x))))


class Scored(Twice):
    def forward(self, x): return super().forward(x).mean((2, 3))


def block(shared: bool) -> nn.Module: return nn.Sequential(OrderedDict(block=Twice(shared), **dict(zip("pfl", net()[3:], strict=True))))


@follows("take {}, which holds it, or give each call a module of its own")
def called_twice_in_a_block():
    said = yield lambda: check_layer(block(True), "block.relu", IMAGES)
    maps(block(True), part("take '(.*?)'", said))
    for name in ("block.relu", "block.relu2"): maps(block(False), name)


@follows("{}, or give each call a module of its own")
def called_twice():
    said = yield lambda: check_layer(Scored(True), "relu", IMAGES)
    maps(Scored(True), part("use '(.*?)'", said))
    for name in ("relu", "relu2"): maps(Scored(False), name)


class Tokens(nn.Module):
    "Patches as tokens behind one for the class, as in a vision transformer."

    def __init__(self):
        super().__init__()
        self.patch, self.mix, self.head = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 8), nn.Linear(8, 3)
        self.first = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, x):
        tokens = torch.cat([self.first.expand(len(x), 1, 8), self.patch(x).flatten(2).mT], 1)
        return self.head(self.mix(tokens).mean(1))


@follows("{} gives tokens {}, no map (N, C, h, w): {}, or give GradCAM reshape_transform=lambda t: t[:, {}:].unflatten(1, ({}, {}))"
         ".permute(0, 3, 1, 2)")
def tokens_as_map():
    model = Tokens()
    said = yield lambda: check_layer(model, "mix", IMAGES)
    maps(model, part("use '(.*?)'", said))
    maps(model, "mix", **option("reshape_transform", said))


# ---- weights

@follows("unknown weights {}: choose {}, or give the path of a .safetensors file")
def weights():
    said = yield lambda: read_weights("cifar10")
    for name in quoted(part("choose (.*), or", said)): assert read_weights(name)[1]["model"]
    write_weights(file := room()/"own.safetensors", net().state_dict(), model="own")
    assert read_weights(file)[1] == {"model": "own"}


@follows("{} has sha256 {}..., not {}...: reinstall cam-course")
def damaged_installation():
    installed, folder = module._FOLDER, room()
    (folder/"cifar10_jpeg.safetensors").write_bytes(b"torn")
    with mock.patch.object(module, "_FOLDER", folder):
        yield lambda: read_weights("cifar10_jpeg")
        shutil.copy(installed/"cifar10_jpeg.safetensors", folder)
        assert read_weights("cifar10_jpeg")


@follows("{} doesn't say what net it is of (a run of version 0.1, or another program's file): build that net, then "
         "net.load_state_dict(read_weights(file, described=False)[0])")
def weights_of_another_program():
    file, built = room()/"theirs.safetensors", net()
    save_file(built.state_dict(), file)
    said = yield lambda: read_weights(file)
    known = {"net": net(), "file": file, "read_weights": read_weights}
    eval(part("build that net, then (.*)", said), known)
    assert known["net"](IMAGES).equal(built(IMAGES))
