"""The HTML of a report of many bursts: the index, and what is around the bursts of its pages."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from .. import __version__
from ..pipeline.options import Options
from . import report_page
from .html import count, text
from .report_page import ReportFacts
from .report_store import NAME, PAGE_NAME, PAGES

#: Bursts, failures and lines that the index shows at most. Of more bursts it shows those with a
#: warning; all are on the pages.
MOST = 2000
#: Kinds of remarks that can be chosen, at most, and their length.
_KINDS, _KIND_LENGTH = 40, 110
#: Pictures are files beside the page. On a disk, a page has no origin that could be 'self'.
_PICTURES = "data: 'self' file:"

_NAME = re.compile(rb"<h2>(.*?)</h2>")
_SUMMARY = re.compile(rb'<p class="sub">(.*?)</p>')
_REMARK = re.compile(rb'<li class="(warning|note)"><b>\w+</b> (.*?)</li>')
_DROPPED = b'<tr class="dropped">'
_MISSING = "Section lost"


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    name: str
    summary: str
    warning: str
    thumbnail: tuple[str, int, int]
    kinds: tuple[int, ...]


@dataclass
class Index:
    """What the index shows of the bursts.

    Attributes:
        bursts: number of all bursts.
        of_a_page: bursts of a page at most.
        rows: of the bursts that it lists.
        kinds: kind of a remark -> its number.
        bursts_of: number of a kind -> bursts of the rows that have it.
        firsts: page -> name of its first burst.
        warned: page -> its bursts with warnings.
    """

    bursts: int
    of_a_page: int
    rows: list[_Row] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    bursts_of: Counter[int] = field(default_factory=Counter)
    firsts: dict[int, str] = field(default_factory=dict)
    warned: Counter[int] = field(default_factory=Counter)

    @property
    def pages(self) -> int:
        """Number of pages."""
        return -(-self.bursts // self.of_a_page)

    def page_of(self, burst: int) -> int:
        """Return the page of a burst, both from 1."""
        return (burst - 1) // self.of_a_page + 1

    def add(self, number: int, section: bytes, thumbnail: tuple[str, int, int]) -> None:
        """Add a burst.

        Args:
            number: of the burst, from 1.
            section: its HTML.
            thumbnail: file of its picture in the folder of the pages, width and height; "" for
                none.
        """
        # HTML of this program, whose texts are escaped.
        name, summary = (
            match[1].decode() if (match := pattern.search(section)) else ""
            for pattern in (_NAME, _SUMMARY)
        )
        remarks = [(m[1].decode(), m[2].decode()) for m in _REMARK.finditer(section)]
        warnings = [remark for kind, remark in remarks if kind == "warning"]
        kinds = [_kind(kind, remark) for kind, remark in remarks]
        kinds += ["Frames were dropped"] * (_DROPPED in section)
        numbers = {self.kinds.setdefault(kind, len(self.kinds)) for kind in kinds}
        page = self.page_of(number)
        self.firsts.setdefault(page, name)
        self.warned[page] += bool(warnings)
        if self.bursts <= MOST or (warnings and len(self.rows) < MOST):
            warning = warnings[0] if warnings else ""
            row = _Row(number, name, summary, warning, thumbnail, tuple(sorted(numbers)))
            self.rows.append(row)
            self.bursts_of.update(numbers)


def _kind(kind: str, remark: str) -> str:
    """Return what a remark has in common with others: its text without numbers and names."""
    words = re.sub(r"\S*\d\S*(\s+\S*\d\S*)*", "\N{HORIZONTAL ELLIPSIS}", html.unescape(remark))
    if len(words) > _KIND_LENGTH:
        words = words[:_KIND_LENGTH].rsplit(" ", 1)[0] + " \N{HORIZONTAL ELLIPSIS}"
    return f"{kind.title()}: {words}"


def page(facts: ReportFacts, options: Options, index: Index) -> Iterator[str]:
    """Yield the HTML of the index in parts."""
    yield report_page.begin(
        facts,
        options,
        report_page.failed_section(facts.failures, MOST),
        report_page.left_out_section(facts.left_out, MOST),
        _pages(index),
        pictures=_PICTURES,
    )
    if facts.shortened:
        yield '<p class="hint">With this many bursts, each has fewer pictures.</p>\n'
    yield _choice(index)
    if index.bursts > MOST:
        yield f'<p class="hint">{_listed(index)} The pages above have all bursts.</p>\n'
    yield '<ol class="tiles">\n'
    for row in index.rows:
        yield _tile(row, index)
    yield "</ol>\n</main>\n</body>\n</html>\n"


def _listed(index: Index) -> str:
    """Return which bursts the index lists, if not all."""
    warned = sum(index.warned.values())
    if not warned:
        return "No burst has a warning, so none is listed here."
    first = f"the first {len(index.rows)} of " if warned > len(index.rows) else ""
    return f"Listed here: {first}{count(warned, 'burst')} with a warning."


def _pages(index: Index) -> str:
    items = []
    for number in range(1, index.pages + 1):
        warned = index.warned[number]
        remark = f" <b>{count(warned, 'warning')}</b>" if warned else ""
        items.append(
            f'<li><a href="{_link(number)}" title="from {index.firsts.get(number, "")}">'
            f"{_span(number, index)}</a>{remark}</li>"
        )
    return f'<nav aria-label="Pages"><ol>{"".join(items)}</ol></nav>'


def _span(page_number: int, index: Index) -> str:
    first = (page_number - 1) * index.of_a_page + 1
    return f"{first}&#8211;{min(first + index.of_a_page - 1, index.bursts)}"


def _link(page_number: int) -> str:
    return f"./{PAGES}/{PAGE_NAME.format(page_number)}"


def _choice(index: Index) -> str:
    """Return the choice of the kind of bursts that are shown."""
    texts = {number: kind for kind, number in index.kinds.items()}
    order = sorted(index.bursts_of.items(), key=lambda each: (-each[1], texts[each[0]]))
    # Warnings first, as they are what a user looks for.
    order.sort(key=lambda each: not texts[each[0]].startswith("Warning"))
    options = "".join(
        f'<option value="{number}">{bursts} &#215; {text(texts[number])}</option>'
        for number, bursts in order[:_KINDS]
    )
    if not options:
        return ""
    return (
        f'<p class="choice"><label>Show <select autocomplete="off"><option value="">'
        f"all {count(len(index.rows), 'burst')}</option>{options}</select></label></p>\n"
    )


def _tile(row: _Row, index: Index) -> str:
    name, width, height = row.thumbnail
    picture = ""
    if name:
        picture = (
            f'<img src="./{PAGES}/{name}" width="{width}" height="{height}" loading="lazy" '
            f'decoding="async" alt="">'
        )
    warning = f'<p class="warning">{row.warning}</p>' if row.warning else ""
    kinds = " ".join(map(str, row.kinds))
    return (
        f'<li data-kinds="{kinds}"><a href="{_link(index.page_of(row.number))}#burst-{row.number}">'
        f"{picture}<span>{row.name}</span></a>"
        f'<p class="sub">{row.summary or _MISSING}</p>{warning}</li>\n'
    )


# --- a page -----------------------------------------------------------------


def page_head(number: int, index: Index) -> str:
    """Return a page from its beginning to its first burst.

    Args:
        number: of the page, from 1.
        index: of the report; it need not be complete.
    """
    title = f"Bursts {_span(number, index)} of {index.bursts}"
    plain = html.unescape(title)
    return f"""{report_page.top(f"kpn: {plain}", _PICTURES)}
<body>
<header class="top">
<div>
<p class="mark">kpn <span>{text(__version__)}</span></p>
<h1>{title}</h1>
</div>
</header>
{page_links(number, index)}<main>
"""


def page_links(number: int, index: Index) -> str:
    """Return the links from a page to the index and to the pages beside it."""
    links = [f'<a href="../{NAME}">All bursts</a>']
    if number > 1:
        links.append(f'<a rel="prev" href="./{PAGE_NAME.format(number - 1)}">Previous page</a>')
    if number < index.pages:
        links.append(f'<a rel="next" href="./{PAGE_NAME.format(number + 1)}">Next page</a>')
    return f'<nav class="pages" aria-label="Pages">{" &#183; ".join(links)}</nav>\n'
