"""What is counted in rows, and what becomes a finding."""

from collections.abc import Sequence
from typing import Any

import pytest

from flows.core.training_data.contents import content_of_row
from flows.core.training_data.facts import Counter, Size, has_wrong_order
from flows.core.training_data.judging import judge
from flows.core.training_data.masked_text import masked_text, shorten
from flows.core.training_data.preview import DataFacts


@pytest.mark.parametrize(
    ("roles", "is_wrong"),
    [
        ("user assistant", False),
        ("system user assistant", False),
        ("user assistant user assistant", False),
        ("user assistant tool assistant", False),
        ("user assistant tool tool assistant user assistant", False),
        ("", False),
        ("system", True),
        ("user", True),
        ("assistant user", True),
        ("user user assistant", True),
        ("user assistant assistant", True),
        ("user tool assistant", True),
        ("user assistant tool", True),
        ("user system assistant", True),
    ],
)
def test_turns_alternate_and_end_with_an_answer(roles: str, is_wrong: bool) -> None:
    assert has_wrong_order(roles.split()) is is_wrong


def test_rows_of_every_format_have_a_prompt_and_an_answer() -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    older = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    rows = [
        {"messages": chat},
        {"conversation": {"messages": chat}},
        {"conversations": older},
    ]
    assert {content_of_row(row) for row in rows} == {content_of_row(rows[0])}
    assert content_of_row(rows[0]).answer == "Ho"
    assert content_of_row({"prompt": "Hi", "completion": chat}).answer == "Hi\nHo"
    assert content_of_row({"instruction": "Add", "input": "1", "output": "2"}).prompt == "Add\n1"
    pair = content_of_row({"prompt": chat[:1], "chosen": "a", "rejected": "a "})
    assert (pair.prompt, pair.has_equal_pair, pair.has_empty_answer) == ("Hi", True, False)
    assert content_of_row({"text": "Hi"}).answer == "Hi"


def test_an_answer_that_calls_a_tool_is_not_empty() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    turns = [{"role": "user", "content": "Hi"}, call]
    assert not content_of_row({"messages": turns}).has_empty_answer
    assert content_of_row({"messages": [turns[0], {**call, "tool_calls": None}]}).has_empty_answer


def counted(rows: Sequence[dict[str, str]], sizes: Sequence[Size] = ()) -> DataFacts:
    counter = Counter()
    for row in rows:
        counter.read(content_of_row(row))
    for index, size in enumerate(sizes):
        counter.measure(size, dataset="d", row=index)
    held = [content_of_row({"text": "a"}).digest, content_of_row({"text": "z"}).digest]
    return counter.facts(rows_total=9, total_is_exact=True, max_length=4, validation=held)


def test_rows_are_counted() -> None:
    rows = [{"text": text} for text in ("a", "b", "a ", "")]
    sizes = [Size(4, 9, 1), Size(2, 2, 0), Size(1, 1, 1)]
    facts = counted(rows, sizes)
    assert facts.model_dump(exclude_defaults=True) == {
        "rows_checked": 4,
        "rows_total": 9,
        "max_length": 4,
        "truncated": 1,
        "no_label": 1,
        "empty": 1,
        "duplicates": 1,
        "overlap": 1,
        "validation_rows": 2,
        "longest": {"dataset": "d", "row": 0, "tokens": 9},
    }


def facts(**given: Any) -> DataFacts:
    return DataFacts(rows_checked=1000, rows_total=1000, max_length=8, **given)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"no_label": 1000}, ["error no_label_left"]),
        ({"no_label": 50}, ["warning no_label_left"]),
        ({"no_label": 49}, []),
        ({"truncated": 200}, ["warning much_truncated"]),
        ({"truncated": 199}, []),
        ({"empty": 10}, ["warning empty_answers"]),
        ({"empty": 9}, []),
        ({"duplicates": 100}, ["warning data_duplicates"]),
        ({"duplicates": 99}, []),
        ({"overlap": 1, "validation_rows": 100}, ["warning data_overlap"]),
        ({"overlap": 1, "validation_rows": 101}, []),
        ({"failed": 1}, ["error bad_data_row"]),
        ({"failed": 1, "no_label": 999}, ["error bad_data_row", "error no_label_left"]),
        ({"failed": 1000, "no_label": 0}, ["error bad_data_row"]),
    ],
)
def test_a_defect_is_reported_from_some_part_of_the_rows_on(
    given: dict[str, int], found: list[str]
) -> None:
    judged = judge(facts(**given))
    assert [f"{item.severity} {item.code}" for item in judged] == found


def test_what_the_loss_covers_is_between_marks_and_repeated_tokens_are_counted() -> None:
    def decode(tokens: list[int]) -> str:
        return "".join(map(chr, tokens))

    tokens = [ord(sign) for sign in "hi" + "I" * 9 + "ho!"]
    trained = [False] * 11 + [True] * 2 + [False]
    assert masked_text(tokens, trained, decode) == "hiI*9⟦ho⟧!"


@pytest.mark.parametrize("sign", ["x", "é", "语", '"', "\n"])
def test_a_long_text_loses_its_middle_until_it_fits(sign: str) -> None:
    text = f"begin{sign * 5000}end"
    short = shorten(text, 500)
    assert len(short.encode()) <= 500
    assert short.startswith("begin")
    assert short.endswith("end")
    assert "characters left out" in short
    assert shorten("short", 500) == "short"
