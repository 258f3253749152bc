from __future__ import annotations

import json
from pathlib import Path

import pytest

from posekit.datasets import json_stream
from posekit.datasets.json_stream import array_items, object_value
from posekit.errors import FormatError, MissingFileError

CONTENT = {
    "info": {"year": 2014, "note": 'braces ] } and "quotes"'},
    "numbers": [1, 22, 333, -4.5e3],
    "nothing": [],
    "annotations": [{"id": i, "text": "x" * (i % 7), "deep": [[i], {"é": None}]} for i in range(300)],
    "images": [{"id": 7}],
    "last": 12,
}


@pytest.fixture(params=[16, 64, 1 << 20])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(json_stream, "_CHUNK", request.param)
    path = tmp_path / "content.json"
    path.write_text(json.dumps(CONTENT, indent=1), encoding="utf-8")
    return path


def test_items_are_those_of_the_whole_file_however_it_is_cut(file: Path) -> None:
    for key in ("numbers", "nothing", "images"):
        assert list(array_items(file, key)) == CONTENT[key]
    assert object_value(file, "info") == CONTENT["info"]
    assert object_value(file, "last") == 12
    assert object_value(file, "absent") is None


def test_long_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", 512)
    path = tmp_path / "content.json"
    path.write_text(json.dumps(CONTENT), encoding="utf-8")
    assert list(array_items(path, "annotations")) == CONTENT["annotations"]


def test_items_come_before_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_text(
        '{"images": [' + ",".join('{"id": 1}' for _ in range(300_000)) + "] and then nonsense", encoding="utf-8"
    )
    items = array_items(path, "images")
    assert next(items) == {"id": 1}
    items.close()


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"images": [{"id": 1}, {"id"', '{"images": [{"id": 1} {"id": 2}]}', '{"images": [{"id": 1,}]}']
)
def test_broken_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=r"broken\.json is damaged"):
        list(array_items(path, "images"))


def test_other_failures(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        list(array_items(tmp_path / "absent.json", "images"))
    path = tmp_path / "other.json"
    path.write_text('{"images": {"id": 1}}', encoding="utf-8")
    with pytest.raises(FormatError, match="is no list"):
        list(array_items(path, "images"))
    with pytest.raises(FormatError, match="no list named annotations"):
        list(array_items(path, "annotations"))
    path.write_bytes(b'{"images": ["\xff\xfe"]}')
    with pytest.raises(FormatError, match="cannot read"):
        list(array_items(path, "images"))
