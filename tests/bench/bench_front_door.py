"""What the front door costs: `from cam_course import NAME` beside `import torch`, fresh processes in turn.

python tests/bench/bench_front_door.py [--pairs 7]
"""

import argparse

import pairs
from bench_import import fresh

MOST = 1.05  # times `import torch`


def main(argv: list[str] | None = None) -> list[pairs.Ratio]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    args = parser.parse_args(argv)
    torch, found = ("import torch", fresh("import torch")), []
    for name in ("ResNet18", "GradCAM", "LRFinder", "Trainer"):
        mine = f"from cam_course import {name}"
        found.append(pairs.compare(mine, (mine, fresh(mine)), torch, args.pairs, goal=round(1 / MOST, 3)))
    return found


if __name__ == "__main__":
    pairs.write("front_door", main())
