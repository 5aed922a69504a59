"""Clean planes -> files: a DNG with the tags of its source, developed TIFF and JPEG pictures."""
