"""Select the noise model of a burst: the user's, the file's, the ISO table's or a measured one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..align.warp import warp_frames
from ..burst.frame import Frame
from ..errors import KpnError
from ..image.noise_model import NoiseModel, typical_log_read
from ..raw.info import RawInfo
from . import estimation
from .calibration import Calibration
from .near_copies import NEXT_TO_NONE
from .profile_check import MAX_RATIO, UNDERSTATED, observed_sigma_ratio, raise_noise

#: The values of `NoiseReport.source`, in words for the user.
SOURCES = {
    "given": "as given",
    "profile": "from the NoiseProfile",
    "iso": "typical of the ISO",
    "measured": "measured from the frames",
}

#: Signals at which models are compared, and their names.
_SIGNALS = {0.18: "middle grey", 0.005: "deep shadow"}
#: If two estimates of sigma differ by more than this factor, one of them is wrong.
_MAX_DISAGREEMENT = 2.0
#: Up to this ratio frames certainly have less noise than is stated: with the true noise stated, no
#: burst and no single frame showed less than 0.95 times the sigma (docs/log.md).
_OVERSTATED = 0.55
#: Shares of the picture that is darker than the signals at which noise is compared.
_COMPARED = (0.1, 0.5, 0.9)
#: Fewer blocks, of all planes together, are too few to contradict the user.
_MIN_BLOCKS = 100
#: Below this sigma, in DN, the numbers of the file are too coarse to show the noise.
_COARSE = 0.5
#: Frames that are measured if a profile is only to be checked: a factor of 2 shows in few.
_CHECK_FRAMES = 4
#: And their blocks, of each frame: they show the sigma to a few percent (docs/log.md).
_CHECK_BLOCKS = 4000


@dataclass(frozen=True)
class NoiseReport:
    """A noise model and its source.

    Attributes:
        source: a key of `SOURCES`.
        model: of the reference.
        warning: for the user; "" if there is none.
        file: the calibration file it is from; None if from none.
        observed: how many times the stated sigma the frames show
            (`profile_check.observed_sigma_ratio`); None if that was not measured.
    """

    source: str
    model: NoiseModel
    warning: str = ""
    file: Path | None = None
    observed: float | None = field(default=None, compare=False)

    @property
    def origin(self) -> str:
        """The source in words."""
        return SOURCES[self.source] + (f" in {self.file.name}" if self.file else "")


def given_noise(info: RawInfo, noise: NoiseModel | Calibration | None) -> NoiseReport | None:
    """Return the user's noise model for a file; None if the user gave none.

    Args:
        info: of the file.
        noise: as the user gave it.

    Raises:
        KpnError: if it is a calibration of another camera, or the file states no ISO.
    """
    if isinstance(noise, Calibration):
        return NoiseReport("given", noise.noise_of(info), noise.warning(info), noise.path)
    return NoiseReport("given", noise) if noise else None


def stated_noise(info: RawInfo, noise: NoiseModel | Calibration | None) -> NoiseModel | None:
    """Return the noise of a file without a look at its pixels; None if nothing states it.

    Args:
        info: of the file.
        noise: as the user gave it.

    Raises:
        KpnError: as `given_noise`.
    """
    given = given_noise(info, noise)
    if given is not None:
        return given.model
    return info.noise_profile or (estimation.from_iso(info.iso) if info.iso else None)


def first_guess(info: RawInfo, frame: Frame, given: NoiseReport | None) -> NoiseModel:
    """Return a noise model that is good enough for alignment.

    Args:
        info: of the reference.
        frame: the reference.
        given: `given_noise` of it.

    Raises:
        KpnError: if none is stated and the frame shows none.
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

    In order: the file's NoiseProfile, the table for its ISO, the noise measured in the frames.
    The table is an average of cameras, from which single ones differ by several times; it is used
    only if the frames do not contradict it.

    Args:
        info: of the reference.
        frames: the reference first, all in its exposure.
        shifts: of each frame (`alignment.AlignedBurst`); may be empty for a single frame.

    Raises:
        KpnError: if none is stated and the frames show none.
    """
    measured, failure = None, ""
    try:
        complete = info.noise_profile is not None and all(info.noise_profile.read)
        count = _CHECK_FRAMES if complete else len(frames)
        blocks = _CHECK_BLOCKS if complete else estimation.MAX_BLOCKS
        measured = _measure(frames[:count], shifts[:count], blocks)
    except KpnError as error:  # nothing but clipped or black samples
        failure = str(error)
    alarm = ""
    if measured is not None and len(frames) > 1:
        measured, alarm = _believable(measured, frames[0], stated_noise(info, None))
    if info.noise_profile is not None:
        profile = _with_read_noise(info.noise_profile, measured)
        return NoiseReport("profile", profile, alarm or _disagreement(info.noise_profile, measured))
    table = estimation.from_iso(info.iso) if info.iso else None
    if table is not None and not _disagreement(table, measured):
        return NoiseReport("iso", table, alarm)
    if measured is None:
        raise KpnError(f"{info.path.name}: no noise profile, and {failure}")
    return NoiseReport("measured", measured, alarm)


def _believable(
    measured: NoiseModel, reference: Frame, stated: NoiseModel | None
) -> tuple[NoiseModel, str]:
    """Return the noise that the frames show, and a warning if their differences show none.

    If the differences show far less than is stated, and far less than the reference shows alone,
    the frames are copies of one picture, and the reference alone is believed. If it shows as
    little alone, the picture is as clean as that.

    Args:
        measured: in the differences of the frames.
        reference: the reference.
        stated: by the file or its ISO; None if unknown. Then the differences are believed, with
            the warning: in a single frame texture passes for noise.
    """
    if stated is not None and not _is_next_to_none(measured, stated):
        return measured, ""
    try:
        alone = estimation.measure_blocks(_blocks(reference))
    except KpnError:  # it shows no noise alone
        return measured, ""
    if not _is_next_to_none(measured, alone):
        return measured, ""
    return (
        measured if stated is None else alone,
        "the frames differ by next to no noise, as copies of one picture do, so their differences "
        "tell nothing about it; leave copies out, or give the noise with --noise",
    )


def _is_next_to_none(measured: NoiseModel, other: NoiseModel) -> bool:
    limit = NEXT_TO_NONE**0.5
    return all(estimation.sigma_ratio(measured, other, signal) < limit for signal in _SIGNALS)


def raise_if_understated(
    report: NoiseReport, frames: Sequence[Frame], shifts: Sequence[Tensor]
) -> tuple[NoiseReport, list[Frame]]:
    """Return what the frames show if that is certainly more noise than stated, with a warning.

    Args:
        report: the model, given or chosen.
        frames, shifts: as for `choose_noise`.

    Returns:
        The report, with the model that is assumed; and the frames, whose own noise models follow.
    """
    if report.source == "measured":  # in these very frames
        return replace(report, observed=1.0), list(frames)
    ratio = observed_sigma_ratio(frames, shifts, report.model)
    if ratio < UNDERSTATED:
        return replace(report, observed=ratio), list(frames)
    raised, model = raise_noise(frames, report.model, ratio)
    shown = f"{ratio:.2g} times"
    more = "" if ratio < MAX_RATIO else " or more,"
    warning = (
        f"the frames show {shown} the stated sigma,{more} and kpn assumes {shown}; "
        "measure your camera with kpn calibrate, or use --strength to keep more noise"
    )
    warning = "; ".join(filter(None, (report.warning, warning)))
    return replace(report, model=model, observed=1.0, warning=warning), raised


def warn_if_overstated(
    report: NoiseReport, frames: Sequence[Frame], shifts: Sequence[Tensor]
) -> NoiseReport:
    """Return a report, with a warning if the frames show far less noise than a given model states.

    The network would take fine texture for noise. What frames show is an upper bound: texture and
    motion add to it. Only clipping and coarse quantization lower it; both are excluded.

    Args:
        report: the model; other sources than the user are compared in `choose_noise`.
        frames, shifts: as for `choose_noise`.
    """
    if report.source != "given":
        return report
    try:
        measured = _measure(frames[:_CHECK_FRAMES], shifts[:_CHECK_FRAMES])
        signals = _typical_signals(frames[0])
    except KpnError:  # nothing but clipped or black samples
        return report
    step = _COARSE / (frames[0].white - max(frames[0].black)) if frames[0].white > 1 else 0.0
    ratios = [
        estimation.sigma_ratio(measured, report.model, signal)
        for signal in signals
        if _lowest_sigma(report.model, signal) > step
    ]
    lowest = min(ratios, default=1.0)
    if lowest > _OVERSTATED:
        return report
    warning = (
        f"the frames show only {lowest:.2g} times the stated sigma, so texture may be smeared; "
        "measure your camera with kpn calibrate, or leave --noise out"
    )
    return replace(report, warning="; ".join(filter(None, (report.warning, warning))))


def _lowest_sigma(noise: NoiseModel, signal: float) -> float:
    variance = min(s * signal + o for s, o in zip(noise.shot, noise.read, strict=True))
    return math.sqrt(variance)


def _typical_signals(frame: Frame) -> list[float]:
    """Return signals of the dark, middle and bright parts of a frame that are not clipped.

    Raises:
        KpnError: if the frame is clipped or black all over, or too small.
    """
    blocks = _blocks(frame)
    low, high = estimation.clip_levels(blocks)[:, :, None]
    clipped = (blocks.min((-2, -1)) <= low) | (blocks.max((-2, -1)) >= high)
    signals = blocks.mean((-2, -1))[~clipped]
    if signals.size < _MIN_BLOCKS:
        raise KpnError("too few samples that are neither clipped nor black")
    found: list[float] = np.quantile(signals, _COMPARED).clip(0).tolist()
    return found


def noise_of_frames(
    infos: Sequence[RawInfo], reference: NoiseReport, given: NoiseModel | Calibration | None
) -> list[NoiseModel]:
    """Return the noise model of each frame as it was recorded, in a burst of mixed exposure.

    That of its file or ISO, from where the reference's is; without one, the reference's at the
    frame's ISO.

    Args:
        infos: the reference first.
        reference: the noise of the reference.
        given: the user's `Options.noise`.
    """
    models = [reference.model]
    for info in infos[1:]:
        own = None
        if isinstance(given, Calibration):
            own = given.noise_of(info)
        elif reference.source == "profile" and info.noise_profile is not None:
            own = _with_read_noise(info.noise_profile, None)
        ratio = info.iso / infos[0].iso if info.iso and infos[0].iso else 1.0
        models.append(own or reference.model.at_iso(ratio))
    return models


def noise_of_file(info: RawInfo, planes: np.ndarray) -> NoiseReport:
    """Return the noise model of a single file.

    Args:
        info: of the file.
        planes: `(4, rows, columns)` as they were recorded, in DN.

    Raises:
        KpnError: if none is stated and the frame shows none.
    """
    frame = Frame(torch.from_numpy(planes), info.black, info.white)
    return choose_noise(info, [frame], [])


def _measure(
    frames: Sequence[Frame], shifts: Sequence[Tensor], most: int = estimation.MAX_BLOCKS
) -> NoiseModel:
    others = [partial(_blocks, *other, most) for other in zip(frames[1:], shifts[1:], strict=True)]
    return estimation.measure_burst_blocks(_blocks(frames[0], None, most), others)


def _blocks(
    frame: Frame, shifts: Tensor | None = None, most: int = estimation.MAX_BLOCKS
) -> np.ndarray:
    """Cut blocks of a frame, aligned to the reference if there are shifts."""
    height, width = frame.size

    def cells(rows: slice) -> np.ndarray:
        if shifts is None:
            return frame.linear(frame.samples[:, rows]).cpu().numpy()
        return warp_frames([frame], [shifts], rows, slice(0, width))[0].cpu().numpy()

    return estimation.cut_blocks(height, width, cells, most)


def _with_read_noise(profile: NoiseModel, measured: NoiseModel | None) -> NoiseModel:
    """Replace read noise of 0, which some phones state: it would make shadows noiseless."""
    typical = 10 ** typical_log_read(np.log10(np.maximum(profile.shot, 1e-12)))
    likely = typical if measured is None else measured.read
    red, first_green, second_green, blue = (
        o or float(other) for o, other in zip(profile.read, likely, strict=True)
    )
    return NoiseModel(profile.shot, (red, first_green, second_green, blue))


def _disagreement(stated: NoiseModel, measured: NoiseModel | None) -> str:
    """Return a warning if two models differ, in shadows or at middle grey; else ""."""
    if measured is None:
        return ""
    for signal, where in _SIGNALS.items():
        ratio = estimation.sigma_ratio(measured, stated, signal)
        if not 1 / _MAX_DISAGREEMENT <= ratio <= _MAX_DISAGREEMENT:
            shown = f"{ratio:.2g} times the stated sigma in {where}"
            effect = "noise may be kept" if ratio > 1 else "texture may be smeared"
            return f"the frames show {shown}, so {effect}; see --noise"
    return ""
