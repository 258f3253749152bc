"""`python -m posekit` and `torchrun ... -m posekit`: the same as the command `posekit`."""

from __future__ import annotations

from posekit.cli.main import main

if __name__ == "__main__":
    main()
