"""Names that Windows takes for something else are known on every system."""

from __future__ import annotations

from pathlib import PureWindowsPath

import pytest

from kpn_cli.system.names import legal_part, long_path_advice, problem_on_windows


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("12:30.dng", "no : in names"),
        ("what?.dng", "no ? in names"),
        ("a\x07.dng", "no a control character in names"),
        ("burst.", "'burst.'"),
        ("burst /IMG_1.dng", "'burst '"),
        ("NUL.dng", "NUL is a device"),
        ("con/IMG_1.dng", "con is a device"),
        ("Com1.tar.gz", "Com1 is a device"),
        ("LPT¹", "LPT¹ is a device"),
        ("aux .dng", "aux is a device"),
        (r"C:\photos\PRN", "PRN is a device"),
    ],
)
def test_the_problem_of_a_name_is_told(name, words):
    assert words in problem_on_windows(name)


@pytest.mark.parametrize(
    "path",
    [
        *("IMG_0412_kpn.dng", "a (1)_kpn_linear.tif", ".kpn-0123456789ab.dng", "café 東京_kpn.dng"),
        *("../denoised", "./denoised", ".", "C:/photos/IMG.dng", r"\\server\share\IMG.dng", "D:"),
        *("CONTACT.dng", "null.dng", "com10.dng", "company/aux_1.dng", "a..b", "...hidden"),
    ],
)
def test_other_names_are_fine(path):
    assert problem_on_windows(path) == ""
    assert problem_on_windows(PureWindowsPath(path)) == ""


@pytest.mark.parametrize("name", ["12:30", "a/b\\c", " a. ", "NUL", "con .x", "aux.b", "\x07\x7f"])
def test_any_text_is_made_a_name_that_windows_can_hold(name):
    legal = legal_part(name)
    assert legal and problem_on_windows(f"{legal}.dng") == ""
    assert not set("/\\\x7f") & set(legal)


def test_paths_are_too_long_from_260_characters_with_the_temporary_name():
    folder = "C:\\" + "x" * 200
    assert long_path_advice(f"{folder}\\{'y' * 55}") == ""
    assert "260 characters" in long_path_advice(f"{folder}\\{'y' * 56}")
    assert "long paths" in long_path_advice("C:\\" + "x" * 240 + "\\a.dng")
    assert long_path_advice("C:\\photos\\a.dng") == ""
