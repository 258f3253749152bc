"""Results in the formats of other programs; pure functions from arrays to files.

`trc` writes marker files for OpenSim, `tables` CSV and NPZ, `meshes` OBJ and PLY, `gltf` animated, skinned GLB.
Every writer replaces its file only when the new one is whole.
"""
