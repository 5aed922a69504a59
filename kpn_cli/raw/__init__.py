"""One raw file in: its tags, checks, levels and mosaic, decoded by LibRaw in a process of
its own. A `RawInfo` and an array come out.
"""
