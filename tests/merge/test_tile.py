"""Frames are dealt out to groups that all contain the reference."""

from __future__ import annotations

import pytest

from kpn_cli.merge import tile


@pytest.mark.parametrize("count", range(1, 30))
@pytest.mark.parametrize("most", [1, 2, 8])
def test_every_frame_is_in_one_group_and_the_reference_in_all(count, most):
    groups = tile.frame_groups(count, most)
    if most == 1:
        assert groups == [[0]]
        return
    assert all(group[0] == 0 and len(group) <= most for group in groups)
    others = sorted(n for group in groups for n in group[1:])
    assert others == list(range(1, count))
    sizes = {len(group) for group in groups}
    assert max(sizes) - min(sizes) <= 1
