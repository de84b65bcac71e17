"""How much faster is augmenting a batch than augmenting its images one by one?

    python tests/bench/bench_transforms.py [--batch 128] [--images 512] [--pairs 7] [--json]

Both sides go from uint8 images to a normalized float batch through RandomCrop(32, padding=4), horizontal flip, rotation by
up to 5 degrees and cutout 16, in one process on one thread. A pair is one run of each, right after the other, over all the
images; ours is repeated so that both take about as long. Times are CPU seconds of the thread, so that what other programs
take is not counted (that they empty the caches is). Printed: the median of the ratios, and the least and the greatest.
"""
import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms as T
import torchvision.transforms.v2 as T2
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from cam_course import transforms as ours  # noqa: E402

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


def contenders(x: torch.Tensor, batch: int) -> tuple[Callable, dict[str, Callable]]:
    "Ours, and the usual ways by name; each call does all the images, in batches."
    moves = [ours.RandomCrop(32, padding=4), ours.RandomHorizontalFlip(), ours.RandomRotation(5)]
    chain = ours.Compose([*moves, ours.Cutout(16, fill=(125, 123, 114)), ours.Normalize(MEAN, STD)])
    pictures = [Image.fromarray(image) for image in x.permute(0, 2, 3, 1).numpy()]

    def geometry(lib):
        return [lib.RandomCrop(32, padding=4), lib.RandomHorizontalFlip(), lib.RandomRotation(5)]

    pil = [*geometry(T), T.ToTensor(), T.Normalize(MEAN, STD)]
    v2 = T2.Compose([*geometry(T2), T2.ToDtype(torch.float32, scale=True), T2.Normalize(MEAN, STD), UsualCutout(16)])
    erase = T.RandomErasing(p=1, scale=(0.19, 0.19), ratio=(1, 1))  # its square stays inside the image

    def one_by_one(transform: Callable, images: list) -> Callable:
        return lambda: [torch.stack([transform(i) for i in images[k : k + batch]]) for k in range(0, len(images), batch)]

    return lambda: [chain(part) for part in x.split(batch)], {
        "PIL images, cutout as usual": one_by_one(T.Compose([*pil, UsualCutout(16)]), pictures),
        "PIL images, RandomErasing": one_by_one(T.Compose([*pil, erase]), pictures),
        "v2 on tensors, one by one": one_by_one(v2, list(x)),
    }


def seconds(work: Callable, repeat: int = 1) -> float:
    "CPU seconds of this thread for one call."
    start = time.thread_time()
    for _ in range(repeat):
        work()
    return (time.thread_time() - start) / repeat


def measure(batch: int = 128, images: int = 512, pairs: int = 7) -> list[dict]:
    "A row for each usual way: microseconds an image of both, the ratio's median, least and greatest."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x = torch.randint(0, 256, (images, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        batched, usual = contenders(x, batch)
        rows = []
        for name, work in usual.items():
            repeat = max(1, round(seconds(work) / seconds(batched, 5)))  # warms both up
            runs = [(seconds(work), seconds(batched, repeat)) for _ in range(pairs)]
            theirs, mine = (1e6 * statistics.median(side) / images for side in zip(*runs, strict=True))
            ratios = sorted(a / b for a, b in runs)
            rows.append({"against": name, "theirs_us": theirs, "ours_us": mine, "pairs": pairs,
                         "ratio": statistics.median(ratios), "least": ratios[0], "greatest": ratios[-1]})  # fmt: skip
        return rows
    finally:
        torch.set_num_threads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    rows = measure(options.batch, options.images, options.pairs)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"crop + flip + rotation + cutout + normalize, batches of {options.batch}, {options.pairs} pairs, one thread")
    for r in rows:
        print(f"{r['against']:28} {r['theirs_us']:6.1f} against {r['ours_us']:5.2f} µs an image: "
              f"{r['ratio']:.1f} times ({r['least']:.1f} to {r['greatest']:.1f})")


if __name__ == "__main__":
    main()
