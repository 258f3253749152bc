"""Labels that replace 3D ground truth.

`rig` finds the poses of cameras from the people they see, `epipolar` makes 3D labels from camera pairs alone, and
`anthropometry` gives both a metric scale and tells poses that no person can take. `lifting` gives depths to the 2D key
points of one view, by a network of `depth_networks` that learned them from 2D poses.
"""
