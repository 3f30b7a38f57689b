"""The errors of Modal's that its callers tell apart."""


class NotFoundError(Exception):
    """There is no such object."""


class AlreadyExistsError(Exception):
    """The name is taken."""
