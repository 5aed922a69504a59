"""The report: everything that was done is on the page, and nothing a file says can break it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pictures import texture
from PIL import Image

from kpn_cli.batch import report, report_crops, report_page, report_pictures, run
from kpn_cli.batch.overlap import denoise_all
from kpn_cli.batch.plan import Grouping, Job
from kpn_cli.batch.report_pictures import Part
from kpn_cli.burst.frame import Frame
from kpn_cli.cli.app import main
from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.merge.merge import Denoised
from kpn_cli.noise.selection import NoiseReport
from kpn_cli.output.develop import develop, upright_size
from kpn_cli.pipeline import fingerprint, loading, outputs
from kpn_cli.pipeline.denoise import Computed
from kpn_cli.pipeline.options import Options
from kpn_cli.pipeline.result import Failure, Result
from kpn_cli.raw import tags
from kpn_cli.raw.info import RawInfo
from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.synthesis import demo
from kpn_cli.synthesis.photos import Scene

EVIL = "<img src=x onerror=alert(1)>&quot;.dng"
NOISE = NoiseModel.uniform(1e-3, 1e-5)
TORCHRUN = Path(sys.executable).with_name("torchrun")
CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")


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


def picture(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)), np.float64)


def denoised(*arguments: object, code: int = 0) -> dict:
    command = ["denoise", *(str(argument) for argument in arguments), "--json"]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def write_burst(folder: Path, frames: int, seed: int) -> list[Path]:
    whole = demo.bundled_scene()
    part = Scene("part", np.ascontiguousarray(whole.channels[:, 300:500, 400:640]))
    return demo.write_burst(part, folder, frames=frames, gain=1, seed=seed)[0]


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


def test_every_burst_is_there_with_its_facts(batch):
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
        for stage in burst["timings"]:
            assert stage in page.text
    assert "from the NoiseProfile" in page.text
    assert "1 dropped" in page.text


def test_links_lead_to_the_outputs(batch):
    out, said = batch
    targets = {link["href"] for link in Page(out / "report.html").all("a")}
    files = {bytes(out) + b"/" + unquote_to_bytes(t) for t in targets if not t.startswith("#")}
    written = {path for burst in said["bursts"] for path in burst["outputs"].values()}
    assert len(files) == len(written) == 4
    assert all(Path(file.decode("utf-8", "surrogateescape")).is_file() for file in files)


def test_what_failed_is_there(batch):
    out, said = batch
    page = Page(out / "report.html")
    assert len(said["failed"]) == 1
    assert said["failed"][0]["error"] in page.text


def test_names_stay_text(batch):
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


# --- places -----------------------------------------------------------------


def info_of(height: int, width: int, **changes) -> RawInfo:
    info = RawInfo(
        path=Path("a.dng"), make="", model="", phase="RGGB", height=height, width=width,
        black=(0.0,) * 4, white=1.0, iso=None, exposure_time=None, f_number=None,
        focal_length=None, captured=None, orientation=1, white_balance=(1.0, 1.0, 1.0),
        color_matrix=None, noise_profile=None,
    )  # fmt: skip
    return replace(info, **changes)


def noisy(clean: np.ndarray) -> Frame:
    return Frame(torch.from_numpy(NOISE.sample(clean, np.random.default_rng(0))))


def test_places_show_detail_shadows_smooth_tones_and_what_is_left_as_it_was():
    cells, size = (96, 256), (128, 128)  # four parts side by side, and something below
    quarter = slice(0, 64)
    clean = np.full((4, *cells), 0.3, np.float32)
    clean[:, quarter, 0:64] = 0.3 + 0.5 * (texture(1, 64, 64) - 0.5)
    clean[:, quarter, 64:128] = 0.01 + 0.02 * texture(2, 64, 64)
    clean[:, quarter, 192:] = 0.3 + 0.1 * (texture(3, 64, 64) - 0.5)
    clean[:, 64:] = 1.0  # clipped: as detailed as can be, and nothing to see
    clean[:, 64::2] = 0.98
    reference = noisy(clean)
    reference.samples[:, quarter, 192:] = torch.from_numpy(clean[:, quarter, 192:])
    places = report_crops.choose(reference, clean, NOISE, (192, 512), size)
    wanted = {
        "Most detail": 0,
        "Shadows": 128,
        "Smooth tones": 256,
        "Closest to the reference": 384,
    }
    assert [place.name for place in places] == list(wanted)
    for place in places:
        assert place.box[0] == 0
        assert abs(place.box[1] - wanted[place.name]) <= 32  # a quarter of it


def test_a_picture_no_larger_than_a_part_is_shown_whole():
    clean = np.full((4, 30, 41), 0.3, np.float32)
    places = report_crops.choose(noisy(clean), clean, NOISE, (59, 81), (512, 768))
    assert [(place.name, place.box) for place in places] == [("Whole picture", (0, 0, 59, 81))]


@pytest.mark.parametrize(("height", "width"), [(513, 769), (20, 2000), (2000, 20), (530, 530)])
def test_places_lie_within_the_picture_at_even_pixels(height, width):
    clean = texture(1, height // 2 + 1, width // 2 + 1)[None].repeat(4, 0)
    for place in report_crops.choose(noisy(clean), clean, NOISE, (height, width), (512, 768)):
        top, left, rows, columns = place.box
        assert top % 2 == left % 2 == 0
        assert 0 <= top <= height - rows and 0 <= left <= width - columns
        assert (rows, columns) == (min(512, height), min(768, width))


@pytest.mark.parametrize("orientation", [1, 2, 3, 5, 6, 8])
@pytest.mark.parametrize("phase", ["RGGB", "GBRG", "GRBG"])
def test_parts_are_cut_from_the_upright_picture(orientation, phase, monkeypatch):
    monkeypatch.setattr(report_pictures, "_PART", (48, 80))
    info = info_of(150, 201, orientation=orientation, phase=phase)
    clean = 0.2 + 0.5 * texture(4, 77, 102)[None].repeat(4, 0)
    made = report_pictures.make(info, noisy(clean), clean, NOISE, 10**9)
    whole = develop(info, clean, linear=False) / 257
    assert made.size == upright_size(info) == whole.shape[:2]
    assert len(made.parts) >= 2
    for part in made.parts:
        assert part.box[2:] == (48, 80)
        assert abs(picture(part.after) - cut(whole, part)).mean() < 2
    rows, columns = made.overview_size
    assert picture(made.overview).shape[:2] == (rows, columns)
    assert rows / columns == pytest.approx(made.size[0] / made.size[1], rel=0.03)


def cut(whole: np.ndarray, part: Part) -> np.ndarray:
    top, left, rows, columns = part.box
    return whole[top : top + rows, left : left + columns]


def test_a_dark_burst_is_shown_brighter_before_and_after_alike():
    clean = np.full((4, 32, 48), 0.05, np.float32)
    made = report_pictures.make(info_of(64, 96), noisy(clean), clean, NOISE, 10**9)
    assert made.stops == pytest.approx(4, abs=0.34)
    part = made.parts[0]
    assert picture(part.after).mean() == pytest.approx(picture(part.before).mean(), rel=0.1)
    light = np.full((4, 32, 48), 0.5, np.float32)
    assert report_pictures.make(info_of(64, 96), noisy(light), light, NOISE, 10**9).stops == 0


def test_fewer_pictures_where_there_are_many_bursts():
    assert report.budget(1) == report.budget(50) > report.budget(200) > 0
    clean = 0.2 + 0.5 * texture(4, 300, 450)[None].repeat(4, 0)
    made = report_pictures.make(info_of(600, 900), noisy(clean), clean, NOISE, 1)
    assert len(made.parts) == 1


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
            assert fingerprint.is_made_of(Path(path), mark_of(Path(theirs[reference][name])))


def mark_of(dng_or_jpeg: Path) -> bytes:
    found = tags.read_metadata(dng_or_jpeg)
    if dng_or_jpeg.suffix == ".dng":
        return found.blob(tags.Tag.RAW_DATA_UNIQUE_ID)
    return bytes.fromhex(found.text(tags.Tag.IMAGE_UNIQUE_ID))


def test_a_dry_run_makes_no_page(card, weights, tmp_path):
    denoised(*command(card, tmp_path / "out", weights), "--dry-run")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_report_is_never_replaced(kind, card, batch, weights, tmp_path):
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


def test_what_was_done_before_stays_on_the_page(card, batch, weights, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(batch[0], out)
    said = denoised(*command(card, out, weights), code=1)
    assert all(burst["skipped"] for burst in said["bursts"])
    old, new = Page(batch[0] / "report.html"), Page(out / "report.html")
    assert new.all("img") == old.all("img")
    assert new.text.count("There already") == 2
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


def test_without_pictures_the_page_says_why(card, batch, weights, tmp_path, monkeypatch):
    def fail(*_):
        raise KpnError("LibRaw <cannot>")

    monkeypatch.setattr(report_pictures, "make", fail)
    said = denoised(*command(card, tmp_path, weights), code=1)
    assert len(said["bursts"]) == 2
    assert Page(tmp_path / "report.html").text.count("No pictures: LibRaw <cannot>") == 2


@pytest.mark.parametrize("moment", ["section", "page"])
def test_a_page_that_cannot_be_written_costs_no_burst(
    moment, batch, card, weights, tmp_path, monkeypatch
):
    if moment == "page":

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(report_page, "foot", full)
    else:
        monkeypatch.setattr(report.Sections, "_write", no_space)
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


def no_space(*_):
    raise OSError(28, "No space left on device")


class View:
    """Nobody who looks on; `impatient`, somebody who interrupts after a burst."""

    def __init__(self, impatient=False):
        self.impatient = impatient

    def looking(self, done, total):
        pass

    begin = stage = looking

    def done(self, outcome):
        if self.impatient:
            raise KeyboardInterrupt


@pytest.fixture
def four(weights, tmp_path):
    """Four bursts to be denoised with a report: the first arguments of `run.run`."""
    for number in range(4):
        write_burst(tmp_path / "card" / str(number), 1, number)
    for truth in (tmp_path / "card").glob("*_truth.dng"):
        truth.unlink()
    options = Options(tmp_path / "out", formats=("dng",), weights=weights, report=True)
    return [tmp_path / "card"], options, Grouping(off=True)


def test_an_interrupted_batch_has_the_page_of_what_is_done(four, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run.run(*four, View(impatient=True))
    page = Page(tmp_path / "out" / "report.html")
    bursts = page.source.count('<article class="burst"')
    assert 1 <= bursts < 4
    assert bursts == len(list((tmp_path / "out").rglob("*.dng")))
    assert f"Interrupted after {bursts} of 4 bursts" in page.text


def test_an_interrupted_batch_keeps_what_the_page_knew(four, tmp_path):
    for impatient in (False, True, False):
        try:
            run.run(*four, View(impatient))
        except KeyboardInterrupt:
            assert impatient
        page = Page(tmp_path / "out" / "report.html")
        assert page.source.count('<article class="burst"') == 4
        assert page.source.count("variance =") == 4


def test_the_page_keeps_other_batches_as_long_as_their_pictures_are_there(four, tmp_path):
    (card,), options, how = four
    for path in card.rglob("*.dng"):
        path.rename(path.with_name(f"{path.parent.name}_{path.name}"))
    for number in range(3):
        run.run([card / str(number)], options, how, View())
    page = Page(tmp_path / "out" / "report.html")
    assert page.source.count('<article class="burst"') == page.source.count("variance =") == 3
    outputs_there = sorted((tmp_path / "out").rglob("*.dng"))
    outputs_there[0].unlink()
    run.run([card / "2"], options, how, View())
    page = Page(tmp_path / "out" / "report.html")
    assert page.source.count('<article class="burst"') == len(outputs_there) - 1


def test_whatever_goes_wrong_with_pictures_the_burst_is_done(weights, tmp_path, monkeypatch):
    write_burst(tmp_path / "burst", 1, 0)
    monkeypatch.setattr(report_pictures, "make", lambda *_: 1 / 0)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights, report=True)
    read, mark = loading.read_planes, lambda *_: None
    files = sorted((tmp_path / "burst").glob("*.dng"))
    with report.sections(options, 1) as sections:
        job = Job(tuple(files), tmp_path / "out", "as given")
        (outcome,) = denoise_all([job], options, read=read, sections=sections, on_stage=mark)
        assert outcome.result is not None
        page = report.publish(
            options, [outcome.result], [], [sections.collected], planned=1, seconds=1.0
        )
    assert "No pictures: ZeroDivisionError" in page.read_text("utf-8")


def test_two_processes_make_one_page_in_the_order_of_the_plan(card, batch, weights, tmp_path):
    program = [TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m", "kpn_cli", "denoise"]
    arguments = [*program, *command(card, tmp_path, weights)]
    subprocess.run(arguments, capture_output=True, timeout=250)
    one, two = Page(batch[0] / "report.html"), Page(tmp_path / "report.html")
    assert [image["alt"] for image in two.all("img")] == [image["alt"] for image in one.all("img")]
    assert len(two.all("article")) == 2
    assert not list(tmp_path.glob(".kpn-*"))


# --- in a browser -----------------------------------------------------------


def publish(folder: Path, count: int) -> Path:
    """Write a page of bursts of 640x1600 pixels, without denoising any."""
    soft = cv2.resize(texture(5, 80, 200), (800, 320), interpolation=cv2.INTER_CUBIC)
    clean = 0.2 + 0.5 * soft[None].repeat(4, 0)
    options = Options(folder, report=True)
    results = []
    with report.sections(options, count) as sections:
        for number in range(count):
            path = Path(f"IMG_{number:04d}_with_a_name_that_is_rather_long.dng")
            frames = [path, *(Path(f"frame_{n}.dng") for n in range(4))]
            result = Result(
                path,
                frames,
                outputs.paths_of(path, folder, options.formats),
                dropped={Path("other.dng"): "shows something else"},
                noise=NoiseReport(
                    "measured", NoiseModel((1e-3,) * 4, (1e-5, 2e-5, 1e-5, 1e-5)), "Look!"
                ),
                shifts=[(0, 0), *[(-4, 12)] * 4],
                agreement=[1.0, *[0.8] * 4],
                exposure=[1.0, *[1.1] * 4],
                noise_left=0.1,
                device="cpu",
                seconds=3.0,
                timings={"read": 1.0, "denoise": 2.0},
                mark=bytes([number]) * 16,
            )
            info = info_of(640, 1600, path=path)
            computed = Computed(result.mark, info, Denoised(clean, 0.1), {}, result, noisy(clean))
            results.append(sections.add(computed, result))
        failures = [Failure((Path("a.dng"),), "a.dng: is no raw")]
        return report.publish(
            options, results, failures, [sections.collected], planned=count, seconds=3.0
        )


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return publish(tmp_path_factory.mktemp("page"), 3)


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian's packages of these names)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(CHROMEDRIVER)
    with webdriver.Chrome(options=options, service=service) as driver:
        driver.set_page_load_timeout(120)
        yield driver


@pytest.fixture
def look(chromium, page):
    """Open the page in a window of some size."""

    def open_page(width: int, height: int, *, script: bool = True):
        chromium.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        chromium.get("about:blank")
        chromium.get(page.as_uri())
        return chromium

    return open_page


def one(driver, selector: str):
    return driver.find_element("css selector", selector)


def painted(driver) -> None:
    """Wait until what was changed is on the screen."""
    driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    )


def seen(driver) -> np.ndarray:
    """What a stage shows."""
    driver.execute_script("document.querySelector('.pan').scrollIntoView()")
    painted(driver)  # what comes into sight may take another size
    shot = one(driver, ".pan").screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), np.float64)


def part(driver, kind: str) -> np.ndarray:
    """The first part, as it is on the page."""
    source = one(driver, f".pair .{kind} img").get_attribute("src")
    return picture(base64.b64decode(source.partition(",")[2]))


def test_the_divider_parts_before_from_after_at_100_percent(look):
    driver = look(1280, 900)
    shown, before, after = seen(driver), part(driver, "before"), part(driver, "after")
    assert shown.shape == before.shape == (512, 768, 3)
    # Not the tags above, nor the line in the middle.
    left, right = np.s_[60:500, 4:350], np.s_[60:500, 420:760]
    assert abs(shown[left] - before[left]).mean() < 1 < abs(shown[left] - after[left]).mean()
    assert abs(shown[right] - after[right]).mean() < 1 < abs(shown[right] - before[right]).mean()


def test_arrow_keys_move_the_divider(look):
    from selenium.webdriver.common.keys import Keys

    driver = look(1280, 900)
    slider = one(driver, ".slider")
    assert slider.accessible_name.startswith("Divider")
    slider.send_keys(Keys.ARROW_LEFT * 10)
    assert slider.get_attribute("value") == "40"
    slider.send_keys(Keys.HOME)
    after = part(driver, "after")
    assert abs(seen(driver) - after)[60:500, 40:760].mean() < 1
    slider.send_keys(Keys.END)
    before = part(driver, "before")
    assert abs(seen(driver) - before)[60:500, 8:700].mean() < 1
    assert slider.get_attribute("aria-valuetext") == "100 % before"


def test_a_mouse_takes_the_divider_anywhere(look):
    from selenium.webdriver import ActionChains

    driver = look(1280, 900)
    stage = one(driver, ".pan")
    ActionChains(driver).move_to_element(stage).click_and_hold().move_by_offset(
        -192, 30
    ).release().perform()
    assert float(one(driver, ".slider").get_attribute("value")) == pytest.approx(25, abs=1)


def test_places_are_chosen_by_keys(look):
    from selenium.webdriver.common.keys import Keys

    driver = look(1280, 900)
    first = seen(driver)
    places = driver.find_elements("css selector", ".burst:first-child .places input")
    assert len(places) >= 2
    places[0].send_keys(Keys.ARROW_DOWN)
    assert places[1].is_selected()
    second = seen(driver)
    assert abs(second - first).mean() > 5
    one(driver, "body").send_keys("1")
    assert places[0].is_selected()
    assert abs(seen(driver) - first).mean() < 1


def test_j_and_k_go_from_burst_to_burst(look):
    driver = look(1280, 900)
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]},
    )
    ids = []
    for key in "jjk":
        driver.switch_to.active_element.send_keys(key)
        ids.append(driver.switch_to.active_element.get_attribute("id"))
    assert ids == ["burst-1", "burst-2", "burst-1"]


@pytest.mark.parametrize(("width", "height"), [(360, 740), (390, 844), (1280, 900)])
def test_no_window_is_too_narrow(look, width, height):
    driver = look(width, height)
    for details in driver.find_elements("css selector", "summary"):
        details.click()
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    picture = one(driver, ".pair.on .after img").rect
    assert (picture["width"], picture["height"]) == (768, 512)  # 100 %
    slider = one(driver, ".slider").rect
    assert slider["x"] >= 0 and slider["x"] + slider["width"] <= width
    assert slider["height"] >= 44
    assert [entry for entry in driver.get_log("browser") if entry["level"] != "DEBUG"] == []


def test_on_a_phone_the_divider_stays_in_sight_when_the_picture_moves(look):
    driver = look(360, 740)
    driver.execute_script("document.querySelector('.pan').scrollLeft = 200")
    painted(driver)
    line = one(driver, ".line").rect
    assert line["x"] + line["width"] / 2 == pytest.approx(180, abs=2)
    shown, before, after = seen(driver), part(driver, "before"), part(driver, "after")
    left, right = np.s_[60:500, 4:150], np.s_[60:500, 210:350]
    assert abs(shown[left] - before[:, 200:560][left]).mean() < 1
    assert abs(shown[right] - after[:, 200:560][right]).mean() < 1


def test_without_scripts_both_pictures_are_there(look):
    driver = look(1280, 900, script=False)
    before, after = (one(driver, f".pair .{kind}").rect for kind in ("before", "after"))
    assert min(before["width"], before["height"], after["width"], after["height"]) > 300
    apart = (
        before["x"] + before["width"] <= after["x"] or before["y"] + before["height"] <= after["y"]
    )
    assert apart
    assert not one(driver, ".slider").is_displayed()
    assert len(driver.find_elements("css selector", ".burst:first-child .pair")) >= 2
    look(1280, 900)  # for the tests that follow
