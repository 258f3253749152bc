"""Fits the segment-scaled body to image labels (Yoshiyasu and Gamez 2019, section 6), from one view or from several.

- `targets`: what a body is fitted to, for a batch of bodies, in normalised crop units.
- `landmarks`: named joints as fixed blends of the resting body, ready for skinning.
- `parameters`: the unknowns, as one flat tensor with named parts.
- `matched`: poses of landmarks and matched vertices, without the rest of the mesh.
- `depths`: depths of key points for single views, lifted or measured.
- `points`: which of very many correspondences are kept.
- `losses`: the terms of the objective.
- `initial`: starting values, from 3D joints where there are some.
- `warm`: starting values from earlier fits or predictions.
- `solver`: the optimisation of many independent bodies at once.
- `verdicts`: which fits may be used, and why others may not.
- `posing`: from stored fits back to vertices and joints.
"""
