"""Answers the questions of MCP servers on this machine without a flow run: `direct_questions`."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError

from flows.answers.answering import answer_of
from flows.core.direct_questions import (
    DIRECT_FLOWS,
    LONGEST_BYTES,
    Greeting,
    Question,
    Reply,
    socket_path,
)
from flows.core.errors import InvalidArgument, OumiFlowsError
from flows.core.foreign_errors import note_defects
from flows.core.redaction import own_redactor
from flows.core.settings import Settings

_QUESTION_SECONDS: Final = 10.0
"""How long an asker may take to ask."""


logger = logging.getLogger("prefect.oumi.answers")


class DirectAnswers:
    """Listens for questions while a worker serves.

    Args:
        settings: Where the socket is.
        work_pool: The worker's pool.
        is_ready: Whether the worker has loaded Oumi.
        flows: The flows that can be asked, and their entry points.
    """

    def __init__(
        self,
        settings: Settings,
        work_pool: str,
        *,
        is_ready: Callable[[], bool],
        flows: Mapping[str, str] = DIRECT_FLOWS,
    ) -> None:
        self._settings = settings
        self._work_pool = work_pool
        self._is_ready = is_ready
        self._flows = flows

    async def serve(self) -> None:
        """Answer until cancelled; where no socket can be had, questions come as flow runs."""
        try:
            async with self._listening() as server:
                await server.serve_forever()
        except OSError as error:
            logger.warning("Questions are answered by flow runs alone: %s", error)

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator[asyncio.Server]:
        folder, api_url = self._settings.engine_dir, PREFECT_API_URL.value() or ""
        with socket_path(folder, api_url=api_url, work_pool=self._work_pool) as path:
            # A socket that another worker left is replaced. The folder is private.
            server = await asyncio.start_unix_server(self._meet, path, limit=LONGEST_BYTES)
            ours = _inode(path)
            try:
                yield server
            finally:
                server.close()
                if _inode(path) == ours:  # not that of a worker which has taken its place
                    os.unlink(path)  # noqa: PTH108 - `_inode`

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with note_defects(self._note_defect):
                await self._converse(reader, writer)
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = Greeting(version=version("oumi-flows"), is_ready=self._is_ready())
        writer.write(greeting.model_dump_json().encode() + b"\n")
        async with asyncio.timeout(_QUESTION_SECONDS):
            line = await reader.readline()
        if line:
            reply = await self._answer(line)
            writer.write(reply.model_dump_json().encode() + b"\n")
            await writer.drain()

    async def _answer(self, line: bytes) -> Reply:
        try:
            question = Question.model_validate_json(line)
            entrypoint = self._flows[question.flow]
        except (ValidationError, KeyError):
            error = InvalidArgument("the question is none that this worker knows", "Ask by a run")
            return Reply(refusal=str(error))
        flow = await asyncio.to_thread(_load, entrypoint)
        try:
            return Reply(answer=await answer_of(flow, question.parameters))
        except OumiFlowsError as error:
            return Reply(refusal=own_redactor().data(str(error)))

    def _note_defect(self, error: Exception) -> None:
        if not isinstance(error, OSError | TimeoutError):
            logger.error("A question was not answered", exc_info=error)


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - one quick call, in an event loop
    except FileNotFoundError:
        return None


@cache
def _load(entrypoint: str) -> Flow[Any, Any]:
    return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
