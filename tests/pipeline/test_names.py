"""Outputs have the names that a template gives them, on every system, and never share one."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from cards import denoised, digests, write_bursts, write_frame
from command_line import kpn

from kpn_cli.batch import plan
from kpn_cli.burst.files import find_raws
from kpn_cli.choices import DEFAULT_NAME, FORMATS
from kpn_cli.errors import KpnError
from kpn_cli.pipeline import names, outputs
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.info import Capture
from kpn_cli.raw.reader import read_capture
from kpn_cli.raw.results import is_result

REFERENCE = Path("/card/IMG_7.NEF")


def capture(path: Path, model: str = "NIKON D750", iso: float | None = 800.0, day: int = 6):
    return Capture(
        path=path,
        make="NIKON",
        model=model,
        serial="",
        height=2,
        width=2,
        iso=iso,
        exposure_time=None,
        f_number=None,
        captured=None if not day else datetime(2026, 5, day, 12, 3, 4),
    )


def named(template: str, ending: str = ".dng", **facts) -> str:
    files = [Path("/card/IMG_10.NEF"), Path("/card/IMG_9.NEF")]
    filled = names.for_burst(
        names.check_template(template), files, lambda path: capture(path, **facts)
    )
    assert names.check_template(filled)
    return names.output_name(filled, REFERENCE, ending)


# --- templates ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (DEFAULT_NAME, "IMG_7_kpn.dng"),
        ("{reference}", "IMG_7.dng"),
        ("{first}-{last}_{frames}f", "IMG_9-IMG_10_2f.dng"),
        ("{date}_{time}", "2026-05-06_120304.dng"),
        ("{date:%Y%m%d}-{frames:03}-{reference}", "20260506-002-IMG_7.dng"),
        ("{camera} ISO {iso}", "NIKON D750 ISO 800.dng"),
        ("{folder}.clean", "card.clean.dng"),
        ("{{{reference}}}", "{IMG_7}.dng"),
    ],
)
def test_a_template_is_filled_in_from_the_files(template, name):
    assert named(template) == name


def test_what_the_files_do_not_state_is_unknown():
    assert (
        named("{camera}-{iso}-{date}", model="", iso=None, day=0) == "unknown-unknown-unknown.dng"
    )


@pytest.mark.parametrize(
    ("template", "facts", "name"),
    [
        ("{camera}", {"model": 'X/1: "a"|<b>?*\\\n'}, "X-1- -a---b-----.dng"),
        ("{camera}", {"model": "{reference}"}, "{reference}.dng"),
        ("{camera}", {"model": "../.."}, "-.dng"),
        (" .x. ", {}, "x.dng"),
        ("con", {}, "con_.dng"),
        ("Com1.a", {}, "Com1_.a.dng"),
        ("console", {}, "console.dng"),
        ("{date:%H:%M} {date:%D}", {}, "12-03 05-06-26.dng"),
        ("{camera}", {"model": " .. "}, "unknown.dng"),
    ],
)
def test_names_are_legal_on_every_system(template, facts, name):
    assert named(template, **facts) == name


@pytest.mark.parametrize("stem", ["a" * 255, "写" * 85])
@pytest.mark.parametrize("template", [DEFAULT_NAME, "x-{reference}"])
def test_long_names_are_cut_and_stay_apart(stem, template):
    made = {
        names.output_name(template, Path(stem[:-1] + last), ending)
        for last in "bc"
        for ending in FORMATS.values()
    }
    assert len(made) == 2 * len(FORMATS)
    assert all(len(name.encode()) <= 255 for name in made)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{refrence}", ["{refrence} is no field", "{reference}", "{folder}"]),
        ("{}", ["{} is no field"]),
        ("{0}", ["{reference}"]),
        ("{first.parent}", ["{first.parent} is no field"]),
        ("{first!r}", ["{first!r} is no field"]),
        ("{first", ["a brace is missing"]),
        ("a/{first}", ["no folders", "--output"]),
        ("{date:%Y/%m}", ["no folders", "--output"]),
        ("{first:>9999999999}", ["cannot be written as"]),
        ("{iso:999999999}", ["a width"]),
        (" . ", ["is empty"]),
        ("{date:%Q}", ["cannot be written as '%Q'"]),
        ("{date:%Y%}", ["cannot be written as"]),
    ],
)
def test_a_wrong_template_is_a_usage_error_that_says_what_there_is(template, words):
    result = kpn("denoise", "a.dng", "--name", template)
    assert result.exit_code == 2
    for word in words:
        assert word in " ".join(result.stderr.replace("│", " ").split())
    with pytest.raises(KpnError, match=r"^name: "):
        Options(name=template)


@pytest.mark.parametrize(
    ("template", "ending"), [("{reference}.dng", ".dng"), ("clean.JPG", ".JPG"), ("x.tif", ".tif")]
)
def test_a_template_leaves_the_ending_to_the_format(template, ending):
    result = kpn("denoise", "a.dng", "--name", template)
    assert result.exit_code == 2
    assert f"leave {ending} out" in " ".join(result.stderr.split())


def test_a_frame_whose_name_ends_twice_can_name_a_result(tmp_path):
    write_frame(tmp_path / "a.jpg.dng", 0)
    (burst,) = json.loads(
        kpn("denoise", tmp_path, "--name", "{first}", "--dry-run", "--json").stdout
    )["bursts"]
    assert Options(name=burst["name"]).name == "a.jpg"


# --- runs -----------------------------------------------------------------------------


def test_a_run_beside_the_sources_is_resumed_whatever_the_names(tmp_path, weights):
    card = tmp_path / "card"
    write_bursts(card, 2)
    before = digests(card)
    how = [card, "-o", card, "--weights", weights, "--format", "dng,jpeg", "--name"]
    template = "{date}_{time}_{camera}"
    document = denoised(*how, template)
    made = {Path(path).name for each in document["bursts"] for path in each["outputs"].values()}
    assert made == {
        f"2026-05-06_{time}_X1{ending}"
        for time in ("120000", "120010")
        for ending in (".dng", ".jpg")
    }
    assert all(is_result(card / name) for name in made)
    # The results are no frames, neither of the same run nor of another one.
    again = denoised(*how, template)
    assert [each["skipped"] for each in again["bursts"]] == [True, True]
    assert [len(each["frames"]) for each in again["bursts"]] == [2, 2]
    replaced = denoised(*how, template, "--overwrite")
    assert [each["skipped"] for each in replaced["bursts"]] == [False, False]
    other = denoised(*how, "{reference}-b")
    assert [len(each["frames"]) for each in other["bursts"]] == [2, 2]
    assert len(find_raws([card])) == 4
    off = json.loads(kpn("denoise", card, "--no-group", "--dry-run", "--json").stdout)
    assert [len(each["frames"]) for each in off["bursts"]] == [4]
    assert digests(card).items() >= before.items()


def test_named_results_of_all_formats_are_skipped(tmp_path, weights):
    write_frame(tmp_path / "a.dng", 0)
    how = ["--weights", weights, "--format", "dng,srgb,jpeg", "--name", "x"]
    assert kpn("denoise", tmp_path / "a.dng", "-o", tmp_path, *how).exit_code == 0
    result = kpn("denoise", *sorted(tmp_path.iterdir()), "--dry-run")
    assert result.exit_code == 0
    assert "skipped 2 files that are no raw photos: 1 JPEG and 1 TIFF" in result.stderr
    assert "skipped 1 file that kpn has written" in result.stderr


def test_a_folder_of_nothing_but_results_is_named(tmp_path, weights):
    write_frame(tmp_path / "a.dng", 0)
    how = ["--weights", weights, "--format", "dng", "--name", "x"]
    assert kpn("denoise", tmp_path / "a.dng", "-o", tmp_path / "out", *how).exit_code == 0
    result = kpn("denoise", tmp_path / "out", tmp_path, "--dry-run")
    assert result.exit_code == 1
    assert f"{tmp_path / 'out'}: no raw files below this folder, except results" in result.stderr


def test_bursts_that_would_get_one_name_are_found_before_any_work(tmp_path):
    write_bursts(tmp_path / "card", 3)
    command = [tmp_path / "card", "-o", tmp_path / "out", "--dry-run", "--json", "--name"]
    for template in ("clean", "{camera}", "{date}"):
        document = json.loads(kpn("denoise", *command, template).stdout)
        assert (len(document["bursts"]), len(document["failed"])) == (1, 2)
        for word in ("IMG_0010.dng", "IMG_0000.dng", "could both become", "--name", "{time}"):
            assert word in document["failed"][0]["error"]
        assert "its own -o" not in document["failed"][0]["error"]  # would not help
    assert len(json.loads(kpn("denoise", *command, "{time}").stdout)["bursts"]) == 3


def test_no_file_is_opened_twice_to_find_the_bursts(tmp_path, monkeypatch):
    write_bursts(tmp_path, 2)
    monkeypatch.setattr(plan, "is_result", lambda path: pytest.fail("read once more"))
    read = []

    def once(path):
        read.append(path)
        return read_capture(path)

    found = plan.make_plan(
        [tmp_path], Options(tmp_path, name="{first}-{time}-{iso}"), plan.GroupingOptions(), once
    )
    assert [job.name for job in found.jobs] == ["IMG_0000-120000-800", "IMG_0010-120010-800"]
    assert sorted(read) == sorted(tmp_path.iterdir())


@pytest.mark.parametrize(("system", "clash"), [("linux", 0), ("darwin", 1)])
def test_names_that_differ_by_their_case_are_one_name_on_macos(
    tmp_path, monkeypatch, system, clash
):
    write_frame(tmp_path / "IMG_1.dng", 0)
    write_frame(tmp_path / "img_1.dng", 100)
    monkeypatch.setattr("kpn_cli.batch.clashes.sys.platform", system)
    document = json.loads(kpn("denoise", tmp_path, "--dry-run", "--json").stdout)
    assert len(document["failed"]) == clash


def test_an_input_is_not_replaced_by_a_name_in_another_case(tmp_path):
    write_frame(tmp_path / "IMG_1.DNG", 0)
    document = json.loads(
        kpn(
            "denoise", tmp_path, "-o", tmp_path, "--name", "{reference}", "--overwrite",
            "--dry-run", "--json",
        ).stdout
    )  # fmt: skip
    assert "IMG_1.dng: would replace an input" in document["failed"][0]["error"]
    assert document["failed"][0]["error"].endswith("or another --name")


def test_sidecars_and_the_report_follow_the_template(tmp_path, weights):
    card, out = tmp_path / "card", tmp_path / "out"
    write_frame(card / "a.dng", 0)
    (card / "a.xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"/></rdf:RDF></x:xmpmeta>'
    )
    how = [card, "-o", out, "--weights", weights, "--format", "dng", "--name", "{camera}"]
    (done,) = denoised(*how, "--report")["bursts"]
    assert {name: Path(path).name for name, path in done["outputs"].items()} == {
        "dng": "X1.dng",
        "xmp": "X1.xmp",
    }
    page = (out / "report.html").read_text("utf-8")
    assert "X1.dng" in page and "{camera}" in page
    (out / "X1.xmp").unlink()
    (again,) = denoised(*how, "--report")["bursts"]
    assert again["skipped"] and (out / "X1.xmp").exists()


@pytest.mark.parametrize("formats", ["dng", "jpeg,dng", "linear"])
def test_a_finished_burst_knows_its_reference_whatever_the_names(tmp_path, weights, formats):
    write_bursts(tmp_path / "in", 1, frames=3)
    (tmp_path / "in" / "IMG_0002.dng").rename(tmp_path / "in" / "IMG_0002 ä.dng")
    how = [tmp_path / "in", "-o", tmp_path / "out", "--weights", weights, "--format", formats]
    how += ["--reference", "2", "--name", "x"]
    references = [denoised(*how)["bursts"][0]["reference"] for _ in "ab"]
    assert references == [str(tmp_path / "in" / "IMG_0002 ä.dng")] * 2


def test_the_library_fills_in_names_too(tmp_path, weights):
    from kpn_cli.pipeline.denoise import denoise

    write_bursts(tmp_path / "in", 1)
    how = Options(tmp_path / "out", name="{first}+{frames}", formats="jpeg", weights=weights)
    result = denoise([tmp_path / "in"], how)
    assert result.outputs["jpeg"].name == "IMG_0000+2.jpg"
    assert denoise([tmp_path / "in"], how).skipped


def test_default_names_are_those_of_earlier_versions(tmp_path):
    made = outputs.output_paths(tmp_path / "a:b.CR2", tmp_path, tuple(FORMATS))
    assert [path.name for path in made.values()] == [
        "a:b_kpn.dng",
        "a:b_kpn_linear.tif",
        "a:b_kpn_srgb.tif",
        "a:b_kpn.jpg",
    ]
