"""The one exception that users see."""


class KpnError(Exception):
    """Something the user can fix.

    The message is one line that says what is wrong, where (the file or option)
    and what to do next. The command line prints it without a traceback and
    exits with 1.
    """


class PassingError(KpnError):
    """An error that may be gone the next time: a crash, a disk that doesn't answer."""
