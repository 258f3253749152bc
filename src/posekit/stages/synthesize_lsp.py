"""`posekit synthesize lsp`: single people in the raw layouts of LSP, LSP-extended and UPi-S1h, with their exact truth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from posekit.artifacts.files import is_current
from posekit.artifacts.provenance import Header, files_digest
from posekit.artifacts.schema import TRUTH
from posekit.body.smpl_file import BodyData, load_body
from posekit.config.lsp import SynthesizeLSP
from posekit.progress import track
from posekit.records import Clip
from posekit.stages.device import resolve_device
from posekit.stages.report import StageReport
from posekit.stages.studio_folder import check_replaceable, replacing_folder
from posekit.synthetic.lsp_writer import (
    JointFinder,
    image_name,
    segment_names,
    write_image,
    write_joints,
    write_segments,
)
from posekit.synthetic.motion import motion_files
from posekit.synthetic.photo_shots import ShotSettings, random_shot
from posekit.synthetic.picture_truth import PictureTruth
from posekit.synthetic.seeding import stream
from posekit.synthetic.snapshot import Photographer, Shot, Snapshot
from posekit.threads import one_thread_each

STAGE = "synthesize lsp"
TRUTH_FILE = "truth.h5"

_NOTICE = (
    "Everything in this folder was rendered by `posekit synthesize lsp` in the raw layouts of LSP, LSP-extended and "
    "UPi-S1h. Nothing here comes from them. The folder is replaced whenever it is made again.\n"
)
_SEQUENCES = ("lsp-train", "lsp-test", "lspet")


@dataclass(frozen=True)
class _Session:
    """What all pictures share."""

    config: SynthesizeLSP
    body: BodyData
    settings: ShotSettings
    photographer: Photographer

    def picture(self, extended: bool, number: int) -> tuple[Shot, Snapshot]:
        """Takes a picture, which depends on the seed and its name alone."""
        shot = random_shot(self.body, self.settings, self.config.seed, image_name(extended, number))
        return shot, self.photographer.take(shot)


def synthesize_lsp(config: SynthesizeLSP) -> StageReport:
    """Renders the pictures, `joints.mat` of both data sets, the segmentations of LSP and `truth.h5`.

    The folder is made under another name and takes its own when it is whole. Raises InputError when it holds anything that
    this stage did not make, or for a body without charts.
    """
    device = resolve_device(config.device)
    body = load_body(config.body)
    motions = () if config.motion is None else tuple(motion_files(config.motion))
    header = _header(config, body, motions)
    output = Path(config.output)
    counts = {"pictures": config.images, "pictures_extended": config.extended}
    if not config.force and _is_whole(output, header, config):
        return StageReport(STAGE, [output / TRUTH_FILE], skipped=True, counts=counts)
    check_replaceable(output)
    if config.dry_run:
        note = f"would render {config.images + config.extended} pictures into {output}"
        return StageReport(STAGE, [], notes=[note])
    session = _Session(config, body, ShotSettings(config.size, 1, 0.0, 0.0, motions), Photographer(body, device))
    clips = [Clip(name, 1.0, split="test" if name == "lsp-test" else "train") for name in _SEQUENCES]
    with (
        replacing_folder(output, _NOTICE) as folder,
        one_thread_each(),
        PictureTruth(folder / TRUTH_FILE, header, clips) as truth,
    ):
        for extended in (False, True):
            _write(session, folder, truth, extended)
    return StageReport(STAGE, [output / TRUTH_FILE], counts=counts)


def _write(session: _Session, folder: Path, truth: PictureTruth, extended: bool) -> None:
    config = session.config
    numbers = range(1, (config.extended if extended else config.images) + 1)
    finder = JointFinder(session.body)
    places, flags = [], []
    for number, (shot, snapshot) in zip(numbers, _taken(session, extended, numbers), strict=True):
        (seen,) = snapshot.people
        write_image(folder, extended, number, snapshot, config.jpeg_quality)
        pixels, hidden = finder.find(shot, seen)
        places.append(pixels)
        if extended:
            flags.append(stream(config.seed, "labels", number).uniform(size=len(hidden)) >= config.unlabelled)
        else:
            flags.append(hidden)
            # Every size that a segmentation may have against its picture occurs.
            fit = {0: "short", 1: "double"}.get(number % 6, "exact")
            write_segments(folder, number, seen, config.part_order, fit)  # type: ignore[arg-type]  # the three literals
        truth.add_picture(shot.camera)
        sequence = 2 if extended else int(number > config.images // 2)
        truth.add_person(sequence, number, 0, shot.people[0], seen)
    if places:
        write_joints(folder, extended, np.array(places), np.array(flags))


def _taken(session: _Session, extended: bool, numbers: Sequence[int]) -> Iterator[tuple[Shot, Snapshot]]:
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        title = "rendering LSP-extended" if extended else "rendering LSP"
        taken = pool.map(partial(session.picture, extended), numbers)
        yield from track(taken, title, total=len(numbers), unit="picture")


def _header(config: SynthesizeLSP, body: BodyData, motions: tuple[Path, ...]) -> Header:
    inputs = {"body": body.digest}
    if config.motion is not None:
        inputs["motion"] = files_digest(motions, config.motion if config.motion.is_dir() else config.motion.parent)
    facts = {"body_digest": body.digest}
    return Header(TRUTH.name, STAGE, settings=config.settings(), inputs=inputs, seed=config.seed, facts=facts)


def _is_whole(output: Path, header: Header, config: SynthesizeLSP) -> bool:
    if not is_current(output / TRUTH_FILE, header):
        return False
    names = [image_name(False, number) for number in range(1, config.images + 1)]
    names += [name for number in range(1, config.images + 1) for name in segment_names(number)]
    names += [image_name(True, number) for number in range(1, config.extended + 1)]
    return all((output / name).is_file() for name in names)
