"""Bursts from a tripod with pixels that their files, or the camera's list, name as defective."""

from __future__ import annotations

import struct
from pathlib import Path

import flat_frames
import numpy as np
from dng_factory import write_dng
from raw_files import opcode, opcode_list

from kpn_cli.defects.defect_list import DefectList
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.noise import calibration
from kpn_cli.noise.calibration import Calibration, IsoNoise

#: Rows and columns in the stored image: alone, in a pair, in a block of four, at the edge.
PLACES = [(30, 40), (61, 90), (61, 91), (100, 100), (100, 101), (101, 100), (101, 101), (9, 150)]
#: Of the visible area, whose first pixel is blue.
ORIGIN = (9, 4)
SIZE = (140, 180)
NOISE = NoiseModel.uniform(1e-4, 1e-6)
_BLACK, _WHITE = 512, 16000
CONSTANT, LIST = 4, 5


def clean(height: int, width: int) -> np.ndarray:
    """A smooth mosaic, linear."""
    y, x = np.mgrid[:height, :width]
    picture: np.ndarray = 0.2 + 0.1 * np.sin(x / 40 + y / 50)
    return picture


def opcodes(kind: int) -> bytes:
    """OpcodeList1 that marks the places: those of value 0, or by points and a rectangle."""
    if kind == CONSTANT:
        return opcode_list(opcode(CONSTANT, struct.pack(">LL", 0, 0)))
    points = [place for place in PLACES if place[0] not in (100, 101)]
    numbers = [0, len(points), 1, *np.ravel(points), 100, 100, 102, 102]
    return opcode_list(opcode(LIST, struct.pack(f">{len(numbers)}L", *numbers)))


def marked_burst(folder: Path, kind: int, frames: int = 4) -> list[Path]:
    """Write DNGs whose OpcodeList1 marks dark pixels."""
    folder.mkdir()
    marks = opcodes(kind)
    paths = []
    for number in range(frames):
        light = clean(*SIZE)
        noisy = light + np.random.default_rng(number).normal(0, np.sqrt(1e-4 * light + 1e-6))
        mosaic = np.rint(_BLACK + (_WHITE - _BLACK) * noisy).astype(np.uint16)
        for place in PLACES:
            mosaic[place] = 0
        paths.append(
            write_dng(
                folder / f"{number}.dng",
                mosaic,
                phase="BGGR",
                active_area=(*ORIGIN, *SIZE),
                black=(_BLACK,),
                white=_WHITE,
                noise_profile=(1e-4, 1e-6) * 3,
                extra=[(51008, 7, len(marks), marks, True)],
            )
        )
    return paths


def errors(mosaic: np.ndarray) -> np.ndarray:
    """How far a visible mosaic, linear, is from the truth at the places, in sigmas of a frame."""
    light = clean(*SIZE)
    found = [
        (mosaic[row - ORIGIN[0], column - ORIGIN[1]] - light[row, column])
        / np.sqrt(1e-4 * light[row, column] + 1e-6)
        for row, column in PLACES
    ]
    return np.abs(found)


#: In planes `(4, 60, 80)` of the camera of `flat_frames`, and in its visible mosaic.
LISTED_PLANES = [(0, 20, 30), (3, 41, 17), (1, 50, 70)]
LISTED = [(39, 60), (82, 35), (99, 141)]
_ISO = 800


def listed_burst(folder: Path, frames: int = 3) -> list[Path]:
    """Write frames of an even surface with pixels that are a little too bright."""
    folder.mkdir()
    paths = []
    for number in range(frames):
        light = flat_frames.flat(0.2, 60, 80)
        for place in LISTED_PLANES:
            light[place] += 12 * np.sqrt(flat_frames.truth(_ISO).shot[0] * 0.2)
        noisy = flat_frames.truth(_ISO).sample(light, np.random.default_rng(number))
        paths.append(flat_frames.write(folder / f"{number}.dng", noisy, _ISO))
    return paths


def listing_camera(path: Path, size: tuple[int, int] = (119, 160)) -> Path:
    """Write a calibration of that camera with a list of the pixels."""
    rows, columns = zip(*LISTED, strict=True)
    noise = flat_frames.truth(_ISO)
    levels = (IsoNoise(_ISO, noise, 1),)
    defects = DefectList(*size, rows, columns)
    calibration.save_calibration(path, Calibration("Maker", "Flat 1", levels, None, defects))
    return path


def excess(planes: np.ndarray) -> np.ndarray:
    """How much brighter the listed samples are than the surface, in sigmas of one frame."""
    usual = flat_frames.flat(0.2, 60, 80)
    sigma = np.sqrt(flat_frames.truth(_ISO).shot[0] * 0.2)
    return np.array([(planes[place] - usual[place]) / sigma for place in LISTED_PLANES])
