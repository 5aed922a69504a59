"""What moves between the frames of a burst: hand, camera, objects. Photo -> noiseless frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .config import SynthConfig
from .photos import PIXELS_PER_CELL, Scene


def draw_shifts(rng: np.random.Generator, count: int, config: SynthConfig) -> np.ndarray:
    """Residual shift (y, x) of each frame behind the aligner, `(count, 2)`; the first's is zero.

    In cells. Frame i shows at cell p what the photo holds at p + shift.
    """
    kind = rng.random()
    reach = 1.5 if rng.random() < config.rough else 0.5
    shifts = rng.uniform(-reach, reach, (count, 2))
    # As in the evaluation protocol, most shifts are whole photo pixels: sampled
    # without interpolation, all frames are equally sharp.
    if rng.random() < 0.7:
        shifts = _whole_pixels(shifts)
    if kind < config.static:
        shifts[:] = 0
    elif kind < config.static + config.partly:
        shifts[rng.random(count) < 0.5] = 0
    luck = rng.random(count)
    if kind >= config.static:
        failed = luck < config.failed
        shifts[failed] = rng.uniform(-config.failure, config.failure, (count, 2))[failed]
        astray = ~failed & (luck < config.failed + config.off_by_one)
        shifts[astray] += rng.integers(-1, 2, (count, 2))[astray]
    shifts[0] = 0
    return shifts


def _whole_pixels(shifts: np.ndarray) -> np.ndarray:
    return np.round(shifts * PIXELS_PER_CELL) / PIXELS_PER_CELL


def draw_angles(rng: np.random.Generator, shifts: np.ndarray, config: SynthConfig) -> np.ndarray:
    """Turn of each frame in radians, `(count,)`: none for frames that are exactly aligned."""
    turning = rng.random() < config.turning
    angles = np.radians(rng.uniform(-0.5, 0.5, len(shifts))) * turning
    return angles * shifts.any(1)


def _draw_maps(
    rng: np.random.Generator,
    scene: Scene,
    shifts: np.ndarray,
    angles: np.ndarray,
    config: SynthConfig,
) -> np.ndarray:
    """Affine maps `(count, 2, 3)` from cells to photo pixels, about a random place."""
    flip = np.diag(rng.choice((-1.0, 1.0), 2))
    zoom = rng.uniform(0.6, 1.0) if rng.random() < config.softer else 1.0
    linear = PIXELS_PER_CELL * zoom * (flip if rng.random() < 0.5 else flip[::-1])
    reach = config.photo_pixels / 2
    centre = np.array([rng.uniform(reach, side - reach) for side in (scene.width, scene.height)])
    centre = np.round(centre)
    middle = (config.cells - 1) / 2
    cos, sin = np.cos(angles), np.sin(angles)
    # A turn about a far point is, within a patch, a shift (drawn above) and a turn about it.
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
    """Frames of a random part of a random photo, `(count, 4, cells, cells)` float32 in [0, 1]."""
    scene = scenes[int(rng.integers(len(scenes)))]
    maps = _draw_maps(rng, scene, shifts, angles, config)
    torn = rng.random(len(shifts)) < config.torn
    torn[0] = False
    if colours is not None:
        scene, maps = _part_seen(scene, maps, config)
        scene = scene.mixed(colours)
    frames = _sampled(scene, maps, config.cells)
    for frame in np.flatnonzero(torn & shifts.any()):
        _tear(rng, frames[frame], scene, maps[frame], config)
    return np.multiply(frames, np.float32(1 / 65535), dtype=np.float32)


def _sampled(scene: Scene, maps: np.ndarray, cells: int) -> np.ndarray:
    """Sample every map; equal ones, of a tripod's frames, once."""
    done: dict[bytes, np.ndarray] = {}
    for matrix in maps:
        key = matrix.tobytes()
        if key not in done:
            done[key] = scene.planes(matrix, cells, cells)
    return np.stack([done[matrix.tobytes()] for matrix in maps])


def _part_seen(scene: Scene, maps: np.ndarray, config: SynthConfig) -> tuple[Scene, np.ndarray]:
    """Cut out what the frames see, so that no more has to be worked on."""
    side = config.cells
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]).T
    seen = (maps @ corners).transpose(1, 0, 2).reshape(2, -1)
    # A torn part looks further.
    margin = PIXELS_PER_CELL * (config.failure if config.torn else 0) + 2
    size = np.array([scene.width, scene.height])
    # Beyond the photo it is mirrored: as much as is seen has to stay, or it would mirror earlier.
    low = np.clip(np.floor(seen.min(1) - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(seen.max(1) + margin) + 1, low + 1, size).astype(int)
    moved = maps.copy()
    moved[:, :, 2] -= low
    return scene.part(slice(low[1], high[1]), slice(low[0], high[0])), moved


def _tear(
    rng: np.random.Generator,
    frame: np.ndarray,
    scene: Scene,
    matrix: np.ndarray,
    config: SynthConfig,
) -> None:
    """Shift a part of a frame by whole cells, as where the aligner errs in some tiles."""
    reach = int(config.failure) if rng.random() < 0.5 else 1
    elsewhere = matrix.copy()
    elsewhere[:, 2] += matrix[:, :2] @ rng.integers(-reach, reach + 1, 2)
    other = scene.planes(elsewhere, config.cells, config.cells)
    edge = int(rng.integers(1, config.cells))
    beyond = slice(edge, None) if rng.random() < 0.5 else slice(None, edge)
    where = (slice(None), beyond) if rng.random() < 0.5 else (slice(None), slice(None), beyond)
    frame[where] = other[where]


# --- layers that move by themselves -----------------------------------------


def _places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows `(4, height, 1)` and columns `(4, 1, width)` of the planes' samples, in cells."""
    rows, columns = (np.arange(side, dtype=np.float32) for side in (height, width))
    return (
        rows[:, None] + np.float32([0, 0, 0.5, 0.5])[:, None, None],
        columns[None, :] + np.float32([0, 0.5, 0, 0.5])[:, None, None],
    )


def draw_object(
    rng: np.random.Generator, size: tuple[int, int], when: np.ndarray, camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return an ellipse that moves steadily, appears or vanishes: its way and its mask.

    Args:
        rng: where all chances come from.
        size: rows and columns of the frames, in cells.
        when: `(count,)`, the frames' times in frames.
        camera: `(count, 2)`, the frames' shifts (y, x) in cells: the object moves over
            the scene, the scene over the frame.

    Returns:
        The way over the scene, `(count, 2)` (y, x) in cells, and the object's share in each
        sample, `(count, 4, *size)` float32 in [0, 1].
    """
    rows, columns = _places(*size)
    speed = rng.uniform(-6, 6, 2) if rng.random() < 0.5 else rng.uniform(-1, 1, 2)
    way = _whole_pixels(when[:, None] * speed)
    middle = (rng.uniform(0.15, 0.85, 2) * size + way - camera).astype(np.float32)
    radii = rng.uniform(3, max(0.4 * min(size), 3), 2)
    angle = rng.uniform(0, np.pi)
    y = rows - middle[:, 0, None, None, None]
    x = columns - middle[:, 1, None, None, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    distance = ((cos * x + sin * y) / radii[0]) ** 2 + ((cos * y - sin * x) / radii[1]) ** 2
    mask = np.clip((1 - distance) * np.float32(radii.min() / 2) + 0.5, 0, 1)
    if rng.random() < 0.3:  # appears or vanishes
        mask[rng.random(len(when)) < 0.5] = 0
    return way, mask.astype(np.float32)


def _draw_near_layer(
    rng: np.random.Generator, size: tuple[int, int], camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A near layer on one side of an edge, which shifts against the far one: way and mask."""
    rows, columns = _places(*size)
    angle = rng.uniform(0, 2 * np.pi)
    middle = rng.uniform(0.2, 0.8, 2) * size
    heading = rng.uniform(0, 2 * np.pi)
    # Aligned to the far layer, frames say nothing of how far the camera went; on a tripod,
    # it went nowhere.
    steps = rng.uniform(-3, 3, len(camera)) * camera.any()
    steps[0] = 0
    way = _whole_pixels(steps[:, None] * (np.sin(heading), np.cos(heading)))
    place = middle + way - camera
    y = rows - place[:, 0, None, None, None]
    x = columns - place[:, 1, None, None, None]
    mask = np.clip(np.sin(angle) * y + np.cos(angle) * x + 0.5, 0, 1)
    return way, mask.astype(np.float32)


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
        rng: where all chances come from.
        count: number of frames.
        config: what they are like.
        colours: `(3, 3)`, from the photos' to the camera's colours; None for equal ones.

    Returns:
        `(count, 4, cells, cells)` float32 in [0, 1], linear with the photo's white balance.
    """
    shifts = draw_shifts(rng, count, config)
    angles = draw_angles(rng, shifts, config)
    burst = _photograph(scenes, rng, shifts, angles, config, colours)
    chance = rng.random()
    if chance >= config.moving + config.parallax:
        return burst
    size = (config.cells, config.cells)
    if chance < config.moving:
        when = rng.permutation(count) - rng.integers(count)  # the reference may be any frame
        way, mask = draw_object(rng, size, when, shifts)
    else:
        way, mask = _draw_near_layer(rng, size, shifts)
    # What the layer shows goes along with its outline.
    layer = _photograph(scenes, rng, shifts - way, angles, replace(config, torn=0), colours)
    burst += mask * (layer - burst)
    return burst
