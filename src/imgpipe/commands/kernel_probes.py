"""Find out by trying how a network is computed here: with which bits, and how fast. See ``probes``, which runs these.

``python -m imgpipe.commands.probes same_bits`` prints what KNOWN holds; write it anew where a package in it changed.
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

from imgpipe.common.kernels import fix_for_images, fix_for_network

KNOWN = Path(__file__).with_suffix(".json")
"""What ``same_bits`` returns on x86-64 processors with AVX2."""
PACKAGES = ("numpy", "opencv-python-headless", "torch")
"""Those that ``same_bits`` tries."""
MEASURED = 2.0
"""Seconds for which a way of computing is timed."""
WAYS = {
    "fp32_portable": ("fp32", "portable"),
    "fp32_native": ("fp32", "native"),
    "bf16_native": ("bf16", "native"),
}
"""Precision and kernels that can be timed."""


def same_bits() -> dict[str, Any]:
    """Compute with portable kernels what has the same bits on every processor, and digest it.

    Returns packages, the versions of PACKAGES by name; and digests, by what was computed.
    """
    fix_for_images()
    fix_for_network("portable")
    import numpy as np
    import torch

    from imgpipe.model.devices import set_up_computing
    from imgpipe.train.optim import OPTIMIZERS

    set_up_computing(cpu_threads=2, precision="fp32")
    rates: dict[str, dict[str, float]] = {
        "sgd": {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
        "adam": {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01},
        "adamw": {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01},
        "rmsprop": {"alpha": 0.9, "momentum": 0.9, "weight_decay": 0.01},
    }
    random = np.random.default_rng(0)
    images = _processed(random.integers(0, 256, (8, 40, 44, 3), dtype=np.uint8))
    wide = random.random((130, 70))
    numbers = wide.astype(np.float32)
    digests = {
        "opencv": _digest(images, _processed(numbers[None]), _turned(random.random((40, 44, 3), dtype=np.float32))),
        "numpy": _digest(np.exp(wide), np.log1p(numbers), wide @ wide.T, numbers @ numbers.T),
    }
    for name, make in OPTIMIZERS.items():
        torch.manual_seed(0)
        network = _small_network()
        optimizer = make([{"params": list(network.parameters())}], lr=0.01, **rates[name])
        for _ in range(3):
            _step(network, optimizer, torch.from_numpy(images))
        weights = [value.detach().double().numpy() for value in network.state_dict().values()]
        digests[name] = _digest(*weights)
    return {"packages": {name: metadata.version(name).partition("+")[0] for name in PACKAGES}, "digests": digests}


def _processed(images: Any) -> Any:
    """Rotate, blur and resize images, (n, height, width) or (n, height, width, channels), to 32 x 32 pixels."""
    import cv2
    import numpy as np

    turn = cv2.getRotationMatrix2D((20.0, 20.0), 17.0, 1.1)
    turned = (cv2.warpAffine(image, turn, (44, 40), flags=cv2.INTER_LINEAR) for image in images)
    blurred = [cv2.GaussianBlur(image, (3, 3), 0.7) for image in turned]
    larger = (cv2.resize(image, (61, 57), interpolation=cv2.INTER_CUBIC) for image in blurred)
    return np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in larger])


def _turned(colours: Any) -> Any:
    """Turn the hues of colours, float32 (height, width, 3) from 0 to 1, by 36 degrees."""
    import cv2

    hsv = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV)
    hsv[..., 0] += 36
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _small_network() -> Any:
    """Build convolutions with BatchNorm, attention with LayerNorm, and linear layers, for 32 x 32 pixels in colour."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=4),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(2),
        nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, activation="gelu", batch_first=True),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(512, 10),
    )


def _step(network: Any, optimizer: Any, images: Any) -> None:
    """Make a step of training on images, uint8 (n, 32, 32, 3)."""
    import torch
    from torch.nn.functional import cross_entropy

    optimizer.zero_grad()
    logits = network((images.permute(0, 3, 1, 2).float() - 127) / 64)
    cross_entropy(logits, torch.arange(len(images)), label_smoothing=0.1).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def _digest(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def speed(kernels: str) -> dict[str, Any]:
    """Time training steps of ResNet-9 at 32 pixels in each of WAYS with these kernels. Returns images_per_second."""
    fix_for_network(kernels)
    return {"images_per_second": {name: _speed(precision) for name, (precision, own) in WAYS.items() if own == kernels}}


def _speed(precision: str) -> float:
    """Return how many images go through training steps in a second, in batches of 16."""
    import torch
    from torch.nn.functional import cross_entropy

    from imgpipe.data.parallel import cores
    from imgpipe.model.devices import autocast, device_type, set_up_computing
    from imgpipe.model.networks import build_model
    from imgpipe.train.optim import sgd

    device = torch.device(device_type("auto", asked_by=""))
    set_up_computing(cpu_threads=cores(), precision=precision)
    network = build_model("resnet9", channels=3, classes=10, size=32, dropout=0.0)
    network.train().to(device).to(memory_format=torch.channels_last)
    optimizer = sgd([{"params": list(network.parameters())}], lr=0.01, momentum=0.9, weight_decay=0.0, nesterov=False)
    images = torch.randn(16, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(16, dtype=torch.int64, device=device)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device, precision):
            logits = network(images)
        cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    step()  # the first one builds what the others use
    started, steps = perf_counter(), 0
    while perf_counter() - started < MEASURED:
        step()
        steps += 1
    return 16 * steps / (perf_counter() - started)


PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    "same_bits": same_bits,
    **{f"speed_{kernels}": partial(speed, kernels) for _, kernels in WAYS.values()},
}


def known() -> dict[str, Any]:
    """Return what ``same_bits`` is known to return."""
    facts: dict[str, Any] = json.loads(KNOWN.read_text(encoding="utf-8"))
    return facts
