"""Train briefly, in as many processes as this was started in, and write the weights: see test_processes.py.

    accelerate launch --cpu --num_processes 2 tests/two_processes.py OUT.pt --norm group
"""
import argparse

import torch

from cam_course.data import shapes
from cam_course.models.resnet import ResNet18
from cam_course.trainer import Trainer
from cam_course.transforms import Compose, Cutout, Normalize, RandomCrop, RandomHorizontalFlip, RandomRotation


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--norm", default="group")
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    torch.manual_seed(0)
    train, test, per_epoch = shapes(400, seed=0), shapes(500, seed=1), 25  # of 16 images
    model = ResNet18(width=8, norm=args.norm).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=args.steps)
    normalize = Normalize.of(train)
    trainer = Trainer(
        model, train, test, optimizer, schedule, epochs=args.steps//per_epoch, batch_size=16, seed=3, device="cpu",
        transform=Compose([RandomCrop(32, 4), RandomHorizontalFlip(), RandomRotation(10), Cutout(12)]),
        normalize=lambda x: normalize(x).double(), clip_norm=5.0, progress=False,
    )
    history = trainer.fit()
    if trainer.accelerator.is_main_process:
        done = {"processes": trainer.accelerator.num_processes, "step": trainer.step, "history": list(history)}
        torch.save({"model": model.state_dict(), **done}, args.out)


if __name__ == "__main__":
    main()
