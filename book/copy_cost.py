"""What the JPEG copy costs a net: python book/copy_cost.py book/runs/NAME --strips FOLDER [--train]

Two measurements on the same images, as the copy has them and as CIFAR-10's archive has them:

- the net of a run, which was trained on the copy, answers both;
- with `--train`: four times, small nets learn three quarters of the images and answer the rest; one learns the copy, its twin (same
  weights, order and augmentation) the originals, and each answers both.

`--strips` is a folder with images of the archive: PNG files whose row n is image n, 1,024 pixels long (convnetjs has such). Each is
paired with the image of the copy nearest to it, and no two with the same. Writes a table, copy_cost.txt, into the run's folder.
"""
import argparse
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from cam_course import load_data, predict, recipe
from cam_course.app.factory import build_model, build_trainer
from cam_course.app.main import read_config
from cam_course.base.core import write_text
from cam_course.base.weights import read_weights
from cam_course.data import ImageData
from cam_course.transforms import Normalize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--strips", type=Path, required=True)
    parser.add_argument("--train", action="store_true", help="also train small nets on both")
    args = parser.parse_args()
    original, (train, _) = read_strips(args.strips), load_data("cifar10")
    copy = train.subset(paired(original, train.x))

    config = read_config(args.run)
    model = build_model(config, train.num_classes, train.x.shape[1])
    model.load_state_dict(read_weights(args.run/"last.safetensors", described=False)[0])
    rows = {"the net of this run": pair_counts(*(right(model, copy, x) for x in (copy.x, original)))}
    if args.train:
        rows |= {f"small nets, {kind}": counts for kind, counts in train_twins(copy, original).items()}
    write_text(args.run/"copy_cost.txt", table(len(copy), rows))
    print(table(len(copy), rows), end="")


def table(images: int, rows: dict[str, dict[str, int]]) -> str:
    "A line for each net or kind of net, with the numbers of images."
    head = f"{f'right, of {images:,} training images':36}" + "".join(f"{name:>18}" for name in next(iter(rows.values())))
    return "\n".join([head, *(f"{name:36}" + "".join(f"{n:18,}" for n in counts.values()) for name, counts in rows.items())]) + "\n"


SMALL = {"width": 16, "epochs": 40, "batch_size": 64, "max_lr": 0.1}


def right(model: nn.Module, data: ImageData, x: Tensor) -> Tensor:
    "(N,) bool: which of the images x, which are `data`'s in one form or the other, the net has right."
    return predict(model.eval(), replace(data, x=x), Normalize.of(data)).argmax(1) == data.y


def pair_counts(on_copy: Tensor, on_original: Tensor) -> dict[str, int]:
    return {"copy": int(on_copy.sum()), "original": int(on_original.sum()),
            "only the copy": int((on_copy & ~on_original).sum()), "only the original": int((on_original & ~on_copy).sum())}


def train_twins(copy: ImageData, original: Tensor, folds: int = 4) -> dict[str, dict[str, int]]:
    "Each image is answered once by a net that learned other images as the copy has them, once by its twin."
    found: dict[str, list[Tensor]] = {}
    parts = torch.arange(len(copy)).tensor_split(folds)
    for k, held in enumerate(parts):
        rest = torch.cat([part for part in parts if part is not held])
        for kind, x in (("copy", copy.x), ("original", original)):
            config = recipe("assignment", seed=k, **SMALL)
            train, test = (replace(copy, x=x).subset(rows) for rows in (rest, held))
            trainer = build_trainer(config, train, test)
            trainer.fit()
            for other, y in (("copy", copy.x), ("original", original)):
                found.setdefault(f"{kind} {other}", []).append(right(trainer.model, test, y[held]))
    answers = {pair: torch.cat(parts) for pair, parts in found.items()}
    return {"trained on the copy": pair_counts(answers["copy copy"], answers["copy original"]),
            "trained on originals": pair_counts(answers["original copy"], answers["original original"]),
            "each on its own kind": pair_counts(answers["copy copy"], answers["original original"])}


def read_strips(folder: Path) -> Tensor:
    "The images of all strips of a folder, in the order of the files' names: (N, 3, 32, 32) uint8."
    files = sorted(folder.glob("*.png"))
    if not files:
        raise SystemExit(f"no PNG file in {folder}: name a folder that holds the strips")
    rows = [torch.frombuffer(bytearray(Image.open(file).convert("RGB").tobytes()), dtype=torch.uint8) for file in files]
    return torch.cat(rows).view(-1, 32, 32, 3).permute(0, 3, 1, 2).contiguous()


def paired(
    original: Tensor,  # (M, 3, 32, 32) uint8
    copy: Tensor,      # (N, 3, 32, 32) uint8
) -> Tensor:  # (M,) where the copy holds each of them
    "The nearest image of the copy, by the pixels' distance; refused where two originals find the same one, or one lies far."
    flat = copy.flatten(1).float()
    square, found, far = flat.square().sum(1), [], []
    for x in original.flatten(1).float().split(500):
        distance, nearest = (square - 2*x@flat.T).min(1)
        found.append(nearest)
        far.append(((distance + x.square().sum(1)).clamp(min=0)/x.shape[1]).sqrt())
    number, far = torch.cat(found), torch.cat(far)
    if len(number.unique()) < len(number) or far.max() > 32:
        raise SystemExit(f"not images of one data set: {len(number) - len(number.unique())} found no partner of their own, "
                         f"the farthest differs by {far.max():.0f} levels: take strips of CIFAR-10's training images")
    return number


if __name__ == "__main__":
    main()
