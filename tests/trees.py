"""Random TIFF trees, and the contents of a tree independent of its layout."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from kpn_cli.tiff import fields
from kpn_cli.tiff.fields import Field, Ifds, Segments

orders = pytest.mark.parametrize("order", ["<", ">"])


def contents(ifds):
    """Fields in order, without their offsets."""
    return [
        [
            (field.code, field.kind, field.count, _content(field))
            for field in sorted(ifd, key=lambda t: t.code)
        ]
        for ifd in ifds
    ]


def _content(field: Field):
    if isinstance(field.data, Ifds):
        return contents(field.data.ifds)
    if isinstance(field.data, Segments):
        return [bytes(segment) for segment in field.data.segments]
    return field.data


@st.composite
def _values(draw, code):
    kind = draw(st.sampled_from([kind for kind in fields.TYPE_LAYOUT if kind != 13]))
    size, each = fields.TYPE_LAYOUT[kind]
    count = draw(st.integers(1, 9))
    return Field(code, kind, count, draw(st.binary(min_size=count * size * each,
                                                 max_size=count * size * each)))  # fmt: skip


@st.composite
def _ifds(draw, depth):
    codes = draw(st.sets(st.integers(60000, 60020), min_size=1, max_size=5))
    tags = [draw(_values(code)) for code in codes]
    if draw(st.booleans()):
        segments = draw(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4))
        tags += [fields.segments_field(324, segments), fields.long_field(325, *map(len, segments))]
    if depth and draw(st.booleans()):
        nested = draw(st.lists(_ifds(depth - 1), min_size=1, max_size=3))
        tags.append(fields.ifd_field(draw(st.sampled_from([330, 34665, 34853])), *nested))
    return tuple(tags)


def trees():
    """Chains of up to three directories with values, segments and nested directories."""
    return st.lists(_ifds(2), min_size=1, max_size=3)
