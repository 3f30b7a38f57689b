"""Whatever a job prints, reading it ends and raises nothing."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.core.logs.lines import REPORT_MARKER
from flows.core.models import JobProgress
from flows.core.numbers import COUNT_MAX
from flows.core.result_metrics import ResultFiles, kept_metrics, read_curve, read_kept, read_metrics
from flows.job.progress import ProgressReader

EXAMPLES = 2_000
NIGHTLY_EXAMPLES = 100_000

WORDS = [
    *("", "?", ":", "0", "1", "7", "-1", "0.5", "00:01", "1:00:00", "1_0", "0x" + "f" * 6000),
    *(
        "NaN",
        "nan",
        "'nan'",
        "inf",
        "-inf",
        "Infinity",
        "1e999",
        "\u0663",
        "\ud800",
        "\x00",
        "\x1b[A",
    ),
    *("9" * 17, "9" * 400, "9" * 5000, "1" + "0" * 5000, "-" * 3000 + "1", "k" * 300),
    *('"loss"', '"step"', "'loss'", "'step'", "'train_loss'", "'grad_norm'", '"max_steps"'),
    *(
        "null",
        "true",
        "[]",
        "{}",
        "{1}",
        "(1,)",
        "np.float64(0.5)",
        "tensor(nan)",
        "f()",
        "lambda: 0",
    ),
    *('{"a":' * 30, '{"a":' * 1800, "[" * 1500, "{'a':(" * 90, "}" * 1800, "{" * 19 + "}" * 19),
]
SHAPES = [
    "{0}",
    "{0}{1}{2}",
    "\r {0}%|##  | {1}/{2} [00:00<00:01, 1it/s]",
    "\r  0%|  | {0}/{1} [00:00<{2}, 1it/s]",
    "\r  0%|  | 1/{0} [{1}<{2}, {1}s/it]",
    "{{{0}: {1}}}",
    "{{'loss': {0}, 'step': {1}, 'grad_norm': {2}}}",
    '{{"loss": {0}, "step": {1}, "a": {2}}}',
    "{{{0}: {1}, {2}: {1}}}",
    "{{{0}, {1}}}",
    REPORT_MARKER + '{{"step": {0}, "max_steps": {1}, "loss": {2}}}',
    REPORT_MARKER + '{{"step": 1, "max_steps": {0}, "eta_seconds": {1}}}',
    REPORT_MARKER + "{0}",
]
ENDS = ["\n", "\r", " "]


def line(number: int) -> str:
    """One of all the lines that shapes, words and ends make: a single draw is much faster."""
    parts: list[str] = []
    for choices in (ENDS, SHAPES, WORDS, WORDS, WORDS):
        number, index = divmod(number, len(choices))
        parts.append(choices[index])
    end, shape, *words = parts
    return shape.format(*words) + end


LINES = len(ENDS) * len(SHAPES) * len(WORDS) ** 3
LOGS = st.builds(
    lambda number, text: line(number % LINES) + text + line(number // LINES),
    st.integers(0, LINES**2 - 1),
    st.text(max_size=6),
)


def check_progress(progress: JobProgress | None) -> None:
    if progress is None:
        return
    for count in (progress.step, progress.max_steps):
        assert count is None or 0 <= count <= COUNT_MAX
    for number in (progress.percent, progress.eta_seconds):
        assert number is None or math.isfinite(number)
    json.dumps(progress.model_dump(mode="json"), allow_nan=False)


@contextmanager
def place() -> Iterator[Path]:
    memory = Path("/dev/shm")  # files there are opened ten times as fast
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    "examples", [EXAMPLES, pytest.param(NIGHTLY_EXAMPLES, marks=pytest.mark.nightly)]
)
def test_any_log_can_be_read(examples: int) -> None:
    with place() as folder:
        log, other = folder / "log", folder / "metrics_rank0000.jsonl"

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=cast("list[HealthCheck]", list(HealthCheck)),
        )
        @given(text=LOGS)
        def check(text: str) -> None:
            log.write_bytes(text.encode("utf-8", "surrogatepass"))
            check_progress(ProgressReader(log).read())
            files = ResultFiles(folder, log)
            found = read_metrics(files)
            assert read_kept(kept_metrics(found)) == dict(sorted(found.items())[:200])
            for point in read_curve(files, "loss"):
                assert 0 <= point.step <= COUNT_MAX

        other.symlink_to(log)
        check()
