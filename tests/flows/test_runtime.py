"""What the runs of one worker share."""

import pytest

from flows.core.errors import ClusterUnreachable, InvalidArgument
from flows.core.settings import Settings
from flows.job.runtime import Runtime
from tests.support.fake_launcher import FakeLauncher


def test_a_cluster_counts_as_ended_by_us_from_the_order_on() -> None:
    runtime = Runtime(FakeLauncher(), Settings(), observes_cancels=True)
    assert not runtime.has_ended_cluster("gcp", "c")
    with runtime.ending_cluster("gcp", "c"):
        assert runtime.has_ended_cluster("gcp", "c")
    assert runtime.has_ended_cluster("gcp", "c")
    assert not runtime.has_ended_cluster("gcp", "d")


def test_an_order_that_was_refused_ends_no_cluster_and_one_without_an_answer_may_have() -> None:
    runtime = Runtime(FakeLauncher(), Settings(), observes_cancels=True)
    for error, has_ended in ((InvalidArgument, False), (ClusterUnreachable, True)):
        with pytest.raises(error), runtime.ending_cluster("gcp", "c"):
            raise error("it cannot stop", "Take it down")
        assert runtime.has_ended_cluster("gcp", "c") is has_ended
