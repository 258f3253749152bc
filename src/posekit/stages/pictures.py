"""Own pictures and videos to a data set; what `posekit preprocess images`, `video` and `posekit predict` share.

Every picture is a sequence of one frame, every video a sequence with a camera of its own. A shard is some pictures, or some
frames of one video, so that a killed run loses at most the one in work and nothing but a few rows is ever in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, files_digest
from posekit.artifacts.schema import DATASET
from posekit.artifacts.shards import ShardedArtifact
from posekit.config.prediction import PreprocessPictures
from posekit.datasets.boxes import People, read_boxes, read_keypoints
from posekit.datasets.media import image_files, open_frames, read_image
from posekit.datasets.pictures import Media
from posekit.errors import ConfigError, DataError, InputError, MissingFileError
from posekit.progress import track
from posekit.skeleton.catalog import H36M17
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.picture_rows import Outcome, PictureReader
from posekit.stages.report import StageReport, Table

_NAMED_IN_NOTES = 5


def make_data_set(config: PreprocessPictures, media: Media, stage: str) -> StageReport:
    """Writes the data set artifact; a second run on the same input does nothing.

    What cannot be read is reported and left out. Raises ConfigError for boxes and key points at once, MissingFileError
    (with `check`) when anything is wrong, DataError when no one is left.
    """
    people = _people(config, media)
    if config.check:
        return _check(media, people, stage)
    skeleton = H36M17 if people is None or people.skeleton is None else people.skeleton
    header = _header(config, media, people, skeleton, stage)
    if not config.force and is_current(config.output, header):
        with Artifact(config.output, DATASET) as artifact:
            outcome = Outcome()
            outcome.add(artifact.header.facts["outcome"])
        return replace(_report(config, media, people, outcome, stage), skipped=True)
    if config.dry_run:
        note = f"would read {len(media.paths)} {'videos' if media.video else 'pictures'} and write {config.output}"
        return StageReport(stage, (), notes=[note])
    reader = PictureReader(config, media, people, len(skeleton))
    jobs = reader.jobs()
    shards = ShardedArtifact(config.output, header, len(jobs))
    if config.force:
        shutil.rmtree(shards.folder, ignore_errors=True)
    pending = shards.pending()
    for index in track(pending, stage, total=len(pending), unit="shard"):
        with shards.writer(index) as writer:
            found = reader.write(jobs[index], writer)
            writer.header = replace(header, facts={**header.facts, "outcome": found.plain()})
    outcome = Outcome()
    outcome.add(reader.outcome.plain())
    for index in range(shards.count):
        with Artifact(shards.part(index)) as shard:
            outcome.add(shard.header.facts["outcome"])
    if not outcome.counts["samples"]:
        shutil.rmtree(shards.folder, ignore_errors=True)
        raise DataError(f"no one to be seen in {config.raw}", got=outcome.failures or _left_out(outcome))
    whole = replace(header, facts={**header.facts, "outcome": outcome.plain()})
    ShardedArtifact(config.output, whole, shards.count).join(reader.tables(outcome))
    return _report(config, media, people, outcome, stage)


def _people(config: PreprocessPictures, media: Media) -> People | None:
    if config.boxes is not None and config.keypoints is not None:
        raise ConfigError("boxes come from one place", got="boxes and key points", accepted="one of the two")
    if config.boxes is not None:
        return read_boxes(config.boxes)
    if config.keypoints is None:
        return None
    order = None if config.keypoint_order == "auto" else config.keypoint_order
    return read_keypoints(config.keypoints, order, config.min_confidence, video=media.video)


def _files(media: Media) -> list[Path]:
    return [file for path in media.paths for file in (image_files(path) if path.is_dir() else [path])]


def _header(config: PreprocessPictures, media: Media, people: People | None, skeleton: Skeleton, stage: str) -> Header:
    inputs = {"raw": files_digest(_files(media), media.root)}
    if people is not None:
        noted = [people.path] if people.path.is_file() else sorted(people.path.rglob("*.json"))
        inputs["people"] = files_digest(noted, people.path.parent)
    return Header(
        kind=DATASET.name,
        stage=stage,
        settings=config.settings(),
        inputs=inputs,
        skeleton=skeleton,
        facts={
            "raw_root": str(media.root.resolve()),
            "stills": not media.video,
            "intrinsics": "guessed: the focal length is the diagonal of the picture",
            "keypoints": "none" if people is None or people.skeleton is None else people.path.name,
        },
    )


def _check(media: Media, people: People | None, stage: str) -> StageReport:
    problems = [*_unreadable(media)]
    if people is not None:
        problems += people.damaged
        problems += [f"{people.path} names {name}, which is not there" for name in people.unknown(media.names)]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise MissingFileError(f"{len(problems)} problems in {media.root}:\n{lines}")
    what = "videos" if media.video else "pictures"
    return StageReport(
        stage, (), counts={what: len(media.paths)}, notes=[f"nothing is missing: {len(media.paths)} {what}"]
    )


def _unreadable(media: Media) -> Iterator[str]:
    for name, path in zip(media.names, media.paths, strict=True):
        try:
            if media.video:
                with open_frames(path) as source:
                    if source.count < source.declared_count:
                        yield f"{name}: {source.count} of {source.declared_count} frames can be read"
            else:
                read_image(path)
        except InputError as error:
            yield f"{name}: {error}"


def _left_out(outcome: Outcome) -> str:
    listed = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in sorted(outcome.counts.items()) if count)
    return listed or "no picture"


def _report(
    config: PreprocessPictures, media: Media, people: People | None, outcome: Outcome, stage: str
) -> StageReport:
    counts = {"videos" if media.video else "pictures": len(media.paths)}
    counts |= {name: count for name, count in sorted(outcome.counts.items()) if count or name == "samples"}
    notes = []
    failures = [("picture or video", line) for line in outcome.failures]
    if people is None:
        notes.append("no boxes were given: one person is taken to fill every image")
    else:
        unknown = people.unknown(media.names) if len(people.frames) > 1 or len(media.names) > 1 else []
        counts |= {"names_without_a_file": len(unknown)} if unknown else {}
        counts |= {"people_with_too_few_keypoints": people.without_box} if people.without_box else {}
        failures += [("key points", line) for line in people.damaged]
        failures += [("boxes", f"{name} is not there") for name in unknown]
    if failures:
        shown = "; ".join(line for _, line in failures[:_NAMED_IN_NOTES])
        more = f"; and {len(failures) - _NAMED_IN_NOTES} more" if len(failures) > _NAMED_IN_NOTES else ""
        notes.append(f"left out: {shown}{more}")
    tables = (Table("What could not be read", ("kind", "what"), failures),) if failures else ()
    return StageReport(stage, (config.output,), counts=counts, notes=notes, tables=tables)
