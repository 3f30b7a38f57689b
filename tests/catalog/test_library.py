"""Oumi's library: fetched once from a server that may misbehave, whole or not at all."""

import hashlib
import json
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.core.errors import ConfigNotFound, Conflict, OperationTimeout, OumiFlowsError
from flows.core.settings import Settings
from mcp_server.catalog.catalog import Catalog
from mcp_server.catalog.library import LibraryLimits, LibraryState, OumiLibrary
from tests.catalog.archive_server import (
    CONFIG,
    Answer,
    ArchiveServer,
    archive_server,
    bomb,
    cut,
    cut_unnoticed,
    cut_without_length,
    dripping,
    endless,
    held,
    html,
    link,
    redirect,
    silent,
    status,
    tar_gz,
    whole,
)
from tests.support.waiting import eventually_sync

FILES = {
    "README.md": b"# Oumi",
    "configs/recipes/thing/train.yaml": CONFIG,
    "configs/apis/acme/infer.yml": b"model: {model_name: x}\nengine: OPENAI\n",
    "configs/README.md": b"not a config",
    "src/configs/other.yaml": b"not: below configs",
    "src/oumi/noise.bin": bytes(range(256)) * 400,
}
CONFIGS = {"recipes/thing/train.yaml", "apis/acme/infer.yml"}


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with archive_server(tar_gz(FILES)) as running:
        yield running


@pytest.fixture
def settings(server: ArchiveServer, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", configs_url=server.url, configs_timeout_seconds=10)


@pytest.fixture
def library(settings: Settings) -> OumiLibrary:
    return OumiLibrary(settings, oumi_version="0.9")


def with_limits(settings: Settings, **limits: int) -> OumiLibrary:
    return OumiLibrary(settings, oumi_version="0.9", limits=LibraryLimits(**limits))


def with_settings(settings: Settings, **changes: object) -> OumiLibrary:
    return OumiLibrary(settings.model_copy(update=changes), oumi_version="0.9")


def files_below(folder: Path | None) -> set[str]:
    assert folder is not None
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def left_over(settings: Settings) -> set[str]:
    return {path.name for path in settings.catalog_dir.iterdir()} - {"lock"}


def test_the_configs_of_the_archive_and_nothing_else_are_kept(
    library: OumiLibrary, settings: Settings, server: ArchiveServer
) -> None:
    assert library.folder() is None
    assert files_below(library.fetch()) == CONFIGS
    assert settings.home.stat().st_mode & 0o777 == 0o700
    assert library.folder() == settings.catalog_dir / "oumi-0.9" / "configs"
    assert library.status().state is LibraryState.READY
    assert left_over(settings) == {"oumi-0.9"}
    record = json.loads((settings.catalog_dir / "oumi-0.9/source.json").read_text())
    assert record.pop("fetched_at").endswith("+00:00")
    assert record == {
        "url": server.url,
        "size": len(server.content),
        "sha256": hashlib.sha256(server.content).hexdigest(),
        "etag": '"one"',
        "configs": 2,
    }


def test_the_url_names_the_installed_version(settings: Settings, server: ArchiveServer) -> None:
    url = server.url.replace("oumi.tar.gz", "v{version}.tar.gz")
    library = with_settings(settings, configs_url=url)
    assert library.url.endswith("/v0.9.tar.gz")
    assert files_below(library.fetch()) == CONFIGS


def test_by_default_it_is_the_tag_of_oumis_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUMI_FLOWS_CONFIGS_URL")
    library = OumiLibrary(Settings(), oumi_version="0.9")
    assert library.url == "https://github.com/oumi-ai/oumi/archive/refs/tags/v0.9.tar.gz"


def test_it_is_fetched_in_the_background_once(
    library: OumiLibrary, settings: Settings, server: ArchiveServer
) -> None:
    server.answers = [held]
    catalog = Catalog(library)
    library.refresh()
    assert server.waiting.wait(10)
    library.refresh()
    assert library.status().state is LibraryState.FETCHING
    assert [thread.name for thread in threading.enumerate()].count("oumi-library") == 1
    assert not [entry for entry in catalog.search(["acme thing"]).entries if "acme" in entry.path]
    server.held.set()
    eventually_sync(lambda: library.status().state is LibraryState.READY, timeout=10)
    assert [entry.path for entry in catalog.search(["acme thing"]).entries] == [
        "recipes/thing/train.yaml"
    ]
    library.refresh()
    OumiLibrary(settings, oumi_version="0.9").refresh()
    assert len(server.ranges) == 1


def test_two_processes_do_not_fetch_at_once(
    library: OumiLibrary, settings: Settings, server: ArchiveServer
) -> None:
    server.answers = [held]
    library.refresh()
    assert server.waiting.wait(10)
    with pytest.raises(Conflict, match="Another process"):
        OumiLibrary(settings, oumi_version="0.9").fetch()
    server.held.set()
    eventually_sync(lambda: library.status().state is LibraryState.READY, timeout=10)
    assert library.folder() is not None


def test_a_transfer_that_was_cut_goes_on_where_it_ended(
    library: OumiLibrary, settings: Settings, server: ArchiveServer
) -> None:
    server.answers = [cut, whole]
    with pytest.raises(ConfigNotFound, match="could not be fetched"):
        library.fetch()
    assert library.folder() is None
    assert files_below(library.fetch()) == CONFIGS
    assert server.ranges == [None, f"bytes={len(server.content) // 2}-"]
    assert server.statuses == [200, 206]
    assert left_over(settings) == {"oumi-0.9"}


def test_what_changed_on_the_server_meanwhile_is_fetched_from_its_beginning(
    library: OumiLibrary, server: ArchiveServer
) -> None:
    server.answers = [cut, whole]
    with pytest.raises(ConfigNotFound):
        library.fetch()
    server.content, server.etag = tar_gz({"configs/new.yaml": CONFIG}), '"two"'
    assert files_below(library.fetch()) == {"new.yaml"}


def test_without_a_strong_etag_it_is_fetched_from_its_beginning(
    library: OumiLibrary, server: ArchiveServer
) -> None:
    server.answers, server.etag = [cut, whole], 'W/"one"'
    with pytest.raises(ConfigNotFound):
        library.fetch()
    assert files_below(library.fetch()) == CONFIGS
    assert server.ranges == [None, None]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (cut, "could not be fetched"),
        (cut_without_length, "could not be fetched"),
        (cut_unnoticed, "no complete .tar.gz"),
        (html, "no complete .tar.gz"),
        (status(404), "404 Not Found"),
        (status(500), "500 Internal Server Error"),
        (status(204), "204 No Content"),
    ],
)
def test_what_is_not_the_whole_archive_leaves_what_was_there(
    library: OumiLibrary, settings: Settings, server: ArchiveServer, answer: Answer, expected: str
) -> None:
    library.fetch()
    server.answers = [answer]
    with pytest.raises(ConfigNotFound, match=expected):
        library.fetch()
    assert files_below(library.folder()) == CONFIGS
    assert not list(settings.catalog_dir.glob(".new-*"))


def test_an_archive_whose_checksum_does_not_fit_is_not_taken(
    library: OumiLibrary, server: ArchiveServer
) -> None:
    content = bytearray(server.content)
    content[-8] ^= 0xFF
    server.content = bytes(content)
    with pytest.raises(ConfigNotFound, match="CRC check failed"):
        library.fetch()
    assert library.folder() is None


def test_a_redirect_is_followed(library: OumiLibrary, server: ArchiveServer) -> None:
    server.answers = [redirect("/elsewhere"), redirect(server.url), whole]
    assert files_below(library.fetch()) == CONFIGS


@pytest.mark.parametrize("target", ["/again", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://"])
def test_a_redirect_that_leads_nowhere_is_an_error(
    library: OumiLibrary, server: ArchiveServer, target: str
) -> None:
    server.answers = [redirect(target)]
    with pytest.raises(ConfigNotFound):
        library.fetch()
    assert len(server.ranges) <= 6


@pytest.mark.parametrize("answer", [silent, dripping])
def test_a_slow_server_is_given_up_in_time(
    settings: Settings, server: ArchiveServer, answer: Answer
) -> None:
    server.answers = [answer]
    library = with_settings(settings, configs_timeout_seconds=0.3)
    with pytest.raises(OperationTimeout, match=r"longer than 0\.3 s"):
        library.fetch()
    assert library.status().state is LibraryState.FAILED


def test_no_network_is_an_error_that_says_what_to_do(settings: Settings) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
    with pytest.raises(ConfigNotFound, match="OUMI_FLOWS_CONFIGS_DIR"):
        with_settings(settings, configs_url=url).fetch()


@pytest.mark.parametrize("url", ["not a url", "http://", "gopher://127.0.0.1/x", "/a/file"])
def test_a_url_that_is_none_is_an_error(settings: Settings, url: str) -> None:
    with pytest.raises(ConfigNotFound):
        with_settings(settings, configs_url=url).fetch()


@pytest.mark.parametrize("answer", [endless, whole])
def test_a_huge_archive_is_not_taken(
    settings: Settings, server: ArchiveServer, answer: Answer
) -> None:
    server.answers = [answer]
    with pytest.raises(ConfigNotFound, match="more than 1,000 bytes"):
        with_limits(settings, archive_bytes=1000).fetch()
    assert not list(settings.catalog_dir.glob("*.part"))


def test_an_archive_that_unpacks_to_far_too_much_is_not_taken(
    settings: Settings, server: ArchiveServer
) -> None:
    library = with_limits(settings, unpacked_bytes=1_000_000)
    server.content = bomb(5_000_000)
    with pytest.raises(ConfigNotFound, match="1,000,000 bytes unpacked"):
        library.fetch()
    assert library.folder() is None


def test_an_archive_of_too_many_files_is_not_taken(
    settings: Settings, server: ArchiveServer
) -> None:
    server.content = tar_gz({f"configs/{number}.yaml": CONFIG for number in range(20)})
    with pytest.raises(ConfigNotFound, match="too many files"):
        with_limits(settings, files=10).fetch()


def test_nothing_is_written_outside_whatever_the_members_are_called(
    library: OumiLibrary, settings: Settings, server: ArchiveServer, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.yaml"
    server.content = tar_gz(
        {
            "configs/good.yaml": CONFIG,
            "configs/../../../../outside.yaml": b"evil",
            "configs/sub/../../../outside.yaml": b"evil",
            "configs/..\\outside.yaml": b"evil",
            "configs/link/through.yaml": b"evil",
            "configs/.hidden.yaml": b"evil",
            "configs/too_large.yaml": b"a: " + b"b" * 1_000_001,
            "configs/binary.sh": b"evil",
        },
        link("oumi-0.9/configs/link", str(tmp_path)),
        link("oumi-0.9/configs/hard.yaml", "/etc/passwd", tarfile.LNKTYPE),
        link("oumi-0.9/configs/soft.yaml", str(outside)),
        tarfile.TarInfo("/configs/absolute.yaml"),
        tarfile.TarInfo("configs/at_the_root.yaml"),
    )
    folder = library.fetch()
    assert files_below(folder) == {"good.yaml", "link/through.yaml"}
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert not outside.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
    assert left_over(settings) == {"oumi-0.9"}


@pytest.mark.parametrize("files", [{}, {"README.md": b"none"}, {"configs/README.md": b"none"}])
def test_an_archive_without_configs_is_not_taken(
    library: OumiLibrary, server: ArchiveServer, files: dict[str, bytes]
) -> None:
    server.content = tar_gz(files)
    with pytest.raises(ConfigNotFound, match="no folder of configs"):
        library.fetch()
    assert library.folder() is None


def test_a_checksum_that_is_set_must_be_the_archives(
    settings: Settings, server: ArchiveServer
) -> None:
    with pytest.raises(ConfigNotFound, match="SHA-256"):
        with_settings(settings, configs_sha256="0" * 64).fetch()
    right = hashlib.sha256(server.content).hexdigest().upper()
    assert files_below(with_settings(settings, configs_sha256=right).fetch()) == CONFIGS


def test_a_failure_is_not_repeated_for_a_while_in_any_process(
    settings: Settings, server: ArchiveServer
) -> None:
    now = 1_000_000.0
    server.answers = [status(404)]
    first = OumiLibrary(settings, oumi_version="0.9", now=lambda: now)
    with pytest.raises(ConfigNotFound):
        first.fetch()
    second = OumiLibrary(settings, oumi_version="0.9", now=lambda: now)
    second.refresh()
    assert second.status().state is LibraryState.FAILED
    assert "404" in second.status().message
    assert len(server.ranges) == 1
    server.answers = [whole]
    now += 601
    second.refresh()
    eventually_sync(lambda: second.status().state is LibraryState.READY, timeout=10)


@pytest.mark.parametrize("changes", [{"configs_url": "off"}, {"configs_dir": Path("/nowhere")}])
def test_nothing_is_fetched_where_that_is_not_wanted(
    settings: Settings, server: ArchiveServer, changes: dict[str, Any]
) -> None:
    library = with_settings(settings, **changes)
    library.refresh()
    with pytest.raises(OumiFlowsError, match="not fetched"):
        library.fetch()
    assert server.ranges == []
    assert not settings.catalog_dir.exists()


@pytest.mark.parametrize("version", ["", "0.9.dev35+ge2b81b3fe", "unknown", "../../x"])
def test_an_oumi_that_is_no_release_has_no_library(
    settings: Settings, server: ArchiveServer, version: str
) -> None:
    library = OumiLibrary(settings, oumi_version=version)
    library.refresh()
    assert library.status().state is LibraryState.OFF
    assert server.ranges == []


def test_a_home_that_cannot_be_written_is_an_error(
    settings: Settings, server: ArchiveServer
) -> None:
    settings.home.mkdir()
    (settings.home / "catalog").write_text("a file")
    library = OumiLibrary(settings, oumi_version="0.9")
    with pytest.raises(ConfigNotFound, match="cannot be kept"):
        library.fetch()
    library.refresh()
    eventually_sync(lambda: library.status().state is not LibraryState.FETCHING, timeout=10)


def test_what_a_killed_process_left_is_removed(library: OumiLibrary, settings: Settings) -> None:
    left = settings.catalog_dir / ".new-abc"
    left.mkdir(parents=True)
    (left / "half.yaml").write_text("a:")
    library.fetch()
    assert left_over(settings) == {"oumi-0.9"}
