"""What a person did or can mend, told in one message."""


class RobotError(Exception):
    """Names the value, the place and the cure; the command line prints it without a traceback."""
