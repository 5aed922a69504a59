"""`python -m kpn_cli`, for launchers that start Python modules, such as `torchrun`."""

from .cli.app import main

main()
