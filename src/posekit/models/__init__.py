"""Networks.

`backbone` (ResNet trunks and their weights), `body_regressor` (segment-scaled bodies from images), `pose_resnet` (heat maps
of joints), `mesh_estimator` (bodies from features, as HMR and SPIN; `mesh_files` reads their weights), and what
self-supervision needs beside it: `pretext`, `discriminator`, `texture`. `drawing` draws weights from seeds.
"""
