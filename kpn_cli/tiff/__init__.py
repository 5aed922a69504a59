"""The TIFF container of most raw formats and of DNG: tags and directories, bytes -> tree
(bounded, since files may be hostile) and tree -> bytes.
"""
