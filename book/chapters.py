"""Chapters by what they are, not by their file's number or folder, which may change.

    chapter("gradcam")           the notebook that exports cam_course.gradcam
    chapter("core")              the one that exports cam_course.base.core
    chapter("The assignment")    one that exports nothing, by its title up to a colon or question mark
    page("gradcam", site)        its page of the site
"""
import re
from functools import cache
from pathlib import Path

import stamps


def name_of(nb: dict) -> str:
    "The module that a notebook exports, less its package; where it exports nothing, its title up to the first colon or question mark."
    if (module := stamps.default_exp(nb)) and module != "__init__": return module.rpartition(".")[2]
    for c in nb["cells"]:
        if c["cell_type"] == "markdown" and (m := re.search(r"(?m)^#\s+(.+?)\s*$", c["source"])):
            return re.split(r"[:?]", m[1])[0].strip()
    return ""


@cache
def names(folder: Path = stamps.NBS) -> dict[str, Path]:
    "Name -> notebook, in reading order; ValueError if two share a name, or one has none."
    found: dict[str, Path] = {}
    for path in stamps.notebooks(folder):
        name = name_of(stamps.load(path))
        if not name: raise ValueError(f"{path} exports no module and has no title: begin it with `# ...`")
        if name in found: raise ValueError(f"{path} and {found[name]} are both called {name!r}")
        found[name] = path
    return found


def chapter(name: str, folder: Path = stamps.NBS) -> Path:
    "The notebook of this name; KeyError that lists the names there are."
    known = names(folder)
    if name not in known: raise KeyError(f"no chapter {name!r}; there are: {', '.join(known)}")
    return known[name]


def page_of(path: Path, root: Path = stamps.ROOT) -> str:
    "Address of a notebook's page inside the site."
    return path.relative_to(root).with_suffix(".html").as_posix()


def page(name: str, site: Path) -> Path:
    "File of a chapter's page."
    return site/page_of(chapter(name))


def at(path: Path, root: Path = stamps.ROOT) -> str:
    "A notebook as messages name it: 'nbs/04_momentum.ipynb'."
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
