"""What importing the library costs beside `import torch`: fresh processes in turn.

python tests/bench/bench_import.py [--pairs 5]
"""

import argparse
import subprocess
import sys

import pairs


def fresh(code: str):
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def main(argv: list[str] | None = None) -> list[pairs.Ratio]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args(argv)
    mine = "from cam_course.app.main import run"
    others = {"import torch": "import torch", "torch and torchvision": "import torch, torchvision"}
    found = [
        pairs.compare(f"import, against {name}", (mine, fresh(mine)), (name, fresh(code)), args.pairs)
        for name, code in others.items()
    ]
    torch = "import torch"
    shown = ("cam-course --help", fresh("from cam_course.__main__ import cli; cli(['--help'])"))
    return [*found, pairs.compare(f"{shown[0]}, against {torch}", shown, (torch, fresh(torch)), args.pairs)]


if __name__ == "__main__":
    pairs.write("import", main())
