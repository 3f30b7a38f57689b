"""Reads a package's public API from its source, without importing it.

It imports griffe, so it runs in a process of its own: see `build`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import griffe

from mcp_server.docs_index.entries import CLASS_KINDS, Api, DocEntry, DocSection, ModuleEntry
from mcp_server.docs_index.members import fields_of, registered_names

_NOT_API: Final = ("mcp", "cli")
"""Subpackages that are programs, not an API."""


def read_api(package: Path) -> Api:
    """Read the public API of the package in a folder."""
    loader = _Loader()
    return _Reader(loader.load(package, package.name, None), loader.shadowed).read()


class _Loader:
    """Loads a package, and finds its functions that share a name with one of its modules.

    griffe's own loader (2.4) leaves out folders without an `__init__.py`, of which Oumi has many,
    among them the one with all parameter classes.
    """

    def __init__(self) -> None:
        self._modules = griffe.ModulesCollection()
        self._lines = griffe.LinesCollection()
        self.shadowed: list[griffe.Function] = []

    def load(self, folder: Path, name: str, parent: griffe.Module | None) -> griffe.Module:
        """Load the modules of a folder and below."""
        module = self._load_package(folder, name, parent)
        (self._modules if parent is None else parent).set_member(name, module)
        for path in sorted(folder.iterdir()):
            if path.name.startswith("_") or (parent is None and path.stem in _NOT_API):
                continue
            function = module.members.get(path.stem)
            if isinstance(function, griffe.Function):
                self.shadowed.append(function)
            if path.suffix == ".py":
                module.set_member(path.stem, self._visit(path, path.stem, module))
            elif path.is_dir() and next(path.rglob("*.py"), None):
                self.load(path, path.name, module)
        return module

    def _load_package(self, folder: Path, name: str, parent: griffe.Module | None) -> griffe.Module:
        init = folder / "__init__.py"
        if init.exists():
            return self._visit(init, name, parent)
        return griffe.Module(
            name,
            filepath=[folder],
            parent=parent,
            modules_collection=self._modules,
            lines_collection=self._lines,
        )

    def _visit(self, path: Path, name: str, parent: griffe.Module | None) -> griffe.Module:
        return griffe.visit(
            name,
            path,
            path.read_text(encoding="utf-8"),
            parent=parent,
            docstring_parser=griffe.Parser.google,
            modules_collection=self._modules,
            lines_collection=self._lines,
        )


class _Reader:
    def __init__(self, package: griffe.Module, shadowed: list[griffe.Function]) -> None:
        self._package = package
        self._shadowed = shadowed
        self._root = _folder(package).parent
        self._public: dict[str, str] = {}
        """Map each place of definition to the shortest import path."""
        self._other: dict[str, str] = {}

    def read(self) -> Api:
        modules = list(_modules(self._package))
        for module in modules:
            self._note_exports(module)
        entries = [self._of_function(function, parent_class=None) for function in self._shadowed]
        entries += [entry for module in modules for entry in self._of_module(module)]
        others = {defined: defined for defined in self._public} | self._other
        others = {path: self._public.get(name, name) for path, name in others.items()}
        return Api(
            entries=entries,
            modules=list(self._module_entries(modules, entries)),
            other_paths={path: name for path, name in others.items() if path != name},
        )

    def _note_exports(self, module: griffe.Module) -> None:
        if not module.is_init_module:
            return
        for name, member in module.members.items():
            exported = module.exports is None or name in module.exports
            if not (isinstance(member, griffe.Alias) and exported) or name.startswith("_"):
                continue
            try:
                defined = member.final_target.path
            except (griffe.AliasResolutionError, griffe.CyclicAliasError):
                continue  # from elsewhere
            path = f"{module.path}.{name}"
            self._other[path] = defined
            known = self._public.get(defined, defined)
            self._public[defined] = min(known, path, key=lambda p: (p.count("."), len(p)))

    def _of_module(self, module: griffe.Module) -> Iterator[DocEntry]:
        for member in _public_members(module):
            if isinstance(member, griffe.Class):
                yield from self._of_class(member)
            elif isinstance(member, griffe.Function):
                yield self._of_function(member, parent_class=None)

    def _of_class(self, cls: griffe.Class) -> Iterator[DocEntry]:
        fields = fields_of(cls)
        kind = _kind(cls)
        init = cls.members.get("__init__")
        path = self._public.get(cls.path, cls.path)
        yield DocEntry(
            qualified_name=path,
            name=cls.name,
            kind=kind,
            module=path.rpartition(".")[0],
            source=self._source(cls),
            bases=[str(base) for base in cls.bases if str(base) != "object"],
            signature=_signature(init, cls.name) if isinstance(init, griffe.Function) else "",
            registered_as=registered_names(cls.decorators),
            summary=_summary(cls),
            fields=fields,
            sections=_sections(cls, drop_attributes=bool(fields))
            + (_sections(init, drop_summary=False) if isinstance(init, griffe.Function) else []),
        )
        for member in _public_members(cls):
            if isinstance(member, griffe.Function):
                yield self._of_function(member, parent_class=path)

    def _of_function(self, function: griffe.Function, parent_class: str | None) -> DocEntry:
        if parent_class:
            path, module = f"{parent_class}.{function.name}", parent_class.rpartition(".")[0]
            self._other[function.path] = path
        else:
            path = self._public.get(function.path, function.path)
            module = path.rpartition(".")[0]
        return DocEntry(
            qualified_name=path,
            name=function.name,
            kind="method" if parent_class else "function",
            module=module,
            source=self._source(function),
            parent_class=parent_class.rpartition(".")[2] if parent_class else "",
            signature=_signature(function, function.name),
            registered_as=registered_names(function.decorators),
            summary=_summary(function),
            sections=_sections(function),
        )

    def _module_entries(
        self, modules: list[griffe.Module], entries: list[DocEntry]
    ) -> Iterator[ModuleEntry]:
        for module in modules:
            kinds = [entry.kind for entry in entries if entry.module == module.path]
            if kinds:
                yield ModuleEntry(
                    module=module.path,
                    is_package=module.is_init_module,
                    description=_summary(module),
                    class_count=sum(kind in CLASS_KINDS for kind in kinds),
                    function_count=kinds.count("function"),
                )

    def _source(self, item: griffe.Object) -> str:
        path = item.filepath
        where = path.relative_to(self._root) if isinstance(path, Path) else item.path
        return f"{where}:{item.lineno}"


def _folder(module: griffe.Module) -> Path:
    path = module.filepath
    return path[0] if isinstance(path, list) else path.parent


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for member in module.members.values():
        if isinstance(member, griffe.Module):
            yield from _modules(member)


def _public_members(scope: griffe.Module | griffe.Class) -> Iterator[griffe.Object]:
    for name, member in scope.members.items():
        if isinstance(member, griffe.Object) and not name.startswith("_"):
            yield member


def _kind(cls: griffe.Class) -> str:
    if any(str(base).rpartition(".")[2].endswith("Enum") for base in cls.bases):
        return "enum"
    decorators = {str(decorator.value).partition("(")[0] for decorator in cls.decorators}
    return "dataclass" if decorators & {"dataclass", "dataclasses.dataclass"} else "class"


def _signature(function: griffe.Function, name: str) -> str:
    signature = " ".join(function.signature(name=name).split())
    return signature.replace("(self, ", "(").replace("(self)", "()").replace("(cls, ", "(")


def _summary(item: griffe.Object) -> str:
    text = item.docstring.value if item.docstring else ""
    return " ".join(text.split("\n\n")[0].split())


def _sections(
    item: griffe.Object, *, drop_summary: bool = True, drop_attributes: bool = False
) -> list[DocSection]:
    """Read the sections of the docstring after its summary."""
    if item.docstring is None:
        return []
    sections: list[DocSection] = []
    for section in item.docstring.parse():
        if section.kind is griffe.DocstringSectionKind.text:
            text = str(section.value)
            if drop_summary and not sections:
                text = text.partition("\n\n")[2]
            drop_summary = False
            found = DocSection(name="", content=text.strip())
        elif drop_attributes and section.kind is griffe.DocstringSectionKind.attributes:
            continue
        else:
            title = section.title or _TITLES.get(section.kind, section.kind.value.title())
            found = DocSection(name=title, content=_text(section))
        if found.content:
            sections.append(found)
    return sections


_TITLES: Final = {
    griffe.DocstringSectionKind.parameters: "Args",
    griffe.DocstringSectionKind.other_parameters: "Other args",
}


def _text(section: griffe.DocstringSection) -> str:
    value: object = section.value
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, griffe.DocstringAdmonition):
        return str(value.contents).strip()
    if not isinstance(value, list):
        return str(value)
    return "\n".join(_line(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _line(item: object) -> str:
    if isinstance(item, tuple):  # a part of an example section: its kind and its text
        return str(item[1]).strip()  # pyright: ignore[reportUnknownArgumentType]
    name = str(getattr(item, "name", "") or "")
    kind = str(getattr(item, "annotation", "") or "")
    description = " ".join(str(getattr(item, "description", "")).split())
    head = f"{name} ({kind})" if name and kind else name or kind
    return f"{head}: {description}" if head else description
