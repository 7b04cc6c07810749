"""The one exception that is meant for the person at the command line."""


class UserError(Exception):
    """Something the user can mend: the message names the value, the place and the cure.

    The command line prints the message without a traceback and exits with status 2.
    """
