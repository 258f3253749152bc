"""What the report of `reproduce_deform_and_learn.sh` says about fits: of each round, refined ones, and with terms left out."""

from __future__ import annotations

from collections.abc import Sequence

from deform_and_learn_results import ALIGNED, BONES, PLAIN, MissingResultError, Results, holds, met, ratio_text, table


def registration(results: Results) -> str:
    rows = []
    for number in range(1, results.rounds + 1):
        name = results.train(number)
        evaluated, left_out = results.samples(name, "fits")
        shown = [results.figure(name, "fits", metric).shown() for metric in (BONES, PLAIN, ALIGNED)]
        paper = {1: "about 100", results.rounds: "about 60"}.get(number, "not given")
        rows.append([str(number), *shown, f"{100 * evaluated / (evaluated + left_out):.1f}", paper])
    ratio = registration_ratio(results)
    columns = ["round", "MPJPE, rescaled [mm]", "MPJPE [mm]", "PA-MPJPE [mm]", "fits used [%]", "paper [mm]"]
    return f"""## Registration on training images

Bodies registered to the training images of the data in the layout of Human3.6M: single views, depths of the lifter, no 3D.
They are rescaled to the canonical length of all bones. Fits that registration itself rejects are left out.

{table(columns, rows)}

Last / first: {ratio:.2f} (paper about 0.6; target at most 0.75: {met(ratio <= 0.75)}). {
        holds(ratio < 1, "The paper's order (last round better than the first)")
    }
"""


def registration_ratio(results: Results) -> float:
    first, last = (results.figure(results.train(number), "fits", BONES).mean for number in (1, results.rounds))
    return last / first


def refinement(results: Results) -> str:
    """Before and after, in the image and in space."""
    labels = {name: results.read(f"results/{name}.refined.predict.json") for name in ("coco", "h36m")}
    missing = [
        name
        for name, content in labels.items()
        if not {"dense_px_before_refinement", "dense_px_after_refinement"} <= set(content["metrics"])
    ]
    if missing:
        raise MissingResultError(f"nothing was refined in {', '.join(missing)}: results/NAME.refined.predict.json")
    before_after = {
        name: [content["metrics"][f"dense_px_{when}_refinement"] for when in ("before", "after")]
        for name, content in labels.items()
    }
    rows = [
        refinement_row("COCO layout, correspondences [px]", before_after["coco"], "18.6 to 12.02 (0.65)"),
        refinement_row("Human3.6M layout, correspondences [px]", before_after["h36m"], "9.9 to 9.2 (0.93)"),
    ]
    pixels = results.pair("refined", "per_pixel_vertices", "vertices")
    space = results.pair("refined", "per_vertex_reconstruction", "vertices")
    joints = results.pair("refined")
    for pair, about, paper in (
        (pixels, "Human3.6M layout, all vertices [px]", "not given"),
        (space, "Human3.6M layout, vertices after alignment [mm]", "102.7 to 97.2 (0.95)"),
        (joints, "Human3.6M layout, MPJPE, rescaled [mm]", "not given"),
    ):
        rows.append([about, f"{pair['first']:.1f}", f"{pair['second']:.1f}", ratio_text(pair), paper])
    refined = {
        name: f"{content['counts'].get('refined', 0)} of {content['counts']['bodies']}"
        for name, content in labels.items()
    }
    kept = f"It was kept for {refined['coco']} people in the COCO layout and {refined['h36m']} in that of Human3.6M."
    better = all(after < before for before, after in before_after.values()) and space["ratio"] < 1
    return f"""## Refinement (paper: Table 2)

`posekit predict --refine` with the last round's model on held-out images with correspondences: 50 iterations.
{kept} Pixels are those of
a 224 px crop. Errors of correspondences are those of the refined bodies, measured where they were fitted; the other rows are
measured against the truth of all bodies, refined or not.

{table(["error", "before", "after", "ratio", "paper"], rows)}

Per-pixel error at least 25 % lower: COCO layout {met(lowered(before_after["coco"]))}, Human3.6M layout \
{met(lowered(before_after["h36m"]))}, all vertices {met(pixels["ratio"] <= 0.75)}. The per-vertex error does not rise: \
{met(space["ratio"] <= 1)}.
{holds(better, "The paper's order (better after refinement in all three of its figures)")}
"""


def refinement_row(about: str, values: Sequence[float], paper: str) -> list[str]:
    before, after = values
    return [about, f"{before:.1f}", f"{after:.1f}", f"{after / before:.2f}", paper]


def lowered(values: Sequence[float]) -> bool:
    return values[1] <= 0.75 * values[0]


ABLATIONS = (
    ("no-dense", "without dense correspondences", "poor alignment"),
    ("no-scale", "without smoothness of scales", "distorted"),
    ("no-pose", "without smoothness of joints", "distorted"),
    ("no-depth", "without the lifter's depths", "inclined, reclined"),
)


def ablations(results: Results) -> str:
    rows, worse = [], []
    every = usable_fits(results, "all")[0]
    for name, about, paper in (
        ("all", "all terms, 300 iterations", "about 100"),
        *ABLATIONS,
        ("anneal", "all terms, stiff for the first third only", "not given"),
        ("600", "all terms, 600 iterations", "about 90"),
    ):
        usable, tried = usable_fits(results, name)
        figures = ["none usable"] * 3
        harms = usable < 0.95 * every
        if usable:
            file, pair = f"results/ablation-{name}.json", results.pair(f"ablation-{name}")
            figures = [*(results.figure(file, "fits", metric).shown() for metric in (BONES, ALIGNED)), ratio_text(pair)]
            harms = harms or pair["ratio"] > 1
        rows.append([about, *figures, f"{usable} of {tried}", paper])
        if about.startswith("without"):
            worse.append(f"{about} {'yes' if harms else 'no'}")
    longer = results.pair("ablation-600")["ratio"]
    annealed = results.figure("results/ablation-anneal.json", "fits", BONES).mean
    last = results.figure(f"runs/rounds/round-{results.size['rounds']}/h36m.fits.json", "fits", BONES).mean
    columns = [
        "first registration",
        "MPJPE, rescaled [mm]",
        "PA-MPJPE [mm]",
        "ratio to all terms",
        "usable fits",
        "paper",
    ]
    return f"""## Registration with terms left out (paper: Fig. 7)

First round, from T-poses, of one instant in {results.size["stride"]} of the training sequences. No fit is left out for its
residual; others that registration rejects are, as those of distorted bodies. Ratios are of the images that both have. The paper
shows pictures and no figures for the terms.

{table(columns, rows)}

Worse with a term left out (a larger error on the same images, or fewer than 95 % as many usable fits): {", ".join(worse)}.
{holds(longer < 0.99, f"600 iterations better than 300 (paper 0.9; here {longer:.2f})")}

The paper keeps the body stiff through the whole first registration, and so do the rounds above. Stiff for the first third only
(`--stiff anneal`, the default of `posekit register`), the first registration alone comes to {annealed:.1f} mm on these images;
the last round came to {last:.1f} mm on all training images, which would be {last / annealed:.2f} of it. Rounds that begin so have
not been run.
"""


def usable_fits(results: Results, name: str) -> tuple[int, int]:
    """How many fits are usable, of how many."""
    counts = results.read(f"results/ablation-{name}.register.json")["counts"]
    return counts["ok"], counts["bodies"]
