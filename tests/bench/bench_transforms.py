"""Augmenting batches against augmenting images one by one.

    python tests/bench/bench_transforms.py [--pairs 7] [--batch 128] [--images 2048]

Both sides go from uint8 images to normalized float batches through RandomCrop(32, padding=4), horizontal flip, rotation
by up to 5 degrees and cutout 16, in one process on one thread.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pairs
import torch
import torchvision.transforms as T
import torchvision.transforms.v2 as T2
from PIL import Image

from cam_course import transforms as ours

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class UsualCutout:
    "As in the repository of the cutout paper, and in most that followed: a NumPy mask on the normalized image."

    def __init__(self, size: int):
        self.half = size // 2

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        h, w = image.shape[1:]
        mask = np.ones((h, w), np.float32)
        y, x = np.random.randint(h), np.random.randint(w)
        top, bottom = np.clip(y - self.half, 0, h), np.clip(y + self.half, 0, h)
        left, right = np.clip(x - self.half, 0, w), np.clip(x + self.half, 0, w)
        mask[top:bottom, left:right] = 0.0
        return image * torch.from_numpy(mask).expand_as(image)


def batched() -> ours.Compose:
    "Ours."
    moves = [ours.RandomCrop(32, padding=4), ours.RandomHorizontalFlip(), ours.RandomRotation(5)]
    return ours.Compose([*moves, ours.Cutout(16, fill=(125, 123, 114)), ours.Normalize(MEAN, STD)])


def one_by_one() -> dict[str, Callable]:
    "The usual ways; RandomErasing's square is as large as cutout's, but never leaves the image."

    def geometry(lib) -> list:
        return [lib.RandomCrop(32, padding=4), lib.RandomHorizontalFlip(), lib.RandomRotation(5)]

    pil = [*geometry(T), T.ToTensor(), T.Normalize(MEAN, STD)]
    v2 = [*geometry(T2), T2.ToDtype(torch.float32, scale=True), T2.Normalize(MEAN, STD)]
    return {
        "PIL": T.Compose([*pil, UsualCutout(16)]),
        "PIL, RandomErasing": T.Compose([*pil, T.RandomErasing(p=1, scale=(0.25, 0.25), ratio=(1, 1))]),
        "v2 on tensors": T2.Compose([*v2, UsualCutout(16)]),
    }


def main(argv: list[str] | None = None) -> list[pairs.Ratio]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=2048)
    args = parser.parse_args(argv)
    shape, dice = (args.images, 3, 32, 32), torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, shape, generator=dice, dtype=torch.uint8)
    pictures = [Image.fromarray(image) for image in x.permute(0, 2, 3, 1).numpy()]
    chain, found, threads = batched(), [], torch.get_num_threads()

    def whole() -> None:  # the dice of an epoch at once, as the trainer does
        params = chain.draw(args.images, 32, dice)
        for k in range(0, args.images, args.batch):
            rows = slice(k, k + args.batch)
            chain.apply(x[rows], **{name: value[rows] for name, value in params.items()})

    def loop(transform: Callable, images: list) -> None:
        for k in range(0, args.images, args.batch):
            torch.stack([transform(image) for image in images[k : k + args.batch]])

    torch.set_num_threads(1)
    torch.empty(30_000_000, dtype=torch.uint8)  # like the tensors of a training step: once one is freed, malloc
    # keeps pages for the next tensors in place of giving them back to the system each time
    for name, transform in one_by_one().items():
        images = list(x) if name.startswith("v2") else pictures
        theirs = (f"{name}, one image at a time", lambda t=transform, i=images: loop(t, i))
        goal = 25 if name.startswith("PIL") else None
        mine = (f"batches of {args.batch}", whole)
        found.append(pairs.compare(f"augmentation against {name}", mine, theirs, args.pairs, goal=goal))
    torch.set_num_threads(threads)
    return found


if __name__ == "__main__":
    pairs.write("transforms", main())
