"""Mosaics in DNGs that are changed here and there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kpn_cli.errors import KpnError
from kpn_cli.raw.reader import read_info, read_mosaic


def noise_mosaic(height: int = 46, width: int = 68, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(100, 900, (height, width)).astype(np.uint16)


def refusal(path: Path) -> str:
    """The message with which a file is refused; one line that begins with its name."""
    with pytest.raises(KpnError) as caught:
        read_mosaic(read_info(path))
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path.name}: ") and message[-1] == "."
    return message
