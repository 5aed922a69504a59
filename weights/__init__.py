"""The networks that ship with kpn; README.md beside this file says how they were made."""
