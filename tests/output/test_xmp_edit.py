"""The XMP of a result is its own: dates, identity, format, and no second noise reduction."""

from __future__ import annotations

import time

import pytest
import tifffile
from dng_results import NOW, identity
from raw_files import rich_dng, scene
from xmp_documents import document

from kpn_cli.output import xmp
from kpn_cli.output.xmp_edit import Edit, dng_sidecar, dng_xmp, unique_id_of
from kpn_cli.tiff.reader import read_tree

CRS, DT = "http://ns.adobe.com/camera-raw-settings/1.0/", "http://darktable.sf.net/"
MM = "http://ns.adobe.com/xap/1.0/mm/"
SPACES = (
    f'xmlns:crs="{CRS}" xmlns:darktable="{DT}" xmlns:xmpMM="{MM}" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    'xmlns:aux="http://ns.adobe.com/exif/1.0/aux/"'
)
XAP = "{http://ns.adobe.com/xap/1.0/}"
DENOISED = Edit(True, NOW, b"result", bytes(range(16)))
OLD = f"""{SPACES} xap:ModifyDate="2024-01-02T03:04:05" xap:MetadataDate="2024-01-02T03:04:05"
 xap:CreateDate="2024-01-02T03:04:00" xap:Rating="4" xmpMM:InstanceID="xmp.iid:old"
 xmpMM:DocumentID="xmp.did:old" dc:format="image/x-nikon-nef"
 photoshop:SidecarForExtension="NEF\""""


def edited(attributes: str, inside: str = "", edit: Edit = DENOISED) -> xmp.Xmp:
    packet, notes = dng_xmp(document(inside, f"{SPACES} {attributes}"), [], edit)
    assert not notes
    return xmp.parse(packet)


def crs(document: xmp.Xmp, name: str) -> str:
    return document.get(f"{{{CRS}}}{name}")


def test_dates_instance_and_format_are_the_results_and_the_rest_stays():
    old = f"{OLD}"
    data = document("", old)
    packet, notes = dng_xmp(data, [], DENOISED)
    beside, more = dng_sidecar(data, DENOISED)
    assert not notes and not more
    for result, extension in ((xmp.parse(packet), ""), (xmp.parse(beside), "DNG")):
        assert result.get(f"{XAP}ModifyDate") == "2025-06-07T08:09:10+02:00"
        assert result.get(f"{XAP}MetadataDate") == "2025-06-07T08:09:10+02:00"
        assert result.get(f"{XAP}CreateDate") == "2024-01-02T03:04:00"
        assert result.get(f"{XAP}Rating") == "4"
        assert result.get("{http://purl.org/dc/elements/1.1/}format") == "image/dng"
        assert result.get(f"{{{MM}}}DocumentID") == "xmp.did:old"
        assert result.get(f"{{{MM}}}InstanceID").startswith("xmp.iid:")
        assert result.get(f"{{{MM}}}InstanceID") != "xmp.iid:old"
        said = result.get("{http://ns.adobe.com/photoshop/1.0/}SidecarForExtension")
        assert said == extension
    assert unique_id_of(beside) == bytes(range(16)).hex()
    assert b"xmpMM:InstanceID=" in packet and b"dc:format=" in packet


def test_the_same_result_has_the_same_instance_and_another_another():
    def instance(identity: bytes) -> str:
        return edited("", edit=Edit(True, NOW, identity)).get(f"{{{MM}}}InstanceID")

    assert instance(b"a") == instance(b"a") != instance(b"b")


def test_a_result_whose_time_is_unknown_has_no_dates_of_the_old_file():
    result = edited('xap:ModifyDate="2024-01-02T03:04:05"', edit=Edit(True, None, b"a"))
    assert not result.get(f"{XAP}ModifyDate") and not result.get(f"{XAP}MetadataDate")


NOISE = (
    'crs:LuminanceSmoothing="25" crs:ColorNoiseReduction="+30" crs:ColorNoiseReductionDetail="50" '
    'crs:Exposure2012="+0.50" crs:Sharpness="40" crs:EnhanceDenoise="True" '
    'crs:EnhanceDenoiseLumaAmount="60" aux:EnhanceDenoiseLumaAmount="60"'
)


def test_noise_reduction_is_switched_off_and_other_settings_stay():
    result = edited(NOISE)
    assert crs(result, "LuminanceSmoothing") == crs(result, "ColorNoiseReduction") == "0"
    assert crs(result, "EnhanceDenoise") == "False"
    assert crs(result, "EnhanceDenoiseLumaAmount") == "0"
    assert crs(result, "ColorNoiseReductionDetail") == "50"
    assert crs(result, "Exposure2012") == "+0.50"
    assert crs(result, "Sharpness") == "40"
    # What was done to the source's pixels is no setting.
    assert result.get("{http://ns.adobe.com/exif/1.0/aux/}EnhanceDenoiseLumaAmount") == "60"


def test_noise_reduction_is_switched_off_in_elements_masks_and_snapshots():
    inside = """<crs:LuminanceSmoothing>25</crs:LuminanceSmoothing>
    <crs:Look><rdf:Description crs:ColorNoiseReduction="25" crs:Name="x"/></crs:Look>
    <crs:MaskGroupBasedCorrections><rdf:Seq><rdf:li>
     <rdf:Description crs:LocalLuminanceNoise="0.5" crs:LocalExposure2012="0.5"/>
    </rdf:li></rdf:Seq></crs:MaskGroupBasedCorrections>"""
    packet = xmp.packet(edited("", inside))
    assert b"<crs:LuminanceSmoothing>0</crs:LuminanceSmoothing>" in packet
    assert b'crs:ColorNoiseReduction="0" crs:Name="x"' in packet
    assert b'crs:LocalLuminanceNoise="0" crs:LocalExposure2012="0.5"' in packet


def test_at_strength_0_noise_reduction_stays():
    result = edited(NOISE, edit=Edit(False, NOW, b"a"))
    assert crs(result, "LuminanceSmoothing") == "25"
    assert crs(result, "ColorNoiseReduction") == "+30"
    assert crs(result, "EnhanceDenoise") == "True"


# --- darktable --------------------------------------------------------------------------

HISTORY = "".join(
    f'<rdf:li darktable:num="{n}" darktable:operation="{operation}" darktable:enabled="1"/>'
    for n, operation in enumerate(("rawprepare", "exposure", "denoiseprofile", "flip"))
)


@pytest.mark.parametrize("denoised", [True, False])
def test_darktables_modules_take_the_new_levels_and_denoise_no_more(denoised):
    inside = f"<darktable:history><rdf:Seq>{HISTORY}</rdf:Seq></darktable:history>"
    edit = Edit(denoised, NOW, b"a")
    result = edited('darktable:history_end="3"', inside, edit=edit)
    modules = [li.attrib for li in result.root.iter() if li.get(f"{{{DT}}}operation")]
    found = [tuple(module[f"{{{DT}}}{name}"] for name in ("num", "operation", "enabled"))
             for module in modules]  # fmt: skip
    assert found == [
        ("0", "exposure", "1"),
        ("1", "denoiseprofile", "0" if denoised else "1"),
        ("2", "flip", "1"),
    ]
    assert result.get(f"{{{DT}}}history_end") == "2"


def test_thousands_of_lists_of_modules_take_no_time():
    each = (
        f"<rdf:Description {SPACES}><darktable:history><rdf:Seq>"
        '<rdf:li darktable:num="0" darktable:operation="rawprepare"/>'
        "</rdf:Seq></darktable:history></rdf:Description>"
    )
    data = document("", SPACES).replace(b"</rdf:RDF>", each.encode() * 8000 + b"</rdf:RDF>")
    start = time.monotonic()
    packet, _ = dng_xmp(data, [], DENOISED)
    assert time.monotonic() - start < 2
    assert b"rawprepare" not in packet


def test_a_history_in_darktables_old_form_is_left_out_with_a_line():
    inside = """<darktable:history_operation><rdf:Seq><rdf:li>rawprepare</rdf:li></rdf:Seq>
    </darktable:history_operation><darktable:history_params><rdf:Seq><rdf:li>00</rdf:li>
    </rdf:Seq></darktable:history_params>"""
    data = document(inside, f'{SPACES} xap:Rating="2" darktable:history_end="1"')
    packet, notes = dng_xmp(data, [], DENOISED)
    assert [("darktable history" in note) for note in notes] == [True]
    assert b"rawprepare" not in packet and b"history_" not in packet
    assert xmp.parse(packet).get(f"{XAP}Rating") == "2"


# --- sidecars and damage ------------------------------------------------------------------


def test_a_sidecar_wins_and_what_it_lacks_stays_except_settings_of_the_same_editor():
    embedded = document("", f'{SPACES} xap:Rating="1" xap:Label="red" crs:Exposure2012="+1.00"')
    darktable = document("", f'{SPACES} xap:Rating="2" darktable:xmp_version="5"')
    adobe = document("", f'{SPACES} xap:Rating="3" crs:LuminanceSmoothing="50"')
    packet, _ = dng_xmp(embedded, [darktable, b"<broken", adobe], DENOISED)
    result = xmp.parse(packet)
    assert result.get(f"{XAP}Rating") == "3"
    assert result.get(f"{XAP}Label") == "red"
    assert result.get(f"{{{DT}}}xmp_version") == "5"
    assert crs(result, "LuminanceSmoothing") == "0"
    assert crs(result, "Exposure2012") == ""


def test_a_source_without_xmp_gets_none_unless_it_has_a_sidecar():
    assert dng_xmp(b"", [], DENOISED) == (None, ())
    assert dng_xmp(bytes(4), [], DENOISED) == (None, ())
    packet, _ = dng_xmp(b"", [document("", 'xap:Rating="3"')], DENOISED)
    assert xmp.parse(packet).get(f"{XAP}Rating") == "3"


def test_broken_xmp_is_left_out_with_a_line():
    packet, notes = dng_xmp(document("<dc:title>"), [], DENOISED)
    assert packet is None
    (note,) = notes
    assert note.startswith("its XMP is left out of the result: damaged")


def test_a_dng_has_the_edited_packet(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    beside = document("", f'{SPACES} crs:LuminanceSmoothing="50"')
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng", strength=1, sidecars=[beside])
    with tifffile.TiffFile(output) as file:
        tag = file.pages[0].tags[700]
        assert tag.dtype == 1
        result = xmp.parse(tag.value)
    assert result.get(f"{XAP}Rating") == "3"
    assert result.get(f"{XAP}ModifyDate") == "2025-06-07T08:09:10+02:00"
    assert crs(result, "LuminanceSmoothing") == "0"
    data = (tmp_path / "a.dng").read_bytes()
    (tmp_path / "c.dng").write_bytes(data.replace(b"<rdf:RDF ", b"<rdf:RDF<"))
    output = identity(tmp_path / "c.dng", tmp_path / "d.dng")
    assert 700 not in {tag.code for tag in read_tree(output).ifds[0]}
