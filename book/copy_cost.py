"""What the JPEG copy costs a net: python book/copy_cost.py book/runs/NAME --strips FOLDER

The net of a run that was trained on the copy answers the same training images twice: as the copy has them, and as CIFAR-10's archive
has them. `--strips` is a folder with images of the archive: PNG files whose row n is image n, 3,072 pixels long (convnetjs has such).
Each is paired with the image of the copy nearest to it, and no two with the same. Writes FOLDER_OF_THE_RUN/copy_cost.json.
"""
import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from cam_course import load_data, predict
from cam_course.app.factory import build_model
from cam_course.app.main import read_config
from cam_course.base.core import write_json
from cam_course.base.weights import read_weights
from cam_course.transforms import Normalize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--strips", type=Path, required=True)
    args = parser.parse_args()
    original, (train, _) = read_strips(args.strips), load_data("cifar10")
    number = paired(original, train.x)
    copy = train.subset(number)

    model = build_model(read_config(args.run), train.num_classes, train.x.shape[1])
    model.load_state_dict(read_weights(args.run/"last.safetensors", described=False)[0])
    model.eval()
    normalize, both = Normalize.of(train), []
    for x in (copy.x, original):
        copy.x = x
        both.append(predict(model, copy, normalize).argmax(1) == copy.labels)
    on_copy, on_original = both
    counts = {"images": len(copy), "right_on_copy": int(on_copy.sum()), "right_on_original": int(on_original.sum()),
              "only_on_copy": int((on_copy & ~on_original).sum()), "only_on_original": int((on_original & ~on_copy).sum())}
    write_json(args.run/"copy_cost.json", counts)
    print(counts)


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
