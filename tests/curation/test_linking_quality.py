"""Links against 100 captions labelled by hand, and the two stages over real captions with the real graph."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from curation.knowledge.interface import KnowledgeGraph
from curation.stages.captions.expand_knowledge import ExpandKnowledge
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.captions.parse_captions import ParseCaptions
from data_manifests.sample import ImageRef, Sample, image_uid

GOLDEN = Path(__file__).parents[1] / "golden/concept_links.tsv"
LABELLED = tuple[list[str], list[str]]


@pytest.fixture(scope="module")
def graph(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeGraph:
    from curation.knowledge.build import GraphSource, build_graph
    from curation.knowledge.formats.rows import Keep
    from curation.knowledge.open_graph import GraphFile

    assertions = real_data / "conceptnet/assertions-en-100k.csv.gz"
    if not assertions.is_file():
        pytest.skip(f"{assertions} is absent: set CLIPCURATE_DATA")
    path = tmp_path_factory.mktemp("graph") / "conceptnet.kg"
    build_graph([GraphSource("assertions", assertions)], path, Keep(), lambda *_: None)
    return GraphFile(str(path))


@pytest.fixture(scope="module")
def captions(real_data: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in (real_data / "flickr8k/Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, _, caption = line.partition("\t")
        found[name.partition("#")[0]].append(caption)
    return found


def labels() -> dict[tuple[str, int], dict[int, LABELLED]]:
    found: dict[tuple[str, int], dict[int, LABELLED]] = defaultdict(dict)
    for line in GOLDEN.read_text(encoding="utf-8").splitlines()[1:]:
        name, caption, token, concepts, senses = line.split("\t")
        found[name, int(caption)][int(token)] = (concepts.split("/"), senses.split("|"))
    return found


def parsed(captions: dict[str, list[str]], names: list[str]) -> list[Sample]:
    samples = [Sample(image_uid(name.encode()), name, ImageRef(name), tuple(captions[name])) for name in names]
    return [
        one.adding(result)
        for one, result in zip(samples, ParseCaptions().process(samples), strict=True)
        if isinstance(result, dict)
    ]


def with_links(samples: list[Sample], graph: KnowledgeGraph) -> list[Sample]:
    results = LinkConcepts(graph=graph).process(samples)
    return [one.adding(result) for one, result in zip(samples, results, strict=True) if isinstance(result, dict)]


def judged(links: list[dict[str, Any]], gold: dict[int, LABELLED]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for link in links:
        concepts, senses = gold.get(link["tokens"][1] - 1, ([], []))
        if concepts == ["?"]:
            continue
        counts["links"] += 1
        counts["right"] += link["concept"] in concepts
        counts["sensed"] += link["sense"] is not None
        counts["right sense"] += link["sense"] in senses
    return counts


def test_links_of_the_labelled_captions(graph: KnowledgeGraph, captions: dict[str, list[str]]) -> None:
    gold = labels()
    names = sorted({name for name, _ in gold})
    assert len(gold) == 100
    linked = dict(zip(names, with_links(parsed(captions, names), graph), strict=True))
    counts: Counter[str] = Counter()
    for (name, caption), tokens in gold.items():
        links = linked[name]["concepts"][caption]
        counts += judged(links, tokens)
        ends = {link["tokens"][1] - 1 for link in links}
        wanted = {token: concepts for token, (concepts, _) in tokens.items() if concepts != ["?"]}
        counts["labelled"] += len(wanted)
        counts["in graph"] += sum(bool(graph.known(concepts)) for concepts in wanted.values())
        counts["found"] += sum(token in ends for token in wanted)
    print(dict(counts))
    assert counts["right"] / counts["links"] >= 0.98
    assert counts["found"] / counts["in graph"] >= 0.95
    assert counts["right sense"] / counts["sensed"] >= 0.97


def test_no_expansion_of_a_labelled_caption_is_of_another_sense(
    graph: KnowledgeGraph, captions: dict[str, list[str]]
) -> None:
    gold = labels()
    names = sorted({name for name, _ in gold})
    samples = with_links(parsed(captions, names), graph)
    told = 0
    for name, one, result in zip(names, samples, ExpandKnowledge(graph=graph).process(samples), strict=True):
        assert isinstance(result, dict)
        for triplet in result["triplets"]:
            tokens = gold.get((name, triplet["caption"]), {})
            for link in one["concepts"][triplet["caption"]]:
                token = link["tokens"][1] - 1
                if link["concept"] == triplet["head"] and tokens.get(token, (["?"], []))[0] != ["?"]:
                    told += 1
                    assert link["sense"] in tokens[token][1], (name, triplet)
    assert told > 50
