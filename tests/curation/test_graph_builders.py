"""Every format into the same store; what is malformed is counted and said, and no file can take the memory."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import re
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.knowledge.build import Built, GraphFormat, GraphSource, build_graph
from curation.knowledge.formats import json_items, lines
from curation.knowledge.formats.conceptnet_lite import ConceptNetLiteGraph, is_conceptnet_lite, relation_name
from curation.knowledge.formats.json_items import read_items, read_members
from curation.knowledge.formats.lines import read_lines
from curation.knowledge.formats.rows import Keep
from curation.knowledge.interface import Edge, KnowledgeGraph
from curation.knowledge.open_graph import GraphFile, open_graph
from data_manifests.errors import InputError

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("CLIPCURATE_DATA", ROOT / "../shared/data")) / "conceptnet" / "assertions-en-100k.csv.gz"


def assertion(relation: str, head: str, tail: str, **details: Any) -> str:
    about = {"dataset": "/d/test", "license": "cc0", "weight": 1.0, **details}
    return f"/a/[/r/{relation}/,{head}/,{tail}/]\t/r/{relation}\t{head}\t{tail}\t{json.dumps(about)}"


DUMP = [
    assertion("IsA", "/c/en/hot_dog/n", "/c/en/food", weight=2.5),
    assertion("IsA", "/c/en/bat/n/wn/animal", "/c/en/mammal/n", dataset="/d/wordnet/3.1", license="cc:by/4.0"),
    assertion("UsedFor", "/c/en/bat/n/wn/artifact", "/c/en/baseball"),
    assertion("AtLocation", "/c/en/bat", "/c/en/cave", weight=0.5),
    assertion("IsA", "/c/en/hot_dog/n", "/c/en/food", dataset="/d/lighter"),
    assertion("Synonym", "/c/en/dog", "/c/fr/chien"),
    assertion("IsA", "/c/de/hund", "/c/de/tier"),
    assertion("ExternalURL", "/c/en/dog", "http://example.org/dog"),
]


def build(folder: Path, kind: GraphFormat, path: Path, keep: Keep | None = None) -> tuple[Built, GraphFile]:
    out = folder / "made.graph"
    return build_graph([GraphSource(kind, path)], out, keep or Keep(), lambda _what, _count: None), GraphFile(str(out))


def written(path: Path, *rows: str) -> Path:
    data = ("\n".join(rows) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["dump.csv", "dump.csv.gz"])
def test_assertions(tmp_path: Path, name: str) -> None:
    built, graph = build(tmp_path, "assertions", written(tmp_path / name, *DUMP))
    (tally,) = built.tallies
    assert (tally.num_read, tally.num_kept, tally.num_skipped, tally.num_malformed) == (8, 5, 3, 0)
    assert built.info.num_edges == 4
    assert graph.edges_from(["hot dog", "bat"]) == {
        "hot dog": [Edge("hot dog", "IsA", "food", 2.5, "/d/test", "cc0", "n", "")],
        "bat": [
            Edge("bat", "IsA", "mammal", 1.0, "/d/wordnet/3.1", "cc:by/4.0", "n/wn/animal", "n"),
            Edge("bat", "UsedFor", "baseball", 1.0, "/d/test", "cc0", "n/wn/artifact", ""),
            Edge("bat", "AtLocation", "cave", 0.5, "/d/test", "cc0", "", ""),
        ],
    }
    assert built.info.relations == {"AtLocation": 1, "IsA": 2, "UsedFor": 1}
    assert built.info.sources == (("/d/test", "cc0", 3), ("/d/wordnet/3.1", "cc:by/4.0", 1))


def test_what_is_kept_is_chosen(tmp_path: Path) -> None:
    dump = written(tmp_path / "dump.csv", *DUMP)
    assert build(tmp_path, "assertions", dump, Keep(relations=("IsA", "UsedFor")))[0].info.relations == {
        "IsA": 2,
        "UsedFor": 1,
    }
    assert build(tmp_path, "assertions", dump, Keep(min_weight=1.0))[0].info.num_edges == 3
    assert build(tmp_path, "assertions", dump, Keep("de"))[1].known(["hund", "dog"]) == {"hund"}
    for keep, said in [
        (Keep(relations=("Isa",)), "relations there: AtLocation, IsA, UsedFor"),
        (Keep(relations=("IsA", "Usedfor")), "did you mean 'UsedFor'"),
        (Keep("xx"), "--languages"),
        (Keep(min_weight=99), "--min-weight"),
    ]:
        with pytest.raises(InputError, match=said):
            build(tmp_path, "assertions", dump, keep)


def test_malformed_lines_are_counted_and_named(tmp_path: Path) -> None:
    good, head, tail = DUMP[0], "/c/en/a", "/c/en/b"
    bad = [
        ("only\tthree\tcolumns", "3 columns"),
        (good.replace("\t/r/IsA", "\tIsA"), "/r/RELATION"),
        (good.replace("\t/c/en/food", "\tfood"), "/c/LANGUAGE/WORDS"),
        (assertion("IsA", head, tail)[:-1], "not JSON"),
        (assertion("IsA", head, tail, weight="heavy"), "finite number"),
        (assertion("IsA", head, tail, weight=True), "finite number"),
        (assertion("IsA", head, tail, license=3), "license is not a text"),
        (assertion("IsA", head, "/c/en/"), "is empty|WORDS"),
        (assertion("IsA", head, "/c/en/" + "x" * 501), "over 500 characters"),
        (assertion("IsA", head, "/c/en/a\x1b[2Jb"), "control characters"),
        (good + "x" * lines.MAX_LINE_BYTES, "bytes"),
    ]
    for line, said in bad:
        dump = written(tmp_path / "dump.csv", good, line, "", good)
        (tally,) = build(tmp_path, "assertions", dump)[0].tallies
        assert (tally.num_kept, tally.num_malformed) == (2, 1), line[:80]
        assert tally.examples[0].startswith("line 2: ")
        assert re.search(said, tally.examples[0])
    dump.write_bytes(good.encode() + b"\n" + good.replace("food", "f\udcff").encode(errors="surrogateescape") + b"\n")
    assert build(tmp_path, "assertions", dump)[0].tallies[0].examples == ["line 2: not UTF-8"]


def test_many_malformed_lines_keep_a_few_examples(tmp_path: Path) -> None:
    dump = written(tmp_path / "dump.csv", DUMP[0], *["?"] * 3000)
    (tally,) = build(tmp_path, "assertions", dump)[0].tallies
    assert (tally.num_malformed, len(tally.examples)) == (3000, 5)


@pytest.mark.parametrize("kind", ["assertions", "triples", "conceptnet-lite", "visual-genome"])
def test_another_format_is_refused_and_nothing_is_written(tmp_path: Path, kind: GraphFormat) -> None:
    (tmp_path / "vg").mkdir()
    for path in (tmp_path / "text", tmp_path / "vg" / "relationships.json"):
        path.write_text("once upon a time\n" * 5000)
    with pytest.raises(InputError) as error:
        build(tmp_path, kind, tmp_path / ("vg" if kind == "visual-genome" else "text"))
    assert "allowed:" in str(error.value) or error.value.fix
    assert not (tmp_path / "made.graph").exists()
    with pytest.raises(InputError, match="no such file|neither"):
        build(tmp_path, kind, tmp_path / "absent")


@pytest.mark.parametrize("end", [-1, -9, -40])
def test_a_gzip_file_cut_short_is_refused(tmp_path: Path, end: int) -> None:
    whole = written(tmp_path / "dump.csv.gz", *DUMP)
    whole.write_bytes(whole.read_bytes()[:end])
    with pytest.raises(InputError, match="cut-short"):
        build(tmp_path, "assertions", whole)
    assert not (tmp_path / "made.graph").exists()


def test_a_bomb_of_one_line_takes_no_memory(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.csv.gz"
    with gzip.open(bomb, "wb", compresslevel=9) as file:
        file.write(DUMP[0].encode() + b"\n")
        for _ in range(64):
            file.write(bytes(1 << 20))
        file.write(b"\n" + DUMP[1].encode())
    assert bomb.stat().st_size < 100_000
    tracemalloc.start()
    found = list(read_lines(bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [line if line is None else line[:3] for line in found] == [b"/a/", None, b"/a/"]
    assert peak < 8 << 20


@settings(max_examples=50, deadline=None)
@given(data=st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=12), chunk=st.integers(1, 7))
def test_lines_are_the_same_whatever_the_chunks(
    tmp_path_factory: pytest.TempPathFactory, data: list[bytes], chunk: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines"
    path.write_bytes(b"x" + b"\n".join(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_CHUNK_BYTES", chunk)
        patch.setattr(lines, "MAX_LINE_BYTES", 8)
        want = (b"x" + b"\n".join(data)).split(b"\n")
        assert list(read_lines(path)) == [
            line if len(line) <= 8 else None for line in (want if want[-1] else want[:-1])
        ]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(items=st.lists(values, max_size=6), chunk=st.integers(1, 9), indent=st.sampled_from([None, 2]))
def test_items_are_the_same_whatever_the_chunks(
    tmp_path_factory: pytest.TempPathFactory, items: list[Any], chunk: int, indent: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "items.json"
    path.write_text(json.dumps(items, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_items, "_CHUNK_CHARS", chunk)
        assert list(read_items(path)) == items


@pytest.mark.parametrize(
    "text", ["", "{}", "[1, 2", "[1 2]", "[1,]", '[{"a": 1}, {"b"', "[" * 100_000, '["' + "x" * 3000]
)
def test_broken_arrays_are_refused(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_items, "MAX_ITEM_CHARS", 1000)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="a.json"):
        list(read_items(tmp_path / "a.json"))


def test_triples(tmp_path: Path) -> None:
    plain = written(
        tmp_path / "facts.csv", "Dog,IsA,animal", '"a ""big"" dog",on,the grass', "a,b", "", "Hot_Dog,IsA, food "
    )
    built, graph = build(tmp_path, "triples", plain, Keep(license="cc0"))
    assert built.tallies[0].examples == ["line 3: 2 columns, not 3"]
    assert graph.edges_to(["food", "the grass"]) == {
        "food": [Edge("hot dog", "IsA", "food", 1.0, "/d/triples/facts", "cc0")],
        "the grass": [Edge('a "big" dog', "on", "the grass", 1.0, "/d/triples/facts", "cc0")],
    }
    rich = written(
        tmp_path / "rich.csv", "\ufeffTail,Head,Relation,weight,license", "animal,dog,IsA,2,by", "x,y,z,nan,by"
    )
    built, graph = build(tmp_path, "triples", rich)
    assert graph.edges_from(["dog"])["dog"] == [Edge("dog", "IsA", "animal", 2.0, "/d/triples/rich", "by")]
    assert built.tallies[0].num_malformed == 1


def test_visual_genome(tmp_path: Path) -> None:
    thing = {"name": "Man", "synsets": ["man.n.01"], "object_id": 1, "x": 0}
    relationships = [
        {"image_id": 1, "relationships": [{"predicate": "ON", "subject": thing, "object": {"names": ["skate_board"]}}]},
        {"image_id": 2, "relationships": [{"predicate": "on", "subject": thing}, {"predicate": "", "subject": thing, "object": thing}]},
        {"image_id": 3},
    ]  # fmt: skip
    attributes = [
        {"image_id": 1, "attributes": [{"names": ["sky"], "attributes": ["blue", "clear"]}, {"names": ["tree"]}]}
    ]
    (tmp_path / "relationships.json").write_text(json.dumps(relationships))
    (tmp_path / "attributes.json").write_text(json.dumps(attributes))
    built, graph = build(tmp_path, "visual-genome", tmp_path)
    assert [(tally.name, tally.num_kept, tally.num_malformed) for tally in built.tallies] == [
        ("attributes.json", 2, 0),
        ("relationships.json", 1, 3),
    ]
    assert graph.edges_from(["man"])["man"] == [
        Edge("man", "on", "skate board", 1.0, "/d/visual_genome", "cc:by/4.0", "n/man.n.01", "")
    ]
    assert [edge.tail for edge in graph.edges_from(["sky"], ["HasProperty"])["sky"]] == ["blue", "clear"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Build a database with conceptnet-lite itself."""
    db = pytest.importorskip("conceptnet_lite.db", reason="conceptnet-lite is not installed")
    dump = written(tmp_path / "assertions.csv", *DUMP)
    db.load_dump_to_db(dump_path=dump, db_path=tmp_path / "lite.db", edge_count=len(DUMP), delete_dump=False)
    db.db.close()
    return tmp_path / "lite.db"


@pytest.mark.filterwarnings("ignore")
def test_conceptnet_lite_gives_the_same_edges_compiled_or_in_place(tmp_path: Path, database: Path) -> None:
    before = database.read_bytes()
    built, compiled = build(tmp_path, "conceptnet-lite", database)
    assert built.tallies[0].num_kept == 5
    _, dump = build(tmp_path, "assertions", tmp_path / "assertions.csv")
    assert built.info.content_hash == dump.content_hash()
    found = open_graph(str(database))
    assert found == ConceptNetLiteGraph(str(database))
    assert isinstance(found, KnowledgeGraph)
    words = ["hot dog", "bat", "food", "mammal", "cave", "dog", "unicorn"]
    assert found.edges_from(words) == compiled.edges_from(words)
    assert found.edges_to(words) == compiled.edges_to(words)
    assert found.edges_from(words, ["IsA"]) == compiled.edges_from(words, ["IsA"])
    assert found.known(words) == compiled.known(words)
    assert database.read_bytes() == before


@pytest.mark.filterwarnings("ignore")
def test_a_changed_database_has_another_hash(database: Path) -> None:
    graph = ConceptNetLiteGraph(str(database))
    before = graph.content_hash()
    assert graph.content_hash() == before != ConceptNetLiteGraph(str(database), "de").content_hash()
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE label SET text = 'hot_cat' WHERE text = 'hot_dog'")
    os.utime(database, ns=(1, 1))
    assert graph.content_hash() != before
    with pytest.raises(InputError, match="no concept of language 'xx'"):
        ConceptNetLiteGraph(str(database), "xx").edges_from(["dog"])


def test_relation_names_come_back_as_conceptnet_spells_them() -> None:
    lite = pytest.importorskip("conceptnet_lite.utils", reason="conceptnet-lite is not installed")
    known = importlib.import_module("conceptnet_lite.db").RelationName
    assert len([name for name in vars(known) if name.isupper()]) > 30
    for name in ("IsA", "HasFirstSubevent", "EtymologicallyRelatedTo", "NotDesires", "ExternalURL", "dbpedia/knownFor"):
        assert relation_name(lite._to_snake_case(name)) == name


def test_other_databases_are_not_mistaken(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        db.execute("CREATE TABLE edge(a)")
    assert not is_conceptnet_lite(tmp_path / "x.db")


def test_several_sources_in_one_store(tmp_path: Path) -> None:
    dump = written(tmp_path / "dump.csv", *DUMP)
    facts = written(tmp_path / "facts.csv", "hot dog,IsA,snack", "bat,AtLocation,cave")
    sources = [GraphSource("assertions", dump), GraphSource("triples", facts)]
    hashes = set()
    for order in (sources, sources[::-1]):
        built = build_graph(order, tmp_path / "both.graph", Keep(), lambda _what, _count: None)
        hashes.add(built.info.content_hash)
        assert built.info.num_edges == 5
    assert len(hashes) == 1
    (cave,) = GraphFile(str(tmp_path / "both.graph")).edges_to(["cave"])["cave"]
    assert (cave.weight, cave.dataset) == (1.0, "/d/triples/facts")  # the heavier of the two
    with pytest.raises(InputError, match="nothing to compile"):
        build_graph([], tmp_path / "x", Keep(), lambda _what, _count: None)


@pytest.mark.skipif(not REAL.is_file(), reason=f"no ConceptNet at {REAL} (set CLIPCURATE_DATA)")
def test_real_assertions(tmp_path: Path) -> None:
    built, graph = build(tmp_path, "assertions", REAL)
    (tally,) = built.tallies
    assert (tally.num_read, tally.num_malformed) == (99_994, 0)
    assert built.info.num_edges > 99_900
    assert len(built.info.relations) == 34
    assert {terms for _, terms, _ in built.info.sources} == {"cc:by-sa/4.0"}
    tails = {edge.tail for edge in graph.edges_from(["dog"], ["IsA"])["dog"]}
    assert {"bird", "biped"} & tails
    assert "ant" in {edge.head for edge in graph.edges_to(["animal"], ["IsA"])["animal"]}


NODES = {
    "bn:1n": {"ms": "WN:EN:dog", "se": ["dog"], "ims": ["e5"]},
    "bn:2n": {"ms": "WIKI:EN:Jaguar_(animal)", "ims": []},
    "bn:3n": {"ms": "WN:EN:domestic_animal"},
    "bn:4v": {"ms": "run#v#1"},
    "bn:5n": {"ms": "WIKI:DE:Hütte_„x“"},
    "bn:6n": {"ims": []},
    "bn:7n": {"ms": "WN:EN:"},
}
TUPLES = {
    "bn:3n": [{"s": "bn:1n", "r": "is-a", "r_id": 0}, {"s": "bn:2n", "r": "IsA", "r_id": 1}],
    "bn:4v": [{"s": "bn:1n", "r": "gloss-related", "r_id": 2}, {"s": "bn:5n", "r": "located-at", "r_id": 3}],
    "bn:1n": [{"s": "bn:6n", "r": "is-a"}, {"s": "bn:9n", "r": "is-a"}, {"s": "bn:7n", "r": "is-a"}, {"r": "is-a"}, 3],
    "bn:2n": "no list",
}


def visualsem(folder: Path, nodes: Any = NODES, tuples: Any = TUPLES) -> Path:
    for name, content in (("nodes.v2.json", nodes), ("tuples.v2.json", tuples)):
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_visualsem(tmp_path: Path) -> None:
    built, graph = build(tmp_path, "visualsem", visualsem(tmp_path))
    (tally,) = built.tallies
    assert (tally.name, tally.unit) == ("tuples.v2.json", "node")
    assert (tally.num_read, tally.num_kept, tally.num_skipped, tally.num_malformed) == (4, 3, 1, 6)
    said = " ".join(tally.examples)
    assert all(
        text in said for text in ("bn:6n has no main sense", "no node bn:9n", "the main sense of bn:7n is empty")
    )
    about = ("/d/visualsem", "https://babelnet.org/license")
    assert graph.edges_from(["dog", "jaguar"]) == {
        "dog": [
            Edge("dog", "IsA", "domestic animal", 1.0, *about, "n/bn:1n", "n/bn:3n"),
            Edge("dog", "gloss-related", "run", 1.0, *about, "n/bn:1n", "v/bn:4v"),
        ],
        "jaguar": [Edge("jaguar", "IsA", "domestic animal", 1.0, *about, "n/bn:2n", "n/bn:3n")],
    }
    assert build(tmp_path, "visualsem", tmp_path, Keep(relations=("IsA",)))[0].info.relations == {"IsA": 2}


@pytest.mark.parametrize(
    ("nodes", "tuples", "said"),
    [
        ("[]", TUPLES, "nodes.v2.json: no JSON object"),
        (NODES, "[1]", "tuples.v2.json: no JSON object"),
        (NODES, '{"bn:3n": [', "tuples.v2.json: not JSON, or the file is cut short"),
        (NODES, '{"bn:3n": []', "the file is cut short"),
        (NODES, "{3: []}", "a name is not a text"),
        (NODES, '{"a" []}', "no colon after a name"),
        (NODES, '{"a": [] "b": []}', "neither a comma nor the object's end"),
        (NODES, {}, "no usable edge"),
        ({}, TUPLES, "no usable edge"),
    ],
)
def test_damaged_visualsem_is_refused_by_name(tmp_path: Path, nodes: Any, tuples: Any, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        build(tmp_path, "visualsem", visualsem(tmp_path, nodes, tuples))
    assert not (tmp_path / "made.graph").exists()


def test_visualsem_needs_both_files(tmp_path: Path) -> None:
    for name in ("tuples.v2.json", "nodes.v2.json"):
        visualsem(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=f"no {name}"):
            build(tmp_path, "visualsem", tmp_path)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.recursive(
            st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.lists, max_leaves=5
        ),
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_members_of_any_object_in_small_windows(content: dict[str, Any]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_items, "_CHUNK_CHARS", 3)
        path = Path(folder) / "object.json"
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
        assert list(read_members(path)) == list(content.items())
