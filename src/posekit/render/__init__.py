"""Pictures of meshes and skeletons, in plain torch.

- `topology`, `rasterizer`: which face is seen in each pixel, and interpolation on the visible surface;
- `silhouette`: antialiased edges, the source of gradients to the outline; `soft`: SoftRas without a limit of faces;
- `shading`: normals, light, backgrounds; `screen`: from cameras to the rasterizer's pixels;
- `visibility`: which vertices a picture shows, and an even choice among them;
- `renderer`: all of that behind one interface, `pytorch3d_backend`: the same behind PyTorch3D;
- `overlay`, `views`, `video`: drawing on frames, virtual cameras, writing films.
"""
