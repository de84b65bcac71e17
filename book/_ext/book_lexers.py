"""What a code cell holds besides Python is colored as what it is: the text of a file that it writes, a command of the shell.

Without this the highlighter warns of every cell that begins with `%%writefile README.md` or holds a line like `!ls`.
"""
import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

_file = re.compile(r"%%writefile (?:-a )?\S*?(\.\w+)?\n")
_LEXERS = {".py": "python", ".md": "markdown"}
_shell = re.compile(r"(?m)^\s*[!%]")


def lexer(source: str) -> str:
    "The highlighter's name for the source of a code cell."
    if written := _file.match(source): return _LEXERS.get(written[1], "text")
    return "ipython3" if _shell.search(source) else "python"


class Lexers(SphinxTransform):
    default_priority = 400

    def apply(self, **kwargs: object) -> None:
        for block in self.document.findall(nodes.literal_block):
            if block.get("language") == "python": block["language"] = lexer(block.astext())


def setup(app): app.add_transform(Lexers)
