"""An error is one line that says what happened, to what, and what to do next."""

import pytest

from flows.core import errors
from flows.core.errors import ErrorCode, OumiFlowsError


def kinds() -> list[type[OumiFlowsError]]:
    return OumiFlowsError.__subclasses__()


def test_every_code_has_one_error_and_every_error_its_code() -> None:
    assert sorted(kind.code for kind in kinds()) == sorted(ErrorCode)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    lines = [line for line in (errors.__doc__ or "").splitlines() if "── " in line]
    drawn = [(line.index("──"), *line.partition("── ")[2].split()) for line in lines]
    tree = [
        (depth, kind)
        for parent in kinds()
        for depth, kind in ((1, parent), *((5, child) for child in parent.__subclasses__()))
    ]
    of_the_module = [(depth, kind) for depth, kind in tree if kind.__module__ == errors.__name__]
    assert drawn == [(depth, kind.__name__, kind.code) for depth, kind in of_the_module]


@pytest.mark.parametrize("kind", kinds())
def test_an_error_is_one_line(kind: type[OumiFlowsError]) -> None:
    error = kind("the job\n  is gone", "Look  at\tlist_jobs")
    assert str(error) == f"{kind.code}: the job is gone. Look at list_jobs."


@pytest.mark.parametrize(
    ("what", "next_step", "line"),
    [
        ("It broke", "Repair it", "INTERNAL: It broke. Repair it."),
        ("It broke.", "Repair it.", "INTERNAL: It broke. Repair it."),
        ("It broke...", "Repair it!", "INTERNAL: It broke. Repair it!"),
        ("What broke? ", "Who knows?", "INTERNAL: What broke? Who knows?"),
    ],
)
def test_sentences_end_once(what: str, next_step: str, line: str) -> None:
    assert str(OumiFlowsError(what, next_step)) == line


def test_the_sentences_come_without_the_code() -> None:
    assert errors.Conflict("two\nkeys", "Use one").sentences == "two keys. Use one."


def test_an_error_survives_a_process_boundary() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(errors.JobNotFound("no job x", "List them")))
    assert (type(error), str(error)) == (
        errors.JobNotFound,
        "JOB_NOT_FOUND: no job x. List them.",
    )
