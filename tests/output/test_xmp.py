"""XMP is read safely, and what is not edited is written as it was."""

from __future__ import annotations

import time
from xml.etree import ElementTree

import pytest
from xmp_documents import document

from kpn_cli.output import xmp
from kpn_cli.output.xmp import BrokenXmpError

DC = "{http://purl.org/dc/elements/1.1/}"
XMP = "{http://ns.adobe.com/xap/1.0/}"


def canonical(data: bytes) -> str:
    return ElementTree.canonicalize(data.decode(), rewrite_prefixes=True)


BOTH_FORMS = document(
    "<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>ein Bär &amp; &lt;zwei&gt;</rdf:li>"
    "</rdf:Alt></dc:title><dc:source/>",
    'xap:Rating="3" xap:Label="a &quot;b&quot;&#10;c&#9;d"',
)


def test_what_is_read_is_written_with_its_prefixes():
    beside, inside = xmp.sidecar(xmp.parse(BOTH_FORMS)), xmp.packet(xmp.parse(BOTH_FORMS))
    assert canonical(beside) == canonical(BOTH_FORMS)
    assert b'xap:Rating="3"' in beside and b"<x:xmpmeta" in beside
    assert inside.startswith(b"<?xpacket begin=") and inside.endswith(b'<?xpacket end="w"?>')
    assert inside.split(b"?>\n")[1].split(b"\n<?")[0] == beside.split(b"?>\n")[1].strip()


def test_prefixes_that_two_namespaces_share_are_told_apart():
    inside = '<a:one xmlns:a="urn:one"/><a:two xmlns:a="urn:two" a:x="1"/>'
    written = xmp.sidecar(xmp.parse(document(inside)))
    assert canonical(written) == canonical(document(inside))


def test_names_without_a_prefix_keep_their_namespace():
    inside = '<one xmlns="urn:one"><two three="3"/></one>'
    assert canonical(xmp.sidecar(xmp.parse(document(inside)))) == canonical(document(inside))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_packets_are_read_in_the_encodings_of_xmp(encoding):
    text = '\ufeff<?xpacket begin="" id="x"?>\n'.lstrip("\ufeff") + BOTH_FORMS.decode()
    data = f'{text}\n<?xpacket end="w"?>\n   \n'.encode(encoding)
    assert xmp.parse(data).get(f"{XMP}Rating") == "3"
    assert xmp.parse(b"\n " + xmp.packet(xmp.parse(data)) + bytes(40)).get(f"{XMP}Rating") == "3"


def test_a_property_is_found_and_set_in_either_form():
    for data in (
        document("<xap:Rating>3</xap:Rating>"),
        document("", 'xap:Rating="3"'),
        document(f"</rdf:Description><rdf:Description xmlns:q='{XMP[1:-1]}' q:Rating='3'>"),
    ):
        changed = xmp.parse(data)
        assert changed.get(f"{XMP}Rating") == "3"
        changed.set(f"{XMP}Rating", "5")
        again = xmp.parse(xmp.packet(changed))
        assert again.get(f"{XMP}Rating") == "5"
        assert list(again.names()) == [f"{XMP}Rating"]


def test_a_document_without_properties_can_get_some():
    for data in (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>', document("")):
        empty = xmp.parse(data)
        empty.set(f"{XMP}Rating", "5")
        assert xmp.parse(xmp.packet(empty)).get(f"{XMP}Rating") == "5"


def test_a_newer_document_wins_and_the_rest_stays():
    older = xmp.parse(document("<dc:title>old</dc:title>", 'xap:Rating="3" dc:source="s"'))
    newer = xmp.parse(
        document("<xap:Rating>5</xap:Rating><c:m xmlns:c='urn:c'>m</c:m>", 'dc:title="t"')
    )
    older.update(newer, ())
    merged = xmp.parse(xmp.packet(older))
    names = (f"{XMP}Rating", f"{DC}title", f"{DC}source", "{urn:c}m")
    assert [merged.get(name) for name in names] == ["5", "t", "s", "m"]
    assert sorted(merged.names()) == sorted(names)


def test_settings_that_belong_together_are_replaced_together():
    one = xmp.parse(document("", 'xap:Rating="3" xmlns:c="urn:c" c:Exposure="1" c:Contrast="9"'))
    one.update(xmp.parse(document("", 'xmlns:c="urn:c" c:Contrast="2"')), ("urn:c",))
    assert sorted(one.names()) == [f"{XMP}Rating", "{urn:c}Contrast"]
    one.update(xmp.parse(document("", 'xap:Rating="4"')), ("urn:c",))
    assert one.get("{urn:c}Contrast") == "2"


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "damaged XML"),
        (b"\0\0", "damaged XML"),
        (b"no XML", "damaged XML"),
        (document("<dc:title>"), "damaged XML"),
        (document("<no:prefix/>"), "damaged XML"),
        (document("&unknown;"), "damaged XML"),
        (document("", "xap:Rating='\x01'"), "damaged XML"),
        (BOTH_FORMS[:200], "damaged XML"),
        (b"<?xml version='1.0' encoding='no-such'?><a/>", "damaged XML"),
        (b"<a/>", "not XMP"),
        (f"<!DOCTYPE a [<!ENTITY a0 'ha'>{LAUGHS}]><a>&a11;</a>".encode(), "DOCTYPE"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "DOCTYPE"),
        (b'<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><a/>', "DOCTYPE"),
        (b"<a>" * 101, "more elements"),
        (b"<a>" + b"<b/>" * 200_001 + b"</a>", "more elements"),
        (b"<a " + b" ".join(b'a%d=""' % n for n in range(200_001)) + b"/>", "attributes"),
        (b"<a>" + b"".join(b'<b xmlns="u%d"/>' % n for n in range(1001)), "namespaces"),
        (b"<a>" * 10_000_000, "larger than"),
    ],
)
def test_what_is_hostile_or_damaged_is_refused_soon(data, reason):
    start = time.monotonic()
    with pytest.raises(BrokenXmpError, match=reason):
        xmp.parse(data)
    assert time.monotonic() - start < 5


def test_random_damage_never_raises_anything_else(rng):
    whole = bytearray(xmp.packet(xmp.parse(BOTH_FORMS)))
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 5)):
            data[place] = rng.choice([0, 60, 62, 38, 34, 255])
        try:
            xmp.packet(xmp.parse(bytes(data[: rng.integers(1, len(data) + 1)])))
        except BrokenXmpError as error:
            assert "\n" not in str(error)
