"""A classifier and its file."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from samples import described, form

from imgpipe.model.classifier import load_classifier, new_classifier, save_classifier


def test_a_saved_classifier_comes_back_whole(tmp_path: Path) -> None:
    model = new_classifier(described(dropout=0.25, temperature=1.5, flips=True), [0.5], [0.2]).eval()
    save_classifier(tmp_path / "model.safetensors", model)
    loaded = load_classifier(tmp_path / "model.safetensors")
    images = torch.randint(0, 256, (3, 8, 8, 1), dtype=torch.uint8)
    assert loaded.description == model.description
    assert torch.equal(loaded(images), model(images))
    save_classifier(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_the_description_in_the_file_is_flat(tmp_path: Path) -> None:
    """Other programs read it, so its keys stay."""
    chosen = {"threshold": 0.9, "set_thresholds": {"0.50": 0.7, "0.51": 0.1}, "val_images": 2}
    model = new_classifier(described(form=form(image_size=9, encoding="jpeg"), **chosen), [0.5], [0.2])
    save_classifier(tmp_path / "model.safetensors", model)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        found = json.loads(file.metadata()["imgpipe"])
    assert list(found.items()) == [
        ("model", "simple_cnn"),
        ("dropout", 0.0),
        ("classes", ["a", "b"]),
        ("packed_size", 9),
        ("enlarge", True),
        ("channels", 1),
        ("encoding", "jpeg"),
        ("jpeg_quality", 90),
        ("size", 8),
        ("crop_fraction", 1.0),
        ("fit", "crop"),
        ("initial_weights", "none"),
        ("channels_last", True),
        ("device", "cpu"),
        ("precision", "fp32"),
        ("kernels", "portable"),
        ("cpu_threads", 1),
        ("flips", False),
        ("temperature", 1.0),
        ("threshold", 0.9),
        ("set_thresholds", {"0.50": 0.7, "0.51": 0.1}),
        ("val_images", 2),
    ]
