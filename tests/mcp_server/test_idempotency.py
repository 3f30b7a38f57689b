"""A key returns its object to the same request, and is a conflict for another one."""

import pytest

from flows.core.errors import Conflict
from mcp_server.prefect_api.models import Deployment
from mcp_server.services.idempotency import refuse_another_request

MADE = Deployment(id="1", name="nightly", flow_id="2")


def test_the_same_request_may_use_its_key_again() -> None:
    refuse_another_request(
        "k", MADE, kind="schedule", made_from=({"a": 1}, "end"), asked_for=({"a": 1}, "end")
    )


def test_another_request_is_a_conflict_that_names_the_key_and_its_object() -> None:
    with pytest.raises(Conflict) as raised:
        refuse_another_request(
            "k", MADE, kind="schedule", made_from=({"a": 1}, "end"), asked_for=({"a": 1}, "failure")
        )
    assert str(raised.value) == (
        "CONFLICT: idempotency_key 'k' belongs to schedule 1 (nightly), which has other "
        "arguments or another version of the config. Use another key, or the same arguments."
    )
