"""Evaluation: retrieval against a literal loop, order tests that are kept, foils that are counted."""

from __future__ import annotations

import functools
import io
import operator
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_manifests.errors import InputError
from data_manifests.image_decoder import decode_image
from data_manifests.sample import ImageRef, Sample, image_uid
from training.evaluate import word_order
from training.evaluate.encoding_cache import EncodingCache, shared_encodings
from training.evaluate.features import EvalFeatures, TextEmbeddingCache, encode_samples, encode_texts
from training.evaluate.retrieval import retrieval
from training.model import lora
from training.model.clip_model import ClipModel
from training.model.spec import ModelSpec
from training.model.wise_ft import blend


@pytest.fixture(scope="module")
def model() -> ClipModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ModelSpec.parse("tiny").load()


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    made = []
    for number in range(11):
        buffer = io.BytesIO()
        Image.new("RGB", (40 + number, 40), (20 * number, 100, 255 - 20 * number)).save(buffer, format="PNG")
        path = tmp_path / f"{number}.png"
        path.write_bytes(buffer.getvalue())
        captions = (f"a red circle left of {number} blue squares", f"{number} squares", "the same words everywhere")
        foil = {"kind": "order", "caption": 0, "text": f"left red of a squares {number} circle blue"}
        same = {"kind": "attribute", "caption": 1, "text": f"{number} squares"}
        made.append(
            Sample(
                image_uid(buffer.getvalue()), path.name, ImageRef(str(path)), captions, "dev", {"foils": [foil, same]}
            )
        )
    return made


def made_features(num_images: int = 37, dim: int = 6, *, ties: bool = True, seed: int = 0) -> EvalFeatures:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(num_images), rng.integers(1, 5, num_images))
    image = rng.standard_normal((num_images, dim)).astype(np.float32)
    text = (image[owner] + rng.standard_normal((len(owner), dim))).astype(np.float32)
    if ties:
        text[7], text[40], image[5] = text[3], text[3], image[4]
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    uids = tuple(f"{number:032x}" for number in range(num_images))
    return EvalFeatures(image, text, owner, uids, tuple(f"caption {row}" for row in range(len(owner))))


def literal_recall(features: EvalFeatures, k: int) -> tuple[float, float, int, int]:
    """Count by hand: a query is found when fewer than k wrong items score at least as high as its best right one."""

    def score(image: int, text: int) -> float:
        return sum(float(a) * float(b) for a, b in zip(features.image[image], features.text[text], strict=True))

    found_text = found_image = ties_text = ties_image = 0
    texts, images = range(len(features.text)), range(len(features.image))
    for image in images:
        best = max(score(image, text) for text in texts if features.text_owner[text] == image)
        wrong = [score(image, text) for text in texts if features.text_owner[text] != image]
        found_text += sum(value >= best for value in wrong) < k
        ties_text += best in wrong
    for text in texts:
        own = score(int(features.text_owner[text]), text)
        wrong = [score(image, text) for image in images if image != features.text_owner[text]]
        found_image += sum(value >= own for value in wrong) < k
        ties_image += own in wrong
    return found_text / len(images), found_image / len(texts), ties_text, ties_image


@pytest.mark.parametrize("seed", [0, 1])
def test_retrieval_equals_the_literal_loop(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluate.retrieval.CHUNK_IMAGES", 8)
    features = made_features(seed=seed)
    result = retrieval(features).metrics
    for k in (1, 5, 10):
        to_text, to_image, ties_text, ties_image = literal_recall(features, k)
        assert result[f"image_to_text_R@{k}"] == pytest.approx(to_text)
        assert result[f"text_to_image_R@{k}"] == pytest.approx(to_image)
        assert (result["num_ties_image_to_text"], result["num_ties_text_to_image"]) == (ties_text, ties_image)
    assert result["num_ties_text_to_image"] > 0


def test_constant_embeddings_find_nothing() -> None:
    features = made_features(ties=False)
    flat = EvalFeatures(np.ones_like(features.image), np.ones_like(features.text), features.text_owner,
                        features.uids, features.captions)  # fmt: skip
    result = retrieval(flat).metrics
    assert [result[f"image_to_text_R@{k}"] for k in (1, 5, 10)] == [0.0, 0.0, 0.0]
    assert result["num_ties_image_to_text"] == len(features.image)
    perfect = EvalFeatures(
        np.eye(6, dtype=np.float32), np.eye(6, dtype=np.float32), np.arange(6), features.uids[:6], ()
    )
    assert retrieval(perfect).metrics["text_to_image_R@1"] == 1.0
    assert retrieval(perfect).metrics["image_to_text_medR"] == 1.0


def test_an_image_without_captions_is_refused() -> None:
    features = made_features()
    few = features.text_owner < 30
    with pytest.raises(InputError, match="no caption"):
        retrieval(EvalFeatures(features.image, features.text[few], features.text_owner[few], features.uids, ()))


def test_features_do_not_depend_on_company(model: ClipModel, samples: list[Sample]) -> None:
    whole = encode_samples(model, iter(samples))
    assert whole.image.shape == (11, model.embed_dim)
    assert np.allclose(np.linalg.norm(whole.text, axis=1), 1, atol=1e-6)
    assert whole.text_owner.tolist() == [number for number in range(11) for _ in range(3)]
    part = encode_samples(model, samples[10:])
    assert np.array_equal(part.image, whole.image[10:])
    assert np.array_equal(part.text, whole.text[30:])
    assert np.array_equal(whole.text[2], whole.text[5])
    with pytest.raises(InputError, match="no samples"):
        encode_samples(model, [])


def test_unreadable_images_are_named(model: ClipModel, samples: list[Sample], tmp_path: Path) -> None:
    Path(samples[3].image.path).write_bytes(Path(samples[3].image.path).read_bytes()[:60])
    with pytest.raises(InputError, match=samples[3].uid):
        encode_samples(model, samples)


def tag(texts: Sequence[str]) -> list[list[tuple[str, str]]]:
    tags = {"red": "JJ", "blue": "JJ", "circle": "NN", "squares": "NNS", "words": "NNS", "same": "JJ"}
    return [[(word, tags.get(word, "DT")) for word in text.split()] for text in texts]


def test_order_test_is_seeded_and_kept(samples: list[Sample], tmp_path: Path) -> None:
    test = word_order.make_order_test(samples, tag, seed=3)
    assert test == word_order.make_order_test(samples, tag, seed=3) != word_order.make_order_test(samples, tag, seed=4)
    alone = word_order.make_order_test(samples[4:5], tag, seed=3)
    assert alone.cases == tuple(case for case in test.cases if case.uid == samples[4].uid)
    word_order.save_order_test(tmp_path / "kept" / "order.json", test)
    assert word_order.load_order_test(tmp_path / "kept" / "order.json") == test
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match="not an order test"):
        word_order.load_order_test(tmp_path / "bad.json")


def test_wrong_orders_keep_the_words_and_the_promise(samples: list[Sample]) -> None:
    test = word_order.make_order_test(samples, tag)
    for case in test.cases:
        words = case.text.split()
        for text in case.wrong.values():
            assert sorted(text.split()) == sorted(words)
            assert text != case.text
    long = next(case for case in test.cases if case.caption == 0)
    words, kinds = long.text.split(), [kind for _, kind in tag([long.text])[0]]
    swapped = long.wrong["nouns_and_adjectives"].split()
    kept = [word for word, kind in zip(words, kinds, strict=True) if kind == "DT"]
    assert [word for word, kind in zip(swapped, kinds, strict=True) if kind == "DT"] == kept
    inside = long.wrong["within_trigrams"].split()
    assert [sorted(inside[at : at + 3]) for at in (0, 3, 6)] == [sorted(words[at : at + 3]) for at in (0, 3, 6)]
    runs = long.wrong["trigrams"]
    assert all(" ".join(words[at : at + 3]) in runs for at in (0, 3, 6))


def test_what_cannot_change_is_counted(samples: list[Sample]) -> None:
    test = word_order.make_order_test(samples, tag)
    # "N squares" has one noun, one other word and one run of three; only the order inside the run can change
    short = [case for case in test.cases if case.caption == 1]
    assert all(set(case.wrong) == {"within_trigrams"} for case in short)
    assert test.num_same["trigrams"] >= len(samples)
    lonely = [Sample("0" * 32, "x", ImageRef("/none"), ("squares!", "dog dog dog."))]
    assert word_order.make_order_test(lonely, tag).num_left_out == 2


def test_order_accuracy_counts_ties_as_wrong(model: ClipModel, samples: list[Sample]) -> None:
    features = encode_samples(model, samples)
    test = word_order.make_order_test(samples, tag)
    result = word_order.order_accuracy(features, test, TextEmbeddingCache(model)).metrics
    scores: dict[tuple[str, str], float] = {}
    for case in test.cases:
        for text in (case.text, *case.wrong.values()):
            image = features.image[features.uids.index(case.uid)].astype(np.float64)
            scores[case.uid, text] = float(image @ encode_texts(model, [text])[0].astype(np.float64))
    right = [
        all(scores[case.uid, case.text] > scores[case.uid, text] for text in case.wrong.values()) for case in test.cases
    ]
    assert result["order_accuracy"] == pytest.approx(np.mean(right))
    assert result["num_cases"] == len(test.cases)
    assert result["by_perturbation"]["trigrams"]["num_cases"] == 22
    flat = EvalFeatures(
        np.zeros_like(features.image), features.text, features.text_owner, features.uids, features.captions
    )
    tied = word_order.order_accuracy(flat, test, TextEmbeddingCache(model)).metrics
    assert (tied["order_accuracy"], tied["num_ties"]) == (0.0, len(test.cases))
    with pytest.raises(InputError, match="not evaluated"):
        word_order.order_accuracy(encode_samples(model, samples[:2]), test, TextEmbeddingCache(model))


def test_every_number_is_the_mean_of_its_cases(model: ClipModel, samples: list[Sample]) -> None:
    features = encode_samples(model, samples)
    embed = TextEmbeddingCache(model)
    order = word_order.order_accuracy(features, word_order.make_order_test(samples, tag), embed)
    for outcome in (retrieval(features), order, word_order.scenes_foils(samples, features, embed)):
        assert outcome.cases
        for name, items in outcome.cases.items():
            assert functools.reduce(operator.getitem, name.split("."), outcome.metrics) == items.values.mean(), name
            assert len(items.ids) == len(set(items.ids)) == len(items.images) == len(items.values)
            assert set(items.images) <= set(features.uids)
        for name, parts in outcome.means.items():
            assert outcome.metrics[name] == pytest.approx(
                np.mean([outcome.cases[part].values.mean() for part in parts])
            )


def test_foils(model: ClipModel, samples: list[Sample]) -> None:
    features, embed = encode_samples(model, samples), TextEmbeddingCache(model)
    result = word_order.scenes_foils(samples, features, embed).metrics
    assert result["foils"]["attribute"] == {"accuracy": 0.0, "num_cases": 11, "num_ties": 11}
    wins = []
    for number, sample in enumerate(samples):
        foil: dict[str, Any] = sample.attributes["foils"][0]
        image = features.image[number].astype(np.float64)
        true, false = encode_texts(model, [sample.captions[0], foil["text"]]).astype(np.float64)
        wins.append(image @ true > image @ false)
    assert result["foils"]["order"]["accuracy"] == pytest.approx(np.mean(wins))
    bare = Sample(samples[0].uid, "x", samples[0].image, samples[0].captions)
    with pytest.raises(InputError, match="no sample has any"):
        word_order.scenes_foils([bare], features, embed)


def test_models_that_share_an_image_trunk_compute_it_once_and_to_the_same_bits(
    model: ClipModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = encode_samples(model, samples)
    calls: list[int] = []
    real = ClipModel.image_trunk

    def image_trunk(self: ClipModel, pixels: Any) -> Any:
        calls.append(len(pixels))
        return real(self, pixels)

    monkeypatch.setattr(ClipModel, "image_trunk", image_trunk)
    tuned = _tiny()
    lora.apply_tuning(tuned, "lora", targets="text")
    other = _tiny()
    lora.apply_tuning(other, "lora", targets="image")
    with shared_encodings(tmp_path):
        first = encode_samples(model, samples[3:6]), encode_samples(model, samples)
        again = encode_samples(tuned, samples)
        assert calls == [8, 8, 8], "three images, then the eight others in two batches, and none for the tuned model"
        with shared_encodings(tmp_path):
            encode_samples(other, samples)
    assert first[1].image.tobytes() == alone.image.tobytes() == again.image.tobytes()
    assert len(calls) == 5, "another trunk computes its own"


def test_models_that_share_a_text_trunk_compute_it_once_and_images_are_decoded_once(
    model: ClipModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone, calls, decoded = encode_samples(model, samples), list[int](), list[str]()
    real = ClipModel.text_trunk

    def text_trunk(self: ClipModel, tokens: Any) -> Any:
        calls.append(len(tokens))
        return real(self, tokens)

    def decode(data: bytes, name: str, limit: int) -> Any:
        decoded.append(name)
        return decode_image(data, name, limit)

    monkeypatch.setattr(ClipModel, "text_trunk", text_trunk)
    monkeypatch.setattr("training.evaluate.features.decode_image", decode)
    tuned = _tiny()
    lora.apply_tuning(tuned, "projection")
    with shared_encodings(tmp_path):
        first = encode_samples(model, samples)
        once = len(calls)
        again = encode_samples(tuned, samples)
    assert once and len(calls) == once and len(decoded) == len(set(decoded)) == len(samples)
    assert first.text.tobytes() == alone.text.tobytes() == again.text.tobytes()


Change = Callable[[str], bool]
SHARES = (0.3, 0.6, 1.0)


@pytest.mark.parametrize(
    ("changed", "cuts", "calls"),
    [
        (lambda name: name.startswith(("visual.proj", "text_projection")), {}, {"image_trunk": 2, "text_trunk": 2}),
        (lambda name: "resblocks.1." in name, {"image": 1, "text": 1}, {"image_prefix": 2, "text_prefix": 2}),
        (lambda name: "resblocks" in name, {"image": 0}, {"image_prefix": 2, "text_trunk": 6}),
        (lambda _: True, {"image": -1}, {"image_trunk": 6, "text_trunk": 6}),
    ],
    ids=["heads", "top", "blocks", "full"],
)
def test_shares_compute_what_none_of_them_changes_once(
    changed: Change, cuts: dict[str, int], calls: dict[str, int], samples: list[Sample], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    base, end = _tiny(), _tiny()
    names = [name for name, value in end.module.named_parameters() if value.requires_grad and changed(name)]
    for name in names:
        end.module.get_parameter(name).data.add_(0.02)
    alone = {}
    for share, between in zip(SHARES, blend(base, _copy(end), SHARES), strict=True):
        between.cuts = {}
        alone[share] = encode_samples(between, samples[:9])
    counts, decoded = Counter[str](), list[str]()
    for method in ("image_trunk", "image_prefix", "text_trunk", "text_prefix"):
        monkeypatch.setattr(ClipModel, method, _counted(getattr(ClipModel, method), method, counts))

    def decode(data: bytes, name: str, limit: int) -> Any:
        decoded.append(name)
        return decode_image(data, name, limit)

    monkeypatch.setattr("training.evaluate.features.decode_image", decode)
    with shared_encodings(tmp_path):
        for share, between in zip(SHARES, blend(base, _copy(end), SHARES), strict=True):
            assert between.cuts == cuts
            found = encode_samples(between, samples[:9])
            assert found.image.tobytes() == alone[share].image.tobytes()
            assert found.text.tobytes() == alone[share].text.tobytes()
    # nine images are two batches, texts of two lengths two more
    assert len(decoded) == 9 and {name: counts[name] for name in calls} == calls


def test_the_cache_makes_room_and_what_finds_none_is_computed_again(tmp_path: Path) -> None:
    computed: list[int] = []

    def keep(name: str, keys: Sequence[str]) -> list[float]:
        def compute(new: list[int]) -> list[Any]:
            computed.append(len(new))
            return [None if keys[row] == "unreadable" else torch.full((4,), float(keys[row])) for row in new]

        return [-1.0 if row is None else float(row.sum()) for row in cache.keep(name, keys, compute)]

    cache = EncodingCache(tmp_path, max_bytes=5 * 16)
    assert keep("a", ["1", "unreadable", "2", "3"]) == keep("a", ["1", "unreadable", "2", "3"]) == [4, -1, 8, 12]
    assert computed == [4], "an image that cannot be read is not read again"
    assert keep("b", ["5", "6", "7", "8", "9", "10"]) == [20, 24, 28, 32, 36, 40] and cache.num_bytes == 5 * 16
    assert keep("b", ["10", "9"]) == [40, 36] and keep("a", ["1"]) == [4]
    assert computed == [4, 6, 1, 1], "ten found no room, and a had to make room for b"
    cache.close()
    assert not list(tmp_path.iterdir())


def _counted(real: Callable[..., Any], name: str, counts: Counter[str]) -> Callable[..., Any]:
    def count(self: ClipModel, inputs: Any) -> Any:
        counts[name] += 1
        return real(self, inputs)

    return count


def _copy(model: ClipModel) -> ClipModel:
    copied = _tiny()
    copied.module.load_state_dict(model.module.state_dict())
    return copied


def _tiny() -> ClipModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ModelSpec.parse("tiny").load()
