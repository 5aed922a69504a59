"""The public Python API: what it returns, what it refuses, and that importing it is light."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cards import digests, write_frame
from maker_notes import dng_with_note, nikon_note
from pictures import planes as picture
from raw_files import BLACK, WHITE, scene

import kpn_cli
from kpn_cli import KpnError, NoiseModel, Options
from kpn_cli.network.kpn import KPN, KPNConfig
from kpn_cli.network.weights import save_weights
from kpn_cli.output import dng_writer
from kpn_cli.output.dng_tags import DngTags

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
EXAMPLES = re.findall(r"^## ([^\n]+)$[^#]*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)

NOISE = NoiseModel.uniform(1e-3, 1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of a burst of three frames."""
    folder = tmp_path_factory.mktemp("card") / "burst"
    for n in range(3):
        write_frame(folder / f"IMG_{n + 1:04d}.dng", 0.1 * n)
    return folder


@pytest.fixture(scope="module")
def network(weights):
    return kpn_cli.load_network(weights)


def burst(count: int = 3, rows: int = 40, columns: int = 48) -> np.ndarray:
    """Noisy frames of a still scene, `(count, 4, rows, columns)`."""
    still = 0.6 * picture(5, rows, columns)
    return NOISE.sample(np.stack([still] * count), np.random.default_rng(0))


# --- the package ----------------------------------------------------------------------


def test_importing_the_package_is_light():
    script = (
        "import sys, kpn_cli; kpn_cli.__version__; dir(kpn_cli)\n"
        "heavy = {'torch', 'numpy', 'rawpy', 'cv2', 'tifffile'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from kpn_cli import KpnError\n"
        "assert 'numpy' not in sys.modules\n"
        "from kpn_cli import NoiseModel, Options\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_exists_and_is_listed():
    assert dir(kpn_cli) == sorted(kpn_cli.__all__)
    for name in kpn_cli.__all__:
        value = getattr(kpn_cli, name)
        assert name == "__version__" or value.__doc__, name


def test_a_type_checker_sees_the_same_names():
    tree = ast.parse(Path(kpn_cli.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    names = [alias.name for node in block.body for alias in node.names]
    assert sorted(names) == sorted(set(kpn_cli.__all__) - {"__version__"})
    for node in block.body:
        assert node.module == kpn_cli._CLASSES.get(node.names[0].name, "api")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'kpn_cli' has no attribute 'denoize'"):
        kpn_cli.denoize  # noqa: B018
    assert not hasattr(kpn_cli, "__wrapped__")


# --- the page -------------------------------------------------------------------------


def test_the_page_has_four_short_examples():
    assert len(EXAMPLES) == PAGE.count("```python") == 4
    for title, code in EXAMPLES:
        assert len(code.strip().splitlines()) <= 10, title


def test_the_page_lists_every_public_name():
    table = re.findall(r"^\| `(\w+)[^|]*` \|", PAGE, re.MULTILINE)
    assert sorted(table) == sorted(kpn_cli.__all__)


@pytest.mark.parametrize("code", [pytest.param(code, id=title) for title, code in EXAMPLES])
def test_examples_of_the_page_run(code, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    for _ in range(2):  # finished outputs are kept
        exec(compile(code, "docs/api.md", "exec"), {})
    assert capsys.readouterr().out
    if "clean/" in code:
        names = sorted(path.name for path in Path("clean").iterdir())
        assert re.fullmatch(r"(IMG_000[123])_kpn.dng \1_kpn.jpg", " ".join(names))


# --- files ----------------------------------------------------------------------------


def test_text_and_paths_give_the_same_files(folder, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    files = sorted(folder.iterdir())
    given = {
        "str": (str(folder), str(tmp_path / "str"), str(weights)),
        "path": (folder, tmp_path / "path", weights),
        "files": ([str(files[0]), *files[1:]], tmp_path / "files", weights),
        "iterator": (iter(files), tmp_path / "iterator", weights),
    }
    before = digests(folder)
    for name, (paths, output, file) in given.items():
        options = Options(output, formats=["dng"], weights=file)
        result = kpn_cli.denoise(paths, options)
        assert result.outputs["dng"].parent == tmp_path / name
    written = [digests(tmp_path / name) for name in given]
    assert all(one == written[0] for one in written)
    assert digests(folder) == before


def test_one_file_is_a_burst_of_one(folder, weights, tmp_path):
    options = Options(tmp_path, formats="jpeg", weights=weights)
    result = kpn_cli.denoise(str(folder / "IMG_0003.dng"), options)
    assert result.outputs["jpeg"].name == "IMG_0003_kpn.jpg"


def test_progress_is_reported_by_stage(folder, weights, tmp_path):
    told = []
    options = Options(tmp_path, formats=["dng"], weights=weights)
    kpn_cli.denoise(folder, options, on_progress=lambda *step: told.append(step))
    assert list(dict.fromkeys(name for name, _, _ in told)) == [
        "reading",
        "aligning",
        "denoising",
        "writing",
    ]
    assert told[-1] == ("writing", 1, 1)


def test_planes_of_a_file_are_linear(tmp_path):
    mosaic = scene(64, 80)
    mosaic[::2, ::2] = WHITE
    mosaic[1::2, ::2] = BLACK - 12
    path = tmp_path / "a.dng"
    dng_writer.write_cfa_dng(path, mosaic, DngTags("RGGB", (BLACK,) * 4, WHITE, make="Canikon"))
    planes, info = kpn_cli.read_raw(path)
    assert planes.shape == (4, 32, 40)
    assert planes.dtype == np.float32
    expected = (mosaic.astype(np.float32) - BLACK) / (WHITE - BLACK)
    np.testing.assert_allclose(planes[0], 1, rtol=1e-6)
    np.testing.assert_allclose(planes[1], expected[::2, 1::2], rtol=1e-6)
    np.testing.assert_allclose(planes[2], -12 / (WHITE - BLACK), rtol=1e-6)
    np.testing.assert_allclose(planes[3], expected[1::2, 1::2], rtol=1e-6)
    assert (info.phase, info.height, info.width, info.make) == ("RGGB", 64, 80, "Canikon")
    np.testing.assert_array_equal(kpn_cli.read_raw(str(path))[0], planes)


def test_the_makers_notes_are_read_as_by_the_command_line(tmp_path, weights):
    path = dng_with_note(tmp_path / "a.dng", "NIKON CORPORATION", nikon_note())
    _, info = kpn_cli.read_raw(path)
    assert (info.iso, info.iso_source) == (102400, "MakerNote ISOInfo")
    assert (info.drive_mode, info.lens) == ("continuous", "18-70 mm f/3.5-4.5")
    options = Options(tmp_path / "o", formats=["dng"], weights=weights, noise=NOISE, strength=0)
    (note,) = kpn_cli.denoise(path, options).notes
    assert note == "ISO 102400 is taken from MakerNote ISOInfo: no standard tag states it"


def test_arrays_give_what_files_give(folder, weights, network, tmp_path):
    options = Options(tmp_path, formats=["dng"], weights=weights, noise=NOISE, reference=0)
    result = kpn_cli.denoise(folder, options)
    assert len(result.frames) == 3
    frames = np.stack([kpn_cli.read_raw(path)[0] for path in result.frames])
    clean = kpn_cli.denoise_planes(frames, NOISE, network=network)
    written, info = kpn_cli.read_raw(result.outputs["dng"])
    step = 0.5 / (info.white - min(info.black))
    assert step < 1e-4
    np.testing.assert_allclose(clean, written, atol=1.01 * step + 1e-6)


# --- arrays ---------------------------------------------------------------------------


def test_arrays_are_denoised_and_left_as_they_are(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = burst()
    before = frames.copy()
    clean = kpn_cli.denoise_planes(frames, NOISE, network=network)
    assert clean.shape == frames.shape[1:]
    assert clean.dtype == np.float32
    truth = 0.6 * picture(5, 40, 48)
    assert (clean - truth).std() < 0.8 * (frames[0] - truth).std()
    kpn_cli.predict_kernels(frames, NOISE, network=network)
    np.testing.assert_array_equal(frames, before)
    assert not list(tmp_path.iterdir())


def test_any_floating_point_array_will_do(network):
    frames = burst().astype(np.float16).astype(np.float32)
    expected = kpn_cli.denoise_planes(frames, NOISE, network=network)
    frozen = frames.copy()
    frozen.setflags(write=False)
    turned = np.ascontiguousarray(frames[..., ::-1])[..., ::-1]
    for same in (frozen, turned, *(frames.astype(kind) for kind in ("f2", "f8", ">f4"))):
        result = kpn_cli.denoise_planes(same, NOISE, network=network)
        np.testing.assert_array_equal(result, expected)


def test_arithmetic_that_is_asked_for_but_not_possible_is_told(network):
    with pytest.warns(UserWarning, match="int8 is not used, but .* no activation ranges"):
        kpn_cli.denoise_planes(burst(), NOISE, network=network, precision="int8")


def test_strength_0_is_a_copy_of_the_reference(network):
    frames = burst()
    result = kpn_cli.denoise_planes(frames, NOISE, strength=0, network=network)
    np.testing.assert_array_equal(result, frames[0])
    assert not np.shares_memory(result, frames)


def test_strength_and_noise_show_in_the_result(network):
    frames = burst()
    results = [
        kpn_cli.denoise_planes(frames, noise, strength=strength, network=network)
        for noise, strength in ((NOISE, 1), (NOISE, 2.5), (NOISE.with_strength(2), 1))
    ]
    assert all(np.abs(other - results[0]).max() > 1e-4 for other in results[1:])


@pytest.mark.parametrize("phase", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_mosaics_have_the_size_and_the_noise_they_should(phase, network):
    mosaics = NOISE.sample(np.full((4, 41, 38), 0.3, np.float32), np.random.default_rng(0))
    before = mosaics.copy()
    clean = kpn_cli.denoise_mosaics(mosaics, phase, NOISE, network=network)
    assert clean.shape == (41, 38)
    assert clean.std() < 0.7 * mosaics[0].std()
    np.testing.assert_array_equal(mosaics, before)
    same = kpn_cli.denoise_mosaics(mosaics, phase, NOISE, strength=0, network=network)
    np.testing.assert_array_equal(same, mosaics[0])


# --- the network ----------------------------------------------------------------------


def test_a_network_is_ready_for_use(weights):
    network = kpn_cli.load_network(str(weights))
    assert not network.training
    assert not any(value.requires_grad for value in network.parameters())
    assert network.config.frames == 8
    assert kpn_cli.load_network().config.kernel == 5


def test_weights_of_kernels_sum_to_1_at_every_cell(tiny_network):
    frames = burst(4, 21, 300)  # tiles
    kernels = kpn_cli.predict_kernels(frames, NOISE, network=tiny_network)
    assert kernels.shape == (4, 25, 21, 300)
    assert kernels.dtype == np.float32
    np.testing.assert_allclose(kernels.sum((0, 1)), 1, atol=1e-4)
    assert np.abs(kernels).max() < 2


def test_a_frame_that_differs_somewhere_has_little_weight_there(network):
    frames = burst()
    frames[2, :, 10:30, 10:30] += 0.3
    weights = kpn_cli.predict_kernels(frames, NOISE, network=network).sum(1)
    assert weights[2, 15:25, 15:25].max() < 0.05
    assert weights[2, :, 40:].mean() > 0.2


def test_a_frame_that_is_not_used_has_no_weight(network):
    frames = burst(3, 96, 96)
    frames[1] *= 6
    kernels = kpn_cli.predict_kernels(frames, NOISE, network=network)
    assert not kernels[1].any()
    np.testing.assert_allclose(kernels[[0, 2]].sum((0, 1)), 1, atol=1e-4)


def test_kernels_do_not_depend_on_tiles(tiny_network):
    frames = burst(2, 32, 600)
    kernels = kpn_cli.predict_kernels(frames, NOISE, network=tiny_network)
    whole = kpn_cli.predict_kernels(frames[..., :256], NOISE, network=tiny_network)
    np.testing.assert_allclose(kernels[..., :200], whole[..., :200], atol=1e-5)


# --- what is refused ------------------------------------------------------------------

A_MODEL = "must be a NoiseModel, not tuple"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: kpn_cli.denoise(7), "paths must be a str, a Path or a list of them, not int"),
        (lambda f: kpn_cli.denoise(b"a"), "paths must be a str, a Path or a list.*, not bytes"),
        (lambda f: kpn_cli.denoise(["a", 7]), r"paths\[1\] must be a str or a Path, not int"),
        (lambda f: kpn_cli.denoise("a", "out"), "options must be an Options, not str"),
        (lambda f: kpn_cli.read_raw(None), "path must be a str or a Path, not NoneType"),
        (lambda f: kpn_cli.load_network(7), "path must be a str or a Path, not int"),
        (lambda f: kpn_cli.load_network(device=0), "device must be a str, not int"),
        (
            lambda f: kpn_cli.denoise_planes(f.tolist(), NOISE),
            r"frames must be a numpy array of shape \(frames, 4, rows, columns\), not list",
        ),
        (lambda f: kpn_cli.denoise_planes(torch.zeros(1, 4, 8, 8), NOISE), "frames .*, not Tensor"),
        (
            lambda f: kpn_cli.denoise_planes(f.astype(np.uint16), NOISE),
            "frames must hold floating-point samples, .* not uint16",
        ),
        (lambda f: kpn_cli.denoise_planes(f, (1e-3, 1e-5)), f"noise {A_MODEL}"),
        (lambda f: kpn_cli.denoise_planes(f, NOISE, network="a"), "network must be .*, not str"),
        (lambda f: kpn_cli.denoise_planes(f, NOISE, strength="1"), "strength must be a number"),
        (lambda f: kpn_cli.denoise_planes(f, NOISE, device=0), "device must be a str, not int"),
        (lambda f: kpn_cli.denoise_planes(f, NOISE, precision=32), "precision must be a str"),
        (
            lambda f: kpn_cli.denoise_mosaics([f[0, 0]], "RGGB", NOISE),
            r"frames must be a numpy array of shape \(frames, height, width\), not list",
        ),
        (lambda f: kpn_cli.denoise_mosaics(f[:, 0], 0, NOISE), "phase must be one of RGGB, .* int"),
        (lambda f: kpn_cli.predict_kernels(f[0].tolist(), NOISE), "frames must be .*, not list"),
        (lambda f: kpn_cli.predict_kernels(f, (1e-3, 1e-5)), f"noise {A_MODEL}"),
        (lambda f: NoiseModel(1e-3, 1e-5), "shot must be four numbers, .*, not float"),
        (lambda f: NoiseModel((1e-3,) * 4, "none"), "read must be four numbers, .*, not str"),
    ],
)
def test_a_wrong_type_is_a_type_error_that_names_the_argument(call, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        call(burst(1, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": 7}, "output must be a str or a Path, not int"),
        ({"formats": 7}, "formats must be a str or a list of str, not int"),
        ({"formats": [7]}, "formats must be a str or a list of str, not list"),
        ({"reference": 1.0}, "reference must be a str, an int or a Path, not float"),
        ({"strength": "1"}, "strength must be a number, not str"),
        ({"strength": True}, "strength must be a number, not bool"),
        ({"noise": (1e-3, 1e-5)}, "noise must be a NoiseModel or the path .*, not tuple"),
        ({"device": None}, "device must be a str, not NoneType"),
        ({"precision": 32}, "precision must be a str, not int"),
        ({"tile": 512.0}, "tile must be an int or None, not float"),
        ({"weights": 7}, "weights must be a str or a Path, not int"),
        ({"overwrite": "no"}, "overwrite must be True or False, not str"),
        ({"compression": 9}, "compression must be a str, not int"),
        ({"report": 1}, "report must be True or False, not int"),
    ],
)
def test_an_option_of_a_wrong_type_is_a_type_error(options, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        Options(**options)
    with pytest.raises(TypeError, match="positional"):
        Options("out", ("dng",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": "png"}, "formats: png; choose among dng, linear, srgb, jpeg"),
        ({"formats": []}, "formats: none given; choose among dng"),
        ({"strength": 5}, "strength: 5 is out of range; give 0 to 4"),
        ({"strength": float("nan")}, "strength: nan is out of range"),
        ({"tile": 8}, "tile: 8 is too small; give at least 64 pixels"),
        ({"compression": "zip"}, "compression: zip is unknown; choose one of lossless, none"),
        ({"noise": "missing.json"}, "missing.json: cannot be read"),
    ],
)
def test_an_option_of_a_wrong_value_is_an_error_for_the_user(options, message):
    with pytest.raises(KpnError, match=f"^{message}"):
        Options(**options)


def test_options_take_what_python_has_at_hand():
    options = Options(
        "out",
        formats=["jpeg", "dng", "jpeg"],
        reference=2,
        strength=np.float32(2),
        tile=np.int64(512),
        weights="a.safetensors",
    )
    assert options == Options(
        Path("out"),
        formats=("jpeg", "dng"),
        reference="2",
        strength=2.0,
        tile=512,
        weights=Path("a.safetensors"),
    )
    assert type(options.strength) is float
    assert Options(reference=Path("a.dng")).reference == os.fspath("a.dng")


def broken(frames: np.ndarray, value: float) -> np.ndarray:
    frames[0, 1, 2, 3] = value
    return frames


@pytest.mark.parametrize("work", [kpn_cli.denoise_planes, kpn_cli.predict_kernels])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: broken(f, np.nan), "frames holds NaN or infinite samples"),
        (lambda f: broken(f, -np.inf), "frames holds NaN or infinite samples"),
        (lambda f: f[0], r"frames has the shape \(4, 8, 8\); give \(frames, 4, rows, columns\)"),
        (lambda f: f[:, :3], r"frames has the shape \(1, 3, 8, 8\)"),
        (lambda f: f[:0], r"frames has the shape \(0, 4, 8, 8\)"),
        (lambda f: 512 + 15488 * f, "frames has a mean of .*; subtract the black level"),
    ],
)
def test_wrong_frames_are_an_error_for_the_user(work, change, message, network):
    with pytest.raises(KpnError, match=f"^{message}"):
        work(change(burst(1, 8, 8)), NOISE, network=network)


def test_wrong_values_are_errors_for_the_user(network, tmp_path):
    frames = burst(1, 8, 8)
    with pytest.raises(KpnError, match="paths is empty"):
        kpn_cli.denoise([])
    with pytest.raises(KpnError, match="only the command kpn denoise --report writes a report"):
        kpn_cli.denoise("burst", Options(report=True))
    with pytest.raises(KpnError, match="missing"):
        kpn_cli.load_network(tmp_path / "missing.safetensors")
    with pytest.raises(KpnError, match="tpu"):
        kpn_cli.load_network(device="tpu")
    with pytest.raises(KpnError, match="precision"):
        kpn_cli.denoise_planes(frames, NOISE, network=network, precision="fp8")
    with pytest.raises(KpnError, match="unknown CFA phase"):
        kpn_cli.denoise_mosaics(frames[:, 0], "RGBW", NOISE, network=network)
    with pytest.raises(KpnError, match="9 frames, but the network takes 8"):
        kpn_cli.predict_kernels(burst(9, 8, 8), NOISE, network=network)
    path = tmp_path / "pixels.safetensors"
    save_weights(path, KPN(KPNConfig(widths=(8, 8), head=8, output="pixels")), {})
    with pytest.raises(KpnError, match="writes pixels, not kernels"):
        kpn_cli.predict_kernels(frames, NOISE, network=kpn_cli.load_network(path))
