"""Odd archives: zip, and tar plain, gz, bz2 and xz; ``read_archive`` of prepare takes them."""

import itertools
from functools import partial
from pathlib import Path
from random import Random

from fuzzing import fields
from fuzzing.archived import FILES, NAMES
from fuzzing.fields import Good, Table, table_of
from fuzzing.tars import (
    CELLS,
    HEADER,
    PRESSES,
    RECORDS,
    REST,
    TYPES,
    good_tar,
    odd_tars,
    pax_record,
    tar_bomb,
    tar_member,
)
from fuzzing.watched import Kind
from fuzzing.zips import METHODS, extras, good_zip, zip_bomb, zip_named, zip_with_extra

from imgpipe.prepare.reading import read_archive

GOOD = {
    **{f"zip {name}": good_zip(method) for name, method in METHODS.items()},
    **{f"tar {kind}": good_tar(kind) for kind in ("gz", "bz2", "xz")},
    "tar": Good(
        b"".join(tar_member(n.encode(), c) for n, c in FILES.items()) + bytes(1024),
        [],
        {"first member": slice(0, 1024), "first header": slice(0, 512), "all but the end": slice(0, 2560)},
    ),
}


def table() -> Table:
    cases: Table = {}
    for name, good in GOOD.items():
        cases |= table_of(name, good)
    for shown, text in NAMES.items():
        if text:
            cases[f"zip: name is {shown}"] = partial(zip_named, text)
    for shown, extra in extras().items():
        cases[f"zip: extra is {shown}"] = partial(zip_with_extra, extra)
    for megabytes, said, copies in ((1100, 1000, 1), (1100, 1100 << 20, 1), (200, 200 << 20, 12), (1, 1 << 20, 65_000)):
        said_in_words = f"{megabytes} MB said to be {said} bytes, {copies} times"
        cases[f"zip: {said_in_words}"] = partial(zip_bomb, megabytes, said, copies)
    for shown, tar in odd_tars():
        cases[f"tar: {shown}"] = partial(bytes, tar)
    for press, kind, megabytes in itertools.product(("gz", "bz2", "xz"), (b"0", b"x", b"g", b"L"), (200, 1100)):
        shown = f"tar {press}: {megabytes} MB of zeros of type {kind.decode()}"
        cases[shown] = partial(tar_bomb, PRESSES[press], kind, megabytes)
    return cases


def random(random: Random) -> bytes:
    name = random.choice(list(GOOD))
    if name == "tar" or random.random() < 0.3:
        members = [_random_member(random) for _ in range(random.randrange(1, 5))]
        press = PRESSES[random.choice(list(PRESSES))]
        content = press(b"".join(members) + random.choice([REST, bytes(1024), b""]))
        return fields.damaged(content, random) if random.random() < 0.3 else content
    return fields.randomly_changed(GOOD[name], random)


def _random_member(random: Random) -> bytes:
    name, content = random.choice(list(FILES.items()))
    if random.random() < 0.3:
        words = random.choices(list(RECORDS), k=random.randrange(1, 4))
        text = b"".join(pax_record(word, random.choice(RECORDS[word])) for word in words)
        return tar_member(b"pax", text, random.choice([b"x", b"g"]))
    odd = {key: random.choice(list(CELLS.values())) for key in random.sample(list(HEADER), 2)}
    return tar_member(name.encode(), content, bytes([random.choice(TYPES)]), odd)


def take(content: bytes, folder: Path) -> None:
    """Every file is read or named with a reason, and what is read lies in the spool."""
    archive, spool = folder / "archive", folder / "spool"
    archive.write_bytes(content)
    found, rejected = read_archive(archive, spool, pattern="auto", tables=None, processes=1)
    size = spool.stat().st_size
    assert all(0 <= image.offset <= image.offset + image.bytes <= size for image in found)
    assert all(file.reason and len(file.reason.splitlines()) == 1 for file in rejected)
    assert sorted(path.name for path in folder.iterdir()) == ["archive", "spool"]


KIND = Kind(table, random, take, seconds=20)
