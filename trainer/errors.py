"""What is wrong with an order before anything was started. Standard library only."""


class SpecError(ValueError):
    """A spec or a command that cannot be carried out; the message lists all that is wrong, one fault per line."""
