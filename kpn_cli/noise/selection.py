"""Which noise model a burst gets: the user's, the file's, a table's, or the frames' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..align import warp
from ..burst.frame import Frame
from ..errors import KpnError
from ..image.noise_model import NoiseModel, typical_log_read
from ..raw.info import RawInfo
from . import estimation
from .calibration import Calibration
from .profile_check import MOST, understatement

#: What a `NoiseReport.source` means, for the user.
SOURCES = {
    "given": "as given",
    "profile": "from the NoiseProfile",
    "iso": "typical of the ISO",
    "measured": "measured from the frames",
}

#: Beyond this factor between two estimates of sigma, one of them is wrong.
_DISAGREEMENT = 2.0
#: From here on frames certainly have more noise than is stated: told the truth, no burst of the
#: validation photos showed more than 1.02 times the sigma, from ISO 100 to gain 8.
_UNDERSTATED = 1.25
#: Frames that are measured where a profile is only to be checked: a factor of 2 shows in few.
_TO_CHECK = 4


@dataclass(frozen=True)
class NoiseReport:
    """A noise model and where it came from.

    Attributes:
        source: of `SOURCES`.
        model: the one that is used.
        warning: what the user should know about it; "" if nothing.
        file: the calibration it is from, if any.
    """

    source: str
    model: NoiseModel
    warning: str = ""
    file: Path | None = None

    @property
    def origin(self) -> str:
        """Where the model came from, in words."""
        return SOURCES[self.source] + (f" in {self.file.name}" if self.file else "")


def given_noise(info: RawInfo, noise: NoiseModel | Calibration | None) -> NoiseReport | None:
    """Return the user's noise model for a file; None if there is none.

    Raises:
        KpnError: if it is a calibration of another camera, or the file says no ISO.
    """
    if isinstance(noise, Calibration):
        return NoiseReport("given", noise.at(info), noise.warning(info), noise.path)
    return noise and NoiseReport("given", noise)


def first_guess(info: RawInfo, frame: Frame, given: NoiseReport | None) -> NoiseModel:
    """Return a noise model good enough to align by.

    Raises:
        KpnError: if the file states none and shows none.
    """
    stated = given.model if given else info.noise_profile
    if stated is not None:
        return stated
    try:
        return estimation.measure_blocks(_blocks(frame))
    except KpnError as error:
        if info.iso:
            return estimation.from_iso(info.iso)
        raise KpnError(f"{info.path.name}: no noise profile, no ISO, and {error}") from None


def choose_noise(info: RawInfo, frames: Sequence[Frame], shifts: Sequence[Tensor]) -> NoiseReport:
    """Return the noise model of a burst for which the user gave none.

    In order: the file's NoiseProfile, the table for its ISO, what the
    frames themselves show. The table is an average of cameras, and single ones lie
    several times off; it counts only where the frames do not contradict it.

    Args:
        info: the reference.
        frames: it and the others, of its brightness.
        shifts: where they lie over it (`alignment.line_up`); none are needed for a single one.

    Raises:
        KpnError: if nothing is stated and the frames show nothing.
    """
    measured, failure = None, ""
    try:
        complete = info.noise_profile is not None and all(info.noise_profile.read)
        count = _TO_CHECK if complete else len(frames)
        measured = _measure(frames[:count], shifts[:count])
    except KpnError as error:  # nothing but clipped or black samples
        failure = str(error)
    if info.noise_profile is not None:
        profile = _with_read_noise(info.noise_profile, measured)
        return NoiseReport("profile", profile, _disagreement(info.noise_profile, measured))
    table = estimation.from_iso(info.iso) if info.iso else None
    if table is not None and not _disagreement(table, measured):
        return NoiseReport("iso", table)
    if measured is None:
        raise KpnError(f"{info.path.name}: no noise profile, and {failure}")
    return NoiseReport("measured", measured)


def checked(report: NoiseReport, frames: Sequence[Frame], shifts: Sequence[Tensor]) -> NoiseReport:
    """Warn where the frames' flattest blocks show more noise than a model states.

    Args:
        report: the model, given or chosen.
        frames, shifts: as for `choose_noise`.
    """
    if report.warning or report.source == "measured":
        return report
    ratio = understatement(frames, shifts, report.model)
    if ratio < _UNDERSTATED:
        return report
    shown = f"{ratio:.2g} times" if ratio < MOST else f"{MOST:.2g} times, or more,"
    return replace(
        report,
        warning=f"the frames show {shown} the sigma that is stated, and the result may keep noise; "
        "kpn calibrate measures yours",
    )


def noise_of_file(info: RawInfo, planes: np.ndarray) -> NoiseReport:
    """Return the noise model of a file that is denoised by itself.

    Args:
        info: of the file.
        planes: `(4, rows, columns)` as they were recorded.

    Raises:
        KpnError: if nothing is stated and the frame shows nothing.
    """
    frame = Frame(torch.from_numpy(planes), info.black, info.white)
    return choose_noise(info, [frame], [])


def _measure(frames: Sequence[Frame], shifts: Sequence[Tensor]) -> NoiseModel:
    others = (_blocks(*other) for other in zip(frames[1:], shifts[1:], strict=True))
    return estimation.measure_burst_blocks(_blocks(frames[0]), others)


def _blocks(frame: Frame, shifts: Tensor | None = None) -> np.ndarray:
    """Blocks of a frame as it lies over the reference."""
    height, width = frame.size

    def cells(rows: slice) -> np.ndarray:
        if shifts is None:
            return frame.linear(frame.samples[:, rows]).cpu().numpy()
        return warp.aligned_part([frame], [shifts], rows, slice(0, width))[0].cpu().numpy()

    return estimation.cut_blocks(height, width, cells)


def _with_read_noise(profile: NoiseModel, measured: NoiseModel | None) -> NoiseModel:
    """Replace read noise of 0, which some phones state: shadows would pass for noiseless."""
    typical = 10 ** typical_log_read(np.log10(np.maximum(profile.shot, 1e-12)))
    likely = typical if measured is None else measured.read
    read = tuple(o or float(other) for o, other in zip(profile.read, likely, strict=True))
    return NoiseModel(profile.shot, read)


def _disagreement(stated: NoiseModel, measured: NoiseModel | None) -> str:
    """Say by how much two models differ, in the shadows or at middle grey; "" if little."""
    if measured is None:
        return ""
    for signal, where in ((0.18, "middle grey"), (0.005, "deep shadow")):
        ratio = estimation.sigma_ratio(measured, stated, signal)
        if not 1 / _DISAGREEMENT <= ratio <= _DISAGREEMENT:
            shown = f"{ratio:.2g} times the sigma that is stated"
            return f"the frames show {shown} in {where}; see --noise"
    return ""
