"""Pictures of meshes and skeletons, in plain torch.

- `topology`, `rasterizer`: which face is seen in each pixel, and interpolation on the visible surface;
- `silhouette`: antialiased edges, the source of gradients to the outline; `soft`: SoftRas without a limit of faces;
- `shading`: normals, light, backgrounds; `screen`: from cameras to the rasterizer's pixels;
- `visibility`: which vertices a picture shows, and an even choice among them;
- `renderer`: all of that behind one interface, `pytorch3d_backend`: the same behind PyTorch3D;
- `textured`: bodies with a colour for each face in crops, as networks that learn from rendering want them;
- `overlay`, `views`, `video`: drawing on frames, virtual cameras, writing films.
"""
