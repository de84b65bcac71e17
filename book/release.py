"""The release check-list, as a program: `python book/release.py` (or `make release-check`) says what is missing.

    python book/release.py            everything; a few minutes, most of them the book's
    python book/release.py --quick    without building wheel and book
"""
import argparse
import datetime
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHEEL_LIMIT = 8_000_000  # bytes


class Missing(Exception): pass


def need(right: object, message: str) -> None:
    if not right: raise Missing(message)


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    need(done.returncode == 0, f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout.strip()


def version(root: Path = ROOT) -> str:
    settings = ConfigParser(delimiters=["="])
    settings.read(root/"settings.ini", encoding="utf-8")
    return settings["DEFAULT"]["version"]


def versions_agree(root: Path = ROOT) -> str:
    "settings.ini, the package and CITATION.cff state one semantic version."
    v = version(root)
    need(re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", v), f"settings.ini: {v!r} is no semantic version")
    package = re.search(r'__version__ = "(.*)"', (root/"cam_course"/"__init__.py").read_text(encoding="utf-8"))
    need(package and package[1] == v, f"cam_course/__init__.py has {package and package[1]}, settings.ini {v}: make export")
    cited = re.search(r"^version: (.*)$", (root/"CITATION.cff").read_text(encoding="utf-8"), re.M)
    need(cited and cited[1] == v, f"CITATION.cff has {cited and cited[1]}, settings.ini {v}")
    return v


def changelog_entry(root: Path = ROOT) -> str:
    "CHANGELOG.md begins with this version, its date, and what is new."
    text, v = (root/"CHANGELOG.md").read_text(encoding="utf-8"), version(root)
    first = re.search(r"^## (\S+) \(([^)\n]*)\)\n+(.*?)(?=^## |\Z)", text, re.M | re.S)
    need(first and first[1] == v, f"the first entry of CHANGELOG.md is {first and first[1]}, not {v}")
    try: datetime.date.fromisoformat(first[2])
    except ValueError: raise Missing(f"CHANGELOG.md: {v} ({first[2]}): put the date of the release, as 2026-01-31") from None
    need(first[3].strip(), f"CHANGELOG.md says nothing about {v}")
    return first[2]


def clean_tree(root: Path = ROOT) -> str:
    "Nothing is changed or untracked."
    changed = run("git", "status", "--porcelain", cwd=root)
    need(not changed, f"commit or remove: {', '.join(line.split()[-1] for line in changed.splitlines()[:5])}")
    return run("git", "rev-parse", "--short", "HEAD", cwd=root)


def tag_free(root: Path = ROOT) -> str:
    "No tag has this version's name yet."
    tag = f"v{version(root)}"
    need(not run("git", "tag", "--list", tag, cwd=root), f"the tag {tag} is there already: raise the version in settings.ini")
    return tag


def library_exported(root: Path = ROOT) -> str:
    "The library is what the notebooks export."
    run(sys.executable, "book/export_check.py", cwd=root)
    return "yes"


def wheel_works(root: Path = ROOT) -> str:
    "The wheel builds, is small, has JavaScript, weights and types, and imports by itself."
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, str(root), cwd=Path(folder))
        wheel = next(Path(folder).glob("*.whl"))
        size = wheel.stat().st_size
        need(size <= WHEEL_LIMIT, f"{wheel.name} has {size:,} bytes, over {WHEEL_LIMIT:,}")
        need(version(root) in wheel.name, f"{wheel.name} is not version {version(root)}")
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            for part in (".js", ".safetensors", "py.typed"): need(any(n.endswith(part) for n in names), f"{wheel.name} has no {part}")
            archive.extractall(Path(folder)/"site")
        code = "import sys; sys.path.insert(0, 'site'); import cam_course.app.main as m; print(m.__file__)"
        need("site" in run(sys.executable, "-c", code, cwd=Path(folder)), "another cam_course than the wheel's is imported")
    return f"{size/1e6:.1f} MB"


def book_builds(root: Path = ROOT) -> str:
    "The book builds without a warning."
    run(sys.executable, "book/build.py", "--render", cwd=root)
    return f"{sum(1 for _ in (root/'build'/'site').rglob('*.html'))} pages"


QUICK = [versions_agree, changelog_entry, clean_tree, tag_free, library_exported]
SLOW = [wheel_works, book_builds]


def report(checks: list[Callable[[], str]]) -> Iterator[tuple[bool, str]]:
    "For each check whether it passed, and a line about it."
    for check in checks:
        title = (check.__doc__ or check.__name__).strip()
        try: yield True, f"ok       {title} [{check()}]"
        except Missing as missing: yield False, f"MISSING  {title} {missing}"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="without building wheel and book")
    good = True
    for passed, line in report(QUICK + ([] if options.parse_args().quick else SLOW)):
        print(line, flush=True)
        good &= passed
    last = f"git tag -a v{version()} -m 'cam_course {version()}' && git push --follow-tags"
    print(f"ready: {last}" if good else "not ready")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
