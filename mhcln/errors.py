"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """Something that the user can mend: one line that says what is wrong, where, and what to do.

    The scripts print it on stderr and end with exit status 2 (see `mhcln.cli.run`).
    """
