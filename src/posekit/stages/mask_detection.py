"""People's masks from Mask R-CNN, for `posekit pseudo-label masks`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from posekit.datasets.crops import apply_affine, inverse_affine
from posekit.errors import InputError
from posekit.labeling.masks import match_people, uncropped
from posekit.models.mask_rcnn import DetectedPeople
from posekit.stages.mask_shots import Crops, Image, Originals, Pictures, Shot, Sight
from posekit.stages.mask_sources import EMPTY, Answer, MaskSource, PersonMask

NOT_DETECTED = "no detection overlaps the person's box"

Detect = Callable[[Sequence[Image]], list[DetectedPeople]]
"""What finds the people of pictures, such as `posekit.models.mask_rcnn.MaskDetector`."""


class DetectorSource(MaskSource):
    """Mask R-CNN: for each person the detection whose box overlaps theirs most."""

    def __init__(
        self, images: Originals | Crops, detector: Detect, pictures: Pictures, *, batch: int, least_overlap: float
    ) -> None:
        self._images, self._detector, self._pictures = images, detector, pictures
        self._batch, self._least_overlap = batch, least_overlap

    def find(self, shots: Sequence[Shot]) -> Iterator[Answer | InputError]:
        waiting: list[tuple[Shot, list[Sight] | InputError]] = []
        for shot, sights in self._images.sights(shots):
            # Padded with pictures of another size, a picture would be seen otherwise.
            if waiting and (self._count(waiting) >= self._batch or _size(sights) != _size(waiting[-1][1])):
                yield from self._answers(waiting)
                waiting = []
            waiting.append((shot, sights))
        yield from self._answers(waiting)

    @staticmethod
    def _count(waiting: Iterable[tuple[Shot, list[Sight] | InputError]]) -> int:
        return sum(len(sights) for _, sights in waiting if not isinstance(sights, InputError))

    def _answers(self, waiting: Sequence[tuple[Shot, list[Sight] | InputError]]) -> Iterator[Answer | InputError]:
        seen = [sight for _, sights in waiting if not isinstance(sights, InputError) for sight in sights]
        found: list[DetectedPeople] = []
        for begin in range(0, len(seen), self._batch):
            found += self._detector([sight.image for sight in seen[begin : begin + self._batch]])
        results = iter(found)
        for shot, sights in waiting:
            yield (
                sights
                if isinstance(sights, InputError)
                else self._chosen(shot, [(sight, next(results)) for sight in sights])
            )

    def _chosen(self, shot: Shot, seen: Sequence[tuple[Sight, DetectedPeople]]) -> Answer:
        answer: Answer = [NOT_DETECTED] * len(shot.people)
        for sight, people in seen:
            if sight.crop_from_image is None:
                for person, row in enumerate(match_people(shot.boxes, people.boxes, self._least_overlap)):
                    if row >= 0:
                        answer[person] = PersonMask(people.masks[row], people.boxes[row], float(people.scores[row]))
                continue
            box = _mapped(sight.crop_from_image, shot.boxes[sight.person])
            row = int(match_people(box[None], people.boxes, self._least_overlap)[0])
            if row >= 0:
                size = self._pictures.camera_size(shot)
                mask = uncropped(people.masks[row], sight.crop_from_image, *size)
                back = inverse_affine(sight.crop_from_image)
                answer[sight.person] = PersonMask(mask, _mapped(back, people.boxes[row]), float(people.scores[row]))
        return [EMPTY if isinstance(one, PersonMask) and not one.mask.any() else one for one in answer]


def _mapped(target_from_source: np.ndarray, box: np.ndarray) -> Float[np.ndarray, "4"]:
    """A box through the affine map of an upright crop."""
    return apply_affine(target_from_source, box.reshape(2, 2)).ravel()


def _size(sights: list[Sight] | InputError) -> tuple[int, ...]:
    return () if isinstance(sights, InputError) or not sights else sights[0].image.shape
