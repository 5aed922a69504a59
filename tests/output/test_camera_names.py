"""UniqueCameraModel is spelt as editors index their camera profiles."""

from __future__ import annotations

import pytest

from kpn_cli.output.camera_names import unique_camera_model


@pytest.mark.parametrize(
    ("make", "model", "name"),
    [
        ("NIKON CORPORATION", "NIKON D1X", "Nikon D1X"),
        ("NIKON", "COOLPIX P7000", "Nikon COOLPIX P7000"),
        ("NIKON CORPORATION", "NIKON Z 6_2", "Nikon Z 6_2"),
        ("Canon", "Canon EOS 6D", "Canon EOS 6D"),
        ("SONY", "ILCE-7M3", "Sony ILCE-7M3"),
        ("FUJIFILM", "FinePix X100", "Fujifilm FinePix X100"),
        ("FUJIFILM", "X-A1", "Fujifilm X-A1"),
        ("OLYMPUS IMAGING CORP.  ", "E-M1  ", "Olympus E-M1"),
        ("OM Digital Solutions", "OM-1", "OM Digital Solutions OM-1"),
        ("Panasonic", "DMC-GH4", "Panasonic DMC-GH4"),
        ("SAMSUNG", "NX1", "Samsung NX1"),
        ("RICOH IMAGING COMPANY, LTD.", "PENTAX K-S1", "PENTAX K-S1"),
        ("PENTAX Corporation", "PENTAX K100D Super", "PENTAX K100D Super"),
        ("EASTMAN KODAK COMPANY", "KODAK EASYSHARE Z981", "Kodak EASYSHARE Z981"),
        ("LEICA CAMERA AG", "LEICA V-LUX 4", "Leica V-LUX 4"),
    ],
)
def test_known_makers_are_spelt_as_in_camera_profiles(make, model, name):
    assert unique_camera_model(make, model) == name


@pytest.mark.parametrize(
    ("make", "model", "name"),
    [
        ("Google", "Pixel 4", "Google Pixel 4"),
        ("Canikon Inc.", "canikon X1", "canikon X1"),
        ("SONYA", "1", "SONYA 1"),
        ("Nikonos", "V", "Nikonos V"),
        ("Raspberry Pi", "imx296", "Raspberry Pi imx296"),
        ("", "X1", "X1"),
        ("Maker", "", "Maker"),
        ("", "", ""),
    ],
)
def test_unknown_makers_are_spelt_as_in_exif_and_named_once(make, model, name):
    assert unique_camera_model(make, model) == name
