"""Odd params.yaml files; ``stages.check`` takes them."""

from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import yaml
from common.test_params_sweep import VALUES, as_it_comes
from fuzzing import fields, trees
from fuzzing.fields import Table
from fuzzing.watched import Kind

from stages.check import check

TEXTS = {
    "an alias of itself": "&a [*a]", "an alias": "*a", "an anchor": "&a 1",
    "laughs": "{a: &a [1, 1], b: &b [*a, *a], c: &c [*b, *b], d: [*c, *c]}",
    "an object": "!!python/object/apply:os.system ['true']", "a name": "!!python/name:os.system",
    "a module": "!!python/module:os", "a tuple": "!!python/tuple [1]", "bytes": "!!binary aGFsbG8=",
    "a set": "!!set {a, b}", "pairs": "!!pairs [a: 1]", "omap": "!!omap [a: 1]", "a tag": "!a b",
    "a long tag": f"!<{'a' * 9999}> b", "text by tag": "!!str 1", "a number by tag": "!!int x",
    "null by tag": "!!null x", "a time by tag": "!!timestamp x", "10,000 digits": "1" * 10_000,
    "-10,000 digits": f"-{'9' * 10_000}", "10,000 places": f"0.{'1' * 10_000}", "10,000 zeros": f"1{'0' * 10_000}.0",
    "10^99999": "1e99999", "hexadecimal": "0x10", "a long hexadecimal": f"0x{'f' * 9999}", "octal": "0o17",
    "binary": "0b1", "sixties": "1:30", "long sixties": ":".join(["59"] * 9999), "1_0": "1_0", "a time": "2001-12-14",
    "an impossible time": "2001-99-99", "year 0": "0000-01-01", ".nan": ".nan", ".inf": ".inf", "-.INF": "-.INF",
    "yes": "yes", "~": "~", "3,000 lists": "[" * 3000 + "]" * 3000, "3,000 mappings": "{a: " * 3000 + "}" * 3000,
    "an open list": "[1, 2", "100,000 brackets": "[" * 100_000, "a merge key": "{<<: {a: 1}}",
    "a merged list": "{<<: [{a: 1}, {b: 2}]}", "a merged text": "{<<: a}", "a key twice": "{a: 1, a: 2}",
    "a list as key": "{[1]: 2}", "a mapping as key": "{{a: 1}: 2}", "null as key": "{null: 1}",
    "a number as key": "{1: 2, 1.5: 3, true: 4}", "a time as key": "{2001-12-14: 1}",
    "NaN as key": "{.nan: 1, .NaN: 2}", "a million letters": "a" * 1_000_000,
    "a million letters in quotes": f"'{'a' * 1_000_000}'",
    "100,000 keys": "{" + ", ".join(f"k{i}: 1" for i in range(100_000)) + "}",
    "100,000 values": "[" + ", ".join(["1"] * 100_000) + "]", "a NUL": '"\\0"', "an escape": '"\\e[2J"',
    "half a surrogate": '"\\uD800"', "beyond Unicode": '"\\UFFFFFFFF"', "lines": '"a\\nb"',
    "a block": "|\n    a\n    b", "a folded block": ">\n    a", "a tab": "\ta", "a comment": "# nothing",
    "nothing": "", "?": "? a", "-": "- a", "%": "%YAML 9.9", "a document": "1\n--- \nb: 1\n",
    "the end": "1\n...\nb: 1", "a reference": "${a}", "a nested reference": "${oc.env:${oc.env:HOME}}",
    "half a reference": "${", "an escaped reference": "\\${a}", "decoding": "${oc.decode:'1'}",
    "creating": "${oc.create:{a: 1}}", "???": "'???'", "@": "@", "`": "`", "*": "*", "&": "&", "!": "!",
}  # fmt: skip
"""What may stand in a value's place, as YAML."""
MARK = "@here@"
"""Stands for such text."""


def written(tree: Any) -> bytes:
    text: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=False, width=1 << 30)
    return text.replace(trees.DIGITS, "1" + "0" * 5000).encode()


def with_value(tree: Any, path: trees.Path, value: Any) -> bytes:
    return written(trees.with_value(tree, path, value))


def with_text(tree: Any, path: trees.Path, text: str) -> bytes:
    marked: str = yaml.safe_dump(trees.with_value(tree, path, MARK), sort_keys=False)
    return marked.replace(f"'{MARK}'", text).encode("utf-8", "surrogatepass")


PLACES: list[trees.Path] = [
    (),
    ("runtime",),
    ("runtime", "processes"),
    ("download", "location"),
    ("download", "sha256"),
    ("prepare", "class_names"),
    ("prepare", "class_map"),
    ("prepare", "seed"),
    ("model", "name"),
    ("train", "optimizer"),
    ("train", "optimizer", "name"),
    ("train", "optimizer", "sgd", "lr"),
    ("train", "class_weights", "given", "weights"),
    ("train", "schedule", "multi_step", "milestones"),
    ("plot", "dpi"),
]
"""Values of every type, in whose places any YAML stands."""


def table() -> Table:
    good = as_it_comes()
    cases = trees.odd_trees(good, written)
    for path in trees.places(good):
        for kind, values in VALUES.items():
            for value in values:
                shown = f"{trees.shown(path)} is {kind}: {str(value)[:40]}"
                cases[shown] = partial(with_value, good, path, value)
    for path in PLACES:
        for shown, text in TEXTS.items():
            cases[f"{trees.shown(path)} = {shown}, as YAML"] = partial(with_text, good, path, text)
    return cases | {shown: partial(bytes, content) for shown, content in odd_files(written(good)).items()}


def odd_files(text: bytes) -> dict[str, bytes]:
    """Files that are odd as a whole, made of a good one's text."""
    encodings = {name: text.decode().encode(name) for name in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7")}
    others = {
        "empty": b"", "NULs": bytes(100), "no UTF-8": text + b"\xff", "Latin-1": text + b"# \xe9\n",
        "twice": text + text, "two documents": text + b"---\n" + text,
        "lines of Windows": text.replace(b"\n", b"\r\n"), "lines of the Mac": text.replace(b"\n", b"\r"),
        "tabs": text.replace(b"  ", b"\t"), "no line end": text.rstrip(),
        "a line of a megabyte": text + b"#" * (1 << 20), "a million lines": text + b"\n" * 1_000_000,
        "a million comments": text + b"#\n" * 1_000_000, "a list": b"- 1\n", "a number": b"1", "text": b"abc",
        "null": b"null", "alone": b"runtime: 1", "a byte 85": text + b"\xc2\x85: 1\n", "a zip": b"PK\3\4" + bytes(99),
        "2,000 levels by indent": b"".join(b" " * i + b"a:\n" for i in range(2000)),
        "a tag": b"%TAG ! tag:x\n---\n" + text,
    }  # fmt: skip
    return encodings | others


def random(random: Random) -> bytes:
    tree = trees.randomly_changed(as_it_comes(), random)
    if random.random() < 0.4:
        path = random.choice(list(trees.places(tree)))
        content = with_text(tree, path, random.choice(list(TEXTS.values())))
    else:
        content = written(tree)
    return fields.damaged(content, random) if random.random() < 0.3 else content


def take(content: bytes, folder: Path) -> None:
    Path("params.yaml").write_bytes(content)
    check()
    assert [path.name for path in folder.iterdir()] == ["params.yaml"]


KIND = Kind(table, random, take, seconds=5)
