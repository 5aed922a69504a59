"""Patterns and lists of names stand for files, in every encoding that systems write."""

from __future__ import annotations

import os
import sys

import pytest

from kpn_cli.burst.arguments import expand
from kpn_cli.errors import KpnError


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A folder with files, which is the current one."""
    for name in ("b.dng", "a.dng", "é 1.dng", "a[1].dng", "DCIM [x]/c.dng", "DCIM [x]/in/d.dng"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str, stdin: bytes = b"") -> list[str]:
    found, errors = expand(arguments, lambda most: stdin)
    assert errors == {}
    return [path.as_posix() for path in found]


def test_names_stay_as_they_are_whether_they_exist_or_not(card):
    assert names("b.dng", "a[1].dng", "none.dng", ".") == ["b.dng", "a[1].dng", "none.dng", "."]


def test_patterns_are_expanded_in_order_also_below_folders_with_brackets(card):
    assert names("[ab].dng") == ["a.dng", "b.dng"]
    assert names("DCIM [x]/*.dng", "DCIM*/?.dng") == ["DCIM [x]/c.dng"] * 2
    assert names("**/[cd].dng") == ["DCIM [x]/c.dng", "DCIM [x]/in/d.dng"]
    assert names("DCIM*/**") == ["DCIM [x]"]
    assert names(f"{card}/b*") == [(card / "b.dng").as_posix()]


def test_patterns_of_any_depth_do_not_run_in_circles(card):
    (card / "DCIM [x]" / "loop").symlink_to(card)
    (card / "DCIM [x]" / "in" / "loop").symlink_to(card)
    assert names("**/a.dng") == ["a.dng"]


def test_a_pattern_that_matches_nothing_is_an_error_that_says_so(card):
    found, errors = expand(["*.cr2", "a.dng"], lambda most: b"")
    assert [path.name for path in found] == ["a.dng"]
    assert [str(error) for error in errors.values()] == [
        "*.cr2: no file or folder matches this pattern; check it"
    ]


LIST = '# comment\r\n\r\na.dng\r\n  b.dng \r\né 1.dng\r\n"a[1].dng"\r\n   \r\nDCIM*/c.dng'
LISTED = ["a.dng", "b.dng", "é 1.dng", "a[1].dng", "DCIM [x]/c.dng"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32"]
)
def test_lists_are_read_in_the_encodings_that_systems_write(encoding, card):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    data = (mark + LIST).encode(encoding)
    (card / "list.txt").write_bytes(data)
    assert names("@list.txt") == LISTED
    assert names("-", stdin=data) == LISTED
    (card / "list.txt").write_bytes((mark + LIST.replace("\r\n", "\n")).encode(encoding))
    assert names("@list.txt") == LISTED


def test_names_that_end_with_nul_are_taken_as_they_are(card):
    (card / "#odd\nname ").write_bytes(b"x")
    assert names("-", stdin=b"#odd\nname \0a.dng\0") == ["#odd\nname ", "a.dng"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_names_that_are_no_utf8_are_found(card):
    name = os.fsdecode(b"caf\xe9.dng")
    (card / name).write_bytes(b"x")
    assert names("-", stdin=b"caf\xe9.dng\n") == [name]


def test_files_with_the_names_of_lists_are_reached_by_their_folder(card):
    (card / "@x").write_bytes(b"x")
    (card / "-").write_bytes(b"x")
    assert names("./@x", "./-") == ["@x", "-"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"# x\na.dng\nno.dng", "@list.txt, line 3: no such file or folder: no.dng; names are"),
        (b"*.cr2", "@list.txt, line 1: no file or folder matches *.cr2"),
        (b"a.dng\0no.dng\0", "@list.txt, name 2: no such file or folder: no.dng"),
        (b"\nx\xe9.dng", "@list.txt, line 2: no such file: x\udce9.dng; if it exists, save"),
    ],
)
def test_an_error_names_the_list_and_the_line(data, error, card):
    (card / "list.txt").write_bytes(data)
    _, errors = expand(["@list.txt"], lambda most: b"")
    (told,) = errors.values()
    assert str(told).startswith(error)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\xff\xfea\0b", "@list.txt: damaged UTF-16-LE"),
        (b"II*\0\x08\0\0\0\x01\x02\x03", "@list.txt, name 2: no file name; give a text file"),
    ],
)
def test_a_file_that_is_no_list_is_refused_at_once(data, error, card):
    (card / "list.txt").write_bytes(data)
    with pytest.raises(KpnError) as caught:
        expand(["@list.txt"], lambda most: b"")
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize("argument", ["@", "@none.txt", "@DCIM [x]"])
def test_a_list_that_cannot_be_read_is_refused(argument, card):
    with pytest.raises(KpnError, match=r"^@"):
        expand([argument], lambda most: b"")
