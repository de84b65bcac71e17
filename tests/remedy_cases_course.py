"What the messages of the course's own modules tell to do: see remedies.py."
import itertools
import os
import urllib.error
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from remedies import case, follows, part, quoted, room, warned
from remedy_cases_base import IMAGES, Scored, cifar, maps, net, option, prepared
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from torchvision import models
from torchvision.transforms import v2

import cam_course
from cam_course import photographs as ph
from cam_course.adversarial import PixelModel, accuracy_under, fgsm
from cam_course.app.trainer import Trainer
from cam_course.base.weights import write_weights
from cam_course.bias import _check_twins, rebalanced
from cam_course.cam_methods import AnyCAM
from cam_course.data import ImageData, from_dataset, from_folder, load_data, opened, shapes
from cam_course.gallery import Misclassified, practice_images
from cam_course.gradcam import GradCAM, library_cam, normalize_maps
from cam_course.localization import mass_in_mask, mean_interval, pointing_game
from cam_course.photographs import PhotoNet, imagenet_net, load_photograph, photograph_data
from cam_course.resnet import ResNet18
from cam_course.training import evaluate, predict
from cam_course.transforms import AddGaussianNoise, Compose, Normalize
from cam_course.weight_averaging import WeightAverage

BYTES, LABELS = (255*IMAGES).to(torch.uint8), torch.tensor([0, 2])
PAIRS = [(Image.fromarray(x.permute(1, 2, 0).numpy()), int(y)) for x, y in zip(BYTES, LABELS, strict=True)]


# ---- gradcam

@follows("raw must hold a tensor of maps for each layer, got {}: put the maps of a single layer into a list, [raw]")
def maps_of_one_layer():
    raw = torch.rand(2, 4, 4)
    said = yield lambda: normalize_maps(raw, (8, 8))
    found = normalize_maps(eval(part(r"into a list, (.+)$", said), {"raw": raw}), (8, 8))
    assert found.shape == (2, 8, 8) and not found[0].equal(found[1])


# ---- adversarial

def attacked(x, y=LABELS, model=None, **options) -> torch.Tensor:
    "Images after one step; they have moved."
    found = fgsm(model or PixelModel(net(), Normalize((0.5,)*3, (0.2,)*3)), x, y, **options)
    assert (found - x).abs().max() > 0
    return found


@follows("images are {}, attacks need float32 in [0, 1]: give {}")
def attack_other_numbers():
    for images in (BYTES, IMAGES.double()):
        said = yield lambda images=images: attacked(images)
        attacked(eval(part("give (.*)", said), {"images": images}))


@follows("divide them by 255")
def attack_to_255():
    said = yield lambda: attacked(255*IMAGES)
    attacked(255*IMAGES/int(part(r"by (\d+)", said)))


@follows("that is rounding, give images.clamp(0, 1)")
def attack_what_is_rounded():
    images = (IMAGES - IMAGES.min())*(1 + 1e-6)/(IMAGES - IMAGES.min()).max()
    said = yield lambda: attacked(images)
    attacked(eval(part("give (.*)", said), {"images": images}))


@follows("attack the pixels, not the normalized images, with the normalization inside the model: PixelModel(model, normalize)")
def attack_pixels():
    model, normalize = net(), Normalize((0.5,)*3, (0.2,)*3)
    said = yield lambda: attacked(normalize(IMAGES), model=model)
    inside = eval(part("inside the model: (.*)", said), {"PixelModel": PixelModel, "model": model, "normalize": normalize})
    attacked(IMAGES, model=inside)
    assert inside(IMAGES).equal(model(normalize(IMAGES)))


case("{} of shape {} for {} images: give one class per image", lambda: attacked(IMAGES, torch.tensor([0, 1, 2])),
     lambda _: attacked(IMAGES, torch.tensor([0, 1])))
case("the target of image {} is its own label, {}: a targeted attack leads to another class; leave `targets` out to lead away from "
     "the label", lambda: attacked(IMAGES, targets=LABELS), lambda _: attacked(IMAGES, targets=(LABELS + 1) % 3),
     lambda _: attacked(IMAGES))


class Rounding(nn.Module):
    "A net behind what has no gradient."

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.net = inner

    def forward(self, x): return self.net((x*7).round()/7)


@follows("{}: an accuracy of {} would be no sign of robustness. Look for what cuts the gradient (rounding, detach, a saturated "
         "activation), or attack without it")
def gradient_is_cut():
    bare = net()
    rounding = Rounding(bare)
    said = yield lambda: accuracy_under(rounding, IMAGES, LABELS, fgsm)
    assert "rounding" in said
    accuracy_under(bare, IMAGES, LABELS, fgsm)
    accuracy_under(rounding, IMAGES, LABELS, lambda _, x, y: attacked(x, y, bare))
    accuracy_under(rounding, IMAGES, LABELS)


# ---- bias

def twins(**first) -> None:
    "Images whose cue agrees with the class, and the same ones whose cue is against it."
    agree, against = ({"n": 8, "seed": 0, "classes": ("star", "ring"), "cue": cue} for cue in (1.0, 0.0))
    _check_twins(shapes(**{**agree, **first}), shapes(**against))


def with_pairs(data: ImageData) -> bool: return rebalanced(data).extra["cue"].unique().tolist() == [0, 1]
def cued(cue: float) -> ImageData: return shapes(40, seed=1, classes=("star", "ring"), cue=cue)


def collected(data: ImageData, more: ImageData) -> ImageData:
    "Both together."
    return replace(data, x=torch.cat([data.x, more.x]), y=torch.cat([data.y, more.y]), masks=None,
                   extra={"cue": torch.cat([data.extra["cue"], more.extra["cue"]])})


case("{} has no masks or no extra['cue_mask']: draw it with shapes(..., cue=...)", lambda: twins(cue=None), lambda _: twins(cue=1.0))
case("agree and against must be the same images but for the cue: draw both with the same seed", lambda: twins(seed=1),
     lambda _: twins(seed=0))
case("only {} of {} pairs of class and {} occur: what never occurs can't be repeated, so collect some", lambda: with_pairs(cued(1.0)),
     lambda _: with_pairs(collected(cued(1.0), cued(0.0))))


@follows("{} of {} images have no {} (-1): leave them out, data.subset((data.extra[{}] >= 0).nonzero()[:, 0])")
def cue_of_some():
    drawn = shapes(200, seed=1, cue=0.5)   # ten classes, two of them with a cue
    said = yield lambda: with_pairs(drawn)
    assert with_pairs(eval(part(r"leave them out, (.+)$", said), {"data": drawn}))


# ---- data, gallery

def data(**options) -> ImageData: return ImageData(BYTES, LABELS, ("a", "b", "c"), **options)


def taken(images, labels=(0, 2), **options) -> None:
    "Images of any kind as a data set."
    assert len(from_dataset(list(zip(images, labels, strict=True)), **options)) == len(BYTES)


def last(x) -> np.ndarray: return x.permute(0, 2, 3, 1).numpy()


@follows("{}={}: give {} numbers, one for each channel")
def numbers_of_channels():
    for name in ("mean", "std"):
        said = yield lambda name=name: data(**{name: (0.5,)})
        assert data(**{name: (0.5,)*int(part(r"give (\d+) numbers", said))})


case("not an image: {}; give PIL images, tensors (C, H, W) or arrays (H, W, C)", lambda: taken(["cat.jpg", "dog.jpg"]),
     lambda _: taken([image for image, _ in PAIRS]), lambda _: taken(BYTES), lambda _: taken(last(BYTES)))
case("{} channels: give 1 (grey), 3 (RGB) or 4 (RGBA)", lambda: taken(last(BYTES[:, :2])), lambda _: taken(last(BYTES[:, :1])),
     lambda _: taken(last(BYTES)), lambda _: taken(last(torch.cat([BYTES, BYTES[:, :1]], 1))))
case("an array of {}: give uint8, or floats in [0, 1]", lambda: taken(BYTES.long()),
     lambda _: taken(BYTES.long().to(torch.uint8)), lambda _: taken(BYTES.long()/255))
case("channels={}: give 1 (grey) or 3 (RGB)", lambda: taken(BYTES, channels=4), lambda _: taken(BYTES, channels=1),
     lambda _: taken(BYTES, channels=3))
case("its label has shape {}: give one whole number", lambda: taken(BYTES, F.one_hot(LABELS)),
     lambda _: taken(BYTES, F.one_hot(LABELS).argmax(1)))
case("its label is {}: give a whole number", lambda: taken(BYTES, [0.5, 1.0]), lambda _: taken(BYTES, [1.0, 2]))


@follows("a 32-bit image (mode {}) has no known range: save it with 8 or 16 bits, or give image.convert('L') if it goes from 0 to 255")
def wide_pictures():
    values = 255*IMAGES[0, 0].numpy()
    eight, sixteen = (from_dataset([(Image.fromarray(v), 0)]).x for v in (values.astype(np.uint8), (257*values).astype(np.uint16)))
    assert (eight.int() - sixteen.int()).abs().max() <= 1
    for image in (Image.fromarray(values), Image.fromarray(values.astype(np.int32))):
        said = yield lambda image=image: from_dataset([(image, 0)])
        assert torch.equal(from_dataset([(eval(part(r"give (image\S+)", said), {"image": image}), 0)]).x, eight)


class Items(Dataset):
    "Bytes and labels, with a transform as torchvision's data sets have it."

    def __init__(self, transform=None, form=tuple): self.transform, self.form = transform or (lambda x: x), form
    def __len__(self): return len(BYTES)
    def __getitem__(self, i): return self.form((self.transform(BYTES[i]), int(LABELS[i])))


class Stream(IterableDataset):
    def __iter__(self): yield from zip(IMAGES, LABELS, strict=True)


class Counted(Stream):
    def __len__(self): return len(IMAGES)


def answers(loader) -> None: assert predict(net(), loader).shape == (2, 3)


@follows("floats from {} to {}, not in [0, 1]: take the data set without Normalize")
def normalized_items():
    scaled, normalized = v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5]*3, [0.2]*3)
    yield lambda: from_dataset(Items(v2.Compose([scaled, normalized])))
    assert from_dataset(Items(scaled)).x.equal(BYTES)


case("{}: a loader without a length can't be planned for: give its data set a __len__", lambda: answers(DataLoader(Stream(), 2)),
     lambda _: answers(DataLoader(Counted(), 2)))


@follows("give the DataLoader a collate_fn that makes them")
def batches_of_dicts():
    named = Items(v2.ToDtype(torch.float32, scale=True), lambda pair: dict(zip(("pixels", "label"), pair, strict=True)))
    yield lambda: answers(DataLoader(named, 2))

    def pairs(rows): return torch.stack([r["pixels"] for r in rows]), torch.tensor([r["label"] for r in rows])
    answers(DataLoader(named, 2, collate_fn=pairs))


@follows("{}: the loader gives {} images: let its data set normalize them (v2.ToDtype(torch.float32, scale=True)), or give "
         "from_dataset(...) instead")
def loader_of_bytes():
    said = yield lambda: answers(DataLoader(Items(), 2))
    answers(DataLoader(Items(eval(part(r"normalize them \((.*)\), or", said), {"v2": v2, "torch": torch})), 2))
    answers(from_dataset(Items()))


@follows("the DataLoader shuffles, so that no error could be found again by its number: build it with shuffle=False")
def errors_of_a_shuffled_loader():
    def found(**options): return Misclassified.find(net(), DataLoader(Items(), 2, **options), Normalize((0.5,)*3, (0.2,)*3),
                                                    class_names="abc")
    said = yield lambda: found(shuffle=True)
    assert found(**option("shuffle", said)).accuracy <= 1


def judged(images):
    small = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 10))
    return Misclassified.find(small, images, None).verdicts()


def of_the_test_images(said) -> None:
    "A slice of them, as the message wants it; practice images have the same labels and brightness, without the files."
    assert "a slice of it" in said and len(judged(practice_images(80).subset(slice(20, 60))).kinds)


case("verdicts are known of CIFAR-10's test images alone, in the order of torchvision, of the hub or of the course's JPEG copy, "
     "all or a slice of at least {}: take load_cifar10(split='test') or a slice of it, not {} other images",
     lambda: judged(shapes(30, seed=0)), of_the_test_images)


def filed(folder=None, size=None, parts=("",)):
    "The pictures as files, in a folder for each class."
    folder = folder or room()
    for where, (image, label) in itertools.product(parts, PAIRS):
        target = folder/where/f"class {label}"
        target.mkdir(parents=True, exist_ok=True)
        (image.resize(size) if size else image).save(target/f"{size}.png")
    return folder


@follows("make it with from_dataset({}), or from_folder(path)")
def neither_data_nor_loader():
    said = yield lambda: opened("train", PAIRS)
    known = {"train": PAIRS, "path": filed(), "from_dataset": from_dataset, "from_folder": from_folder}
    for how in part("make it with (.*?)$", said).split(", or "): assert len(opened("train", eval(how, known)))


@follows("{} can't be read as an image ({}): repair it or take it away")
def damaged_picture():
    folder = filed()
    whole = (file := folder/"class 2"/"torn.png").with_name("None.png").read_bytes()
    file.write_bytes(whole[:60])
    said = yield lambda: from_folder(folder)
    assert part("^(.*) can't be read", said) == str(file)
    file.write_bytes(whole)
    assert len(from_folder(folder)) == 3
    file.unlink()
    assert len(from_folder(folder)) == 2


case("{} has {} px, {} {}: give size= to bring all to one size", lambda: from_folder(filed(filed(), (20, 24))),
     lambda _: from_folder(filed(filed(), (20, 24)), size=16))


@follows("{} has no folders: put the images of each class into one")
def pictures_without_folders():
    folder = room()
    for i, (image, _) in enumerate(PAIRS): image.save(folder/f"{i}.png")
    yield lambda: from_folder(folder)
    for i, (_, label) in enumerate(PAIRS):
        (folder/f"class {label}").mkdir()
        (folder/f"{i}.png").rename(folder/f"class {label}"/f"{i}.png")
    assert len(from_folder(folder)) == 2


@follows("root={} is for 'cifar10' alone: leave it out, or give the folder as the data set")
def root_of_shapes():
    folder = filed(parts=("train", "test"))
    yield lambda: load_data("shapes", root=folder, n_train=20, n_test=20)
    assert load_data("shapes", n_train=20, n_test=20)[0].name == "shapes" and load_data(folder)[0].name == folder.name


def is_cifar(found) -> bool: return all(part.name == "cifar10" for part in found)


@follows("give a folder that holds CIFAR-10, or leave it out (then caches are searched, or it is downloaded)")
def root_that_is_missing():
    folder = prepared().folder
    with cifar() as patch:
        yield lambda: load_data("cifar10", root="no-such-folder")
        assert is_cifar(load_data("cifar10", root=folder/"packs", verbose=False))
        patch.setattr("cam_course.base.cifar10._caches", lambda split: [("a cache", next((folder/"hub").rglob(f"{split}*")))])
        assert is_cifar(load_data("cifar10", verbose=False))


@follows("give a folder with train/ and test/, or 'cifar10', or 'shapes'")
def folder_that_is_missing():
    with cifar(CAM_COURSE_DATA=prepared().folder/"packs") as patch:
        patch.setenv("CAM_COURSE_DATA", str(prepared().folder/"packs"))
        said = yield lambda: load_data("./no-such-folder", n_train=20, n_test=20)
        for name in (filed(parts=("train", "test")), *quoted(said.partition(":")[0])):
            assert load_data(name, n_train=2, n_test=2, verbose=False)


# ---- gradcam

@follows("targets {}: give a class, a class per image, 'all' or None (the predicted one)")
def target_by_name():
    yield lambda: maps(net(), "0", targets="cat")
    for targets in (1, [0, 2], "all", None): maps(net(), "0", targets=targets)


@follows("{} targets for {} images: give one callable per image")
def one_callable():
    score = lambda row: row[0]
    yield lambda: maps(net(), "0", targets=[score])
    maps(net(), "0", targets=[score]*len(IMAGES))


@follows("target_layers is empty: give at least one layer, such as suggest_layer(model, image_size)")
def no_layers():
    said = yield lambda: maps(net(), [])
    known = {"suggest_layer": cam_course.suggest_layer, "model": net(), "image_size": 16}
    maps(net(), [eval(part("such as (.*)", said), known)])


case("target_layers has {} entries but {} layers: give each one once", lambda: maps(net(), ["0", "2", "0"]),
     lambda _: maps(net(), ["0", "2"]))
case("{} is not called once in every forward: choose another layer",
     lambda: maps(Scored(True), "relu", reshape_transform=lambda t: t),
     lambda _: maps(Scored(True), "b", reshape_transform=lambda t: t))
case("reshape_transform, the third argument as in grad-cam, must be a function, got {}: give other arguments by name, such as "
     "min_size=5",
     lambda: GradCAM(net(), "0", 7), lambda said: maps(net(), "0", **option("min_size", said)))
case("ablationcam sets channels of the layer to 0 where they stand, and this reshape_transform returns a copy: use views (permute, "
     "unflatten, slices), or another method",
     lambda: AnyCAM(net(), "0", lambda t: t.clone(), method="ablationcam")(IMAGES),
     lambda _: AnyCAM(net(), "0", lambda t: t[:, 1:], method="ablationcam")(IMAGES),
     lambda _: AnyCAM(net(), "0", lambda t: t.clone(), method="hirescam")(IMAGES))
case("aug_smooth averages maps in [0, 1]: leave it out for raw maps, normalize=False",
     lambda: GradCAM(net(), "0")(IMAGES, aug_smooth=True, normalize=False),
     lambda _: GradCAM(net(), "0")(IMAGES, normalize=False))


class Split(nn.Module):
    "Maps in two."

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x): return self.conv(x).chunk(2, 1)


class Mixed(nn.Module):
    "Layers of several forms: two tensors, channels first, channels last."

    def __init__(self):
        super().__init__()
        self.split, self.conv, self.norm, self.head = Split(), nn.Conv2d(4, 4, 3), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x): return self.head(self.norm(self.conv(self.split(x)[0]).permute(0, 2, 3, 1)).square().mean((1, 2)))


case("{} gives a {}, and reshape_transform takes one tensor: choose a module inside it",
     lambda: maps(Mixed(), "split", reshape_transform=lambda t: t),
     lambda _: maps(Mixed(), "split.conv", reshape_transform=lambda t: t))
case("some of {} have their channels first, some last, and the library takes one form: use GradCAM",
     lambda: library_cam(Mixed(), IMAGES, ["conv", "norm"]), lambda _: maps(Mixed(), ["conv", "norm"]))
case("the library draws one class per image: use GradCAM for several",
     lambda: library_cam(net(), IMAGES, "0", [[0, 1], [1, 2]]), lambda _: maps(net(), "0", targets=[[0, 1], [1, 2]]))


# ---- localization

@follows("maps {} and masks {} don't match: give one mask per map, such as data.masks[:, 0]")
def masks_of_two_objects():
    two = shapes(3, seed=0, second_object=True)
    said = yield lambda: pointing_game(torch.rand(3, 8, 8), two.masks)
    assert pointing_game(torch.rand(3, 8, 8), eval(part("such as (.*)", said), {"data": two})).shape == (3,)


@follows("{} of the masks are empty: leave out images without an object")
def empty_masks():
    found, masks = torch.rand(3, 8, 8), shapes(3, seed=0).masks[:, 0].clone()
    masks[1] = False
    yield lambda: mass_in_mask(found, masks)
    there = masks.flatten(1).any(1)
    assert mass_in_mask(found[there], masks[there]).shape == (2,)


case("an interval needs 2 results or more: run more seeds", lambda: mean_interval(torch.tensor([0.9])),
     lambda _: mean_interval(torch.tensor([0.9, 0.8])))


# ---- photographs

CRANES = "crane, bird", "crane, lifting machine", "cat"
CAT = ph.shipped_photographs()["cat_chelsea"].path


def birds() -> PhotoNet: return PhotoNet(net(), CRANES, layer="0", size=32)


@follows("class {} is {} classes: give the number, {}")
def two_cranes():
    said = yield lambda: birds().index("crane")
    assert [birds().index(k) for k in part("give the number, (.*)", said).split(" or ")] == [0, 1]


@follows("give a name such as {}, or")
def unknown_class():
    said = yield lambda: birds().index("zzzzzz")
    assert birds().index(part("give a name such as '(.*?)'", said)) == 2


def named_nets(names: list[str]) -> None:
    "The networks that a message names can be had, as far as that goes without a line."
    for name in names: assert imagenet_net(name, None if name == "mobilenet_v2" else "untrained").layer


case("take 'mobilenet_v2', 'resnet50', ...", lambda: imagenet_net("zzzzzz"),
     lambda said: named_nets(quoted(part("take (.*), ...", said))))
case("{} has no maps behind its first layer, so Grad-CAM has nothing to weigh: take a network with convolutions, such as "
     "'convnext_tiny' or 'resnet50'", lambda: imagenet_net("vit_b_16"), lambda said: named_nets(quoted(said.partition("such as")[2])))


class Line:
    "What downloads torchvision's weights, where there is no line: they are written, unless the folder is closed or the line dead."

    def __init__(self, closed=None): self.closed, self.dead = closed, False

    def __call__(self, url, file, *_args, **_options):
        if self.closed and str(file).startswith(str(self.closed)): raise PermissionError(13, "Permission denied", str(file))
        if self.dead: raise urllib.error.URLError("no route to host")
        torch.save(models.squeezenet1_0().state_dict(), file)


@follows("set TORCH_HOME to a folder that you may write to, or take 'mobilenet_v2', which needs no download")
def closed_torch_home():
    closed = room()
    with pytest.MonkeyPatch.context() as patch, mock.patch("torch.hub.download_url_to_file", Line(closed)):
        patch.setenv("TORCH_HOME", str(closed))
        said = yield lambda: imagenet_net(progress=False)
        patch.setenv(part(r"set (\w+) to", said), str(room()))
        assert imagenet_net(progress=False).source.startswith("squeezenet")
        named_nets([part("take '(.*?)'", said)])


@follows("connect once, give a file of weights: imagenet_net(weights='squeezenet.safetensors'), or take 'mobilenet_v2', which needs no "
         "download")
def no_line():
    with pytest.MonkeyPatch.context() as patch, mock.patch("torch.hub.download_url_to_file", line := Line()):
        patch.setenv("TORCH_HOME", str(room()))
        patch.chdir(room())
        line.dead = True
        said = yield lambda: imagenet_net(progress=False)
        line.dead = False
        assert imagenet_net(progress=False)
        line.dead = True
        assert imagenet_net(progress=False)                 # once is enough
        patch.setenv("TORCH_HOME", str(room()))
        save_file(models.squeezenet1_0().state_dict(), quoted(said.partition("weights=")[2])[0])
        assert eval(part(r"(imagenet_net\(.*?\))", said), {"imagenet_net": imagenet_net}).source.endswith("squeezenet.safetensors")
        named_nets([part("take '(.*?)'", said)])


@follows("photograph of {}x{} px: the middle square would hold less than an eighth of it. Crop it first")
def panorama():
    image = Image.new("RGB", (900, 100))
    yield lambda: load_photograph(image)
    assert load_photograph(image.crop((400, 0, 500, 100))).shape == (3, 227, 227)


@follows("{} is a folder: name the pictures in it")
def folder_of_pictures():
    folder = room()
    Image.open(CAT).save(folder/"cat.png")
    yield lambda: load_photograph(folder)
    assert [load_photograph(folder/name).shape for name in os.listdir(folder)] == [(3, 227, 227)]


@follows("{} is no image that Pillow can read: save it as JPEG or PNG")
def unknown_kind_of_file():
    folder = room()
    (folder/"cat.svg").write_text("<svg/>")
    said = yield lambda: load_photograph(folder/"cat.svg")
    for kind in part("save it as (.*)", said).split(" or "):
        Image.open(CAT).save(folder/"cat", kind)
        assert load_photograph(folder/"cat").any()


@follows("{} has more than {} million pixels: scale it down first")
def huge_photograph():
    image, file = Image.new("1", (9500, 9500), 1), room()/"huge.png"
    image.save(file)
    said = yield lambda: load_photograph(file)
    assert image.width*image.height > 1e6*int(part(r"than (\d+) million", said))
    image.resize((950, 950)).save(file)
    assert load_photograph(file).all()


@follows("{} can't be read as an image ({}): repair it or save it again")
def torn_photograph():
    file, whole = room()/"torn.jpg", CAT.read_bytes()
    file.write_bytes(whole[:len(whole)//2])
    yield lambda: load_photograph(file)
    Image.open(CAT).save(file)
    again = load_photograph(file)
    file.write_bytes(whole)
    assert (load_photograph(file).float() - again.float()).abs().mean() < 10


@follows("no photographs: {}. Use your own: load_photograph('cat.jpg')")
def no_samples():
    with cifar() as patch:
        patch.setattr(ph, "_GITHUB", "http://127.0.0.1:9/")
        said = yield lambda: ph.sample_photographs()
        Image.open(CAT).save(quoted(said.rpartition("your own: ")[2])[0])
        assert eval(part("your own: (.*)", said), {"load_photograph": load_photograph}).shape == (3, 227, 227)


case("no photographs: give at least one", lambda: photograph_data(birds(), {}), lambda _: photograph_data(birds(), {"cat": CAT}))


# ---- resnet, training

@follows("images are {}: normalize them first, Normalize(mean, std)(x)")
def bytes_to_a_net():
    model = ResNet18(width=4).eval()
    said = yield lambda: model(BYTES)
    known = {"x": BYTES, "mean": (0.5,)*3, "std": (0.2,)*3, "Normalize": Normalize}
    assert model(eval(part("first, (.*)", said), known)).shape == (2, 10)


@follows("images of {} px are too small: three layers halve them, so give 8 px or more")
def tiny_images():
    model = ResNet18(width=4).eval()
    said = yield lambda: model(IMAGES[..., :7, :7])
    side = int(part(r"give (\d+) px", said))
    assert model(IMAGES[..., :side, :side]).shape == model(IMAGES).shape


@follows("weights {} have {}={}, not {}: leave {} out")
def other_net_than_the_weights():
    file, layered = room()/"layered.safetensors", ResNet18(width=2, norm="layer")
    write_weights(file, layered.state_dict(), **layered.architecture())
    for weights, given in (("cifar10_jpeg", {"norm": "layer"}), (file, {"norm": "batch"}), (file, {"width": 64})):
        said = yield lambda weights=weights, given=given: ResNet18(weights=weights, **given)
        del given[part(r"leave (\w+) out", said)]
        assert ResNet18(weights=weights, **given).about


@follows("weights {} know {} classes: the last layer, for {}, is new; train it")
def new_head():
    found, three = [], shapes(60, seed=0, classes=("disc", "cross", "moon"))
    yield lambda: warned(lambda: found.append(ResNet18(3, weights="cifar10_jpeg")))
    model = found[0]
    head, model.fc = model.fc, nn.Identity()
    with torch.no_grad(): seen = model(Normalize.of(three)(three.x))
    before, optimizer = F.cross_entropy(head(seen), three.y), torch.optim.Adam(head.parameters(), 0.01)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(head(seen), three.y).backward()
        optimizer.step()
    model.fc = head
    loss, accuracy = evaluate(model, three)
    assert loss < before/2 and accuracy > 0.8


def trained(max_lr: float, clip_norm=None) -> float:
    "The last loss of a short training of a small net under one-cycle."
    torch.manual_seed(0)
    images = shapes(96, seed=0, size=16)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 32), nn.ReLU(), nn.Linear(32, 32), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), max_lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=24, cycle_momentum=False)
    options = {"epochs": 4, "batch_size": 16, "device": "cpu", "precision": "fp32", "clip_norm": clip_norm}
    return Trainer(model, images, images, optimizer, schedule, **options).fit()[-1]["train_loss"]


@follows("the loss was not finite at step {}, where the learning rate was {}: use a smaller max_lr (try {}) or clip_norm=1")
def diverged():
    said = yield lambda: trained(0.5)
    assert trained(float(part(r"try ([\d.e-]+)\)", said))) < 2.3 and trained(0.5, **option("clip_norm", said)) < 2.3


LOADED = TensorDataset(IMAGES, LABELS)
case("the answers would come in the order of a shuffled loader: make it with shuffle=False",
     lambda: answers(DataLoader(LOADED, 2, shuffle=True)), lambda said: answers(DataLoader(LOADED, 2, **option("shuffle", said))))


class Two(nn.Module):
    "Returns more than logits."

    def __init__(self, inner):
        super().__init__()
        self.net = inner

    def forward(self, x): return self.net(x), x


class Alone(Two):
    def forward(self, x): return self.net(x)[0]


def fitted(model, images=None, **options) -> Trainer:
    "A trainer that has trained for an epoch."
    images = images or data()
    trainer = Trainer(model, images, images, torch.optim.SGD(model.parameters(), 0.01), epochs=1, batch_size=2, device="cpu", **options)
    trainer.fit()
    return trainer


@follows("wrap it in an nn.Module whose forward returns them alone")
def several_answers():
    yield lambda: predict(Two(net()), data())
    yield lambda: fitted(Two(net()))
    assert predict(Alone(Two(net())), data()).shape == (2, 3) and fitted(Alone(Two(net())))


@follows("the net has {} outputs, but the data {} classes: make it with num_classes={}")
def fewer_outputs():
    images = shapes(20, seed=0)
    said = yield lambda: evaluate(ResNet18(3, width=4), images)
    assert evaluate(ResNet18(width=4, **option("num_classes", said)), images)


# ---- transforms

class Darker(cam_course.transforms.Transform):
    "Each image darker by a factor of its own."

    drawn = ("factor",)

    def roll(self, dice, height, width): return (dice.unit(),)
    def apply(self, x, factor): return (x*factor[:, None, None, None]).to(x.dtype)


@follows("{} seeds for {} images: draw(len(x)), or index the seeds as the images")
def seeds_of_all():
    noise, rows = AddGaussianNoise(0.1), torch.tensor([1])
    drawn, x = noise.draw(2), BYTES[rows]
    said = yield lambda: noise.apply(x, **drawn)
    own = eval("noise." + part(r": (draw\(.*\)),", said), {"noise": noise, "x": x})
    assert noise.apply(x, **own).shape == x.shape
    assert noise.apply(x, drawn["seed"][rows]).equal(noise.apply(BYTES, **drawn)[rows])


@follows("mean {} and std {} must be of images in [0, 1]: divide by 255")
def mean_of_bytes():
    mean, std = (127.5, 120.0, 110.0), (63.0, 62.0, 61.0)
    said = yield lambda: Normalize(mean, std)
    mean, std = ([v/int(part(r"divide by (\d+)", said)) for v in values] for values in (mean, std))
    assert Normalize(mean, std)(IMAGES).abs().max() < 3


@follows("give an object, {}(...), not the class")
def a_class():
    said = yield lambda: Compose([AddGaussianNoise])
    known = {"AddGaussianNoise": lambda _: AddGaussianNoise(0.1)}
    assert Compose([eval(part(r"an object, (.*?), not", said), known)])(BYTES).shape == BYTES.shape


@follows("use cam_course.{}, whose draws a resumed training can repeat")
def torchvisions():
    stats, chain = ((0.5,)*3, (0.2,)*3), ([v2.RandomCrop(16)],)
    theirs = {v2.RandomCrop: (16, 2), v2.RandomHorizontalFlip: (0.5,), v2.RandomRotation: (5,), v2.Normalize: stats, v2.Compose: chain}
    for kind, given in theirs.items():
        said = yield lambda kind=kind, given=given: Compose([kind(*given)])
        ours = eval(part("use ([^,]*),", said), {"cam_course": cam_course})
        if kind is v2.Compose: given = ([cam_course.RandomCrop(16)],)
        assert Compose([ours(*given)])(BYTES).shape == BYTES.shape


case("write a subclass of cam_course.transforms.Transform, with roll and apply", lambda: Compose([v2.RandomGrayscale()]),
     lambda _: Compose([Darker(), AddGaussianNoise(0.1)])(BYTES))


@follows("parameter {} is of none of the {} transforms: use this one's draw()")
def draws_of_another():
    two, one = Compose([Darker(), Darker()]), Compose([Darker()])
    yield lambda: one.apply(BYTES, **two.draw(2, 16))
    assert one.apply(BYTES, **one.draw(2, 16)).shape == BYTES.shape


# ---- weight_averaging

case("debias=True is for avg='ema': the equal mean of avg={} has no bias, so leave it out",
     lambda: WeightAverage(net(), avg="swa", debias=True), lambda _: WeightAverage(net(), avg="swa").update_parameters(net()),
     lambda said: WeightAverage(net(), debias=True, **eval(f"dict({part('is for (.*?):', said)})")).update_parameters(net()))
