"""Train briefly, in as many processes as this was started in, and write the weights: see test_processes.py.

    accelerate launch --cpu --num_processes 2 tests/two_processes.py FOLDER     # writes group.pt and batch.pt
"""
import argparse
from pathlib import Path

import torch

from cam_course.app.trainer import Trainer
from cam_course.base.geometric import RandomCrop, RandomHorizontalFlip
from cam_course.data import shapes
from cam_course.resnet import ResNet18
from cam_course.transforms import Compose, Cutout, Normalize, RandomRotation


def train(norm: str, steps: int, out: Path) -> None:
    torch.manual_seed(0)
    data, test, per_epoch = shapes(400, seed=0), shapes(100, seed=1), 25  # of 16 images
    model = ResNet18(width=8, norm=norm).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=steps)
    normalize = Normalize.of(data)
    trainer = Trainer(
        model, data, test, optimizer, schedule, epochs=steps//per_epoch, batch_size=16, seed=3, device="cpu",
        transform=Compose([RandomCrop(32, 4), RandomHorizontalFlip(), RandomRotation(10), Cutout(12)]),
        normalize=lambda x: normalize(x).double(), clip_norm=5.0, progress=False,
    )
    history = trainer.fit()
    if trainer.accelerator.is_main_process:
        done = {"processes": trainer.accelerator.num_processes, "step": trainer.step, "history": list(history)}
        torch.save({"model": model.state_dict(), **done}, out)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--norms", nargs="+", default=["group", "batch"])
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for norm in args.norms: train(norm, args.steps, args.folder/f"{norm}.pt")


if __name__ == "__main__":
    main()
