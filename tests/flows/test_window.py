"""The window's server: who is answered, what is sent, and what filters, orders and counts give."""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_manifests.manifest import DatasetVersion
from flows.window.columns import IndexColumns, Kept, array_bytes
from flows.window.guard import MAX_BODY_BYTES, Guard
from flows.window.pictures import picture_type
from tests.data_manifests.built_versions import Picture, build, negative, picture
from tests.flows.windows import OWN, PORT, TOKEN, answer, ask, window_on

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> \u202e \"'><b> &amp; <!--"
KINDS = (("swap", "relation"), ("replace", "object"), ("negate", "existence"))


def many(root: Path, num: int = 40) -> DatasetVersion:
    """Return a version of samples whose fields differ, the first with hostile texts."""
    pictures: list[Picture] = [
        picture(1, HOSTILE, split="dev", negatives=(negative(0, HOSTILE, 0, 2, "<i>", rule=HOSTILE),))
    ]
    for number in range(2, num + 1):
        caption = f"A grey dog , number {number} ."
        operation, kind = KINDS[number % 3]
        made = (negative(0, caption, 2, 6, "red", operation=operation, type=kind, difficulty=number / 100),)
        pictures.append(
            picture(number, caption, negatives=made if number % 5 else (), split=("train", "test", None)[number % 3])
        )
    return build(root, "drawn", pictures)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    return many(tmp_path_factory.mktemp("window"))


@pytest.fixture(scope="module")
def app(version: DatasetVersion) -> Guard:
    return window_on(version)


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"cookie": ""}, 403, "no token"),
        ({"cookie": f"clipcurate-{PORT}=another"}, 403, "no token"),
        ({"cookie": f"clipcurate-{PORT + 1}={TOKEN}"}, 403, "no token"),
        ({"host": f"evil.example:{PORT}"}, 421, "another host"),
        ({"host": f"127.0.0.1:{PORT + 1}"}, 421, "another host"),
        ({"host": ""}, 421, "another host"),
        ({"origin": "http://evil.example"}, 403, "another origin"),
        ({"origin": f"http://127.0.0.1:{PORT + 1}"}, 403, "another origin"),
        ({"origin": "null"}, 403, "another origin"),
        ({"sec-fetch-site": "cross-site"}, 403, "another site"),
        ({"sec-fetch-site": "same-site"}, 403, "another site"),
        ({"content-length": str(MAX_BODY_BYTES + 1)}, 413, "more than"),
        ({"content-length": "-1"}, 413, "more than"),
    ],
)
def test_strangers_are_refused(app: Guard, change: dict[str, str], status: int, reason: str) -> None:
    for address in ("/", "/window.js", "/api/start", "/api/1.0.0/grid", "/small/1.0.0/0", "/picture/1.0.0/0"):
        got, headers, body = ask(app, address, {**OWN, **change})
        assert got == status and reason in body.decode()
        assert headers["content-type"].startswith("text/plain") and "set-cookie" not in headers
        assert TOKEN not in body.decode()


def test_only_the_address_with_the_token_gives_the_cookie(app: Guard) -> None:
    status, headers, _ = ask(app, f"/?token={TOKEN}", {"host": OWN["host"]})
    assert status == 200 and re.fullmatch(
        rf"clipcurate-{PORT}={TOKEN}; HttpOnly; SameSite=Strict; Path=/", headers["set-cookie"]
    )
    # a link in a terminal of the browser is another site's, and may be followed: it has the token
    assert ask(app, f"/?token={TOKEN}", {"host": OWN["host"], "sec-fetch-site": "cross-site"})[0] == 200
    assert ask(app, "/?token=x", {"host": OWN["host"]})[0] == 403
    assert ask(app, f"/api/start?token={TOKEN}", {"host": OWN["host"]})[0] == 403, (
        "the token opens the page, nothing else"
    )
    assert "set-cookie" not in ask(app, "/")[1]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(app: Guard, method: str) -> None:
    assert ask(app, "/api/start", OWN, method)[0] == 405


def test_writing_needs_an_origin(app: Guard) -> None:
    assert ask(app, "/api/start", OWN, "POST", b"{}")[0] == 403


def test_every_answer_forbids_what_it_does_not_need(app: Guard) -> None:
    for address in (
        "/",
        "/window.js",
        "/page.css",
        "/api/start",
        "/picture/1.0.0/0",
        "/small/1.0.0/0",
        "/no-such",
        "/api/9.9.9/about",
    ):
        _, headers, _ = ask(app, address)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy and "form-action 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("at", ["1.0.1", "..", "%2e%2e", "1.0.0%2f..%2f..", "../../etc/passwd", "1"])
def test_nothing_outside_the_version_can_be_named(app: Guard, at: str) -> None:
    for address in (f"/api/{at}/about", f"/picture/{at}/0", f"/small/{at}/0", f"/api/{at}/sample/0"):
        assert ask(app, address)[0] in (400, 404), address


@pytest.mark.parametrize("row", ["40", "99999999999999999999", "-1", "x", "0/../../0"])
def test_no_other_rows(app: Guard, row: str) -> None:
    for address in (f"/picture/1.0.0/{row}", f"/small/1.0.0/{row}", f"/api/1.0.0/sample/{row}"):
        assert ask(app, address)[0] in (400, 404)


def test_pictures_are_what_they_prove(version: DatasetVersion, app: Guard, tmp_path: Path) -> None:
    status, headers, body = ask(app, "/picture/1.0.0/0")
    assert (status, headers["content-type"]) == (200, "image/png") and body.startswith(b"\x89PNG")
    assert ask(app, "/small/1.0.0/0")[1]["content-type"] == "image/webp"
    hostile = many(tmp_path, 12)
    codes = [
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        b"<html><script>1</script>",
        b"GIF89a",
        b"RIFF1234WAVE",
        b"%PDF-1.7",
        b" ",
    ]
    for code, place in zip(
        codes,
        pl.read_parquet(hostile.folder / "index.parquet").select("shard", "image_offset", "image_bytes").iter_rows(),
        strict=False,
    ):
        with (hostile.folder / f"{place[0]:05d}.tar").open("r+b") as file:
            file.seek(place[1])
            file.write(code.ljust(place[2], b" "))
    spoiled = window_on(hostile)
    for row, code in enumerate(codes):
        for address in (f"/picture/1.0.0/{row}", f"/small/1.0.0/{row}"):
            status, headers, body = ask(spoiled, address)
            assert status == 415 and headers["content-type"].startswith("text/plain"), code
            assert b"<" not in body and len(body) < 60, "nothing of the file is in the answer"


def test_types_by_first_bytes() -> None:
    assert picture_type(b"\xff\xd8\xff\xe0") == "image/jpeg" and picture_type(b"RIFF\0\0\0\0WEBPVP8 ") == "image/webp"
    assert [
        picture_type(code)
        for code in (b"<svg>", b"<!doctype html>", b"", b"\xff\xd8", b"GIF89a", b" \x89PNG\r\n\x1a\n")
    ] == [None] * 6


def test_rows_are_those_that_polars_gives(version: DatasetVersion, app: Guard) -> None:
    frame = pl.from_arrow(version.index()).with_row_index("row")  # type: ignore[union-attr]
    for address, wanted in (
        ("", frame),
        ("desc=1", frame.reverse()),
        ("sort=difficulty", frame.sort("difficulty", maintain_order=True)),
        ("sort=difficulty&desc=1", frame.sort("difficulty", descending=True, maintain_order=True)),
        ("is.split=train", frame.filter(pl.col("split") == "train")),
        ("is.split=", frame.filter(pl.col("split").is_null())),
        (
            "is.split=train&is.split=test&is.cluster_id=1",
            frame.filter(pl.col("split").is_in(["train", "test"]) & (pl.col("cluster_id") == 1)),
        ),
        (
            "min.difficulty=0.2&max.difficulty=0.4&sort=cluster_id",
            frame.filter(pl.col("difficulty").is_between(0.2, 0.4)).sort("cluster_id", maintain_order=True),
        ),
        ("is.split=none-such", frame.clear()),
    ):
        found = answer(app, f"/api/1.0.0/grid?{address}&count=200")
        assert [cell["row"] for cell in found["cells"]] == wanted["row"].to_list(), address
        assert found["total"] == wanted.height
    parts = [answer(app, f"/api/1.0.0/grid?sort=difficulty&from={first}&count=7")["cells"] for first in range(0, 42, 7)]
    assert [cell["row"] for part in parts for cell in part] == frame.sort("difficulty", maintain_order=True)[
        "row"
    ].to_list()


def test_kinds_of_negatives_and_counts(version: DatasetVersion, app: Guard) -> None:
    shards = range(len(version.manifest.body["shards"]))
    listed = pl.concat([pl.DataFrame(pl.from_arrow(version.sidecar(shard))) for shard in shards])
    kinds = listed.select("uid", pl.col("negatives").list.eval(pl.element().struct.field("type"))).rows()
    counted = Counter(kind for _, found in kinds for kind in set(found or ()))
    facets = {item["name"]: item for item in answer(app, "/api/1.0.0/facets?several=1")}
    assert dict(facets["negative_type"]["values"]) == counted
    found = answer(app, "/api/1.0.0/grid?is.negative_type=relation&count=200")
    assert found["total"] == counted["relation"] > 3
    uids = version.index(["uid"])["uid"].to_pylist()
    assert {uids[cell["row"]] for cell in found["cells"]} == {
        uid for uid, types in kinds if "relation" in (types or ())
    }
    narrowed = {item["name"]: item for item in answer(app, "/api/1.0.0/facets?is.split=dev")}
    assert sum(number for _, number in narrowed["split"]["values"]) == 40, (
        "its own filter does not narrow a field's counts"
    )
    assert sum(narrowed["difficulty"]["bins"]) == 1, "others' filters do"


@pytest.mark.parametrize(
    "query", ["sort=uid", "sort=none", "is.uid=1", "min.split=1", "min.difficulty=nan", "max.difficulty=x", "from=-1", "from=x", "count=201", "is.shard=1", "from=१"]
)  # fmt: skip
def test_odd_queries_say_what_is_allowed(app: Guard, query: str) -> None:
    status, headers, body = ask(app, f"/api/1.0.0/grid?{query}")
    assert status == 400 and b"allowed" in body and headers["content-type"] == "application/json"


def test_a_sample_has_its_texts_in_pieces(version: DatasetVersion, app: Guard) -> None:
    row = next(cell["row"] for cell in answer(app, "/api/1.0.0/grid?is.split=dev")["cells"])
    sample = answer(app, f"/api/1.0.0/sample/{row}")
    shown = next(text for text in sample["texts"] if text["role"] == "negative")
    assert "".join(words for sign, words in shown["pieces"] if sign != "+") == sample["captions"][0]
    assert [words for sign, words in shown["pieces"] if sign == "+"] == ["<i>"]
    assert sample["uid"] == version.index(["uid"])["uid"][row].as_py()


def test_rows_by_uid(version: DatasetVersion) -> None:
    columns = IndexColumns(version, {})
    uids = version.index(["uid"])["uid"].to_pylist()
    assert columns.rows_of([*uids[::-1], "f" * 32, "", "é" * 32]).tolist() == [*range(39, -1, -1), -1, -1, -1]
    assert [columns.uid(row) for row in range(40)] == uids


def test_what_is_kept_is_bounded() -> None:
    kept, made = Kept(1000), list[int]()

    def array(number: int) -> np.ndarray:
        made.append(number)
        return np.zeros(300, np.uint8)

    for number in (1, 2, 3, 1, 4, 1, 2):
        kept.get(number, functools.partial(array, number), array_bytes)
    assert made == [1, 2, 3, 4, 2], "what was used longest ago left"
