"""What the book adds to a page: the stamp of its outputs, the fresh run, search that works from the file system."""
import html
import json
import re
from collections import Counter
from configparser import ConfigParser
from datetime import date
from pathlib import Path

import book_folds
import stamps
from docutils import nodes
from docutils.parsers.rst import Directive

DATA = {"cifar10": "CIFAR-10", "cifar10-jpeg": "CIFAR-10 (JPEG copy)", "cifar10-copy": "CIFAR-10 (re-encoded copy)"}


def settings(root: Path) -> dict[str, str]:
    "settings.ini as nbdev reads it."
    parser = ConfigParser(delimiters=["="])
    if not parser.read(root/"settings.ini", encoding="utf-8"): raise FileNotFoundError(f"no settings.ini in {root}")
    return dict(parser["DEFAULT"])


def duration(seconds: float) -> str:
    if seconds < 90: return f"{seconds:.0f} s"
    return f"{seconds/60:.0f} min" if seconds < 5400 else f"{seconds/3600:.1f} h"


def stamp_html(nb) -> str:
    "One quiet line: when and where the outputs of this page were made."
    stamp = stamps.stamp_of(nb)
    if not stamp: return ""
    versions = stamp.get("versions", {})
    day = date.fromisoformat(stamp["date"])
    parts = [f'<time datetime="{day}">{day.day} {day:%B %Y}</time>', html.escape(stamp["device"])]
    if stamp.get("data"): parts.append("data: " + html.escape(", ".join(DATA.get(d, d) for d in stamp["data"])))
    parts.append(duration(stamp["seconds"]))
    names = {"python": "Python", "torch": "torch"}
    parts += [f"{name} {html.escape(versions[k])}" for k, name in names.items() if k in versions]
    full = ", ".join(f"{k} {v}" for k, v in versions.items())
    changed = stamp.get("library_hash") != stamps.library_hash(nb)
    note = ' <strong class="stamp-old">The library has changed since.</strong>' if changed else ""
    return (f'<p class="stamp" title="{html.escape(full, quote=True)}">Outputs made on '
            + " · ".join(parts).replace("\n", " ") + f".{note}</p>")


def under_title(nb, text: str) -> None:
    "Insert raw HTML after the first level-1 heading."
    if not text: return
    for cell in nb.cells:
        if cell.cell_type != "markdown" or not cell.source.lstrip().startswith("# "): continue
        head, _, rest = cell.source.lstrip().partition("\n")
        cell.source = f"{head}\n\n{text}\n\n{rest.lstrip()}"
        return


class FreshRun(Directive):
    "`{fresh-run}`: the report of the training that `make book` made on this machine, in a frame."
    has_content = False

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        folder = Path(env.srcdir)/"build"/"extra"/"fresh_run"
        summary = folder/"summary.json"
        env.note_dependency(str(summary))
        if not summary.exists():
            text = "No fresh run was made when this site was built: the command was “make site”. “make book” makes one."
            return [nodes.note("", nodes.paragraph("", text))]
        s = json.loads(summary.read_text(encoding="utf-8"))
        up = "../"*env.docname.count("/")
        shown = {k: html.escape(v) for k, v in s["shown"].items()}
        shown["command"] = f"<code>{shown['command']}</code>"
        rows = "".join(f"<tr><th scope=row>{k}</th><td>{v}</td></tr>" for k, v in shown.items())
        report = f"{up}fresh_run/report.html"
        raw = (f'<table class="fresh-run"><tbody>{rows}</tbody></table>\n'
               f'<p><a href="{report}">Open the report on a page of its own</a></p>\n'
               f'<iframe class="fresh-run" src="{report}" title="Report of the fresh run" loading="lazy"></iframe>')
        return [nodes.raw("", raw, format="html")]


def opening_page(app, pagename, templatename, context, doctree) -> None:
    "The root page: a wide sheet without the list of its few headings."
    if pagename != app.config.root_doc: return
    context["meta"] = {**(context.get("meta") or {}), "html_theme.sidebar_secondary.remove": "true"}
    context["body"] = context["body"].replace("<section", '<section class="opening"', 1)


def mend_html(app, pagename, templatename, context, doctree) -> None:
    """What the writers get wrong for screen readers: a fold's label hides its text, references have a role that is no
    more, and the parameters of a long signature are a definition list without terms. A picture's size as a style would
    keep its height where a phone narrows it; as attributes it only keeps the place free."""
    if not (body := context.get("body")): return
    body = re.sub(r' aria-label="Toggle hidden content"| role="doc-biblioentry"|(?<=<div) role="list"', "", body)
    body = re.sub(r'(<img [^>]*)style="width: (\d+)px; height: (\d+)px;"', r'\1width="\2" height="\3"', body)
    body = re.sub(r'<div class="quiz.*?<details', lambda m: _unlinked(m[0]), body, flags=re.S)
    body = full_size(book_folds.set_code(body))
    context["body"] = re.sub(r'<dt class="sig.*?</dt>', lambda m: _parameters(m[0]), body, flags=re.S)


def full_size(body: str) -> str:
    "A picture that a cell made opens in its own size; a still behind a moving figure does not, since that takes its place."
    return re.sub(r'<img (?![^>]*widget-still)[^>]*src="([^"]*_images/[^"]*)"[^>]*/>',
                  lambda m: f'<a class="full-size" href="{m[1]}">{m[0]}</a>', body)


def _unlinked(question: str) -> str:
    "The options of a question become buttons, and a button holds no link (to the glossary, say)."
    return re.sub(r"<ul.*?</ul>", lambda m: re.sub(r"</?a\b[^>]*>", "", m[0]), question, flags=re.S)


def _parameters(signature: str) -> str:
    signature = signature.replace("<dl>", '<span class="sig-params">').replace("<dd>", "<span>")
    return re.sub("</d[ld]>", "</span>", signature)


ICONS = """// The icons that this site shows, cut out of Font Awesome Free (icons: CC BY 4.0, https://fontawesome.com/license/free).
(() => {
  const icons = %s;
  const style = document.createElement("style");
  style.textContent = ".svg-inline--fa{height:1em;overflow:visible;vertical-align:-.125em;box-sizing:content-box}"
    + ".fa-lg{font-size:1.25em}";
  document.head.append(style);
  for (const i of document.querySelectorAll("i[class*='fa-'], span[class*='fa-']")) {
    const found = [...i.classList].map((c) => icons[c]).find(Boolean);
    if (!found) continue;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const a of i.attributes) if (a.name !== "title") svg.setAttribute(a.name, a.value);
    svg.setAttribute("class", i.className + " svg-inline--fa");
    svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("viewBox", `0 0 ${found[0]} ${found[1]}`);
    svg.innerHTML = `<path fill="currentColor" d="${found[2]}"></path>`;
    i.replaceWith(svg);
  }
})();
"""


def few_icons(app, exception) -> None:
    "Half of what a page weighed was a script with two thousand icons: those that no page names are left out of it."
    script = Path(app.outdir)/"_static"/"scripts"/"fontawesome.js"
    if exception or app.builder.format != "html" or not script.exists(): return
    whole = next(Path(p)/"static"/"scripts"/"fontawesome.js" for p in app.builder.theme.get_theme_dirs()
                 if (Path(p)/"static"/"scripts"/"fontawesome.js").exists()).read_text(encoding="utf-8")
    known = re.compile(r'[{,]"?([\w-]+)"?:\[(\d+),(\d+),\[([^\]]*)\],"\w+",(?:"([^"]+)"|\["([^"]*)","([^"]*)"\])\]')
    paths = {}
    for m in known.finditer(whole):
        for name in (m[1], *re.findall(r'"([\w-]+)"', m[4])): paths[f"fa-{name}"] = [int(m[2]), int(m[3]), m[5] or m[6] + m[7]]
    pages = [p.read_text(encoding="utf-8") for p in Path(app.outdir).rglob("*.html")]
    named = {c for page in pages for tag in re.findall(r'<(?:i|span) class="([^"]*fa-[^"]*)"', page) for c in tag.split()}
    script.write_text(ICONS % json.dumps({n: paths[n] for n in sorted(named & paths.keys())}), encoding="utf-8")


def tidy_page(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    "Mend what Sphinx does to pages joined from parts: ids that come twice, sources of builtins, ways back to another module."
    body, seen = context.get("body") or "", Counter()
    if pagename == "_modules/index":
        context["body"] = re.sub(r'<li><a href="builtins\.html">builtins</a></li>\s*', "", body)
    if pagename.startswith("_modules/cam_course/"):   # viewcode names what a module offers again after that module
        module = pagename.removeprefix("_modules/").replace("/", ".")
        back = r'(class="viewcode-back" href="[^"#]*#)cam_course\.(?:[a-z_\d]+\.)+'
        context["body"] = re.sub(back, rf"\g<1>{module}.", body)
    if not pagename.startswith("book/api/"): return

    def own(m: re.Match) -> str:
        seen[m[1]] += 1
        return m[0] if seen[m[1]] == 1 else f'id="{m[1]}-{seen[m[1]]}"'

    context["body"] = re.sub(r'\bid="(id\d+)"', own, body)


EARLY_THEME = """(() => {   // the theme's own script chooses light or dark after the first paint: a flash, and lines that move
  const root = document.documentElement;
  if (root.dataset.theme === "auto") root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
})();"""


def finish_pages(app, exception) -> None:
    "The theme's arrow beside a page that has pages below it is a button without a word; its search index stops the page."
    if exception or app.builder.format != "html": return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        mended = re.sub(r'<summary>(?=\s*<span class="toctree-toggle")', '<summary aria-label="Pages below this one">', text)
        if page.name != "search.html":
            mended = re.sub(r'<script (?=src="[^"]*(?:searchtools|language_data|searchindex)\.js)', "<script defer ", mended)
        if mended != text: page.write_text(mended, encoding="utf-8")


def setup(app) -> None:
    app.connect("html-page-context", mend_html)
    app.connect("build-finished", few_icons)
    app.connect("build-finished", finish_pages)
    app.add_js_file(None, body=EARLY_THEME, priority=1)
    app.connect("html-page-context", opening_page)
    app.connect("html-page-context", tidy_page)
    app.add_directive("fresh-run", FreshRun)
