"""Operations on arrays: a Bayer mosaic as four planes, its noise model, orientation, the
sRGB curve, small filters, and cutting a picture into tiles. Knows no files.
"""
