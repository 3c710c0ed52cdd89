"""Small images and archives that tests are made of."""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgpipe.data.packed import Form
from imgpipe.model.description import Description


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The image as a file of that kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed: int, size: tuple[int, int] = (12, 10)) -> Image.Image:
    """A colour image of random pixels, unlike any of another seed."""
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(levels)


def photo(seed: int = 0, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Part of a real photo, of scikit-learn's."""
    from sklearn.datasets import load_sample_image

    whole = Image.fromarray(load_sample_image("china.jpg" if seed % 2 else "flower.jpg"))
    left, top = np.random.default_rng(seed).integers(0, [whole.width - size[0], whole.height - size[1]]).tolist()
    return whole.crop((left, top, left + size[0], top + size[1]))


def png(width: int, height: int, *, colour: int = 0, bits: int = 8, chunks: bytes = b"", rows: bytes = b"") -> bytes:
    """A PNG whose header promises so many pixels, with these rows behind it, or hardly any."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    content = chunk(b"IDAT", zlib.compress(rows or bytes(99)))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + content + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def palette_beyond_its_end() -> bytes:
    """A PNG whose palette says how transparent 257 colours are."""
    palette = chunk(b"PLTE", bytes(range(256)) * 3) + chunk(b"tRNS", bytes(257))
    return png(2, 2, colour=3, chunks=palette, rows=bytes(6))


def zip_of(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, files: Mapping[str, bytes], compression: str = "") -> Path:
    with tarfile.open(path, f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def form(**changes: Any) -> Form:
    """Grey images of 8 pixels, raw, but for the changes."""
    return replace(Form(image_size=8, enlarge=True, channels=1, encoding="raw", jpeg_quality=90, levels=1), **changes)


def described(**changes: Any) -> Description:
    """A small network for grey images of 8 pixels in two classes, in fp32 on a CPU, but for the changes."""
    small = Description(
        model="simple_cnn",
        dropout=0.0,
        classes=["a", "b"],
        form=form(),
        size=8,
        crop_fraction=1.0,
        fit="crop",
        initial_weights="none",
        channels_last=True,
        device="cpu",
        kernels="portable",
        precision="fp32",
        cpu_threads=1,
        flips=False,
        temperature=1.0,
        threshold=None,
        set_thresholds={},
        val_images=0,
    )
    return replace(small, **changes)
