"""`posekit synthesize voc`: pictures of drawn things in the raw layout of PASCAL VOC 2012."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from posekit.artifacts.provenance import Header
from posekit.config.voc import SynthesizeVoc
from posekit.datasets.voc import ANNOTATIONS, INNER, LISTS, PICTURES, SEGMENTS, VOID
from posekit.progress import track
from posekit.stages.report import StageReport
from posekit.stages.studio_folder import check_replaceable, replacing_folder
from posekit.synthetic.things import DrawnThing, draw_room, draw_things

STAGE = "synthesize voc"

_MADE = "made.json"
_NOTICE = "Drawn things in the raw layout of PASCAL VOC 2012; made by posekit, no photographs.\n"
_JPEG_QUALITY = 92
_BORDER_PX = 5
_DIFFICULT_SHARE = 0.1
_UNSEGMENTED_EVERY = 10
"""Every so many pictures have boxes alone, as most of the release's."""


@dataclass(frozen=True, eq=False)
class _Picture:
    name: str
    pixels: UInt8[np.ndarray, "H W 3"]
    things: list[DrawnThing]
    difficult: list[bool]
    segmented: bool


def synthesize_voc(config: SynthesizeVoc) -> StageReport:
    """Draws pictures and writes photographs, segments, annotations and lists.

    The folder is made under another name and takes its own when it is whole. Raises InputError when it holds anything that
    this stage did not make.
    """
    output = Path(config.output)
    header = Header("raw", STAGE, config.settings(), seed=config.seed)
    made = output / _MADE
    if not config.force and _is_made(made, header):
        return StageReport(STAGE, [output], skipped=True, counts={"pictures": config.pictures})
    check_replaceable(output)
    if config.dry_run:
        return StageReport(STAGE, [], notes=[f"would draw {config.pictures} pictures into {output}"])
    counts = {"pictures": 0, "things": 0}
    with replacing_folder(output, _NOTICE) as folder:
        root = folder / INNER[0]
        for inner in (ANNOTATIONS, PICTURES, SEGMENTS, LISTS):
            (root / inner).mkdir(parents=True)
        segmented = []
        for number in track(range(config.pictures), STAGE, total=config.pictures, unit="picture"):
            picture = _drawn(config, number)
            _write(root, picture)
            segmented += [picture.name] * picture.segmented
            counts["pictures"] += 1
            counts["things"] += len(picture.things)
        (root / LISTS / "trainval.txt").write_text("\n".join(segmented) + "\n", encoding="utf-8")
        (folder / _MADE).write_text(json.dumps({"fingerprint": header.fingerprint()}), encoding="utf-8")
    return StageReport(STAGE, [output], counts=counts)


def _is_made(path: Path, header: Header) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["fingerprint"] == header.fingerprint())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _drawn(config: SynthesizeVoc, number: int) -> _Picture:
    rng = np.random.default_rng([config.seed, number])
    sides = (config.size, int(config.size * rng.uniform(0.6, 0.9)))
    height, width = sides if rng.random() < 0.4 else sides[::-1]
    pixels, things = draw_things(draw_room(height, width, rng), int(rng.integers(1, config.things + 1)), rng)
    difficult = [bool(rng.random() < _DIFFICULT_SHARE) for _ in things]
    return _Picture(f"2012_{number + 1:06d}", pixels, things, difficult, (number + 1) % _UNSEGMENTED_EVERY != 0)


def _write(root: Path, picture: _Picture) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    cv2.imwrite(str(root / PICTURES / f"{picture.name}.jpg"), cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2BGR), options)
    tree = ElementTree.ElementTree(_annotation(picture))
    ElementTree.indent(tree)
    tree.write(root / ANNOTATIONS / f"{picture.name}.xml")
    if picture.segmented:
        image = Image.fromarray(_segments(picture), mode="P")
        image.putpalette(_palette())
        image.save(root / SEGMENTS / f"{picture.name}.png")


def _segments(picture: _Picture) -> UInt8[np.ndarray, "H W"]:
    """Numbers of the things from 1, and the border about each of them as void."""
    numbers = np.zeros(picture.pixels.shape[:2], dtype=np.uint8)
    for number, thing in enumerate(picture.things, start=1):
        numbers[thing.mask] = number
    for thing in picture.things:
        numbers[_border(thing.mask)] = VOID
    return numbers


def _border(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    kernel = np.ones((_BORDER_PX, _BORDER_PX), np.uint8)
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0)


def _annotation(picture: _Picture) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _said(root, "filename", f"{picture.name}.jpg")
    size = ElementTree.SubElement(root, "size")
    height, width = picture.pixels.shape[:2]
    for name, value in (("width", width), ("height", height), ("depth", 3)):
        _said(size, name, value)
    _said(root, "segmented", int(picture.segmented))
    for thing, difficult in zip(picture.things, picture.difficult, strict=True):
        node = ElementTree.SubElement(root, "object")
        values = {"name": thing.kind, "pose": "Unspecified", "truncated": int(thing.truncated)}
        for name, value in (values | {"difficult": int(difficult)}).items():
            _said(node, name, value)
        rows, columns = np.flatnonzero(thing.mask.any(axis=1)), np.flatnonzero(thing.mask.any(axis=0))
        box = ElementTree.SubElement(node, "bndbox")
        # Counted from one, both ends included.
        corners = {"xmin": columns[0], "ymin": rows[0], "xmax": columns[-1], "ymax": rows[-1]}
        for name, corner in corners.items():
            _said(box, name, int(corner) + 1)
    return root


def _said(parent: ElementTree.Element, name: str, value: object) -> None:
    ElementTree.SubElement(parent, name).text = str(value)


def _palette() -> list[int]:
    """The colours that PASCAL VOC gives to numbers: their bits, spread over red, green and blue."""
    colours = np.zeros((256, 3), dtype=int)
    for number in range(256):
        for bit in range(8):
            colours[number] |= [
                ((number >> (3 * bit + c)) & 1) << (7 - bit) if 3 * bit + c < 8 else 0 for c in range(3)
            ]
    return [int(value) for value in colours.ravel()]
