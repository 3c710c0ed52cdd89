"""Odd files made of good ones: every number of a file's structure takes every odd value, and every piece moves."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

Make = Callable[[], bytes]
Table = dict[str, Make]
"""Makes inputs, by what is odd about each."""


@dataclass(frozen=True)
class Field:
    """A number in a file."""

    name: str
    at: int
    """Where it begins."""
    form: str
    """As struct has it, such as ``<I``; without a sign."""


@dataclass(frozen=True)
class Good:
    """A good file, and where its numbers and its pieces are."""

    content: bytes
    fields: Sequence[Field]
    pieces: Mapping[str, slice] = field(default_factory=dict)
    """Chunks, segments, boxes and the like, by name."""
    mended: Callable[[bytes], bytes] = bytes
    """Makes checksums right again, so that what is odd is looked at."""


def odd_numbers(form: str, now: int) -> dict[str, int]:
    """What a number may become, by name: the ends of its range, signed or not, and what lies beside what it is."""
    top = 1 << 8 * struct.calcsize(form)
    values = {0, 1, top - 1, top >> 1, (top >> 1) - 1, (now + 1) % top, (now - 1) % top, top >> 4, now * 2 % top}
    return {f"{value:#x}": value for value in sorted(values - {now})}


def with_number(good: Good, one: Field, value: int) -> bytes:
    changed = bytearray(good.content)
    struct.pack_into(one.form, changed, one.at, value)
    return good.mended(bytes(changed))


MOVES: dict[str, Callable[[bytes, slice], bytes]] = {
    "left out": lambda data, at: data[: at.start] + data[at.stop :],
    "twice": lambda data, at: data[: at.stop] + data[at.start :],
    "a thousand times": lambda data, at: data[: at.start] + data[at] * 1000 + data[at.stop :],
    "zeros": lambda data, at: data[: at.start] + bytes(at.stop - at.start) + data[at.stop :],
    "ones": lambda data, at: data[: at.start] + b"\xff" * (at.stop - at.start) + data[at.stop :],
    "first": lambda data, at: data[at] + data[: at.start] + data[at.stop :],
    "last": lambda data, at: data[: at.start] + data[at.stop :] + data[at],
    "within itself": lambda data, at: data[: (at.start + at.stop) // 2] + data[at] + data[(at.start + at.stop) // 2 :],
    "the end": lambda data, at: data[: at.stop],
    "cut": lambda data, at: data[: (at.start + at.stop) // 2],
}


def table_of(name: str, good: Good) -> Table:
    """Every number of a good file with every odd value, and every piece moved in every way."""
    table: Table = {}
    for one in good.fields:
        (now,) = struct.unpack_from(one.form, good.content, one.at)
        for shown, value in odd_numbers(one.form, now).items():
            table[f"{name}: {one.name} = {shown}"] = partial(with_number, good, one, value)
    for piece, at in good.pieces.items():
        for how, move in MOVES.items():
            table[f"{name}: {piece} {how}"] = partial(_moved, good, move, at)
    return table


def _moved(good: Good, move: Callable[[bytes, slice], bytes], at: slice) -> bytes:
    return good.mended(move(good.content, at))


def randomly_changed(good: Good, random: Random) -> bytes:
    """A few numbers odd, perhaps a piece moved, perhaps damaged."""
    content = bytearray(good.content)
    for one in random.sample(list(good.fields), min(len(good.fields), random.randrange(4))):
        (now,) = struct.unpack_from(one.form, content, one.at)
        some = random.choice([*odd_numbers(one.form, now).values(), random.getrandbits(8 * struct.calcsize(one.form))])
        struct.pack_into(one.form, content, one.at, some)
    changed = bytes(content)
    if good.pieces and random.random() < 0.3:
        changed = random.choice(list(MOVES.values()))(changed, random.choice(list(good.pieces.values())))
    changed = good.mended(changed)
    return damaged(changed, random) if random.random() < 0.3 else changed


def damaged(content: bytes, random: Random) -> bytes:
    """Bytes flipped, a piece cut out, the end cut off, two pieces swapped or one written over with noise."""
    if not content:
        return content
    data = bytearray(content)
    a, b = sorted((random.randrange(len(data)), random.randrange(len(data))))
    match random.randrange(5):
        case 0:
            for _ in range(random.randrange(1, 9)):
                data[random.randrange(len(data))] ^= random.randrange(1, 256)
        case 1:
            del data[a : min(b, a + 200)]
        case 2:
            del data[a:]
        case 3:
            half = (a + b) // 2
            data[a:b] = data[half:b] + data[a:half]
        case _:
            length = min(16, len(data) - a)
            data[a : a + length] = random.randbytes(length)
    return bytes(data)


def numbers_at(prefix: str, at: int, forms: Mapping[str, str]) -> Iterator[Field]:
    """Numbers that stand one behind the other, by name and form, from ``at`` on; what begins with _ is passed over."""
    for name, form in forms.items():
        if not name.startswith("_"):
            yield Field(f"{prefix}{name}", at, form)
        at += struct.calcsize(form)
