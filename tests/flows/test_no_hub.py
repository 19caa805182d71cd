"""A hub that refuses, or never answers: one message, soon, wherever a name on it is given."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODEL = "import sys; from training.model.spec import ModelSpec; ModelSpec.parse(sys.argv[1]).load()"
MASKED = "import sys; from curation.models.masked_model import TransformersMaskedModel as M; M.parse(sys.argv[1]).content_hash()"
SOURCE = "import sys; from curation.sources import open_source; open_source(sys.argv[1], None)"
AFTER = """
import time
from data_manifests.errors import InputError
began = time.monotonic()
try:
    exec({code!r})
except InputError as error:
    print(error, round(time.monotonic() - began, 1), sep="\\n")
"""


@pytest.fixture(params=["refuses", "is silent"])
def proxy(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the address of a proxy that refuses connections, or accepts them and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if request.param == "is silent":
            listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "name", "said"),
    [
        (MODEL, "ViT-B-32:openai", "model 'ViT-B-32:openai': could not be fetched from the hub: https://"),
        (MODEL, "RN50:yfcc15m", "model 'RN50:yfcc15m': could not be fetched from the hub: https://"),
        (MASKED, "distilbert/distilroberta-base", "cannot be downloaded from the hub (https://"),
        (
            SOURCE,
            "hf:some/data",
            "--source hf:some/data: neither a folder here nor a data set that the hub gives (https://",
        ),
    ],
)
def test_one_message_and_no_waiting(code: str, name: str, said: str, proxy: str, tmp_path: Path) -> None:
    environment = {
        key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "NO_PROXY", "no_proxy")
    }
    environment |= {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "HF_HOME": str(tmp_path), "HOME": str(tmp_path)}
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", AFTER.format(code=code), name],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert said in ran.stdout
    assert "https://huggingface.co cannot be reached: " in ran.stdout
    assert "retry" not in ran.stderr.lower()
    assert "ERROR" not in ran.stderr
    print(f"{name}: {ran.stdout.splitlines()[-1]} s of {time.monotonic() - began:.1f}")
