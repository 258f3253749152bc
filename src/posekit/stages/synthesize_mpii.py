"""`posekit synthesize mpii`: single pictures of people in the raw layout of MPII Human Pose, with their exact truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from posekit.artifacts.files import is_current
from posekit.artifacts.provenance import Header, files_digest
from posekit.artifacts.schema import TRUTH
from posekit.body.smpl_file import BodyData, load_body
from posekit.config.mpii import SynthesizeMpii
from posekit.datasets.mpii import PARTS
from posekit.progress import track
from posekit.records import Clip
from posekit.skeleton.catalog import MPII16
from posekit.stages.device import resolve_device
from posekit.stages.photograph_rows import STILLS_PER_SECOND
from posekit.stages.render_pace import ahead
from posekit.stages.report import StageReport
from posekit.stages.studio_folder import check_replaceable, replacing_folder
from posekit.synthetic.motion import motion_files
from posekit.synthetic.mpii_writer import (
    FILES,
    IMAGES,
    Measuring,
    Noted,
    NotedPicture,
    picture_name,
    write_annotations,
    write_picture,
)
from posekit.synthetic.photo_shots import ShotSettings, random_shot
from posekit.synthetic.picture_truth import PictureTruth
from posekit.synthetic.seeding import stream
from posekit.synthetic.snapshot import Photographer, SeenPerson, Shot, Snapshot, people_in

STAGE = "synthesize mpii"
TRUTH_FILE = "truth.h5"

_NOTICE = (
    "Everything in this folder was rendered by `posekit synthesize mpii` in the raw layout of MPII Human Pose. "
    "Nothing here comes from MPII. The folder is replaced whenever it is made again.\n"
)
_LEAST_SEEN = 80
"""People of whom fewer pixels are seen are not annotated."""
_PICTURES_PER_VIDEO = 3


@dataclass(frozen=True)
class _Picture:
    part: str
    number: int

    @property
    def key(self) -> str:
        """What random numbers are drawn by."""
        return f"mpii {self.part} {self.number}"


@dataclass(frozen=True, eq=False)
class _Taken:
    """A picture, what is noted of it, and the numbers in the shot of the people that are noted."""

    shot: Shot
    snapshot: Snapshot
    noted: NotedPicture
    shown: tuple[int, ...]

    def seen(self, number: int) -> SeenPerson:
        """One of the people who are noted."""
        return self.snapshot.people[self.shown[number]]


@dataclass(frozen=True)
class _Session:
    """What all pictures share."""

    config: SynthesizeMpii
    body: BodyData
    settings: ShotSettings
    photographer: Photographer
    measuring: Measuring

    def picture(self, picture: _Picture) -> _Taken:
        """Takes a picture and says what is noted of it."""
        shot = random_shot(self.body, self.settings, self.config.seed, picture.key)
        snapshot = self.photographer.take(shot)
        rng = stream(self.config.seed, "annotations", picture.key)
        # Always drawn, so that one setting does not change what the others do.
        nobody, bare, lost = rng.uniform(), rng.uniform(size=len(shot.people)), rng.uniform(size=len(shot.people))
        share = self.config.unlabelled if picture.part == "train" else 0.0
        shown = [] if nobody < share else people_in(snapshot.people, _LEAST_SEEN)
        people = []
        for number in shown:
            person = self.measuring.person(shot.people[number], snapshot.people[number], shot.camera)
            people.append(_bare(person, placeless=bool(lost[number] < 0.5)) if bare[number] < share else person)
        video = 1 + picture.number // _PICTURES_PER_VIDEO
        noted = NotedPicture(picture_name(picture.number), picture.part, video, tuple(people))
        return _Taken(shot, snapshot, noted, tuple(shown))


def _bare(person: Noted, *, placeless: bool) -> Noted:
    bare = replace(person, joints=None)
    return replace(bare, position=None, scale=None) if placeless else bare


def synthesize_mpii(config: SynthesizeMpii) -> StageReport:
    """Renders pictures and writes the release's MATLAB file, the lists of training code, and `truth.h5`.

    The folder is made under another name and takes its own when it is whole. Raises InputError when it holds anything that
    this stage did not make, or for a body without charts.
    """
    device = resolve_device(config.device)
    body = load_body(config.body)
    motions = () if config.motion is None else tuple(motion_files(config.motion))
    header = _header(config, body, motions)
    pictures = _planned(config)
    output = Path(config.output)
    outputs = [output / TRUTH_FILE, *(output / name for name in FILES)]
    if not config.force and _is_whole(output, header, outputs, pictures):
        return StageReport(STAGE, outputs, skipped=True, counts={"pictures": len(pictures)})
    check_replaceable(output)
    if config.dry_run:
        return StageReport(STAGE, [], notes=[f"would render {len(pictures)} pictures into {output}"])
    settings = ShotSettings(config.size, config.people, config.truncated, config.occluded, motions)
    session = _Session(config, body, settings, Photographer(body, device, MPII16), Measuring(body))
    clips = [Clip(part, STILLS_PER_SECOND, split=split) for part, split in PARTS.items()]
    noted = []
    with (
        replacing_folder(output, _NOTICE) as folder,
        PictureTruth(folder / TRUTH_FILE, header, clips) as truth,
        ahead(session.picture, pictures, device) as rendered,
    ):
        (folder / IMAGES).mkdir()
        for taken in track(rendered, "rendering", total=len(pictures), unit="picture"):
            write_picture(folder, taken.noted.name, taken.snapshot, config.jpeg_quality)
            _note(truth, taken)
            noted.append(taken.noted)
        write_annotations(folder, noted)
    return StageReport(STAGE, outputs, counts=_counts(noted))


def _planned(config: SynthesizeMpii) -> list[_Picture]:
    parts = [part for part in PARTS for _ in range(getattr(config, part))]
    return [_Picture(part, number + 1) for number, part in enumerate(parts)]


def _note(truth: PictureTruth, taken: _Taken) -> None:
    picture = taken.noted
    truth.add_picture(replace(taken.shot.camera, name=picture.name))
    sequence, frame = list(PARTS).index(picture.part), int(Path(picture.name).stem)
    for number, person in enumerate(taken.shown):
        truth.add_person(sequence, frame, number, taken.shot.people[person], taken.seen(number))


def _counts(pictures: Sequence[NotedPicture]) -> dict[str, int]:
    counts: Counter[str] = Counter(pictures=len(pictures))
    for picture in pictures:
        counts["people"] += len(picture.people)
        counts["without_keypoints"] += sum(person.joints is None for person in picture.people)
        counts["pictures_without_people"] += not picture.people
    return dict(counts)


def _header(config: SynthesizeMpii, body: BodyData, motions: tuple[Path, ...]) -> Header:
    inputs = {"body": body.digest}
    if config.motion is not None:
        inputs["motion"] = files_digest(motions, config.motion if config.motion.is_dir() else config.motion.parent)
    facts = {"body_digest": body.digest}
    return Header(TRUTH.name, STAGE, settings=config.settings(), inputs=inputs, seed=config.seed, facts=facts)


def _is_whole(output: Path, header: Header, files: Sequence[Path], pictures: Sequence[_Picture]) -> bool:
    if not is_current(output / TRUTH_FILE, header):
        return False
    images = (output / IMAGES / picture_name(picture.number) for picture in pictures)
    return all(path.is_file() for path in [*files, *images])
