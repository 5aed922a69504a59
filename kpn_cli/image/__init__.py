"""Operations on arrays: packing a Bayer mosaic into four planes, the noise model, orientation,
the sRGB curve, small filters, tiling. Nothing here knows about files.
"""
