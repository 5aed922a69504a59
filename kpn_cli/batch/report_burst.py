"""The HTML of one burst in the report: pictures, frames, noise, times and outputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from math import log2
from pathlib import Path

import numpy as np

from ..image.orientation import upright_vectors
from ..noise.selection import NoiseReport
from ..pipeline.result import Result
from ..raw import exposure
from .html import count, data_uri, definitions, duration, link, mean, text
from .report_pictures import BeforeAfter, Pictures

_FORMAT_NAMES = {
    "dng": "DNG",
    "linear": "16-bit linear TIFF",
    "srgb": "16-bit sRGB TIFF",
    "jpeg": "JPEG",
    "xmp": "XMP sidecar",
    "dng_xmp": "XMP sidecar",
}


def burst_name(result: Result, folder: Path) -> str:
    """Return the name of a burst: its reference, in the outputs' folder below the page's."""
    for path in result.outputs.values():
        below = Path(os.path.relpath(path.parent, folder))
        return (below / result.reference.name).as_posix()
    return result.reference.name


def burst_section(result: Result, pictures: Pictures | str, folder: Path, key: str) -> str:
    """Return the section of a burst.

    Args:
        result: of the burst.
        pictures: of the burst, or the reason why there are none.
        folder: folder of the page.
        key: letters and digits, unique among the bursts of the page.
    """
    shown = (
        f'<p class="hint">No pictures: {text(pictures)}</p>'
        if isinstance(pictures, str)
        else _viewer(pictures, result, key)
    )
    return f"""<header><h2>{text(burst_name(result, folder))}</h2>{_summary(result)}</header>
{shown}
{_unknown(result)}
{_remarks(result)}
<div class="about">
{_frames(result)}
<div class="rest">
{_noise(result)}
{_time(result)}
{_files(result, folder)}
</div>
</div>
"""


def missing_section(result: Result, folder: Path) -> str:
    """Return the section of a burst whose own section is lost."""
    name = text(burst_name(result, folder))
    hint = "This section is lost: another run has replaced the page."
    return f'<header><h2>{name}</h2></header>\n<p class="hint">{hint}</p>\n'


def _unknown(result: Result) -> str:
    if not result.skipped:
        return ""
    hint = "Outputs existed already, so noise and alignment are not known. "
    return f'<p class="hint">{hint}Use <code>--overwrite</code> to make them again.</p>'


def _summary(result: Result) -> str:
    parts = [count(len(result.frames), "frame")]
    if result.noise_left is not None:
        parts.append(f"{result.noise_left**0.5:.0%} of the noise (&#963;) left")
    if result.grain:
        parts.append(f"{result.grain:.0%} of its luminance given back as grain")
    if result.seconds:
        parts.append(duration(result.seconds))
    return f'<p class="sub">{" &#183; ".join(parts)}</p>'


def _viewer(pictures: Pictures, result: Result, key: str) -> str:
    pairs = "".join(
        _pair(crop, number, result.reference.name) for number, crop in enumerate(pictures.crops)
    )
    brighter = ""
    if pictures.stops:
        brighter = (
            f'<p class="hint">A dark photo: here it is {pictures.stops:.1f} stops brighter, before '
            "and after alike. The outputs are as dark as the raw file.</p>"
        )
    return f"""<div class="viewer">
<div class="stage">
<div class="pan">{pairs}</div>
<span class="line" aria-hidden="true"><span class="grip"></span></span>
<span class="tag left" aria-hidden="true">Before</span>
<span class="tag right" aria-hidden="true">After</span>
<input class="slider" type="range" min="0" max="100" value="50" autocomplete="off" \
aria-label="Divider: before on its left, after on its right">
</div>
<div class="side">
{_map(pictures, result)}
{_crop_choice(pictures.crops, key)}
{brighter}
</div>
</div>"""


def _pair(crop: BeforeAfter, number: int, name: str) -> str:
    """Return a crop before and after denoising."""
    _, _, rows, columns = crop.box
    figures = "".join(
        f'<figure class="{kind.lower()}"><img src="{data_uri(picture, "jpeg")}" width="{columns}" '
        f'height="{rows}" loading="lazy" decoding="async" draggable="false" '
        f'alt="{kind}: {text(crop.name).lower()} of {text(name)} at 100 %">'
        f"<figcaption>{kind}: {text(crop.name)}</figcaption></figure>\n"
        for kind, picture in (("After", crop.after), ("Before", crop.before))
    )
    on = " on" if number == 0 else ""
    return f'<div class="pair{on}" data-place="{number}">\n{figures}</div>'


def _map(pictures: Pictures, result: Result) -> str:
    """Return the overview with the outlines of the crops."""
    rows, columns = pictures.size
    outlines = "".join(
        f'<rect class="{"on" if number == 0 else ""}" data-place="{number}" x="{crop.box[1]}" '
        f'y="{crop.box[0]}" width="{crop.box[3]}" height="{crop.box[2]}"/>'
        for number, crop in enumerate(pictures.crops)
    )
    small_rows, small_columns = pictures.overview_size
    overview = data_uri(pictures.overview, "jpeg")
    return f"""<figure class="map">
<img src="{overview}" width="{small_columns}" height="{small_rows}" loading="lazy" \
decoding="async" alt="The whole result, {text(result.reference.name)}">
<svg viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" aria-hidden="true">{outlines}</svg>
<figcaption>{columns} &#215; {rows} pixels</figcaption>
</figure>"""


def _crop_choice(crops: Sequence[BeforeAfter], key: str) -> str:
    """Return the buttons that choose a crop."""
    if len(crops) < 2:
        return ""
    choices = "".join(
        f'<label><input type="radio" name="place-{key}" value="{number}" autocomplete="off"'
        f"{' checked' if number == 0 else ''}><span>{text(crop.name)}</span></label>"
        for number, crop in enumerate(crops)
    )
    return f'<fieldset class="places"><legend>Crops at 100&#8239;%</legend>{choices}</fieldset>'


def _remarks(result: Result) -> str:
    # Dropped frames and exposures are in the table of frames.
    elsewhere = ("dropped", "exposure")
    remarks = [(kind, remark) for kind, remark in result.remarks() if kind not in elsewhere]
    items = "".join(
        f'<li class="{kind}"><b>{kind.title()}</b> {text(remark)}</li>' for kind, remark in remarks
    )
    return f'<ul class="remarks">{items}</ul>' if items else ""


def _frames(result: Result) -> str:
    known = bool(result.agreement)
    rows = []
    for number, path in enumerate(result.frames):
        settings = f"<small>{text(result.settings[number])}</small>" if result.settings else ""
        role = " <em>reference</em>" * (number == 0)
        cells = f'<th scope="row">{text(path.name)}{role}{settings}</th>'
        if known:
            # In the orientation of the pictures.
            sensor = np.array([[result.shifts[number]]])
            y, x = upright_vectors(sensor, result.orientation)[0, 0].tolist()
            agreement = result.agreement[number]
            cells += (
                f"<td>{_signed(x)}, {_signed(y)}</td><td>{_bar(agreement)}{agreement:.0%}</td>"
                f"<td>{_brightness(result, number)}</td>"
            )
        rows.append(f"<tr>{cells}</tr>")
    columns = 4 if known else 1
    rows += [
        f'<tr class="dropped"><th scope="row">{text(path.name)} <em>dropped</em></th></tr>'
        f'<tr class="why"><td colspan="{columns}">{text(why)}</td></tr>'
        for path, why in result.dropped.items()
    ]
    heads = ["Frame", *(["Shift x, y", "Agreement", "Brightness"] if known else [])]
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    count = f"{len(result.frames)} used" + (
        f", {len(result.dropped)} dropped" if result.dropped else ""
    )
    return f"""<section class="frames"><h3>Frames <span>{count}</span></h3>
<table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></section>"""


def _noise(result: Result) -> str:
    if result.noise is None:
        return ""
    rows = [("Model", f"variance = S&#183;x + O, {text(result.noise.origin)}")]
    rows += [(name, values) for name, values in _coefficients(result.noise)]
    left = result.noise_left
    if left is not None:
        rows.append(("Residual noise", _noise_left(left)))
    if result.grain:
        rows.append(("Grain", f"{result.grain:.0%} of the luminance noise (&#963;) given back"))
    if result.fallback_share is not None:
        rows.append(("Taken from the reference", f"{result.fallback_share:.1%} of the picture"))
    if result.headroom is not None:
        rows.append(("Headroom", f"{result.headroom:.1f} EV beyond the reference's white"))
    return f"<section><h3>Noise</h3>{definitions(rows)}</section>"


def _coefficients(noise: NoiseReport) -> Iterable[tuple[str, str]]:
    for name, values in (("S", noise.model.shot), ("O", noise.model.read)):
        one = mean(values)
        if max(values) > 1.005 * min(values):
            one += f' <span class="planes">{" / ".join(f"{v:.2e}" for v in values)}</span>'
        yield name, one


def _noise_left(share: float) -> str:
    """Return a share of the noise variance as a share of sigma, and in stops."""
    sigma = share**0.5
    if sigma > 0.995:
        return "all of it"
    if sigma < 0.005:
        return "less than 1&#8239;% of &#963;"
    return f"{sigma:.0%} of &#963;, {-log2(sigma):.1f} stops less"


def _time(result: Result) -> str:
    if not result.timings:
        return ""
    total = sum(result.timings.values()) or 1.0
    bars, start = "", 0.0
    legend: list[tuple[str, str]] = []
    for number, (stage, seconds) in enumerate(result.timings.items()):
        share = 100 * seconds / total
        bars += f'<rect class="s{number}" x="{start:.2f}%" width="{share:.2f}%" height="100%"/>'
        key = (
            f'<svg class="key" aria-hidden="true"><rect class="s{number}" width="100%" '
            'height="100%"/></svg>'
        )
        legend.append((key + text(stage), duration(seconds)))
        start += share
    place = f"{text(result.device)} in {text(result.precision)}"
    where = f" <span>{duration(result.seconds)} on {place}</span>"
    return f"""<section><h3>Time{where}</h3><svg class="times" aria-hidden="true">{bars}</svg>
{definitions(legend)}</section>"""


def _files(result: Result, folder: Path) -> str:
    items = "".join(
        f'<li><a href="{link(path, folder)}">{text(path.name)}</a> '
        f"<span>{_FORMAT_NAMES[name]}</span></li>"
        for name, path in result.outputs.items()
    )
    return f'<section><h3>Outputs</h3><ul class="files">{items}</ul></section>'


# --- numbers ----------------------------------------------------------------


def _bar(share: float) -> str:
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        f'<svg class="bar" aria-hidden="true"><rect width="100%" height="100%"/>'
        f'<rect class="full" width="{width:.0f}%" height="100%"/></svg>'
    )


def _brightness(result: Result, number: int) -> str:
    """Return the brightness of a frame over the reference's; in EV where exposures differ."""
    if not result.settings:
        return f"{result.exposure[number]:.3f}"
    return exposure.show_stops(result.stops[number]).replace("-", "\N{MINUS SIGN}")


def _signed(value: int) -> str:
    return f"{value:+d}".replace("-", "\N{MINUS SIGN}") if value else "0"
