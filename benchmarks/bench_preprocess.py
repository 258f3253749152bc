"""Preprocessing Human3.6M's layout at full size: speed against bare decoding, and the most memory it takes.

Four videos of moving texture, one subject. The bare loop decodes every frame with the same library and keeps none. Both stages
of posekit decode every frame too; with a stride of 5, as protocols ask, a fifth of them are cropped and encoded.

    python benchmarks/bench_preprocess.py [FRAMES]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

from posekit.config.data import PreprocessH36M
from posekit.stages.preprocess_h36m import preprocess_h36m

BASE = "Directions 1"


def make_raw(root: Path, frames: int) -> None:
    """One sequence of one subject with four cameras at the size of the release."""
    # Imported here, as in `main`: the measured process must hold what the stage needs and no more.
    from posekit.synthetic.h36m_metadata import write_metadata
    from posekit.synthetic.h36m_writer import SequenceWriter
    from posekit.synthetic.rig import rig

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    room = cv2.resize(coarse, (1600, 1200), interpolation=cv2.INTER_CUBIC)
    body = rng.uniform([-0.4, -0.4, 0.1], [0.4, 0.4, 1.8], (32, 3))
    cameras = rig("S1", 1000, 0)
    root.mkdir()
    write_metadata(root / "metadata.xml", 1000, 0, {}, body)
    with SequenceWriter(root, BASE, cameras, 50.0) as writer:
        for frame in range(frames):
            writer.add_pose(body + np.array([0.3 * np.sin(frame / 40), 0.0, 0.0]))
            shift = int(80 + 60 * np.sin(frame / 25))
            for index, camera in enumerate(cameras):
                picture = room[20 : 20 + camera.height, 200:1200].copy()
                picture[300:700, 300 + shift : 500 + shift] = room[300:700, 300:500]
                writer.add_picture(index, picture)


def decode(root: Path) -> int:
    count = 0
    for path in sorted((root / "S1" / "Videos").glob("*.mp4")):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            count += sum(1 for _ in container.decode(stream))
    return count


def measure(root: Path, what: str) -> dict[str, float]:
    """Runs one way in this process: seconds, and megabytes at the most, before and after."""
    before = peak_mb()
    start = time.perf_counter()
    if what == "decode":
        decode(root)
    else:
        stride = int(what)
        with tempfile.TemporaryDirectory() as folder:
            preprocess_h36m(PreprocessH36M(raw=root, output=Path(folder) / "h36m.h5", train_stride=stride))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "imports_mb": before, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """The most memory that this process had (Linux); getrusage would count that of the process which started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measured_alone(root: Path, what: str, repeats: int = 3) -> dict[str, float]:
    """The fastest of several runs, each in a process of its own."""
    runs = []
    for _ in range(repeats):
        command = [sys.executable, __file__, "--measure", str(root), what]
        runs.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
    return min(runs, key=lambda run: run["seconds"])


def main(frames: int = 500) -> None:
    from harness import write_results

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "raw"
        make_raw(root, frames)
        results = {what: measured_alone(root, what) for what in ("decode", "5", "1")}
    total = 4 * frames
    bare, fifth, every = (results[what] for what in ("decode", "5", "1"))
    path = write_results(
        "preprocess",
        {
            "frames": total,
            "bare_decoding": bare,
            "preprocess_stride_5": fifth,
            "preprocess_stride_1": every,
            "bare_frames_per_second": total / bare["seconds"],
            "stride_5_frames_per_second": total / fifth["seconds"],
            "stride_1_frames_per_second": total / every["seconds"],
            "stride_5_over_bare": fifth["seconds"] / bare["seconds"],
            "stride_1_over_bare": every["seconds"] / bare["seconds"],
        },
    )
    for name, run in (("bare decoding", bare), ("every 5th frame", fifth), ("every frame", every)):
        print(f"{name}: {total / run['seconds']:.0f} frames/s, peak {run['peak_mb']:.0f} MB")
    print(f"written to {path}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]), sys.argv[3])))
    else:
        main(*(int(argument) for argument in sys.argv[1:]))
