"""Names derived from a job."""

import re
from uuid import UUID, uuid4

import pytest

from flows.core import names

JOB = UUID("12345678-9abc-4def-8123-456789abcdef")


def test_a_launch_key_is_the_same_on_every_launch_of_an_attempt() -> None:
    assert names.launch_key(JOB, 1) == names.launch_key(str(JOB), 1)
    assert names.launch_key(JOB, 2) == "oumi-123456789abc4def8123456789abcdef-2"


def test_launch_keys_differ_by_job_and_by_attempt() -> None:
    other = uuid4()
    keys = [names.launch_key(job, n) for job in (JOB, other) for n in (1, 2, 11)]
    assert len(set(keys)) == len(keys)


def test_a_launch_key_names_a_folder_a_cluster_job_and_an_environment_value() -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,60}", names.launch_key(JOB, 1000))


@pytest.mark.parametrize(
    ("command", "model", "job_name", "name"),
    [
        ("train", "HuggingFaceTB/SmolLM2-135M", "", "train-SmolLM2-135M-12345678"),
        ("train", "./models/tiny/", "", "train-tiny-12345678"),
        ("train", "", "", "train-12345678"),
        ("train", "meta/llama", "my run", "my run-12345678"),
    ],
)
def test_a_run_is_named_after_what_a_person_knows(
    command: str, model: str, job_name: str, name: str
) -> None:
    assert names.run_name(JOB, command=command, model=model, job_name=job_name) == name


def test_tags_tell_a_job_its_command_and_its_cloud() -> None:
    assert names.run_tags(command="train", cloud="local") == [
        "oumi",
        "command:train",
        "cloud:local",
    ]


def test_the_default_pool_has_the_default_deployment_and_others_their_own() -> None:
    assert names.deployment("oumi") == "oumi-job/default"
    assert names.deployment("gpu") == "oumi-job/gpu"


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("My Run", "my-run"),
        ("a/b.c  d_e", "a-b-c-d-e"),
        ("--x--", "x"),
        ("x" * 300, "x" * 40),
        ("x" * 39 + "/y", "x" * 39),
        ("🚀", "job"),
        ("", "job"),
        ("🚀 to the moon 🚀", "to-the-moon"),
    ],
)
def test_a_slug_is_short_lower_case_and_dashed(text: str, slug: str) -> None:
    assert names.slug(text) == slug
