"""A fault of kpn is told as one, with its kind and place; an old library is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kpn_cli.errors import TransientError
from kpn_cli.image import bayer
from kpn_cli.system import faults, versions


def raised(work) -> Exception:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_bug_is_told_with_its_kind_its_place_and_what_kpn_was_doing(monkeypatch):
    monkeypatch.setattr(versions, "too_old", list)
    error = raised(lambda: bayer.pack(np.zeros((4, 4)), 7))
    found = faults.bug(error, "reading a.dng")
    text = str(found)
    assert text.startswith("kpn has failed while reading a.dng; please report this: ")
    assert f"{type(error).__name__} in kpn_cli/image/bayer.py, line " in text
    assert "\n" not in text
    # As with a crash, a burst that meets it is not merged without the frame.
    assert isinstance(found, TransientError)


def test_only_what_code_of_kpn_raises_is_its_own():
    assert faults.is_own(raised(lambda: bayer.pack(None, "RGGB")))
    assert not faults.is_own(raised(lambda: json.loads("{")))
    assert not faults.is_own(ValueError("never raised"))
    assert faults.place(ValueError("never raised")) == "a library"


@pytest.mark.parametrize(
    ("have", "told"),
    [("0.26.0", ["rawpy 0.26.0 (needs 0.27)"]), ("0.27.0", []), ("1.0rc1", []), (None, [])],
)
def test_a_library_that_is_too_old_is_named_as_the_cause(monkeypatch, have, told):
    needed = [
        "rawpy>=0.27",
        "tomli>=2.0; python_version < '3.11'",
        "openvino>=2025.2; extra == 'fast'",
    ]
    monkeypatch.setattr(versions, "requires", lambda name: needed)
    monkeypatch.setattr(versions, "installed", lambda name: have if name == "rawpy" else "0.1")
    assert versions.too_old() == told
    text = str(faults.bug(AttributeError("no attribute 'set_unpack_params'")))
    assert ("rawpy 0.26.0 (needs 0.27) is too old, install kpn again" in text) == bool(told)


def test_a_library_that_cannot_be_imported_is_a_matter_of_installation(monkeypatch):
    monkeypatch.setattr(versions, "too_old", list)
    text = str(faults.bug(ImportError("libtorch.so: cannot open shared object file")))
    assert "install kpn again" in text and "libtorch.so" in text
