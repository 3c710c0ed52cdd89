"""Write what stands beside an exported file: how images are prepared, a reference, and a program that does it all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from imgpipe.commands.exported import INPUT, OUTPUT
from imgpipe.commands.inference import network_input
from imgpipe.common.files import write_text
from imgpipe.data.images import MODES
from imgpipe.data.packed import Pixels
from imgpipe.model.description import Description

PACKAGES = {".onnx": "onnxruntime", ".pt2": "torch"}
"""What the example program runs a file by, by the file's ending."""
REFERENCE = "reference.png"
REFERENCE_SIZE = (401, 299)
"""Width and height: odd ones, so that every rounding of the preparation shows."""
FILTER = (
    "bilinear and antialiased: where the image shrinks, each pixel is a mean of all that it covers, weighted by a "
    "triangle; Pillow's Image.Resampling.BILINEAR"
)


def reference_image() -> Image.Image:
    """Draw an image in colour, the same for all models: waves of several lengths, a disc and a bar."""
    width, height = REFERENCE_SIZE
    y, x = np.mgrid[:height, :width]
    waves = [((x * a + y * b) // c) % 256 for a, b, c in ((3, 1, 4), (-1, 2, 1), (7, -5, 3))]
    levels = np.stack([np.where(wave < 128, 2 * wave, 510 - 2 * wave) for wave in waves], axis=2)
    levels[(x - 140) ** 2 + (y - 130) ** 2 < 70**2] = (230, 60, 40)
    levels[(abs(x - 290) < 23) & (abs(y - 170) < 90)] = (20, 90, 200)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def write_reference(folder: Path, description: Description) -> Pixels:
    """Write reference.png and reference.npy: an image, and what the network sees of it.

    Returns the latter, uint8 (1, size, size, channels).
    """
    path = folder / REFERENCE
    reference_image().save(path, "PNG")
    tensor = network_input(path.read_bytes(), description)[None]
    np.save(folder / "reference.npy", tensor)
    return tensor


def write_specification(folder: Path, description: Description, probabilities: NDArray[np.float64]) -> None:
    """Write preprocessing.json: how an image becomes the input, and what the output means.

    probabilities: that the model gives the reference, (classes,).
    """
    size, channels = description.size, description.form.channels
    specification = {
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "layout": "NHWC",
            "shape": ["batch", size, size, channels],
            "colours": "RGB" if channels == 3 else "grey",
            "says": "Levels from 0 to 255, as the steps leave them. The model itself normalises them.",
        },
        "output": {
            "name": OUTPUT,
            "dtype": "float32",
            "shape": ["batch", len(description.classes)],
            "says": "The probability of each class, in the order of classes. Each row sums to 1.",
        },
        "classes": description.classes,
        "steps": _steps(description),
        "reference": {
            "image": REFERENCE,
            "tensor": "reference.npy",
            "probabilities": probabilities.tolist(),
            "says": "The tensor that the steps make of the image, and what the model gives for it in fp32 on a CPU.",
        },
        "model": description.as_json(),
    }
    write_text(folder / "preprocessing.json", json.dumps(specification, indent=2, ensure_ascii=False) + "\n")


def _steps(description: Description) -> list[dict[str, Any]]:
    """Return the steps from a file to the input, in order, each with its numbers and a sentence or two."""
    form, size = description.form, description.size
    grey = "to grey, (19595 R + 38470 G + 7471 B + 32768) / 65536 rounded down (ITU-R 601)"
    steps: list[dict[str, Any]] = [
        {
            "step": "decode",
            "says": "Decode the file; of an animation the first frame. Turn it upright as its EXIF orientation says.",
        },
        {
            "step": "eight_bits",
            "mode": MODES[form.channels],
            "says": "Grey of 16 bits is divided by 257 and rounded. Of an image with transparency, what shows when it "
            f"lies on white is taken. Then it is brought {'to RGB' if form.channels == 3 else grey}, with 8 bits.",
        },
        {
            "step": "resize",
            "short_side": form.image_size,
            "enlarge": form.enlarge,
            "filter": FILTER,
            "says": f"scale = {form.image_size} / short side; width = round(width * scale), height = "
            "round(height * scale), where halves go to the even number. An image whose short side is shorter "
            + ("is enlarged likewise." if form.enlarge else "stays as it is."),
        },
    ]
    if form.encoding == "jpeg":
        steps.append(
            {
                "step": "jpeg",
                "quality": form.jpeg_quality,
                "says": "Encode it as JPEG with this quality (Pillow's default subsampling of colours, 4:2:0) and "
                "decode that: the model was trained on such images. JPEG decoders may differ by a level or two.",
            }
        )
    return [*steps, {"step": description.fit, "size": size, "filter": FILTER, **_fit(description)}]


def _fit(description: Description) -> dict[str, Any]:
    """Return how the resized image becomes a square."""
    size = description.size
    if description.fit == "squash":
        return {"says": f"Resize the whole image to {size} x {size}, whatever its proportions."}
    if description.fit == "pad":
        return {
            "says": f"scale = {size} / long side; resize to max(1, round(width * scale)) x "
            f"max(1, round(height * scale)), where halves go to the even number; lay it on "
            f"a black square of {size} x {size}, with (size - height) // 2 rows above and "
            "(size - width) // 2 columns to its left."
        }
    return {
        "fraction": description.crop_fraction,
        "says": f"side = max(1, round(short side * {description.crop_fraction})), where a half goes to the even "
        "number; cut the square of that side out of the middle, from row (height - side) // 2 and column "
        f"(width - side) // 2; resize it to {size} x {size} where its side is another.",
    }


def write_readme(folder: Path, description: Description, files: list[str]) -> None:
    """Write README.md: what the files of the folder are, and how to use them.

    files: names of the exported files.
    """
    size, channels, package = description.size, description.form.channels, PACKAGES[Path(files[0]).suffix]
    lines = [
        f"# A classifier of {len(description.classes)} classes, as {' and '.join(files)}",
        "",
        f"    pip install numpy pillow {package}",
        "    python example.py photo.jpg ...    # the likeliest class of each image, and its probability",
        "    python example.py                  # checks that this machine answers as it should",
        "",
        "`example.py` is written for this model: take its `tensor_of` and `probabilities_of` into your program.",
        f"The model takes `{INPUT}`, uint8 (n, {size}, {size}, {channels}), of any number of images, and gives "
        f"`{OUTPUT}`, float32 (n, {len(description.classes)}).",
        "Its classes, in order, and each step from an image file to the input are in `preprocessing.json`; "
        f"`{REFERENCE}` and `reference.npy` are an image and its input, to check another program by.",
        "How good the model is, and on what, is in `model_card.md`, where that is here.",
    ]
    write_text(folder / "README.md", "\n".join(lines) + "\n")


def write_example(folder: Path, description: Description, file: str) -> None:
    """Write example.py, a program that classifies images with the exported file and checks itself by the reference.

    file: its name, which ends in .onnx or .pt2.
    """
    template = Path(f"{__file__}.jinja")
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Python
    )
    form = description.form
    program = environment.get_template(template.name).render(
        file=file,
        package=PACKAGES[Path(file).suffix],
        size=description.size,
        channels=form.channels,
        mode=MODES[form.channels],
        packed_size=form.image_size,
        enlarge=form.enlarge,
        jpeg_quality=form.jpeg_quality if form.encoding == "jpeg" else None,
        fit=description.fit,
        crop_fraction=description.crop_fraction,
        classes=len(description.classes),
    )
    write_text(folder / "example.py", program)
