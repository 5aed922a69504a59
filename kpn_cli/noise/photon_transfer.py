"""Photon transfer: measure the noise of one camera by ISO, from pairs of flat frames.

Two frames of one exposure show the same light through the same lens on the same
pixels, so vignetting, dust and fixed pattern cancel in their difference and only noise
is left (Janesick, "Scientific Charge-Coupled Devices", SPIE 2001; EMVA 1288). Small
patches of all pairs of one ISO are points of variance over signal; `Var = S x + O` is
fitted to them by weighted least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..defects.flat_fields import FlatDefects
from ..errors import KpnError
from ..image.noise_model import NoiseModel, typical_log_read
from ..raw import exposure
from ..raw.exposure import show_iso
from ..raw.full_exif import complete_iso
from ..raw.info import RawInfo
from ..raw.reader import read_info, read_planes
from .calibration import Calibration, IsoNoise, camera_name, same_camera
from .estimation import clip_levels

#: Side of a patch in cells, and its degrees of freedom without a plane (mean and two slopes),
#: which is subtracted from the difference: light that flickers leaves one.
_SIDE = 16
_DEGREES_OF_FREEDOM = _SIDE * _SIDE - 3
#: Relative standard deviation of a patch's variance, for white noise.
_RELATIVE_SIGMA = (2 / _DEGREES_OF_FREEDOM) ** 0.5
#: Median of a mean of squares over its expectation, by Wilson and Hilferty (1931).
_MEDIAN_OVER_MEAN = (1 - 2 / (9 * _DEGREES_OF_FREEDOM)) ** 3
#: Patches further from the fit, in standard deviations, show more than noise: hot pixels.
_TRIM_SIGMAS = 4.0
#: If more than this share of the patches is trimmed, the frames differ by more than noise.
_MAX_TRIMMED_SHARE = 0.3
#: Sigmas between the mean of a patch and the levels at which samples clip, at least.
_CLIP_SIGMAS = 5.0
#: The fewest patches of an ISO and plane.
_MIN_PATCHES = 12
#: Bins by signal whose medians the fit starts from.
_BINS = 10
#: Equal exposures may differ by this share of the signal plus this share of the white level.
_SAME_SHARE, _SAME_LEVEL = 0.1, 0.001
#: S and O can be separated if the signals span at least this ratio; they are known if their
#: relative standard errors are at most these.
_MIN_RANGE, _MAX_SHOT_ERROR, _MAX_READ_ERROR = 2.0, 0.1, 0.5


def calibrate(
    paths: Sequence[Path], on_frame: Callable[[int, int], None] = lambda done, total: None
) -> Calibration:
    """Measure a camera's noise, and find its defects, in flat frames, evenly lit or nearly so.

    Args:
        paths: raw files of one camera; of each exposure, two frames or more. Each ISO
            needs several brightnesses, dark ones for O and bright ones for S. Dark frames may be
            among them: they show hot pixels.
        on_frame: called with the number of files read and their total.

    Raises:
        KpnError: for files of several cameras or without ISO, a frame without a second one of
            its exposure, frames that differ by more than noise, and too small a range of
            brightness.
    """
    infos = [complete_iso(read_info(path)) for path in paths]
    _check_cameras(infos)
    exposures = _by_exposure(infos)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        on_frame(done, len(infos))

    points: dict[float, list[np.ndarray]] = {}
    defects = FlatDefects()
    for frames in exposures:
        iso = frames[0].iso or 0.0  # never 0: `_check_cameras`
        points.setdefault(iso, []).extend(_pairs(frames, step, defects))
        defects.end_exposure()
    levels = [_iso_noise(iso, of_iso) for iso, of_iso in sorted(points.items())]
    return Calibration(infos[0].make, infos[0].model, tuple(levels), defects=defects.result())


def _by_exposure(infos: Sequence[RawInfo]) -> list[list[RawInfo]]:
    """Return the files of each ISO, size and exposure; the ISO exactly, for it names a level."""
    found: list[list[RawInfo]] = []
    for info in infos:
        for frames in found:
            same = exposure.match(frames[0], info) is exposure.Match.SAME
            if same and _level(frames[0]) == _level(info):
                frames.append(info)
                break
        else:
            found.append([info])
    return found


def _level(info: RawInfo) -> tuple[object, ...]:
    return info.iso, info.height, info.width, info.phase


def _check_cameras(infos: Sequence[RawInfo]) -> None:
    first = infos[0]
    for info in infos:
        if not same_camera(info, first):
            raise KpnError(
                f"{info.path}: taken with {camera_name(info)}, but {first.path} with "
                f"{camera_name(first)}; calibrate one camera at a time"
            )
        if not info.iso:
            raise KpnError(
                f"{info.path}: states no ISO; pass files that do, or let kpn denoise estimate the "
                "noise (without --noise)"
            )


def _pairs(
    infos: Sequence[RawInfo], on_frame: Callable[[], None], defects: FlatDefects
) -> list[np.ndarray]:
    """Return the patches of frames of one exposure, pair by pair; add the frames to `defects`.

    The light may have changed between frames, so pairs are made of equally bright ones.

    Returns:
        For each pair `(2, 4, patches)`, as `_patches` returns them.
    """
    unpaired: list[tuple[RawInfo, np.ndarray]] = []
    paired: list[np.ndarray] = []
    patches = []
    for info in infos:
        planes = read_planes(info)
        defects.add(info, planes)
        on_frame()
        partner = next((n for n, (_, p) in enumerate(unpaired) if _alike(p, planes)), None)
        if partner is None:
            unpaired.append((info, planes))
            continue
        other, before = unpaired.pop(partner)
        if np.array_equal(before, planes):
            raise KpnError(
                f"{info.path}: the same picture as {other.path}; pass two frames of an exposure"
            )
        patches.append(_patches(before, planes))
        paired.append(planes.mean((1, 2)))
    for info, planes in unpaired:
        if not any(_alike(planes, done[:, None, None]) for done in paired):
            raise KpnError(
                f"{info.path}: no second frame of its exposure ({exposure.show(info)}) "
                "that is as bright; pass two of each exposure, or leave it out"
            )
    return patches


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two frames, `(4, height, width)`, are equally bright."""
    a, b = one.mean((1, 2)), other.mean((1, 2))
    return bool(np.all(np.abs(a - b) <= _SAME_SHARE * np.maximum(a, b).clip(0) + _SAME_LEVEL))


def _patches(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return signal and variance of the patches of a pair, `(2, 4, patches)`; NaN if clipped."""
    levels = clip_levels(np.stack([one, other], axis=1))
    mean = one.mean((1, 2)).clip(1e-9) / other.mean((1, 2)).clip(1e-9)
    # In the dark the means are noise: their ratio is not used.
    ratio = np.where(np.abs(mean - 1) <= _SAME_SHARE, mean, 1).astype(np.float32)[:, None, None]
    residual = _without_plane(_cut((one - ratio * other) / np.sqrt(1 + ratio * ratio)))
    variance = np.square(residual).sum((-2, -1)) / _DEGREES_OF_FREEDOM
    one, other = _cut(one), _cut(other)
    signal = (one.mean((-2, -1)) + other.mean((-2, -1))) / 2
    lowest = np.minimum(one.min((-2, -1)), other.min((-2, -1)))
    highest = np.maximum(one.max((-2, -1)), other.max((-2, -1)))
    margin = _CLIP_SIGMAS * np.sqrt(variance)
    low, high = levels[..., None]
    clipped = (np.minimum(lowest, signal - margin) <= low) | (
        np.maximum(highest, signal + margin) >= high
    )
    patches: np.ndarray = np.where(clipped, np.nan, np.stack([signal, variance]).astype(float))
    return patches


def _cut(planes: np.ndarray) -> np.ndarray:
    """Return patches side by side, `(4, patches, _SIDE, _SIDE)`."""
    rows, columns = (side // _SIDE for side in planes.shape[1:])
    blocks = planes[:, : rows * _SIDE, : columns * _SIDE].reshape(4, rows, _SIDE, columns, _SIDE)
    patches: np.ndarray = blocks.swapaxes(2, 3).reshape(4, -1, _SIDE, _SIDE)
    return patches


def _without_plane(patches: np.ndarray) -> np.ndarray:
    """Subtract the mean and the slopes from patches."""
    slope = np.arange(_SIDE, dtype=np.float32) - (_SIDE - 1) / 2
    slope /= np.sqrt(_SIDE * np.square(slope).sum())
    across = (patches * slope).sum((-2, -1), keepdims=True) * slope
    down = (patches * slope[:, None]).sum((-2, -1), keepdims=True) * slope[:, None]
    rest: np.ndarray = patches - patches.mean((-2, -1), keepdims=True) - across - down
    return rest


# --- fitting ----------------------------------------------------------------


def _iso_noise(iso: float, pairs: Sequence[np.ndarray]) -> IsoNoise:
    """Fit the planes of one ISO to the patches of its pairs, `(2, 4, patches)` each."""
    points = np.concatenate(pairs, axis=2)
    fits = [_fit(iso, *points[:, plane]) for plane in range(4)]
    shot, read, assumed = zip(*fits, strict=True)
    bright = "the flats are too bright to show the read noise; that of typical cameras is assumed"
    note = bright if any(assumed) else ""
    return IsoNoise(iso, NoiseModel(shot, read), len(pairs), note)


def _fit(iso: float, signal: np.ndarray, variance: np.ndarray) -> tuple[float, float, bool]:
    """Return S, O and whether O had to be assumed, for one plane.

    Args:
        iso: for messages.
        signal, variance: `(patches,)`, NaN if clipped.

    Raises:
        KpnError: if there are too few patches, they show more than noise, or their range of
            brightness is too small.
    """
    used = np.isfinite(variance)
    signal, variance = signal[used].clip(0), variance[used]
    if len(signal) < _MIN_PATCHES:
        raise KpnError(
            f"{show_iso(iso)}: the flats are clipped or too small, {len(signal)} patches "
            "of "
            f"{2 * _SIDE}x{2 * _SIDE} pixels are left; pass flats between black and white"
        )
    dark, bright = np.quantile(signal, (0.02, 0.98))
    if bright < _MIN_RANGE * dark:
        raise _range_error(iso, dark, bright)
    fit = _first_fit(signal, variance)
    for _ in range(20):
        model = _model(fit, signal, variance)
        kept = np.abs(variance / model - 1) <= _TRIM_SIGMAS * _RELATIVE_SIGMA
        before, (fit, errors) = fit, _solve(signal[kept], variance[kept], model[kept])
        if np.allclose(fit, before, rtol=1e-6, atol=0):
            break
    if kept.mean() < 1 - _MAX_TRIMMED_SHARE:
        raise KpnError(
            f"{show_iso(iso)}: {1 - kept.mean():.0%} of the pairs' area differs by more than "
            "noise; "
            "take flats of an even surface in steady light, out of focus, from a tripod"
        )
    shot, read = fit
    if not shot > 0 or errors[0] > _MAX_SHOT_ERROR * shot:
        raise _range_error(iso, dark, bright)
    if errors[1] <= _MAX_READ_ERROR * read:
        return shot, read, False
    # The read noise of typical cameras with this shot noise, within what the flats allow.
    typical = 10 ** float(typical_log_read(np.log10(shot)))
    return shot, float(np.clip(typical, max(read - 2 * errors[1], 0), read + 2 * errors[1])), True


def _range_error(iso: float, dark: float, bright: float) -> KpnError:
    return KpnError(
        f"{show_iso(iso)}: flats from {dark:.2g} to {bright:.2g} of the white level are too "
        "alike; "
        "the noise is S*x + O, and separating S from O needs dark and bright ones: "
        "add pairs of other exposure times"
    )


def _first_fit(signal: np.ndarray, variance: np.ndarray) -> tuple[float, float]:
    """Fit S and O to the medians of bins by signal, which a few outliers do not change."""
    bins = np.array_split(np.argsort(signal), min(_BINS, len(signal) // 4))
    x = np.array([np.median(signal[one]) for one in bins])
    y = np.array([np.median(variance[one]) for one in bins]) / _MEDIAN_OVER_MEAN
    return _solve(x, y, y.clip(max(y.max(), 1e-30) * 1e-9))[0]


def _model(fit: tuple[float, float], signal: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the variance that a fit expects at each signal, above 0."""
    model: np.ndarray = np.maximum(fit[0] * signal + fit[1], 1e-3 * np.median(variance) + 1e-30)
    return model


def _solve(
    x: np.ndarray, y: np.ndarray, model: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return S and O by weighted least squares, neither negative, and their standard errors.

    Args:
        x, y: signal and variance of patches.
        model: the expected variance, to which the errors of y are proportional.
    """
    # Columns of very different size are divided by it, which keeps the solution accurate.
    design = np.stack([x, np.ones_like(x)], axis=1) / (model * _RELATIVE_SIGMA)[:, None]
    target = y / (model * _RELATIVE_SIGMA)
    size = np.sqrt(np.square(design).sum(0)) + 1e-300
    normal = (design / size).T @ (design / size)
    fit = np.linalg.pinv(normal) @ ((design / size).T @ target)
    errors = np.sqrt(np.diag(np.linalg.pinv(normal)))
    if fit.min() < 0:
        # One of the two is at its bound, 0: fit the other alone.
        other = int(np.argmax(fit))
        fit = np.zeros(2)
        fit[other] = max((design[:, other] / size[other]) @ target, 0)
    (shot, read), (shot_error, read_error) = (fit / size).tolist(), (errors / size).tolist()
    return (shot, read), (shot_error, read_error)
