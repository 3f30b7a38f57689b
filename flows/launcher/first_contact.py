"""Errors that distinguish a cluster silent before a submission from one silent after it."""

from collections.abc import Generator
from contextlib import contextmanager

from flows.core.errors import ClusterUnreachable, NothingSubmitted, StillLaunching


@contextmanager
def nothing_submitted() -> Generator[None]:
    """Wrap what a launch does before it submits anything.

    Raises:
        NothingSubmitted: The cluster did not answer.
    """
    try:
        yield
    except StillLaunching:
        raise
    except ClusterUnreachable as error:
        raise NothingSubmitted(error.what, error.next_step) from error
