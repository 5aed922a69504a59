"""Tags and directories as values."""

from __future__ import annotations

import numpy as np
import pytest

from kpn_cli.tiff import fields


def test_the_last_group_wins_and_names_each_tag_once():
    first, second = (
        [fields.ascii_tag(271, "a"), fields.ascii_tag(272, "b")],
        [fields.ascii_tag(271, "c")],
    )
    merged = {tag.code: tag.data for tag in fields.merge(first, second)}
    assert merged == {271: b"c\0", 272: b"b\0"}


@pytest.mark.parametrize("kind", fields.NUMBERS)
def test_swapping_twice_changes_nothing_and_once_turns_each_number(kind):
    size, each = fields.NUMBERS[kind]
    data = bytes(range(3 * size * each))
    assert fields.swapped(fields.swapped(data, kind), kind) == data
    turned = np.frombuffer(fields.swapped(data, kind), f">u{size}")
    np.testing.assert_array_equal(turned, np.frombuffer(data, f"<u{size}"))
