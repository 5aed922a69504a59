"""Photo -> noiseless frames of a patch: shifts, camera rotation, moving objects, parallax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .config import SynthConfig
from .photos import PIXELS_PER_CELL, Scene


def draw_residual_shifts(rng: np.random.Generator, count: int, config: SynthConfig) -> np.ndarray:
    """Return random residual shifts, those that remain after alignment.

    Returns:
        `(count, 2)`, (y, x) in cells; zero for the first frame. Frame i shows at cell p what the
        photo has at p + shift.
    """
    kind = rng.random()
    reach = 1.5 if rng.random() < config.rough else 0.5
    shifts = rng.uniform(-reach, reach, (count, 2))
    # As in the evaluation protocol, most shifts are whole photo pixels: they need no
    # interpolation, so all frames are equally sharp.
    if rng.random() < 0.7:
        shifts = _round_to_photo_pixels(shifts)
    if kind < config.static:
        shifts[:] = 0
    elif kind < config.static + config.partly:
        shifts[rng.random(count) < 0.5] = 0
    failure = rng.random(count)
    if kind >= config.static:
        failed = failure < config.failed
        shifts[failed] = rng.uniform(-config.failure, config.failure, (count, 2))[failed]
        off_by_one = ~failed & (failure < config.failed + config.off_by_one)
        shifts[off_by_one] += rng.integers(-1, 2, (count, 2))[off_by_one]
    shifts[0] = 0
    return shifts


def _round_to_photo_pixels(shifts: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(shifts * PIXELS_PER_CELL) / PIXELS_PER_CELL)


def draw_angles(rng: np.random.Generator, shifts: np.ndarray, config: SynthConfig) -> np.ndarray:
    """Return the rotation of each frame, `(count,)` in radians; 0 for exactly aligned frames."""
    turning = rng.random() < config.turning
    angles = np.radians(rng.uniform(-0.5, 0.5, len(shifts))) * turning
    return np.asarray(angles * shifts.any(1))


def _draw_maps(
    rng: np.random.Generator,
    scene: Scene,
    shifts: np.ndarray,
    angles: np.ndarray,
    config: SynthConfig,
) -> np.ndarray:
    """Return affine maps `(count, 2, 3)` from cells to photo pixels around a random centre."""
    flip = np.diag(rng.choice((-1.0, 1.0), 2))
    zoom = rng.uniform(0.6, 1.0) if rng.random() < config.softer else 1.0
    linear = PIXELS_PER_CELL * zoom * (flip if rng.random() < 0.5 else flip[::-1])
    reach = config.photo_pixels / 2
    centre = np.array([rng.uniform(reach, side - reach) for side in (scene.width, scene.height)])
    centre = np.round(centre)
    middle = (config.cells - 1) / 2
    cos, sin = np.cos(angles), np.sin(angles)
    # Within a patch, rotation about a far point is a shift, which `shifts` has, and rotation
    # about the patch's middle.
    matrices = linear @ np.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)
    offsets = centre + shifts[:, ::-1] @ linear.T - np.round(matrices @ (middle, middle))
    return np.concatenate([matrices, offsets[..., None]], 2)


def _photograph(
    scenes: Sequence[Scene],
    rng: np.random.Generator,
    shifts: np.ndarray,
    angles: np.ndarray,
    config: SynthConfig,
    colours: np.ndarray | None,
) -> np.ndarray:
    """Return frames of a random crop of a photo, `(count, 4, cells, cells)` float32 in [0, 1]."""
    scene = scenes[int(rng.integers(len(scenes)))]
    maps = _draw_maps(rng, scene, shifts, angles, config)
    torn = rng.random(len(shifts)) < config.torn
    torn[0] = False
    if colours is not None:
        scene, maps = _crop_to_frames(scene, maps, config)
        scene = scene.with_primaries(colours)
    frames = _sample(scene, maps, config.cells)
    for frame in np.flatnonzero(torn & shifts.any()):
        _tear(rng, frames[frame], scene, maps[frame], config)
    planes: np.ndarray = np.multiply(frames, np.float32(1 / 65535), dtype=np.float32)
    return planes


def _sample(scene: Scene, maps: np.ndarray, cells: int) -> np.ndarray:
    """Sample a scene under each map, `(count, 4, cells, cells)`; equal maps only once."""
    done: dict[bytes, np.ndarray] = {}
    for matrix in maps:
        key = matrix.tobytes()
        if key not in done:
            done[key] = scene.planes(matrix, cells, cells)
    return np.stack([done[matrix.tobytes()] for matrix in maps])


def _crop_to_frames(
    scene: Scene, maps: np.ndarray, config: SynthConfig
) -> tuple[Scene, np.ndarray]:
    """Crop the scene to what the frames show, and adapt the maps: less to convert."""
    side = config.cells
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]).T
    pixels = (maps @ corners).transpose(1, 0, 2).reshape(2, -1)
    # The misaligned side of a torn frame shows pixels further away.
    margin = PIXELS_PER_CELL * (config.failure if config.torn else 0) + 2
    size = np.array([scene.width, scene.height])
    # The photo is mirrored beyond its border: the crop must not end before what is sampled.
    low = np.clip(np.floor(pixels.min(1) - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(pixels.max(1) + margin) + 1, low + 1, size).astype(int)
    moved = maps.copy()
    moved[:, :, 2] -= low
    return scene.crop(slice(low[1], high[1]), slice(low[0], high[0])), moved


def _tear(
    rng: np.random.Generator,
    frame: np.ndarray,
    scene: Scene,
    matrix: np.ndarray,
    config: SynthConfig,
) -> None:
    """Shift one side of a frame by whole cells, as if the aligner had failed in some tiles."""
    reach = int(config.failure) if rng.random() < 0.5 else 1
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ rng.integers(-reach, reach + 1, 2)
    other = scene.planes(shifted, config.cells, config.cells)
    edge = int(rng.integers(1, config.cells))
    beyond = slice(edge, None) if rng.random() < 0.5 else slice(None, edge)
    where = (slice(None), beyond) if rng.random() < 0.5 else (slice(None), slice(None), beyond)
    frame[where] = other[where]


# --- moving layers ----------------------------------------------------------


def _sample_positions(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows `(4, height, 1)` and columns `(4, 1, width)` of the samples, in cells."""
    rows, columns = (np.arange(side, dtype=np.float32) for side in (height, width))
    return (
        rows[:, None] + np.array([0, 0, 0.5, 0.5], np.float32)[:, None, None],
        columns[None, :] + np.array([0, 0.5, 0, 0.5], np.float32)[:, None, None],
    )


def draw_object(
    rng: np.random.Generator, size: tuple[int, int], times: np.ndarray, camera_shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return path and mask of an elliptic object that moves at constant speed.

    Sometimes the object is missing from some frames.

    Args:
        rng: source of all randomness.
        size: rows and columns of the frames, in cells.
        times: `(count,)`, time of each frame in frame intervals.
        camera_shifts: `(count, 2)`, (y, x) in cells: the object moves over the scene, and the
            scene over the frame.

    Returns:
        The path over the scene, `(count, 2)`, (y, x) in cells; and the mask, the object's share
        of each sample, `(count, 4, *size)` float32 in [0, 1].
    """
    rows, columns = _sample_positions(*size)
    speed = rng.uniform(-6, 6, 2) if rng.random() < 0.5 else rng.uniform(-1, 1, 2)
    path = _round_to_photo_pixels(times[:, None] * speed)
    middle = (rng.uniform(0.15, 0.85, 2) * size + path - camera_shifts).astype(np.float32)
    radii = rng.uniform(3, max(0.4 * min(size), 3), 2)
    angle = rng.uniform(0, np.pi)
    y = rows - middle[:, 0, None, None, None]
    x = columns - middle[:, 1, None, None, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    distance = ((cos * x + sin * y) / radii[0]) ** 2 + ((cos * y - sin * x) / radii[1]) ** 2
    mask = np.clip((1 - distance) * np.float32(radii.min() / 2) + 0.5, 0, 1)
    if rng.random() < 0.3:
        mask[rng.random(len(times)) < 0.5] = 0
    return path, mask.astype(np.float32)


def _draw_near_layer(
    rng: np.random.Generator, size: tuple[int, int], camera_shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return path and mask of a near layer beside a straight edge, as `draw_object` does."""
    rows, columns = _sample_positions(*size)
    angle = rng.uniform(0, 2 * np.pi)
    middle = rng.uniform(0.2, 0.8, 2) * size
    heading = rng.uniform(0, 2 * np.pi)
    # The residual shifts of frames aligned to the far layer say nothing about the camera's path;
    # on a tripod it has none.
    steps = rng.uniform(-3, 3, len(camera_shifts)) * camera_shifts.any()
    steps[0] = 0
    path = _round_to_photo_pixels(steps[:, None] * (np.sin(heading), np.cos(heading)))
    origin = middle + path - camera_shifts
    y = rows - origin[:, 0, None, None, None]
    x = columns - origin[:, 1, None, None, None]
    mask = np.clip(np.sin(angle) * y + np.cos(angle) * x + 0.5, 0, 1)
    return path, mask.astype(np.float32)


def draw_planes(
    scenes: Sequence[Scene],
    rng: np.random.Generator,
    count: int,
    config: SynthConfig,
    colours: np.ndarray | None = None,
) -> np.ndarray:
    """Return the noiseless frames of a random patch, the reference first.

    Args:
        scenes: photos, of `config.photo_pixels` or more each way.
        rng: source of all randomness.
        count: number of frames.
        config: of the bursts.
        colours: `(3, 3)`, matrix from the photos' to the camera's colours; None for identity.

    Returns:
        `(count, 4, cells, cells)` float32 in [0, 1], linear with the photo's white balance.
    """
    shifts = draw_residual_shifts(rng, count, config)
    angles = draw_angles(rng, shifts, config)
    burst = _photograph(scenes, rng, shifts, angles, config, colours)
    chance = rng.random()
    if chance >= config.moving + config.parallax:
        return burst
    size = (config.cells, config.cells)
    if chance < config.moving:
        times = rng.permutation(count) - rng.integers(count)  # the reference may be any frame
        path, mask = draw_object(rng, size, times, shifts)
    else:
        path, mask = _draw_near_layer(rng, size, shifts)
    # The texture of the layer moves with its outline.
    layer = _photograph(scenes, rng, shifts - path, angles, replace(config, torn=0), colours)
    burst += mask * (layer - burst)
    return burst
