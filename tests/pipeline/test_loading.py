"""A burst that doesn't fit into memory is refused before it is read."""

from __future__ import annotations

import pytest
from cards import write_bursts

from kpn_cli.errors import KpnError
from kpn_cli.pipeline import denoise, loading
from kpn_cli.pipeline.options import Options


def test_a_burst_larger_than_the_memory_is_refused_before_it_is_read(
    tmp_path, weights, monkeypatch
):
    write_bursts(tmp_path / "card", 1, frames=9)
    monkeypatch.setattr(loading, "free_memory", lambda device: 9000)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    with pytest.raises(KpnError, match=r"its 9 frames need .* --burst-size"):
        denoise.denoise([tmp_path / "card"], options)
