"""A failure to provoke."""

from typing import NamedTuple


class Scene(NamedTuple):
    """A script that fails, or that does not.

    Attributes:
        name: Names its log.
        kind: The kind of finding that its log must give; empty: none.
        script: Python, or a shell script where `shell` is set.
        shell: Whether bash runs it.
    """

    name: str
    kind: str
    script: str
    shell: bool = False
