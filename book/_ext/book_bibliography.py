"""Bibliography sorted by author, labelled 'Kingma 2015' as the chapters' citations read."""
import re
from collections import Counter
from collections.abc import Iterator

from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels import BaseLabelStyle


class AuthorYear(BaseLabelStyle):
    def format_labels(self, sorted_entries) -> Iterator[str]:
        plain = [self.label(e) for e in sorted_entries]
        seen, total = Counter(), Counter(plain)
        for label in plain:
            seen[label] += 1
            yield label + ("abcdefgh"[seen[label] - 1] if total[label] > 1 else "")

    @staticmethod
    def label(entry) -> str:
        people = [re.sub(r"[{}]", "", " ".join([*p.prelast_names, *p.last_names])) for p in entry.persons["author"]]
        names = " and ".join(people) if len(people) < 3 else f"{people[0]} et al."
        return f"{names}, {entry.fields['year']}"


class Style(Plain):
    default_label_style = AuthorYear
    default_sorting_style = "author_year_title"


def setup(app) -> None:
    register_plugin("pybtex.style.formatting", "cam_course", Style)
