"""The ways that ``peers.py`` compares: the command of each, with what it is told, and the network that it leaves."""

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

CORES = 2
LR, MOMENTUM, DECAY = 0.02, 0.9, 1e-4
"""Of SGD with Nesterov's momentum; the rate stays, and biases and norm layers are not decayed."""
LEAST_AREA, RATIO = 0.08, 4 / 3
"""Of random resized crops: least share of the area, greatest ratio of the sides. Half of the images are flipped."""
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""ImageNet's, which all but Ultralytics normalise by."""
MARGIN = 8 / 7
"""Short side of an image by the square that is cut from its middle for the test."""

Network = Callable[["Tensor"], "Tensor"]
"""From squares, uint8 (n, size, size, 3), to a number for each class."""


@dataclass(frozen=True)
class Task:
    """What all ways do."""

    images: Path
    """A folder <split>/<class>/<file>."""
    peers: Path
    classes: int
    train: int
    size: int
    batch: int
    epochs: int
    seed: int


@dataclass(frozen=True)
class Way:
    """A command that trains."""

    command: list[str]
    settings: int
    """Values that its user writes, on the command line and in files."""
    epoch_end: bytes
    """A regular expression of what is printed at the end of each epoch."""
    network: Callable[[], Network]
    """What the last epoch left."""
    variables: dict[str, str]


def flags(options: dict[str, Any]) -> list[str]:
    """Return options as words of a command line; a tuple is several words after the option's name, or none."""
    return [
        word
        for name, value in options.items()
        for word in (f"--{name}", *map(str, value if isinstance(value, tuple) else (value,)))
    ]


def torchvision(task: Task, folder: Path) -> Way:
    """torchvision's references/classification/train.py. It has no option for a seed."""
    options = {
        "data-path": task.images, "output-dir": folder, "model": "resnet18", "device": "cpu", "workers": CORES,
        "batch-size": task.batch, "epochs": task.epochs, "opt": "sgd_nesterov", "lr": LR, "momentum": MOMENTUM,
        "weight-decay": DECAY, "norm-weight-decay": 0, "bias-weight-decay": 0, "lr-step-size": task.epochs + 1,
        "train-crop-size": task.size, "val-crop-size": task.size, "val-resize-size": int(task.size * MARGIN),
    }  # fmt: skip
    command = [sys.executable, str(task.peers / "vision/references/classification/train.py"), *flags(options)]
    network = resnet18(folder / "checkpoint.pth", "model", task.classes)
    return Way(command, len(options), rb"^Test: +Acc@1", network, {})


def timm(task: Task, folder: Path) -> Way:
    """timm's train.py."""
    options = {
        "data-dir": task.images, "train-split": "train", "val-split": "val", "num-classes": task.classes,
        "output": folder, "experiment": "timm", "seed": task.seed, "model": "resnet18",
        "model-kwargs": "zero_init_last=False", "device": "cpu", "workers": CORES, "batch-size": task.batch,
        "epochs": task.epochs, "opt": "sgd", "lr": LR, "momentum": MOMENTUM, "weight-decay": DECAY, "sched": "step",
        "decay-epochs": task.epochs + 1, "warmup-epochs": 0, "smoothing": 0, "color-jitter": 0,
        "input-size": (3, task.size, task.size), "crop-pct": 1 / MARGIN, "interpolation": "bilinear",
        "train-interpolation": "bilinear", "channels-last": (),
    }  # fmt: skip
    command = [sys.executable, str(task.peers / "timm/train.py"), *flags(options)]
    network = resnet18(folder / "timm/last.pth.tar", "state_dict", task.classes)
    return Way(command, len(options), rb"^Current checkpoints:", network, {})


RESNET18 = """nc: {classes}
backbone:
  - [-1, 1, TorchVision, [512, resnet18, null, True, 1]]
head:
  - [-1, 1, nn.Flatten, []]
  - [-1, 1, nn.Linear, [512, nc]]
"""
"""torchvision's network as Ultralytics reads it: without weights, all but the last layer, and a last layer."""


def ultralytics(task: Task, folder: Path) -> Way:
    """Ultralytics' yolo classify train. By default it takes a thread less than there are cores."""
    (folder / "resnet18.yaml").write_text(RESNET18.format(classes=task.classes))
    options = {
        "model": folder / "resnet18.yaml", "data": task.images, "project": folder, "name": "run", "seed": task.seed,
        "pretrained": False, "device": "cpu", "workers": CORES, "amp": False, "imgsz": task.size, "batch": task.batch,
        "nbs": task.batch, "epochs": task.epochs, "optimizer": "SGD", "lr0": LR, "lrf": 1.0, "warmup_epochs": 0,
        "momentum": MOMENTUM, "weight_decay": DECAY, "auto_augment": None, "erasing": 0, "hsv_h": 0, "hsv_s": 0,
        "hsv_v": 0, "scale": 1 - LEAST_AREA, "fliplr": 0.5, "cache": "ram", "deterministic": False, "plots": False,
    }  # fmt: skip
    yolo = str(task.peers / "ultralytics/bin/yolo")
    variables = {"PYTHON_CPU_COUNT": str(CORES + 1), "YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "1"}

    def exported() -> Network:
        import torch

        from imgpipe.model.classifier import normalised

        command = [
            yolo,
            "export",
            "model=run/weights/last.pt",
            "format=torchscript",
            f"imgsz={task.size}",
            "device=cpu",
        ]
        subprocess.run(command, cwd=folder, env=environment(variables), capture_output=True, check=True)
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch is to give up this format
            network = torch.jit.load(folder / "run/weights/last.torchscript")
        return lambda squares: network(normalised(squares, torch.zeros(3), torch.ones(3)))

    command = [yolo, "classify", "train", *(f"{name}={value}" for name, value in options.items())]
    settings = len(options) + RESNET18.count("\n")
    return Way(command, settings, rb"^ +all +[\d.]+ +[\d.]+", exported, variables)


def resnet18(file: Path, key: str, classes: int) -> Callable[[], Network]:
    """Return what reads torchvision's network from a checkpoint, in which its weights have this key."""

    def read() -> Network:
        import torch
        from torchvision import models

        from imgpipe.model.classifier import normalised

        network = models.resnet18(num_classes=classes).eval()
        network.load_state_dict(torch.load(file, weights_only=False)[key])
        return lambda squares: network(normalised(squares, torch.tensor(MEAN), torch.tensor(STD)))

    return read


def ours(task: Task, folder: Path) -> Way:
    """``dvc repro`` in a new project, up to the evaluation."""
    values: dict[str, Any] = {
        "runtime.processes": 1, "runtime.device": "cpu", "download.source": "folder",
        "download.location": str(task.images), "prepare.near_duplicates": "report", "pack.image_size": 2 * task.size,
        "pack.levels": 2, "pack.channels": 3, "model.name": "resnet18", "model.image_size": task.size,
        "model.crop_fraction": 1 / MARGIN,
        "model.normalise": "imagenet", "train.seed": task.seed, "train.epochs": task.epochs,
        "train.batch_size": task.batch, "train.micro_batches": 1, "train.kernels": "native",
        "train.label_smoothing": 0.0, "train.optimizer.sgd.lr": LR, "train.optimizer.sgd.weight_decay": DECAY,
        "train.decay_norms_and_biases": False, "train.schedule.name": "constant",
        "train.schedule.constant.warmup_epochs": 0, "train.augment.crop.name": "resized",
        "train.augment.crop.resized.scale_low": LEAST_AREA, "train.augment.crop.resized.ratio_high": RATIO,
        "train.augment.horizontal_flip": 0.5,
    }  # fmt: skip
    params: Any = OmegaConf.load(ROOT / "params.yaml")
    for name, value in values.items():
        OmegaConf.update(params, name, value)
    OmegaConf.save(params, folder / "params.yaml")
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dvcignore", "dvc.yaml", "packages.yaml"):
        shutil.copy(ROOT / name, folder)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=folder, check=True)

    def network() -> Network:
        from imgpipe.model.classifier import load_classifier

        return load_classifier(folder / "models/last.safetensors")

    return Way([*dvc, "repro", "evaluate"], len(values), rb"^ +\d+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ ", network, {})


def training_alone(task: Task, folder: Path) -> Way:
    """The train stage of such a project, packed beforehand."""
    way = ours(task, folder)
    pack = [*way.command[:-1], "pack"]
    subprocess.run(pack, cwd=folder, env=environment({}), capture_output=True, check=True)
    return replace(way, command=[sys.executable, "-m", "stages.train"], variables={"PYTHONPATH": "src"})


WAYS: dict[str, Callable[[Task, Path], Way]] = {
    "torchvision's train.py": torchvision,
    "timm's train.py": timm,
    "Ultralytics' yolo train": ultralytics,
    "imgpipe, dvc repro": ours,
    "imgpipe, the same again": ours,
    "imgpipe, train stage alone": training_alone,
}


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Return this process's variables with others; the project's Python is the first that is found."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    common = {"PATH": path, "OMP_NUM_THREADS": str(CORES), "PYTHONUNBUFFERED": "1"}
    inherited = {name: value for name, value in os.environ.items() if name not in ("DVC_ROOT", "PYTHONPATH")}
    return inherited | common | variables


def versions(peers: Path) -> dict[str, str]:
    """Return what is used, by its name, or exit where the folder of the peers lacks something."""
    found = {name: version(name) for name in ("torch", "torchvision")}
    told = {"torchvision's references": "vision/version.txt", "timm's train.py": "timm/timm/version.py"}
    python = peers / "ultralytics/bin/python"
    for file in (*(peers / name for name in told.values()), python):
        if not file.exists():
            sys.exit(f"error: there is no {file}; docs/peers.md says how to fill this folder")
    for name, place in told.items():
        found[name] = "".join(re.findall(r"\d[\w.]*", (peers / place).read_text()))
    asked = "import sys, importlib.metadata as m; print(m.version('ultralytics'), sys.version_info >= (3, 13))"
    answer = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    if answer[1] != "True":
        sys.exit(f"error: {python} must be Python 3.13 or newer; docs/peers.md says why")
    return found | {"ultralytics": answer[0]}
