"""Raw data sets: one module for what each release looks like on disk, and what they share.

`media` reads videos and folders of frames, frame by frame and exactly; `crops` cuts people out of them. `h36m` puts together
Human3.6M from `h36m_layout` (what is where, and what is missing), `h36m_metadata` (cameras and naming table) and `h36m_poses`
(the CDF files); `coco` does so for COCO with the help of `json_stream` (files of half a gigabyte, item by item) and
`densepose_annotations` (points and masks). Own recordings from several cameras have their calibration readers and key point
files here as well.
"""
