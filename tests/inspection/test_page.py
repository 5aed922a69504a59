"""The page and its figures: complete, escaped; files of others are never replaced."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from cards import write_bracket
from click.testing import CliRunner
from command_line import kpn
from inspected_bursts import still, write_burst
from PIL import Image

from kpn_cli.cli.app import main
from kpn_cli.synthesis.protocol import noise_of_gain


def inspected(folder: Path, *arguments: object) -> dict:
    result = kpn("inspect", *arguments, "-o", folder, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_the_command_writes_figures_a_page_and_json(tmp_path, small, lively):
    before = digests(small[0].parent)
    out = tmp_path / "out"
    same = (small[0].parent, "--weights", lively, "--reference", "first", "--noise-scale", "0.5,2")
    document = inspected(out, *same, "--at", "60,50", "--at", "9,9")
    names = {"weights", "shifts", "noise", "trust"} | {
        f"{kind}_{at}" for kind in ("kernels", "noise_scale") for at in ("60_50", "9_9")
    }
    assert set(document["outputs"]) == names | {"page"}
    assert {path.stem for path in out.glob("*.png")} == names
    for name in names:
        with Image.open(document["outputs"][name]) as picture:
            picture.load()
            assert 800 < picture.width < 2600 and 400 < picture.height < 3200
            assert len(np.unique(np.asarray(picture.resize((40, 40))))) > 5
    page = (out / "index.html").read_text("utf-8")
    assert len(re.findall(r'<img [^>]*alt="[^"]{10,}" src="data:image/png;base64,', page)) == 8
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "url(" not in page
    assert "viewport" in page and "prefers-color-scheme: dark" in page
    point = document["places"][0]
    assert (point["x"], point["y"]) == (60, 50)
    assert np.array(point["kernels"]).shape == (3, 5, 5)
    assert sum(point["weights"]) == pytest.approx(1, abs=1e-5)
    assert [each["scale"] for each in point["noise_scales"]] == [0.5, 2]
    assert sum(document["mean_weights"]) == pytest.approx(1, abs=1e-5)
    # The same bytes in another folder; no old figures after a run with another point.
    inspected(tmp_path / "again", *same, "--at", "60,50", "--at", "9,9")
    assert digests(tmp_path / "again") == digests(out)
    own = out / "kernels.png"
    own.write_bytes(b"mine")
    inspected(out, *same[:5], "--at", "20,20")
    left = {"kernels_20_20.png", "weights.png", "shifts.png", "noise.png", "trust.png"}
    assert {path.name for path in out.iterdir()} == left | {"index.html", "kernels.png"}
    assert digests(small[0].parent) == before


def test_json_and_page_have_the_exposure_of_each_frame_where_they_differ(tmp_path, small, lively):
    how = ("--weights", lively, "--at", "9,9")
    assert inspected(tmp_path / "same", small[0].parent, *how)["exposures"] == []
    assert ".000" in (tmp_path / "same" / "index.html").read_text()
    write_bracket(tmp_path / "card", (0, -1, 1), size=(96, 128))
    out = tmp_path / "out"
    document = inspected(out, tmp_path / "card", *how, "--exposures", "mixed")
    told = [(each["settings"], each["ev"]) for each in document["exposures"]]
    assert told == [
        ("1/100 s, ISO 800", 0),
        ("1/200 s, ISO 800", pytest.approx(-1, abs=0.02)),
        ("1/50 s, ISO 800", pytest.approx(1, abs=0.1)),
    ]
    page = (out / "index.html").read_text()
    assert "<td>\N{MINUS SIGN}1.0 EV</td>" in page and "<small>1/50 s, ISO 800</small>" in page


def test_stdout_holds_the_paths_and_nothing_else(tmp_path, small, weights):
    result = kpn("inspect", *small, "-o", tmp_path, "--weights", weights, "--at", "9,9")
    assert result.exit_code == 0
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert paths[0] == tmp_path / "index.html"
    assert set(paths) == set(tmp_path.iterdir())
    assert "at 9,9" in result.stderr


def test_a_single_frame_whose_name_looks_like_html_is_escaped(tmp_path, weights):
    (path,) = write_burst(tmp_path / "burst", still(1, 40, 40), noise_of_gain(0))
    odd = path.rename(path.with_name("<b>&.dng"))
    document = inspected(tmp_path / "out", odd, "--weights", weights, "--at", "20,20")
    assert set(document["outputs"]) == {"page", "kernels_20_20", "trust", "noise"}
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "<b>" not in page and "&lt;b&gt;&amp;.dng" in page


def test_a_page_of_another_program_is_never_replaced(tmp_path, small, weights):
    page = tmp_path / "index.html"
    page.write_text("mine")
    result = kpn("inspect", *small, "-o", tmp_path, "--weights", weights)
    assert result.exit_code == 1 and "choose another folder" in result.stderr
    assert page.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_pictures_of_other_programs_are_neither_replaced_nor_removed(small, lively, tmp_path):
    for name in ("weights.png", "kernels_1_2.png"):
        folder = tmp_path / name
        folder.mkdir()
        Image.new("RGB", (4, 4)).save(folder / name)
        content = (folder / name).read_bytes()
        result = CliRunner().invoke(
            main,
            ["inspect", *map(str, small), "--weights", str(lively), "-o", str(folder), "--json"],
        )
        assert result.exit_code == 1
        assert name in json.loads(result.stdout)["failed"][0]["error"]
        assert [path.name for path in folder.iterdir()] == [name]
        assert (folder / name).read_bytes() == content
