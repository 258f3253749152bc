"""`posekit synthesize coco`: single pictures of people in the raw layout of COCO with DensePose, with their exact truth."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from posekit.artifacts.files import is_current
from posekit.artifacts.provenance import Header, files_digest
from posekit.artifacts.schema import TRUTH
from posekit.body.smpl_file import BodyData, load_body
from posekit.config.coco import SynthesizeCoco
from posekit.progress import track
from posekit.stages.device import resolve_device
from posekit.stages.report import StageReport
from posekit.stages.studio_folder import check_replaceable, replacing_folder
from posekit.synthetic.coco_writer import (
    DENSE_FILES,
    KEYPOINT_FILES,
    TRUTH_FILE,
    Annotated,
    CocoWriter,
    image_name,
    spread_points,
)
from posekit.synthetic.motion import motion_files
from posekit.synthetic.photo_shots import ShotSettings, random_shot
from posekit.synthetic.seeding import stream
from posekit.synthetic.snapshot import Photographer, Shot, Snapshot, people_in
from posekit.threads import one_thread_each

STAGE = "synthesize coco"

_NOTICE = (
    "Everything in this folder was rendered by `posekit synthesize coco` in the raw layout of COCO. "
    "Nothing here comes from COCO. The folder is replaced whenever it is made again.\n"
)
_LEAST_SEEN = 80
"""People of whom fewer pixels are seen are not annotated."""


@dataclass(frozen=True)
class _Picture:
    split: str
    image_id: int

    @property
    def name(self) -> str:
        """What random numbers are drawn by."""
        return f"coco {self.split} {self.image_id}"


@dataclass(frozen=True)
class _Session:
    """What all pictures share."""

    config: SynthesizeCoco
    body: BodyData
    settings: ShotSettings
    photographer: Photographer

    def picture(self, picture: _Picture) -> tuple[_Picture, Shot, Snapshot, list[Annotated]]:
        """Takes a picture and says what is noted of it."""
        config = self.config
        shot = random_shot(self.body, self.settings, config.seed, picture.name)
        snapshot = self.photographer.take(shot)
        rng = stream(config.seed, "annotations", picture.name)
        shown = people_in(snapshot.people, _LEAST_SEEN)
        # Always drawn, so that one setting does not change what the others do.
        crowded, bare = rng.uniform() < config.crowds, rng.uniform(size=len(shot.people)) < config.without_densepose
        annotated = []
        for number in shown:
            seen = snapshot.people[number]
            crowd = bool(crowded and len(shown) > 1 and number == shown[-1])
            points = spread_points(seen, config.points, stream(config.seed, "points", picture.name, number))
            annotated.append(Annotated(shot.people[number], seen, crowd, None if crowd or bare[number] else points))
        return picture, shot, snapshot, annotated


def synthesize_coco(config: SynthesizeCoco) -> StageReport:
    """Renders pictures in the raw layout of COCO 2014, with DensePose annotations and `truth.h5`.

    The folder is made under another name and takes its own when it is whole. Raises InputError when it holds anything that
    this stage did not make, or for a body without charts.
    """
    device = resolve_device(config.device)
    body = load_body(config.body)
    motions = () if config.motion is None else tuple(motion_files(config.motion))
    photographer = Photographer(body, device)
    header = _header(config, body, motions)
    pictures = [_Picture("train", number + 1) for number in range(config.train)]
    pictures += [_Picture("val", config.train + number + 1) for number in range(config.val)]
    output = Path(config.output)
    outputs = [output / TRUTH_FILE, *(output / name for name in (*KEYPOINT_FILES.values(), *DENSE_FILES.values()))]
    if not config.force and _is_whole(output, header, outputs, pictures):
        return StageReport(STAGE, outputs, skipped=True, counts={"pictures": len(pictures)})
    check_replaceable(output)
    if config.dry_run:
        return StageReport(STAGE, [], notes=[f"would render {len(pictures)} pictures into {output}"])
    settings = ShotSettings(config.size, config.people, config.truncated, config.occluded, motions)
    counts: Counter[str] = Counter(pictures=len(pictures))
    session = _Session(config, body, settings, photographer)
    with (
        replacing_folder(output, _NOTICE) as folder,
        one_thread_each(),
        CocoWriter(folder, header, body.digest, config.jpeg_quality) as writer,
    ):
        rendered = track(_ahead(session, pictures), "rendering", total=len(pictures), unit="picture")
        for picture, shot, snapshot, people in rendered:
            writer.add(picture.split, picture.image_id, shot, snapshot, people)
            counts["people"] += len(people)
            counts["crowds"] += sum(person.crowd for person in people)
            counts["with_densepose"] += sum(person.points is not None for person in people)
    return StageReport(STAGE, outputs, counts=dict(counts))


def _ahead(
    session: _Session, pictures: Iterable[_Picture]
) -> Iterator[tuple[_Picture, Shot, Snapshot, list[Annotated]]]:
    """Pictures in their order, several in the making at a time."""
    workers = os.cpu_count() or 1
    pending: deque[Future[tuple[_Picture, Shot, Snapshot, list[Annotated]]]] = deque()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for picture in pictures:
            pending.append(pool.submit(session.picture, picture))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _header(config: SynthesizeCoco, body: BodyData, motions: tuple[Path, ...]) -> Header:
    inputs = {"body": body.digest}
    if config.motion is not None:
        inputs["motion"] = files_digest(motions, config.motion if config.motion.is_dir() else config.motion.parent)
    facts = {"body_digest": body.digest}
    return Header(TRUTH.name, STAGE, settings=config.settings(), inputs=inputs, seed=config.seed, facts=facts)


def _is_whole(output: Path, header: Header, files: list[Path], pictures: list[_Picture]) -> bool:
    if not is_current(output / TRUTH_FILE, header):
        return False
    images = (output / image_name(picture.split, picture.image_id) for picture in pictures)
    return all(path.is_file() for path in [*files, *images])
