"""Directions turn with the picture."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import ORIENTATIONS

from kpn_cli.image import orientation


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_vectors_turn_with_the_picture(turn):
    """Each vector points to the next sample; turned upright, it still does."""
    rows, columns = np.mgrid[:4, :6]
    upright = orientation.upright(np.stack([rows, columns], -1), turn)
    down = np.broadcast_to([1, 0], (4, 6, 2))
    y, x = orientation.upright_vectors(down, turn)[1, 1]
    assert (upright[1 + y, 1 + x] - upright[1, 1]).tolist() == [1, 0]
