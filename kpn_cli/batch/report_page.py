"""The HTML of the report around the sections of its bursts: head, counts, failures, options, foot.

The page loads nothing: pictures are data URIs. Its Content-Security-Policy allows these and, by
their digests, its own style and script. Names and messages come from files and may hold anything,
so all of them go through `text` or `link`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path

from .. import __version__
from ..choices import MERGE_BRACKETS
from ..noise.calibration import Calibration
from ..pipeline.options import Options
from ..pipeline.result import Failure, LeftOut, Result, left_out_lines
from .html import count, definitions, duration, mean, page_start, text
from .report_burst import burst_name
from .report_store import PROGRAM as PROGRAM

_META = """
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">"""


@dataclass(frozen=True)
class ReportFacts:
    """The facts of a run that the page shows.

    Attributes:
        results: of bursts that were denoised or whose outputs existed, in the order of the page.
        failures: of bursts and files.
        planned: number of bursts; more than the page shows if the run was interrupted.
        seconds: duration of the run.
        made: time of the report.
        shortened: whether bursts have fewer pictures because there are very many.
        left_out: brackets that are not to be merged, and bursts of few frames; no failures.
    """

    results: Sequence[Result]
    failures: Sequence[Failure]
    planned: int
    seconds: float
    made: datetime
    shortened: bool = False
    left_out: Sequence[LeftOut] = ()


def head(facts: ReportFacts, options: Options) -> str:
    """Return the page of few bursts from its beginning to the first burst."""
    return begin(
        facts, options, _failures(facts.failures), _left_out(facts.left_out),
        _index(facts, options.output),
    )  # fmt: skip


def begin(
    facts: ReportFacts,
    options: Options,
    failures: str,
    left_out: str,
    menu: str,
    *,
    pictures: str = "data:",
) -> str:
    """Return a page from its beginning to what it shows of the bursts.

    Args:
        facts, options: of the run.
        failures, left_out, menu: HTML of the bursts that failed and were left out, and of links.
        pictures: where the pictures may be, as Content-Security-Policy has it.
    """
    return f"""{top(f"kpn: {_bursts(facts.planned)}", pictures)}
<body>
<header class="top">
<div>
<p class="mark">kpn <span>{text(__version__)} &#183; {facts.made:%Y-%m-%d %H:%M}</span></p>
<h1>{text(_headline(facts))}</h1>
</div>
{_counts(facts)}
</header>
{failures}
{left_out}
<div class="menu">
{menu}
<details class="options"><summary>Options</summary>{_options(options)}</details>
</div>
<main>
"""


def top(title: str, pictures: str = "data:") -> str:
    """Return a page until the end of its head; the arguments are those of `begin`."""
    policy = (
        f"default-src 'none'; img-src {pictures}; style-src '{_digest('report.css')}'; "
        f"script-src '{_digest('report.js')}'; base-uri 'none'; form-action 'none'"
    )
    start = page_start(PROGRAM, title, policy=policy, meta=_META)
    return f"""{start}<link rel="icon" href="data:,">
<style>{_asset("report.css")}</style>
<script>{_asset("report.js")}</script>
</head>"""


def foot() -> str:
    """Return the end of the page."""
    return """</main>
<footer>
<p>Pictures at 100&#8239;%: one pixel of the photo is one CSS pixel. Before is the reference frame
alone, developed like the result: the camera&#8217;s white balance, sRGB, no sharpening and no other
noise reduction. These pictures are JPEGs; judge fine differences by the outputs.</p>
<p class="keys">Keys: <kbd>&#8592;</kbd> <kbd>&#8594;</kbd> move the divider,
<kbd>j</kbd> <kbd>k</kbd> go to the next and the previous burst,
<kbd>1</kbd>&#8211;<kbd>4</kbd> choose a crop.</p>
</footer>
</body>
</html>
"""


def burst_start(number: int, existed: bool) -> str:
    """Return the HTML before a burst's section.

    Args:
        number: of the burst on the page, from 1.
        existed: whether its outputs existed before the run.
    """
    remark = "Outputs existed already and were kept." if existed else ""
    return (
        f'<article class="burst" id="burst-{number}" tabindex="-1"><p class="remark">{remark}</p>\n'
    )


def burst_end() -> str:
    """Return the HTML after a burst's section."""
    return "</article>\n"


def _asset(name: str) -> str:
    return _assets()[name]


@cache
def _assets() -> dict[str, str]:
    folder = files(__package__)
    return {name: (folder / name).read_text("utf-8") for name in ("report.css", "report.js")}


def _digest(name: str) -> str:
    digest = hashlib.sha256(_asset(name).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _headline(facts: ReportFacts) -> str:
    reached = len(facts.results) + len(facts.failures) + len(facts.left_out)
    if reached < facts.planned:
        return f"Interrupted after {reached} of {_bursts(facts.planned)}"
    return _bursts(len(facts.results)) + " denoised" if facts.results else "Nothing denoised"


def _counts(facts: ReportFacts) -> str:
    skipped = sum(result.skipped for result in facts.results)
    counts = [
        ("denoised", str(len(facts.results) - skipped)),
        ("kept", str(skipped)),
        ("left out", str(len(facts.left_out))),
        ("failed", str(len(facts.failures))),
        ("in total", duration(facts.seconds)),
    ]
    return definitions([(name, value) for name, value in counts if value != "0"], "counts")


def _options(options: Options) -> str:
    noise: object = "the file's, or measured"
    if isinstance(options.noise, Calibration):
        noise = options.noise.path or noise
    elif options.noise is not None:
        noise = f"S={mean(options.noise.shot)} O={mean(options.noise.read)}"
    rows = {
        "--name": options.name,
        "--format": ",".join(options.formats),
        "--reference": options.reference,
        "--exposures": options.exposures,
        "--headroom": "yes" if options.headroom else "no",
        "--strength": f"{options.strength:g}",
        "--grain": f"{options.grain:g}",
        "--noise": noise,
        "--defects": options.defects,
        "--device": options.device,
        "--precision": options.precision,
        "--tile": options.tile or "by the free memory",
        "--weights": options.weights or "the bundled network",
        "--compression": options.compression,
        "--jpeg-quality": options.jpeg_quality,
        "--jpeg-size": options.jpeg_size or "full",
        "--overwrite": "yes" if options.overwrite else "no",
    }
    return definitions((f"<code>{text(name)}</code>", text(value)) for name, value in rows.items())


def _failures(failures: Sequence[Failure]) -> str:
    return failed_section(failures, len(failures))


def failed_section(failures: Sequence[Failure], most: int) -> str:
    """Return the HTML of bursts and files that failed, of the first `most` of them."""
    if not failures:
        return ""
    items = "".join(
        f"<li><p>{text(each.message())}</p>{_file_names(each.files)}</li>"
        for each in failures[:most]
    )
    items += _and_more(len(failures) - most)
    return f'<section class="failed"><h2>Failed</h2><ul>{items}</ul></section>'


def _left_out(left_out: Sequence[LeftOut]) -> str:
    return left_out_section(left_out, len(left_out))


def left_out_section(left_out: Sequence[LeftOut], most: int) -> str:
    """Return the HTML of bursts that were left out, of the first `most` lines of them."""
    if not left_out:
        return ""
    lines = left_out_lines(left_out)
    items = "".join(
        f"<li><p>{text(line)}</p>{_file_names(files[:most])}</li>" for line, files in lines[:most]
    )
    items += _and_more(len(lines) - most)
    can_be = any(each.is_mergeable for each in left_out)
    remedy = f'<p class="hint">{text(MERGE_BRACKETS.capitalize())}</p>' if can_be else ""
    return f'<section class="left-out"><h2>Left out</h2><ul>{items}</ul>{remedy}</section>'


def _and_more(number: int) -> str:
    return f"<li><p>and {number} more, in report.jsonl</p></li>" if number > 0 else ""


def _file_names(paths: Sequence[Path]) -> str:
    if len(paths) < 2:
        return ""
    names = ", ".join(text(path.name) for path in paths)
    return f"<details><summary>{len(paths)} files</summary><p>{names}</p></details>"


def _index(facts: ReportFacts, folder: Path) -> str:
    if len(facts.results) < 2:
        return ""
    items = "".join(
        f'<li><a href="#burst-{number}">{text(burst_name(result, folder))}</a></li>'
        for number, result in enumerate(facts.results, 1)
    )
    short = "With this many bursts, each has fewer pictures, to keep the page small."
    hint = f'<p class="hint">{short}</p>' if facts.shortened else ""
    return f'<nav aria-label="Bursts"><ol>{items}</ol>{hint}</nav>'


def _bursts(number: int) -> str:
    return count(number, "burst")
