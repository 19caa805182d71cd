"""Recipes from one end to the other: curated from scenes, trained for a few steps, each of their terms at work."""

from __future__ import annotations

import orjson
import pyarrow.parquet as pq
import pytest

from flows.recipe import load_recipe
from tests.curation.llm_servers import MODEL, Server
from tests.flows.test_bad_input import Shell, shell
from tests.flows.test_forget_answers import nearly_the_same

__all__ = ["shell"]
pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")

NEW = (
    "bo_k_clip",
    "borrow",
    "clic",
    "con_clip",
    "cs_clip",
    "dac",
    "fcl",
    "ke_negclip",
    "ms_svta",
    "norm_sim",
    "read_clip",
    "siglip",
    "small_knowledge_clip",
)
LEFT_OUT = {
    "knowledge": "views=null",
    "clusters": "planner=shuffled",
    "fair loss": "objectives.group_parity=null",
    "adaptive negatives": "negatives=uniform",
    "hard negatives": "negatives=null;objectives.intra_modal_contrast=null;objectives.cross_modal_rank=null",
    "softmax": "objectives.info_nce=null;objectives.sigmoid=default",
}
SIZES = {"norm_sim": 6, "small_knowledge_clip": 16}
"""Batch sizes where 12 does not do: few of the scenes are kept, or batches are made of clusters of 16."""


def curate(shell: Shell, recipe: str, *more: str) -> tuple[int, str, str]:
    words = ("--source", "scenes:36@3", "--name", "toy", "--model", "tiny", "--workers", "1", "--no-prefect")
    return shell("curate", recipe, *words, *settings(recipe), *more)


def train(shell: Shell, recipe: str, *more: str) -> tuple[int, str, str]:
    words = ("--model", "tiny", "--steps", "3", "--set", "train.num_threads=1", "--out", str(shell.root / "run"))
    return shell(
        "train", "toy@1", "--recipe", recipe, *words, "--set", f"train.batch_size={SIZES.get(recipe, 12)}", *more
    )


def settings(recipe: str) -> list[str]:
    return [word for text in load_recipe(recipe).scene_settings for word in ("--set", text)]


LONG = ("bo_k_clip", "small_knowledge_clip")
"""Recipes of many stages, which take a quarter of a minute each."""


@pytest.mark.parametrize(
    "recipe", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in NEW]
)
def test_every_term_of_a_recipe_is_at_work(shell: Shell, recipe: str) -> None:
    code, _, err = curate(shell, recipe)
    assert code == 0, err
    code, _, err = train(shell, recipe, *settings(recipe))
    assert code == 0, err
    steps = [orjson.loads(line) for line in (shell.root / "run" / "log.jsonl").read_bytes().splitlines()]
    losses = [step["objective"] for step in steps]
    names = {item.name for item in load_recipe(recipe).objectives}
    assert len(losses) == 3 and set().union(*losses) == names
    assert all(max(loss.get(name, 0.0) for loss in losses) > 0 for name in names), losses


def test_rewrites_that_vary_one_thing_need_a_language_model(shell: Shell) -> None:
    code, _, err = curate(shell, "tda_sp")
    assert code == 2 and "recipe tda_sp needs a language model" in err and "--llm http" in err
    with Server(nearly_the_same) as server:
        code, _, err = curate(shell, "tda_sp", "--llm", f"{server.url}#{MODEL}")
        assert code == 0, err
    table = pq.read_table(shell.catalog.open("toy").folder / "00000.parquet", columns=["views"])
    views = [view for views in table["views"].to_pylist() for view in views]
    assert len(views) > 30 and {view["family"].split("/")[0] for view in views} == {"tda_sp"}
    code, _, err = train(shell, "tda_sp")
    assert code == 0, err


def test_without_groups_the_fair_loss_says_so_before_the_first_step(shell: Shell) -> None:
    assert curate(shell, "fcl")[0] == 0
    code, _, err = train(shell, "fcl")
    assert code == 2 and "objective group_parity compares the groups gender:female|gender:male" in err
    assert "scene_background_colour:" in err and not (shell.root / "run" / "log.jsonl").read_bytes()


@pytest.mark.parametrize("recipe", ["small_knowledge_clip", "bo_k_clip"])
@pytest.mark.parametrize("part", LEFT_OUT)
def test_each_part_can_be_left_out(recipe: str, part: str) -> None:
    whole, less = load_recipe(recipe), load_recipe(recipe, settings=LEFT_OUT[part].split(";"))
    assert whole != less and whole.stages == less.stages
    less.train_parts()
