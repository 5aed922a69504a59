"""Fields and directories as values."""

from __future__ import annotations

import numpy as np
import pytest

from kpn_cli.tiff import fields


def test_merging_keeps_each_tag_once_from_the_last_group():
    first, second = (
        [fields.ascii_field(271, "a"), fields.ascii_field(272, "b")],
        [fields.ascii_field(271, "c")],
    )
    merged = {field.code: field.data for field in fields.merge(first, second)}
    assert merged == {271: b"c\0", 272: b"b\0"}


@pytest.mark.parametrize("kind", fields.TYPE_LAYOUT)
def test_swapping_twice_changes_nothing_and_once_reverses_each_number(kind):
    size, each = fields.TYPE_LAYOUT[kind]
    data = bytes(range(3 * size * each))
    assert fields.swapped(fields.swapped(data, kind), kind) == data
    turned = np.frombuffer(fields.swapped(data, kind), f">u{size}")
    np.testing.assert_array_equal(turned, np.frombuffer(data, f"<u{size}"))
