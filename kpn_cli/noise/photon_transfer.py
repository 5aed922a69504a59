"""The noise of one camera by ISO, from pairs of flat frames.

Two frames of one exposure show the same light through the same lens on the same
pixels, so vignetting, dust and fixed pattern cancel in their difference and noise alone
is left ("photon transfer": Janesick, "Scientific Charge-Coupled Devices", SPIE 2001;
EMVA 1288). Small patches of all pairs of one ISO are points of variance over signal;
`Var = S x + O` is fitted to them by weighted least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..errors import KpnError
from ..image.noise_model import NoiseModel, typical_log_read
from ..raw.info import RawInfo
from ..raw.reader import read_info, read_planes
from .calibration import Calibration, Level, camera_name, same_camera
from .estimation import clip_levels

#: Side of a patch in cells, and what is free in it beside a plane, which is taken out of
#: the difference: light that flickers leaves one.
_SIDE = 16
_FREEDOM = _SIDE * _SIDE - 3
#: Relative standard deviation of a patch's variance, for white noise.
_SCATTER = (2 / _FREEDOM) ** 0.5
#: Median of a mean of squares over its expectation, by Wilson and Hilferty (1931).
_MEDIAN = (1 - 2 / (9 * _FREEDOM)) ** 3
#: Patches further from the fit, in standard deviations, show more than noise: hot pixels.
_TRIM = 4.0
#: The most of them there may be, or the frames differ by more than noise everywhere.
_MOST_TRIMMED = 0.3
#: Sigmas that the mean of a patch keeps from levels at which samples clip.
_CLEARANCE = 5.0
#: Patches of an ISO and plane, at least.
_FEWEST = 12
#: Bins by signal whose medians the fit starts from.
_BINS = 10
#: Equal exposures may differ by this share of the signal and this much of the white level.
_SAME_SHARE, _SAME_LEVEL = 0.1, 0.001
#: Ratio of signals, and relative standard errors, up to which S and O are told apart.
_LEAST_RANGE, _SHOT_ERROR, _READ_ERROR = 2.0, 0.1, 0.5


def calibrate(
    paths: Sequence[Path], on_frame: Callable[[int, int], None] = lambda done, total: None
) -> Calibration:
    """Measure a camera's noise in flat frames, evenly lit or nearly so.

    Args:
        paths: raw files of one camera; of each exposure, two frames or more. Each ISO
            needs several brightnesses, dark ones for O and bright ones for S.
        on_frame: told how many files have been read, of how many.

    Raises:
        KpnError: for files of several cameras or without ISO, a frame without a partner,
            frames that differ by more than noise, and too little range of brightness.
    """
    infos = [read_info(path) for path in paths]
    _check_cameras(infos)
    exposures: dict[tuple, list[RawInfo]] = {}
    for info in infos:
        key = (info.iso, info.exposure_time, info.f_number, info.height, info.width, info.phase)
        exposures.setdefault(key, []).append(info)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        on_frame(done, len(infos))

    points: dict[float, list[np.ndarray]] = {}
    for (iso, *_), frames in exposures.items():
        points.setdefault(iso, []).extend(_pairs(frames, step))
    levels = [_level(iso, of_iso) for iso, of_iso in sorted(points.items())]
    return Calibration(infos[0].make, infos[0].model, tuple(levels))


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
                f"{info.path}: says no ISO, which noise goes by; pass files that have it, "
                "or measure without: kpn denoise does where --noise is not given"
            )


def _pairs(infos: Sequence[RawInfo], on_frame: Callable[[], None]) -> list[np.ndarray]:
    """Return the patches of frames of one exposure, pair by pair.

    Light may have changed between them, so a pair is what is equally bright.
    """
    alone: list[tuple[RawInfo, np.ndarray]] = []
    paired: list[np.ndarray] = []
    patches = []
    for info in infos:
        planes = read_planes(info)
        on_frame()
        partner = next((n for n, (_, p) in enumerate(alone) if _alike(p, planes)), None)
        if partner is None:
            alone.append((info, planes))
            continue
        other, before = alone.pop(partner)
        if np.array_equal(before, planes):
            raise KpnError(
                f"{info.path}: the same picture as {other.path}; pass two frames of an exposure"
            )
        patches.append(_patches(before, planes))
        paired.append(planes.mean((1, 2)))
    for info, planes in alone:
        if not any(_alike(planes, done[:, None, None]) for done in paired):
            raise KpnError(
                f"{info.path}: no second frame of its exposure (ISO {info.iso:g}"
                + (f", {info.exposure_time:.4g} s" if info.exposure_time else "")
                + ") that is as bright; pass two of each, or leave it out"
            )
    return patches


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two frames are equally bright."""
    a, b = one.mean((1, 2)), other.mean((1, 2))
    return bool(np.all(np.abs(a - b) <= _SAME_SHARE * np.maximum(a, b).clip(0) + _SAME_LEVEL))


def _patches(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return signal and variance of the patches of a pair, `(2, 4, patches)`, clipped ones NaN."""
    levels = clip_levels(np.stack([one, other], axis=1))
    mean = one.mean((1, 2)).clip(1e-9) / other.mean((1, 2)).clip(1e-9)
    # In the dark, where means are noise, there is nothing to match.
    ratio = np.where(np.abs(mean - 1) <= _SAME_SHARE, mean, 1).astype(np.float32)[:, None, None]
    residue = _flattened(_cut((one - ratio * other) / np.sqrt(1 + ratio * ratio)))
    variance = np.square(residue).sum((-2, -1)) / _FREEDOM
    one, other = _cut(one), _cut(other)
    signal = (one.mean((-2, -1)) + other.mean((-2, -1))) / 2
    lowest = np.minimum(one.min((-2, -1)), other.min((-2, -1)))
    highest = np.maximum(one.max((-2, -1)), other.max((-2, -1)))
    margin = _CLEARANCE * np.sqrt(variance)
    low, high = levels[..., None]
    clipped = (np.minimum(lowest, signal - margin) <= low) | (
        np.maximum(highest, signal + margin) >= high
    )
    return np.where(clipped, np.nan, np.stack([signal, variance]).astype(float))


def _cut(planes: np.ndarray) -> np.ndarray:
    """Return patches side by side, `(4, patches, _SIDE, _SIDE)`."""
    rows, columns = (side // _SIDE for side in planes.shape[1:])
    blocks = planes[:, : rows * _SIDE, : columns * _SIDE].reshape(4, rows, _SIDE, columns, _SIDE)
    return blocks.swapaxes(2, 3).reshape(4, -1, _SIDE, _SIDE)


def _flattened(patches: np.ndarray) -> np.ndarray:
    """Take the mean and the slopes out of patches."""
    slope = np.arange(_SIDE, dtype=np.float32) - (_SIDE - 1) / 2
    slope /= np.sqrt(_SIDE * np.square(slope).sum())
    across = (patches * slope).sum((-2, -1), keepdims=True) * slope
    down = (patches * slope[:, None]).sum((-2, -1), keepdims=True) * slope[:, None]
    return patches - patches.mean((-2, -1), keepdims=True) - across - down


# --- fitting ----------------------------------------------------------------


def _level(iso: float, pairs: Sequence[np.ndarray]) -> Level:
    """Fit the planes of one ISO to the patches of its pairs, `(2, 4, patches)` each."""
    points = np.concatenate(pairs, axis=2)
    fits = [_fit(iso, *points[:, plane]) for plane in range(4)]
    shot, read, assumed = zip(*fits, strict=True)
    bright = "the flats are too bright to show the read noise; that of typical cameras is assumed"
    note = bright if any(assumed) else ""
    return Level(iso, NoiseModel(shot, read), len(pairs), note)


def _fit(iso: float, signal: np.ndarray, variance: np.ndarray) -> tuple[float, float, bool]:
    """Return S, O and whether O had to be assumed."""
    used = np.isfinite(variance)
    signal, variance = signal[used].clip(0), variance[used]
    if len(signal) < _FEWEST:
        raise KpnError(
            f"ISO {iso:g}: the flats are clipped or too small, {len(signal)} patches of "
            f"{2 * _SIDE}x{2 * _SIDE} pixels are left; pass flats between black and white"
        )
    dark, bright = np.quantile(signal, (0.02, 0.98))
    if bright < _LEAST_RANGE * dark:
        raise _no_range(iso, dark, bright)
    fit = _start(signal, variance)
    for _ in range(20):
        model = _model(fit, signal, variance)
        kept = np.abs(variance / model - 1) <= _TRIM * _SCATTER
        before, (fit, errors) = fit, _solve(signal[kept], variance[kept], model[kept])
        if np.allclose(fit, before, rtol=1e-6, atol=0):
            break
    if kept.mean() < 1 - _MOST_TRIMMED:
        raise KpnError(
            f"ISO {iso:g}: {1 - kept.mean():.0%} of the pairs' area differs by more than noise; "
            "take flats of an even surface in steady light, out of focus, from a tripod"
        )
    shot, read = fit
    if not shot > 0 or errors[0] > _SHOT_ERROR * shot:
        raise _no_range(iso, dark, bright)
    if errors[1] <= _READ_ERROR * read:
        return shot, read, False
    # As cameras of such shot noise have it, as far as the flats allow.
    typical = 10 ** float(typical_log_read(np.log10(shot)))
    return shot, float(np.clip(typical, max(read - 2 * errors[1], 0), read + 2 * errors[1])), True


def _no_range(iso: float, dark: float, bright: float) -> KpnError:
    return KpnError(
        f"ISO {iso:g}: flats from {dark:.2g} to {bright:.2g} of the white level are too alike; "
        "noise is assumed to be S*x + O, and S and O need dark and bright ones to be told apart: "
        "add pairs of other exposure times"
    )


def _start(signal: np.ndarray, variance: np.ndarray) -> tuple[float, float]:
    """Fit the medians of bins by signal, which a few odd patches don't move."""
    bins = np.array_split(np.argsort(signal), min(_BINS, len(signal) // 4))
    x = np.array([np.median(signal[one]) for one in bins])
    y = np.array([np.median(variance[one]) for one in bins]) / _MEDIAN
    return _solve(x, y, y.clip(max(y.max(), 1e-30) * 1e-9))[0]


def _model(fit: tuple[float, float], signal: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return np.maximum(fit[0] * signal + fit[1], 1e-3 * np.median(variance) + 1e-30)


def _solve(
    x: np.ndarray, y: np.ndarray, model: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return S and O, neither negative, of least squares, and their standard errors.

    Args:
        x, y: signal and variance of patches.
        model: the variance expected, to which their errors are proportional.
    """
    # Divided by their spread, columns of very different size are solved as well as equal ones.
    design = np.stack([x, np.ones_like(x)], axis=1) / (model * _SCATTER)[:, None]
    target = y / (model * _SCATTER)
    size = np.sqrt(np.square(design).sum(0)) + 1e-300
    normal = (design / size).T @ (design / size)
    fit = np.linalg.pinv(normal) @ ((design / size).T @ target)
    errors = np.sqrt(np.diag(np.linalg.pinv(normal)))
    if fit.min() < 0:
        # With one of two at its bound, the other alone is fitted.
        other = int(np.argmax(fit))
        fit = np.zeros(2)
        fit[other] = max((design[:, other] / size[other]) @ target, 0)
    return tuple(map(float, fit / size)), tuple(map(float, errors / size))
