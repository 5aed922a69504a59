"""`kpn info`: camera, CFA phase, levels, exposure and noise model of raw files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..choices import DEFECTS
from ..errors import KpnError, TransientError
from . import console, documents, inputs
from .options import JSON
from .values import FilePath

if TYPE_CHECKING:
    from ..defects.repaired import Repaired
    from ..noise.selection import NoiseReport
    from ..raw.decoder_process import Decoder
    from ..raw.info import RawInfo

    #: A file's facts; noise and defects, None where they cannot be determined.
    Look = tuple[RawInfo, NoiseReport | None, Repaired | None]


@click.command()
@click.argument("files", nargs=-1, required=True, type=FilePath())
@JSON
def info(files: tuple[str, ...], as_json: bool) -> None:
    """Show camera, lens, CFA phase, levels, exposure, noise and defective pixels of files.

    FILES are raw files, or folders that contain them at any depth. Noise model and defects are
    those that kpn denoise would use and repair for the file alone; several frames show more
    defects.
    """
    from ..burst.files import find_raws_below
    from ..pipeline.result import Failure
    from ..raw.decoder_process import Decoder

    rows: list[dict[str, Any]] = []
    failed: dict[Path, KpnError] = {}
    try:
        given = inputs.raws(files)
        given.tell()
        found, errors = find_raws_below(given.paths)
        failed |= given.errors | errors
        with Decoder() as decoder:
            for path in (each.path for each in found):
                try:
                    report = _look_at(decoder, path)
                except KpnError as error:
                    failed[path] = error
                    continue
                if as_json:
                    rows.append(documents.info_json(*report))
                else:  # at once: a card has many
                    console.show_table(str(path), _rows(*report))
    except KpnError as error:
        if as_json:
            _print_json([], dict.fromkeys(map(Path, files), error))
        raise
    except KeyboardInterrupt:
        if as_json:
            _print_json(rows, failed, interrupted=True)
        raise
    if as_json:
        _print_json(rows, failed)
    else:
        console.show_failures([Failure((path,), str(why)) for path, why in failed.items()])
    if failed:
        sys.exit(1)


def _print_json(rows: list[dict[str, Any]], failed: dict[Path, KpnError], **more: bool) -> None:
    failures = [{"file": str(path), "error": str(error)} for path, error in failed.items()]
    console.print_json({"files": rows, "failed": failures, **more})


def _look_at(decoder: Decoder, path: Path) -> Look:
    """Read a file's facts, and what `kpn denoise` would use and repair for it alone."""
    import torch

    from ..burst.frame import Frame
    from ..noise.selection import NoiseReport, first_guess, noise_of_file
    from ..pipeline.prepare import repair_known_and_found
    from ..raw.full_exif import complete

    planes = None
    try:
        read, planes = decoder.planes(path)
    except TransientError:
        raise
    except KpnError:  # of a blank picture there are facts nevertheless
        read = decoder.info(path)
    raw = complete(read, decoder.camera_notes)
    stated = raw.noise_profile
    known = NoiseReport("profile", stated) if stated is not None and all(stated.read) else None
    if planes is None:
        return raw, known, None
    frame = Frame(torch.from_numpy(planes), raw.black, raw.white)
    try:
        guess = first_guess(raw, frame, None)
        repaired = repair_known_and_found([frame], [raw], guess, None, DEFECTS[0])
        return raw, known or noise_of_file(raw, planes), repaired
    except KpnError:  # the picture is too small to measure
        return raw, known, None


def _rows(
    raw: RawInfo, noise: NoiseReport | None, repaired: Repaired | None
) -> list[tuple[str, str]]:
    """Return label and value of each row of a file's table."""
    from ..raw import exposure

    return [
        ("make", raw.make or "unknown"),
        ("model", raw.model or "unknown"),
        ("CFA phase", raw.phase),
        ("size", f"{raw.width} x {raw.height} pixels"),
        ("black level", _per_plane(raw.black, ".6g")),
        ("white level", _white(raw)),
        ("ISO", _iso(raw)),
        ("gain control", raw.gain or "unknown"),
        ("exposure time", _shown(exposure.show_time, raw.exposure_time)),
        ("aperture", _shown(exposure.show_aperture, raw.f_number)),
        ("focal length", _optional("{:.4g} mm", raw.focal_length)),
        ("lens", raw.lens or "unknown"),
        ("drive mode", raw.drive_mode or "unknown"),
        ("captured", raw.captured.isoformat(" ") if raw.captured else "unknown"),
        ("Exif orientation", str(raw.orientation)),
        ("noise S", _per_plane(noise.model.shot, ".3g") if noise else "cannot be determined"),
        ("noise O", _per_plane(noise.model.read, ".3g") if noise else "cannot be determined"),
        ("noise source", noise.origin if noise else "none"),
        ("defects", _defects(repaired)),
        *(("note", note) for note in raw.notes),
    ]


def _white(raw: RawInfo) -> str:
    white = f"{raw.white:.6g}"
    return white if raw.saturation is None else f"{white}, saturated from {raw.saturation:.6g}"


def _defects(repaired: Repaired | None) -> str:
    if repaired is None:
        return "cannot be determined"
    return repaired.in_words() or "none"


def _optional(template: str, value: float | None) -> str:
    return "unknown" if value is None else template.format(value)


def _iso(raw: RawInfo) -> str:
    """Return the ISO and the tag that it is from."""
    return "unknown" if raw.iso is None else f"{raw.iso:.8g} ({raw.iso_source})"


def _shown(show: Callable[[float], str], value: float | None) -> str:
    return "unknown" if value is None else show(value)


def _per_plane(values: tuple[float, ...], form: str) -> str:
    """Return the values of R, G1, G2, B; one if they are all the same."""
    texts = [format(value, form) for value in values]
    return texts[0] if len(set(texts)) == 1 else f"{' '.join(texts)} (R, G1, G2, B)"
