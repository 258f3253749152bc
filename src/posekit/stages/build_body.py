"""`posekit body build`: the recipe of the shipped body."""

from __future__ import annotations

from posekit.body.free_body.build import build_free_body
from posekit.body.smpl_file import load_body
from posekit.config.programs import BuildBody
from posekit.errors import InputError
from posekit.stages.report import StageReport


def build_body(config: BuildBody) -> StageReport:
    """Builds the body and says how far it is from the shipped one.

    Raises InputError when the file is there already and `force` is not set, and what `build_free_body` raises.
    """
    shipped = load_body(None)
    if config.dry_run:
        return StageReport("body build", [], notes=[f"would write {config.output}"])
    if config.output.exists() and not config.force:
        raise InputError("the body file is there already", got=config.output, hint="Use --force to replace it")
    build_free_body(config.data, config.output)
    built = load_body(config.output)
    worst_mm = 1e3 * float(abs(built.v_template - shipped.v_template).max())
    return StageReport(
        "body build",
        [config.output],
        metrics={
            "vertices": float(len(built.v_template)),
            "joints": float(len(built.parents)),
            "largest_difference_from_shipped_mm": worst_mm,
        },
    )
