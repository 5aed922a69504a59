"""The HTML of a report: facts and pictures in, text out; nothing is read but its style and script.

The page loads nothing: pictures are data URIs, and its Content-Security-Policy allows those and
its own style and script, by their digests, and nothing else. Names and messages come from files
and may hold anything, so all of them go through `text` or `link`.
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
from ..noise.calibration import Calibration
from ..pipeline.options import Options
from ..pipeline.result import Failure, Result
from .html import count, duration, generator, mean, text
from .report_section import place

#: The program that a page names as its generator.
PROGRAM = "kpn report"


@dataclass(frozen=True)
class Batch:
    """What the page is about.

    Attributes:
        results: of bursts that are done or were there already, in the order of the page.
        failures: what could not be done.
        planned: bursts there were to do; more than those above if it was interrupted.
        seconds: that all of it took.
        made: when.
        shortened: whether bursts have fewer pictures, as there are so many.
    """

    results: Sequence[Result]
    failures: Sequence[Failure]
    planned: int
    seconds: float
    made: datetime
    shortened: bool = False


def head(batch: Batch, options: Options) -> str:
    """Return the page from its beginning to where the first burst is."""
    title = f"kpn: {_bursts(batch.planned)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{generator(PROGRAM)}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src '{_digest("report.css")}'; script-src '{_digest("report.js")}'; \
base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{_asset("report.css")}</style>
<script>{_asset("report.js")}</script>
</head>
<body>
<header class="top">
<div>
<p class="mark">kpn <span>{text(__version__)} &#183; {batch.made:%Y-%m-%d %H:%M}</span></p>
<h1>{text(_headline(batch))}</h1>
</div>
{_counts(batch)}
</header>
{_failures(batch.failures)}
<div class="menu">
{_index(batch, options.output)}
<details class="options"><summary>Options</summary>{_options(options)}</details>
</div>
<main>
"""


def foot() -> str:
    """Return the end of the page."""
    return """</main>
<footer>
<p>Pictures at 100&#8239;%: one pixel of the photo is one CSS pixel. Before is the reference frame
alone, developed exactly as the result is: the camera&#8217;s white balance, sRGB, no sharpening and
no other noise reduction. They are JPEGs for this page; judge fine differences by the
outputs.</p>
<p class="keys">Keys: <kbd>&#8592;</kbd> <kbd>&#8594;</kbd> move the divider,
<kbd>j</kbd> <kbd>k</kbd> go to the next burst and back,
<kbd>1</kbd>&#8211;<kbd>4</kbd> choose a place.</p>
</footer>
</body>
</html>
"""


def burst_start(number: int, there_already: bool) -> str:
    """Return what stands before a burst's section; the number counts from 1."""
    remark = "There already: not made again." if there_already else ""
    return (
        f'<article class="burst" id="burst-{number}" tabindex="-1"><p class="remark">{remark}</p>\n'
    )


def burst_end() -> str:
    """Return what stands behind a burst's section."""
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


def _headline(batch: Batch) -> str:
    reached = len(batch.results) + len(batch.failures)
    if reached < batch.planned:
        return f"Interrupted after {reached} of {_bursts(batch.planned)}"
    return _bursts(len(batch.results)) + " denoised" if batch.results else "Nothing denoised"


def _counts(batch: Batch) -> str:
    there = sum(result.skipped for result in batch.results)
    counts = [
        ("done", str(len(batch.results) - there)),
        ("there already", str(there)),
        ("failed", str(len(batch.failures))),
        ("in all", duration(batch.seconds)),
    ]
    parts = [
        f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in counts if value != "0"
    ]
    return f'<dl class="counts">{"".join(parts)}</dl>'


def _options(options: Options) -> str:
    noise = options.noise
    if isinstance(noise, Calibration):
        noise = noise.path
    elif noise is not None:
        noise = f"S={mean(noise.shot)} O={mean(noise.read)}"
    rows = {
        "--format": ",".join(options.formats),
        "--reference": options.reference,
        "--strength": f"{options.strength:g}",
        "--noise": noise or "the file's, or measured",
        "--device": options.device,
        "--precision": options.precision,
        "--tile": options.tile or "by the memory there is",
        "--weights": options.weights or "those that ship",
        "--compression": options.compression,
        "--overwrite": "yes" if options.overwrite else "no",
    }
    items = "".join(
        f"<div><dt><code>{text(name)}</code></dt><dd>{text(value)}</dd></div>"
        for name, value in rows.items()
    )
    return f'<dl class="facts">{items}</dl>'


def _failures(failures: Sequence[Failure]) -> str:
    if not failures:
        return ""
    items = "".join(
        f"<li><p>{text(failure.message())}</p>{_named(failure.files)}</li>" for failure in failures
    )
    return f'<section class="failed"><h2>Failed</h2><ul>{items}</ul></section>'


def _named(paths: Sequence[Path]) -> str:
    if len(paths) < 2:
        return ""
    names = ", ".join(text(path.name) for path in paths)
    return f"<details><summary>{len(paths)} files</summary><p>{names}</p></details>"


def _index(batch: Batch, folder: Path) -> str:
    if len(batch.results) < 2:
        return ""
    items = "".join(
        f'<li><a href="#burst-{number}">{text(place(result, folder))}</a></li>'
        for number, result in enumerate(batch.results, 1)
    )
    short = "So many bursts: each has fewer pictures, to keep this page small."
    hint = f'<p class="hint">{short}</p>' if batch.shortened else ""
    return f'<nav aria-label="Bursts"><ol>{items}</ol>{hint}</nav>'


def _bursts(number: int) -> str:
    return count(number, "burst")
