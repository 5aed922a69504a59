"""XMP as a tree: a bounded, safe reader, properties, and a writer that keeps the prefixes.

XMP specification, parts 1 (data model, serialization, packets) and 3 (sidecars). XMP is RDF/XML: in
`rdf:RDF`, elements `rdf:Description` have a photo's properties, each as an attribute or a child
element.

Files may be hostile. Python's parser is expat. A document type declaration is refused, so there are
no entities to expand or to fetch; XMP never has one. Size, depth and number of elements are
bounded. Python's writer renames prefixes, which simple readers search for; hence a writer of our
own.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_XMP_META = "{adobe:ns:meta/}xmpmeta"
_XML = "http://www.w3.org/XML/1998/namespace"
_ABOUT = f"{_RDF}about"

#: Bytes of a packet or sidecar. Photos with many brush strokes have a few million.
MAX_BYTES = 8 << 20
#: Elements and attributes.
_MAX_ELEMENTS = 200_000
_MAX_DEPTH = 100
_MAX_NAMESPACES = 1000

#: Packets are found by these marks (XMP, part 1, section 7.3.2).
_HEADER = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TRAILER = '\n<?xpacket end="w"?>'


class BrokenXmpError(ValueError):
    """XMP that cannot be read; the message says why, in a few words."""


@dataclass
class Xmp:
    """A document of XMP.

    Attributes:
        root: its element `x:xmpmeta` or `rdf:RDF`. Names are "{namespace}name".
        prefixes: namespace -> prefix.
    """

    root: Element
    prefixes: dict[str, str] = field(default_factory=dict)

    def descriptions(self) -> list[Element]:
        """Return the elements that have the photo's properties, at least one."""
        rdf = next(self.root.iter(f"{_RDF}RDF"))
        found = rdf.findall(f"{_RDF}Description")
        return found or [ElementTree.SubElement(rdf, f"{_RDF}Description", {_ABOUT: ""})]

    def get(self, name: str) -> str:
        """Return the text of a simple property; "" if there is none."""
        for description in self.descriptions():
            text = description.get(name) or description.findtext(name)
            if text:
                return text.strip()
        return ""

    def set(self, name: str, value: str) -> None:
        """Set a simple property of the photo."""
        self.remove({name})
        self.descriptions()[0].set(name, value)

    def remove(self, names: Collection[str]) -> None:
        """Remove properties of the photo, in either form."""
        for description in self.descriptions():
            for name in description.attrib.keys() & names:
                del description.attrib[name]
            # At once: each removal would shift all that follow.
            description[:] = [child for child in description if child.tag not in names]

    def names(self) -> Iterator[str]:
        """Yield the names of the photo's properties."""
        for description in self.descriptions():
            yield from (name for name, _ in description.items() if not _is_syntax(name))
            yield from (child.tag for child in description)

    def update(self, newer: Xmp, sets: tuple[str, ...]) -> None:
        """Take over all properties of another document.

        Args:
            newer: the document, which wins; its elements become part of this one.
            sets: namespaces whose properties belong together, such as the settings of a
                development: if `newer` has one of them, all older ones are removed.
        """
        names = set(newer.names())
        replaced = {_space_of(name) for name in names} & set(sets)
        self.remove(names | {name for name in self.names() if _space_of(name) in replaced})
        own = self.descriptions()[0]
        for description in newer.descriptions():
            for name, value in description.items():
                if not _is_syntax(name):
                    own.set(name, value)
            own.extend(list(description))
        self.prefixes = newer.prefixes | self.prefixes


def _is_syntax(name: str) -> bool:
    """Whether an attribute is RDF's or XML's own, and no property."""
    return name.startswith((_RDF, f"{{{_XML}}}")) or not name.startswith("{")


# --- reading --------------------------------------------------------------------------


def parse(data: bytes) -> Xmp:
    """Return the XMP of a packet or sidecar.

    Raises:
        BrokenXmpError: if it is not XMP, damaged, larger than `MAX_BYTES` or has a DOCTYPE.
    """
    if len(data) > MAX_BYTES:
        raise BrokenXmpError(f"larger than {MAX_BYTES >> 20} MB")
    target = _Target()
    parser = ElementTree.XMLParser(target=target)
    try:
        parser.feed(_without_padding(data))
        parser.close()
    except BrokenXmpError:
        raise
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BrokenXmpError(f"damaged XML ({' '.join(str(error).split())})") from None
    root = target.root
    if root is None or next(root.iter(f"{_RDF}RDF"), None) is None:
        if root is None or root.tag != _XMP_META:
            raise BrokenXmpError("XML, but not XMP")
        ElementTree.SubElement(root, f"{_RDF}RDF")
    return Xmp(root, target.prefixes)


def _without_padding(data: bytes) -> bytes:
    """Return a packet without the blanks and zeros that may surround it in a tag."""
    if data.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        return data  # half of its letters are zeros
    return data.lstrip(b" \t\r\n\0").rstrip(b"\0")


class _Target:
    """Builds the tree for `ElementTree.XMLParser`, within bounds."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self.prefixes: dict[str, str] = {}
        self._builder = ElementTree.TreeBuilder()
        self._elements = self._depth = 0

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise BrokenXmpError("a DOCTYPE, which XMP never has")

    def start_ns(self, prefix: str, uri: str) -> None:
        self.prefixes.setdefault(uri, prefix)
        if len(self.prefixes) > _MAX_NAMESPACES:
            raise BrokenXmpError("more namespaces than any photo has")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1 + len(attributes)
        self._depth += 1
        if self._elements > _MAX_ELEMENTS or self._depth > _MAX_DEPTH:
            raise BrokenXmpError("more elements and attributes than any photo has")
        element = self._builder.start(tag, attributes)
        if self.root is None:
            self.root = element

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._builder.end(tag)

    def data(self, text: str) -> None:
        self._builder.data(text)

    def close(self) -> None:
        self._builder.close()


# --- writing --------------------------------------------------------------------------


def packet(xmp: Xmp) -> bytes:
    """Return XMP as a packet for a file of another format, UTF-8."""
    return f"{_HEADER}{_text(xmp)}{_TRAILER}".encode()


def sidecar(xmp: Xmp) -> bytes:
    """Return XMP as a file of its own, UTF-8."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_text(xmp)}\n'.encode()


def _text(xmp: Xmp) -> str:
    """Return the root element as text, with all namespaces declared there."""
    spaces = {_space_of(name): None for element in xmp.root.iter() for name in _names_of(element)}
    prefixes: dict[str, str] = {"": "", _XML: "xml"}
    for space in spaces:
        if space not in prefixes:
            prefixes[space] = _free_prefix(xmp.prefixes.get(space, ""), set(prefixes.values()))
    declared = [space for space in prefixes if space not in ("", _XML)]
    parts: list[str] = []
    _write(
        xmp.root,
        prefixes,
        "".join(f" xmlns:{prefixes[space]}={quoteattr(space)}" for space in declared),
        parts,
    )
    return "".join(parts)


def _write(element: Element, prefixes: dict[str, str], declarations: str, out: list[str]) -> None:
    name = _qualified(element.tag, prefixes)
    out.append(f"<{name}{declarations}")
    # quoteattr escapes line ends and tabs, which readers would take for blanks.
    out += (f" {_qualified(key, prefixes)}={quoteattr(value)}" for key, value in element.items())
    if element.text or len(element):
        out.append(f">{_escaped(element.text)}")
        for child in element:
            _write(child, prefixes, "", out)
            out.append(_escaped(child.tail))
        out.append(f"</{name}>")
    else:
        out.append("/>")


def _escaped(text: str | None) -> str:
    return escape(text or "", {"\r": "&#13;"})


def _names_of(element: Element) -> Iterator[str]:
    yield element.tag
    yield from element.keys()


def _space_of(name: str) -> str:
    return name[1:].partition("}")[0] if name.startswith("{") else ""


def _qualified(name: str, prefixes: dict[str, str]) -> str:
    space, local = _space_of(name), name.rpartition("}")[2]
    return f"{prefixes[space]}:{local}" if space else local


def _free_prefix(wanted: str, taken: set[str]) -> str:
    """Return a prefix that is not taken: the wanted one, else with a number."""
    prefix = wanted = wanted or "ns"
    number = 1
    while prefix in taken:
        number += 1
        prefix = f"{wanted}{number}"
    return prefix
