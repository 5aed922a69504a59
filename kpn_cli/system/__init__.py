"""The machine that kpn runs on: atomic files and locks, devices and precision, free memory,
the processes of a distributed run. Nothing here knows about images.
"""
