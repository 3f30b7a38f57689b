"""Which names hold secrets, and that nothing of real recipes is taken for one."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.core.redaction import Redactor, config_secrets
from flows.core.secret_names import holds_secret, is_common, is_secret
from mcp_server.catalog.catalog import RECIPES_DIR

ROOT = Path(__file__).parents[2]


def _words(text: str) -> list[str]:
    return text.split()


SECRET = _words(
    """
    HF_TOKEN hfToken hftoken HF_TOKENS TOKEN access_token accessToken auth_token _authToken
    api-key apiKey x-api-key API_KEYS APIKEY ACCESSKEY AWS_SECRET_ACCESS_KEY secret_key
    client_secret SECRETS passwd DB_PASSWORD PGPASSWORD db_password DB_PASS MYPASS SSHPASS
    DB_PWD MYSQL_PWD my-api-key MY_KEY KEY OPENAI_KEY WANDB_API_KEY KAGGLE_KEY SLACK_WEBHOOK_URL
    DISCORD_WEBHOOK SENTRY_DSN GITHUB_PAT JWT AZURE_STORAGE_CONNECTION_STRING
    PREFECT_API_AUTH_STRING Authorization BASIC_AUTH ssh_private_key
    GOOGLE_APPLICATION_CREDENTIALS AWS_ACCESS_KEY_ID USER_TOKEN ENCRYPTION_KEY
    """
)
NOT_SECRET = _words(
    """
    PATH PWD OLDPWD MONKEY keyboard author compass bypass passthrough_attributes
    TOKENIZERS_PARALLELISM MAX_TOKENS max_new_tokens num_tokens n_tokens tokens_per_second
    input_tokens_per_minute pad_token eos_token_id bos_token tokenizer_name tokenizer_pad_token
    skip_special_tokens stop_token_ids mean_token_accuracy token_type api_key_env_varname
    HF_TOKEN_PATH SECRET_NAME PASSWORD_FILE token_url DATASET_KEY primary_key OUMI_FLOWS_JOB_KEY
    """
)


@pytest.mark.parametrize("name", SECRET)
def test_a_name_that_holds_a_secret(name: str) -> None:
    assert is_secret(name)
    assert holds_secret(name, "7f3a9b21c4-x")


@pytest.mark.parametrize("name", NOT_SECRET)
def test_a_name_that_holds_none(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MY_KEY", "messages"),
        ("KEY", "ultrachat_200k"),
        ("token", "false"),
        ("tokens", 512),
        ("token_loss", "0.5"),
        ("user_token", "<|user|>"),
        ("HF_TOKEN", "$HF_TOKEN"),
        ("HF_TOKEN", "${oc.env:HF_TOKEN}"),
        ("HF_TOKEN", ""),
        ("HF_TOKEN", None),
        ("GOOGLE_APPLICATION_CREDENTIALS", "keys/service-account.json"),
        ("API_KEY", "[insert-here]"),
    ],
)
def test_a_value_that_is_no_secret_under_such_a_name(name: str, value: object) -> None:
    assert not holds_secret(name, value)


def test_a_random_value_is_no_path() -> None:
    assert not is_common("/aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1v")
    assert is_common("/root/keys/service-account.json")


RECIPES = sorted([*(ROOT / "examples").rglob("*.yaml"), *RECIPES_DIR.rglob("*.yaml")])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_nothing_of_an_example_or_recipe_is_taken_for_a_secret(path: Path) -> None:
    text = path.read_text()
    config: Any = yaml.safe_load(text)
    assert Redactor().config(config) == config
    assert Redactor(config_secrets(config)).text(text) == text
