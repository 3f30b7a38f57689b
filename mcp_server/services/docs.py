"""Searches the API of the installed Oumi."""

import difflib
from collections.abc import Sequence
from itertools import islice
from typing import Final

import anyio.to_thread
from pydantic import Field

from flows.core.errors import InvalidArgument
from flows.core.models import Value
from mcp_server.docs_index.entries import DocEntry, DocField, ModuleEntry
from mcp_server.docs_index.keeper import DocsKeeper
from mcp_server.docs_index.store import DocsStore, Hit, fits

_MAX_BYTES: Final = 11_000
_FIRST_SENTENCE: Final = 140
_SECTION: Final = 500
_DESCRIPTION: Final = 70
_CUT: Final = " [...]"


class FoundDoc(DocEntry):
    """A class, function or method; `fields` may be fewer than there are."""

    fields_left_out: int = Field(
        default=0, description="Fields not shown; query Class.field to see one in full."
    )


class DocsAnswer(Value):
    """The entries of Oumi's API that were found."""

    summary: str = Field(description="One line a person can read; says what was cut.")
    results: list[FoundDoc]
    query: list[str]
    total_matches: int
    oumi_version: str


class DocModule(Value):
    """A package of Oumi."""

    module: str
    description: str
    class_count: int
    function_count: int


class ModuleList(Value):
    """The modules of Oumi's API."""

    summary: str = Field(description="One line a person can read.")
    modules: list[DocModule] = Field(description="Packages: import from these.")
    more: list[str] = Field(description="Further modules with something public.")
    total_entries: int
    oumi_version: str


class DocsService:
    """Answers questions about Oumi's API.

    Args:
        keeper: Has the index.
    """

    def __init__(self, keeper: DocsKeeper) -> None:
        self._keeper = keeper

    async def search(
        self, query: Sequence[str], *, module: str, kind: str, limit: int, summarize: bool
    ) -> DocsAnswer:
        """Find the best entries, as many and as full as an answer holds.

        Raises:
            InvalidArgument: The query is empty.
        """
        terms = [term.strip() for term in query if term.strip()]
        if not terms:
            raise InvalidArgument(
                "query is empty",
                "Give a name such as TrainingParams or words; list_modules shows what there is",
            )
        store = await self._keeper.store()
        hits = await anyio.to_thread.run_sync(_find, store, terms)
        hits = [hit for hit in hits if fits(hit.entry, module=module, kind=kind)]
        shown = _fit(hits[:limit], brief=summarize)
        if hits:
            summary = _words(terms, hits, shown)
        else:
            summary = await anyio.to_thread.run_sync(_nothing, store, terms)
        return DocsAnswer(
            summary=summary,
            results=shown,
            query=terms,
            total_matches=len(hits),
            oumi_version=self._keeper.package().version,
        )

    async def modules(self) -> ModuleList:
        """List every module that has something public."""
        store = await self._keeper.store()
        modules = await anyio.to_thread.run_sync(store.modules)
        packages = [module for module in modules if module.is_package]
        total = await anyio.to_thread.run_sync(store.count)
        version = self._keeper.package().version
        return ModuleList(
            summary=f"{len(modules)} modules of oumi {version}; get_docs(query, module=...) looks "
            "into one and those below it.",
            modules=[_describe_module(module) for module in packages],
            more=[module.module for module in modules if not module.is_package],
            total_entries=total,
            oumi_version=version,
        )


def _describe_module(module: ModuleEntry) -> DocModule:
    return DocModule(
        module=module.module,
        description=_shorten(module.description, _DESCRIPTION),
        class_count=module.class_count,
        function_count=module.function_count,
    )


def _find(store: DocsStore, terms: Sequence[str]) -> list[Hit]:
    """Find entries that a term names, then entries that contain the words."""
    found: dict[str, Hit] = {}
    for term in terms:
        for hit in store.find_named(term) or store.find_named("_".join(term.split())):
            found.setdefault(hit.entry.qualified_name, hit)
    for hit in store.search(terms):
        found.setdefault(hit.entry.qualified_name, hit)
    return list(found.values())


def _words(terms: Sequence[str], hits: Sequence[Hit], shown: Sequence[FoundDoc]) -> str:
    what = ", ".join(entry.qualified_name for entry in islice(shown, 3))
    text = f"{len(hits)} matches for {' '.join(terms)}: {what}{', ...' if len(shown) > 3 else ''}"
    if len(shown) < len(hits):
        text += f"; the first {len(shown)} are shown"
    if any(entry.fields_left_out or _is_shortened(entry) for entry in shown):
        text += "; some is left out or shortened: query one name, or Class.field"
    return f"{text}."


def _is_shortened(entry: FoundDoc) -> bool:
    texts = [field.description for field in entry.fields]
    texts += [section.content for section in entry.sections]
    return any(text.endswith(_CUT) for text in texts)


def _nothing(store: DocsStore, terms: Sequence[str]) -> str:
    names = {name.lower(): name for name in store.short_names()}
    close = difflib.get_close_matches(terms[0].rpartition(".")[2].lower(), names, n=3)
    near = f" The nearest names are {', '.join(names[name] for name in close)}." if close else ""
    return f"Nothing matches {' '.join(terms)}.{near}"


def _fit(hits: Sequence[Hit], *, brief: bool) -> list[FoundDoc]:
    """Make each entry as full as the space allows, the first ones fullest.

    If an entry was found by its name, keep the others brief.
    """
    briefs = _within([_brief(hit) for hit in hits], _MAX_BYTES)
    left = _MAX_BYTES - sum(map(_size, briefs))
    any_named = any(hit.is_named for hit in hits)
    fitted: list[FoundDoc] = []
    for hit, least in zip(hits, briefs, strict=False):
        if brief or (any_named and not hit.is_named):
            fitted.append(least)
            continue
        space = left + _size(least)
        best = next((one for one in _levels(hit) if _size(one) <= space), least)
        left = space - _size(best)
        fitted.append(best)
    return fitted


def _within(entries: Sequence[FoundDoc], space: int) -> list[FoundDoc]:
    kept: list[FoundDoc] = []
    for entry in entries:
        space -= _size(entry)
        if space < 0:
            break
        kept.append(entry)
    return kept


def _levels(hit: Hit) -> list[FoundDoc]:
    """Versions of an entry, from full to brief."""
    entry = hit.entry
    if hit.field is not None:
        field = [field for field in entry.fields if field.name == hit.field]
        return [_found_doc(entry, fields=field, sections=[], left_out=len(entry.fields) - 1)]
    short = [_cut_field(field, _FIRST_SENTENCE) for field in entry.fields]
    bare = [_cut_field(field, 0) for field in entry.fields]
    sections = [
        section.model_copy(update={"content": _shorten(section.content, _SECTION)})
        for section in entry.sections
    ]
    return [
        _found_doc(entry),
        _found_doc(entry, fields=short),
        _found_doc(entry, fields=short, sections=sections),
        _found_doc(entry, fields=short, sections=[]),
        _found_doc(entry, fields=bare, sections=[]),
    ]


def _brief(hit: Hit) -> FoundDoc:
    entry = hit.entry
    field = [_cut_field(f, _FIRST_SENTENCE) for f in entry.fields if f.name == hit.field]
    brief = _found_doc(entry, fields=field, sections=[], left_out=len(entry.fields) - len(field))
    signature = _shorten(entry.signature, _SECTION)
    return brief.model_copy(
        update={"signature": signature, "summary": _shorten(entry.summary, _FIRST_SENTENCE)}
    )


def _found_doc(entry: DocEntry, *, left_out: int = 0, **changes: object) -> FoundDoc:
    return FoundDoc.model_construct(
        **{**dict(entry), "fields_left_out": left_out, **changes}  # pyright: ignore[reportArgumentType]
    )


def _cut_field(field: DocField, length: int) -> DocField:
    description = _shorten(field.description.partition("\n\n")[0], length) if length else ""
    return field.model_copy(update={"description": description})


def _shorten(text: str, length: int) -> str:
    text = text if len(text) <= length else f"{text[: length - len(_CUT)].rstrip()}{_CUT}"
    return text.strip()


def _size(entry: FoundDoc) -> int:
    return len(entry.model_dump_json().encode()) + 1
