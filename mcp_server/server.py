"""Assembles the MCP server from its parts."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, cast

import anyio
from mcp.server import MCPServer
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.server import require_client_extension
from mcp.server.mcpserver.tools import Tool
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    EmptyResult,
    GetPromptResult,
    InputRequiredResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    UnsubscribeRequestParams,
)

from flows.core.errors import InvalidArgument
from flows.core.settings import Settings
from mcp_server.docs_index.keeper import DocsKeeper
from mcp_server.engine_keeper import EngineKeeper, Ensure
from mcp_server.guidance import read_guidance, read_offered
from mcp_server.prompts import prompts
from mcp_server.resources import add_resources
from mcp_server.services.assembly import Services, make_gateway, make_services
from mcp_server.services.docs import DocsService
from mcp_server.services.jobs.waits import JobWaits
from mcp_server.tasks.declared import TASKS
from mcp_server.tasks.extension import TaskExtension
from mcp_server.tasks.listening import listen_to_tasks, wanted_tasks
from mcp_server.tools.budgets import BudgetTools
from mcp_server.tools.catalog import CatalogTools
from mcp_server.tools.checks import CheckTools
from mcp_server.tools.clusters import ClusterTools
from mcp_server.tools.docs import DocsTools
from mcp_server.tools.edge import as_tool_error, refuse_changes
from mcp_server.tools.guide import GuideTools
from mcp_server.tools.jobs import JobTools
from mcp_server.tools.pipelines import PipelineTools
from mcp_server.tools.results import ResultTools
from mcp_server.tools.schedules import ScheduleTools
from mcp_server.tools.training import TrainingTools
from mcp_server.transports.stdio_lines import StdioLines, take_standard_input
from mcp_server.watching import JobWatcher

_SUBSCRIBED: Final = "oumi-flows-subscribed"
_CLOSE_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 3.0
"""How long a check of a config waits for an engine that starts: a model can ask again."""


@dataclass(frozen=True, kw_only=True)
class Parts(Services):
    """The parts of a server: the use cases, and what it keeps up in the background."""

    keeper: EngineKeeper
    docs: DocsKeeper


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a server.

    Args:
        read_only: Refuse every call that changes anything.
        toolsets: Offer only these groups of tools; empty: every group.
        token_verifier: Checks the bearer token of each HTTP request.
        auth: Who issues the tokens.
        ssh_host: This machine's name, if the client reaches it over ssh.
        on_stopped: Called when the server has cleaned up after itself.
    """

    read_only: bool = False
    toolsets: Sequence[str] = ()
    token_verifier: TokenVerifier | None = None
    auth: AuthSettings | None = None
    ssh_host: str = ""
    on_stopped: Callable[[], None] = lambda: None


def make_parts(settings: Settings, ensure: Ensure) -> Parts:
    """Make the parts of a server on the engine that `ensure` finds or starts."""
    keeper = EngineKeeper(ensure, timeout_seconds=settings.engine_timeout_seconds)
    gateway = make_gateway(settings, keeper)
    services = make_services(settings, gateway, patience_seconds=_PATIENCE_SECONDS)
    return Parts(**vars(services), keeper=keeper, docs=DocsKeeper(settings.docs_dir))


def build_server(parts: Parts, options: Options) -> "OumiServer":
    """The MCP server.

    Raises:
        InvalidArgument: A toolset is unknown.
    """
    offered: dict[str, list[Tool]] = {}
    groups = _make_tools(parts, offered)
    _refuse_unknown(options.toolsets, groups)
    offered |= {group: groups[group] for group in options.toolsets or groups}
    every = [tool for tools in offered.values() for tool in tools]
    if options.read_only:
        for tool in every:
            refuse_changes(tool)
    server = OumiServer(parts, options, every)
    add_resources(server, parts.jobs)
    for prompt in prompts():
        server.add_prompt(prompt)
    return server


def _refuse_unknown(toolsets: Iterable[str], groups: Iterable[str]) -> None:
    if unknown := sorted(set(toolsets) - set(groups)):
        raise InvalidArgument(
            f"There is no toolset {', '.join(map(repr, unknown))}",
            f"Choose from {', '.join(groups)}",
        )


def _make_tools(parts: Parts, offered: Mapping[str, list[Tool]]) -> dict[str, list[Tool]]:
    """Make all tools, by their toolset; the guide describes those in `offered`."""
    return {
        "jobs": [
            *JobTools(parts.jobs, parts.waiter).tools(),
            *BudgetTools(parts.budgets).tools(),
        ],
        "training": [
            *TrainingTools(parts.metrics, parts.diagnosis, parts.data).tools(),
            *ResultTools(parts.results, parts.collect).tools(),
        ],
        "clusters": ClusterTools(parts.clusters, parts.machines).tools(),
        "pipelines": PipelineTools(parts.pipelines, parts.sweeps, parts.jobs).tools(),
        "checks": CheckTools(parts.checks).tools(),
        "docs": DocsTools(DocsService(parts.docs)).tools(),
        "catalog": CatalogTools(parts.catalog).tools(),
        "schedules": ScheduleTools(parts.schedules).tools(),
        "guide": GuideTools(lambda: offered).tools(),
    }


class OumiServer(MCPServer[None]):
    """The SDK's server with our errors, our arguments' strictness and job subscriptions.

    Args:
        parts: Its parts.
        options: Its options.
        tools: Tools to offer.
    """

    def __init__(self, parts: Parts, options: Options, tools: Sequence[Tool]) -> None:
        bus = InMemorySubscriptionBus()
        self._parts = parts
        self._bus = bus
        waits = JobWaits(parts.gateway, parts.jobs, parts.waiter)
        self._tasks = TaskExtension(waits, read_only=options.read_only)
        self._watcher = JobWatcher(
            parts.gateway, publish=lambda uri: bus.publish(ResourceUpdated(uri=uri))
        )
        super().__init__(
            name="oumi-flows",
            title="Oumi Flows",
            instructions=_write_instructions(tools, ssh_host=options.ssh_host),
            version=version("oumi-flows"),
            tools=list(tools),
            log_level="WARNING",
            lifespan=_lifespan(parts, self._watcher, options.on_stopped),
            subscriptions=bus,
            middleware=[self._watch_streams],
            extensions=[self._tasks],
            token_verifier=options.token_verifier,
            auth=options.auth,
        )
        # The handshake era's way to subscribe, for which the SDK's `MCPServer` has no argument.
        self._lowlevel_server.add_request_handler(
            "resources/subscribe", SubscribeRequestParams, self._subscribe
        )
        self._lowlevel_server.add_request_handler(
            "resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe
        )

    async def run_stdio_async(self) -> None:
        """Serve one client on standard input and output."""
        lines = StdioLines(take_standard_input())
        stdin = cast("anyio.AsyncFile[str]", lines)
        async with stdio_server(stdin=stdin) as (read_stream, write_stream):
            lines.answer_with(lambda error: write_stream.send(SessionMessage(error)))
            server = self._lowlevel_server
            await server.run(read_stream, write_stream, server.create_initialization_options())

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; while the engine starts, send the client its progress.

        Raises:
            ToolError: With one line, ``CODE: what happened. What to do next.``
        """
        if self._tool_manager.get_tool(name) is None:
            raise self._no_tool(name)
        telling: asyncio.Task[None] | None = None
        if context is not None and not self._parts.keeper.is_up:
            telling = asyncio.create_task(self._tell_phases(context))
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            raise as_tool_error(error) from error.__cause__
        finally:
            if telling is not None:
                telling.cancel()

    def _no_tool(self, name: str) -> ToolError:
        tools = _list(tool.name for tool in self._tool_manager.list_tools())
        return as_tool_error(InvalidArgument(f"There is no tool {name!r}", f"Call one of {tools}"))

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[None, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """Fill in a prompt.

        Raises:
            MCPError: There is no such prompt, or it takes other arguments.
        """
        try:
            self._check_prompt(name, arguments or {})
        except InvalidArgument as error:
            # The SDK (2.3) reports it as an internal error.
            raise MCPError(code=INVALID_PARAMS, message=str(error)) from None
        return await super().get_prompt(name, arguments, context)

    def _check_prompt(self, name: str, arguments: Mapping[str, Any]) -> None:
        prompts = {prompt.name: prompt for prompt in self._prompt_manager.list_prompts()}
        if name not in prompts:
            raise InvalidArgument(f"There is no prompt {name!r}", f"Use one of {_list(prompts)}")
        taken = [argument.name for argument in prompts[name].arguments or []]
        if set(taken) != set(arguments):
            given = _list(arguments) if arguments else "nothing"
            raise InvalidArgument(
                f"Prompt {name} takes {_list(taken)} and was given {given}",
                "Give exactly these arguments",
            )

    async def _tell_phases(self, context: Context[None, Any]) -> None:
        phases_sent = 0

        async def tell(phase: str) -> None:
            nonlocal phases_sent
            phases_sent += 1
            # Below every progress value that a tool itself gives.
            await context.report_progress(phases_sent / 1_000_000, None, phase)

        await self._parts.keeper.tell_until_up(tell)

    async def _watch_streams(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Watch the resources of a `subscriptions/listen` stream while it is open."""
        if ctx.method != "subscriptions/listen":
            return await call_next(ctx)
        wanted = SubscriptionsListenRequestParams.model_validate(ctx.params or {}, by_name=False)
        asked, tasks = wanted.notifications, wanted_tasks(wanted.notifications)
        async with self._watcher.listening(
            [*(asked.resource_subscriptions or ()), *tasks.values()]
        ):
            if not tasks:
                return await call_next(ctx)
            require_client_extension(ctx, TASKS)
            return await listen_to_tasks(self._tasks, tasks, self._bus, ctx, call_next)

    async def _subscribe(
        self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        client = _client(ctx)
        if not client.state.get(_SUBSCRIBED):
            client.state[_SUBSCRIBED] = True
            client.exit_stack.callback(self._watcher.forget, client)
        await self._watcher.subscribe(params.uri, client, client.send_resource_updated)
        return EmptyResult()

    async def _unsubscribe(
        self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        self._watcher.unsubscribe(params.uri, _client(ctx))
        return EmptyResult()


def _write_instructions(tools: Sequence[Tool], *, ssh_host: str) -> str:
    """Write what a client's model reads first."""
    offered = read_offered("instructions", [tool.name for tool in tools])
    over_ssh = read_guidance("over_ssh", host=ssh_host) if ssh_host else ""
    return " ".join(f"{offered} {over_ssh}".split())


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _client(ctx: ServerRequestContext[Any, Any]) -> Connection:
    # mcp 2.3 makes a new session for each request, and has no public access to the connection,
    # which lasts as long as the client.
    return ctx.session._connection  # pyright: ignore[reportPrivateUsage]


def _lifespan(
    parts: Parts, watcher: JobWatcher, on_stopped: Callable[[], None]
) -> Callable[[MCPServer[None]], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: MCPServer[None]) -> AsyncGenerator[None]:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(parts.keeper.keep)
                tasks.start_soon(watcher.watch)
                tasks.start_soon(parts.docs.keep)
                tasks.start_soon(parts.catalog.fetch_later)
                yield
                tasks.cancel_scope.cancel()
        finally:
            parts.keeper.close()
            parts.docs.close()
            with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_SECONDS):
                await parts.gateway.aclose()
            on_stopped()

    return lifespan
