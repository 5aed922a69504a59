"""Clean planes out: a DNG with the tags of the source file, and developed TIFF and JPEG
pictures.
"""
