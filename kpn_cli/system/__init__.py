"""The machine that kpn runs on: files written atomically, locks, devices, free memory and
the processes of a distributed run. Nothing here knows what a picture is.
"""
