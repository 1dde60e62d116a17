"""The one exception that a user's mistake raises: a line that says what is wrong and what cures it."""


class UserError(Exception):
    """Shown without a traceback by the command line; the message names the cure."""
