"""Values of options: other names and any case of letters are known, errors are in plain words."""

from __future__ import annotations

import click
import pytest
from command_line import kpn

from kpn_cli.choices import formats_of
from kpn_cli.cli.values import Choice, FloatRange, IntRange


@pytest.mark.parametrize(
    ("names", "formats"),
    [
        (["jpg"], ("jpeg",)),
        (["DNG", "JPG"], ("dng", "jpeg")),
        (["tif"], ("linear", "srgb")),
        (["srgb", "TIFF", "jpeg"], ("srgb", "linear", "jpeg")),
        (["gif"], ("gif",)),
    ],
)
def test_formats_have_the_names_that_photographers_use(names, formats):
    assert formats_of(names) == formats


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--strength", "5"], "'--strength': 5 is out of range; give a number from 0 to 4"),
        (["--strength", "0,5"], "5 is out of range; give a number from 0 to 4; a comma separates"),
        (["--strength", "nan"], "'nan' is not a number"),
        (["--gap", "inf"], "'inf' is not a number; give a number, 0 or more"),
        (["--tile", "1.5"], "'1.5' is not a whole number; give a whole number, 64 or more"),
        (["--tile", "63"], "'--tile': 63 is out of range"),
        (["--device", "gpu"], "'gpu' is unknown; choose auto, cpu, cuda or mps"),
        (["--format", "gif"], "unknown format 'gif'; choose among dng, linear, srgb, jpeg, jpg"),
        (["--format", ","], "no format is named"),
        (["--reference", ""], "no frame is named; give auto, darkest, first"),
        (["--noise", "-1,2"], "S = -1 is out of range; give 0 to 1000"),
        (["--noise", "0,0"], "S and O are both 0"),
        (["--noise", "0,001,0,01"], "is not two numbers; write decimal points, no commas"),
        (["--noise", "1e-3"], "is not two numbers; give S,O"),
    ],
)
def test_wrong_options_are_told_in_plain_words(options, words, tmp_path):
    run = kpn("denoise", tmp_path, *options)
    assert run.exit_code == 2
    assert words in run.stderr
    assert "0<=x" not in run.stderr


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (FloatRange(0, min_open=True), "a number above 0"),
        (FloatRange(0, 1, max_open=True), "a number from 0 and below 1"),
        (IntRange(), "a whole number"),
    ],
)
def test_every_kind_of_range_is_named(span, words):
    with pytest.raises(click.BadParameter, match=words):
        span.convert("x", None, None)


def test_words_are_known_in_upper_case():
    assert Choice(("auto", "cpu")).convert("CPU", None, None) == "cpu"


@pytest.mark.parametrize(
    "arguments",
    [
        ["denoise", ""],
        ["denoise", "a.dng", "-o", ""],
        ["denoise", "a.dng", "--noise", ""],
        ["denoise", "a.dng", "--weights", ""],
        ["denoise", "a.dng", "--log", ""],
        ["info", ""],
        ["inspect", "", "-o", "x"],
        ["calibrate", "", "-o", "x.json"],
        ["synth", "", "-o", "x"],
        ["train", "", "-o", "x"],
        ["eval", ""],
        ["demo", "-o", ""],
    ],
)
def test_an_empty_name_is_not_the_current_folder(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = kpn(*arguments)
    assert run.exit_code == 2
    assert "the name is empty" in run.stderr or "no such file: ''" in run.stderr
    assert not list(tmp_path.iterdir())
