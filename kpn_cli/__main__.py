"""`python -m kpn_cli`, for launchers that start modules."""

from .cli.app import main

main()
