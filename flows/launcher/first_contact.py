"""Telling a cluster that did not answer before a submission from one that fell silent after it."""

from collections.abc import Generator
from contextlib import contextmanager

from flows.core.errors import ClusterUnreachable, NothingSubmitted, StillLaunching


@contextmanager
def nothing_submitted() -> Generator[None]:
    """What a launch does before it submits anything.

    Raises:
        NothingSubmitted: The cluster did not answer.
    """
    try:
        yield
    except StillLaunching:
        raise
    except ClusterUnreachable as error:
        raise NothingSubmitted(error.what, error.next_step) from error
