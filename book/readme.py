"""What README.md shows: the picture that its own first lines make. And the cards of the opening page.

    python book/readme.py           write book/_static/opening.jpg and the cards of the opening page
    python book/readme.py --check   exit status 1 if the cards are old
"""
import sys
from configparser import ConfigParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import chapter_map
import stamps

PICTURE = "book/_static/opening.jpg"


def settings(root: Path) -> dict[str, str]:
    parser = ConfigParser(delimiters=["="])
    parser.read(root/"settings.ini", encoding="utf-8")
    return dict(parser["DEFAULT"])


def draw(file: Path) -> None:
    "The picture that README.md's first lines make."
    from cam_course import explain, shipped_photographs
    figure = explain(shipped_photographs()["teddy"].path).plot()
    figure.savefig(file, dpi=110, facecolor="white", pil_kwargs={"quality": 85})


def main() -> int:
    if "--check" in sys.argv[1:]: return chapter_map.main()
    chapter_map.update()
    draw(stamps.ROOT/PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
