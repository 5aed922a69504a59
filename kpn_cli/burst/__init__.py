"""Which files are one burst: raw files are found in folders, grouped by time and settings,
sorted, and one of them becomes the reference frame.
"""
