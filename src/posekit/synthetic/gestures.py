"""Built-in motions: what the actions of Human3.6M look like, as key poses, and the walking cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from posekit.errors import InputError
from posekit.synthetic.anatomy import mirrored_angles, within_limits
from posekit.synthetic.seeding import stream

Pose = Mapping[str, float | int]

STANDING: Pose = {
    **{f"{side}_{name}": value for side in ("left", "right") for name, value in {
        "shoulder_raise": 4.0, "shoulder_spread": 9.0, "shoulder_twist": 18.0, "elbow": 14.0,
        "hip_raise": 3.0, "hip_spread": -3.0, "hip_twist": 4.0, "knee": 5.0,
    }.items()},
}  # fmt: skip

SITTING: Pose = {
    **STANDING,
    **{f"{side}_{name}": value for side in ("left", "right") for name, value in {
        "hip_raise": 84.0, "hip_spread": 6.0, "knee": 88.0, "shoulder_raise": 22.0, "elbow": 62.0, "shoulder_twist": 30.0,
    }.items()},
    "pelvis_tilt": -4.0, "spine_bend": 10.0, "neck_nod": -4.0,
}  # fmt: skip


@dataclass(frozen=True)
class Script:
    """An action as a round of key poses.

    Each key pose is a share of the round and the angles in which it differs from `base`; `seconds` is the length of the
    round. `seat` says that the body sits on something when it is low.
    """

    seconds: float
    base: Pose
    keys: tuple[tuple[float, Pose], ...]
    seat: bool = False


def _hand_at_mouth(lift: int, elbow: int) -> Pose:
    return {"right_shoulder_raise": lift, "right_shoulder_spread": 14, "right_shoulder_twist": 46, "right_elbow": elbow}


_PHONE = {"right_shoulder_raise": 69, "right_shoulder_spread": 6, "right_shoulder_twist": 16, "right_elbow": 145}
_CAMERA_UP = {
    f"{side}_{name}": value
    for side in ("left", "right")
    for name, value in {"shoulder_raise": 62, "shoulder_spread": 4, "shoulder_twist": 38, "elbow": 112}.items()
}
_BENT = {
    "pelvis_tilt": 18,
    "spine_bend": 38,
    "left_hip_raise": 36,
    "right_hip_raise": 36,
    "left_knee": 30,
    "right_knee": 30,
}
_CROSSED = {
    "left_shoulder_raise": 18, "left_shoulder_twist": 62, "left_elbow": 96,
    "right_shoulder_raise": 24, "right_shoulder_twist": 60, "right_elbow": 92,
}  # fmt: skip

SCRIPTS: dict[str, Script] = {
    "Directions": Script(4.2, STANDING, (
        (0.00, {}),
        (0.16, {"right_shoulder_raise": 82, "right_shoulder_spread": 14, "right_elbow": 6, "spine_turn": -6}),
        (0.34, {"right_shoulder_raise": 78, "right_shoulder_spread": 16, "right_elbow": 12, "spine_turn": -8,
                "neck_turn": -12}),
        (0.52, {"right_shoulder_raise": 30, "right_shoulder_spread": 82, "right_elbow": 10, "spine_turn": -22,
                "neck_turn": -38}),
        (0.68, {"left_shoulder_raise": 40, "left_shoulder_spread": 70, "left_elbow": 14, "right_elbow": 40,
                "spine_turn": 16, "neck_turn": 34}),
        (0.86, {"left_shoulder_raise": 66, "left_elbow": 40, "right_shoulder_raise": 24, "right_elbow": 50}),
    )),
    "Discussion": Script(3.0, STANDING, (
        (0.00, {"left_shoulder_raise": 24, "left_elbow": 72, "right_shoulder_raise": 22, "right_elbow": 70}),
        (0.22, {"left_shoulder_raise": 34, "left_shoulder_spread": 28, "left_elbow": 84, "right_shoulder_raise": 46,
                "right_shoulder_spread": 34, "right_elbow": 72, "right_shoulder_twist": 0, "spine_turn": -8}),
        (0.45, {"left_shoulder_raise": 28, "left_elbow": 90, "right_shoulder_raise": 30, "right_elbow": 96,
                "left_shoulder_twist": 40, "right_shoulder_twist": 40, "neck_turn": 18}),
        (0.72, {"left_shoulder_raise": 50, "left_shoulder_spread": 36, "left_elbow": 62, "left_shoulder_twist": 0,
                "right_shoulder_raise": 16, "right_elbow": 58, "spine_turn": 10, "spine_lean": 4}),
    )),
    "Eating": Script(3.4, SITTING, (
        (0.00, {"right_elbow": 78}),
        (0.35, {**_hand_at_mouth(60, 119), "neck_nod": 14}),
        (0.50, {**_hand_at_mouth(63, 121), "neck_nod": 12}),
        (0.80, {"right_shoulder_raise": 40, "right_elbow": 66, "neck_nod": 16}),
    ), seat=True),
    "Greeting": Script(1.8, STANDING, (
        (0.00, {"right_shoulder_spread": 88, "right_shoulder_raise": 20, "right_shoulder_twist": -72, "right_elbow": 92,
                "right_wrist": -20}),
        (0.25, {"right_shoulder_spread": 92, "right_shoulder_raise": 24, "right_shoulder_twist": -76, "right_elbow": 64,
                "right_wrist": 20, "spine_lean": -3}),
        (0.50, {"right_shoulder_spread": 88, "right_shoulder_raise": 20, "right_shoulder_twist": -72, "right_elbow": 96,
                "right_wrist": -20, "neck_turn": -10}),
        (0.75, {"right_shoulder_spread": 94, "right_shoulder_raise": 26, "right_shoulder_twist": -76, "right_elbow": 62,
                "right_wrist": 20, "spine_lean": -4}),
    )),
    "Phoning": Script(5.0, STANDING, (
        (0.00, _PHONE),
        (0.30, {**_PHONE, "neck_turn": 16, "spine_turn": 8, "left_elbow": 60, "left_shoulder_raise": 14}),
        (0.55, {**_PHONE, "neck_nod": 12, "left_elbow": 84, "left_shoulder_raise": 26, "left_shoulder_twist": 44}),
        (0.80, {**_PHONE, "neck_turn": -14, "spine_turn": -8}),
    )),
    "Posing": Script(6.0, STANDING, (
        (0.00, {"right_shoulder_spread": 46, "right_shoulder_twist": 66, "right_elbow": 96, "spine_lean": 5}),
        (0.30, {"left_shoulder_spread": 46, "right_shoulder_spread": 46, "left_shoulder_twist": 66,
                "right_shoulder_twist": 66, "left_elbow": 96, "right_elbow": 96, "neck_turn": 20}),
        (0.60, {"left_shoulder_spread": 122, "left_shoulder_twist": -60, "left_elbow": 116, "right_shoulder_spread": 40,
                "spine_lean": -6, "neck_turn": -24}),
        (0.82, {**_CROSSED, "spine_bend": -4}),
    )),
    "Purchases": Script(5.0, STANDING, (
        (0.00, {"right_elbow": 60}),
        (0.28, {**_BENT, "right_shoulder_raise": 66, "right_elbow": 22, "left_shoulder_raise": 26, "neck_nod": -10}),
        (0.45, {**_BENT, "right_shoulder_raise": 52, "right_elbow": 46, "left_shoulder_raise": 40, "left_elbow": 40}),
        (0.72, {"left_shoulder_raise": 34, "left_elbow": 92, "right_shoulder_raise": 36, "right_elbow": 90,
                "neck_nod": 24}),
    )),
    "Sitting": Script(5.0, SITTING, (
        (0.00, {}),
        (0.30, {"spine_bend": 26, "left_shoulder_raise": 40, "right_shoulder_raise": 40, "neck_nod": -14}),
        (0.55, {**_CROSSED, "spine_bend": 4, "neck_turn": 26}),
        (0.80, {"spine_turn": -18, "neck_turn": -22, "right_elbow": 100, "right_shoulder_spread": 24}),
    ), seat=True),
    "SittingDown": Script(5.0, STANDING, (
        (0.00, {}),
        (0.22, {"pelvis_tilt": 14, "spine_bend": 30, "left_hip_raise": 62, "right_hip_raise": 62, "left_knee": 66,
                "right_knee": 66, "left_shoulder_raise": 36, "right_shoulder_raise": 36}),
        (0.38, SITTING),
        (0.66, {**SITTING, "spine_bend": 14, "neck_nod": 8}),
        (0.80, {"pelvis_tilt": 16, "spine_bend": 32, "left_hip_raise": 68, "right_hip_raise": 68, "left_knee": 70,
                "right_knee": 70, "left_shoulder_raise": 34, "right_shoulder_raise": 34}),
    ), seat=True),
    "Smoking": Script(4.4, STANDING, (
        (0.00, {"right_elbow": 40}),
        (0.30, _hand_at_mouth(61, 120)),
        (0.48, {**_hand_at_mouth(63, 122), "neck_nod": -6}),
        (0.75, {"right_shoulder_raise": 18, "right_shoulder_spread": 26, "right_elbow": 66, "neck_turn": 20}),
    )),
    "Photo": Script(4.0, STANDING, (
        (0.00, _CAMERA_UP),
        (0.40, {**_CAMERA_UP, "left_knee": 24, "right_knee": 24, "left_hip_raise": 20, "right_hip_raise": 20,
                "spine_bend": 8}),
        (0.75, {**_CAMERA_UP, "spine_turn": 14, "spine_lean": 4}),
    )),
    "Waiting": Script(6.0, STANDING, (
        (0.00, {}),
        (0.25, {"pelvis_lean": 3, "spine_lean": -4, "left_knee": 16, "left_hip_raise": 12, "neck_turn": 24}),
        (0.50, {**_CROSSED, "neck_turn": -8}),
        (0.75, {**_CROSSED, "pelvis_lean": -3, "spine_lean": 4, "right_knee": 16, "right_hip_raise": 12, "neck_turn": -30}),
    )),
    "Walking": Script(1.08, STANDING, ()),
    "WalkDog": Script(1.16, {**STANDING, "right_shoulder_raise": 26, "right_elbow": 38, "neck_nod": 10}, ()),
    "WalkTogether": Script(1.12, {**STANDING, "neck_turn": 16}, ()),
}  # fmt: skip
"""Actions by Human3.6M's names."""

_GAIT_PERCENT = np.array([0, 12, 25, 38, 50, 62, 75, 87, 100]) / 100.0
_GAIT: dict[str, tuple[float, ...]] = {
    "hip_raise": (27, 23, 11, 0, -9, -1, 20, 29, 27),
    "knee": (5, 17, 10, 5, 12, 46, 58, 24, 5),
    "ankle": (0, -4, 4, 8, 4, -16, -2, 1, 0),
    "shoulder_raise": (-20, -15, -2, 12, 20, 15, 2, -12, -20),
    "elbow": (14, 15, 20, 28, 34, 30, 24, 18, 14),
}
"""Angles of one leg, and of the arm on its side, over a stride from heel strike to heel strike (rounded textbook curves)."""

_SWAY_DEGREES: dict[str, float] = {
    "neck_turn": 5.0,
    "neck_nod": 3.0,
    "spine_turn": 2.5,
    "spine_lean": 1.5,
    "spine_bend": 1.5,
}
_SWAY_OF_A_SIDE: dict[str, float] = {"shoulder_raise": 4.0, "shoulder_spread": 3.0, "elbow": 5.0, "shoulder_twist": 4.0}


@dataclass(frozen=True)
class Gesture:
    """Joint angles over time, in degrees by the names of `anatomy.LIMITS`."""

    angles: dict[str, np.ndarray]
    fps: float
    seat: bool = False
    walks: bool = False

    def __len__(self) -> int:
        return len(next(iter(self.angles.values())))


def gesture(action: str, seconds: float, fps: float, seed: int, *who: object) -> Gesture:
    """A performance of an action: tempo, amplitude, side and sway differ with the seed and with who does it.

    Raises InputError for an unknown action.
    """
    if action not in SCRIPTS:
        raise InputError("no built-in motion for the action", got=action, accepted=sorted(SCRIPTS))
    script = SCRIPTS[action]
    rng = stream(seed, "gesture", action, *who)
    times = np.arange(max(2, int(np.ceil(seconds * fps)) + 1)) / fps
    tempo = script.seconds * rng.uniform(0.88, 1.15)
    phase = times / tempo + rng.uniform()
    walks = not script.keys
    angles = _walking(script, phase, rng) if walks else _performed(script, phase, rng)
    angles = _with_sway(angles, times, rng)
    if not walks:
        angles |= _flat_feet(angles)
    turn = _circling(times, rng) if walks else _shifting(times, rng)
    angles["pelvis_turn"] = angles.get("pelvis_turn", 0.0) + turn
    if rng.uniform() < 0.5:
        angles = mirrored_angles(angles)
    return Gesture(within_limits(angles), fps, seat=script.seat, walks=walks)


def _performed(script: Script, phase: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Key poses, each reached and left smoothly."""
    shares = np.array([share for share, _ in script.keys] + [1.0])
    at = np.mod(phase, 1.0)
    segment = np.clip(np.searchsorted(shares, at, side="right") - 1, 0, len(script.keys) - 1)
    progress = (at - shares[segment]) / (shares[segment + 1] - shares[segment])
    blend = progress * progress * (3.0 - 2.0 * progress)
    names = sorted(set(script.base) | {name for _, key in script.keys for name in key})
    angles = {}
    for name in names:
        rest = script.base.get(name, 0.0)
        size = (
            rng.uniform(0.85, 1.12) if name not in script.base or name.endswith(("raise", "spread", "elbow")) else 1.0
        )
        keys = np.array([rest + size * (key.get(name, rest) - rest) for _, key in script.keys])
        angles[name] = keys[segment] * (1.0 - blend) + keys[(segment + 1) % len(keys)] * blend
    return angles


def _walking(script: Script, phase: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    angles = {name: np.full(len(phase), value) for name, value in script.base.items()}
    stride, swing = rng.uniform(0.88, 1.05), rng.uniform(0.7, 1.25)
    for side, lag in (("left", 0.0), ("right", 0.5)):
        for name, curve in _GAIT.items():
            spline = CubicSpline(_GAIT_PERCENT, np.array(curve, dtype=float), bc_type="periodic")
            values = spline(np.mod(phase + lag, 1.0))
            if name in ("shoulder_raise", "elbow"):
                values = values * swing + (script.base.get(f"{side}_{name}", 0.0) - STANDING.get(f"{side}_{name}", 0.0))
            elif name == "hip_raise":
                values = values * stride
            angles[f"{side}_{name}"] = np.maximum(values, 0.0) if name in ("knee", "elbow") else values
    beat = 2.0 * np.pi * phase
    angles["pelvis_turn"] = 4.0 * np.cos(beat)
    angles["spine_turn"] = -8.0 * np.cos(beat)
    angles["pelvis_lean"] = -3.0 * np.sin(beat)
    angles["spine_lean"] = 3.0 * np.sin(beat)
    angles["pelvis_tilt"] = np.full(len(phase), rng.uniform(2.0, 6.0))
    return angles


def _with_sway(angles: dict[str, np.ndarray], times: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Nobody holds still: slow random oscillations on the upper body."""
    amplitudes = _SWAY_DEGREES | {
        f"{side}_{name}": size for side in ("left", "right") for name, size in _SWAY_OF_A_SIDE.items()
    }
    swaying = dict(angles)
    for name, amplitude in amplitudes.items():
        rates, phases = rng.uniform(0.12, 0.7, 3), rng.uniform(0, 2 * np.pi, 3)
        waves = np.sin(2 * np.pi * times[:, None] * rates + phases).sum(axis=1) / 3.0
        swaying[name] = swaying.get(name, 0.0) + amplitude * waves
    return swaying


def _flat_feet(angles: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Ankles that keep the soles level, whatever the legs do."""
    tilt = angles.get("pelvis_tilt", 0.0)
    return {f"{s}_ankle": angles[f"{s}_knee"] - angles[f"{s}_hip_raise"] + tilt for s in ("left", "right")}


def _circling(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Who walks in a small room turns all the time."""
    return rng.uniform(0.0, 360.0) + rng.choice([-1.0, 1.0]) * rng.uniform(52.0, 68.0) * times


def _shifting(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rate, phase = rng.uniform(0.05, 0.12), rng.uniform(0, 2 * np.pi)
    return rng.uniform(0.0, 360.0) + 9.0 * np.sin(2 * np.pi * rate * times + phase)
