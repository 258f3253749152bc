"""The segmented pictures of PASCAL VOC 2012: which objects they show, and the pixels of each."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError

from posekit.errors import FormatError, MissingFileError

ANNOTATIONS, PICTURES, SEGMENTS, LISTS = "Annotations", "JPEGImages", "SegmentationObject", "ImageSets/Segmentation"
INNER = ("VOCdevkit/VOC2012", "VOC2012", "")
"""Where the release may lie below the folder that is given."""

VOID = 255
"""The border between objects in the pictures of segments, which belongs to none."""


@dataclass(frozen=True)
class Thing:
    """What an annotation says of one object; `number` is its colour in the picture of segments."""

    category: str
    number: int
    difficult: bool
    truncated: bool


@dataclass(frozen=True)
class Release:
    """The segmented pictures by name, in order, and what is missing of them."""

    root: Path
    names: tuple[str, ...]
    problems: tuple[str, ...]


def open_release(raw: Path) -> Release:
    """Finds the release below a folder. Raises MissingFileError where there is none."""
    root = next((raw / inner for inner in INNER if (raw / inner / ANNOTATIONS).is_dir()), None)
    if root is None:
        raise MissingFileError(
            f"no release of PASCAL VOC in {raw}", accepted=f"a folder with {ANNOTATIONS}, {PICTURES} and {SEGMENTS}"
        )
    names = sorted(path.stem for path in (root / SEGMENTS).glob("*.png"))
    listed = root / LISTS / "trainval.txt"
    if listed.is_file():
        names = sorted({*names, *listed.read_text(encoding="utf-8").split()})
    problems = [
        f"missing: {path.relative_to(root)}" for name in names for path in files_of(root, name) if not path.is_file()
    ]
    if not names:
        problems.append(f"missing: {SEGMENTS}/*.png")
    return Release(root, tuple(names), tuple(problems))


def files_of(root: Path, name: str) -> tuple[Path, Path, Path]:
    """Annotation, picture and segments of one picture."""
    return root / ANNOTATIONS / f"{name}.xml", root / PICTURES / f"{name}.jpg", root / SEGMENTS / f"{name}.png"


def read_things(path: Path) -> list[Thing]:
    """The objects of an annotation in their order; FormatError for a file of another form."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not XML", got=error) from error
    things = []
    for number, node in enumerate(root.findall("object"), start=1):
        category = (node.findtext("name") or "").strip()
        if not category:
            raise FormatError(f"an object of {path} has no name", got=f"object {number}")
        things.append(Thing(category, number, _flag(node, "difficult"), _flag(node, "truncated")))
    return things


def _flag(node: ElementTree.Element, name: str) -> bool:
    return (node.findtext(name) or "0").strip() not in ("0", "")


def read_segments(path: Path) -> UInt8[np.ndarray, "H W"]:
    """The numbers of a picture of segments; its colours stand for nothing. FormatError for a picture of another kind."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise FormatError(f"{path} has no palette", got=f"mode {image.mode}", accepted="an indexed PNG")
            return np.array(image, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise FormatError(f"{path} cannot be read", got=error, accepted="an indexed PNG") from error


def masks_of(
    segments: UInt8[np.ndarray, "H W"], things: Sequence[Thing]
) -> Iterator[tuple[Thing, Bool[np.ndarray, "H W"]]]:
    """Each object with its pixels; the border between objects belongs to none."""
    for thing in things:
        if thing.number < VOID:
            yield thing, np.asarray(segments == thing.number)
