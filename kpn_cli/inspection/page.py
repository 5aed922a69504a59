"""The page of `kpn inspect`: its figures as PNG files, and one HTML page that holds them all."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .. import __version__
from ..batch.html import count, data_uri, is_page_of, page_start, text
from ..errors import KpnError
from ..pipeline import outputs
from ..system.files import atomic, make_folder, remove_abandoned
from . import drawing, kernel_figures, map_figures
from .inspect import Inspection

PAGE = "index.html"
_SOFTWARE = "kpn inspect"
#: Names of figures, of which those of former runs are removed.
_OURS = re.compile(r"(kernels|noise_scale)_\d+_\d+\.png|(weights|shifts|noise|trust)\.png")


@dataclass(frozen=True)
class _Section:
    """A figure on the page.

    Attributes:
        name: of its file, without suffix.
        title: of the section; "" to go on with the one before.
        words: how to read it, as plain text.
        alternative: what it shows, for who doesn't see it.
        draw: draws it.
    """

    name: str
    title: str
    words: str
    alternative: str
    draw: Callable[[], Image.Image]


def check_folder(folder: Path) -> None:
    """Make the folder of a page where it isn't there.

    Raises:
        KpnError: if it can't be made, or holds another program's page or pictures of the
            figures' names.
    """
    make_folder(folder)
    page = folder / PAGE
    foreign = [path for path in _figures(folder) if not _is_our_figure(path)]
    if os.path.lexists(page) and not is_page_of(page, _SOFTWARE):
        foreign.insert(0, page)
    if foreign:
        raise KpnError(f"{foreign[0]}: is not of kpn inspect; choose another folder with -o")


def _figures(folder: Path) -> list[Path]:
    """What has the name of a figure."""
    return sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name))


def _is_our_figure(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == _SOFTWARE
    except (OSError, ValueError, SyntaxError):
        return False


def write_page(inspection: Inspection, folder: Path) -> dict[str, Path]:
    """Write the figures and the page; those of a former run are replaced.

    Args:
        inspection: what is to be seen.
        folder: where to, after `check_folder`.

    Returns:
        Name -> file, the page first.

    Raises:
        KpnError: if the disk refuses a file, or one would replace a frame.
    """
    sections = _sections(inspection)
    paths = {"page": folder / PAGE} | {s.name: folder / f"{s.name}.png" for s in sections}
    frames = [info.path for info in inspection.infos] + list(inspection.dropped)
    outputs.check_inputs(list(paths.values()), frozenset(path.resolve() for path in frames))
    remove_abandoned(folder)
    pictures = {}
    for section in sections:
        pictures[section.name] = drawing.encode_png(section.draw(), _SOFTWARE)
        _write(paths[section.name], pictures[section.name])
    _write(paths["page"], _page(inspection, sections, pictures).encode())
    for path in _figures(folder):
        if path not in paths.values() and _is_our_figure(path):
            with suppress(OSError):
                path.unlink()
    return paths


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)


# --- what is on it ----------------------------------------------------------


def _sections(inspection: Inspection) -> list[_Section]:
    found = []
    for number, place in enumerate(inspection.looks):
        found.append(
            _Section(
                f"kernels_{place.x}_{place.y}",
                "" if number else "Kernels",
                _KERNELS if number == 0 else "",
                f"The frames around pixel {place.x}, {place.y}, and the kernel of each there",
                lambda place=place: kernel_figures.kernels(inspection, place),
            )
        )
    if len(inspection.infos) > 1:
        found += [
            _Section(
                "weights",
                "Weights",
                _WEIGHTS,
                "A map of the weight of each frame in the result",
                lambda: map_figures.weights(inspection),
            ),
            _Section(
                "shifts",
                "Alignment",
                _SHIFTS,
                "The path of the frames over the reference, and a map of each frame's tiles",
                lambda: map_figures.shifts(inspection),
            ),
        ]
    found += [
        _Section(
            "trust",
            "Trust",
            _TRUST,
            "Maps of the share of the reference frame in the result",
            lambda: map_figures.trust(inspection),
        ),
        _Section(
            "noise",
            "Noise",
            _NOISE,
            "The reference frame, and a map of its noise",
            lambda: map_figures.noise(inspection),
        ),
    ]
    for number, (place, looks) in enumerate(inspection.scaled.items()):
        if looks:
            found.append(
                _Section(
                    f"noise_scale_{place.x}_{place.y}",
                    "" if number else "Scaled noise estimates",
                    _SCALES if number == 0 else "",
                    f"The result around pixel {place.x}, {place.y} under each noise estimate",
                    lambda place=place: kernel_figures.noise_scales(inspection, place),
                )
            )
    return found


_KERNELS = (
    "For every cell (2 x 2 pixels of the sensor: a red, two green, a blue one) the network writes "
    "a kernel for each frame: how much each sample around the cell counts in the result. Red taps "
    "add, blue ones subtract; all taps of all frames sum to 100 %. On a plain surface kernels are "
    "wide, and frames count alike. Along an edge they follow it. Where a frame is shifted by a "
    "part of a cell, its kernel lies off the middle. A frame that shows something else there gets "
    "next to nothing. The wide kernel filters the merged picture once more."
)
_WEIGHTS = (
    "What each frame's kernel sums to. Green-blue is an equal share, as in a plain mean; dark "
    "means that the network does not trust the frame there; yellow, that it takes nothing else. "
    "Where something moves, and at borders that other frames don't reach, the reference is yellow "
    "and the others are dark. Of more than eight frames the reference is in every group that is "
    "merged, so it counts more everywhere."
)
_SHIFTS = (
    "Frames are moved over the reference tile by tile, in whole cells, before the network sees "
    "them. Tiles that lie otherwise than the rest show turns of the camera, near things, things "
    "that move, or places with nothing to align by."
)
_TRUST = (
    "The result is checked against the reference: where they differ by more than noise can, the "
    "reference counts (middle). With the weight that its kernel has, this is all that the result "
    "has of the reference (right)."
)
_NOISE = (
    "How noisy the network takes the reference for. If this is too low, noise is left; if it is "
    "too high, detail goes with it."
)
_SCALES = (
    "The same place, with the network told less or more noise than there is (its sigma, as with "
    "--strength). With more, kernels become wider and less noise is left, until they can't become "
    "wider; frames that differ are trusted longer."
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #5b6470; --back: #f6f7f9;
  --card: #fff; --line: #dde2e8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --faint: #9aa4b0; --back: #14171b;
  --card: #1d2127; --line: #30363e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: var(--back); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0 1rem; }
.faint { color: var(--faint); }
nav a { margin-right: 1rem; color: inherit; }
.wide { overflow-x: auto; margin: 0 0 1rem; background: var(--card); border-radius: .6rem;
  border: 1px solid var(--line); }
figure.wide { background: #fff; }
img { display: block; width: 100%; min-width: 44rem; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .45rem .8rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--faint); font-weight: 500; }
tr + tr { border-top: 1px solid var(--line); }
"""


def _page(inspection: Inspection, sections: list[_Section], pictures: dict[str, bytes]) -> str:
    info = inspection.info
    titled = [section for section in sections if section.title]
    links = "\n".join(f'<a href="#{s.name}">{text(s.title)}</a>' for s in titled)
    parts = "\n".join(_part(section, pictures[section.name]) for section in sections)
    camera = text(" ".join(filter(None, (info.make, info.model, _exposure(inspection)))))
    return f"""{page_start(_SOFTWARE, f"{info.path.name}: kpn inspect")}<style>{_STYLE}</style>
</head>
<body>
<h1>{text(info.path.name)}</h1>
<p class="faint">{camera}</p>
<p>{_summary(inspection)}</p>
<nav>{links}</nav>
<h2>Frames</h2>
<div class="wide">{_table(inspection)}</div>
{_dropped(inspection)}
{parts}
<p class="faint">kpn {__version__}</p>
</body>
</html>
"""


def _part(section: _Section, picture: bytes) -> str:
    """A section; the picture rides in the page, which so can be sent around alone."""
    head = f'<h2 id="{section.name}">{text(section.title)}</h2>' if section.title else ""
    words = f"<p>{text(section.words)}</p>" if section.words else ""
    size = Image.open(io.BytesIO(picture)).size
    return (
        f'{head}{words}<figure class="wide"><img width="{size[0]}" height="{size[1]}" '
        f'alt="{text(section.alternative)}" src="{data_uri(picture, "png")}"></figure>'
    )


def _exposure(inspection: Inspection) -> str:
    info = inspection.info
    parts = [
        f"ISO {info.iso:g}" if info.iso else "",
        _seconds(info.exposure_time) if info.exposure_time else "",
        f"f/{info.f_number:g}" if info.f_number else "",
        f"{info.width} x {info.height} pixels",
    ]
    return ", ".join(filter(None, parts))


def _seconds(time: float) -> str:
    return f"1/{1 / time:.0f} s" if time < 0.4 else f"{time:g} s"


def _summary(inspection: Inspection) -> str:
    maps, noise = inspection.maps, inspection.noise
    frames = count(len(inspection.infos), "frame")
    told = "" if inspection.strength == 1 else f", its sigma times {inspection.strength:g}"
    return text(
        f"{frames} merged; {100 * maps.noise_left**0.5:.1f} % of the "
        f"reference's noise (sigma) is left, {100 * maps.fallen_back:.2g} % of the picture is put "
        f"back from the reference. The noise model is {noise.origin}{told}. "
        f"{noise.warning}"
    )


def _table(inspection: Inspection) -> str:
    means = inspection.maps.weights.mean((1, 2))
    rows = []
    for number, info in enumerate(inspection.infos):
        y, x = inspection.median_shifts[number]
        cells = (
            text(info.path.name) + (", the reference" if number == 0 else ""),
            f"{x:+.0f}, {y:+.0f}" if number else "",
            f"{inspection.agreement[number]:.2f}",
            f"{inspection.exposure[number]:.3f}",
            f"{100 * means[number]:.1f} %",
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = ("Frame", "Shift x, y in px", "Agreement", "Brightness", "Mean weight")
    return (
        "<table><tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>"
        f"{''.join(rows)}</table>"
    )


def _dropped(inspection: Inspection) -> str:
    lines = [f"<li>{text(path.name)}: {text(why)}</li>" for path, why in inspection.dropped.items()]
    return f"<p>Left out:</p><ul>{''.join(lines)}</ul>" if lines else ""
