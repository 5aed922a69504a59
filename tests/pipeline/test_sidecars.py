"""XMP sidecars of the reference become those of the result, and nobody's own is replaced."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
import tifffile
from cards import denoised, digests, write_bursts, write_frame
from xmp_documents import document

from kpn_cli.errors import KpnError
from kpn_cli.output import xmp, xmp_edit
from kpn_cli.pipeline import outputs, sidecars

CRS = "http://ns.adobe.com/camera-raw-settings/1.0/"
RATING = "{http://ns.adobe.com/xap/1.0/}Rating"
SMOOTHING = f"{{{CRS}}}LuminanceSmoothing"
MARK = bytes(range(16))


def settings(rating: int) -> bytes:
    return document("", f'xmlns:crs="{CRS}" xap:Rating="{rating}" crs:LuminanceSmoothing="25"')


@pytest.fixture
def one(tmp_path) -> Path:
    write_frame(tmp_path / "in" / "bär.DNG", 0)
    return tmp_path / "in" / "bär.DNG"


def run(one: Path, weights: Path, *more: object, code: int = 0) -> dict:
    out = one.parents[1] / "out"
    how = ("--format", "dng", "--weights", weights)
    return denoised(one, "-o", out, *how, *more, code=code)


def read(path: str | Path) -> xmp.Xmp:
    return xmp.parse(Path(path).read_bytes())


def embedded(path: str | Path) -> xmp.Xmp:
    with tifffile.TiffFile(path) as file:
        return xmp.parse(file.pages[0].tags[700].value)


@pytest.mark.parametrize(
    ("beside", "key", "name"),
    [
        ("bär.xmp", "xmp", "bär_kpn.xmp"),
        ("bär.XMP", "xmp", "bär_kpn.xmp"),
        ("bär.DNG.xmp", "dng_xmp", "bär_kpn.dng.xmp"),
        ("bär.dng.Xmp", "dng_xmp", "bär_kpn.dng.xmp"),
        ("ba\u0308r.xmp", "xmp", "bär_kpn.xmp"),  # as macOS spells it
    ],
)
def test_a_sidecar_is_carried_over_under_the_results_name(one, weights, beside, key, name):
    (one.parent / beside).write_bytes(settings(5))
    before = digests(one.parent)
    (done,) = run(one, weights)["bursts"]
    assert sorted(done["outputs"]) == sorted(["dng", key])
    assert Path(done["outputs"][key]).name == name
    for result in (read(done["outputs"][key]), embedded(done["outputs"]["dng"])):
        assert (result.get(RATING), result.get(SMOOTHING)) == ("5", "0")
    assert digests(one.parent) == before


def test_of_two_sidecars_each_is_carried_over_and_adobes_counts_in_the_dng(one, weights):
    (one.parent / "bär.xmp").write_bytes(settings(5))
    (one.parent / "bär.DNG.xmp").write_bytes(settings(4))
    (done,) = run(one, weights, "--strength", "0")["bursts"]
    paths = done["outputs"]
    assert [read(paths[key]).get(RATING) for key in ("xmp", "dng_xmp")] == ["5", "4"]
    assert embedded(paths["dng"]).get(RATING) == "5"
    assert read(paths["xmp"]).get(SMOOTHING) == embedded(paths["dng"]).get(SMOOTHING) == "25"


def test_sidecars_of_other_photos_are_left_alone(one, weights):
    for name in ("bär2.xmp", "bär.NEF.xmp", "bär.xmp.txt", ".bär.xmp", "r.xmp"):
        (one.parent / name).write_bytes(settings(5))
    (done,) = run(one, weights)["bursts"]
    assert list(done["outputs"]) == ["dng"]


@pytest.mark.parametrize("what", ["broken", "folder", "pipe", "large", "loop"])
def test_a_sidecar_that_cannot_be_read_is_left_out_with_a_line(one, weights, what):
    path = one.parent / "bär.xmp"
    if what == "broken":
        path.write_bytes(b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>")
    elif what == "folder":
        path.mkdir()
    elif what == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("the system has no pipes")
        os.mkfifo(path)
    elif what == "large":
        with path.open("wb") as file:
            file.truncate(xmp.MAX_BYTES + 1)
    else:
        path.symlink_to(path.name)
    (done,) = run(one, weights)["bursts"]
    assert list(done["outputs"]) == ["dng"]
    (note,) = done["notes"]
    assert note.startswith("bär.xmp is left out of the result: ")
    assert run(one, weights)["bursts"][0]["skipped"]


def test_pictures_without_a_dng_have_no_sidecar(one, weights):
    (one.parent / "bär.xmp").write_bytes(settings(5))
    (done,) = run(one, weights, "--format", "srgb,jpeg")["bursts"]
    assert sorted(done["outputs"]) == ["jpeg", "srgb"]


# --- resuming ---------------------------------------------------------------------------


def test_a_finished_burst_is_recognised_with_its_sidecar_as_the_user_left_it(one, weights):
    (one.parent / "bär.xmp").write_bytes(settings(5))
    (done,) = run(one, weights)["bursts"]
    edited = Path(done["outputs"]["xmp"])
    edited.write_bytes(settings(1))
    before = digests(edited.parent)
    (again,) = run(one, weights)["bursts"]
    assert again["skipped"] and again["outputs"] == done["outputs"]
    assert digests(edited.parent) == before
    (new,) = run(one, weights, "--overwrite")["bursts"]
    assert read(new["outputs"]["xmp"]).get(RATING) == "5"


def test_a_sidecar_that_is_missing_beside_a_finished_dng_is_added_without_denoising(one, weights):
    (done,) = run(one, weights)["bursts"]
    before = Path(done["outputs"]["dng"]).read_bytes()
    time.sleep(0.01)  # so that the folder's time tells the new file
    (one.parent / "bär.xmp").write_bytes(settings(5))
    (again,) = run(one, weights)["bursts"]
    assert again["skipped"]
    result = read(again["outputs"]["xmp"])
    assert (result.get(RATING), result.get(SMOOTHING)) == ("5", "0")
    assert Path(done["outputs"]["dng"]).read_bytes() == before
    stamp = Path(again["outputs"]["xmp"]).read_bytes()
    assert run(one, weights)["bursts"][0]["skipped"]
    assert Path(again["outputs"]["xmp"]).read_bytes() == stamp


def test_a_sidecar_of_an_interrupted_run_is_written_again_with_its_dng(one, weights):
    (one.parent / "bär.xmp").write_bytes(settings(5))
    (done,) = run(one, weights)["bursts"]
    Path(done["outputs"]["dng"]).unlink()
    (one.parent / "bär.xmp").write_bytes(settings(3))
    (again,) = run(one, weights)["bursts"]
    assert not again["skipped"]
    assert read(again["outputs"]["xmp"]).get(RATING) == "3"
    assert embedded(again["outputs"]["dng"]).get(RATING) == "3"


def test_beside_a_finished_dng_a_sidecar_is_the_users_whatever_it_holds(one, weights):
    """Also where another output is missing, so that the burst is denoised again."""
    (one.parent / "bär.xmp").write_bytes(settings(5))
    (done,) = run(one, weights)["bursts"]
    own = Path(done["outputs"]["xmp"])
    own.write_bytes(settings(1))  # without the fingerprint
    (again,) = run(one, weights, "--format", "dng,jpeg")["bursts"]
    assert Path(again["outputs"]["jpeg"]).exists()
    assert own.read_bytes() == settings(1)


def test_a_sidecar_that_is_not_ours_is_refused_where_the_dng_is_missing(one, weights):
    (one.parent / "bär.xmp").write_bytes(settings(5))
    (done,) = run(one, weights)["bursts"]
    Path(done["outputs"]["dng"]).unlink()
    own = Path(done["outputs"]["xmp"])
    own.write_bytes(settings(1))
    assert "already exists, made not by kpn" in run(one, weights, code=1)["failed"][0]["error"]
    assert own.read_bytes() == settings(1)


def test_a_users_own_sidecar_is_replaced_with_overwrite_only(one, weights):
    (one.parent / "bär.xmp").write_bytes(settings(5))
    own = one.parents[1] / "out" / "bär_kpn.xmp"
    own.parent.mkdir()
    own.write_bytes(settings(1))
    document = run(one, weights, code=1)
    assert "bär_kpn.xmp: already exists" in document["failed"][0]["error"]
    assert own.read_bytes() == settings(1)
    run(one, weights, "--overwrite")
    assert read(own).get(RATING) == "5"


def test_a_sidecar_of_an_input_is_never_replaced(tmp_path, weights):
    folder = tmp_path / "in"
    write_frame(folder / "a.dng", 0)
    write_frame(folder / "a_kpn.pef", 100)  # so called by a user
    (folder / "a.xmp").write_bytes(settings(5))
    (folder / "a_kpn.xmp").write_bytes(settings(1))
    before = digests(folder)
    how = ("--format", "dng", "--weights", weights, "--overwrite")
    failed = denoised(folder, "-o", folder, *how, code=1)["failed"]
    assert ["a_kpn.xmp: would replace an input" in each["error"] for each in failed] == [True]
    assert digests(folder).items() >= before.items()


def test_names_of_sidecars_of_inputs_are_taken_in_any_case(tmp_path):
    photos = outputs.Inputs(frozenset({tmp_path / "IMG_1.NEF"}))
    for name in ("IMG_1.xmp", "img_1.XMP", "IMG_1.nef.xmp"):
        with pytest.raises(KpnError, match="would replace an input"):
            photos.check([tmp_path / name])
    photos.check([tmp_path / "IMG_1_kpn.xmp", tmp_path / "x" / "IMG_1.xmp"])


def test_a_burst_has_the_sidecar_of_its_reference(tmp_path, weights):
    write_bursts(tmp_path / "in", 1, frames=3)
    (tmp_path / "in" / "IMG_0001.xmp").write_bytes(settings(5))
    shutil.copy(tmp_path / "in" / "IMG_0001.xmp", tmp_path / "in" / "IMG_0002.xmp")
    how = ("--format", "dng", "--weights", weights, "--reference", "1")
    (done,) = denoised(tmp_path / "in", "-o", tmp_path / "out", *how)["bursts"]
    assert Path(done["outputs"]["xmp"]).name == "IMG_0001_kpn.xmp"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "IMG_0001_kpn.dng", "IMG_0001_kpn.xmp"]  # fmt: skip


def test_a_sidecar_holds_the_fingerprint(tmp_path):
    edit = xmp_edit.Edit(True, None, MARK, MARK)
    (tmp_path / "a.dng").touch()
    (tmp_path / "a.xmp").write_bytes(settings(5))
    assert sidecars.usable_sidecars(tmp_path / "a.dng") == ["xmp"]
    paths = {"xmp": tmp_path / "a_kpn.xmp"}
    sidecars.write_sidecars(tmp_path / "a.dng", paths, edit, replace=False)
    assert outputs.has_fingerprint(paths["xmp"], MARK)
    assert not outputs.has_fingerprint(paths["xmp"], bytes(16))
    assert not outputs.has_fingerprint(tmp_path / "a.xmp", MARK)
