"""Reading a pipeline: what is wrong with it is said before anything of it is started."""

from typing import Any

import pytest

from flows.core.errors import InvalidConfig
from flows.core.pipelines.written import read_pipeline


def step(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "config_path": f"{name}.yaml", **fields}


def test_steps_are_ordered_behind_what_they_refer_to() -> None:
    pipeline = read_pipeline(
        [
            step("infer", needs=["evaluate"]),
            step("evaluate", overrides={"model.model_name": "${train.output_dir}"}),
            step("train"),
        ],
        name="p",
    )
    assert [one.name for one in pipeline.steps] == ["train", "evaluate", "infer"]
    assert pipeline.parts()[1].after == ["train"]


def test_a_step_repeated_over_a_list_is_a_job_for_each_item_and_others_go_with_it() -> None:
    pipeline = read_pipeline(
        {
            "name": "p",
            "steps": [
                step("train", each=[0.1, 0.2], overrides={"lr": "${item}", "out": "r-${index}"}),
                step("evaluate", each="${train}", overrides={"m": "${train.output_dir}/${item}"}),
                step("report", envs={"ALL": "${train[1].job_id}"}, when="len(${train.state}) > 1"),
            ],
        },
        name="other",
    )
    parts = {part.name: part for part in pipeline.parts()}
    assert list(parts) == ["train[0]", "train[1]", "evaluate[0]", "evaluate[1]", "report"]
    assert parts["train[1]"].job["overrides"] == {"lr": 0.2, "out": "r-1"}
    assert parts["evaluate[1]"].after == ["train[1]"]
    assert parts["evaluate[1]"].job["overrides"] == {"m": "${train.output_dir}/0.2"}
    assert parts["report"].meant == {"train": ["train[0]", "train[1]"]}


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([], "has no steps"),
        (["train"], "Step 1 is not a mapping"),
        ([step("a b")], "Step 1 has the name 'a b'"),
        ([step("item")], "Step 1 has the name 'item'"),
        ([step("a"), step("a")], "Two steps are named a"),
        (
            [step("a", needs=["b"]), step("bb")],
            "Step a needs b, which is not a step. Did you mean bb",
        ),
        ([step("a", needs="b")], "Step a: needs: Input should be a valid list"),
        ([step("a", overrides={"x": "${b.output_dir}"})], "Step a needs b, which is not a step"),
        (
            [
                step("a", overrides={"x": "${b.job_id}"}),
                step("b", needs=["c"]),
                step("c", needs=["a"]),
            ],
            "The steps wait for each other: ",
        ),
        ([step("a", needs=["a"])], "The steps wait for each other: a -> a"),
        (
            [step("a"), step("b", envs={"x": "${a.outputs}"})],
            "${a.outputs} is not a field of a job",
        ),
        ([step("a"), step("b", when="${a.metrics} > 1")], "${a.metrics} is not a field of a job"),
        ([step("a"), step("b", when="a > 1")], "unknown word 'a'"),
        ([step("a", envs={"x": "${item}"})], "${item} has no meaning without `each`"),
        ([step("a", envs={"x": "${oops"})], None),
        ([step("a", envs={"x": "${a b}"})], "${a b} is not a reference"),
        ([step("a", each=[])], "`each` is empty"),
        ([step("a"), step("b", each="a")], "`each` is 'a'"),
        ([step("a", each=[{"lr": 1}], envs={"x": "${item.rl}"})], "has no rl"),
        ([step("a", each=[{"lr": 1}], envs={"x": "${item}"})], "has several values"),
        ([step("a", each=[1]), step("b", envs={"x": "${a[1].job_id}"})], "but a has 1 job"),
        ([step("a"), step("b", envs={"x": "${a[0].job_id}"})], "but a has 1 job"),
        ([step("a", each=list(range(201)))], "has more than 200 jobs"),
        ({"stpes": []}, "a pipeline has no key 'stpes'. Did you mean steps?"),
    ],
)
def test_a_pipeline_that_cannot_be_run_is_refused(steps: Any, says: str | None) -> None:
    if says is None:
        assert read_pipeline(steps, name="p").parts()
        return
    with pytest.raises(InvalidConfig) as raised:
        read_pipeline(steps, name="p").parts()
    assert says in raised.value.sentences


def test_a_dollar_more_keeps_the_braces() -> None:
    (part,) = read_pipeline([step("a", each=[7], envs={"x": "$${HOME} ${item}"})], name="p").parts()
    assert part.job["envs"] == {"x": "$${HOME} 7"}
