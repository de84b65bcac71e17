"""What is known of CIFAR-10's test images beyond their labels, in one small file: python book/pack_verdicts.py FOLDER

FOLDER holds, as their authors publish them,

    original_predictions/*_predictions.json   github.com/modestyachts/CIFAR-10.1, model_predictions (MIT)
    cifar10_mturk.json                        github.com/cleanlab/label-errors, mturk (Apache-2.0)
    cifar10_test_set_original_labels.npy      the same, original_test_labels
    test-00000-of-00001.parquet               the JPEG copy: a path such as truck/0770.jpg says class and rank

Writes cam_course/verdicts/cifar10_test.safetensors, and prints its hash. SOURCES.txt beside it says whose work it is. People's answers
(CIFAR-10H, CC BY-NC-SA 4.0) are not part of it: the notebook fetches them.
"""
import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from cam_course.base.checkpoints import write_tensors
from cam_course.base.cifar10 import CLASS_NAMES

TO = Path(__file__).resolve().parent.parent/"cam_course"/"verdicts"/"cifar10_test.safetensors"


def original_numbers(paths: list[str], labels: np.ndarray) -> np.ndarray:
    "Where the images of the JPEG copy lie in the original order: the rank counts the earlier images of the same class."
    rows = [np.flatnonzero(labels == c) for c in range(len(CLASS_NAMES))]
    parts = (path.rpartition(".")[0].split("/")[-2:] for path in paths)
    return np.array([rows[CLASS_NAMES.index(name)][int(rank)] for name, rank in parts])


def main(folder: Path) -> None:
    files = sorted((folder/"original_predictions").glob("*_predictions.json"))
    nets = np.array([json.loads(file.read_text(encoding="utf-8")) for file in files])
    labels = np.load(folder/"cifar10_test_set_original_labels.npy")
    counts = np.stack([(nets == c).sum(0) for c in range(len(CLASS_NAMES))], 1)
    doubted = json.loads((folder/"cifar10_mturk.json").read_text(encoding="utf-8"))
    votes = [[d["id"], d["our_guessed_label"], *(d["mturk"][k] for k in ("given", "guessed", "both", "neither"))] for d in doubted]
    assert all(labels[d["id"]] == d["given_original_label"] and sum(d["mturk"].values()) == 5 for d in doubted)
    table = pq.read_table(folder/"test-00000-of-00001.parquet")["img"].combine_chunks()
    copy = original_numbers(table.field("path").to_pylist(), labels)
    assert sorted(copy) == list(range(len(labels)))
    gray = np.empty(len(labels))
    gray[copy] = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).mean() for file in table.field("bytes").to_pylist()]
    tensors = {"labels": labels, "gray": gray.round(), "copy": copy.astype(np.int16), "nets": counts,
               "doubted": np.array(votes, np.int16)}
    kept = {k: torch.from_numpy(v if v.dtype == np.int16 else v.astype(np.uint8)) for k, v in tensors.items()}
    kept["accuracy"] = torch.from_numpy((nets == labels).mean(1).astype(np.float32))
    about = {"nets": [file.name.removesuffix("_predictions.json") for file in files], "sources": "see SOURCES.txt"}
    print(write_tensors(TO, kept, "cam_course", json.dumps(about)), TO.stat().st_size, "bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
