"""The page of `kpn inspect`: the figures as PNG files, and one HTML page with all of them."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from .. import __version__
from ..batch.html import count, data_uri, is_page_of, page_start, text
from ..errors import KpnError
from ..pipeline import outputs
from ..raw import exposure
from ..system.files import atomic, make_folder, remove_abandoned
from . import drawing, kernel_figures, map_figures
from .inspect import Inspection

PAGE = "index.html"
_SOFTWARE = "kpn inspect"
#: Names of the figures' files; figures of former runs are removed.
_FIGURE_NAME = re.compile(r"(kernels|noise_scale)_\d+_\d+\.png|(weights|shifts|noise|trust)\.png")


@dataclass(frozen=True)
class _Section:
    """A figure on the page.

    Attributes:
        name: of its file, without suffix.
        title: of the section; "" to continue the previous one.
        explanation: how to read the figure, as plain text.
        alt_text: what the figure shows, for readers who cannot see it.
        draw: draws the figure.
    """

    name: str
    title: str
    explanation: str
    alt_text: str
    draw: Callable[[], Image.Image]


def check_folder(folder: Path) -> None:
    """Make the folder of a page unless it exists.

    Raises:
        KpnError: if it cannot be made, or holds a page or a picture of another program under
            the name of one of ours.
    """
    make_folder(folder)
    page = folder / PAGE
    foreign = [path for path in _figures(folder) if not _is_our_figure(path)]
    if os.path.lexists(page) and not is_page_of(page, _SOFTWARE):
        foreign.insert(0, page)
    if foreign:
        raise KpnError(f"{foreign[0]}: not made by kpn inspect; choose another folder with -o")


def _figures(folder: Path) -> list[Path]:
    """Return the files that have the name of a figure."""
    return sorted(path for path in folder.iterdir() if _FIGURE_NAME.fullmatch(path.name))


def _is_our_figure(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return bool(picture.info.get("Software") == _SOFTWARE)
    except (OSError, ValueError, SyntaxError):
        return False


def write_page(inspection: Inspection, folder: Path) -> dict[str, Path]:
    """Write the figures and the page; replace those of a former run.

    Args:
        inspection: what to show.
        folder: checked with `check_folder`.

    Returns:
        Name of the page ("page") or figure -> its file, the page first.

    Raises:
        KpnError: if a file cannot be written, or would replace a frame.
    """
    sections = _sections(inspection)
    paths = {"page": folder / PAGE} | {s.name: folder / f"{s.name}.png" for s in sections}
    frames = [info.frame for info in inspection.infos] + list(inspection.dropped)
    outputs.Inputs(frozenset(path.resolve() for path in frames)).check(list(paths.values()))
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


# --- sections ---------------------------------------------------------------


def _sections(inspection: Inspection) -> list[_Section]:
    sections = []
    for number, point in enumerate(inspection.views):
        sections.append(
            _Section(
                f"kernels_{point.x}_{point.y}",
                "" if number else "Kernels",
                _KERNELS if number == 0 else "",
                f"The frames around pixel {point.x}, {point.y}, and the kernel of each there",
                partial(kernel_figures.kernels, inspection, point),
            )
        )
    if len(inspection.infos) > 1:
        sections += [
            _Section(
                "weights",
                "Weights",
                _WEIGHTS,
                "A map of the weight of each frame in the result",
                partial(map_figures.weights, inspection),
            ),
            _Section(
                "shifts",
                "Alignment",
                _SHIFTS,
                "The median shifts of the frames, and a map of each frame's tiles",
                partial(map_figures.shifts, inspection),
            ),
        ]
    sections += [
        _Section(
            "trust",
            "Trust",
            _TRUST,
            "Maps of the share of the reference frame in the result",
            partial(map_figures.trust, inspection),
        ),
        _Section(
            "noise",
            "Noise",
            _NOISE,
            "The reference frame, and a map of its noise",
            partial(map_figures.noise, inspection),
        ),
    ]
    for number, (point, views) in enumerate(inspection.scaled_views.items()):
        if views:
            sections.append(
                _Section(
                    f"noise_scale_{point.x}_{point.y}",
                    "" if number else "Scaled noise estimates",
                    _SCALES if number == 0 else "",
                    f"The result around pixel {point.x}, {point.y} under each noise estimate",
                    partial(kernel_figures.noise_scales, inspection, point),
                )
            )
    return sections


_KERNELS = (
    "For every cell (2 x 2 sensor pixels: one red, two green, one blue) the network predicts a "
    "kernel for each frame: the weight of each sample around the cell in the result. Red taps "
    "add, blue taps subtract; the taps of all frames sum to 100 %. On a plain surface the kernels "
    "are broad and the frames have similar weights. Along an edge the kernels follow the edge. "
    "The kernel of a frame that is shifted by a fraction of a cell is off-centre. A frame that "
    "shows something else at this point gets almost no weight. The dilated kernel filters the "
    "merged picture once more."
)
_WEIGHTS = (
    "The sum of each frame's kernel. Green-blue is an equal share, as in a plain mean; dark means "
    "that the network rejects the frame there, yellow that it uses this frame alone. Where "
    "something moves, and at borders that the other frames do not cover, the reference is yellow "
    "and the others are dark. A burst of more than eight frames is merged in groups; the "
    "reference is in every group, so its weight is higher everywhere."
)
_SHIFTS = (
    "Frames are aligned to the reference tile by tile, in whole cells, before they reach the "
    "network. Tiles that deviate from the rest show camera rotation, near objects, moving "
    "objects, or areas without detail to align by."
)
_TRUST = (
    "The result is checked against the reference: where the two differ by more than noise can "
    "explain, the result falls back to the reference (middle). Together with the weight of its "
    "kernel, this is the reference's total share in the result (right)."
)
_NOISE = (
    "The noise that the network assumes in the reference. If it is too low, noise stays in the "
    "result; if it is too high, detail is lost."
)
_SCALES = (
    "The same point, with the network assuming a smaller or larger noise sigma than the true one, "
    "as with --strength. With a larger sigma the kernels get broader and leave less noise, until "
    "they reach their full size; frames that differ from the reference keep their weight longer."
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
    body = "\n".join(_section_html(section, pictures[section.name]) for section in sections)
    camera = text(" ".join(filter(None, (info.make, info.model, _exposure(inspection)))))
    return f"""{page_start(_SOFTWARE, f"{info.frame.name}: kpn inspect")}<style>{_STYLE}</style>
</head>
<body>
<h1>{text(info.frame.name)}</h1>
<p class="faint">{camera}</p>
<p>{_summary(inspection)}</p>
<nav>{links}</nav>
<h2>Frames</h2>
<div class="wide">{_table(inspection)}</div>
{_dropped(inspection)}
{body}
<p class="faint">kpn {__version__}</p>
</body>
</html>
"""


def _section_html(section: _Section, picture: bytes) -> str:
    """Return a section with its picture embedded: the page can be sent around as one file."""
    head = f'<h2 id="{section.name}">{text(section.title)}</h2>' if section.title else ""
    explanation = f"<p>{text(section.explanation)}</p>" if section.explanation else ""
    size = Image.open(io.BytesIO(picture)).size
    return (
        f'{head}{explanation}<figure class="wide"><img width="{size[0]}" height="{size[1]}" '
        f'alt="{text(section.alt_text)}" src="{data_uri(picture, "png")}"></figure>'
    )


def _exposure(inspection: Inspection) -> str:
    info = inspection.info
    parts = [
        exposure.show_iso(info.iso) if info.iso else "",
        exposure.show_time(info.exposure_time) if info.exposure_time else "",
        exposure.show_aperture(info.f_number) if info.f_number else "",
        f"{info.width} x {info.height} pixels",
    ]
    return ", ".join(filter(None, parts))


def _summary(inspection: Inspection) -> str:
    maps, noise = inspection.maps, inspection.noise
    frames = count(len(inspection.infos), "frame")
    strength = "" if inspection.strength == 1 else f", its sigma times {inspection.strength:g}"
    return text(
        f"{frames} merged; {100 * maps.noise_left**0.5:.1f} % of the "
        f"reference's noise (sigma) is left; {100 * maps.fallback_share:.2g} % of the picture "
        f"falls back to the reference. The noise model is {noise.origin}{strength}. "
        f"{noise.warning}"
    )


def _table(inspection: Inspection) -> str:
    means = inspection.maps.weights.mean((1, 2))
    mixed = bool(inspection.settings)  # brightness is in EV where exposures differ
    rows = []
    for number, info in enumerate(inspection.infos):
        y, x = inspection.median_shifts[number]
        settings = f"<br><small>{text(inspection.settings[number])}</small>" if mixed else ""
        stops = exposure.show_stops(inspection.stops[number]).replace("-", "\N{MINUS SIGN}")
        cells = (
            text(info.frame.name) + (", the reference" if number == 0 else "") + settings,
            f"{x:+.0f}, {y:+.0f}" if number else "",
            f"{inspection.robustness[number]:.2f}",
            stops if mixed else f"{inspection.exposure[number]:.3f}",
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
    return f"<p>Not merged:</p><ul>{''.join(lines)}</ul>" if lines else ""
