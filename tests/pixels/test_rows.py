"""Stored rows of resized images: the views of them, sharing, bounds, damaged and partial files."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from avalanche_proxyfda.pixels import PixelRows, Pixels, RowStore, pixel_views
from avalanche_proxyfda.pixels import rows as rows_module
from avalanche_proxyfda.pixels.decode import ROW
from avalanche_proxyfda.streams.files.images import UnreadableImage
from avalanche_proxyfda.streams.files.labelled import Labelled
from avalanche_proxyfda.streams.files.packs import PackedImages
from tests.pixels.pictures import clip_view, encoded, files, picture, timm_view


def seen(view: Any, data: Any) -> list[Pixels]:
    source = view.source(data)
    return [view(source[k][0]) for k in range(len(source))]


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("library", [clip_view(), timm_view()], ids=["open_clip", "timm"])
def test_rows_without_augmentation_are_the_decoded_views(
    tmp_path: Path, in_file: bool, library: Any
) -> None:
    data, folder = files(tmp_path, 5), tmp_path / "rows" if in_file else None
    plain, stored = (pixel_views(library, "none", s)[1] for s in (None, RowStore(folder)))
    for one, other in zip(seen(plain, data), seen(stored, data), strict=True):
        assert torch.equal(one.row, other.row) and other.way == ROW and other.box is None


def test_random_crops_wait_for_the_device_and_the_evaluation_view_is_near(tmp_path: Path) -> None:
    data, library = files(tmp_path, 4, (200, 150)), timm_view(56)
    train, evaluation = pixel_views(library, "flip-crop", RowStore())
    source = train.source(data)
    assert source[0][0].row.shape == (64, 64, 3)  # 8/7 of the view
    assert train(source[0][0]).box is not None
    exact = pixel_views(library)[1]
    for k in range(4):
        near = evaluation(source[k][0]).image()
        difference = (near - exact(encoded_of(data, k)).image()).abs() * 127.5
        assert float(difference.mean()) < 4


def encoded_of(data: Any, k: int) -> Any:
    return data[k][0]


def test_runs_share_a_file_by_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    data, view, folder = files(tmp_path / "a", 6), clip_view(), tmp_path / "rows"
    first = seen(pixel_views(view, "none", RowStore(folder))[1], data)
    assert "6 images of 16 x 16" in capsys.readouterr().err
    other = Labelled(data, (5, 3, 1, 0, 2, 4), (0,) * 6)  # another order and other labels
    second = seen(pixel_views(view, "none", RowStore(folder))[1], other)
    assert capsys.readouterr().err == ""
    assert torch.equal(second[0].row, first[5].row)
    (tmp_path / "b").mkdir()
    for path in data.paths:  # the same contents under other names
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    moved = files(tmp_path / "b", 6)
    assert torch.equal(
        seen(pixel_views(view, "none", RowStore(folder))[1], moved)[2].row, first[2].row
    )
    assert len(list(folder.glob("*.pixels"))) == 1
    picture(99).save(data.paths[0], "JPEG")  # a changed image has another name
    changed = seen(pixel_views(view, "none", RowStore(folder))[1], data)
    assert len(list(folder.glob("*.pixels"))) == 2
    assert not torch.equal(changed[0].row, first[0].row)


def test_equal_images_share_a_row_and_packs_and_pil_images_are_stored(tmp_path: Path) -> None:
    content = encoded(picture()).content
    pack = PackedImages(
        "p/train", np.concatenate([content, content]), np.array([0, 1, 2]) * len(content), [0, 1]
    )
    source = pixel_views(clip_view(), "none", RowStore())[1].source(pack)
    assert len(source.rows) == 1 and source.places == [0, 0] and source.targets == [0, 1]

    class Arrays:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, k: int) -> Any:
            return picture(), 0

    view = pixel_views(clip_view(), "none", RowStore())[1]
    stored = view.source(Labelled(Arrays(), (0,), (0,)))
    assert torch.equal(view(stored[0][0]).row, view(picture()).row)


def test_a_part_of_a_file_is_built_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, view = files(tmp_path, 3), clip_view()
    folder = tmp_path / "rows"
    first = seen(pixel_views(view, "none", RowStore(folder))[1], data)
    (file,) = folder.glob("*.pixels")
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    (folder / "digests.json").write_text("[", encoding="utf-8")
    (folder / f".{file.name}-abc.tmp").write_bytes(b"left by a killed process")
    capsys.readouterr()
    again = seen(pixel_views(view, "none", RowStore(folder))[1], data)
    assert "3 images" in capsys.readouterr().err
    assert torch.equal(again[1].row, first[1].row) and file.read_bytes() == content
    assert not list(folder.glob(".*.tmp"))


def test_bounds_and_damaged_images_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    data, folder = files(tmp_path, 3), tmp_path / "rows"
    with pytest.raises(ValueError, match=r"3 images of 16 x 16.*most_bytes=100.*where\.pixel_gb"):
        pixel_views(clip_view(), "none", RowStore(folder, most_bytes=100))[1].source(data)
    with pytest.raises(ValueError, match="most_bytes=0"):
        RowStore(most_bytes=0)
    data.paths[1].write_bytes(data.paths[1].read_bytes()[:300])
    with pytest.raises(UnreadableImage, match=r"001\.jpg"):
        pixel_views(clip_view(), "none", RowStore(folder))[1].source(data)
    assert not list(folder.glob("*.pixels")) and not list(folder.glob(".*.tmp"))
    data.paths[2].unlink()
    with pytest.raises(UnreadableImage, match="there is no such file"):
        pixel_views(clip_view())[1].source(data)[2]


def test_a_process_that_gets_rows_maps_the_file_itself(tmp_path: Path) -> None:
    data = files(tmp_path, 3)
    source = pixel_views(clip_view(), "none", RowStore(tmp_path / "rows"))[1].source(data)
    packed = io.BytesIO()
    pickle.dump(source, packed)
    assert len(packed.getvalue()) < 3 * 16 * 16 * 3  # no pixels
    again = pickle.loads(packed.getvalue())
    assert torch.equal(again[2][0].row, source[2][0].row)


def test_rows_beyond_the_shared_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "SHARED", tmp_path)
    monkeypatch.setattr(rows_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=767))
    with pytest.raises(OSError, match=r"do not fit into shared memory.*where\.pixel_dir"):
        PixelRows(16, side=4, path=None)  # 768 bytes
    assert len(PixelRows(15, side=4, path=None)) == 15
    monkeypatch.setattr(rows_module, "SHARED", tmp_path / "absent")
    assert len(PixelRows(16, side=4, path=None)) == 16
