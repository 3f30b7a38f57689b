"""The index file: a SQLite database with full-text search, written once and then only read."""

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from mcp_server.docs_index.entries import CLASS_KINDS, Api, DocEntry, ModuleEntry

FORMAT: Final = 1
"""Part of the file's name: each format has its own file."""

_TABLES: Final = """
CREATE TABLE entry (id INTEGER PRIMARY KEY, module TEXT, kind TEXT, body TEXT);
CREATE TABLE name (key TEXT, exactness INTEGER, entry INTEGER, field TEXT);
CREATE INDEX name_key ON name (key);
CREATE TABLE module (body TEXT);
CREATE VIRTUAL TABLE words USING fts5(name, fields, summary, text, content='',
  tokenize='porter unicode61');
"""
_STOP_WORDS: Final = {
    *("a", "an", "and", "are", "as", "do", "does", "for", "from", "how", "i", "in", "is", "it"),
    *("my", "of", "on", "or", "the", "to", "what", "when", "which", "with", "you"),
}
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD: Final = re.compile(r"[^\W_]+")
# The weights belong to the columns. Names of methods are common; most searches want configs.
_SEARCH: Final = """
SELECT entry.body FROM words JOIN entry ON entry.id = words.rowid WHERE words MATCH ?
ORDER BY bm25(words, 12.0, 5.0, 4.0, 1.0)
  * (CASE entry.kind WHEN 'method' THEN 0.7 ELSE 1.0 END)
  * (CASE entry.module WHEN 'oumi.core.configs' THEN 1.3 ELSE 1.0 END)
LIMIT 200
"""


class Hit(NamedTuple):
    """A matching entry; whether the query names it, and which field of it."""

    entry: DocEntry
    is_named: bool
    field: str | None = None


class DocsStore:
    """An index file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, api: Api) -> None:
        """Fill a new file."""
        with closing(sqlite3.connect(self._path)) as database, database:
            database.executescript(_TABLES)
            ids: dict[str, int] = {}
            for number, entry in enumerate(api.entries):
                ids[entry.qualified_name] = number
                _add_entry(database, number, entry)
            others = [(path.lower(), ids.get(name)) for path, name in api.other_paths.items()]
            database.executemany(
                "INSERT INTO name VALUES (?, 0, ?, NULL)", [o for o in others if o[1] is not None]
            )
            database.executemany(
                "INSERT INTO module VALUES (?)",
                [(module.model_dump_json(),) for module in api.modules],
            )

    def find_named(self, name: str) -> list[Hit]:
        """Find entries with exactly this path, name or field, ignoring case, best first."""
        with closing(self._open()) as database:
            rows = database.execute(
                "SELECT entry.body, min(name.exactness), name.field FROM name "
                "JOIN entry ON entry.id = name.entry WHERE name.key = ? "
                "GROUP BY entry.id ORDER BY 2, entry.kind = 'method', length(entry.module)",
                (name.strip().lower(),),
            ).fetchall()
        best = min((row[1] for row in rows), default=0)
        # A hit by the field's name alone counts only if there is no other.
        return [
            Hit(_entry(row[0]), is_named=True, field=row[2])
            for row in rows
            if row[1] == best or row[1] < 3
        ]

    def search(self, terms: Sequence[str]) -> list[Hit]:
        """Find entries with all these words, or else with any of them, best first."""
        words = [word for term in terms for word in _words(term)]
        if not words:
            return []
        with closing(self._open()) as database:
            for question in _questions(list(dict.fromkeys(words))):
                rows = database.execute(_SEARCH, (question,)).fetchall()
                if rows:
                    return [Hit(_entry(row[0]), is_named=False) for row in rows]
        return []

    def modules(self) -> list[ModuleEntry]:
        """List every module that has something public."""
        with closing(self._open()) as database:
            rows = database.execute("SELECT body FROM module").fetchall()
        return [ModuleEntry.model_validate_json(row[0]) for row in rows]

    def short_names(self) -> list[str]:
        """Read the names of all classes and functions, for suggestions."""
        with closing(self._open()) as database:
            rows = database.execute("SELECT body FROM entry WHERE kind != 'method'").fetchall()
        return [json.loads(row[0])["name"] for row in rows]

    def count(self) -> int:
        """Count the entries."""
        with closing(self._open()) as database:
            return database.execute("SELECT count(*) FROM entry").fetchone()[0]

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self._path.as_uri()}?mode=ro&immutable=1", uri=True)


def fits(entry: DocEntry, *, module: str, kind: str) -> bool:
    """Whether an entry is in a module or below it, and of a kind."""
    kinds = CLASS_KINDS if kind == "class" else (kind,)
    inside = not module or f"{entry.module}.".startswith(f"{module.rstrip('.')}.")
    return inside and (not kind or entry.kind in kinds)


def _add_entry(database: sqlite3.Connection, number: int, entry: DocEntry) -> None:
    row = (number, entry.module, entry.kind, entry.model_dump_json())
    database.execute("INSERT INTO entry VALUES (?, ?, ?, ?)", row)
    database.execute(
        "INSERT INTO words (rowid, name, fields, summary, text) VALUES (?, ?, ?, ?, ?)",
        (number, *_texts(entry)),
    )
    database.executemany(
        "INSERT INTO name VALUES (?, ?, ?, ?)",
        [(key.lower(), rank, number, field) for key, rank, field in _names(entry)],
    )


def _entry(body: str) -> DocEntry:
    return DocEntry.model_validate_json(body)


def _names(entry: DocEntry) -> Iterator[tuple[str, int, str | None]]:
    """List the names of an entry, how exact each is (0: the path), and its field."""
    yield entry.qualified_name, 0, None
    yield entry.name, 1, None
    for name in entry.registered_as:
        yield name, 1, None
    owner = entry.name if entry.kind in CLASS_KINDS else entry.parent_class
    if owner and entry.kind == "method":
        yield f"{owner}.{entry.name}", 1, None
    for field in entry.fields:
        yield f"{entry.qualified_name}.{field.name}", 0, field.name
        yield f"{owner}.{field.name}", 1, field.name
        yield field.name, 3, field.name


def _texts(entry: DocEntry) -> tuple[str, str, str, str]:
    return (
        _spread([entry.name, entry.parent_class, *entry.registered_as]),
        _spread(field.name for field in entry.fields),
        entry.summary,
        "\n".join(
            [
                entry.module,
                entry.signature,
                *(field.description for field in entry.fields),
                *(section.content for section in entry.sections),
            ]
        ),
    )


def _spread(names: Iterable[str]) -> str:
    """Join names and the words in them."""
    return " ".join(f"{name} {_CAMEL.sub(' ', name)}" for name in names)


def _questions(words: Sequence[str]) -> Iterator[str]:
    """Queries for the full-text index, to try in turn."""
    yield " AND ".join(f'"{word}"' for word in words)
    yield " AND ".join(f'"{word}"*' for word in words)
    yield " OR ".join(f'"{word}"' for word in words)


def _words(term: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(term)]
    return [word for word in words if word not in _STOP_WORDS] or words
