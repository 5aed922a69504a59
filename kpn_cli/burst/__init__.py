"""From files to bursts: finds raw files in folders, groups them by time and settings, sorts
the frames and chooses the reference frame.
"""
