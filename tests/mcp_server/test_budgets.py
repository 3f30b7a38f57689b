"""The tool of budgets: a model reads and lowers them, a person raises them."""

from dataclasses import replace
from typing import Literal

import pytest
from mcp.client import Client
from mcp.client.session import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult

from flows.core.settings import Settings
from mcp_server.server import Options, Parts, build_server, make_parts
from tests.mcp_server.calls import error, ok
from tests.support.budget_worker import BudgetWorker, budget_service

Answer = Literal["accept", "decline"]


@pytest.fixture
def worker() -> BudgetWorker:
    return BudgetWorker()


@pytest.fixture
def parts(worker: BudgetWorker, settings: Settings) -> Parts:
    def no_engine(**_: object) -> None:
        raise AssertionError

    made = make_parts(settings, no_engine)  # pyright: ignore[reportArgumentType]
    return replace(made, budgets=budget_service(worker))


async def test_a_model_reads_and_lowers_a_budget_and_cannot_raise_it(
    parts: Parts, worker: BudgetWorker
) -> None:
    async with Client(build_server(parts, Options())) as client:
        empty = await ok(client, "get_budget")
        assert empty["summary"].startswith("No budget is set.")
        await ok(client, "get_budget", period="day", cost=10)
        lowered = await ok(client, "get_budget", period="day", cost=8, jobs=3)
        assert "$8.00, 3 jobs left of $8.00, 3 jobs" in lowered["summary"]
        refused = await error(client, "get_budget", period="day", cost=9)
        assert refused.startswith("CONFIRMATION_REQUIRED: This raises the day budget of the pool")
        assert worker.budgets.budgets[0].limits.cost == 8


@pytest.mark.parametrize("answer", ["accept", "decline"])
async def test_a_person_raises_a_budget_where_the_client_can_ask(
    parts: Parts, worker: BudgetWorker, answer: Answer
) -> None:
    asked: list[str] = []

    async def callback(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        if answer == "accept":
            return ElicitResult(action=answer, content={"raise_it": True})
        return ElicitResult(action=answer)

    server = build_server(parts, Options())
    async with Client(server, elicitation_callback=callback) as client:
        await ok(client, "get_budget", cost=10)
        assert not asked
        if answer == "accept":
            await ok(client, "get_budget", cost=20)
        else:
            assert "did not agree" in await error(client, "get_budget", cost=20)
        assert asked == ["Raise the month budget of pool from $10.00 to $20.00?"]
    assert worker.budgets.budgets[0].limits.cost == (20 if answer == "accept" else 10)


async def test_a_read_only_server_shows_budgets_and_lowers_none(parts: Parts) -> None:
    async with Client(build_server(parts, Options(read_only=True))) as client:
        await ok(client, "get_budget")
        assert (await error(client, "get_budget", cost=1)).startswith("READ_ONLY")


async def test_max_cost_is_refused_where_nothing_has_a_price(
    parts: Parts, tmp_path: "object"
) -> None:
    async with Client(build_server(parts, Options())) as client:
        text = await error(
            client,
            "run_oumi_job",
            config_path="missing.yaml",
            client_cwd=str(tmp_path),
            max_cost=-1,
        )
        assert text.startswith("INVALID_ARGUMENT")
        assert "max_cost" in text
