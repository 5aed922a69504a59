"""Small documents of XMP."""

from __future__ import annotations


def document(inside: str, attributes: str = "") -> bytes:
    """A document with properties as attributes and as elements."""
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Some 1.0">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xap="http://ns.adobe.com/xap/1.0/" {attributes}>{inside}</rdf:Description>
 </rdf:RDF>
</x:xmpmeta>""".encode()
