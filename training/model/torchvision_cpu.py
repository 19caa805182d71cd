"""Let a CUDA build of torchvision be imported with a CPU build of torch.

The package index ships torchvision built for CUDA; its compiled library does not load with a CPU torch, and
`import torchvision` then fails on `operator torchvision::nms does not exist`. Declaring that operator first is
enough for everything open_clip, timm and transformers use (transforms, models). `torchvision.ops.nms` itself
stays unavailable and says so.
"""

from __future__ import annotations

from typing import Any

_kept: list[Any] = []


def declare_operators() -> None:
    """Declare the operators, unless torch is built for CUDA; `lean_imports` does so before torchvision is imported."""
    import torch

    if torch.version.cuda is not None or _kept:
        return
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    # the declarations live as long as this object does
    _kept.append(library)
