"""The cause of a failure that helps, from the end of a job's log."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.core.logs.error_cause import Cause, find_cause

DIRECT = "The above exception was the direct cause of the following exception:"
DURING = "During handling of the above exception, another exception occurred:"


def traceback(error: str, *, frames: int = 3) -> list[str]:
    frame = ['  File "/x/y.py", line 7, in f', "    raise"]
    return ["Traceback (most recent call last):", *frame * frames, error]


def text_of(lines: list[str], *, output_dir: str = "") -> str:
    cause = find_cause(lines, output_dir=output_dir)
    assert cause is not None
    return cause.text


def test_a_chain_is_reported_by_the_link_that_names_the_row() -> None:
    lines = [
        *traceback("pyarrow.lib.ArrowInvalid: JSON parse error: Invalid value. in row 3"),
        "",
        DURING,
        "",
        *traceback("json.decoder.JSONDecodeError: Expecting value: line 4 column 1 (char 90)"),
        "",
        DIRECT,
        "",
        *traceback(
            "datasets.exceptions.DatasetGenerationError: An error occurred while generating the "
            "dataset",
            frames=20,
        ),
    ]
    assert text_of(lines) == (
        "pyarrow.lib.ArrowInvalid: JSON parse error: Invalid value. in row 3 (then datasets."
        "exceptions.DatasetGenerationError: An error occurred while generating the dataset)"
    )


@pytest.mark.parametrize(
    "line",
    [
        "srun: error: node1: task 0: Exited with exit code 1",
        "slurmstepd: error: *** STEP 2.0 ON node1 CANCELLED AT 2026-12-01T03:24:00 ***",
        "ERROR: Job 2 failed with return code list: [1]",
    ],
)
def test_what_a_cluster_says_of_an_end_is_no_part_of_an_error(line: str) -> None:
    cause = find_cause([*traceback("ValueError: row 3"), "column b", line])
    assert cause is not None
    assert cause.links[-1].text == "ValueError: row 3\ncolumn b"


def test_a_last_link_that_says_more_than_the_first_comes_first() -> None:
    lines = [*traceback("KeyError: x"), "", DURING, "", *traceback("OSError: no file /a/b")]
    assert text_of(lines) == "OSError: no file /a/b (after KeyError: x)"


def test_an_error_of_another_chain_is_no_cause() -> None:
    lines = [*traceback("ValueError: row 1, which was caught"), "going on", *traceback("E: 2")]
    assert text_of([*lines[:-1], "RuntimeError: the end"]) == "RuntimeError: the end"


def test_an_exception_of_any_name_ends_a_traceback() -> None:
    assert text_of(traceback("pyarrow.lib.ArrowInvalid: row 3")) == (
        "pyarrow.lib.ArrowInvalid: row 3"
    )


def test_the_ranks_of_a_distributed_job_are_read_through() -> None:
    chain = [*traceback("ValueError: row 9"), "", DIRECT, "", *traceback("RuntimeError: failed")]
    lines = [f"[rank1]: {line}" for line in chain]
    assert text_of(lines) == "ValueError: row 9 (then RuntimeError: failed)"


def test_a_chain_that_rich_draws_is_read_too() -> None:
    box = ["╭──── Traceback (most recent call last) ────╮", "│ /x/y.py:7 in f │", "╰────╯"]
    lines = [*box, "ArrowInvalid: row 3", "", DIRECT, "", *box, "DataError: failed"]
    assert text_of(lines) == "ArrowInvalid: row 3 (then DataError: failed)"


FULL = "OSError: [Errno 28] No space left on device"
TORN = "RuntimeError: [enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (
            [*traceback(f"{FULL}: '/out/checkpoint-5/optimizer.pt'"), "", DURING, "", TORN],
            "The disk is full: /out/checkpoint-5/optimizer.pt.",
        ),
        ([*traceback(FULL), "", DURING, "", *traceback(TORN)], "The disk is full: /runs/one."),
        ([*traceback(FULL), "", DURING, "", *traceback(TORN, frames=40)], "The disk is full"),
        (
            ["cp: error writing '/big/file': No space left on device"],
            "The disk is full: /big/file.",
        ),
        (
            ["SafetensorError: I/O error: No space left on device (os error 28)"],
            "The disk is full: /runs/one.",
        ),
        (["OSError: [Errno 122] Disk quota exceeded: '/q/f'"], "The disk is full: /q/f."),
        (traceback(TORN), "The disk is full, or a file could not be written whole: /runs/one."),
    ],
)
def test_a_full_disk_is_called_so_and_where(lines: list[str], text: str) -> None:
    assert text_of(lines, output_dir="/runs/one").startswith(text)


def test_a_full_disk_that_was_overcome_long_ago_is_no_cause() -> None:
    lines = [FULL, *(f"step {n}" for n in range(100)), "ValueError: the end"]
    assert text_of(lines, output_dir="/runs/one") == "ValueError: the end"


def test_a_gpu_without_memory_is_a_lack_of_memory() -> None:
    error = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert find_cause([error]) == Cause(error, is_out_of_memory=True)
    cause = find_cause(traceback(error))
    assert cause is not None
    assert (cause.text, cause.is_out_of_memory) == (error, True)
    cause = find_cause(traceback("ValueError: OutOfMemoryError: no"))
    assert cause is not None
    assert not cause.is_out_of_memory


def test_a_traceback_whose_header_is_cut_off_is_read_too() -> None:
    lines = [*traceback("ValueError: row 9")[1:], "", DURING, "", *traceback("RuntimeError: x")]
    assert text_of(lines) == "ValueError: row 9 (then RuntimeError: x)"


def test_a_file_torn_for_lack_of_memory_is_no_full_disk() -> None:
    lines = [*traceback("MemoryError"), "", DURING, "", *traceback(TORN)]
    assert text_of(lines) == f"{TORN} (after MemoryError)"


RANKS = [
    "W1130 12:00:01.000000 7 torch/distributed/elastic/multiprocessing/api.py:908] Sending",
    *traceback("torch.distributed.elastic.multiprocessing.errors.ChildFailedError:"),
    *["-" * 60] * 12,
    "Root Cause (first observed failure):",
    "[0]:",
    "  time      : 2026-11-30_12:00:01",
    "  host      : node-1",
    "  rank      : 1 (local_rank: 1)",
    "  exitcode  : 1 (pid: 8)",
    *["=" * 60] * 8,
]


def test_the_error_of_a_launcher_is_no_cause() -> None:
    assert text_of([*traceback("ValueError: row 9"), *RANKS]) == "ValueError: row 9"
    called = "subprocess.CalledProcessError: Command '['x']' returned non-zero exit status 1."
    assert text_of([*traceback("KeyError: 'a'"), *traceback(called)]) == "KeyError: 'a'"


def test_of_two_ranks_the_one_that_failed_first_counts() -> None:
    def of_rank(number: int, error: str) -> list[str]:
        return [f"[rank{number}]: {line}" for line in traceback(error)]

    first, second = of_rank(1, "ValueError: no rows"), of_rank(0, "RuntimeError: NaN")
    mixed = [line for pair in zip(first, second, strict=True) for line in pair]
    assert text_of([*mixed, *RANKS]) == "ValueError: no rows"


def test_an_exception_raised_while_python_cleans_up_is_no_cause() -> None:
    noise = ["Exception ignored in: <function Pool.__del__ at 0x7f>"]
    noise += traceback("AttributeError: 'NoneType' object has no attribute 'terminate'")
    assert text_of([*traceback("RuntimeError: the end"), *noise]) == "RuntimeError: the end"
    assert find_cause(["step 1", *noise]) is None


def test_a_log_without_an_error_names_no_cause() -> None:
    assert find_cause([]) is None
    assert find_cause(["step 1", "all is well"]) is None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.text(), st.sampled_from([DIRECT, DURING, FULL, *traceback("E: 1")]))))
def test_any_log_can_be_read(lines: list[str]) -> None:
    found = find_cause(lines, output_dir="/x")
    assert found is None or found.text
