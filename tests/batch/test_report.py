"""The report shows every burst of a run, and no text from a file can break it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from click.testing import CliRunner
from report_pages import burst_result, picture

from kpn_cli.batch import report, report_page, report_pictures, run
from kpn_cli.batch.plan import GroupingOptions, Job, Plan
from kpn_cli.batch.read_ahead import BurstOutcome, denoise_all
from kpn_cli.cli.app import main
from kpn_cli.errors import KpnError
from kpn_cli.output.develop import develop
from kpn_cli.pipeline import fingerprint, loading
from kpn_cli.pipeline.options import Options
from kpn_cli.raw import tags
from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.synthesis import demo
from kpn_cli.synthesis.photos import Scene

EVIL = "<img src=x onerror=alert(1)>&quot;.dng"
TORCHRUN = Path(sys.executable).with_name("torchrun")


class Page(HTMLParser):
    """A page's elements, its text, and the text of its style and script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text, self.inside = "", {"style": "", "script": ""}
        self._open: str = ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self._open = tag
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open in self.inside:
            self.inside[self._open] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def pictures(self, kind: str) -> list[np.ndarray]:
        """Parts before or after, as float arrays of 0 to 255."""
        sources = [image["src"] for image in self.all("img") if image["alt"].startswith(kind)]
        return [picture(base64.b64decode(source.partition(",")[2])) for source in sources]


def denoised(*arguments: object, code: int = 0) -> dict:
    command = ["denoise", *(str(argument) for argument in arguments), "--json"]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def write_burst(folder: Path, frames: int, seed: int) -> list[Path]:
    whole = demo.bundled_scene()
    part = Scene("part", np.ascontiguousarray(whole.channels[:, 300:500, 400:640]))
    return demo.write_demo_burst(part, folder, frames=frames, gain=1, seed=seed)[0]


@pytest.fixture(scope="module")
def card(tmp_path_factory) -> Path:
    """Two bursts, one frame of which is damaged, names that are markup and no UTF-8; no raw."""
    card = tmp_path_factory.mktemp("card")
    files = write_burst(card / "a", 3, 0)
    files[0].rename(files[0].with_name(EVIL))
    files = write_burst(card / "b\udcff", 3, 1)
    files[1].write_bytes(files[1].read_bytes()[:3000])
    (card / "c").mkdir()
    (card / "c" / "broken.dng").write_text("no raw")
    for truth in card.glob("*_truth.dng"):
        truth.unlink()
    return card


@pytest.fixture(scope="module")
def batch(card, weights, tmp_path_factory) -> tuple[Path, dict]:
    """The folder of outputs, and what was said."""
    out = tmp_path_factory.mktemp("out")
    return out, denoised(*command(card, out, weights), code=1)


def command(card: Path, out: Path, weights: Path) -> list[object]:
    return [
        *(card, "-o", out, "--weights", weights, "--format", "dng,jpeg"),
        *("--reference", "first", "--no-group", "--report"),
    ]


# --- what is on the page ----------------------------------------------------


def test_every_burst_is_on_the_page_with_its_facts(batch):
    out, said = batch
    page = Page(Path(said["report"]))
    assert Path(said["report"]) == out / "report.html"
    assert len(said["bursts"]) == len(re.findall(r'<article class="burst"', page.source)) == 2
    for burst in said["bursts"]:
        for frame in (*burst["frames"], *burst["dropped"]):
            assert Path(frame).name in page.text
        for why in burst["dropped"].values():
            assert why in page.text
        assert f"{sum(burst['noise']['shot']) / 4:.3g}" in page.text
        assert f"{burst['noise_left'] ** 0.5:.0%} of \N{GREEK SMALL LETTER SIGMA}" in page.text
        assert f"{burst['fallen_back']:.1%} of the picture" in page.text
        for number, stage in enumerate(burst["timings"]):
            assert stage in page.text
            assert f".s{number} {{ fill:" in page.inside["style"]  # else it is black on black
    assert "from the NoiseProfile" in page.text
    assert "1 dropped" in page.text


def test_links_point_to_the_outputs(batch):
    out, said = batch
    targets = {link["href"] for link in Page(out / "report.html").all("a")}
    files = {bytes(out) + b"/" + unquote_to_bytes(t) for t in targets if not t.startswith("#")}
    written = {path for burst in said["bursts"] for path in burst["outputs"].values()}
    assert len(files) == len(written) == 4
    assert all(Path(file.decode("utf-8", "surrogateescape")).is_file() for file in files)


def test_failures_are_on_the_page(batch):
    out, said = batch
    page = Page(out / "report.html")
    assert len(said["failed"]) == 1
    assert said["failed"][0]["error"] in page.text


def test_names_are_escaped(batch):
    out, _ = batch
    page = Page(out / "report.html")
    assert EVIL in page.text
    assert not [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert len(page.all("script")) == len(page.all("style")) == 1


def test_nothing_is_loaded_and_no_other_script_may_run(batch):
    page = Page(batch[0] / "report.html")
    for tag, attributes in page.elements:
        assert not attributes.get("src", "data:").startswith(("http", "//")), tag
        assert not attributes.get("href", "#").startswith(("http", "//")), tag
        assert "style" not in attributes  # which the policy forbids
    assert "url(" not in page.inside["style"]
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for text in page.inside.values():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_before_is_the_reference_and_after_the_result_which_is_less_noisy(batch):
    out, said = batch
    page = Page(out / "report.html")
    before, after = page.pictures("Before"), page.pictures("After")
    assert len(before) == len(after) == 2
    for number, burst in enumerate(said["bursts"]):
        sources = Path(burst["reference"]), Path(burst["outputs"]["dng"])
        wanted = [developed(path) for path in sources]
        for shown, whole in zip((before[number], after[number]), wanted, strict=True):
            assert abs((shown - whole).mean((0, 1))).max() < 0.5
        # JPEG changes noise, but not by as much as denoising does.
        assert 1.5 * abs(before[number] - wanted[0]).mean() < abs(before[number] - wanted[1]).mean()
        assert 1.5 * abs(after[number] - wanted[1]).mean() < abs(after[number] - wanted[0]).mean()
        assert roughness(after[number]) < 0.8 * roughness(before[number])


def developed(path: Path) -> np.ndarray:
    info = read_info(path)
    return develop(info, read_planes(info), linear=False) / 257


def roughness(rgb: np.ndarray) -> float:
    return float(np.abs(np.diff(rgb, 2, axis=0)).mean())


# --- the file ---------------------------------------------------------------


def test_a_report_changes_no_output(card, batch, weights, tmp_path):
    assert fingerprint.options_digest(Options(report=True)) == fingerprint.options_digest(Options())
    plain = command(card, tmp_path, weights)[:-1]
    said = denoised(*plain, code=1)
    assert "report" not in said
    assert not list(tmp_path.glob("*.html"))
    mine, theirs = ({p["reference"]: p["outputs"] for p in s["bursts"]} for s in (said, batch[1]))
    for reference, files in mine.items():
        for name, path in files.items():
            assert fingerprint.has_fingerprint(Path(path), mark_of(Path(theirs[reference][name])))


def mark_of(dng_or_jpeg: Path) -> bytes:
    found = tags.read_metadata(dng_or_jpeg)
    if dng_or_jpeg.suffix == ".dng":
        return found.blob(tags.Tag.RAW_DATA_UNIQUE_ID)
    return bytes.fromhex(found.text(tags.Tag.IMAGE_UNIQUE_ID))


def test_a_dry_run_makes_no_page(card, weights, tmp_path):
    denoised(*command(card, tmp_path / "out", weights), "--dry-run")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_files_that_are_no_report_are_never_replaced(kind, card, batch, weights, tmp_path):
    page = tmp_path / "report.html"
    if kind == "file":
        page.write_text("<!doctype html><title>my thesis</title>")
    elif kind == "folder":
        page.mkdir()
    else:
        page.symlink_to(batch[0] / "report.html")
    said = denoised(*command(card, tmp_path, weights), code=1)
    assert "no report of kpn" in said["failed"][0]["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]  # nothing was begun


def test_bursts_of_an_earlier_run_stay_on_the_page(card, batch, weights, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(batch[0], out)
    said = denoised(*command(card, out, weights), code=1)
    assert all(burst["skipped"] for burst in said["bursts"])
    old, new = Page(batch[0] / "report.html"), Page(out / "report.html")
    assert new.all("img") == old.all("img")
    assert new.text.count("Outputs existed already") == 2
    assert "from the NoiseProfile" in new.text


def test_without_an_earlier_page_pictures_come_from_the_outputs(card, batch, weights, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(batch[0], out)
    (out / "report.html").unlink()
    denoised(*command(card, out, weights), code=1)
    old, new = Page(batch[0] / "report.html"), Page(out / "report.html")
    for kind in ("Before", "After"):
        for one, other in zip(old.pictures(kind), new.pictures(kind), strict=True):
            assert abs(one - other).mean() < 1


def test_a_section_without_pictures_says_why(card, batch, weights, tmp_path, monkeypatch):
    def fail(*_):
        raise KpnError("LibRaw <cannot>")

    monkeypatch.setattr(report_pictures, "make_pictures", fail)
    said = denoised(*command(card, tmp_path, weights), code=1)
    assert len(said["bursts"]) == 2
    assert Page(tmp_path / "report.html").text.count("No pictures: LibRaw <cannot>") == 2


@pytest.mark.parametrize("moment", ["section", "page"])
def test_a_page_that_cannot_be_written_fails_no_burst(
    moment, batch, card, weights, tmp_path, monkeypatch
):
    if moment == "page":

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(report_page, "foot", full)
    else:
        monkeypatch.setattr(report.SectionWriter, "_write", no_space)
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(batch[0] / "report.html", out)
    said = denoised(*command(card, out, weights), code=1)
    assert [len(burst["outputs"]) for burst in said["bursts"]] == [2, 2]
    assert said["failed"][-1]["files"] == [str(out / "report.html")]
    assert "No space left" in said["failed"][-1]["error"]
    assert "report" not in said
    assert (out / "report.html").read_bytes() == (batch[0] / "report.html").read_bytes()
    assert not list(out.glob(".kpn-*"))


def test_a_fault_in_writing_the_page_hides_no_result(card, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "foot", lambda: 1 / 0)
    said = denoised(*command(card, tmp_path, weights), code=1)
    assert [len(burst["outputs"]) for burst in said["bursts"]] == [2, 2]
    assert "kpn has failed while writing the report" in said["failed"][-1]["error"]


def no_space(*_):
    raise OSError(28, "No space left on device")


class View:
    """Nobody who looks on; `impatient`, somebody who interrupts after a burst."""

    def __init__(self, impatient=False):
        self.impatient = impatient

    def scanning(self, done, total):
        pass

    begin = stage = scanning

    def done(self, outcome):
        if self.impatient:
            raise KeyboardInterrupt


@pytest.fixture
def four(weights, tmp_path):
    """Four bursts to be denoised with a report: the first arguments of `run.run_batch`."""
    for number in range(4):
        write_burst(tmp_path / "card" / str(number), 1, number)
    for truth in (tmp_path / "card").glob("*_truth.dng"):
        truth.unlink()
    options = Options(tmp_path / "out", formats=("dng",), weights=weights, report=True)
    return [tmp_path / "card"], options, GroupingOptions(off=True)


def test_an_interrupted_run_reports_the_finished_bursts(four, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run.run_batch(*four, View(impatient=True))
    page = Page(tmp_path / "out" / "report.html")
    bursts = page.source.count('<article class="burst"')
    assert 1 <= bursts < 4
    assert bursts == len(list((tmp_path / "out").rglob("*.dng")))
    assert f"Interrupted after {bursts} of 4 bursts" in page.text


def test_the_report_of_an_interrupted_run_has_the_order_of_the_plan(tmp_path):
    files = [Path(f"{n}.dng") for n in range(3)]
    plan = Plan([Job((path,), tmp_path, "") for path in files], [])
    results = [burst_result(tmp_path, n, reference=files[n], frames=[files[n]]) for n in range(3)]
    options = Options(tmp_path, report=True)
    with report.collect_sections(options, 3) as sections:
        for n in (2, 0, 1):  # as the workers of a cluster end
            sections.store(results[n], report.whole_section(results[n], "none", tmp_path))
        done = [BurstOutcome(plan.jobs[n], results[n]) for n in (2, 0)]
        run._report_interrupted(plan, done, options, sections, 0.0)
    found = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [Path(line["reference"]).name for line in found] == ["0.dng", "1.dng", "2.dng"]


def test_an_interrupted_run_keeps_the_sections_of_the_old_page(four, tmp_path):
    for impatient in (False, True, False):
        try:
            run.run_batch(*four, View(impatient))
        except KeyboardInterrupt:
            assert impatient
        page = Page(tmp_path / "out" / "report.html")
        assert page.source.count('<article class="burst"') == 4
        assert page.source.count("variance =") == 4


def test_the_page_keeps_sections_of_other_runs_while_their_outputs_exist(four, tmp_path):
    (card,), options, how = four
    for path in card.rglob("*.dng"):
        path.rename(path.with_name(f"{path.parent.name}_{path.name}"))
    for number in range(3):
        run.run_batch([card / str(number)], options, how, View())
    page = Page(tmp_path / "out" / "report.html")
    assert page.source.count('<article class="burst"') == page.source.count("variance =") == 3
    outputs_there = sorted((tmp_path / "out").rglob("*.dng"))
    outputs_there[0].unlink()
    run.run_batch([card / "2"], options, how, View())
    page = Page(tmp_path / "out" / "report.html")
    assert page.source.count('<article class="burst"') == len(outputs_there) - 1


def test_errors_in_the_pictures_never_fail_a_burst(weights, tmp_path, monkeypatch):
    write_burst(tmp_path / "burst", 1, 0)
    monkeypatch.setattr(report_pictures, "make_pictures", lambda *_: 1 / 0)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights, report=True)
    read, mark = loading.read_packed, lambda *_: None
    files = sorted((tmp_path / "burst").glob("*.dng"))
    with report.collect_sections(options, 1) as sections:
        job = Job(tuple(files), tmp_path / "out", "as given")
        (outcome,) = denoise_all([job], options, read=read, sections=sections, on_stage=mark)
        assert outcome.result is not None
        page = report.publish(
            options, [outcome.result], [], [sections.collected], planned=1, seconds=1.0
        )
    text = page.read_text("utf-8")
    assert "No pictures: kpn has failed while drawing the report" in text
    assert "ZeroDivisionError in " in text


def test_two_processes_make_one_page_in_the_order_of_the_plan(card, batch, weights, tmp_path):
    program = [TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m", "kpn_cli", "denoise"]
    arguments = [*program, *command(card, tmp_path, weights)]
    subprocess.run(arguments, capture_output=True, timeout=250)
    one, two = Page(batch[0] / "report.html"), Page(tmp_path / "report.html")
    assert [image["alt"] for image in two.all("img")] == [image["alt"] for image in one.all("img")]
    assert len(two.all("article")) == 2
    assert not list(tmp_path.glob(".kpn-*"))
