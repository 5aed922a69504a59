"""The `kpn` command, a module for each subcommand: parses options, calls the library, shows
progress and results. Only this folder prints.
"""
