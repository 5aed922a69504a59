"""What kpn inspect shows is what denoising does, at the right place, the right way up."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from pictures import planes
from PIL import Image

from kpn_cli.align import warp
from kpn_cli.burst.frame import coefficients
from kpn_cli.cli.app import main
from kpn_cli.errors import KpnError
from kpn_cli.image import orientation
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.inspection import drawing, inspect, places, weight_maps
from kpn_cli.inspection.inspect import Inspection
from kpn_cli.network.kpn import KPN
from kpn_cli.network.weights import load_weights, save_weights
from kpn_cli.noise.selection import given_noise
from kpn_cli.output.dng_writer import write_cfa_dng
from kpn_cli.pipeline import denoise, loading
from kpn_cli.pipeline.options import Options
from kpn_cli.synthesis.camera import Camera, write_frames
from kpn_cli.synthesis.protocol import noise_of_gain

_START = datetime(2026, 1, 1, 12)
ORIENTATIONS = range(1, 9)


def kpn(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def write_burst(folder: Path, clean: np.ndarray, noise: NoiseModel) -> list[Path]:
    """Write noiseless frames `(frames, 4, rows, columns)` with noise added."""
    folder.mkdir(parents=True, exist_ok=True)
    noisy = noise.sample(clean, np.random.default_rng(0))
    return write_frames(folder, noisy, noise, Camera(phase="RGGB"), _START, "demo")


def still(count: int, height: int, width: int) -> np.ndarray:
    return np.repeat(0.6 * planes(5, height, width)[None], count, 0)


def options(folder: Path, weights: Path | None, **changes: object) -> Options:
    how = {"reference": "first", "precision": "fp32", "overwrite": True} | changes
    return Options(folder, weights=weights, **how)


@pytest.fixture(scope="module")
def lively(tmp_path_factory, tiny_config) -> Path:
    """A tiny network whose kernels differ from tap to tap."""
    torch.manual_seed(0)
    network = KPN(tiny_config)
    with torch.no_grad():
        network.head_weight.mul_(30)
        network.head_bias.normal_(0, 0.02)
    path = tmp_path_factory.mktemp("lively") / "lively.safetensors"
    save_weights(path, network, {})
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> list[Path]:
    """Three frames of 48 x 60 cells."""
    folder = tmp_path_factory.mktemp("small") / "burst"
    return write_burst(folder, still(3, 48, 60), noise_of_gain(1))


def whole_picture(paths: list[Path], how: Options) -> tuple[torch.Tensor, KPN]:
    """Kernels of all cells, from one call of the network: `(frames or more, K, K, h, w)`."""
    loaded = loading.load(paths, how, "")
    found, noise = denoise.line_up(
        loaded, given_noise(loaded.infos[0], how.noise), torch.device("cpu")
    )
    network, _ = load_weights(how.weights)
    burst = warp.aligned_part(
        found.frames, found.shifts, *(slice(0, side) for side in found.frames[0].size)
    )
    with torch.inference_mode():
        kernels, _ = network(burst[None], *coefficients(noise.model, torch.device("cpu")))
    return kernels[0].unflatten(1, (network.config.kernel,) * 2), network


# --- kernels ----------------------------------------------------------------


@pytest.mark.parametrize("at", [(260, 60), (3, 1), (519, 119)])
def test_kernels_of_the_network_that_ships_are_those_of_the_whole_picture(tmp_path, at):
    """The picture is wider than what is looked at, so what is seen of it has to be enough."""
    paths = write_burst(tmp_path / "burst", still(2, 60, 260), noise_of_gain(2))
    how = options(tmp_path, None)
    found = inspect.inspect(paths, how, [at])
    (look,) = found.looks.values()
    kernels, _ = whole_picture(paths, how)
    here = kernels[..., at[1] // 2, at[0] // 2].numpy()
    np.testing.assert_allclose(look.kernels, here[:2] / 2, atol=2e-5)
    np.testing.assert_allclose(look.wide, here[2], atol=2e-5)
    assert np.ptp(here[:2]) > 0.05


@pytest.mark.parametrize("count", [1, 3, 10])
def test_weights_sum_to_1_also_of_frames_in_groups(tmp_path, lively, count):
    paths = write_burst(tmp_path / "burst", still(count, 40, 44), noise_of_gain(1))
    found = inspect.inspect(paths, options(tmp_path, lively), [(30, 30)])
    (look,) = found.looks.values()
    assert found.maps.weights.shape == (count, 40, 44)
    np.testing.assert_allclose(found.maps.weights.sum(0), 1, atol=1e-5)
    assert look.weights.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(look.weights, found.maps.weights[:, 15, 15], atol=1e-5)


def test_what_is_shown_is_what_denoising_does(tmp_path, small, lively):
    how = options(tmp_path, lively, strength=1.5, tile=64)
    found = inspect.inspect(small, how, [(60, 50)])
    loaded = loading.load(small, how, "")
    done = denoise.compute(loaded, how, denoise.Engine(how))
    np.testing.assert_allclose(found.maps.clean, done.done.planes, atol=1e-6)
    assert found.maps.noise_left == pytest.approx(done.result.noise_left, rel=1e-5)
    assert found.maps.fallen_back == pytest.approx(done.result.fallen_back, abs=1e-3)
    assert found.median_shifts == done.result.shifts
    assert found.noise == done.result.noise
    (look,) = found.looks.values()
    y, x = look.middle
    np.testing.assert_allclose(look.clean[:, y, x], done.done.planes[:, 25, 30], atol=2e-5)


def test_the_network_is_told_the_noise_times_the_strength(tmp_path, small, lively):
    told = [
        inspect.inspect(small, options(tmp_path, lively, strength=strength), [(9, 9)])
        for strength in (1.0, 2.0)
    ]
    np.testing.assert_allclose(told[1].maps.sigma, 2 * told[0].maps.sigma, rtol=1e-5)
    signal = told[0].maps.reference.mean()
    expected = np.sqrt(np.mean(told[0].noise.model.variance(np.full((4, 1, 1), signal))))
    assert told[0].maps.sigma.mean() == pytest.approx(expected, rel=0.05)


# --- what the shipped network has learned -----------------------------------


def test_on_what_moves_the_network_leans_on_the_reference(tmp_path):
    """A disc is where it is in the reference alone; in the other frames it is elsewhere."""
    clean = still(4, 96, 160)
    rows, columns = np.mgrid[:96, :160]
    for number in range(4):
        disc = np.hypot(rows - 48, columns - (40 + 30 * number)) < 13
        clean[number][:, disc] = 0.95 - 0.5 * planes(9, 96, 160)[:, disc]
    paths = write_burst(tmp_path / "burst", clean, noise_of_gain(1))
    found = inspect.inspect(paths, options(tmp_path, None), [(80, 96), (240, 24)])
    on, away = (look.weights[0] for look in found.looks.values())
    reference = found.maps.weights[0]
    assert on > 0.8
    assert reference[42:54, 34:46].mean() > 0.8
    assert reference[5:25, 100:150].mean() < 0.4
    assert away < 0.5 * on
    # Of the places that are picked without being told, one is there.
    (place,) = [p for p in places.telling(found.info, found.maps) if p.why == "motion"]
    assert min(np.hypot(place.y / 2 - 48, place.x / 2 - 40 - 30 * n) for n in range(4)) < 16


def test_told_more_noise_kernels_widen_and_less_noise_is_left(tmp_path):
    paths = write_burst(tmp_path / "burst", still(3, 80, 80), noise_of_gain(1))
    found = inspect.inspect(paths, options(tmp_path, None), [(80, 80)], scales=(0.25, 0.5, 1, 2))
    ((place, looks),) = found.scaled.items()
    radius, left = ([getattr(look, name) for look in looks] for name in ("radius", "noise_left"))
    assert radius == sorted(radius) and radius[-1] > 2 * radius[0]
    assert left == sorted(left, reverse=True) and left[-1] < 0.5 * left[0]
    # The same texture is all over the picture.
    assert left[2] == pytest.approx(found.maps.noise_left, rel=0.3)
    # Scale 1 is what denoising does.
    np.testing.assert_array_equal(looks[2].kernels, found.looks[place].kernels)


# --- places and orientations ------------------------------------------------


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_places_of_the_upright_picture_are_found_on_the_sensor(turn):
    rows, columns = 5, 7
    index = np.arange(rows * columns).reshape(rows, columns)
    upright = orientation.upright(index, turn)
    for y, x in np.ndindex(upright.shape):
        place = orientation.sensor_place(x, y, (rows, columns), turn)
        assert index[place] == upright[y, x]
        assert orientation.upright_place(*place, (rows, columns), turn) == (x, y)


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_vectors_turn_with_the_picture(turn):
    """Each vector is the way from its place to the next one: turned, it still is."""
    rows, columns = np.mgrid[:4, :6]
    upright = orientation.upright(np.stack([rows, columns], -1), turn)
    down = np.broadcast_to([1, 0], (4, 6, 2))
    y, x = orientation.upright_vectors(down, turn)[1, 1]
    assert (upright[1 + y, 1 + x] - upright[1, 1]).tolist() == [1, 0]


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_a_turned_burst_shows_the_same_kernels_turned(tmp_path, small, lively, turn):
    camera, noise = Camera(phase="GRBG"), noise_of_gain(1)
    noisy = noise.sample(still(3, 48, 60), np.random.default_rng(0))
    for n, frame in enumerate(noisy):
        tags = replace(camera.tags(noise, _START, "m"), orientation=turn)
        write_cfa_dng(tmp_path / f"{n}.dng", camera.record(frame), tags)
    at = orientation.upright_place(40, 81, (96, 119), turn)
    found = inspect.inspect([tmp_path], options(tmp_path / "out", lively), [at])
    (place,) = found.looks
    # GRBG begins in the middle of a cell, so 60 of them are 119 columns.
    assert place.cell == (20, 41)
    look = found.looks[place]
    straight = inspect.inspect(
        [tmp_path],
        options(tmp_path / "out", lively),
        [(81, 40)],
        read=lambda path: (
            replace(loading.read_planes(path)[0], orientation=1),
            loading.read_planes(path)[1],
        ),
    )
    (expected,) = straight.looks.values()
    assert (found.info.orientation, straight.info.orientation) == (turn, 1)
    for turned, lying in (
        *zip(look.kernels, expected.kernels, strict=True),
        (look.wide, expected.wide),
        *zip(look.clean, expected.clean, strict=True),
        *zip(found.maps.weights, straight.maps.weights, strict=True),
    ):
        np.testing.assert_array_equal(turned, orientation.upright(lying, turn))
    assert look.clean[0][look.middle] == expected.clean[0][expected.middle]


@pytest.mark.parametrize("at", ["120,5", "5,96", "-1,5", "5,-1"])
def test_a_place_outside_of_the_picture_is_refused_with_its_size(tmp_path, small, weights, at):
    result = kpn("inspect", *small, "-o", tmp_path / "o", "--weights", weights, "--at", at)
    assert result.exit_code == 1
    assert "120 x 96" in result.stderr and at in result.stderr
    assert not list((tmp_path / "o").iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--at", "5"],
        ["--at", "5,x"],
        ["--at", "1,2,3"],
        ["--noise-scale", "0,1"],
        ["--noise-scale", "a"],
        ["--noise-scale", "nan"],
        ["--noise-scale", "1e9"],
        ["--strength", "9"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    assert kpn("inspect", "a.dng", *arguments).exit_code == 2


def test_what_has_no_kernels_is_refused(tmp_path, small, tiny_config, weights):
    path = tmp_path / "pixels.safetensors"
    save_weights(path, KPN(replace(tiny_config, output="pixels", wide=False)), {})
    with pytest.raises(KpnError, match="no kernels"):
        inspect.inspect(small, options(tmp_path, path))
    with pytest.raises(KpnError, match="no kernels"):
        inspect.inspect(small, options(tmp_path, weights, strength=0))


def test_places_are_picked_even_in_a_black_picture(tmp_path, weights):
    paths = write_burst(tmp_path / "burst", np.zeros((1, 4, 20, 20)), noise_of_gain(1))
    found = inspect.inspect(paths, options(tmp_path, weights))
    assert all(0 <= place.x < 40 and 0 <= place.y < 40 for place in found.looks)
    assert found.looks


# --- maps -------------------------------------------------------------------


def test_maps_of_large_pictures_are_means_of_small_ones(tmp_path, lively, monkeypatch):
    """Whatever the tiles; 4 does not divide 70 and 90."""
    paths = write_burst(tmp_path / "burst", still(2, 70, 90), noise_of_gain(1))
    full = inspect.inspect(paths, options(tmp_path, lively, tile=64), [(9, 9)]).maps
    monkeypatch.setattr(weight_maps, "_LONG", 23)
    pooled = inspect.inspect(paths, options(tmp_path, lively, tile=64), [(9, 9)]).maps
    assert (full.cells, pooled.cells) == (1, 4)
    for name in ("weights", "share", "clean", "reference"):
        whole, small = getattr(full, name), getattr(pooled, name)
        assert small.shape[-2:] == (18, 23)
        for row, column in ((0, 0), (7, 11), (17, 22)):
            block = whole[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_allclose(small[..., row, column], block.mean((-2, -1)), atol=1e-6)


# --- pictures and the page --------------------------------------------------


def test_colour_scales_are_what_they_claim():
    ends = drawing.diverging(np.array([0, 0.5, 1, -3, 7, np.nan]))
    assert ends[0, 2] > ends[0, 0] and ends[2, 0] > ends[2, 2]  # blue, red
    assert np.ptp(ends[1]) <= 3 and ends[1].min() > 240
    np.testing.assert_array_equal(ends[[3, 4]], ends[[0, 2]])
    grey = drawing.sequential(np.linspace(0, 1, 50)) @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) > 0).all()
    still = drawing.directions(np.zeros((2, 2, 2)), 5)
    assert (still == 255).all()
    right, down = drawing.directions(np.array([[0.0, 5], [5, 0]]), 5)
    assert np.abs(right.astype(int) - down).max() > 100


def test_names_are_cut_in_the_middle_and_never_too_wide():
    long = "a_very_long_name_of_a_file_that_ends_in_0412.dng"
    short = drawing.shortened(long, 120)
    assert "..." in short and short.endswith("12.dng")
    assert drawing.text(short).width <= 121 * drawing.SCALE
    assert drawing.shortened("é中\n.dng", 200) == "???.dng"


def inspected(folder: Path, *arguments: object) -> dict:
    result = kpn("inspect", *arguments, "-o", folder, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_the_command_writes_pictures_a_page_and_their_numbers(tmp_path, small, lively):
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
    place = document["places"][0]
    assert (place["x"], place["y"]) == (60, 50)
    assert np.array(place["kernels"]).shape == (3, 5, 5)
    assert sum(place["weights"]) == pytest.approx(1, abs=1e-5)
    assert [each["scale"] for each in place["noise_scales"]] == [0.5, 2]
    assert sum(document["mean_weights"]) == pytest.approx(1, abs=1e-5)
    # Again, elsewhere: the same bytes. In the same folder, of other places: no leftovers.
    inspected(tmp_path / "again", *same, "--at", "60,50", "--at", "9,9")
    assert digests(tmp_path / "again") == digests(out)
    own = out / "kernels.png"
    own.write_bytes(b"mine")
    inspected(out, *same[:5], "--at", "20,20")
    left = {"kernels_20_20.png", "weights.png", "shifts.png", "noise.png", "trust.png"}
    assert {path.name for path in out.iterdir()} == left | {"index.html", "kernels.png"}
    assert digests(small[0].parent) == before


def test_paths_are_all_there_is_on_stdout(tmp_path, small, weights):
    result = kpn("inspect", *small, "-o", tmp_path, "--weights", weights, "--at", "9,9")
    assert result.exit_code == 0
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert paths[0] == tmp_path / "index.html"
    assert set(paths) == set(tmp_path.iterdir())
    assert "at 9,9" in result.stderr


def test_one_frame_and_names_that_html_would_take_for_its_own(tmp_path, weights):
    (path,) = write_burst(tmp_path / "burst", still(1, 40, 40), noise_of_gain(0))
    odd = path.rename(path.with_name("<b>&.dng"))
    document = inspected(tmp_path / "out", odd, "--weights", weights, "--at", "20,20")
    assert set(document["outputs"]) == {"page", "kernels_20_20", "trust", "noise"}
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "<b>" not in page and "&lt;b&gt;&amp;.dng" in page


def test_another_page_is_never_replaced(tmp_path, small, weights):
    page = tmp_path / "index.html"
    page.write_text("mine")
    result = kpn("inspect", *small, "-o", tmp_path, "--weights", weights)
    assert result.exit_code == 1 and "choose another folder" in result.stderr
    assert page.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_a_link_to_a_page_is_never_replaced(tmp_path, small, weights):
    mine = tmp_path / "mine.html"
    mine.write_text('<meta name="generator" content="kpn inspect">')
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").symlink_to(mine)
    result = kpn("inspect", *small, "-o", tmp_path / "out", "--weights", weights)
    assert result.exit_code == 1 and "choose another folder" in result.stderr
    assert (tmp_path / "out" / "index.html").is_symlink()


def test_an_inspection_knows_its_reference(tmp_path, small, weights):
    found = inspect.inspect(small, Options(tmp_path, weights=weights, reference="2"), [(9, 9)])
    assert isinstance(found, Inspection)
    assert found.info.path == small[2] == found.infos[0].path


def test_pictures_of_others_are_neither_replaced_nor_removed(small, lively, tmp_path):
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
