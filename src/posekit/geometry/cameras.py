"""Cameras: calibrated perspective ones with three lens models, and the two crop cameras of body regressors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from posekit.errors import InputError
from posekit.geometry.lenses import Lens

_LENSES: tuple[Lens, ...] = get_args(Lens)
_COEFFICIENTS: dict[str, tuple[int, ...]] = {"pinhole": (0,), "opencv": (4, 5, 8), "human36m": (5,)}
_TANGENTIAL_FACTOR = {"opencv": 2.0, "human36m": 1.0}
_FEW_FIXED_POINT_STEPS, _FIXED_POINT_STEPS = 1, 5
_NEWTON_STEPS = 8
_SETTLED = 1e-14
_UNSOLVED = 1e-10
"""Residual in normalised coordinates (less than a millionth of a pixel) above which a lens has no inverse there."""

_ORTHONORMAL_TOLERANCE = 1e-4

ArrayLike = Tensor | np.ndarray


@dataclass(frozen=True, eq=False)
class Cameras:
    """Any batch of calibrated cameras of one lens model.

    `rotation` and `translation` are camera_from_world: ``X_camera = rotation @ X_world + translation``, in metres.
    `intrinsics` and `image_size` (width, height) are pixels. `distortion` holds, for ``opencv``, k1, k2, p1, p2
    [, k3 [, k4, k5, k6]]; for ``human36m``, k1, k2, k3, p1, p2 (the data set's own tangential model, not OpenCV's); for
    ``pinhole`` nothing.

    Points of shape ``(*batch, N, 3)`` are broadcast against the cameras' batch shape: ``(N, 3)`` is seen by every camera,
    ``(T, 1, N, 3)`` by every one of ``(C,)`` cameras at every time.
    """

    intrinsics: Float[Tensor, "*C 3 3"]
    rotation: Float[Tensor, "*C 3 3"]
    translation: Float[Tensor, "*C 3"]
    distortion: Float[Tensor, "*C D"]
    lens: Lens
    image_size: Real[Tensor, "*C 2"]

    @staticmethod
    def checked(
        intrinsics: ArrayLike,
        rotation: ArrayLike,
        translation: ArrayLike,
        *,
        image_size: ArrayLike | Sequence[float | int],
        distortion: ArrayLike | Sequence[float | int] | None = None,
        lens: str = "pinhole",
        names: Sequence[str] | None = None,
    ) -> Cameras:
        """Cameras from numbers that came from outside (double precision unless tensors say otherwise).

        `image_size` and `distortion` may be given once for all cameras. Raises InputError, naming the camera by `names`
        or by its index, for values that are no camera.
        """
        model = _lens_model(lens)
        K = torch.as_tensor(intrinsics)
        K = K if K.is_floating_point() else K.to(torch.float64)
        batch = K.shape[:-2]
        R, t, coefficients, size = (
            torch.as_tensor(value, dtype=K.dtype, device=K.device)
            for value in (rotation, translation, [] if distortion is None else distortion, image_size)
        )
        _check_shapes(K, R, t, coefficients, model)
        cameras = Cameras(
            K, R, t, coefficients.expand(*batch, coefficients.shape[-1]), model, size.expand(*batch, 2).clone()
        )
        _check_values(cameras, names)
        return cameras

    @staticmethod
    def stack(cameras: Sequence[Cameras]) -> Cameras:
        """Cameras of one batch shape as one batch with a new first axis; pinholes join either lens model.

        Raises InputError if the list is empty or holds both OpenCV and Human3.6M lenses.
        """
        lenses = sorted({camera.lens for camera in cameras} - {"pinhole"})
        if not cameras or len(lenses) > 1:
            raise InputError(
                "these cameras cannot be one batch",
                got=lenses if cameras else "no camera",
                accepted="one or more cameras of one lens model",
            )
        lens: Lens = next((camera.lens for camera in cameras if camera.lens != "pinhole"), "pinhole")
        width = max(camera.distortion.shape[-1] for camera in cameras)
        padded = [torch.nn.functional.pad(c.distortion, (0, width - c.distortion.shape[-1])) for c in cameras]
        return Cameras(
            torch.stack([camera.intrinsics for camera in cameras]),
            torch.stack([camera.rotation for camera in cameras]),
            torch.stack([camera.translation for camera in cameras]),
            torch.stack(padded),
            lens,
            torch.stack([camera.image_size for camera in cameras]),
        )

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch; empty for a single camera."""
        return self.intrinsics.shape[:-2]

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("a single camera has no length")
        return self.batch_shape[0]

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> Cameras:
        """The cameras at `index` of the first batch axis."""
        if not self.batch_shape:
            raise IndexError("a single camera cannot be indexed")
        return Cameras(
            self.intrinsics[index],
            self.rotation[index],
            self.translation[index],
            self.distortion[index],
            self.lens,
            self.image_size[index],
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Cameras:
        """The same cameras on another device or at another precision."""
        return replace(
            self,
            intrinsics=self.intrinsics.to(device=device, dtype=dtype),
            rotation=self.rotation.to(device=device, dtype=dtype),
            translation=self.translation.to(device=device, dtype=dtype),
            distortion=self.distortion.to(device=device, dtype=dtype),
            image_size=self.image_size.to(device=device, dtype=dtype),
        )

    def camera_from_world(self, points: Float[Tensor, "*points N 3"]) -> Float[Tensor, "*seen N 3"]:
        """World points in the cameras' frames."""
        return points @ self.rotation.transpose(-1, -2) + self.translation[..., None, :]

    def world_from_camera(self, points: Float[Tensor, "*points N 3"]) -> Float[Tensor, "*seen N 3"]:
        """Points of the cameras' frames in the world."""
        return (points - self.translation[..., None, :]) @ self.rotation

    def project(self, points: Float[Tensor, "*points N 3"]) -> Float[Tensor, "*seen N 2"]:
        """Pixels of world points, through the lens. Points behind a camera get pixels too: look at their depth."""
        return self.project_camera(self.camera_from_world(points))

    def project_camera(self, points: Float[Tensor, "*points N 3"]) -> Float[Tensor, "*seen N 2"]:
        """Pixels of points given in the cameras' frames, through the lens."""
        return self.pixels_from_normalized(self.distort(points[..., :2] / points[..., 2:]))

    def pixels_from_normalized(self, normalized: Float[Tensor, "*points N 2"]) -> Float[Tensor, "*seen N 2"]:
        """Pixels of the points (x/z, y/z) of the image plane, without a lens."""
        return normalized @ self.intrinsics[..., :2, :2].transpose(-1, -2) + self.intrinsics[..., None, :2, 2]

    def normalized_from_pixels(self, pixels: Float[Tensor, "*points N 2"]) -> Float[Tensor, "*seen N 2"]:
        """Points (x/z, y/z) of the image plane behind pixels, without a lens."""
        centred = pixels - self.intrinsics[..., None, :2, 2]
        fx, fy, skew = self.intrinsics[..., 0, 0], self.intrinsics[..., 1, 1], self.intrinsics[..., 0, 1]
        y = centred[..., 1] / fy[..., None]
        return torch.stack([(centred[..., 0] - skew[..., None] * y) / fx[..., None], y], dim=-1)

    def distort(self, normalized: Float[Tensor, "*points N 2"]) -> Float[Tensor, "*seen N 2"]:
        """Where the lens puts the points (x/z, y/z) of the image plane."""
        if self.lens == "pinhole":
            return self._seen(normalized)
        x, y = normalized.unbind(-1)
        bent = _distort(x, y, self._lens())
        return torch.stack([bent.x, bent.y], dim=-1)

    def undistort(self, pixels: Float[Tensor, "*points N 2"]) -> Float[Tensor, "*seen N 2"]:
        """Points (x/z, y/z) of the image plane that the lens puts at `pixels`; NaN where there is no such point.

        Exact to a millionth of a pixel at double precision, which it works in whatever the input is.
        """
        if self.lens == "pinhole":
            return self.normalized_from_pixels(pixels)
        wide = self.to(dtype=torch.float64)
        return _undistort(wide.normalized_from_pixels(pixels.to(torch.float64)), wide._lens()).to(pixels.dtype)

    def undistort_pixels(self, pixels: Float[Tensor, "*points N 2"]) -> Float[Tensor, "*seen N 2"]:
        """Pixels at which an ideal pinhole camera of the same intrinsics sees what the lens puts at `pixels`."""
        return self._seen(pixels) if self.lens == "pinhole" else self.pixels_from_normalized(self.undistort(pixels))

    def centers(self) -> Float[Tensor, "*C 3"]:
        """Positions of the cameras in the world."""
        return -(self.rotation.transpose(-1, -2) @ self.translation[..., None])[..., 0]

    def projection_matrices(self) -> Float[Tensor, "*C 3 4"]:
        """``K [R | t]``, which ignores the lens."""
        return self.intrinsics @ torch.cat([self.rotation, self.translation[..., None]], dim=-1)

    def _seen(self, points: Float[Tensor, "*points N 2"]) -> Float[Tensor, "*seen N 2"]:
        return points.expand(*np.broadcast_shapes(points.shape[:-2], self.batch_shape), *points.shape[-2:])

    def _lens(self) -> _LensTerms:
        d = self.distortion[..., None, :]
        zero = torch.zeros_like(d[..., 0])
        if self.lens == "human36m":
            radial, (p1, p2) = (d[..., 0], d[..., 1], d[..., 2]), (d[..., 3], d[..., 4])
            return _LensTerms(radial, None, p1, p2, _TANGENTIAL_FACTOR[self.lens])
        k3 = d[..., 4] if d.shape[-1] > 4 else zero
        denominator = (d[..., 5], d[..., 6], d[..., 7]) if d.shape[-1] > 5 else None
        return _LensTerms((d[..., 0], d[..., 1], k3), denominator, d[..., 2], d[..., 3], _TANGENTIAL_FACTOR[self.lens])


class _LensTerms(NamedTuple):
    radial: tuple[Tensor, Tensor, Tensor]
    denominator: tuple[Tensor, Tensor, Tensor] | None
    p1: Tensor
    p2: Tensor
    tangential_factor: float


class _Distorted(NamedTuple):
    x: Tensor
    y: Tensor
    gain: Tensor
    gain_slope: Tensor


def _distort(x: Tensor, y: Tensor, lens: _LensTerms) -> _Distorted:
    """x' = x (radial + g (p1 y + p2 x)) + p2 r^2, and y' likewise with p1.

    With g = 2 this is OpenCV's model, rewritten; with g = 1 Human3.6M's.
    """
    square = x * x + y * y
    k1, k2, k3 = lens.radial
    gain = 1.0 + square * (k1 + square * (k2 + square * k3))
    gain_slope = k1 + square * (2.0 * k2 + 3.0 * square * k3)
    if lens.denominator is not None:
        k4, k5, k6 = lens.denominator
        below = 1.0 + square * (k4 + square * (k5 + square * k6))
        below_slope = k4 + square * (2.0 * k5 + 3.0 * square * k6)
        gain, gain_slope = gain / below, (gain_slope * below - gain * below_slope) / (below * below)
    total = gain + lens.tangential_factor * (lens.p1 * y + lens.p2 * x)
    return _Distorted(x * total + lens.p2 * square, y * total + lens.p1 * square, total, gain_slope)


def _undistort(distorted: Tensor, lens: _LensTerms) -> Tensor:
    """Newton's method, started by fixed-point steps; one of those will do unless points lie near where the lens folds."""
    u, v = (part.contiguous() for part in distorted.unbind(-1))
    x, y, found = _solve_lens(u, v, lens, _FEW_FIXED_POINT_STEPS)
    if bool((torch.isfinite(u) & torch.isfinite(v) & ~found).any()):
        more_x, more_y, more_found = _solve_lens(u, v, lens, _FIXED_POINT_STEPS)
        x, y = torch.where(found, x, more_x), torch.where(found, y, more_y)
        found = found | more_found
    return torch.where(found[..., None], torch.stack([x, y], -1), torch.nan)


def _solve_lens(u: Tensor, v: Tensor, lens: _LensTerms, fixed_point_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """(x, y) that the lens takes to (u, v), and where they are found."""
    x, y = u, v
    for _ in range(fixed_point_steps):
        square, gain = x * x + y * y, _distort(x, y, lens).gain
        x, y = (u - lens.p2 * square) / gain, (v - lens.p1 * square) / gain
    g = lens.tangential_factor
    for step in range(_NEWTON_STEPS + 1):
        bent = _distort(x, y, lens)
        ex, ey = u - bent.x, v - bent.y
        error = torch.maximum(ex.abs(), ey.abs())
        if step == _NEWTON_STEPS or not bool((error > _SETTLED).any()):
            break
        along_x, along_y = 2.0 * x * bent.gain_slope + g * lens.p2, 2.0 * y * bent.gain_slope + g * lens.p1
        a, b = bent.gain + x * along_x + 2.0 * lens.p2 * x, x * along_y + 2.0 * lens.p2 * y
        c, d = y * along_x + 2.0 * lens.p1 * x, bent.gain + y * along_y + 2.0 * lens.p1 * y
        determinant = a * d - b * c
        x, y = x + (d * ex - b * ey) / determinant, y + (a * ey - c * ex) / determinant
    # Beyond the fold there are solutions on the other side of the axis, which no real lens has.
    return x, y, (error < _UNSOLVED) & (bent.gain > 0)


def _lens_model(name: str) -> Lens:
    for lens in _LENSES:
        if lens == name:
            return lens
    raise InputError("unknown lens model", got=name, accepted=list(_LENSES))


def _check_shapes(K: Tensor, R: Tensor, t: Tensor, coefficients: Tensor, lens: Lens) -> None:
    batch = K.shape[:-2]
    if K.shape[-2:] != (3, 3) or R.shape != (*batch, 3, 3) or t.shape != (*batch, 3):
        shapes = [tuple(value.shape) for value in (K, R, t)]
        raise InputError(
            "camera matrices have the wrong shape",
            got=shapes,
            accepted="intrinsics (..., 3, 3), rotation (..., 3, 3), translation (..., 3)",
        )
    if coefficients.shape[-1] not in _COEFFICIENTS[lens]:
        raise InputError(
            f"wrong number of distortion coefficients for a lens of model {lens}",
            got=coefficients.shape[-1],
            accepted=list(_COEFFICIENTS[lens]),
        )


def _check_values(cameras: Cameras, names: Sequence[str] | None) -> None:
    K, R, t, size = cameras.intrinsics, cameras.rotation, cameras.translation, cameras.image_size
    flat = [value.flatten(-2) for value in (K, R)] + [t, cameras.distortion, size]
    _refuse(~torch.cat(flat, dim=-1).isfinite().all(-1), "has values that are not finite", names, "finite numbers")
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]], dim=-1)
    _refuse((focal <= 0).any(-1), "has a focal length that is not positive", names, "positive numbers of pixels", focal)
    last_row = torch.tensor([0.0, 0.0, 1.0], dtype=K.dtype, device=K.device)
    odd = (K[..., 2, :] != last_row).any(-1) | (K[..., 1, 0] != 0)
    _refuse(
        odd, "has intrinsics that are not upper triangular with a last row of 0 0 1", names, "[fx s cx; 0 fy cy; 0 0 1]"
    )
    _refuse((size <= 0).any(-1), "has an empty image", names, "positive width and height", size)
    eye = torch.eye(3, dtype=R.dtype, device=R.device)
    skewed = (R @ R.transpose(-1, -2) - eye).abs().flatten(-2).amax(-1) > _ORTHONORMAL_TOLERANCE
    _refuse(skewed, "has a rotation matrix that is not orthonormal", names, "orthonormal to 1e-4", R.flatten(-2))
    determinant = torch.linalg.det(R)
    _refuse(determinant < 0, "has a reflection in place of a rotation", names, "determinant +1", determinant[..., None])


def _refuse(bad: Tensor, what: str, names: Sequence[str] | None, accepted: str, values: Tensor | None = None) -> None:
    if not bool(bad.any()):
        return
    index = int(bad.flatten().nonzero()[0, 0])
    label = names[index] if names is not None and index < len(names) else str(index)
    got = None if values is None else [f"{value:.6g}" for value in values.reshape(-1, values.shape[-1])[index].tolist()]
    raise InputError(f"camera {label} {what}", got=got, accepted=accepted)


@dataclass(frozen=True, eq=False)
class WeakPerspective:
    """Scaled orthographic camera of a square crop: ``u = scale * (x, y) + translation`` in normalised crop units.

    Points are metres in axes parallel to the camera's; the translation is added after scaling.
    """

    scale: Float[Tensor, "*batch"]
    translation: Float[Tensor, "*batch 2"]

    def project(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N 2"]:
        """Normalised crop coordinates of points."""
        return self.scale[..., None, None] * points[..., :2] + self.translation[..., None, :]

    def depth(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N"]:
        """Depth of points in normalised crop units, from the plane z = 0: comparable with what `project` returns."""
        return self.scale[..., None] * points[..., 2]


@dataclass(frozen=True, eq=False)
class CropPerspective:
    """Perspective camera of a square crop from a predicted scale and shift, as HMR and SPIN read them.

    The camera has a fixed focal length and the body stands at ``(tx, ty, 2 f / (side * scale))``. The translation is
    in metres and therefore scaled with the body, unlike that of `WeakPerspective`.
    """

    scale: Float[Tensor, "*batch"]
    translation: Float[Tensor, "*batch 2"]
    focal_px: float = 5000.0
    side: int = 224

    def offset(self) -> Float[Tensor, "*batch 3"]:
        """Position of the body's origin in the camera's frame, metres."""
        distance = 2.0 * self.focal_px / (self.side * self.scale + 1e-9)
        return torch.cat([self.translation, distance[..., None]], dim=-1)

    def project(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N 2"]:
        """Normalised crop coordinates of points."""
        seen = points + self.offset()[..., None, :]
        return (2.0 * self.focal_px / self.side) * seen[..., :2] / seen[..., 2:]

    def depth(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N"]:
        """Depth of points from the camera, metres."""
        return points[..., 2] + self.offset()[..., None, 2]

    def pinhole(self) -> Cameras:
        """The same cameras in pixels of the crop; their world is the body's frame."""
        offset = self.offset()
        middle = (self.side - 1) / 2.0
        K = torch.tensor([[self.focal_px, 0.0, middle], [0.0, self.focal_px, middle], [0.0, 0.0, 1.0]])
        eye = torch.eye(3, dtype=offset.dtype, device=offset.device)
        batch = offset.shape[:-1]
        return Cameras(
            K.to(offset).expand(*batch, 3, 3),
            eye.expand(*batch, 3, 3),
            offset,
            offset.new_zeros((*batch, 0)),
            "pinhole",
            offset.new_full((*batch, 2), float(self.side)),
        )
