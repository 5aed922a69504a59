"""The data of `kpn train`: loaded, counted, and checked for copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import GAINS
from ..errors import listed
from . import console
from .photos import load_named_photos

if TYPE_CHECKING:
    from ..synthesis.patches import BatchSource
    from ..synthesis.photos import Scene
    from ..training.config import TrainConfig


@dataclass(frozen=True)
class TrainingData:
    """The data of a run.

    Attributes:
        source: of the training bursts.
        validation: photos to validate on.
        lines: for the user: how much there is, and warnings.
    """

    source: BatchSource
    validation: list[Scene]
    lines: list[str]


def load_data(paths: tuple[Path, ...], val: Path | None, config: TrainConfig) -> TrainingData:
    """Load the training data and the photos to validate on, and look for copies.

    Args:
        paths: photos, or shards of `kpn synth`.
        val: photo or folder of photos to validate on.
        config: of the run.

    Raises:
        KpnError: if there are none, a data set is not complete, or a shard is damaged.
    """
    from ..synthesis.patches import PhotoSource
    from ..synthesis.shards import ShardSource, find_shards
    from ..synthesis.unfinished import check_complete

    at_least = config.data.photo_pixels
    check_complete(paths)
    shards = find_shards(paths)
    source: BatchSource
    if shards:
        source = bursts = ShardSource(shards)
        lines = [_shard_line(len(bursts), len(shards), config.patches)]
        lines += [
            f"warning: {path} begins with the same burst as {other}; remove a copy"
            for path, other in bursts.copies()
        ]
        validation = load_named_photos((val,), at_least) if val else []
        lines += _known_to_shards(shards, validation)
    else:
        photos = load_named_photos(paths, at_least)
        scenes = [scene for _, scene in photos]
        source = PhotoSource(scenes)
        count = console.count(len(scenes), "photo")
        lines = [f"training: {config.patches} bursts drawn from {count} (--patches)"]
        lines += _copies(photos)
        validation = load_named_photos((val,), at_least) if val else []
        lines += _known_to_training(validation, scenes)
    if validation:
        lines.append(
            f"validation: {console.count(len(validation), 'photo')}; PSNR in dB at gains "
            f"{' / '.join(GAINS)}, on a patch of each photo; shifted: frames off by up to half a "
            "cell, static: exactly aligned, bracket: also exposed 2 EV more and less"
        )
    return TrainingData(source, [scene for _, scene in validation], lines)


def _shard_line(bursts: int, shards: int, patches: int) -> str:
    times = patches / bursts
    often = f"{times:.0f} times" if times >= 1.5 else "once" if times >= 1 else "at most once"
    return (
        f"training: {console.count(bursts, 'burst')} in {console.count(shards, 'shard')}, each "
        f"drawn {often} on average (--patches {patches})"
    )


def _copies(photos: Sequence[tuple[Path, Scene]]) -> Iterator[str]:
    """Yield a warning if photos have the pixels of others."""
    from ..synthesis.photo_copies import copies_among

    groups = copies_among([scene for _, scene in photos])
    if groups:
        copies = sum(len(group) for group in groups) - len(groups)
        which = [" = ".join(str(photos[index][0]) for index in group) for group in groups]
        yield (
            f"warning: {console.count(copies, 'training photo')} with the pixels of another, "
            f"which gives that scene more weight; remove the copies: {listed(which)}"
        )


def _known_to_training(
    validation: Sequence[tuple[Path, Scene]], training: Sequence[Scene]
) -> Iterator[str]:
    """Yield a warning if validation photos have the pixels of training photos."""
    from ..synthesis.photo_copies import copies_in

    among = copies_in([scene for _, scene in validation], training)
    return _known([validation[index][0] for index in among], len(validation), "training photos")


def _known_to_shards(
    shards: Sequence[Path], validation: Sequence[tuple[Path, Scene]]
) -> Iterator[str]:
    """Yield a warning if validation photos are those of a data set, by name and size."""
    from ..synthesis.unfinished import photos_of

    photos = photos_of(shards)
    known = []
    for path, _ in validation:
        with suppress(OSError):  # it was read a moment ago; the warning can do without
            if (path.name, path.stat().st_size) in photos:
                known.append(path)
    return _known(known, len(validation), "photos that the shards were made from")


def _known(paths: Sequence[Path], count: int, which: str) -> Iterator[str]:
    if paths:
        yield (
            f"warning: {len(paths)} of {console.count(count, 'validation photo')} "
            f"{'is' if len(paths) == 1 else 'are'} among the {which}, so their PSNR says nothing "
            f"about other photos: {listed([str(path) for path in paths])}"
        )
