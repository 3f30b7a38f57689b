import base64
import html
import json
import re
import shlex
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from flows.core.redaction import (
    Redactor,
    config_secrets,
    hide_tokens,
    is_secret_override,
    secrets_of,
)

TOKENS = [
    "hf_AbCdEfGh0123456789",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "sk-proj-abcDEF0123456789abcdef",
    "sk-ant-api03-abcDEF0123456789abcdef",
    "gsk_abcdefghijklmnopqrstuvwxyz0123456789",
    "ghp_abcdefghijklmnop0123",
    "github_pat_11ABCDEFG0abcdefghijkl_mnop",
    "glpat-abcdefghij0123456789",
    "AKIAABCDEFGHIJKLMNOP",
    "xoxb-1234567890-abc",
    "xapp-1-A0123456789-0123456789-abcdef",
    "sk_" + "live_abcdefghijklmnop01234567",
    "rk_" + "live_abcdefghijklmnop01234567",
    "whsec_abcdefghijklmnop01234567",
    "sq0csp-" + "a" * 43,
    "SG." + "a1" * 11 + "." + "b2" * 21 + "c",
    "0123456789abcdef0123456789abcdef-us12",
    "AC0123456789abcdef0123456789abcdef",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "GOCSPX-abcdefghijklmnopqrstuvwx",
    "ya29.a0AbcdefGHIJKLmnopqrstuvwx",
    "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    "pypi-AgEIcHlwaS5vcmcCJDAwMDAwMDAwLTAwMDA",
    "dckr_pat_abcdefghijklmnopqrstuvwxyz0",
    "dapi0123456789abcdef0123456789abcdef",
    "hvs.CAESIAbcdefghijklmnopqrstuvwxyz0123",
    "lin_api_abcdefghijklmnopqrstuvwxyz0123456789",
    "nvapi-abcdefghijklmnop0123",
    "r8_abcdefghijklmnopqrst0123",
    "pplx-abcdefghijklmnopqrst0123",
    "123456789:AAabcdefghijklmnopqrstuvwxyz0123456",
    "MTAxMjM0NTY3ODkwMTIzNDU2.GabcdE.abcdefghijklmnopqrstuvwxyz0",
    "AGE-SECRET-KEY-1ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGHIJKLMNOPQ",
    "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2QT4",
]
"""Made up after the rules that scanners such as detect-secrets 1.5 and gitleaks 8 publish."""

PEM = "\n".join(
    [
        "-----BEGIN RSA PRIVATE KEY-----",
        *(f"MIIEpAIBAAKCAQEA0123{line}" * 3 for line in range(4)),
        "-----END RSA PRIVATE KEY-----",
    ]
)


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_of_a_known_shape_is_hidden_wherever_it_is(token: str) -> None:
    for text in (token, f"x {token}.", f"'{token}'", f"--x={token}", f"a/{token}/b", f"({token})"):
        assert token not in hide_tokens(text)
        assert token not in Redactor().text(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ("https://me:pass@host/x", "https://***@host/x"),
        ("git clone https://0123456789abcdef@host/x", "git clone https://***@host/x"),
        ("https://hooks.slack.com/services/T0/B0/x9 failed", "https://*** failed"),
        ("https://discord.com/api/webhooks/1/x9", "https://***"),
        ("export MY_PASSWORD='a b' x", "export MY_PASSWORD='***' x"),
        ("WANDB_API_KEY=0123456789abcdef", "WANDB_API_KEY=***"),
        ("DB_PWD=x;y", "DB_PWD=***"),
        ('SENTRY_DSN="abc def"', 'SENTRY_DSN="***"'),
        ("wandb login 0123456789abcdef && x", "wandb login *** && x"),
        ("wandb login --relogin 0123456789abcdef", "wandb login --relogin ***"),
        ("hf auth login --token s3cretvalue --x", "hf auth login --token *** --x"),
        ("run --api-key=s3cretvalue --max-tokens 512", "run --api-key=*** --max-tokens 512"),
        ("docker login -u me -p s3cret x", "docker login -u me -p *** x"),
        ("sshpass -p hunter2 ssh x", "sshpass -p *** ssh x"),
        ("curl -u me:hunter2 https://x", "curl -u me:*** https://x"),
        ("setenv X_TOKEN abc", "setenv X_TOKEN ***"),
        ("machine x login y password s3cret", "machine x login y password ***"),
        ("{'api_key': 's3cretvalue99', 'n': 1}", "{'api_key': '***', 'n': 1}"),
        ('{"password": "correct-horse"}', '{"password": "***"}'),
        ('{"password": "it\\"s 1234"}', '{"password": "***"}'),
        ("client(api_key='s3cretvalue99', n=1)", "client(api_key='***', n=1)"),
        ("GET /x?access_token=s3cretvalue99&n=1", "GET /x?access_token=***&n=1"),
        ("os.environ['MY_TOKEN'] = 's3cretvalue99'", "os.environ['MY_TOKEN'] = '***'"),
        ("AccountName=x;AccountKey=" + "a1" * 43 + "==", "AccountName=x;AccountKey=***"),
        (f"key:\n{PEM}\nnext", "key:\n" + "***\n" * 6 + "next"),
    ],
)
def test_what_says_that_it_is_a_secret_is_hidden(text: str, shown: str) -> None:
    assert Redactor().text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "{'loss': '4.1', 'num_tokens': 512, 'eos_token': '</s>', 'step': 10}",
        "{'mean_token_accuracy': 0.98765432, 'token_loss': 0.12345678}",
        "pad_token_id: 0, import hf_transformers, from risk-adjusted-learning-rate",
        "TOKENIZERS_PARALLELISM=false MAX_TOKENS=512 HF_TOKEN=$HF_TOKEN KEY=${KEY}",
        "export WANDB_API_KEY=${WANDB_API_KEY:?not set}",
        "https://example.org:8080/a@b git clone https://git@github.com/x",
        "OUMI_FLOWS_JOB_KEY=oumi-0123-1",
        "DATASET_KEY=messages sort_key: created_at primary_key='conversation_id'",
        "model(pad_token='<|eot|>', max_new_tokens=12345678, tokenizer_name='org/tokenizer')",
        "ValueError: token: expected a string; password is missing",
        "api_key=args.api_key, token=os.environ['HF_TOKEN'], token=get_token()",
        "GOOGLE_APPLICATION_CREDENTIALS=/root/keys/service-account.json",
        "api_key_env_varname: OPENAI_API_KEY",
        "commit 0123456789abcdef0123456789abcdef01234567 sha256:" + "0123456789abcdef" * 4,
        "Saving to /data/tokens-2024/checkpoint-100, 7c459f95-9c55-451d-aabe-02d71035a5be",
        "compass: north, bypass=True, author: another-person",
        "wandb login",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor().text(text) == text
    assert Redactor().config({"run": text}) == {"run": text}


@pytest.mark.parametrize(
    "value", ["abc", "hunter2", "messages", "instruction", "12345678", "true", "changeme"]
)
def test_a_short_or_common_value_is_not_looked_for_in_other_text(value: str) -> None:
    known = secrets_of({"DB_PASSWORD": value, "DATASET_KEY": value, "HF_TOKEN": value})
    assert Redactor(known).text(f"one {value} of them") == f"one {value} of them"


SPECIAL = "p'a ss/w\"ord&1\\é%<"


@pytest.mark.parametrize(
    "written",
    [
        SPECIAL,
        json.dumps(SPECIAL),
        json.dumps(SPECIAL, ensure_ascii=False),
        json.dumps(json.dumps(SPECIAL)),
        repr(SPECIAL),
        quote(SPECIAL),
        re.sub("%..", lambda code: code[0].lower(), quote(SPECIAL, safe="")),
        quote_plus(SPECIAL),
        shlex.quote(SPECIAL),
        html.escape(SPECIAL),
        base64.b64encode(SPECIAL.encode()).decode(),
        base64.b64encode(b"user:" + SPECIAL.encode()).decode(),
        base64.b64encode(b"xuser:" + SPECIAL.encode() + b"yz").decode(),
    ],
)
def test_a_known_secret_is_hidden_however_programs_write_it(written: str) -> None:
    shown = Redactor([SPECIAL]).text(f"a {written} b")
    assert "***" in shown
    assert len(shown) < 20
    for part in ("ss/w", "ord", "word", "cGEgc", "cyd3"):
        assert part not in shown


def test_the_longer_of_two_secrets_that_overlap_leaves_nothing_of_either() -> None:
    redactor = Redactor(["abcdefgh1", "gh1zzzzz2", "abcdefgh1zz"])
    assert redactor.text("x abcdefgh1zzzzz2 y") == "x *** y"


def test_of_a_secret_with_several_lines_each_is_hidden() -> None:
    redactor = Redactor(["-----BEGIN KEY-----\n0123456789abcdef\nx"])
    assert redactor.text("0123456789abcdef x") == "*** x"


def test_a_config_is_shown_without_its_secrets() -> None:
    config: dict[str, Any] = {
        "run": "wandb login 0123456789abcdef\necho ok",
        "envs": {"HF_TOKEN": "abc", "MAX_TOKENS": "512", "db_password": 7, "PGPASS": "${PGPASS}"},
        "remote_params": {"api_key": "x", "api_key_env_varname": "OPENAI_API_KEY"},
        "tokenizer_kwargs": {"pad_token": "<|eot|>", "eos_token_id": 2},
        "dataset": {"messages_key": "messages", "keys": ["prompt", "answer"]},
    }
    shown = Redactor().config(config)
    assert shown == {
        "run": "wandb login ***\necho ok",
        "envs": {
            "HF_TOKEN": "***",
            "MAX_TOKENS": "512",
            "db_password": "***",
            "PGPASS": "${PGPASS}",
        },
        "remote_params": {"api_key": "***", "api_key_env_varname": "OPENAI_API_KEY"},
        "tokenizer_kwargs": {"pad_token": "<|eot|>", "eos_token_id": 2},
        "dataset": {"messages_key": "messages", "keys": ["prompt", "answer"]},
    }


def test_what_a_config_says_in_its_scripts_is_known_in_its_output() -> None:
    config = {
        "envs": {"DATASET_KEY": "messages", "DATABASE_URL": "postgres://me:s3cret-pass@db/x"},
        "setup": "export TEAM_TOKEN='blue-whale-77'\nwandb login 0123456789abcdef",
        "run": "train --password green-whale-78",
    }
    secrets = config_secrets(config)
    assert {"blue-whale-77", "green-whale-78", "0123456789abcdef", "s3cret-pass"} <= set(secrets)
    assert Redactor(secrets).text("messages blue-whale-77") == "messages ***"


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [
        ("remote_params.api_key", "x", True),
        ("a.access_token", "x", True),
        ("a.auth_token", "x", True),
        ("a.api-key", "x", True),
        ("a.apiKey", "x", True),
        ("a.secret_key", "x", True),
        ("a.passwd", "x", True),
        ("TOKEN", "x", True),
        ("a.password", 12345678, True),
        ("model.model_kwargs.revision", TOKENS[0], True),
        ("model.model_kwargs.url", "https://0123456789ab@host/x", True),
        ("remote_params.api_key_env_varname", "OPENAI_API_KEY", False),
        ("remote_params.api_key", "${oc.env:OPENAI_API_KEY}", False),
        ("model.tokenizer_pad_token", "<pad>", False),
        ("model.tokenizer_pad_token", "<|eot|>", False),
        ("generation.max_new_tokens", 512, False),
        ("data.train.datasets", ["a", "b"], False),
        ("remote_params.api_key", None, False),
    ],
)
def test_an_override_that_gives_a_secret_is_known(key: str, value: object, *, secret: bool) -> None:
    assert is_secret_override(key, value) is secret


def test_an_argument_after_the_option_that_names_a_secret_is_hidden() -> None:
    redactor = Redactor(["blue-whale-77"])
    given = ["x", "--token", "abc", "--max-tokens", "512", "--path", "/a/blue-whale-77"]
    shown = ["x", "--token", "***", "--max-tokens", "512", "--path", "/a/***"]
    assert redactor.arguments(given) == shown


def test_json_stays_json() -> None:
    text = json.dumps({token: [f'say "{token}"\\{token}'] for token in TOKENS})
    hidden = json.loads(hide_tokens(text))
    assert hidden == {"***": ['say "***"\\***']}


def test_masked_bytes_keep_their_places_and_lines() -> None:
    raw = b"a \x1b[31mblue-\x1b[0mwhale-77\x1b[K b\r\nhf_AbCdEfGh0123456789 \xff\n"
    masked = Redactor(["blue-whale-77"]).mask(raw)
    assert len(masked) == len(raw)
    assert (masked.index(b"\r\n"), masked.index(b"\xff")) == (
        raw.index(b"\r\n"),
        raw.index(b"\xff"),
    )
    assert b"blue" not in masked
    assert b"whale" not in masked
    assert b"hf_" not in masked
