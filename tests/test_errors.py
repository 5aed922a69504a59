"""Texts that messages are made of."""

from __future__ import annotations

import os

import pytest

from kpn_cli.errors import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("IMG_0412.dng", "IMG_0412.dng"),
        ("C:\\photos\\Grüße 日本.dng", "C:\\photos\\Grüße 日本.dng"),
        ("two\nlines\x1b[2J\u2028.dng", "two\\nlines\\x1b[2J\\u2028.dng"),
        (os.fsdecode(b"caf\xe9.dng"), "caf\\xe9.dng"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_name_is_shown_on_one_line_and_what_cannot_be_shown_is_escaped(name, shown):
    assert printable(name) == shown
    shown.encode()
