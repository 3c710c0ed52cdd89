"""Odd inputs of every kind for a moment: each is answered or refused in one line. ``make fuzz`` takes minutes.

And images and archives damaged at random: how many are read and how many are named is counted.
"""

import os
import socket
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fuzzing.fields import damaged
from fuzzing.kinds import Name, input_of, kept_seeds, kind_named
from fuzzing.watched import MOST_MEMORY, Finding, Kind, Worker
from samples import encoded, photo, tar_of, zip_of

from imgpipe.common.errors import InputError
from imgpipe.data.images import decode, eight_bits
from imgpipe.prepare.reading import read_archive

INPUTS = {"archives": 150, "pictures": 50, "models": 10, "servers": 15, "params": 8}
"""Of the table, and random ones, that fit into a second or two."""
SLOW = ("for ever", "MB ", "million", "100,000", "wait")
"""Words in the names of inputs that take long even where all is well."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
IMAGES = [encoded(photo(i, (64, 48)), kind) for i, kind in enumerate(FORMATS)]
IMAGES.append(encoded(photo(0, (64, 48)), "JPEG", progressive=True, quality=60))
IMAGES.append(encoded(photo(1, (64, 48)).convert("P"), "PNG"))
IMAGES.append(encoded(photo(1, (64, 48)), "TIFF", compression="tiff_lzw"))


@pytest.mark.parametrize("name", Name)
def test_odd_inputs_are_answered_or_refused_in_one_line(name: str) -> None:
    kind = kind_named(name)
    table = kind.table()
    fast = [one for one in table if not any(word in one for word in SLOW)]
    seeds = [*Random(0).sample(fast, INPUTS[name]), *map(str, range(INPUTS[name]))]
    with Worker(kind) as worker:
        found = {one: worker.finding(input_of(kind, table, one)) for one in seeds}
    assert {one: finding for one, finding in found.items() if finding} == {}


@pytest.mark.parametrize("name", Name)
def test_what_was_found_once_is_found_no_more(name: str) -> None:
    kind, seeds = kind_named(name), set(kept_seeds()[name])
    table = kind.table()
    unknown = {one for one in seeds if not one.isdecimal() and one not in table}
    assert all("HEIC" in one for one in unknown), (
        "names of the table have changed"
    )  # HEIC takes packages that are extras
    with Worker(kind) as worker:
        found = {one: worker.finding(input_of(kind, table, one)) for one in sorted(seeds - unknown)}
    assert {one: finding for one, finding in found.items() if finding} == {}


def misbehave(content: bytes, folder: Path) -> None:
    """Does what an input says, as code does that does not hold."""
    match content:
        case b"memory":
            bytearray(MOST_MEMORY + (1 << 26))
        case b"more memory":
            bytearray(1 << 40)
        case b"refusal of what memory does not suffice for":
            raise InputError("MemoryError")
        case b"two lines":
            sys.stderr.write("error: one\ntwo\n")
        case b"escape":
            sys.stderr.write("error: \x1b[2J\n")
        case b"error":
            int("x")
        case b"file":
            Path("../file").write_bytes(b"")
        case b"folder":
            Path("/folder").mkdir()
        case b"program":
            os.system("true")
        case b"host":
            socket.create_connection(("192.0.2.1", 1))
        case b"exit":
            os._exit(3)
        case b"hang":
            while True:
                pass
        case b"refusal":
            raise InputError("it is refused")


@pytest.mark.parametrize(
    ("does", "what", "place"),
    [
        ("nothing", None, ""),
        ("refusal", None, ""),
        ("memory", "1.1 GB of memory", ""),
        ("more memory", "MemoryError", "MemoryError at tests/fuzzing/test_fuzzing.py"),
        ("refusal of what memory does not suffice for", "memory ran out: 'error: MemoryError", ""),
        ("two lines", "not one printable line: 'error: one", "a line"),
        ("escape", "not one printable line: 'error: ", "a line"),
        ("error", "ValueError: invalid literal for int", "ValueError at tests/fuzzing/test_fuzzing.py"),
        ("file", "open outside of the folder: ", ""),
        ("folder", "os.mkdir outside of the folder: /folder", ""),
        ("program", "os.system", ""),
        ("host", "reaches for '192.0.2.1'", ""),
        ("exit", "the process ended with exit status 3", ""),
        ("hang", "more than 0.5 s", ""),
    ],
)
def test_the_watch_sees_what_code_does_that_does_not_hold_and_goes_on(does: str, what: str | None, place: str) -> None:
    kind = Kind(table=dict, random=lambda random: b"", take=misbehave, seconds=0.5 if does == "hang" else 10)
    with Worker(kind) as worker:
        found = worker.finding(does.encode())
        assert worker.finding(b"nothing") is None
    if what is None:
        assert found is None
    else:
        assert isinstance(found, Finding)
        assert found.what.startswith(what)
        assert found.place.startswith(place)
    assert not Path("/folder").exists()


@pytest.mark.parametrize("seed", range(7))
def test_a_hundred_damaged_images_are_read_or_refused_with_a_reason(seed: int) -> None:
    random = Random(seed)
    refused = 0
    for i in range(100):
        content = damaged(IMAGES[i % len(IMAGES)], random)
        try:
            assert np.asarray(eight_bits(decode(content), 3)).dtype == np.uint8
        except InputError as error:
            assert str(error).startswith("it")
            refused += 1
    assert 20 < refused < 95


@pytest.mark.parametrize("kind", ["zip", "", "gz", "bz2", "xz"])
def test_of_a_hundred_damaged_archives_every_image_is_read_or_named_or_the_archive_is(
    tmp_path: Path, kind: str
) -> None:
    files = {f"cat/{i}.{kind.lower()}": content for i, (kind, content) in enumerate(zip(FORMATS, IMAGES, strict=False))}
    path = tmp_path / "cats"
    whole = (zip_of(path, files) if kind == "zip" else tar_of(path, files, kind)).read_bytes()
    random = Random(0)
    outcomes = {"read": 0, "named": 0, "archive": 0}
    for _ in range(100):
        path.write_bytes(damaged(whole, random))
        try:
            found, rejected = read_archive(path, tmp_path / "spool", pattern="auto", tables=None, processes=1)
        except InputError as error:
            assert str(error).startswith(str(path))
            outcomes["archive"] += 1
            continue
        assert len(found) + len(rejected) == len(files)
        assert all(file.reason for file in rejected)
        outcomes["named" if rejected else "read"] += 1
    assert sum(outcomes.values()) == 100
    assert outcomes["archive"] + outcomes["named"] > 30
