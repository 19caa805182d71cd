"""Tables that are not UTF-8: Western European text is read and said, anything else is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.engine.intake import Snapshot, read_source
from curation.sources import Note, open_source
from curation.sources.reading.encodings import _PIECE_BYTES, encoding_of
from data_manifests.errors import InputError
from tests.curation.source_inputs import coco, picture, put, read, records_of

_WESTERN = [
    "a café at night",
    "un garçon à vélo près de la forêt, l\u2019été",
    "ein Mann läuft über die Straße",
    "¿dónde está el niño pequeño?",
    "um cão não está à mesa: corações",
    "en hund på en ø i sjöen",
    "a 5² m room \u2013 20 °C, £5 (“cheap”)",
]
_OTHERS = [
    ("собака бежит по траве", "cp1251"),
    ("собака бежит по траве", "koi8-r"),
    ("ένας σκύλος τρέχει", "cp1253"),
    ("žlutý kůň běží", "cp1250"),
    ("pies biegnie po łące, żółty", "cp1250"),
    ("bir köpek yağmurda, \u0131ş\u0131k", "cp1254"),
    ("犬が走る", "shift_jis"),
    ("一只狗在跑", "gb18030"),
    ("un garçon à vélo", "mac-roman"),
    ("un garçon à vélo", "cp850"),
]


def _folder(root: Path, table: bytes, name: str = "captions.csv") -> str:
    for shade, image in enumerate(("0.jpg", "1.jpg")):
        put(root / "set" / image, picture(shade * 40))
    put(root / "set" / name, table)
    return f"folder:{root / 'set'}"


def _snapshot(spec: str, root: Path) -> Snapshot:
    return read_source(open_source(spec), root / "intake", location=spec)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("caption", _WESTERN)
def test_western_european_text_is_read_and_said(caption: str, kind: str, encoding: str, tmp_path: Path) -> None:
    try:
        caption.encode(encoding)
    except UnicodeEncodeError:
        pytest.skip("not in this encoding")
    lines = ["file_name,caption", f'0.jpg,"{caption}"', "1.jpg,a dog"]
    if kind == "jsonl":
        rows = [("0.jpg", caption), ("1.jpg", "a dog")]
        lines = [json.dumps({"file_name": name, "caption": text}, ensure_ascii=False) for name, text in rows]
    found = _snapshot(_folder(tmp_path, "\n".join(lines).encode(encoding), f"captions.{kind}"), tmp_path)
    assert sorted(item.captions for item in found.samples()) == sorted([(caption,), ("a dog",)])
    (note,) = found.notes
    assert f"captions.{kind} is not UTF-8; it was read as Western European" in note
    assert caption[:20] in note
    assert Snapshot.load(found.folder).notes == found.notes


@pytest.mark.parametrize(("caption", "encoding"), _OTHERS)
def test_other_encodings_are_refused_by_name(caption: str, encoding: str, tmp_path: Path) -> None:
    table = f"file_name,caption\n0.jpg,{caption}\n1.jpg,a dog\n".encode(encoding)
    records, rejected = read(_folder(tmp_path, table))
    assert [(r.name, r.captions) for r in records] == [("1.jpg", ("a dog",))]
    assert rejected == [("0.jpg", "malformed_line")]
    put(tmp_path / "set" / "captions.csv", f"file_name,caption\n0.jpg,{caption}\n".encode(encoding))
    with pytest.raises(InputError, match="no usable row; 1 times: not UTF-8 .convert the file: iconv"):
        open_source(f"folder:{tmp_path / 'set'}")


def test_a_damaged_line_of_a_utf8_table_costs_itself_only(tmp_path: Path) -> None:
    table = "file_name,caption\n0.jpg,é\n1.jpg,è\n".encode().replace(b"\xc3\xa8", b"\xe8")
    records, rejected = read(_folder(tmp_path, table))
    assert [r.captions for r in records] == [("é",)]
    assert rejected == [("1.jpg", "malformed_line")]


def test_lines_longer_than_a_piece_are_read_whole(tmp_path: Path) -> None:
    for text, encoding, found in (("é", "utf-8", "utf-8"), ("é", "cp1252", "cp1252"), ("я", "cp1251", "utf-8")):
        for cut in range(3):
            path = put(
                tmp_path / f"{encoding}{cut}", ("a" * (_PIECE_BYTES - cut) + f"{text} t{text}t").encode(encoding)
            )
            assert encoding_of(path) == found
    assert encoding_of(put(tmp_path / "last", "café".encode("cp1252"))) == "cp1252"


def test_encodings_of_the_other_tables(tmp_path: Path) -> None:
    put(tmp_path / "c" / "images" / "a.jpg", picture())
    text = coco([{"id": 1, "file_name": "a.jpg"}], [(1, "X")]).replace("X", "un été à la plage")
    put(tmp_path / "c" / "captions.json", text.encode("cp1252"))
    put(tmp_path / "f" / "images" / "a.jpg", picture())
    put(tmp_path / "f" / "Flickr8k.token.txt", "a.jpg#0\tun été à la plage\n".encode("cp1252"))
    put(tmp_path / "k" / "Images" / "a.jpg", picture())
    put(tmp_path / "k" / "captions.txt", "image,caption\na.jpg,un été à la plage\n".encode("cp1252"))
    for spec in (f"coco:{tmp_path / 'c'}", f"flickr:{tmp_path / 'f'}", f"flickr:{tmp_path / 'k'}"):
        assert [r.captions for r in read(spec)[0]] == [("un été à la plage",)]
        assert sum(isinstance(item, Note) for item in records_of(open_source(spec))) == 1
