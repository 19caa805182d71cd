"""open_clip comes without the compiler and transformers, which come when something of them is called; each case is a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def run(code: str) -> str:
    """Run code in a new process; return what it printed."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout.strip()


def test_a_model_loads_and_embeds_without_them() -> None:
    """The modules that cost most are not imported, and imports of them work afterwards as they always did."""
    found = run("""
        import sys
        from training.model.spec import ModelSpec
        import torch
        model = ModelSpec.parse("tiny").load()
        with torch.inference_mode():
            model.encode_text(model.tokenize(["a dog"]))
        print(sorted({"torch._dynamo", "torch._dynamo.utils", "transformers", "timm", "sympy"} & set(sys.modules)))
        import torch._dynamo.utils, transformers
        print(torch._dynamo.utils.is_compile_supported("cpu"), transformers.BertConfig.model_type)
        print(torch.compiler.disable(len).__wrapped__ is len, torch.compiler.disable.__module__)
    """)
    assert found.splitlines() == ["[]", "True bert", "True torch.compiler"]


def test_decorated_functions_still_ask_the_compiler() -> None:
    """What torchvision and timm keep of the compiler imports it at the first call, and gives the same."""
    found = run("""
        import sys
        import training
        import timm.models.naflexvit, torchvision.ops
        supported = sys.modules["torchvision.ops.roi_align"].is_compile_supported
        print("torch._dynamo" in sys.modules, supported("cpu"), "torch._dynamo" in sys.modules)
        print(timm.models.naflexvit.NaFlexRopeIterator.__next__.__wrapped__.__qualname__)
    """)
    assert found.splitlines() == ["False True True", "NaFlexRopeIterator.__next__"]


@pytest.mark.parametrize("first", ["", "import training, transformers, timm"], ids=["afterwards", "before"])
def test_a_tower_of_transformers_is_built_when_it_is_needed(first: str) -> None:
    """Classes that were imported before stay the same, so that a tower is still recognised; also where transformers came first."""
    found = run(f"""
        {first}
        import training.model.clip_model as clip_model
        import open_clip.model
        from transformers import BertConfig
        small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=20)
        tower = open_clip.model.HFTextEncoder("bert", 4, config=small, pooler_type="mean_pooler", proj_type="linear")
        import torch
        print(isinstance(tower, clip_model.HFTextEncoder), tuple(tower(torch.ones(2, 3, dtype=torch.long)).shape))
        tower = open_clip.model.TimmModel("resnet10t", 4, image_size=32, pool="", proj="linear")
        print(isinstance(tower, clip_model.TimmModel), tuple(tower(torch.ones(2, 3, 32, 32)).shape))
    """)
    assert found.splitlines() == ["True (2, 4)", "True (2, 4)"]


def test_arrow_leaves_pandas_out_until_someone_imports_it() -> None:
    """Arrays, tables and files need no pandas; once it is there, Arrow knows its types as ever."""
    found = run("""
        import sys, training
        import pyarrow as pa, pyarrow.dataset, pyarrow.parquet, numpy as np
        pa.table({"a": pa.array(np.arange(3)), "b": ["x", "y", None]}).take([0, 2])
        print("pandas" in sys.modules)
        import pandas
        print(pa.array(pandas.Series([1.0, None])).null_count, pa.table({"a": [1, 2]}).to_pandas().shape)
    """)
    assert found.splitlines() == ["False", "1 (2, 1)"]


@pytest.mark.parametrize("between", ["", "import pandas", "pa.array([1])"])
def test_arrow_that_was_there_before_us_still_finds_pandas(between: str) -> None:
    """Its first array imports pandas from within Arrow, which must not be called then: it waited for itself for ever."""
    found = run(f"""
        import pyarrow as pa
        import training
        {between}
        print(pa.array([1, None]).null_count)
        import pandas
        print(pa.array(pandas.Series([1.0, None])).null_count, pa.table({{"a": [1, 2]}}).to_pandas().shape)
    """)
    assert found.splitlines() == ["1", "1 (2, 1)"]


def test_a_table_becomes_a_data_frame_where_pandas_was_left_out() -> None:
    """`to_pandas` imports it by itself; without pyarrow, pandas is imported as ever."""
    found = run("""
        import sys, training, pyarrow as pa
        print("pandas" in sys.modules, pa.table({"a": [1, 2]}).to_pandas()["a"].sum())
    """)
    assert found == "False 3"
    assert run("import training, pandas; print(pandas.Series([1, 2]).sum())") == "3"
