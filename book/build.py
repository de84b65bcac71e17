"""Make the site.

    python book/build.py            check notebooks against library, train the fresh run if its code changed, render
    python book/build.py --render   render alone
    python book/build.py --links    Sphinx's linkcheck: ask every address outside; needs the network; build/links/output.txt

Nothing is done twice: when no input changed since the last good build, this says so and returns at once.
"""
import argparse
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import export_check
import stamps

ROOT = stamps.ROOT
BUILD = ROOT/"build"
SITE, EXTRA, DONE = BUILD/"site", BUILD/"extra", BUILD/"site.done"
INPUTS = ("nbs/**/*.ipynb", "book/**/*", "cam_course/**/*", "build/extra/**/*",
          "tests/bench/results/*.json", "tests/results/*.json", "settings.ini", "constraints.txt")


def input_hash() -> str:
    "Hash of everything that the pages are made from."
    h = hashlib.sha256()
    for pattern in INPUTS:
        for f in sorted(ROOT.glob(pattern)):
            if f.is_file() and "__pycache__" not in f.parts:
                h.update(f.relative_to(ROOT).as_posix().encode() + b"\0" + f.read_bytes() + b"\0")
    return h.hexdigest()


def toc_pages(toc: Path = ROOT/"book"/"_toc.yml") -> list[str]:
    "Every page that _toc.yml names, as a path without suffix."
    import yaml

    def walk(node) -> list[str]:
        if isinstance(node, list): return [p for n in node for p in walk(n)]
        if not isinstance(node, dict): return []
        own = [node[k] for k in ("root", "file") if k in node]
        return own + [p for k in ("parts", "chapters", "sections", "entries", "subtrees") for p in walk(node.get(k))]
    return walk(yaml.safe_load(toc.read_text(encoding="utf-8")))


def missing_pages(site: Path = SITE) -> list[str]:
    pages = [p for p in toc_pages() if not (site/f"{p}.html").is_file()]
    return pages + [p for p in ("index.html", "search.html") if not (site/p).is_file()]


def render(builder: str = "html", out: Path = SITE) -> bool:
    "jupyter-book's own build, with warnings as errors; True when there was none."
    from jupyter_book.sphinx import build_sphinx

    EXTRA.mkdir(parents=True, exist_ok=True)
    result = build_sphinx(
        ROOT, out, noconfig=True, path_config=ROOT/"book"/"_config.yml", builder=builder, doctreedir=BUILD/"doctrees",
        confoverrides={"external_toc_path": str(ROOT/"book"/"_toc.yml"), "latex_individualpages": False,
                       "nitpicky": True},
        warningiserror=True, keep_going=True, quiet=True)
    return result == 0


def done() -> str:
    "What the last good build was made from: '', 'rendered HASH' or 'checked HASH'."
    return DONE.read_text() if DONE.exists() and not missing_pages() else ""


def is_current(key: str | None = None) -> bool:
    "Is the site what its sources say?"
    return done().endswith(key or input_hash()) and done() != ""


def check() -> str:
    "Library in step with the notebooks, fresh run made; the complaint if not."
    if bad := export_check.differences():
        return "library and notebooks differ; run `nbdev_export`:\n  " + "\n  ".join(bad)
    fresh = subprocess.run([sys.executable, ROOT/"book"/"fresh_run.py"], cwd=ROOT, check=False)
    return "the fresh run failed" if fresh.returncode else ""


def look_changed() -> bool:
    "Was a style sheet, script, extension or setting changed since the last build? Sphinx would leave old pages as they are."
    if not DONE.exists(): return False
    files = [*(ROOT/"book"/"_static").rglob("*"), *(ROOT/"cam_course"/"js"/"host").rglob("*"),
             *(ROOT/"book"/"_ext").glob("*.py"), ROOT/"book"/"_config.yml"]
    return any(f.stat().st_mtime > DONE.stat().st_mtime for f in files if f.is_file())


def make(only_render: bool, force: bool) -> str:
    "Build what is not up to date; the complaint if something is wrong, else ''."
    key = input_hash()
    force = force or look_changed()
    if not force and is_current(key) and (only_render or done().startswith("checked")):
        print("book: nothing changed,", end=" ")
        return ""
    if not only_render:
        if complaint := check(): return complaint
        key = input_hash()   # with the new fresh run
    if force or not is_current(key):
        DONE.unlink(missing_ok=True)
        if force: shutil.rmtree(BUILD/"doctrees", ignore_errors=True)
        if not render(): return "the build gave warnings; they are listed above"
        if missing := missing_pages(): return f"pages of _toc.yml that were not made: {', '.join(missing)}"
    DONE.write_text(("rendered " if only_render else "checked ") + key)
    return ""


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--render", action="store_true", help="only render: no check, no fresh run")
    p.add_argument("--links", action="store_true", help="only ask whether the addresses outside the book answer")
    p.add_argument("--force", action="store_true", help="build even if nothing changed")
    args = p.parse_args(argv)
    if args.links:
        return 0 if render("linkcheck", BUILD/"links") else 1
    start = time.monotonic()
    if complaint := make(args.render, args.force):
        print(f"book: {complaint}", file=sys.stderr)
        return 1
    took = f"{time.monotonic() - start:.1f} s"
    print(f"{len(toc_pages())} pages in {SITE.relative_to(ROOT)}, open {SITE.relative_to(ROOT)}/index.html ({took})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
