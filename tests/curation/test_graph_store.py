"""The store: the same whatever order edges come in, whole or not there, and answering as the protocol says."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.engine.stage import Resource
from curation.knowledge.formats.rows import EdgeRow
from curation.knowledge.interface import Edge, KnowledgeGraph
from curation.knowledge.open_graph import GraphFile, SeedGraph, open_graph
from curation.knowledge.relations import antonyms, one_way_edges, siblings, synonyms
from curation.knowledge.store_reader import _ENDS, StoreReader
from curation.knowledge.store_writer import compile_rows, publish_store
from curation.sources.synthetic.grammar import ADJECTIVES, GROUND_NOUNS, NOUNS, PATTERNS
from data_manifests.errors import InputError

FACTS: list[EdgeRow] = [
    ("dog", "IsA", "animal", 2.0, "/d/a", "cc0", "n", ""),
    ("dog", "IsA", "animal", 1.0, "/d/a", "cc0", "", ""),
    ("dog", "CapableOf", "bark", 3.0, "/d/b", "cc:by/4.0", "", ""),
    ("dog", "AtLocation", "park", 2.0, "/d/a", "cc0", "", ""),
    ("cat", "IsA", "animal", 2.0, "/d/a", "cc0", "", ""),
    ("bat", "IsA", "animal", 1.0, "/d/a", "cc0", "n/wn/animal", ""),
    ("bat", "UsedFor", "baseball", 1.0, "/d/a", "cc0", "n/wn/artifact", ""),
    ("café au lait", "IsA", "drink", 1.0, "/d/a", "cc0", "", ""),
]

names = st.sampled_from(["a", "b", "c d", "ä", "z"])
edges = st.tuples(
    names,
    st.sampled_from(["IsA", "HasA"]),
    names,
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from(["/d/x", "/d/y"]),
    st.sampled_from(["cc0", "by"]),
    st.sampled_from(["", "n", "v"]),
    st.sampled_from(["", "n/wn/food"]),
)


def identity(row: EdgeRow) -> tuple[object, ...]:
    """Return what makes two edges the same."""
    return (*row[:3], *row[6:])


def quiet(_what: str, _count: int) -> None:
    """Show no progress."""


def compiled(rows: Sequence[EdgeRow]) -> StoreReader:
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    compile_rows(rows, db, ":memory:", quiet)
    return StoreReader(db, "memory")


@pytest.fixture
def store(tmp_path: Path) -> GraphFile:
    publish_store(FACTS, tmp_path / "facts.graph", quiet)
    return GraphFile(str(tmp_path / "facts.graph"))


def expected(rows: Sequence[EdgeRow], end: int, words: str) -> list[Edge]:
    """Merge and sort by the protocol's words, slowly."""
    best: dict[tuple[str, ...], EdgeRow] = {}
    for row in rows:
        key = (*row[:3], *row[6:])
        if row[end] == words and (key not in best or (-row[3], row[4:6]) < (-best[key][3], best[key][4:6])):
            best[key] = row
    return sorted(
        (Edge(*row) for row in best.values()),
        key=lambda e: (-e.weight, e.relation, e.head, e.tail, e.head_sense, e.tail_sense),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(edges, max_size=30), st.randoms(use_true_random=False))
def test_answers_equal_a_slow_transcription_in_any_order_of_arrival(rows: list[EdgeRow], random: object) -> None:
    first = compiled(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = compiled(shuffled)
    words = ["z", "ä", "c d", "b", "a"]
    assert first.info() == again.info()
    assert first.info().num_edges == len({identity(row) for row in rows})
    for end, column in (("head", 0), ("tail", 2)):
        answer = first.edges(end, words, ())
        assert answer == again.edges(end, words, ())
        assert answer == {word: want for word in words if (want := expected(rows, column, word))}
        assert list(answer) == [word for word in words if word in answer]


@given(st.lists(edges, min_size=1, max_size=6, unique_by=identity))
@settings(max_examples=40, deadline=None)
def test_any_other_edge_gives_another_hash(rows: list[EdgeRow]) -> None:
    changed = [
        (*rows[0][:3], rows[0][3] + 1, *rows[0][4:]),
        (*rows[0][:2], "new", *rows[0][3:]),
        (*rows[0][:4], "/d/z", *rows[0][5:]),
        (*rows[0][:5], "other", *rows[0][6:]),
        (*rows[0][:7], "s"),
    ]
    hashes = {compiled([row, *rows[1:]]).info().content_hash for row in [rows[0], *changed]}
    assert len(hashes) == 6


def test_what_was_merged_away_leaves_no_trace_in_the_hash() -> None:
    lighter: EdgeRow = ("dog", "IsA", "animal", 0.5, "/d/gone", "secret", "n", "")
    assert compiled([*FACTS, lighter]).info() == compiled(FACTS).info()


def test_the_same_edges_are_the_same_bytes(tmp_path: Path) -> None:
    publish_store(FACTS, tmp_path / "a", quiet)
    publish_store([*reversed(FACTS), *FACTS], tmp_path / "b", quiet)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_both_directions_relations_senses_and_licences(store: GraphFile) -> None:
    assert isinstance(store, KnowledgeGraph)
    assert isinstance(store, Resource)
    assert store.describe() == "facts.graph"
    assert [e.relation for e in store.edges_from(["dog"])["dog"]] == ["CapableOf", "AtLocation", "IsA", "IsA"]
    assert [(e.head, e.head_sense) for e in store.edges_to(["animal"], ["IsA"])["animal"]] == [
        ("cat", ""),
        ("dog", "n"),
        ("bat", "n/wn/animal"),
        ("dog", ""),
    ]
    (bark,) = store.edges_from(["unicorn", "dog"], ["CapableOf"])["dog"]
    assert (bark.license, bark.dataset, bark.weight) == ("cc:by/4.0", "/d/b", 3.0)
    assert store.edges_from(["animal", "unicorn"]) == {}
    assert store.edges_from(["dog"], ["NoSuch"]) == {}
    assert store.known(["animal", "unicorn", "café au lait"]) == {"animal", "café au lait"}
    bat = store.edges_from(["bat"], ["IsA"])["bat"][0]
    assert bat.uri == "/a/[/r/IsA/,/c/en/bat/n/wn/animal/,/c/en/animal/]"


def test_neither_direction_sorts_or_scans(store: GraphFile) -> None:
    for statement in _ENDS.values():
        for only in ("", "AND e.relation IN (1,2) "):
            steps = store.reader()._db.execute(f"EXPLAIN QUERY PLAN {statement.format(only=only)}", (1,)).fetchall()
            assert [step[3].split()[0] for step in steps] == ["SEARCH", "SEARCH"], steps


def _ask(graph: GraphFile) -> str:
    return f"{graph.content_hash()} {graph.edges_from(['dog'])}"


def test_travels_to_threads_and_processes(store: GraphFile) -> None:
    here = _ask(store)
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert set(threads.map(_ask, [copy] * 64)) == {here}
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert list(processes.map(_ask, [store] * 4)) == [here] * 4


def test_a_replaced_store_is_opened_anew(store: GraphFile) -> None:
    before = store.content_hash()
    publish_store(FACTS[1:], Path(store.path), quiet)
    assert store.content_hash() != before


def test_open_graph_says_what_to_do(store: GraphFile, tmp_path: Path) -> None:
    assert open_graph(None) == open_graph("seed") == SeedGraph()
    assert open_graph(store.path) == store
    (tmp_path / "dump.csv.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "text").write_text("hello")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t(x)").connection.close()
    data = Path(store.path).read_bytes()
    (tmp_path / "cut").write_bytes(data[:-4096])
    (tmp_path / "holes").write_bytes(data[:4096] + bytes(len(data) - 4096))
    for name, said in [
        ("absent", "no such file"),
        (".", "is a folder"),
        ("dump.csv.gz", "kg build"),
        ("text", "not a compiled store"),
        ("other.db", "not a compiled store"),
        ("cut", "cut short"),
        ("holes", "damaged"),
    ]:
        with pytest.raises(InputError, match=said):
            open_graph(str(tmp_path / name))
    with pytest.raises(InputError, match="kg build"):
        open_graph(str(tmp_path / "absent"))


def test_a_store_of_another_format_is_refused(store: GraphFile) -> None:
    with contextlib.closing(sqlite3.connect(store.path)) as db, db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    with pytest.raises(InputError, match="format 99"):
        open_graph(store.path)


def test_nothing_is_overwritten_but_a_store(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("mine")
    for out, said in ((tmp_path / "captions.csv", "not a graph store"), (tmp_path / "no" / "x", "no folder")):
        with pytest.raises(InputError, match=said):
            publish_store(FACTS, out, quiet)
    assert (tmp_path / "captions.csv").read_text() == "mine"


def test_a_failing_source_leaves_the_old_store(store: GraphFile) -> None:
    before = Path(store.path).read_bytes()

    def failing() -> list[EdgeRow]:
        raise InputError("bad line")

    with pytest.raises(InputError, match="bad line"):
        publish_store((row for _ in [0] for row in failing()), Path(store.path), quiet)
    assert Path(store.path).read_bytes() == before
    assert len(list(Path(store.path).parent.iterdir())) == 1


def test_a_full_disk_leaves_the_old_store(store: GraphFile) -> None:
    before = Path(store.path).read_bytes()
    rows = [(f"w{n}" * 20, "IsA", "x", 1.0, "/d/a", "cc0", "", "") for n in range(50_000)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OSError, match="store|SQLite|No space|too large"):
            publish_store(rows, Path(store.path), quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Path(store.path).read_bytes() == before
    assert len(list(Path(store.path).parent.iterdir())) == 1


def test_a_killed_build_leaves_the_old_store_and_the_next_one_cleans_up(store: GraphFile) -> None:
    before = Path(store.path).read_bytes()
    code = (
        "import sys, pathlib, itertools\nfrom curation.knowledge.store_writer import publish_store\n"
        "rows = ((f'w{n}', 'IsA', 'x', 1.0, 'd', 'l', '', '') for n in itertools.count())\n"
        "publish_store(rows, pathlib.Path(sys.argv[1]), lambda *_: None)"
    )
    folder = Path(store.path).parent
    process = subprocess.Popen([sys.executable, "-c", code, store.path], cwd=Path(__file__).parents[2])
    for _ in range(200):
        time.sleep(0.05)
        if any(path.name == "scratch" and path.stat().st_size for path in folder.glob(".*/*")):
            break
    publish_store(FACTS, folder / "facts.graph", quiet)
    assert len(list(folder.glob(".*"))) == 1  # a build at work is left alone
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert Path(store.path).read_bytes() == before
    publish_store(FACTS, folder / "facts.graph", quiet)
    assert [path.name for path in folder.iterdir()] == ["facts.graph"]


def test_the_seed_knows_the_words_of_the_scenes() -> None:
    graph = SeedGraph()
    words = {word for table in ADJECTIVES.values() for forms in table.values() for word in forms}
    words |= {word for table in (NOUNS, GROUND_NOUNS, PATTERNS) for forms in table.values() for word in forms}
    assert words - graph.known(sorted(words)) == set()
    assert {terms for _, terms, _ in graph.info().sources} == {"cc0"}
    assert graph.info().num_edges > 500
    assert pickle.loads(pickle.dumps(graph)).content_hash() == graph.content_hash()


def test_material_for_negatives() -> None:
    graph = SeedGraph()

    def words(found: dict[str, list]) -> dict[str, set[str]]:  # type: ignore[type-arg]
        return {asked: {item.words for item in items} for asked, items in found.items()}

    kin = words(siblings(graph, ["dog", "circle", "grey", "man", "unicorn"]))
    assert {"cat", "horse"} <= kin["dog"]
    assert kin["dog"].isdisjoint({"dog", "puppy", "poodle", "animal", "pet"})
    assert kin["circle"] == {"square", "triangle", "star", "cross", "heart", "diamond", "ring"}
    assert "red" in kin["grey"] and "gray" not in kin["grey"]
    assert kin["man"] == {"woman"}
    assert "unicorn" not in kin
    first = siblings(graph, ["dog"])["dog"][0]
    assert [edge.tail for edge in first.edges] == ["animal", "animal"]
    assert [edge.head for edge in first.edges] == ["dog", first.words]
    assert words(antonyms(graph, ["small", "below"])) == {"small": {"large"}, "below": {"above"}}
    assert words(synonyms(graph, ["disc", "circle"])) == {"disc": {"circle"}, "circle": {"disc"}}
    one_way = one_way_edges(graph, ["paw", "large"])
    assert ("paw", "PartOf", "bear") in {(edge.head, edge.relation, edge.tail) for edge in one_way["paw"]}
    assert all(edge.relation != "Antonym" for edge in one_way.get("large", ()))  # opposites hold both ways


def test_material_needs_no_sense_of_the_source_to_leave_out_kin(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        def __init__(self, rows: Sequence[EdgeRow]) -> None:
            self._reader = compiled(rows)

        def edges_from(self, concepts: Sequence[str], relations: Sequence[str] = ()) -> dict[str, list[Edge]]:
            return self._reader.edges("head", concepts, relations)

        def edges_to(self, concepts: Sequence[str], relations: Sequence[str] = ()) -> dict[str, list[Edge]]:
            return self._reader.edges("tail", concepts, relations)

    def fact(head: str, relation: str, tail: str, weight: float = 1.0) -> EdgeRow:
        return head, relation, tail, weight, "d", "l", "", ""

    rows = [fact(word, "IsA", "animal") for word in ("dog", "poodle", "hound", "cat", "pet")]
    rows += [fact("poodle", "IsA", "lap dog"), fact("lap dog", "IsA", "dog"), fact("hound", "Synonym", "dog")]
    rows += [fact("dog", "IsA", "pet"), fact("lion", "IsA", "animal", 2.0), fact("dog", "IsA", "dog")]
    graph = Memory(rows)
    assert [item.words for item in siblings(graph, ["dog"])["dog"]] == ["cat", "lion"]  # type: ignore[arg-type]
    assert [item.words for item in siblings(graph, ["dog"], limit=1)["dog"]] == ["cat"]  # type: ignore[arg-type]
    monkeypatch.setattr("curation.knowledge.relations.MAX_FAMILY", 1)
    assert siblings(graph, ["dog"]) == {}  # type: ignore[arg-type]
    rows += [fact("animal", "IsA", "dog", 0.5)]
    one_way = one_way_edges(Memory(rows), ["dog"])["dog"]  # type: ignore[arg-type]
    assert [edge.tail for edge in one_way] == ["pet"]
