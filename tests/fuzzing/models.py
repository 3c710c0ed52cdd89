"""Odd model files: the head, the description within it and the tensors; ``imgpipe predict`` takes them."""

import json
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
import torchvision
from fuzzing import fields, trees
from fuzzing.fields import Table
from fuzzing.watched import Kind
from samples import described, encoded, form, noise
from typer.testing import CliRunner

from imgpipe.commands.__main__ import app
from imgpipe.model.classifier import new_classifier, save_classifier
from imgpipe.model.networks import MODELS

IMAGE = encoded(noise(0))
QUESTIONS = (["--format", "json"], ["--none-below-threshold"], ["--coverage", "0.9"])
EVALUATED: dict[str, Any] = {"threshold": 0.5, "set_thresholds": {"0.50": 0.7, "0.90": 0.1}, "val_images": 20}
WORDS = {
    "classes": [["a"], ["a"] * 2, ["a", "b", "c"], ["a"] * 100_000, ["", ""], ["a\n", "\x1b[2J"], ["=1", "|"],
        [1, None]],
    "model": [*MODELS, "", "../a", "timm/", "timm/resnet18", "timm/../a", "timm/hf-hub:a/b",
        *torchvision.models.list_models()],
    "size": [1, 7, 9, 16, 4096, 65_535], "packed_size": [1, 7, 9, 4096, 65_535], "channels": [1, 2, 3, 4, 0],
    "cpu_threads": [0, 2, 100, 10**6, 10**9, 2**31 - 1], "jpeg_quality": [0, 101, 1000],
    "encoding": ["raw", "jpeg", "png", "RAW"], "kernels": ["native", "fast"], "precision": ["fp16", "bf16", "fp8"],
    "fit": ["pad", "squash", "stretch"], "device": ["cuda", "a"], "temperature": [1e-300, 1e300, 1e-45],
    "crop_fraction": [0.01, 1.5, 1e-9], "dropout": [0.999, 1.0, 1.5], "threshold": [2, 1e308],
    "set_thresholds": [{"0.90": None}, {"0.90": "x"}, {"0.90": float("nan")}, {"0.90": 2}, {"x": 0.5}],
    "val_images": [1, 10**18],
}  # fmt: skip
"""Values that suit a key of the description, or nearly."""
PATTERNS = {
    "zeros": b"\0\0\0\0", "NaN": b"\0\0\xc0\x7f", "infinite": b"\0\0\x80\x7f", "-infinite": b"\0\0\x80\xff",
    "largest": b"\xff\xff\x7f\x7f", "smallest": b"\1\0\0\0", "minus": b"\0\0\x80\xbf", "huge": b"\xff\xff\xff\x7e",
}  # fmt: skip
"""Four bytes of float32 that a tensor is filled with."""


def _good(**changes: Any) -> tuple[dict[str, Any], bytes]:
    """The head of a model file as a tree, the description in it as one, too; and the tensors' bytes."""
    torch.manual_seed(0)
    description = described(**EVALUATED, **changes)
    channels = description.form.channels
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        save_classifier(path, new_classifier(description, [0.5] * channels, [0.25] * channels))
        content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    head = json.loads(content[8:end])
    head["__metadata__"]["imgpipe"] = json.loads(head["__metadata__"]["imgpipe"])
    return head, content[end:]


GOOD = {"grey": _good(), "JPEG": _good(form=form(encoding="jpeg", channels=3), flips=True, classes=["a", "b", "c"])}


def file_of(head: Any, tensors: bytes) -> bytes:
    """The model file of a head, whose description becomes text again."""
    if isinstance(head, dict) and isinstance(metadata := head.get("__metadata__"), dict):
        written = {key: trees.as_json(value).decode() for key, value in metadata.items() if not isinstance(value, str)}
        head = {**head, "__metadata__": {**metadata, **written}}
    return with_text(trees.as_json(head)) + tensors


def with_text(head: bytes) -> bytes:
    return len(head).to_bytes(8, "little") + head


def odd_files() -> Iterator[tuple[str, bytes]]:
    head, tensors = GOOD["grey"]
    for key, values in WORDS.items():
        for value in values:
            changed = trees.with_value(head, ("__metadata__", "imgpipe", key), value)
            yield f"{key} is {str(value)[:40]}", file_of(changed, tensors)
    for name, said in head.items():
        if name == "__metadata__":
            continue
        start, end = said["data_offsets"]
        for shown, pattern in PATTERNS.items():
            filled = tensors[:start] + (pattern * (end - start))[: end - start] + tensors[end:]
            yield f"{name} is {shown}", file_of(head, filled)
            first = tensors[:start] + (pattern + tensors[start + 4 : end])[: end - start] + tensors[end:]
            yield f"the first of {name} is {shown}", file_of(head, first)
        for kind in ("F64", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F4", "C64", "X"):
            yield f"{name} is of {kind}", file_of({**head, name: {**said, "dtype": kind}}, tensors)
        for shape in (
            [],
            [0],
            [-1],
            [1],
            [2**62, 4],
            [10**6, 10**6],
            said["shape"][::-1],
            [1, *said["shape"]],
            [1] * 1000,
        ):
            yield f"{name} is of {str(shape)[:30]}", file_of({**head, name: {**said, "shape": shape}}, tensors)
        for place in ([0, 0], [end, start], [start, 2**63], [start, end + 4], [-4, end - 4], [0, len(tensors)]):
            yield f"{name} is at {place}", file_of({**head, name: {**said, "data_offsets": place}}, tensors)
    whole = file_of(head, tensors)
    for length in (0, 1, 7, 8, 99, 1 << 20, 100_000_000, 1 << 31, 1 << 63, (1 << 64) - 1):
        yield f"a head of {length}", length.to_bytes(8, "little") + whole[8:]
    for end in (0, 7, 8, 9, 500, len(whole) - len(tensors), len(whole) - 1):
        yield f"cut at {end}", whole[:end]
    yield "text behind", whole + b"text"
    yield "a key twice", with_text(b'{"mean": {"a": 1}, ' + whole[9 : -len(tensors)]) + tensors
    yield "a deep head", with_text(b"[" * 100_000)
    deep = trees.with_value(head, ("__metadata__", "imgpipe"), "[" * 100_000)
    yield "a deep description", file_of(deep, tensors)
    yield "a pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR."
    many = {f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}
    yield "many empty tensors", file_of(many | head, tensors)


def table() -> Table:
    head, tensors = GOOD["grey"]
    cases = trees.odd_trees(head, partial(file_of, tensors=tensors))
    return cases | {shown: partial(bytes, content) for shown, content in odd_files()}


def random(random: Random) -> bytes:
    head, tensors = random.choice(list(GOOD.values()))
    for key in random.sample(list(WORDS), random.randrange(3)):
        head = trees.with_value(head, ("__metadata__", "imgpipe", key), random.choice(WORDS[key]))
    if random.random() < 0.6:
        description = trees.randomly_changed(head["__metadata__"]["imgpipe"], random)
        head = trees.with_value(head, ("__metadata__", "imgpipe"), description)
    if random.random() < 0.3:
        head = trees.randomly_changed(head, random)
    content = file_of(head, tensors)
    return fields.damaged(content, random) if random.random() < 0.2 else content


def take(content: bytes, folder: Path) -> None:
    """Every question is answered with probabilities, or refused in one line."""
    Path("model.safetensors").write_bytes(content)
    Path("image.png").write_bytes(IMAGE)
    torch.set_num_threads(1)  # an input before this one may have set it
    for options in QUESTIONS:
        arguments = ["predict", "image.png", "--model", "model.safetensors", "--device", "cpu", *options]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        if done.exit_code:
            assert done.exit_code == 1 and done.stderr
            sys.stderr.write(done.stderr)  # one line, as of the other kinds
            break  # the other questions would end likewise
        assert "Warning" not in done.stderr and all(map(str.isprintable, done.stderr.split("\n"))), done.stderr
        if "json" in options:
            (answer,) = json.loads(done.stdout)
            assert all(0 <= one["confidence"] <= 1 for one in answer["top"]), done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["image.png", "model.safetensors"]


KIND = Kind(table, random, take, seconds=10)
