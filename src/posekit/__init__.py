"""posekit: 3D human pose and body shape without 3D labels.

The packages, from the ground up: `geometry` and `skeleton` (pure functions and joint orders), `body` and `render`
(parametric bodies and pictures of them), `datasets`, `artifacts`, `labeling`, `registration`, `evaluation` (the parts of
the pipeline), `synthetic` (the studio), `stages` (one function per command) and `cli` (the commands).
"""

__version__ = "0.1.0"
