"""Croissant 1.1: the JSON-LD with which other tools find, check and read a dataset version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import orjson

_CONTEXT_FILE = "croissant_context.json"
"""The JSON-LD context that Croissant 1.1 prescribes, word for word."""

_FORMATS = {
    "safetensors": "application/octet-stream",
    "tar": "application/x-tar",
    "parquet": "application/x-parquet",
    "json": "application/json",
}
_TEXT, _INTEGER, _FLOAT = "sc:Text", "sc:Integer", "cr:Float64"

_SIDECAR_FIELDS = (
    ("uid", _TEXT, "BLAKE3-128 of the image bytes, hex: the sample's identity."),
    ("key", _TEXT, "Name of the sample's members in its tar, without extension."),
    ("name", _TEXT, "What the source calls the image."),
    ("split", "cr:Split", "train, dev or test, as the source says."),
    ("caption", _TEXT, "The first caption."),
    ("width", _INTEGER, "Width of the image in pixels."),
    ("height", _INTEGER, "Height of the image in pixels."),
    ("sha256", _TEXT, "SHA-256 of the image bytes."),
    ("url", _TEXT, "Where the source had the image from."),
    ("attributes", _TEXT, "What else the source knows, as JSON."),
)
_INDEX_FIELDS = (
    ("uid", _TEXT, "The sample's identity."),
    ("key", _TEXT, "Name of the sample's members in its tar, without extension."),
    ("shard", _INTEGER, "Number of the tar."),
    ("image_offset", _INTEGER, "First byte of the image in the tar."),
    ("image_bytes", _INTEGER, "Size of the image."),
    ("image_ext", _TEXT, "Extension of the image's member."),
    ("json_offset", _INTEGER, "First byte of the sample's JSON in the tar."),
    ("json_bytes", _INTEGER, "Size of the sample's JSON."),
    ("num_captions", _INTEGER, "Number of captions."),
    ("num_negatives", _INTEGER, "Number of negatives."),
    ("num_views", _INTEGER, "Number of rewrites and knowledge captions."),
)
_NEGATIVE_FIELDS = (
    ("text", _TEXT, "The hard negative."),
    ("caption", _INTEGER, "Position of its caption among the captions."),
    ("operation", _TEXT, "What was done to the caption."),
    ("span_class", _TEXT, "What it was done to."),
    ("type", _TEXT, "object, attribute, relation, action or order."),
    ("rule", _TEXT, "Why this edit was made."),
    ("source", _TEXT, "The stage that made it."),
    ("against", _TEXT, "The true text that it is an edit of, where that is not the caption; else empty."),
)
_VIEW_FIELDS = (
    ("text", _TEXT, "Another text that is true of the image."),
    ("caption", _INTEGER, "Position of its caption among the captions."),
    ("kind", _TEXT, "rewrite, knowledge, denial or count."),
    ("family", _TEXT, "The prompt, rule family or relation behind it."),
    ("rule", _TEXT, "The prompt and draw, the rule, or the edge of the knowledge graph."),
    ("source", _TEXT, "The stage that made it."),
)
_INTEGERS = ("cluster_id",)
_ARRAY_SHAPES = {"_embedding": "-1", "_embeddings": "-1,-1"}
"""Ending of an array field's name -> its shape."""


def croissant_bytes(body: Mapping[str, Any]) -> bytes:
    """Return a version's Croissant description.

    It has no time and no host: an equal version gives equal bytes. Unknown properties that the specification asks for
    (publication date, creator, licence, page) are left out.

    Args:
        body: A manifest's body; `files` lists every file but the description itself.
    """
    counts, parent = body["counts"], body["parent"]
    document = {
        "@context": orjson.loads(resources.files("data_manifests").joinpath(_CONTEXT_FILE).read_bytes()),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": body["name"],
        "version": body["version"],
        "description": (
            f"{counts['samples']} images with {counts['captions']} captions, {counts['views']} rewrites and knowledge "
            f"captions and {counts['negatives']} hard negatives, "
            f"curated from the {body['source'].get('kind')} source {body['source'].get('name')} by the recipe "
            f"{body['recipe'].get('name')}."
        ),
        "isLiveDataset": False,
        "keywords": ["image-text pairs", "CLIP", "hard negatives", "WebDataset"],
        "distribution": [*map(_file_object, body["files"]), *_file_sets(body)],
        "recordSet": [_samples(body), _index(body), _images()],
        "prov:wasGeneratedBy": [_activity(stage) for stage in body["stages"]],
    }
    if licences := _licences(body):
        document["license"] = licences
    if parent:
        reference = f"urn:clipcurate:{parent.get('name', body['name'])}:{parent['version']}:{parent['fingerprint']}"
        document["prov:wasDerivedFrom"] = {"@id": reference}
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _licences(body: Mapping[str, Any]) -> list[str]:
    """Return the licences of the source and of resources that texts were made with, such as a knowledge graph."""
    own = body["source"].get("licence")
    used = (
        terms for stage in body["stages"] for item in stage["resources"].values() for terms in item.get("licences", ())
    )
    return list(dict.fromkeys([*([own] if own else []), *used]))


def _activity(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@id": f"urn:clipcurate:stage:{stage['name']}:{stage['fingerprint']}",
        "@type": "prov:Activity",
        "prov:label": f"{stage['name']}, version {stage['version']}: {stage['source']}",
    }


def _node(kind: str, identifier: str) -> dict[str, Any]:
    """Return the type, identifier and name of a node; the name is the last part of the identifier."""
    return {"@type": kind, "@id": identifier, "name": identifier.rpartition("/")[2]}


def _file_object(record: Mapping[str, Any]) -> dict[str, Any]:
    name = record["name"]
    return _node("cr:FileObject", name) | {
        "contentUrl": name,
        "contentSize": f"{record['bytes']} B",
        "encodingFormat": _FORMATS[name.rpartition(".")[2]],
        "sha256": record["sha256"],
    }


def _file_sets(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    tars = {"containedIn": [{"@id": shard["name"]} for shard in body["shards"]]}
    sidecars, images = "One parquet file beside each tar, one row for each sample.", "The original image files."
    image_types, image_names = ["image/jpeg", "image/png", "image/webp"], ["*.jpg", "*.png", "*.webp"]
    sets: list[tuple[str, str, Any, list[str], dict[str, Any]]] = [
        ("sidecars", sidecars, _FORMATS["parquet"], ["[0-9][0-9][0-9][0-9][0-9].parquet"], {}),
        ("image-files", images, image_types, image_names, tars),
        ("sample-json", "All that is known of a sample, beside its image.", _FORMATS["json"], ["*.json"], tars),
    ]
    return [
        _node("cr:FileSet", name)
        | {"description": description, "encodingFormat": encoding, "includes": includes, **container}
        for name, description, encoding, includes, container in sets
    ]


def _record_set(name: str, key: str, description: str, fields: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    content = {"key": {"@id": f"{name}/{key}"}, "description": description, "field": fields}
    return _node("cr:RecordSet", name) | content


def _samples(body: Mapping[str, Any]) -> dict[str, Any]:
    source = {"fileSet": {"@id": "sidecars"}}
    fields = [_field("samples", *spec, source) for spec in _SIDECAR_FIELDS]
    fields.append(_field("samples", "captions", _TEXT, "All captions, in the source's order.", source) | _array("-1"))
    negatives = "Texts that are close to a caption and false of the image."
    fields.append(_records("negatives", negatives, _NEGATIVE_FIELDS, source))
    fields.append(_records("views", "Other texts that are true of the image.", _VIEW_FIELDS, source))
    added = (item for item in body["fields"] if item["name"] not in ("negatives", "views", "image_info"))
    fields += [_published("samples", item, source) for item in added]
    description = "One record for each image: captions, negatives and what the stages added."
    return _record_set("samples", "uid", description, fields)


def _published(parent: str, published: Mapping[str, str], source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field that a stage added; arrays and numbers have their own types."""
    name = published["name"]
    description = f"Added by the stage {published['stage']}."
    for ending, shape in _ARRAY_SHAPES.items():
        if name.endswith(ending):
            return _field(parent, name, "cr:Float16", description, source) | _array(shape)
    number = _INTEGER if name in _INTEGERS else _FLOAT
    return _field(parent, name, number if published["where"] == "index" else _TEXT, description, source)


def _records(
    name: str, description: str, parts: Sequence[tuple[str, str, str]], source: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a column of lists of records."""
    sub_fields = []
    for part, kind, part_description in parts:
        where = {**source, "extract": {"column": name}, "transform": {"jsonPath": part}}
        sub_fields.append(_field(f"samples/{name}", part, kind, part_description, source) | {"source": where})
    content = {**_array("-1"), "description": description, "subField": sub_fields}
    return _node("cr:Field", f"samples/{name}") | content


def _index(body: Mapping[str, Any]) -> dict[str, Any]:
    source = {"fileObject": {"@id": "index.parquet"}}
    fields = [_field("index", *spec, source) for spec in _INDEX_FIELDS]
    fields += [_published("index", item, source) for item in body["fields"] if item["where"] == "index"]
    description = "One record for each image, in the order of the shards: where its bytes lie."
    return _record_set("index", "uid", description, fields)


def _images() -> dict[str, Any]:
    source = {"fileSet": {"@id": "image-files"}}
    content = _field("images", "content", "sc:ImageObject", "The image.", source)
    key = _field("images", "key", _TEXT, "The sample's key, as in samples/key.", source)
    content["source"] = {**source, "extract": {"fileProperty": "content"}}
    key["source"] = {**source, "extract": {"fileProperty": "filename"}, "transform": {"regex": r"(.*)\.[a-z]+$"}}
    return _record_set("images", "key", "The pictures by key.", [key, content])


def _field(parent: str, name: str, kind: str, description: str, source: Mapping[str, Any]) -> dict[str, Any]:
    return _node("cr:Field", f"{parent}/{name}") | {
        "description": description,
        "dataType": [_TEXT, kind] if kind == "cr:Split" else kind,
        "source": {**source, "extract": {"column": name}},
    }


def _array(shape: str) -> dict[str, Any]:
    return {"isArray": True, "arrayShape": shape}
