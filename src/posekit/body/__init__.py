"""Parametric human bodies: loading, skinning, and named places on the surface.

- `unpickling`: reads pickles of arrays without running code.
- `smpl_file`: `BodyData` and `load_body`, for the shipped free body and for files of the SMPL family.
- `kinematics`: the joint tree and forward kinematics by tree level.
- `skinning`: linear blend skinning.
- `model`: `BodyModel`, shape and pose in, vertices and joints out.
- `segment_scaled`: `SegmentScaledBody`, the skeleton-and-skin body whose segments scale one by one.
- `parameters`: the flat parameter vectors of the segment-scaled body.
- `hinges`: natural flexion axes of elbows and knees.
- `landmarks`: named points of any skeleton on a body, and joint regressors.
- `surface`: the atlas of 24 parts, from (part, u, v) to surface points and back.
- `smplx_bridge`: the same body as an `smplx` layer.
- `free_body`: the recipe that makes the shipped body from CC0 sources.
"""
