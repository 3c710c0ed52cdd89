import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from imgpipe.common import params
from imgpipe.common import stage as command
from imgpipe.common.files import read_table, replacing_folder, write_text
from imgpipe.common.rules import Interval
from imgpipe.data.packed import Statistics, read_split
from imgpipe.data.parallel import cores
from imgpipe.pack.pack import image_reader, mean_and_std
from imgpipe.pack.pack import pack as pack_images


@dataclass(frozen=True)
class Pack:
    """params.yaml: pack."""

    image_size: Annotated[int, Interval(low=8, high=4096)]
    enlarge: bool
    channels: Literal[1, 3]
    encoding: Literal["raw", "jpeg"]
    jpeg_quality: Annotated[int, Interval(1, 100)]


def pack() -> None:
    """Decode and resize every image once, into one array for each split.

    Reads data/prepared and data/images.csv; writes data/packed/<split> and data/packed/statistics.json.
    """
    section = params.read("pack", Pack)
    table = read_table(Path("data/images.csv"))
    classes = sorted({row["label"] for row in table})
    read = image_reader(Path("data/prepared"))
    packed = Path("data/packed")
    with ExitStack() as finished:  # no split is replaced before all are packed
        for split in sorted({row["split"] for row in table}):
            pack_images(
                [row for row in table if row["split"] == split],
                read,
                finished.enter_context(replacing_folder(packed / split)),
                classes=classes,
                image_size=section.image_size,
                enlarge=section.enlarge,
                channels=section.channels,
                encoding=section.encoding,
                jpeg_quality=section.jpeg_quality,
                processes=cores(),
            )
    train = read_split(packed / "train", channels=section.channels, encoding=section.encoding)
    mean, std = mean_and_std(train, threads=cores())
    statistics = Statistics(classes=classes, **vars(section), mean=mean, std=std)
    write_text(packed / "statistics.json", json.dumps(asdict(statistics), indent=2) + "\n")


if __name__ == "__main__":
    command.run(pack)
