"""Rasterizer: time per call on the packaged body at 224 x 224 px, forward and backward, against PyTorch3D where it is.

python benchmarks/bench_rasterizer.py [--threads N] [--seconds S]
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable

import torch
from harness import Timing, time_function, write_results
from torch import Tensor

from posekit.body.smpl_file import load_body
from posekit.render.rasterizer import rasterize
from posekit.render.renderer import Renderer
from posekit.render.silhouette import antialias_mask
from posekit.render.soft import soft_mask

SIZE = (224, 224)
BATCHES = (1, 8, 32)
GOALS_MS = {1: 5.0, 32: 130.0}
"""For the hard raster with colours, forward and backward, on two cores."""


def bodies_on_screen(count: int) -> tuple[Tensor, Tensor]:
    """Rest bodies turned at random, three quarters of the image high; vertices on the screen, and faces."""
    body = load_body()
    rest = torch.as_tensor(body.v_template, dtype=torch.float32)
    rest = rest - (rest.amax(0) + rest.amin(0)) / 2
    angle = torch.rand(count, generator=torch.Generator().manual_seed(0)) * 2 * torch.pi
    cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros(count), torch.ones(count)
    rows = [[cosine, zero, sine], [zero, -one, zero], [-sine, zero, cosine]]
    camera = rest @ torch.stack([torch.stack(row, -1) for row in rows], 1).mT + torch.tensor([0.0, 0.0, 4.0])
    focal = 0.75 * SIZE[0] * 4 / 1.7
    middle = torch.tensor([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2])
    screen = torch.cat([camera[..., :2] / camera[..., 2:] * focal + middle, camera[..., 2:]], -1)
    return screen, torch.as_tensor(body.faces).long()


def workloads(screen: Tensor, faces: Tensor) -> dict[str, Callable[[], None]]:
    """What is timed, by name; "f+b" is forward and backward with gradients to vertices and colours."""
    hard, smooth = (Renderer(faces, SIZE, antialias=antialias) for antialias in (False, True))
    colors = torch.rand(1, screen.shape[1], 3, generator=torch.Generator().manual_seed(1))

    def leaves() -> tuple[Tensor, Tensor]:
        return screen.clone().requires_grad_(), colors.clone().requires_grad_()

    def colored() -> None:
        vertices, table = leaves()
        seen = rasterize(vertices, hard.topology, SIZE)
        seen.image(seen.interpolate(table), background=1.0).square().sum().backward()

    def rendered() -> None:
        vertices, table = leaves()
        result = smooth.render(vertices, table, background=1.0)
        (result.rgb.square().sum() + result.alpha.square().sum()).backward()

    def masked() -> None:
        antialias_mask(rasterize(leaves()[0], hard.topology, SIZE)).square().sum().backward()

    def softened() -> None:
        soft_mask(leaves()[0], hard.topology, SIZE).square().sum().backward()

    return {
        "raster": lambda: (rasterize(screen, hard.topology, SIZE), None)[1],
        "raster + colours f+b": colored,
        "antialiased rgba f+b": rendered,
        "antialiased mask f+b": masked,
        "softras mask f+b": softened,
    }


def pytorch3d_colored(screen: Tensor, faces: Tensor) -> Timing:
    """One timing of PyTorch3D at the same task; its CPU path takes seconds an image."""
    renderer = Renderer(faces, SIZE, backend="pytorch3d")
    colors = torch.rand(1, screen.shape[1], 3)

    def work() -> None:
        vertices, table = screen.clone().requires_grad_(), colors.clone().requires_grad_()
        renderer.render(vertices, table, background=1.0).rgb.square().sum().backward()

    return time_function(work, warmup=0, repeats=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0, help="longest time for one figure")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = {batch: workloads(*bodies_on_screen(batch)) for batch in BATCHES}
    table: dict[str, dict[int, Timing]] = {}
    print(f"{'ms per call (minimum, median)':32s}" + "".join(f"{f'B = {batch}':>20s}" for batch in BATCHES))
    for name in work[1]:
        print(f"{name:32s}", end="", flush=True)
        for batch in BATCHES:
            timing = time_function(work[batch][name], warmup=1, max_seconds=arguments.seconds)
            table.setdefault(name, {})[batch] = timing
            print(f"{timing.minimum_ms:11.1f}{timing.median_ms:9.1f}", end="", flush=True)
        print()
    results: dict[str, dict[str, object]] = {
        name: {f"batch {batch}": timing for batch, timing in timings.items()} for name, timings in table.items()
    }
    for batch, goal in GOALS_MS.items():
        found = table["raster + colours f+b"][batch].minimum_ms
        met = "met" if found <= goal else "not met"
        print(f"raster + colours f+b, B = {batch}: {found:.1f} ms, goal at most {goal:.0f} ms: {met}")
    if importlib.util.find_spec("pytorch3d") is not None:
        theirs = pytorch3d_colored(*bodies_on_screen(1))
        ratio = theirs.minimum / table["raster + colours f+b"][1].minimum
        results["pytorch3d raster + colours f+b"] = {"batch 1": theirs, "times slower": {"batch 1": ratio}}
        print(f"PyTorch3D, B = 1: {theirs.minimum_ms:.0f} ms, {ratio:.0f} times ours")
    print(write_results("rasterizer", {"image": list(SIZE), "faces": 13776, "goals_ms": GOALS_MS, **results}))


if __name__ == "__main__":
    main()
