"""What a user can put right is an InputError; anything else is our bug and keeps its traceback."""


class InputError(ValueError):
    """Something the user gave does not fit. The text is one line: what, where, what was got, what to do."""
