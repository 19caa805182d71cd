"""Sources behind URLs: the bytes of local files, every failure said, nothing fetched twice, what was fetched kept."""

from __future__ import annotations

import csv
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine import intake
from curation.sources import SourceRecord, open_source
from curation.sources.reading import fetch
from data_manifests import object_store
from data_manifests.errors import InputError
from tests.curation.s3_server import s3_process, upload, use
from tests.curation.source_inputs import bytes_of, pack, picture, put, records_of

CAPTIONS = ["a dog", "ein Hund, der läuft", "犬", "a 'quoted' cat, and more", "x" * 300, "🐕 runs"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the same six pairs as tars, as Parquet and as a csv with pictures beside it."""
    root = tmp_path_factory.mktemp("files")
    for number in range(2):
        members = []
        for place in range(number * 3, number * 3 + 3):
            members += [(f"k{place}.jpg", picture(place)), (f"k{place}.txt", CAPTIONS[place].encode())]
        pack(root / "tars" / f"{number:05d}.tar", members)
    table = pa.table({"image": [picture(place) for place in range(6)], "caption": CAPTIONS})
    (root / "rows").mkdir()
    pq.write_table(table, root / "rows" / "train-0.parquet")
    names = [f"pictures/{place} ü.jpg" for place in range(6)]
    for place, name in enumerate(names):
        put(root / "shop" / name, picture(place))
    with (root / "shop" / "items.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("filepath", "title"), *zip(names, CAPTIONS, strict=True)])
        csv.writer(out).writerows([("pictures/gone.jpg", "not there"), ("../../secret.jpg", "climbs out")])
    return root


SOURCES = ("webdataset:{0}/tars/{{00000..00001}}.tar", "parquet:{0}/rows/train-0.parquet", "csv:{0}/shop/items.csv")


@dataclass
class Site:
    """A server of files; `answer` may change what it sends."""

    root: Path
    url: str = ""
    seen: list[str] = field(default_factory=list)
    answer: Callable[[str, bytes], tuple[int, bytes, int]] = lambda _path, data: (200, data, len(data))
    ranges: bool = True


class Handler(BaseHTTPRequestHandler):
    """Serves a `Site`; of its answers' third part, the declared size, fewer bytes may come."""

    protocol_version = "HTTP/1.1"

    def __init__(self, site: Site, *rest: Any) -> None:
        self.site = site
        super().__init__(*rest)

    def do_GET(self) -> None:
        path = self.site.root / unquote(self.path).lstrip("/")
        asked = self.headers.get("Range", "")
        self.site.seen.append(f"{self.command} {unquote(self.path)} {asked}".strip())
        status, data, size = (404, b"", 0)
        if path.is_file():
            status, data, size = self.site.answer(f"{self.command} {path.name}", path.read_bytes())
        first = (
            int(asked.removeprefix("bytes=").partition("-")[0]) if asked and self.site.ranges and status == 200 else 0
        )
        self.send_response(206 if first else status)
        self.send_header("Content-Length", str(size - first))
        self.send_header("ETag", f'"{crc32(path.read_bytes()) if path.is_file() else 0}"')
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 10:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[first:])
        self.close_connection = self.close_connection or len(data) != size

    do_HEAD = do_GET  # noqa: N815 - the server calls it so

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def site(files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return a running server of `files`, without pauses between tries."""
    found = Site(files)
    monkeypatch.setattr(fetch, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(object_store, "FIRST_PAUSE_S", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, found)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.url = f"http://127.0.0.1:{server.server_port}"
        object_store._http_store.cache_clear()
        yield found
        object_store._http_store()._client.close()
        object_store._http_store.cache_clear()
        server.shutdown()


def content(spec: str, workspace: Path | None = None) -> list[Any]:
    """Return all that a source's records and rejections say."""
    source = open_source(spec, workspace=workspace)
    items = [
        (item.name, item.captions, item.split, bytes_of(item), dict(item.attributes))
        if isinstance(item, SourceRecord)
        else item
        for item in records_of(source)
    ]
    return [source.describe(), *items]


def failure(spec: str, workspace: Path) -> str:
    """Return the message with which a source behind a URL is refused; it names no copy."""
    with pytest.raises(InputError) as caught:
        open_source(spec, workspace=workspace)
    assert str(workspace) not in str(caught.value) and caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize("spec", SOURCES)
@pytest.mark.parametrize("ranges", [True, False])
def test_https_gives_what_the_files_give(spec: str, ranges: bool, site: Site, tmp_path: Path) -> None:
    site.ranges = ranges
    assert content(spec.format(site.url), tmp_path) == content(spec.format(site.root))
    first = len([line for line in site.seen if line.startswith("GET")])
    assert content(spec.format(site.url), tmp_path) == content(spec.format(site.root))
    assert len([line for line in site.seen if line.startswith("GET")]) == first, "nothing is fetched twice"
    assert not any("secret" in line for line in site.seen)


def test_a_download_goes_on_where_it_broke(site: Site, tmp_path: Path) -> None:
    whole = (site.root / "tars" / "00000.tar").read_bytes()
    for ranges in (True, False):
        site.ranges, sent = ranges, iter([3000, 5000, 7000])
        site.answer = lambda _, data, sent=sent: (200, data[: next(sent, None)], len(data))  # type: ignore[misc]
        workspace = tmp_path / str(ranges)
        site.seen.clear()
        open_source(f"webdataset:{site.url}/tars/00000.tar", workspace=workspace)
        (copy,) = workspace.glob("fetched/*/00000.tar")
        assert copy.read_bytes() == whole
        asked = [line for line in site.seen if line.startswith("GET")]
        assert len(asked) >= 3 and any("bytes=" in line for line in asked)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda at, data: (403, b"", 0), "refuses it (403"),
        (lambda at, data: (503, b"", 0), "no right answer in 6 tries, the last: 503"),
        (lambda at, data: (200, data if at.startswith("HEAD") else data[:100], len(data)), "(100 of "),
        (
            lambda at, data: (200, data + b"more" * 2000, len(data) + 8000) if at[0] == "G" else (200, data, len(data)),
            "more than the",
        ),
        (lambda at, data: (418, b"", 0), "answers 418"),
    ],
)
def test_https_failures(answer: Any, message: str, site: Site, tmp_path: Path) -> None:
    site.answer, site.ranges = answer, message != "(100 of "
    found = failure(f"webdataset:{site.url}/tars/00000.tar", tmp_path)
    assert message in found and f"{site.url}/tars/00000.tar" in found
    assert not list(tmp_path.rglob("00000.tar"))


def test_urls_that_cannot_be_read(site: Site, tmp_path: Path) -> None:
    assert "no such file (404)" in failure(f"parquet:{site.url}/rows/none.parquet", tmp_path)
    assert "https:// has no list of files" in failure(f"webdataset:{site.url}/tars", tmp_path)
    assert "folder does not read URLs" in failure(f"folder:{site.url}/shop", tmp_path)
    assert "has a query" in failure(f"webdataset:{site.url}/tars/0.tar?X-Amz-Signature=abc", tmp_path)
    assert "hidden" not in failure("csv:https://me:hidden@host/items.csv", tmp_path)
    assert (
        "TransportError" in (found := failure("csv:http://127.0.0.1:1/items.csv", tmp_path)) or "ConnectError" in found
    )
    put(site.root / "bad.parquet", b"not parquet")
    assert f"{site.url}/bad.parquet" in failure(f"parquet:{site.url}/bad.parquet", tmp_path)


def test_a_slow_server_is_named(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "ANSWER_S", 0.05)
    wait = threading.Event()
    site.answer = lambda at, data: (wait.wait(0.3), (200, data, len(data)))[1]  # type: ignore[misc]
    assert "no answer within" in failure(f"csv:{site.url}/shop/items.csv", tmp_path)


def test_a_picture_that_is_too_large_is_not_fetched(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch.MAX_PICTURE_BYTES == intake.MAX_IMAGE_BYTES
    monkeypatch.setattr(fetch, "MAX_PICTURE_BYTES", 100)
    open_source(f"csv:{site.url}/shop/items.csv", workspace=tmp_path)
    assert not any(line.startswith("GET") and "pictures" in line for line in site.seen)
    assert all(path.stat().st_size > 100 for path in tmp_path.glob("fetched/*/pictures/*.jpg"))


def test_what_is_gone_or_changed_behind_the_url(site: Site, tmp_path: Path) -> None:
    spec = f"csv:{site.url}/table/items.csv"
    put(site.root / "table" / "items.csv", "file_name,caption\na.jpg,a cat\n")
    put(site.root / "table" / "a.jpg", picture(1))
    before = content(spec, tmp_path)
    put(site.root / "table" / "a.jpg", picture(1, "PNG"))
    changed = content(spec, tmp_path)
    assert changed != before == content(spec, tmp_path / "other")[:1] + before[1:]
    (site.root / "table" / "a.jpg").unlink()
    assert [item.reason for item in content(spec, tmp_path)[1:]] == ["missing_image"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[str]:
    """Return the URL of a server of s3 that has `files` in a bucket."""
    pytest.importorskip("moto", reason="extra 'dev' is not installed")
    with s3_process(tmp_path_factory.mktemp("s3")) as url, pytest.MonkeyPatch.context() as patch:
        use(patch, url)
        upload(files, "photos", "set one")
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("spec", [*SOURCES, "webdataset:{0}/tars", "webdataset:{0}/t*/0000*.tar", "parquet:{0}/rows"])
def test_s3_gives_what_the_files_give(
    spec: str, server: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server)
    assert content(spec.format("s3://photos/set one"), tmp_path) == content(spec.format(files))


@pytest.mark.slow
def test_s3_folder_that_changes(server: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, server)
    client = upload(files / "tars", "photos", "moving")
    assert len(content("webdataset:s3://photos/moving", tmp_path)) == 7
    client.delete_object(Bucket="photos", Key="moving/00000.tar")
    assert len(content("webdataset:s3://photos/moving", tmp_path)) == 4
    client.put_object(Bucket="photos", Key="moving/a\\b.tar", Body=b"x")
    assert "cannot be a file's name here" in failure("webdataset:s3://photos/moving", tmp_path)


@pytest.mark.slow
def test_s3_failures(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, server)
    assert "no bucket 'nobody'" in failure("webdataset:s3://nobody/tars", tmp_path)
    assert "there is no bucket 'nobody'" in failure("csv:s3://nobody/items.csv", tmp_path)
    assert "no such object" in failure("csv:s3://photos/none.csv", tmp_path)
    assert "nothing is there" in failure("webdataset:s3://photos/none", tmp_path)
    assert "there are: items.csv" in failure("webdataset:s3://photos/set one/shop", tmp_path)
    use(monkeypatch, server, AWS_PROFILE="nobody")
    assert "AWS_PROFILE" in failure("webdataset:s3://photos/x.tar", tmp_path)
    monkeypatch.setattr(object_store, "FIRST_PAUSE_S", 0.0)
    monkeypatch.delenv("AWS_PROFILE")
    use(monkeypatch, "http://127.0.0.1:1")
    assert "no right answer in 6 tries" in failure("webdataset:s3://photos/x.tar", tmp_path)
