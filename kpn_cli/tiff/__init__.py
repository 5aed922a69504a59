"""The TIFF container of DNG and most other raw formats: fields and directories (IFDs), a bounded
reader (bytes -> tree; files may be hostile) and a writer (tree -> bytes).
"""
