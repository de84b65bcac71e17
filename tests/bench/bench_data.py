"""Loading the data set a second time: the cached tensor against decoding the images again.

    CAM_COURSE_DATA=... python tests/bench/bench_data.py [--pairs 5]

Needs CIFAR-10 in one of the forms that `load_cifar10` reads.
"""

import argparse
import tempfile

import pairs

from cam_course import data as module


def main(argv: list[str] | None = None) -> list[pairs.Ratio]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args(argv)
    import os

    def load() -> None:
        module.load_cifar10(split="train").y.sum()

    def decode() -> None:
        with tempfile.TemporaryDirectory() as empty:
            before = os.environ.get("CAM_COURSE_CACHE")
            os.environ["CAM_COURSE_CACHE"] = empty
            try:
                load()
            finally:
                os.environ.pop("CAM_COURSE_CACHE")
                if before is not None:
                    os.environ["CAM_COURSE_CACHE"] = before

    found = pairs.compare("CIFAR-10, second load", ("cached tensor", load), ("decoding", decode), args.pairs)
    print(f"second load: {found.seconds_ours:.3f} s (goal 0.5 s: {'met' if found.seconds_ours <= 0.5 else 'MISSED'})")
    return [found]


if __name__ == "__main__":
    pairs.write("data", main())
