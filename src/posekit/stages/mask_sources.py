"""Where `posekit pseudo-label masks` has its masks from: pictures, silhouettes, or the studio's truth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float

from posekit.artifacts.files import Artifact
from posekit.datasets.h36m_masks import SilhouetteFile, silhouette_path
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.evaluation.keys import ALL_VIEWS, Keys, RowIndex
from posekit.labeling.masks import box_of_mask
from posekit.records import cameras_from_columns
from posekit.stages.mask_shots import Pictures, Shot

NOTHING_IN_FILE = "nothing about the person in the files"
EMPTY = "the mask is empty"

_LIGHT = 128
_PNG_ENDINGS = (".png", ".PNG")


@dataclass(frozen=True, eq=False)
class PersonMask:
    """The mask of one person in the original image; `bbox` is the detection's, or the one around the mask."""

    mask: Bool[np.ndarray, "H W"]
    bbox: Float[np.ndarray, "4"]
    score: float = 1.0


Answer = list[PersonMask | str]
"""For each person of a shot a mask, or why there is none."""


class MaskSource(ABC):
    """Finds the masks of the people of pictures."""

    @abstractmethod
    def find(self, shots: Sequence[Shot]) -> Iterator[Answer | InputError]:
        """For each shot, in their order, its people's masks; an error where its picture or file is missing or broken."""


class FileSource(MaskSource):
    """Masks that lie in files, shot by shot."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def find(self, shots: Sequence[Shot]) -> Iterator[Answer | InputError]:
        for shot in shots:
            try:
                yield [self._checked(mask, shot) for mask in self.masks(shot)]
            except InputError as error:
                yield error

    @abstractmethod
    def masks(self, shot: Shot) -> list[Bool[np.ndarray, "H W"] | str]:
        """For each person of the shot a mask, or why there is none."""

    def _checked(self, mask: Bool[np.ndarray, "H W"] | str, shot: Shot) -> PersonMask | str:
        if isinstance(mask, str):
            return mask
        size = self.pictures.size(shot)
        if size is not None and mask.shape != size:
            raise FormatError(
                f"the mask of {self.pictures.name(shot)} is not of the image's size",
                got=f"{mask.shape[1]}x{mask.shape[0]}",
                accepted=f"{size[1]}x{size[0]}",
            )
        box = box_of_mask(mask)
        return EMPTY if box is None else PersonMask(mask, box)


class TruthSource(FileSource):
    """The studio's exact masks. InputError where the truth is of other sequences."""

    def __init__(self, pictures: Pictures, truth: Artifact) -> None:
        super().__init__(pictures)
        self._truth = truth
        names = {str(name): row for row, name in enumerate(truth.read("sequences", "name"))}
        self._sequences = [names.get(clip.name, -1) for clip in pictures.clips]
        if max(self._sequences, default=-1) < 0:
            raise InputError(
                "the truth is of other sequences than the data set",
                got=sorted(names)[:3],
                accepted=[clip.name for clip in pictures.clips][:3],
            )
        self._cameras = cameras_from_columns(truth.table("cameras"))
        rows = {(camera.session, camera.name): row for row, camera in enumerate(self._cameras)}
        self._camera_rows = [rows.get((camera.session, camera.name), ALL_VIEWS) for camera in pictures.cameras]
        keys = Keys.read(truth, "views")
        self._index = RowIndex(keys)
        self._alone = RowIndex(keys.seen_by(ALL_VIEWS))
        seen = np.stack([keys.sequence, keys.frame, keys.person], axis=1)
        # Single pictures and carried cameras are one view at each moment, with a camera of its own in the truth.
        self._one_view = len(np.unique(seen, axis=0)) == len(seen)
        self._camera_of = keys.camera

    def masks(self, shot: Shot) -> list[Bool[np.ndarray, "H W"] | str]:
        sequence, camera, count = self._sequences[shot.sequence], self._camera_rows[shot.camera], len(shot.rows)
        if sequence < 0 or (camera == ALL_VIEWS and not self._one_view):
            return [NOTHING_IN_FILE] * count
        index = self._index if camera != ALL_VIEWS else self._alone
        keys = Keys(np.full(count, sequence), np.full(count, shot.frame), shot.people, np.full(count, camera))
        return [NOTHING_IN_FILE if row < 0 else self._mask(int(row)) for row in index.find(keys)]

    def _mask(self, row: int) -> Bool[np.ndarray, "H W"]:
        camera = self._cameras[int(self._camera_of[row])]
        cut = _decoded(self._truth.read_ragged("views", "mask", [row])[0], self._truth.path)
        x, y = (int(value) for value in self._truth.read("views", "origin", [row])[0])
        mask = np.zeros((camera.height, camera.width), dtype=bool)
        if mask[y : y + cut.shape[0], x : x + cut.shape[1]].shape != cut.shape:
            raise FormatError(f"a mask of {self._truth.path} lies outside its image", got=(x, y, *cut.shape))
        mask[y : y + cut.shape[0], x : x + cut.shape[1]] = cut
        return mask


class PngSource(FileSource):
    """Pictures of masks in a folder: `NAME_PERSON.png`, or `NAME.png` for the only person of a picture.

    NAME is what `Pictures.name` says, or for Human3.6M the name of the frame as SPIN and SSPSE have it
    (`S1_Directions_1.54138969_000001`, numbered from 1; also `PERSON_NAME.png`). Light pixels (128 or more) are the person;
    in files of zeros and ones, ones.
    """

    def __init__(self, pictures: Pictures, folder: Path) -> None:
        super().__init__(pictures)
        self._folder = folder

    def masks(self, shot: Shot) -> list[Bool[np.ndarray, "H W"] | str]:
        found: list[Bool[np.ndarray, "H W"] | str] = []
        for person in shot.people:
            file = next((file for file in self._places(shot, int(person)) if file.is_file()), None)
            found.append(NOTHING_IN_FILE if file is None else _decoded(_content(file), file))
        return found

    def _places(self, shot: Shot, person: int) -> Iterator[Path]:
        clip, camera = self.pictures.clips[shot.sequence], self.pictures.cameras[shot.camera]
        stems = [self.pictures.name(shot)]
        if clip.subject:
            stems.append(f"{clip.name.replace(' ', '_')}.{camera.name}_{shot.frame + 1:06d}")
        for stem in stems:
            folder, name = (self._folder / stem).parent, Path(stem).name
            names = [f"{name}_{person}", f"{person}_{name}", *([name] if len(shot.people) == 1 else [])]
            yield from (folder / f"{one}{ending}" for one in names for ending in _PNG_ENDINGS)


class SilhouetteSource(FileSource):
    """Human3.6M's silhouettes, below the release's folder. They are of the only person there is."""

    def __init__(self, pictures: Pictures, raw: Path) -> None:
        super().__init__(pictures)
        self._raw = raw
        self._file: SilhouetteFile | None = None

    def masks(self, shot: Shot) -> list[Bool[np.ndarray, "H W"] | str]:
        clip, camera = self.pictures.clips[shot.sequence], self.pictures.cameras[shot.camera]
        if len(shot.people) > 1:
            raise FormatError("silhouettes are of one person", got=f"{len(shot.people)} in {self.pictures.name(shot)}")
        path = silhouette_path(self._raw, clip.subject, clip.name, camera.name)
        if self._file is None or self._file.path != path:
            self.close()
            self._file = SilhouetteFile(path)
        return [self._file.mask(shot.frame) if shot.frame < len(self._file) else NOTHING_IN_FILE]

    def close(self) -> None:
        """Closes the file that was read last."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _content(file: Path) -> np.ndarray:
    try:
        return np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise MissingFileError("a mask cannot be read", got=f"{file}: {error}") from error


def _decoded(content: np.ndarray, where: Path) -> Bool[np.ndarray, "H W"]:
    """The mask of an encoded picture."""
    picture = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) if content.size else None
    if picture is None:
        raise FormatError("a mask is no picture", got=where, accepted="PNG")
    return np.asarray(picture > 0 if picture.max(initial=0) <= 1 else picture >= _LIGHT)
