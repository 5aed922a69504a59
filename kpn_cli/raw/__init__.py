"""Reads one raw file into a `RawInfo` and the array of its mosaic: tags, checks, levels, and
decoding by LibRaw in a separate process.
"""
