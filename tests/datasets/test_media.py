from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from posekit.datasets.media import FrameFolder, VideoReader, natural_key, open_frames, read_image
from posekit.errors import FormatError, InputError, MissingFileError

FRAMES = 60


def picture(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A frame that says its own number: eight black or white bars."""
    bits = [(index >> bit) & 1 for bit in range(8)]
    bars = np.repeat(np.array(bits, dtype=np.uint8) * 255, width // 8)
    return np.repeat(np.broadcast_to(bars, (height, width))[..., None], 3, axis=2).copy()


def number_of(image: np.ndarray) -> int:
    middle = image[image.shape[0] // 2, :, 1]
    bars = middle.reshape(8, -1).mean(axis=1)
    return sum(int(bar > 127) << bit for bit, bar in enumerate(bars))


def write_video(
    path: Path,
    frames: int = FRAMES,
    *,
    codec: str = "libx264",
    gop: int = 12,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    fps: Fraction = Fraction(50),
) -> Path:
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = gop
        for index in range(frames):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        output.mux(stream.encode())
    return path


def numbers(path: Path, wanted: Sequence[int] | range | None = None) -> list[tuple[int, int]]:
    with open_frames(path) as source:
        return [(index, number_of(image)) for index, image in source.frames(wanted)]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "webm"])
def test_every_frame_has_its_number(tmp_path: Path, ending: str) -> None:
    codec = {"webm": "libvpx", "avi": "mpeg4"}.get(ending, "libx264")
    path = write_video(tmp_path / f"a b.{ending}", codec=codec)
    assert numbers(path) == [(i, i) for i in range(FRAMES)]


@pytest.mark.parametrize("gop", [1, 12, 200])
@pytest.mark.parametrize("wanted", [range(0, FRAMES, 25), [0, 1, 30, 59], [59], [13, 14, 47], range(3, 50, 11)])
@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3", "x264-params": "open-gop=1:b-adapt=0"}])
def test_jumps_land_on_the_right_frame(
    tmp_path: Path, gop: int, wanted: Sequence[int], options: dict[str, str]
) -> None:
    path = write_video(tmp_path / "v.mp4", gop=gop, options=options)
    assert numbers(path, wanted) == [(i, i) for i in wanted]


def test_frames_after_a_jump_are_the_frames_of_a_straight_run(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", gop=10, options={"bf": "3", "x264-params": "open-gop=1"})
    with VideoReader(path) as reader:
        straight = dict(reader.frames())
        for index, image in reader.frames([25, 26, 55]):
            assert np.array_equal(image, straight[index])
        assert np.array_equal(reader.frame(41), straight[41])


def test_video_says_its_size_rate_and_times(tmp_path: Path) -> None:
    with VideoReader(write_video(tmp_path / "v.mp4", 20)) as reader:
        assert (reader.width, reader.height, reader.count, reader.declared_count) == (64, 48, 20, 20)
        assert reader.fps == pytest.approx(50)
        np.testing.assert_allclose(reader.timestamps, np.arange(20) / 50, atol=1e-6)
    with VideoReader(tmp_path / "v.mp4", fps=10.0) as reader:
        assert reader.fps == 10


@pytest.mark.parametrize(("turn", "matrix"), [(1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1)), (3, (0, 1, -1, 0))])
def test_rotation_noted_by_a_phone_is_applied(tmp_path: Path, turn: int, matrix: tuple[int, ...]) -> None:
    path = write_video(tmp_path / "v.mp4", 3)
    with VideoReader(path) as reader:
        plain = reader.frame(2)
    data = bytearray(path.read_bytes())
    # The track header ends in a 3x3 matrix of 16.16 (last column 2.30) numbers, then width and height.
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = matrix
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    with VideoReader(path) as reader:
        turned = reader.frame(2)
        assert (reader.height, reader.width) == turned.shape[:2]
        assert np.array_equal(turned, np.rot90(plain, turn))
    assert np.array_equal(cv2.VideoCapture(str(path)).read()[1].shape, turned.shape)


def test_truncated_video_gives_its_frames_then_says_how_many(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", container={"movflags": "faststart"}, options={"bf": "0"})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    read = []
    with VideoReader(path) as reader, pytest.raises(FormatError, match=r"\d+ of 60 frames can be read") as error:
        for index, image in reader.frames():
            assert number_of(image) == index
            read.append(index)
    assert 5 < len(read) < FRAMES
    assert f"{len(read)} of 60" in str(error.value)
    with VideoReader(path) as reader:
        assert reader.count == len(read)
        assert reader.declared_count == FRAMES
        assert [index for index, _ in reader.frames(range(len(read)))] == read


def test_damage_in_the_middle_is_an_error_not_a_wrong_number(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", codec="mjpeg", gop=1, options={"strict": "-1"})
    data = bytearray(path.read_bytes())
    start = len(data) // 2
    data[start : start + 3000] = bytes(3000)
    path.write_bytes(data)
    with VideoReader(path) as reader:
        seen = []
        with pytest.raises(FormatError, match="damaged"):
            for index, image in reader.frames(range(FRAMES)):
                seen.append((index, number_of(image)))
    assert len(seen) >= 20
    assert all(index == number for index, number in seen)


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="no frame of the video can be read"):
        VideoReader(path)


def test_a_video_without_its_index_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match="no frame of the video can be read"):
        VideoReader(path)


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"gone\.mp4"):
        open_frames(tmp_path / "gone.mp4")
    with pytest.raises(MissingFileError, match="gone"):
        FrameFolder(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="no images"):
        open_frames(tmp_path / "empty")


def test_frames_past_the_end_and_falling_indices_are_refused(tmp_path: Path) -> None:
    with VideoReader(write_video(tmp_path / "v.mp4", 8)) as reader:
        with pytest.raises(FormatError, match="8 of 8 frames can be read, frame 9 was needed"):
            list(reader.frames([2, 9]))
        with pytest.raises(InputError, match="rising order"):
            list(reader.frames([3, 2]))
        with pytest.raises(InputError, match="rising order"):
            list(reader.frames([-1]))


def test_a_video_is_read_again_and_not_after_closing(tmp_path: Path) -> None:
    reader = VideoReader(write_video(tmp_path / "v.mp4", 8))
    for _ in range(2):
        assert [number_of(image) for _, image in reader.frames()] == list(range(8))
    assert [number_of(image) for _, image in reader.frames([3])] == [3]
    reader.close()
    with pytest.raises(InputError, match="closed"):
        reader.frame(0)


def test_folder_of_frames_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "some frames"
    folder.mkdir()
    for index in range(12):
        cv2.imwrite(str(folder / f"frame{index}.png"), picture(index))
    (folder / "notes.txt").write_text("not a frame")
    with open_frames(folder, fps=30.0) as source:
        assert (source.count, source.width, source.height, source.fps) == (12, 64, 48, 30)
    assert numbers(folder) == [(i, i) for i in range(12)]
    assert numbers(folder, [2, 10]) == [(2, 2), (10, 10)]
    with open_frames(folder) as source, pytest.raises(FormatError, match="12 images, frame 12"):
        source.frame(12)
    cv2.imwrite(str(folder / "frame5.png"), picture(5, 72))
    with pytest.raises(FormatError, match="size of the frames changes"):
        numbers(folder)
    (folder / "frame3.png").write_bytes(b"broken")
    with pytest.raises(FormatError, match=r"frame3\.png"):
        numbers(folder)


def test_frames_numbered_by_their_names(tmp_path: Path) -> None:
    for clip in ("a", "b"):
        for index in range(0, 20, 5):
            cv2.imwrite(str(tmp_path / f"{clip}.5_{index + 1:06d}.png"), picture(index))
    with open_frames(tmp_path / "b.5_*", first=1) as source:
        assert list(source.available) == [0, 5, 10, 15]
        assert source.count == 16
        assert [(index, number_of(image)) for index, image in source.frames()] == [(i, i) for i in (0, 5, 10, 15)]
        with pytest.raises(FormatError, match="frame 3 was needed"):
            source.frame(3)
    cv2.imwrite(str(tmp_path / "b.5_x.png"), picture(0))
    with pytest.raises(FormatError, match=r"b\.5_x\.png"):
        open_frames(tmp_path / "b.5_*", first=1)


def test_exif_orientation_is_applied_and_colours_are_rgb(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    image[:24, :, 0] = 250  # red above
    jpeg = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # orientation 6: turn clockwise to see it upright
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    upright = read_image(path)
    assert upright.shape == (64, 48, 3)
    assert upright[:, 40:, 0].mean() > 240  # what was above is now on the right
    assert upright[:, :8].mean() < 5


def test_natural_key() -> None:
    names = ["b1", "a10.jpg", "A2.jpg", "a03.jpg", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "A2.jpg", "a03.jpg", "a10.jpg", "b1"]
