"""Pure tensor functions: no files, no people.

`conventions` states our axes, units and pixel origin; `rotations`, `transforms` and `cameras` build on it; `epipolar` and
`triangulation` turn several views into points in space.
"""
