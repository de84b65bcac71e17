"""A user's program: mypy --strict checks it against the library's signatures (test_types.py). It is not run."""

from pathlib import Path
from typing import assert_type

import numpy as np
from torch import Tensor, nn

from cam_course.adversarial import PixelModel, fgsm, pgd
from cam_course.app.config import TrainConfig
from cam_course.app.main import run
from cam_course.app.trainer import Trainer
from cam_course.averages import ewma, sma
from cam_course.base.checkpoints import Checkpoints, load_checkpoint
from cam_course.base.core import DataError, get_device, seed_everything
from cam_course.base.geometric import RandomCrop, RandomHorizontalFlip
from cam_course.base.rendering import overlay
from cam_course.base.target_layers import spatial_layers, suggest_layer
from cam_course.data import ImageData, from_folder, load_data
from cam_course.gallery import Misclassified
from cam_course.gradcam import GradCAM, library_cam
from cam_course.lr_finder import LRFinder
from cam_course.optimizers import Adam
from cam_course.resnet import ResNet, ResNet18
from cam_course.schedules import CyclicLR, OneCycleLR, cosine
from cam_course.transforms import Compose, Cutout, Normalize


def train(folder: Path) -> Trainer:
    seed_everything(0)
    data, test = load_data("shapes")
    assert_type(data, ImageData)
    assert_type(data.x, Tensor)
    assert_type(data.class_names, tuple[str, ...])
    photographs: ImageData = from_folder(folder, 64)
    transform = Compose([RandomCrop(32, 4), RandomHorizontalFlip(), Cutout(8)])
    assert_type(transform(photographs.x), Tensor)
    net = ResNet18(num_classes=10, width=16)
    assert_type(net, ResNet)
    optimizer = Adam(net.parameters(), lr=1e-3)
    found = LRFinder(net, optimizer, nn.CrossEntropyLoss(), device="cpu")
    assert_type(found, LRFinder)
    scheduler = OneCycleLR(optimizer, 0.01, total_steps=100)
    assert_type(scheduler.get_last_lr(), list[float])
    CyclicLR(optimizer, 1e-4, 1e-2, cycle_momentum=False).step()
    trainer = Trainer(net, data, test, optimizer, scheduler, epochs=1, transform=transform, device=get_device("cpu"))
    trainer.fit()
    return trainer


def see(net: nn.Module, data: ImageData, normalize: Normalize) -> list[str]:
    x = normalize(data.x[:4])
    layer = suggest_layer(net, x)
    assert_type(layer, str)
    maps = library_cam(net, x, layer)
    overlay(data.x[:4], maps)
    GradCAM(net, layer)(x, [0, 1, 2, 3])
    errors = Misclassified.find(net, data, normalize)
    assert_type(errors, Misclassified)
    errors.plot(5).savefig("errors.png")
    pixels, labels = data.x[:4] / 255, data.y[:4]
    assert_type(fgsm(PixelModel(net, normalize), pixels, labels), Tensor)
    assert_type(pgd(PixelModel(net, normalize), pixels, labels, 8 / 255), Tensor)
    return [name for name, *_ in spatial_layers(net, x)]


def numbers() -> np.ndarray:
    smooth = ewma([1.0, 2.0, 3.0], 0.9)
    assert_type(sma([1.0, 2.0, 3.0], 2), np.ndarray)
    assert_type(smooth, np.ndarray)
    assert_type(cosine(np.arange(3), 0.1, 3), np.ndarray)
    return smooth


def command(folder: Path) -> float:
    result = run(TrainConfig(dataset="shapes", epochs=1, width=8, data_dir=str(folder)))
    try:
        load_checkpoint(folder / "last.safetensors")
        Checkpoints(folder).latest()
    except DataError as error:
        print(error)
    return result.accuracy
