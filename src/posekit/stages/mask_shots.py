"""The pictures of a data set with their people, and where the pixels of each picture come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from posekit.artifacts.files import Artifact
from posekit.datasets.coco import ImageFinder
from posekit.datasets.crops import decode_image
from posekit.datasets.media import is_image, open_frames, read_image
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.evaluation.keys import Keys
from posekit.records import cameras_from_columns, clips_from_columns

Image = UInt8[np.ndarray, "H W 3"]

COCO_STAGE = "preprocess coco"


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture and the people that the data set has in it; `rows` are theirs in the table `samples`."""

    sequence: int
    frame: int
    camera: int
    rows: Int[np.ndarray, "P"]
    people: Int[np.ndarray, "P"]
    boxes: Float[np.ndarray, "P 4"]


@dataclass(frozen=True, eq=False)
class Sight:
    """Pixels to look for people in; `crop_from_image` is None where these are the whole original image.

    `person` is the place in the shot of whom a crop was cut for.
    """

    image: Image
    crop_from_image: Float[np.ndarray, "2 3"] | None = None
    person: int = 0


class Pictures:
    """A data set's pictures: their order, names and sizes; used for as long as the artifact is open."""

    def __init__(self, dataset: Artifact) -> None:
        self.dataset = dataset
        self.stills = bool(dataset.header.facts.get("stills", False))
        """Whether pictures are single ones, which may differ in size."""
        self.of_coco = dataset.header.stage == COCO_STAGE
        self.clips = clips_from_columns(dataset.table("sequences"))
        self.cameras = cameras_from_columns(dataset.table("cameras"))
        videos = dataset.table("videos")
        self.paths = {
            (int(sequence), int(camera)): str(path)
            for sequence, camera, path in zip(
                *(videos.get(name, ()) for name in ("sequence", "camera", "path")), strict=True
            )
        }

    def shots(self) -> list[Shot]:
        """All pictures in the order of sequence, camera and frame; their people in the order of their numbers."""
        keys = Keys.read(self.dataset, "samples")
        boxes = self.dataset.read("samples", "bbox").astype(np.float64)
        order = np.lexsort((keys.person, keys.frame, keys.camera, keys.sequence))
        names = np.stack([keys.sequence, keys.camera, keys.frame], axis=1)[order]
        starts = np.flatnonzero(np.any(np.diff(names, axis=0, prepend=names[:1] - 1), axis=1))
        return [
            Shot(int(names[begin, 0]), int(names[begin, 2]), int(names[begin, 1]), rows, keys.person[rows], boxes[rows])
            for begin, rows in zip(starts, np.split(order, starts[1:]), strict=True)
        ]

    def size(self, shot: Shot) -> tuple[int, int] | None:
        """Height and width of a picture where the camera says it; None for single pictures."""
        return None if self.stills else self.camera_size(shot)

    def camera_size(self, shot: Shot) -> tuple[int, int]:
        """Height and width of the camera's images; of cameras that stand for many pictures, the largest."""
        camera = self.cameras[shot.camera]
        return camera.height, camera.width

    def name(self, shot: Shot) -> str:
        """What files that belong to a picture are called, without ending.

        The path of a single picture; pictures of COCO `SEQUENCE/NUMBER` with twelve digits; frames `SEQUENCE/CAMERA/FRAME`
        with six digits, numbered from 0, without `CAMERA` where it has the name of the sequence.
        """
        path = self.paths.get((shot.sequence, shot.camera))
        sequence = self.clips[shot.sequence].name
        if path is not None and self.stills:
            return str(Path(path).with_suffix(""))
        if self.of_coco:
            return f"{sequence}/{shot.frame:012d}"
        camera = self.cameras[shot.camera].name
        return "/".join(dict.fromkeys((sequence, camera))) + f"/{shot.frame:06d}"


class Originals:
    """The original images of a data set, below the folder that preprocess read."""

    def __init__(self, pictures: Pictures, root: Path) -> None:
        self._pictures = pictures
        self._root = root
        self._find = ImageFinder(root) if pictures.of_coco else None

    def __len__(self) -> int:
        """How many videos and folders are known; 0 where nothing says what the frames are called."""
        return len(self._pictures.paths) + (self._find is not None)

    def sights(self, shots: Sequence[Shot]) -> Iterator[tuple[Shot, list[Sight] | InputError]]:
        """The image of each shot, or why there is none; shots must be in their order."""
        for (sequence, camera), group in groupby(shots, key=lambda shot: (shot.sequence, shot.camera)):
            mine = list(group)
            path = self._pictures.paths.get((sequence, camera))
            if self._find is not None:
                yield from ((shot, self._single(self._of_coco, shot)) for shot in mine)
            elif path is None:
                yield from ((shot, MissingFileError("no video is known of this view")) for shot in mine)
            elif is_image(path) and (self._root / path).is_file():
                yield from ((shot, self._single(self._upright, shot)) for shot in mine)
            else:
                yield from self._of_video(self._root / path, mine)

    def _of_video(self, path: Path, shots: Sequence[Shot]) -> Iterator[tuple[Shot, list[Sight] | InputError]]:
        first = None if path.is_file() else self._pictures.dataset.header.facts.get("first_frame_number")
        waiting = list(shots)
        while waiting:
            try:
                with open_frames(path, first=first) as source:
                    for _, image in source.frames([shot.frame for shot in waiting]):
                        yield waiting.pop(0), [Sight(image)]
            except InputError as error:
                # What follows a lost frame of a folder is there all the same; a damaged video ends.
                lost = 1 if path.is_dir() or "*" in path.name else len(waiting)
                yield from ((shot, error) for shot in waiting[:lost])
                waiting = waiting[lost:]

    def _single(self, read: Callable[[Shot], Image], shot: Shot) -> list[Sight] | InputError:
        try:
            return [Sight(read(shot))]
        except InputError as error:
            return error

    def _upright(self, shot: Shot) -> Image:
        return read_image(self._root / self._pictures.paths[shot.sequence, shot.camera])

    def _of_coco(self, shot: Shot) -> Image:
        file = None if self._find is None else self._find(shot.frame, "")
        if file is None:
            raise MissingFileError("picture not found", got=f"number {shot.frame} below {self._root}")
        # Annotations are in the pixels of the file as stored.
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            content = np.fromfile(file, dtype=np.uint8)
        except OSError as error:
            raise FormatError("a picture cannot be read", got=f"{file}: {error}") from error
        image = cv2.imdecode(content, flags) if content.size else None
        if image is None:
            raise FormatError("a picture cannot be read", got=file)
        return image


class Crops:
    """The crops that a data set stores, one for each person."""

    def __init__(self, dataset: Artifact) -> None:
        self._dataset = dataset

    def sights(self, shots: Sequence[Shot]) -> Iterator[tuple[Shot, list[Sight] | InputError]]:
        """The crops of each shot's people, or why one of them cannot be used."""
        for shot in shots:
            maps = self._dataset.read("samples", "crop_from_image", shot.rows).astype(np.float64)
            stored = self._dataset.read_ragged("samples", "image", shot.rows)
            try:
                crops = [decode_image(one) for one in stored]
            except FormatError as error:
                yield shot, error
                continue
            yield (
                shot,
                [Sight(crop, place, row) for row, (crop, place) in enumerate(zip(crops, maps, strict=True))],
            )
