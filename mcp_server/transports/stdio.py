"""The MCP server on standard input and output."""

import os
import signal
import sys
from collections.abc import Sequence

import anyio

from flows.core.settings import Settings
from mcp_server.engine_keeper import Ensure
from mcp_server.over_ssh import find_ssh_host
from mcp_server.server import Options, build_server, make_parts


class StdioServer:
    """One client on standard input and output.

    Args:
        settings: What a person can set.
        ensure: Finds or starts the engine.
        read_only: Refuse every call that changes anything.
        toolsets: Offer only these groups of tools; empty: every group.
    """

    def __init__(
        self, settings: Settings, ensure: Ensure, *, read_only: bool, toolsets: Sequence[str]
    ) -> None:
        options = Options(
            read_only=read_only,
            toolsets=toolsets,
            on_stopped=self._on_stopped,
            ssh_host=find_ssh_host(os.environ),
        )
        self._server = build_server(make_parts(settings, ensure), options)
        self._signalled = False

    def serve(self) -> None:
        """Serve until the client leaves or a signal comes; ends the process."""
        anyio.run(self._serve)
        end_process()

    async def _serve(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_on_signal, tasks.cancel_scope)
            await self._server.run_stdio_async()
            tasks.cancel_scope.cancel()

    async def _stop_on_signal(self, scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                self._signalled = True
                scope.cancel()

    def _on_stopped(self) -> None:
        # A thread is blocked in a read of standard input, which nothing can interrupt (mcp 2.3):
        # after a signal the process would wait for it for ever.
        if self._signalled:
            end_process()


def end_process() -> None:
    """End the process at once; all cleaning up has been done, and it waits for no thread.

    What `print` has not written yet is dropped: it would land on the wire.
    """
    sys.stderr.flush()
    os._exit(0)
