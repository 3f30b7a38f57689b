"""The table of settings is what the settings are."""

from collections.abc import Callable

from flows.core.settings import Settings


def expected_rows() -> list[list[str]]:
    return [
        [f"`OUMI_FLOWS_{name.upper()}`", default_of(field.default), field.description or ""]
        for name, field in Settings.model_fields.items()
    ]


def default_of(value: object) -> str:
    if value is None or value == "":
        return "unset"
    return f"`{value:g}`" if isinstance(value, float) and value < 1e5 else f"`{value}`"


def test_the_configuration_table_lists_every_setting_as_it_is(
    table_of: Callable[[str, str], list[list[str]]],
) -> None:
    expected = expected_rows()
    as_markdown = "\n".join(f"| {' | '.join(row)} |" for row in expected)
    shown = table_of("docs/configuration.md", "variable")
    assert shown == expected, f"docs/configuration.md should have:\n{as_markdown}"


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
