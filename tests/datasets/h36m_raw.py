"""Writes tiny recordings in the raw layout of Human3.6M, by formulas of its own.

Frame i of every video is one grey level, so that a test can tell which frame a crop came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import av
import cdflib.cdfwrite
import cv2
import numpy as np
from scipy.spatial.transform import Rotation

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
ACTIONS = (
    *("Miscellaneous", "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases"),
    *("Sitting", "SittingDown", "Smoking", "TakingPhoto", "Waiting", "Walking", "WalkingDog", "WalkingTogether"),
)
SUBJECTS = [f"S{number}" for number in range(1, 12)]
SIZES = ((100, 102), (100, 100), (100, 100), (100, 102))


def level(frame: int) -> int:
    return 20 + 4 * (frame % 50)


def default_base(subject: str, action_id: int, trial: int) -> str:
    if action_id == 1:
        return "_ALL 1" if trial == 1 else "_ALL"
    action = ACTIONS[action_id - 1]
    if subject != "S1":
        action = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}.get(action, action)
    action = {"WalkingTogether": "WalkTogether"}.get(action, action)
    if (subject, action) == ("S9", "SittingDown"):
        return ("SittingDown", "SittingDown 1")[trial - 1]
    return f"{action} 1" if trial == 1 else action


def camera_numbers(rng: np.random.Generator) -> np.ndarray:
    poses, lenses = [], []
    for camera in range(4):
        for _ in SUBJECTS:
            turn = np.pi / 4 + camera * np.pi / 2 + rng.uniform(-0.1, 0.1)
            centre = np.array([4500 * np.cos(turn), 4500 * np.sin(turn), 1600.0])
            forward = np.array([0, 0, 900.0]) - centre
            forward /= np.linalg.norm(forward)
            right = np.cross(forward, [0, 0, 1.0])
            right /= np.linalg.norm(right)
            R = np.stack([right, np.cross(forward, right), forward])
            poses.append([*Rotation.from_matrix(R).as_euler("XYZ"), *centre])
        lenses.append([114.5 + camera, 114.4, 51.2, 51.5, -0.207, 0.248, -0.003, -0.0014, -0.001])
    return np.concatenate([np.ravel(poses), np.ravel(lenses)])


@dataclass
class RawH36M:
    """The raw folder `root`; `frames` of video and `rows` of poses for every sequence added."""

    root: Path
    frames: int = 8
    rows: int = 8
    seed: int = 0
    numbers: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.numbers = camera_numbers(self.rng)
        self.root.mkdir(parents=True, exist_ok=True)
        self.write_metadata()

    def write_metadata(self, w0: str | None = None) -> None:
        rows = [["Action", "subaction", *SUBJECTS]]
        for action_id in range(1, 17):
            for trial in (1, 2):
                rows.append([str(action_id), str(trial), *(default_base(s, action_id, trial) for s in SUBJECTS)])
        rows.append(["", "", *(f"Actor{s}" for s in SUBJECTS)])
        rows.append(["", "", *("[1002 1000;1000 1000;1000 1000;1002 1000]" for _ in SUBJECTS)])
        table = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        names = "".join(f"<n>{name}</n>" for name in ACTIONS)
        numbers = " ".join(repr(float(number)) for number in self.numbers) if w0 is None else w0
        ids = "".join(f"<id>{camera}</id>" for camera in CAMERAS)
        (self.root / "metadata.xml").write_text(
            f"<a><mapping>{table}</mapping><actionnames>{names}</actionnames>"
            f"<w0>[{numbers}]</w0><dbcameras><index2id>{ids}</index2id></dbcameras></a>"
        )

    def pose(self, subject: str, camera: int) -> tuple[np.ndarray, np.ndarray]:
        """R (camera_from_world) and the camera's centre (mm)."""
        at = 6 * (11 * camera + SUBJECTS.index(subject))
        rx, ry, rz, *centre = self.numbers[at : at + 6]
        return Rotation.from_euler("XYZ", [rx, ry, rz]).as_matrix(), np.array(centre)

    def project(self, mono: np.ndarray, camera: int) -> np.ndarray:
        fx, fy, cx, cy, k1, k2, k3, p1, p2 = self.numbers[264 + 9 * camera :][:9]
        x, y = mono[..., 0] / mono[..., 2], mono[..., 1] / mono[..., 2]
        r2 = x**2 + y**2
        total = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * y + p2 * x
        return np.stack([fx * (x * total + p2 * r2) + cx, fy * (y * total + p1 * r2) + cy], axis=-1)

    def world(self) -> np.ndarray:
        """A cloud of 32 joints that wanders, mm."""
        shape = self.rng.uniform([-400, -400, 100], [400, 400, 1800], (32, 3))
        walk = np.cumsum(self.rng.normal(0, 8, (self.rows, 1, 3)), axis=0)
        return shape + walk * [1, 1, 0.2]

    def add(
        self, subject: str, base: str, *, cameras: tuple[int, ...] = (0, 1, 2, 3), video: bool = True
    ) -> np.ndarray:
        """Adds a sequence; returns its joints in the world (rows, 32, 3), mm."""
        world = self.world()
        for camera in cameras:
            name = f"{base}.{CAMERAS[camera]}"
            R, centre = self.pose(subject, camera)
            mono = (world - centre) @ R.T
            folder = self.root / subject / "MyPoseFeatures"
            write_cdf(folder / "D3_Positions_mono" / f"{name}.cdf", mono.reshape(1, self.rows, 96))
            write_cdf(folder / "D2_Positions" / f"{name}.cdf", self.project(mono, camera).reshape(1, self.rows, 64))
            if video:
                write_video(self.root / subject / "Videos" / f"{name}.mp4", self.frames, SIZES[camera])
        return world


def write_cdf(path: Path, values: np.ndarray, name: str = "Pose") -> None:
    """One record of one variable; a leading axis of 1 is the record axis."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    file = cdflib.cdfwrite.CDF(str(path))
    spec = {
        "Variable": name,
        "Data_Type": 44,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Var_Type": "zVariable",
        "Dim_Sizes": list(values.shape[1:]),
    }
    file.write_var(spec, var_data=values.astype(np.float32))
    file.close()


def grey(frame: int, size: tuple[int, int]) -> np.ndarray:
    return np.full((size[1], size[0], 3), level(frame), dtype=np.uint8)


def write_video(path: Path, frames: int, size: tuple[int, int], *, faststart: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as output:
        stream = output.add_stream("libx264", rate=50, options={"bf": "0", "preset": "ultrafast"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 10
        for index in range(frames):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(grey(index, size), format="rgb24")))
        output.mux(stream.encode())


def write_frames(pattern: str, frames: range, size: tuple[int, int]) -> None:
    """Images named by `pattern`, in which the number of the frame (from 1) is filled in."""
    for frame in frames:
        path = Path(pattern.format(frame + 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), grey(frame, size))
