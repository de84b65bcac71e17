"""Which versions the library is tested with.

    python tests/versions.py lowest       what pip is to install: each dependency at the lowest version that is stated
    python tests/versions.py torch-2.6    torch and torchvision at theirs, the rest free
    python tests/versions.py newest       no upper limit on anything
    python tests/versions.py --test       the tests of the library, with what is installed
"""

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ["pytest", "hypothesis", "mini-racer", "scipy", "pandas", "nbformat", "setuptools", "wheel", "playwright"]
LIBRARY = ["averages", "schedules", "core", "optimizers", "transforms", "properties", "data_cifar10", "gradcam", "pictures", "resnet",
           "checkpoint", "lr_finder", "lr_finder_layout", "weights", "localisation", "gallery", "trainer", "main", "memory_format",
           "stop_signals"]


def floors() -> dict[str, str]:
    "Dependency and lowest version, as settings.ini states them."
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT/"settings.ini", encoding="utf-8")
    return dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", r).groups() for r in settings["DEFAULT"]["requirements"].split())


def wanted(versions: str) -> list[str]:
    "Requirements for pip."
    low = floors()
    kept = {"lowest": list(low), "torch-2.6": ["torch", "torchvision"], "newest": []}[versions]
    return [f"{name}{'==' if name in kept else '>='}{floor}" for name, floor in low.items()] + TOOLS


def tests() -> list[str]: return [str(ROOT/"tests"/f"test_{name}.py") for name in LIBRARY]


if __name__ == "__main__":
    if sys.argv[1:] == ["--test"]: sys.exit(subprocess.call([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests()]))
    if len(sys.argv) != 2 or sys.argv[1] not in ("lowest", "torch-2.6", "newest"): sys.exit(__doc__)
    print(*wanted(sys.argv[1]), sep="\n")
