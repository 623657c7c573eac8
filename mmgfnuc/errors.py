"""The one exception type for bad input: its text is for the user, the tools print it as a single line."""


class UserError(ValueError):
    """Bad input from the user; the message states the value, the rule and the fix."""


class DivergedError(UserError):
    """A loss, weights that were trained, or what a model gives are not finite: the training has failed."""
