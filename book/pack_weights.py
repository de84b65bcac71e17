"""Make a file of weights from a finished run: python book/pack_weights.py runs/NAME cifar10_jpeg [--folder book/nets] [--int8]

Writes cam_course/weights/NAME.safetensors (shipped), or a file in another folder (kept, not shipped), with what it was trained
on, and how good the rounded weights are, measured here. Prints the hash that goes into nbs/base/weights.ipynb if it is shipped.
"""
import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cam_course.app.factory import build_model, load_images
from cam_course.app.main import read_config
from cam_course.base.core import get_device, memory_format
from cam_course.base.weights import read_weights, write_weights
from cam_course.training import evaluate
from cam_course.transforms import Normalize

FOLDER = Path(__file__).resolve().parent.parent/"cam_course"/"weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--int8", action="store_true", help="a byte for each weight, not two")
    args = parser.parse_args()
    dtype = torch.int8 if args.int8 else torch.float16
    state, about = describe(args.run, dtype)
    args.folder.mkdir(exist_ok=True)
    path = args.folder/f"{args.name}.safetensors"
    print(f'"{args.name}": "{write_weights(path, state, dtype, **about)}"')
    print(f"accuracy {about['accuracy']:.2%}, with mirror images {about['accuracy_tta']:.2%}; {path.stat().st_size/2**20:.2f} MB")


def describe(run: Path, dtype: torch.dtype = torch.float16) -> tuple[dict[str, Tensor], dict[str, Any]]:
    "The weights of a finished run, rounded, and what `write_weights` is to say of them; they are measured here."
    config = read_config(run)
    stamp = json.loads((run/"environment.json").read_text(encoding="utf-8"))
    train, test = load_images(config)
    model = build_model(config, train.num_classes, train.x.shape[1])
    state = read_weights(run/"last.safetensors", described=False)[0]
    with tempfile.TemporaryDirectory() as folder:   # as they will be read
        write_weights(Path(folder)/"rounded.safetensors", state, dtype)
        model.load_state_dict(read_weights(Path(folder)/"rounded.safetensors", described=False)[0])
    device = get_device(config.device)
    model.to(device, memory_format=memory_format(model, device))
    plain, tta = (evaluate(model, test, Normalize.of(train), tta=t)[1] for t in (False, True))
    about = config.result_settings() | model.architecture()
    about |= {"dataset": _words(train.name), "class_names": train.class_names, "mean": train.mean, "std": train.std,
              "image_size": train.image_size, "accuracy": round(plain, 4),
              "accuracy_tta": round(tta, 4), "date": stamp["date"], "torch": stamp["torch"]}
    return model.state_dict(), about


def _words(name: str) -> str:
    return {"cifar10": "CIFAR-10", "cifar10-jpeg": "CIFAR-10, JPEG copy (quality 75)"}.get(name, name)


if __name__ == "__main__":
    main()
