import json

import pytest

from flows.redaction import (
    Redactor,
    config_secrets,
    hide_tokens,
    is_secret,
    is_secret_override,
    without_secrets,
)

TOKENS = [
    "hf_AbCdEfGh0123456789",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "sk-proj-abcDEF0123456789abcdef",
    "ghp_abcdefghijklmnop0123",
    "AKIAABCDEFGHIJKLMNOP",
    "xoxb-1234567890-abc",
    "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2QT4",
]


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_of_a_known_shape_is_hidden_wherever_it_is(token: str) -> None:
    for text in (token, f"x {token}.", f"'{token}'", f"--token={token}", f"a/{token}/b"):
        assert token not in hide_tokens(text)
        assert token not in Redactor().text(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("https://me:pass@host/x", "https://***@host/x"),
        ("export MY_PASSWORD='a b' x", "export MY_PASSWORD=*** x"),
        ("WANDB_API_KEY=0123456789abcdef", "WANDB_API_KEY=***"),
    ],
)
def test_what_says_that_it_is_a_secret_is_hidden(text: str, shown: str) -> None:
    assert Redactor().text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "{'loss': '4.1', 'num_tokens': 512, 'eos_token': '</s>', 'step': 10}",
        "pad_token_id: 0, import hf_transformers, from risk-adjusted-learning-rate",
        "TOKENIZERS_PARALLELISM=false MAX_TOKENS=512 HF_TOKEN=$HF_TOKEN KEY=${KEY}",
        "https://example.org:8080/a@b",
        "OUMI_FLOWS_JOB_KEY=oumi-0123-1",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor().text(text) == text


def test_a_known_secret_is_hidden_and_a_short_one_is_not_looked_for() -> None:
    redactor = Redactor(["hunter2", "abc", "-----BEGIN KEY-----\n0123456789abcdef\nx"])
    assert redactor.text("hunter2 abc\n0123456789abcdef x") == "*** abc\n*** x"


def test_a_config_is_shown_without_its_secrets() -> None:
    config = {"run": "x", "envs": {"HF_TOKEN": "abc", "MAX_TOKENS": "512", "db_password": 7}}
    assert config_secrets(config) == ["abc", "7"]
    assert without_secrets(config) == {
        "run": "x",
        "envs": {"HF_TOKEN": "***", "MAX_TOKENS": "512", "db_password": "***"},
    }


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("hfToken", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("PREFECT_API_AUTH_STRING", True),
        ("KEY", True),
        ("GITHUB_PAT", True),
        ("PATH", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("MAX_TOKENS", False),
        ("MONKEY", False),
        ("OUMI_FLOWS_JOB_KEY", False),
    ],
)
def test_the_name_tells_a_secret(name: str, *, secret: bool) -> None:
    assert is_secret(name) is secret


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [
        ("remote_params.api_key", "x", True),
        ("model.model_kwargs.revision", TOKENS[0], True),
        ("remote_params.api_key_env_varname", "OPENAI_API_KEY", False),
        ("model.tokenizer_pad_token", "<pad>", False),
        ("remote_params.api_key", None, False),
    ],
)
def test_an_override_that_gives_a_secret_is_known(key: str, value: object, *, secret: bool) -> None:
    assert is_secret_override(key, value) is secret


def test_json_stays_json() -> None:
    told = json.dumps({token: [f'say "{token}"\\{token}'] for token in TOKENS})
    hidden = json.loads(hide_tokens(told))
    assert hidden == {"***": ['say "***"\\***']}
