"""The studio: small synthetic recordings in the raw layouts of real data sets, with exact ground truth.

- `seeding`: one independent random stream for everything that is drawn;
- `motion`: motion files in AMASS form, resampling; `anatomy`, `gestures`, `grounding`: the built-in motions;
- `bodies`: shapes, and posed bodies in the world; `clothes`: paint by place on the rest body; `light`, `room`: what the
  cameras see besides;
- `rig`: four cameras with lenses; `scene`: pictures, masks, IUV and dense correspondences of a body in a room;
- `photo_shots`, `snapshot`: single pictures of several people, each picture in its own room;
- `h36m_names`, `h36m_metadata`, `h36m_writer`: the raw layout of Human3.6M; `coco_writer`: that of COCO with DensePose.
  Another data set is another writer.
"""
