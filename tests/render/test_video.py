from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from posekit.errors import DependencyError, OutputError
from posekit.render.video import VideoWriter, write_image


def picture(height: int, width: int, level: int = 0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([np.full_like(x, 40 + 10 * level), 255 * x // width, 255 * y // height], -1).astype(np.uint8)


def read(path) -> tuple[list[np.ndarray], float]:
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], rate


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 95), (40, 33)])
def test_frames_come_back_in_order_with_their_colours(tmp_path, height, width) -> None:
    path = tmp_path / "deep" / "film.mp4"
    with VideoWriter(path, 29.97) as writer:
        for level in range(12):
            writer.write(picture(height, width, level))
        assert not path.exists()
    frames, rate = read(path)
    assert len(frames) == 12
    assert rate == pytest.approx(29.97, abs=1e-3)
    assert frames[0].shape == (height + height % 2, width + width % 2, 3)
    for level, frame in enumerate(frames):
        error = np.abs(frame[:height, :width].astype(int) - picture(height, width, level))
        assert error.mean() < 4
    assert list(path.parent.iterdir()) == [path]


def test_the_stream_is_h264_that_every_player_reads(tmp_path) -> None:
    with VideoWriter(tmp_path / "film.mp4", 25.0) as writer:
        writer.write(picture(32, 32))
    with av.open(str(tmp_path / "film.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


def test_a_failed_block_leaves_nothing_and_keeps_the_old_film(tmp_path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="boom"), VideoWriter(path, 25.0) as writer:
        writer.write(picture(32, 32))
        raise RuntimeError("boom")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_film_without_frames_is_no_file(tmp_path) -> None:
    with VideoWriter(tmp_path / "film.mp4", 25.0):
        pass
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="a frame of"), VideoWriter(tmp_path / "film.mp4", 25.0) as writer:
        writer.write(picture(32, 32))
        writer.write(picture(32, 34))


def test_a_missing_codec_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(DependencyError, match="libx264"):
        VideoWriter(tmp_path / "film.mp4", 25.0)


def test_places_that_cannot_be_written(tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="cannot write"), VideoWriter(blocked / "film.mp4", 25.0) as writer:
        writer.write(picture(32, 32))
    with pytest.raises(OutputError, match="cannot write"):
        write_image(blocked / "a.png", picture(8, 8))
    with pytest.raises(OutputError, match=r"\.png"):
        write_image(tmp_path / "a.tga", picture(8, 8))


def test_images_keep_their_channels(tmp_path) -> None:
    write_image(tmp_path / "new" / "a.png", picture(9, 7, 3))
    stored = cv2.imread(str(tmp_path / "new" / "a.png"))
    assert (stored[..., ::-1] == picture(9, 7, 3)).all()
    assert len(list((tmp_path / "new").iterdir())) == 1
