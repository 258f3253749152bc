"""`posekit synthesize 3dpw`: short sequences filmed by a carried camera, in the raw layout of 3DPW."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from posekit.artifacts.files import is_current
from posekit.artifacts.provenance import Header, files_digest
from posekit.artifacts.schema import TRUTH
from posekit.body.smpl_file import BodyData, load_body
from posekit.config.threedpw import Synthesize3DPW
from posekit.datasets.threedpw import FPS
from posekit.progress import track
from posekit.records import Clip
from posekit.stages.device import resolve_device
from posekit.stages.report import StageReport
from posekit.stages.studio_folder import check_replaceable, replacing_folder
from posekit.synthetic.handheld import Film, Filming, film
from posekit.synthetic.motion import motion_files
from posekit.synthetic.picture_truth import PictureTruth
from posekit.synthetic.snapshot import Photographer
from posekit.synthetic.threedpw_writer import Faults, FilmedSequence, write_image, write_sequence
from posekit.threads import one_thread_each

STAGE = "synthesize 3dpw"
TRUTH_FILE = "truth.h5"

_NOTICE = (
    "Everything in this folder was rendered by `posekit synthesize 3dpw` in the raw layout of 3DPW. "
    "Nothing here comes from 3DPW. The folder is replaced whenever it is made again.\n"
)
_LANDSCAPE_EVERY = 4
_SHAPE = 0.5625
"""Shorter over longer side of the pictures."""


def synthesize_3dpw(config: Synthesize3DPW) -> StageReport:
    """Renders sequences of one and two people in turn, and writes `truth.h5` (bodies and masks) beside them.

    The folder is made under another name and takes its own when it is whole. Raises InputError when it holds anything that
    this stage did not make, or for a body without charts.
    """
    device = resolve_device(config.device)
    body = load_body(config.body)
    motions = () if config.motion is None else tuple(motion_files(config.motion))
    header = _header(config, body, motions)
    output = Path(config.output)
    parts = [("train", config.train), ("validation", config.validation), ("test", config.test)]
    planned = [(part, number) for part, count in parts for number in range(count)]
    counts = Counter(sequences=len(planned), pictures=len(planned) * config.frames)
    if not config.force and _is_whole(output, header, config, planned):
        return StageReport(STAGE, [output / TRUTH_FILE], skipped=True, counts=dict(counts))
    check_replaceable(output)
    if config.dry_run:
        return StageReport(STAGE, [], notes=[f"would render {len(planned)} sequences into {output}"])
    photographer = Photographer(body, device)
    clips = [Clip(_name(part, number), FPS, split=part if part != "validation" else "") for part, number in planned]
    with (
        replacing_folder(output, _NOTICE) as folder,
        one_thread_each(),
        PictureTruth(folder / TRUTH_FILE, header, clips) as truth,
    ):
        for row, (part, number) in enumerate(track(planned, "rendering", unit="sequence")):
            sequence = FilmedSequence(_film(config, body, motions, part, number), part, number)
            counts["people"] += _write(config, body, photographer, (folder, truth, row), sequence)
    return StageReport(STAGE, [output / TRUTH_FILE], counts=dict(counts))


def _name(part: str, number: int) -> str:
    return f"studio_{part}_{number:02d}"


def _film(config: Synthesize3DPW, body: BodyData, motions: tuple[Path, ...], part: str, number: int) -> Film:
    long, short = config.size, 2 * round(config.size * _SHAPE / 2)
    landscape = number % _LANDSCAPE_EVERY == _LANDSCAPE_EVERY - 1
    width, height = (long, short) if landscape else (short, long)
    return film(body, Filming(config.frames, width, height, 1 + number % 2, motions), config.seed, _name(part, number))


def _write(
    config: Synthesize3DPW,
    body: BodyData,
    photographer: Photographer,
    target: tuple[Path, PictureTruth, int],
    sequence: FilmedSequence,
) -> int:
    folder, truth, row = target
    shots = list(sequence.film.shots(config.seed))
    keypoints = []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for frame, (shot, snapshot) in enumerate(zip(shots, pool.map(photographer.take, shots), strict=True)):
            write_image(folder, sequence, frame, snapshot, config.jpeg_quality)
            truth.add_picture(shot.camera)
            for person, seen in enumerate(snapshot.people):
                truth.add_person(row, frame, person, shot.people[person], seen)
            keypoints.append([seen.keypoints for seen in snapshot.people])
    faults = Faults(config.invalid, config.undetected, config.noise_px)
    write_sequence(folder, body, sequence, np.array(keypoints).transpose(1, 0, 2, 3), faults, config.seed)
    return len(sequence.film.takes)


def _header(config: Synthesize3DPW, body: BodyData, motions: tuple[Path, ...]) -> Header:
    inputs = {"body": body.digest}
    if config.motion is not None:
        inputs["motion"] = files_digest(motions, config.motion if config.motion.is_dir() else config.motion.parent)
    facts = {"body_digest": body.digest}
    return Header(TRUTH.name, STAGE, settings=config.settings(), inputs=inputs, seed=config.seed, facts=facts)


def _is_whole(output: Path, header: Header, config: Synthesize3DPW, planned: list[tuple[str, int]]) -> bool:
    if not is_current(output / TRUTH_FILE, header):
        return False
    names = [_name(part, number) for part, number in planned]
    images = (output / f"imageFiles/{name}/image_{frame:05d}.jpg" for name in names for frame in range(config.frames))
    files = (output / f"sequenceFiles/{part}/{_name(part, number)}.pkl" for part, number in planned)
    return all(path.is_file() for path in [*images, *files])
