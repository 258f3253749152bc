"""`posekit synthesize`: small synthetic recordings in raw layouts, with their exact truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from posekit.artifacts.files import is_current
from posekit.artifacts.provenance import Header, files_digest
from posekit.body.smpl_file import BodyData, load_body
from posekit.body.surface import atlas_of
from posekit.config.data import SynthesizeH36M
from posekit.datasets.h36m import MISSING_IN_RELEASE, SUBJECTS, TRAIN_SUBJECTS
from posekit.datasets.h36m_layout import Key
from posekit.datasets.h36m_metadata import CAMERA_IDS
from posekit.errors import InputError
from posekit.progress import track
from posekit.records import Camera, Clip
from posekit.stages.device import resolve_device
from posekit.stages.report import StageReport
from posekit.stages.studio_folder import check_replaceable, replacing_folder
from posekit.synthetic.bodies import TakeRequest, perform
from posekit.synthetic.h36m_joints import Human36MJoints
from posekit.synthetic.h36m_metadata import SequenceKey, write_metadata
from posekit.synthetic.h36m_names import (
    ACTIONS,
    OFFICIAL_ACTIONS,
    OTHER_CLIP,
    base_name,
    other_clips,
    sequence_name,
)
from posekit.synthetic.h36m_writer import SequenceWriter
from posekit.synthetic.motion import motion_files
from posekit.synthetic.recording import DENSE_FILE, TRUTH_FILE, Recording, TruthWriter
from posekit.synthetic.rig import rig
from posekit.synthetic.scene import Look, Scene, Stage
from posekit.threads import one_thread_each

_NOTICE = (
    "Everything in this folder was rendered by `posekit synthesize h36m` in the raw layout of Human3.6M. "
    "Nothing here comes from Human3.6M. The folder is replaced whenever it is made again.\n"
)
_STAGE = "synthesize h36m"
_OTHER_CLIP_FRAMES = 3
_LONGER_VIDEOS = (0, 1, 1, 0)
_PERSON = 0


@dataclass(frozen=True)
class _Sequence:
    """One sequence to be made; `row` is its row in the truth, None for clips that have no place there."""

    subject: str
    action: str
    trial: int
    base: str
    row: int | None
    extra_frames: tuple[int, ...] = ()

    @property
    def key(self) -> SequenceKey:
        return (self.subject, self.action, self.trial)

    @property
    def name(self) -> str:
        return sequence_name(self.subject, self.base)


def synthesize_h36m(config: SynthesizeH36M) -> StageReport:
    """Renders a small data set in the raw layout of Human3.6M, with `truth.h5` and `dense.h5` beside it.

    The folder is made under another name and takes its own when it is whole. Raises InputError when it holds anything that
    this stage did not make.
    """
    device = resolve_device(config.device)
    body = load_body(config.body)
    atlas_of(body)
    sequences = _plan(config)
    motions = () if config.motion is None else tuple(motion_files(config.motion))
    truth, dense = _headers(config, body, motions)
    output = Path(config.output)
    outputs = [output / TRUTH_FILE, output / DENSE_FILE]
    rows = [sequence for sequence in sequences if sequence.row is not None]
    if not config.force and _is_whole(output, truth, dense, sequences):
        return StageReport(_STAGE, outputs, skipped=True, counts={"sequences": len(rows)})
    check_replaceable(output)
    if config.dry_run:
        names = ", ".join(sequence.name for sequence in rows)
        return StageReport(_STAGE, [], notes=[f"would render {names} into {output}"])
    with replacing_folder(output, _NOTICE) as folder, one_thread_each():
        views = _record_all(_Session(config, body, motions, device, folder), sequences, truth, dense)
    return StageReport(
        _STAGE,
        outputs,
        counts={
            "subjects": len(config.subjects),
            "sequences": len(rows),
            "frames": len(rows) * config.frames,
            "views": views,
        },
    )


def _plan(config: SynthesizeH36M) -> list[_Sequence]:
    actions = [_file_action(action) for action in config.actions]
    _refuse_repeats("subjects", config.subjects)
    _refuse_repeats("actions", actions)
    unknown = [subject for subject in config.subjects if subject not in SUBJECTS]
    if unknown:
        raise InputError("subjects without public ground truth in Human3.6M", got=unknown, accepted=SUBJECTS)
    plan: list[_Sequence] = []
    for subject in config.subjects:
        for action in actions:
            for trial in range(1, config.trials + 1):
                first = not any(sequence.subject == subject for sequence in plan)
                base = base_name(subject, action, trial)
                extra = _LONGER_VIDEOS if first else ()
                plan.append(_Sequence(subject, action, trial, base, len(plan), extra))
    subject = config.subjects[-1]
    return [*plan, _Sequence(subject, OTHER_CLIP, 2, other_clips(subject)[1], None)]


def _file_action(action: str) -> str:
    official = dict(zip(OFFICIAL_ACTIONS[1:], ACTIONS, strict=True))
    found = official.get(action, action)
    if found not in ACTIONS:
        raise InputError("Human3.6M has no such action", got=action, accepted=ACTIONS)
    return found


def _refuse_repeats(what: str, values: Sequence[str]) -> None:
    if not values or len(set(values)) < len(values):
        raise InputError(f"{what} must be given, each once", got=list(values) or "none")


def _headers(config: SynthesizeH36M, body: BodyData, motions: Sequence[Path]) -> tuple[Header, Header]:
    inputs = {"body": body.digest}
    if config.motion is not None:
        inputs["motion"] = files_digest(motions, config.motion if config.motion.is_dir() else config.motion.parent)
    facts = {"body_digest": body.digest, **_tables_as_facts(config)}
    truth, dense = (
        Header(kind=kind, stage=_STAGE, settings=config.settings(), inputs=inputs, seed=config.seed, facts=facts)
        for kind in ("truth", "correspondences")
    )
    return truth, dense


def _tables_as_facts(config: SynthesizeH36M) -> dict[str, list[str]]:
    """What the numbers of sequences and cameras mean: a data set made from the raw files may number them otherwise."""
    cameras = _cameras(config)
    return {
        "sequence_names": [s.name for s in _plan(config) if s.row is not None],
        "camera_names": [camera.name for camera in cameras],
        "camera_sessions": [camera.session for camera in cameras],
    }


def _cameras(config: SynthesizeH36M) -> list[Camera]:
    return [camera for subject in config.subjects for camera in rig(subject, config.resolution, config.seed)]


@dataclass(frozen=True)
class _Session:
    """What all sequences share."""

    config: SynthesizeH36M
    body: BodyData
    motions: tuple[Path, ...]
    device: torch.device
    folder: Path


def _record_all(session: _Session, sequences: Sequence[_Sequence], truth: Header, dense: Header) -> int:
    """Makes everything; the number of views rendered for the truth."""
    config, views = session.config, 0
    cameras = _cameras(config)
    rows = [sequence for sequence in sequences if sequence.row is not None]
    clips = [
        Clip(
            name=sequence.name,
            fps=config.fps,
            subject=sequence.subject,
            action=sequence.action,
            trial=sequence.trial,
            split="train" if sequence.subject in TRAIN_SUBJECTS else "test",
        )
        for sequence in rows
    ]
    frame_counts: dict[SequenceKey, list[int]] = {}
    stage: Stage | None = None
    with TruthWriter(session.folder, truth, dense, cameras, clips) as writer:
        for sequence in track(sequences, "rendering", unit="sequence"):
            if stage is None or stage.cameras[0].session != sequence.subject:
                stage = Stage(
                    rig(sequence.subject, config.resolution, config.seed), Look.of(config.seed, sequence.subject)
                )
            frame_counts[sequence.key], rendered = _record(session, sequence, stage, writer)
            views += rendered
        write_metadata(
            session.folder / "metadata.xml", config.resolution, config.seed, frame_counts, _rest(session.body)
        )
    return views


def _record(session: _Session, sequence: _Sequence, stage: Stage, truth: TruthWriter) -> tuple[list[int], int]:
    """Makes one sequence; the frames of its videos, and the number of views noted in the truth."""
    config, body = session.config, session.body
    noted = sequence.row is not None
    request = TakeRequest(
        action=sequence.action if noted else "Walking",
        subject=sequence.subject,
        trial=sequence.trial,
        frames=config.frames if noted else _OTHER_CLIP_FRAMES,
        fps=config.fps,
        motions=session.motions,
    )
    take = perform(body, request, config.seed)
    rigged = stage.cameras
    scene = Scene(body, stage, take.seats, session.device)
    lost = [camera.name for camera in rigged if Key(sequence.subject, sequence.base, camera.name) in MISSING_IN_RELEASE]
    kept = [index for index, camera in enumerate(rigged) if camera.name not in lost]
    recording = Recording(sequence.name, take, scene, kept, config.correspondences, config.seed)
    joints_of, views = Human36MJoints(body), 0
    with SequenceWriter(
        session.folder, sequence.base, rigged, config.fps, extra_frames=sequence.extra_frames, without_video=lost
    ) as files:
        for frame in recording.frames(body):
            files.add_pose(joints_of(frame.vertices[None], frame.joints[None])[0])
            for camera, view in frame.views.items():
                files.add_picture(camera, view.image)
            if sequence.row is not None:
                truth.add(sequence.row, _PERSON, recording, frame)
                views += len(frame.views)
    return files.video_frames, views


def _rest(body: BodyData) -> np.ndarray:
    vertices = body.v_template.astype(np.float64)[None]
    return Human36MJoints(body)(vertices, body.rest_joints[None])[0]


def _is_whole(output: Path, truth: Header, dense: Header, sequences: Sequence[_Sequence]) -> bool:
    if not (is_current(output / TRUTH_FILE, truth) and is_current(output / DENSE_FILE, dense)):
        return False
    folders = [output / s.subject / "MyPoseFeatures" / "D3_Positions" / f"{s.base}.cdf" for s in sequences]
    videos = [
        output / s.subject / "Videos" / f"{s.base}.{camera}.mp4"
        for s in sequences
        for camera in CAMERA_IDS
        if Key(s.subject, s.base, camera) not in MISSING_IN_RELEASE
    ]
    return all(path.is_file() for path in [output / "metadata.xml", *folders, *videos])
