"""The runs on which a worker has written itself, and the end of its execution of one."""

from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID

import anyio


class SignedRuns:
    """The executions of one worker that another worker may take over."""

    def __init__(self) -> None:
        self._scopes: dict[UUID, anyio.CancelScope] = {}
        self._signed: set[UUID] = set()

    @contextmanager
    def execution(self, run_id: UUID) -> Generator[None]:
        """Make the body end when `let_go` is called."""
        try:
            with anyio.CancelScope() as self._scopes[run_id]:
                yield
        finally:
            self._scopes.pop(run_id, None)
            self._signed.discard(run_id)

    def sign(self, run_id: UUID) -> None:
        """Note that this worker has written itself on the run."""
        self._signed.add(run_id)

    def ids(self) -> frozenset[UUID]:
        """The runs that are signed now."""
        return frozenset(self._signed)

    def let_go(self, run_id: UUID) -> None:
        """Stop executing a run; its jobs go on."""
        self._signed.discard(run_id)
        if scope := self._scopes.get(run_id):
            scope.cancel()
