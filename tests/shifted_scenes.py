"""Scenes and frames of them that are shifted, for tests of alignment."""

from __future__ import annotations

import numpy as np
from pictures import texture

from kpn_cli.align.block_matching import Aligner

MARGIN = 80
BRIGHTNESS = np.float32([0.5, 1.0, 0.95, 0.6])[:, None, None]


def cut(big, height, width, shift):
    """What a camera moved by `shift` sees: cell p of the reference lies at p + shift."""
    top, left = MARGIN - shift[0], MARGIN - shift[1]
    return BRIGHTNESS * big[top : top + height, left : left + width]


def scene_of(seed, height, width):
    return texture(seed, height + 2 * MARGIN, width + 2 * MARGIN)


def align(reference, frame):
    return Aligner(reference).align(frame)
