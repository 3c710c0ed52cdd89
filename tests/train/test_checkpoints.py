"""A training's key, the processes that must agree on it, and the folder of its checkpoints."""

import hashlib
import io
import logging
import resource
import subprocess
import sys
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Project
from omegaconf import OmegaConf
from samples import described

from imgpipe.common.errors import InputError
from imgpipe.common.files import digest_of
from imgpipe.data.packed import read_packed
from imgpipe.model.classifier import new_classifier
from imgpipe.model.devices import World
from imgpipe.train import locks
from imgpipe.train.checkpoints import (
    newest_checkpoint,
    resumed,
    write_checkpoint,
)
from imgpipe.train.keys import digests_of_inputs, key_of
from imgpipe.train.locks import sole_use
from imgpipe.train.micro_batches import Splits, check_splits
from imgpipe.train.state import TrainingState


@pytest.fixture
def inside(pipeline: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(pipeline.folder)
    return pipeline


def test_a_change_of_code_shows_and_compiled_python_does_not(inside: Project) -> None:
    before = digests_of_inputs("train", device="cpu")
    compiled = inside.folder / "src/imgpipe/train/__pycache__"
    compiled.mkdir(exist_ok=True)
    (compiled / "loop.cpython-311.pyc").write_bytes(b"compiled")
    assert digests_of_inputs("train", device="cpu") == before
    inside.edit("src/imgpipe/train/loop.py", "def train_step", "# one update\ndef train_step")
    after = digests_of_inputs("train", device="cpu")
    assert [path for path in before if before[path] != after[path]] == ["src/imgpipe/train"]


def test_what_editors_and_systems_leave_and_the_order_of_parameters_do_not_show(inside: Project) -> None:
    inside.set(train__class_weights__name="given", train__class_weights__given={"weights": {0: 2.0, "zero": 1.0}})
    before = digests_of_inputs("train", device="cpu")
    code = inside.folder / "src/imgpipe/train"
    (code / ".loop.py.swp").write_bytes(b"an open editor")
    (code / ".idea").mkdir()
    (code / ".idea/workspace.xml").write_text("<project/>")
    params = inside.folder / "params.yaml"
    sections = OmegaConf.to_container(OmegaConf.load(params))
    OmegaConf.save(reversed_in_order(sections), params)
    after = digests_of_inputs("train", device="cpu")
    assert [name for name in before if before[name] != after[name]] == []


def reversed_in_order(value: Any) -> Any:
    """The same mapping, with the keys at every level the other way round."""
    if not isinstance(value, dict):
        return value
    return {key: reversed_in_order(inner) for key, inner in reversed(value.items())}


def test_the_key_is_one_of_the_parameters_the_packages_the_data_the_code_and_the_device(
    inside: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {key_of(digests_of_inputs("train", device=device)) for device in ("cpu", "cpu", "cuda")}
    assert len(keys) == 2
    inside.set(train__seed=77)
    keys.add(key_of(digests_of_inputs("train", device="cpu")))
    (inside.folder / "data/packed/train/index.csv").unlink()
    keys.add(key_of(digests_of_inputs("train", device="cpu")))
    inside.edit("stages/train.py", "def train", "# a stage\ndef train")
    keys.add(key_of(digests_of_inputs("train", device="cpu")))
    monkeypatch.setattr("imgpipe.train.keys.metadata.version", lambda name: f"another {name}")
    keys.add(key_of(digests_of_inputs("train", device="cpu")))
    assert len(keys) == 6


def test_the_index_stands_for_the_images_which_the_processes_of_each_machine_compare_with_it(
    inside: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last process of four, on two machines: it has the second half of the images of its machine."""
    key = key_of(digests_of_inputs("train", device="cpu"))
    path = Path("data/packed/train/images.npy")
    whole = path.read_bytes()
    path.unlink()  # it may be a link to DVC's cache
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    for place, refused in ((len(whole) // 2 - 1000, False), (len(whole) // 2 + 1000, True), (len(whole) - 1, True)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert key_of(digests_of_inputs("train", device="cpu")) == key
        statistics, packed = read_packed(Path("data/packed"), ("train", "val"))
        splits = Splits(**packed, statistics=statistics, class_weights=None)
        with pytest.raises(InputError, match="is another") if refused else nullcontext():
            check_splits(splits, Path("data/packed"))


def test_timm_s_version_counts_where_the_network_is_timm_s_and_nowhere_else(
    inside: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network of ours is trained by the same code whatever timm is installed, or none."""
    version = metadata.version
    keys: dict[str, set[str]] = {}
    for name in ("simple_cnn", "timm/resnet18"):
        inside.set(model__name=name)
        for timm in ("1.0", "1.1"):
            monkeypatch.setattr(metadata, "version", lambda name, timm=timm: timm if name == "timm" else version(name))
            keys.setdefault(name, set()).add(key_of(digests_of_inputs("train", device="cpu")))
    assert {name: len(found) for name, found in keys.items()} == {"simple_cnn": 1, "timm/resnet18": 2}


def test_runtime_is_no_part_of_the_key(inside: Project) -> None:
    before = key_of(digests_of_inputs("train", device="cpu"))
    inside.set(runtime__processes=2)
    assert key_of(digests_of_inputs("train", device="cpu")) == before


def test_a_hidden_file_or_folder_that_is_named_counts_with_its_content(tmp_path: Path) -> None:
    folder = tmp_path / ".hidden"
    folder.mkdir()
    file, inside = folder / ".file", folder / "file"
    digests = set()
    for content in ("one", "two"):
        file.write_text(content)
        inside.write_text(content)
        digests |= {digest_of(file), digest_of(folder)}
    assert len(digests) == 4


AGREEING = """
import os, socket, sys
import stages
import torch, torch.distributed as dist
from imgpipe.train.checkpoints import same_everywhere
from imgpipe.model.devices import World
from imgpipe.common.errors import InputError

rank, meeting = int(sys.argv[1]), sys.argv[2]
socket.gethostname = lambda: ("alpha", "beta")[rank]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
world = World(rank, 2, torch.device("cpu"))
def agree(digests):
    try:
        return same_everywhere(digests, world)
    except InputError as error:
        return error

print(agree({"params.yaml": "0f", "src": "aa"}))
print(agree({"params.yaml": "0f", "src": "ab"[rank], "data": "c"} | ({"old": "d"} if rank else {})))
print(agree({"src": "a"} if rank else {"src": "a", "data": "c"}))
os.environ["LOCAL_RANK"] = str(rank)
print(agree({"device": "cpu"} if rank else {"device": "cpu", "data": "c"}))
print(agree({"device": "A100"} if rank else {"device": "H100", "data": "c"}))
dist.destroy_process_group()
"""


def test_every_process_is_told_what_differs_and_where(tmp_path: Path) -> None:
    """In a real Gloo group."""
    command = [sys.executable, "-c", AGREEING]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meeting")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in running]
    folder = "bring the project's folder to one state on all of them, for example by git pull and dvc pull"
    lines = [
        "{'params.yaml': '0f', 'src': 'aa'}",
        f"the machines do not train the same: old, src on beta (process 1): not as on alpha (process 0); {folder}",
        f"the machines do not train the same: data on beta (process 1): not as on alpha (process 0); {folder}",
        "{'device': 'cpu', 'data': 'c'}",
        "the machines do not train the same: device on beta (process 1): not as on alpha (process 0); train on GPUs of "
        "one model",
    ]
    assert said == ["\n".join(lines) + "\n"] * 2


SAVED = {"weights": torch.arange(6.0).view(2, 3), "epochs": [{"loss": 0.1}], "best": None}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def newest(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint holds; there is one."""
    saved = newest_checkpoint(folder)
    assert saved is not None
    return saved


def test_the_newest_two_are_kept_and_the_newest_comes_back(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for i in range(4):
        write_checkpoint(tmp_path, f"{i}", {**SAVED, "step": i})
    assert names(tmp_path) == ["2.pt", "3.pt"]
    saved = newest(tmp_path)
    assert torch.equal(saved.pop("weights"), SAVED["weights"])  # type: ignore[arg-type]
    assert saved == {"epochs": [{"loss": 0.1}], "best": None, "step": 3}


def test_memory_order_comes_back_too_since_it_shows_in_sums(tmp_path: Path) -> None:
    weights = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    write_checkpoint(tmp_path, "1", {"weights": weights})
    assert newest(tmp_path)["weights"].stride() == weights.stride()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_one_that_was_cut_short_is_named_and_the_one_before_it_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path, "1", {**SAVED, "step": 1})
    write_checkpoint(tmp_path, "2", {**SAVED, "step": 2})
    damaged = tmp_path / "2.pt"
    content = damaged.read_bytes()
    flipped = content[:500] + bytes([content[500] ^ 1]) + content[501:]
    damaged.write_bytes({"cut": content[:-1], "flipped": flipped, "empty": b""}[damage])
    (tmp_path / ".3.pt.77.draft").write_bytes(b"half")
    assert newest(tmp_path)["step"] == 1
    assert "2.pt was cut short" in caplog.text
    assert names(tmp_path) == ["1.pt"]


def foreign(path: Path, kind: str) -> None:
    """Puts something in a checkpoint's place that no training of ours has written."""
    if kind == "folder":
        path.mkdir()
        (path / "file").write_text("in it")
        return
    contents: dict[str, Any] = {
        "a list": [1, 2],
        "another's keys": {"weights": torch.zeros(2)},
        "another's tensors": {**state().saved(), "classifier": {"weight": torch.zeros(2)}},
        "another's history": {**state().saved(), "history": [{"time": 3}]},
        "another's optimizer": {**state().saved(), "optimizer": {"state": {}, "param_groups": []}},
        "code": Path("called"),
    }
    content = io.BytesIO(b"no tensors at all")
    if kind in contents:
        torch.save(contents[kind], content)
    path.write_bytes(hashlib.blake2b(content.getbuffer()).digest() + content.getvalue())


FOREIGN = (
    "folder", "text", "a list", "another's keys", "another's tensors", "another's history", "another's optimizer",
    "code",
)  # fmt: skip
ALONE = World(0, 1, torch.device("cpu"))


def state(step: int = 0) -> TrainingState:
    torch.manual_seed(step)
    classifier = new_classifier(described(), [0.5], [0.2])
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    optimizer = torch.optim.SGD(classifier.network.parameters(), lr=0.1)
    return TrainingState(classifier, optimizer, scaler, None, "accuracy", step=step)


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("older", [True, False], ids=["with an older one", "alone"])
def test_what_is_none_of_the_training_s_is_set_aside_and_the_one_before_it_used_or_none(
    tmp_path: Path, kind: str, older: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "key"
    folder.mkdir()
    if older:
        write_checkpoint(folder, "1", state(5).saved())
    foreign(folder / "2.pt", kind)
    resuming, expected = state(), state(5 if older else 0)
    with resumed(resuming, folder, ALONE, every_seconds=1e9, every_steps=None, stop_signal=lambda: 0):
        assert names(folder) == [*(["1.pt"] if older else []), "2.pt.not-ours"]
        assert "2.pt is no checkpoint of this training (" in caplog.text
        assert resuming.step == expected.step
        tensors = expected.classifier.state_dict()
        assert all(torch.equal(value, tensors[name]) for name, value in resuming.classifier.state_dict().items())
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_the_folder_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a file")
    with sole_use(tmp_path / "key", lambda: 0):
        assert names(tmp_path) == ["key", "key.lock", "key.not-ours"]


def test_a_disk_that_takes_no_more_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "1", SAVED)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_checkpoint(tmp_path, "2", SAVED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["1.pt"]


HOLDER = """
import sys
from pathlib import Path
from imgpipe.train.locks import sole_use
from imgpipe.train.micro_batches import Splits, check_splits
with sole_use(Path(sys.argv[1]), lambda: 0):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_run_waits_a_moment_and_then_says_who_is_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "key"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr(locks, "PATIENCE", 0.5)
        with (
            pytest.raises(InputError, match=rf"process {other.pid} on .* is at this very training"),
            sole_use(folder, lambda: 0),
        ):
            pass
        assert f"waiting for process {other.pid}" in caplog.text
        monkeypatch.setattr(locks, "PATIENCE", 60.0)
        other.kill()
        with sole_use(folder, lambda: 0):
            assert folder.is_dir()
    assert names(tmp_path) == ["key"]
