"""The `kpn` program, one module per command: parse options, call the library, show the results.

Only this folder prints.
"""
