"""A stage, a recipe, an objective and a source from outside the repository: by file and as an installed package."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from data_manifests import plugins
from data_manifests.errors import InputError
from flows.cli.demo import write_photos
from flows.recipe import load_recipe
from tests.flows.plugin_code import ENTRY_POINTS, RECIPE, install, write_files, write_parts
from tests.flows.test_bad_input import Shell, shell

__all__ = ["shell"]
pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'", "ignore:TypedStorage is deprecated")
NUM_PHOTOS = 24
TRAIN = ("--model", "tiny", "--steps", "2", "--set", "train.batch_size=8", "--set", "train.num_threads=1")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    plugins.offered.cache_clear()
    plugins.origin_of.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("toy_letters", "beside_letters")]:
        del sys.modules[name]


def photos(root: Path) -> Path:
    """Write made pictures and a list of them; return the list."""
    write_photos(root / "photos", NUM_PHOTOS)
    lines = [orjson.loads(line) for line in (root / "photos" / "captions.jsonl").read_bytes().splitlines()]
    listed = "".join(f"{line['file_name']}\t{line['captions'][0]}\n" for line in lines)
    (file := root / "photos" / "list.tsv").write_text(listed, encoding="utf-8")
    return file


def curate(shell: Shell, recipe: str, source: str, *more: str, workers: str = "1") -> tuple[int, str, str]:
    words = ("--source", source, "--name", "toy", "--workers", workers, "--no-prefect", *more)
    return shell("curate", recipe, *words)


@pytest.mark.slow
def test_a_file_goes_through_curate_train_and_compare(shell: Shell) -> None:
    recipe, listed = write_files(shell.root / "mine"), photos(shell.root)
    source = f"{recipe.with_name('my_source.py')}:{listed}"
    code, _, err = curate(
        shell, f"{recipe}:letters_clip", source, "--set", "stages.letter_count.at_least=4", workers="2"
    )
    assert code == 0, err
    body = shell.catalog.open("toy").manifest.body
    assert body["counts"]["samples"] == NUM_PHOTOS
    stage = body["stages"][-1]
    assert stage["name"] == "letter_count" and stage["config"] == {"at_least": 4}
    assert stage["origin"] == body["origins"]["recipe"] == {"file": "my_recipe.py", "hash": stage["origin"]["hash"]}
    assert body["origins"]["source"]["file"] == "my_source.py"
    assert str(shell.root) not in orjson.dumps(body).decode()
    _, out, _ = shell("show", "toy@1")
    assert f"stage letter_count from my_recipe.py {stage['origin']['hash']}" in out
    code, _, err = shell("train", "toy@1", "--recipe", str(recipe), "--out", str(shell.root / "run"), *TRAIN)
    assert code == 0, err
    steps = [orjson.loads(line) for line in (shell.root / "run" / "log.jsonl").read_bytes().splitlines()]
    assert {"info_nce", "half_spread"} == {*steps[-1]["objective"]}
    words = ("--source", source, "--on", "scenes:16@1", "--seeds", "0", "--out", str(shell.root / "out"))
    variant = f"nearer={recipe}:letters_clip:objectives.half_spread.weight=0.5"
    code, out, err = shell("compare", str(recipe), "--variant", variant, *words, *TRAIN)
    assert code in (0, 1), err  # so few steps may well lose something
    rows = orjson.loads((shell.root / "out" / "comparison.json").read_bytes())["rows"]
    assert [row["name"] for row in rows] == ["pretrained", "clip", "letters_clip", "nearer"]
    assert rows[3]["recipe"] == "letters_clip" and rows[3]["settings"] == ["objectives.half_spread.weight=0.5"]


@pytest.mark.slow
def test_an_installed_package_goes_through_curate_train_and_compare(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    install(shell.root / "site", monkeypatch)
    listed = photos(shell.root)
    code, _, err = curate(shell, "letters_clip", f"tabs:{listed}", workers="2")
    assert code == 0, err
    body = shell.catalog.open("toy").manifest.body
    toy = {"distribution": "toy-letters", "version": "1.2"}
    assert body["origins"] == {"recipe": toy, "source": toy} and body["stages"][-1]["origin"] == toy
    code, _, err = shell("train", "toy@1", "--recipe", "letters_clip", "--out", str(shell.root / "run"), *TRAIN)
    assert code == 0, err
    words = ("--source", f"tabs:{listed}", "--on", "scenes:16@1", "--seeds", "0", "--out", str(shell.root / "out"))
    code, _, err = shell("compare", "letters_clip", *words, *TRAIN)
    assert code in (0, 1), err  # so few steps may well lose something
    rows = orjson.loads((shell.root / "out" / "comparison.json").read_bytes())["rows"]
    assert [row["name"] for row in rows] == ["pretrained", "clip", "letters_clip"]
    code, out, err = shell("recipes", "letters_clip", "--json")
    (listed_recipe,) = orjson.loads(out)
    assert (code, err) == (0, "") and listed_recipe["origin"] == toy


def test_parts_of_a_package_can_be_set_in_any_recipe(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    package = install(shell.root / "site", monkeypatch)
    settings = ("stages.letter_count=default", "stages.letter_count.at_least=5", "objectives.half_spread=default")
    recipe = load_recipe("negclip", settings=settings)
    assert recipe.stages[-1].config() == {"at_least": 5} and recipe.objectives[-1].name == "half_spread"
    with pytest.raises(InputError, match=r"with default: .*half_spread") as error:
        load_recipe("negclip", settings=["objectives.half_spreads=default"])
    assert "did you mean 'half_spread'?" in str(error.value)
    sys.modules.pop("toy_letters.recipe")
    (package / "recipe.py").write_text("LetterCount = 3\n", encoding="utf-8")
    with pytest.raises(InputError, match="stage 'letter_count' of toy-letters 1.2 is 3"):
        load_recipe("negclip", settings=["stages.letter_count=default"])


def test_a_file_may_import_what_lies_beside_it(shell: Shell) -> None:
    write_photos(shell.root / "photos", NUM_PHOTOS)
    file = write_parts(shell.root / "mine")
    code, _, err = curate(shell, str(file), f"folder:{shell.root / 'photos'}", workers="2")
    assert code == 0, err
    assert shell.catalog.open("toy").manifest.body["stages"][-1]["origin"]["file"] == "beside_letters.py"


def test_changed_code_is_said_once_and_fresh_computes_again(shell: Shell) -> None:
    file = write_files(shell.root / "mine")
    words = (f"{file}:letters_clip", "scenes:12@1")

    def run(old: str, new: str, *more: str) -> tuple[str, str, list[int]]:
        """Change the file and run; return the version, what was said of changes, and which numbers are stored."""
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        code, out, err = curate(shell, *words, "--json", *more)
        assert code == 0, err
        version = shell.catalog.open("toy")
        found = pq.read_table(version.folder / "00000.parquet", columns=["num_letters"])["num_letters"].to_pylist()
        said = " ".join(err.split())
        notes = said[said.index("the code of") :] if "the code of" in said else ""
        return orjson.loads(out)["version"], notes, [number for numbers in found for number in numbers]

    ref, notes, first = run("", "")
    assert (ref, notes) == ("toy@1.0.0", "")
    assert run("# no such text", "") == run("    found = [sum", "    # each\n    found  = [sum") == (ref, "", first)
    ref, notes, now = run("char.isalpha()", "2 * char.isalpha()")
    assert (ref, now) == ("toy@1.0.0", first) and notes.count("the code of stage 'letter_count'") == 1
    assert "(my_recipe.py) has changed and its version is still 1" in notes and "--fresh letter_count" in notes
    assert run("", "") == ("toy@1.0.0", "", first), "it is said once"
    assert run("", "", "--fresh", "check_images") == ("toy@1.0.0", "", first)
    ref, notes, now = run("", "", "--fresh", "letter_count")
    assert (ref, notes, now) == ("toy@2.0.0", "", [2 * number for number in first])
    assert run("", "", "--fresh", "letter_count", "--workers", "2") == (ref, "", now)
    assert run("2 * char", "3 * char", "--fresh", "all")[0] == "toy@3.0.0"
    ref, notes, now = run("int] = 1", "int] = 2")
    assert (ref, notes, now) == ("toy@3.0.1", "", [3 * number for number in first])
    code, _, err = curate(shell, *words, "--fresh", "letter_counts")
    assert code == 2 and "has no stage of this name" in err and "did you mean 'letter_count'?" in err


def test_restored_files_that_differ_name_what_came_from_elsewhere(shell: Shell) -> None:
    file = write_files(shell.root / "mine")
    assert curate(shell, f"{file}:letters_clip", "scenes:12@1")[0] == 0
    before = shell.catalog.open("toy")
    card = (shell.root / "m" / "toy" / "1.0.0.card.md").read_text(encoding="utf-8")
    assert f"(from my\\_recipe.py {before.manifest.body['stages'][-1]['origin']['hash']})" in card
    shutil.rmtree(shell.root / "w")
    file.write_text(RECIPE.replace("char.isalpha()", "2 * char.isalpha()"), encoding="utf-8")
    code, _, err = curate(shell, f"{file}:letters_clip", "scenes:12@1")
    assert code == 2 and "; stage 'letter_count' came from my_recipe.py" in err and "and the same plug-ins" in err
    assert "here it comes from my_recipe.py" in err and shell.catalog.versions("toy") == ["1.0.0"]


def test_the_same_stage_from_elsewhere_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_files(shell.root / "mine")
    assert curate(shell, f"{file}:letters_clip", "scenes:12@1")[0] == 0
    package = install(shell.root / "site", monkeypatch)
    (package / "recipe.py").write_text(RECIPE.replace("char.isalpha()", "char.isalnum()"), encoding="utf-8")
    code, _, err = curate(shell, "letters_clip", "scenes:12@1")
    assert code == 0 and "stage 'letter_count' (my_recipe.py, now toy-letters 1.2) has changed" in " ".join(err.split())
    version = shell.catalog.open("toy")
    shutil.rmtree(version.folder)
    code, _, err = curate(shell, "letters_clip", "scenes:12@1")
    assert code == 0, "equal files are restored, wherever the stage comes from"
    assert shell.catalog.open("toy").manifest.fingerprint == version.manifest.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("import Sequence", "import Sequence\nimport no_such_package", "line 4: ModuleNotFoundError"),
        ("class LetterCount(MapStage):", "class LetterCount(MapStage:", "line 17: SyntaxError"),
        ("at_least: int = 3", "at_least: int = 1 / 0", "line 27: ZeroDivisionError"),
        ("stages=(LetterCount(),)", "stages=(LetterCount(1, 2, 3),)", "line 60: TypeError"),
        ("stages=(LetterCount(),)", "stages=(LetterCount,)", "write LetterCount()"),
        ("stages=(LetterCount(),)", "stages=[LetterCount()]", "a tuple of stages"),
        ("stages=(LetterCount(),)", "stages=(LetterCount(), LetterCount(4))", "two stages are called 'letter_count'"),
        ('name="letters_clip"', 'name="other"', "returns a recipe named 'other'"),
        ('= "letter_count"', '= "swap_words"', "clipcurate has a stage 'swap_words'"),
        ('= "letter_count"', '= "Letter count"', "small letters"),
        ("int] = 1", "str] = '1'", "version is '1'"),
        ('("captions",)', '("words",)', "requires 'words', which no earlier stage provides"),
        ('("captions",)', '"captions"', "a tuple of names of fields"),
        ('(Field("num_letters", publish="sample"),)', '("num_letters",)', "provides has 'num_letters' (str)"),
        ("@dataclass(frozen=True)\nclass LetterCount", "class LetterCount", "is no dataclass"),
        ("at_least: int = 3", "at_least: object = (lambda: 3)", "cannot be sent to a worker process"),
        ("at_least: int = 3", "at_least: object = frozenset((1, 2))", "its settings have no fingerprint"),
        ("def letters_clip()", "def letters_clip(strength)", "its argument 'strength' has no default"),
        ("    return Recipe(", "    return dict(", "returns dict"),
        ("planner=ShuffledPlan()", "planner=ShuffledPlan", "planner is the class ShuffledPlan"),
        ("HalfSpread())", "'spread')", "objectives[1] is 'spread' (str)"),
        ("def letters_clip() -> Recipe:", "def letters_clip():", "has no function that returns a Recipe"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(shell: Shell, old: str, new: str, expected: str) -> None:
    assert old in RECIPE
    (file := shell.root / "faulty.py").write_text(RECIPE.replace(old, new), encoding="utf-8")
    code, _, err = curate(shell, str(file), "scenes:8@1")
    assert code == 2 and expected in err and "faulty.py" in err, err
    assert "Traceback" not in err and not (shell.root / "m").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nowhere.py", "nowhere.py: no such file"),
        ("my_recipe.py:letter_clip", "did you mean 'letters_clip'?"),
        ("my_source.py", "has no function that returns a Recipe"),
        ("letters_clip", "unknown recipe 'letters_clip'"),
    ],
)
def test_what_is_no_recipe_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    monkeypatch.chdir(write_files(shell.root / "mine").parent)
    for words in (("curate", text, "--source", "scenes:8@1", "--name", "toy"), ("recipes", text)):
        code, _, err = shell(*words)
        assert code == 2 and expected in err, err
    code, _, err = shell("compare", text, "--source", "scenes:8@1", "--on", "scenes:8@2", *TRAIN)
    assert code == 2 and expected in err, err


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("my_source.py", "no path after the source kind"),
        ("my_recipe.py:list.tsv", "has 0 sources"),
        ("gone.py:list.tsv", "no such file"),
        ("tabs:list.tsv", "unknown source kind 'tabs'"),
        ("half.py:list.tsv", "lacks describe"),
        ("broken.py:list.tsv", "line 15: RuntimeError: not today"),
    ],
)
def test_what_is_no_source_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch, source: str, expected: str) -> None:
    folder = write_files(shell.root / "mine").parent
    monkeypatch.chdir(folder)
    text = (folder / "my_source.py").read_text(encoding="utf-8")
    (folder / "half.py").write_text(text.replace("def describe", "def describes"), encoding="utf-8")
    broken = text.replace("self._file = Path(path)", "raise RuntimeError('not today')")
    (folder / "broken.py").write_text(broken, encoding="utf-8")
    code, _, err = curate(shell, "clip", source)
    assert code == 2 and expected in err and "Traceback" not in err, err


def test_a_broken_package_stops_only_who_uses_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    package = install(shell.root / "site", monkeypatch)
    (package / "recipe.py").write_text("import no_such_package\n", encoding="utf-8")
    code, _, err = curate(shell, "clip", "scenes:8@1")
    assert code == 0 and "toy" not in err, err
    code, out, err = shell("recipes", "--json")
    assert code == 0 and "negclip" in [item["name"] for item in orjson.loads(out)]
    assert err.count("warning: recipe 'letters_clip' of toy-letters 1.2 cannot be imported") == 1
    assert "recipe.py, line 1: ModuleNotFoundError" in err
    code, _, err = curate(shell, "letters_clip", "scenes:8@1")
    assert code == 2 and "recipe 'letters_clip' of toy-letters 1.2 cannot be imported" in err


def test_names_that_two_have(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[clipcurate.recipes]\nclip = toy_letters.recipe:letters_clip\nmine = toy_letters.recipe:letters_clip\n"
    install(shell.root / "site", monkeypatch, points=points)
    install(shell.root / "more", monkeypatch, name="more-letters", points=ENTRY_POINTS)
    code, _, err = shell("recipes", "letters_clip")
    assert code == 0, err
    code, _, err = shell("recipes", "mine")
    assert code == 2 and "recipe 'mine' of toy-letters 1.2 is a function 'letters_clip'" in err
    _, out, err = shell("recipes", "--json")
    assert "recipe 'clip' of toy-letters 1.2 is not used: clipcurate has one of this name" in err
    assert "letters_clip" in [item["name"] for item in orjson.loads(out)]
    install(shell.root / "third", monkeypatch, name="third-letters", points=ENTRY_POINTS)
    code, _, err = shell("recipes", "letters_clip")
    assert code == 2 and "'letters_clip' is offered by more-letters 1.2 and by third-letters 1.2" in err
