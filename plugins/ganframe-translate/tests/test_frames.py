"""The dataset `frames_folder`: windows, order, missing frames, held-out sequences, and what it refuses."""

import numpy as np
import pytest
import torch
from ganframe_translate import FramesFolder
from PIL import Image

from ganframe.testing import check_dataset


def write(file, value, size=(6, 4), mode="L"):
    file.parent.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16 if mode == "I;16" else np.uint8
    Image.fromarray(np.full(size[::-1], value, dtype)).save(file)


@pytest.fixture
def sequences(tmp_path):
    """Three sequences of six frames; frame t of sequence s is grey of the value 40 s + t."""
    for s in range(3):
        for t in range(6):
            write(tmp_path / f"seq{s}" / f"frame_{t}.png", 40 * s + t)
    return tmp_path


def values(data):
    """(frames of y…, x) of each window, as grey values."""
    return [[*y.flatten(1)[:, 0].tolist(), x.flatten()[0].item()] for x, y in data]


def folder(root, **options):
    return FramesFolder(root=str(root), **{"channels": 1, "share": 0.0, **options})


@pytest.mark.parametrize(
    "options", [{}, {"memory": 0.0}, {"size": 5}, {"size": (5, 7)}, {"channels": 3}, {"past": 3, "share": 0.4}]
)
def test_conformance(sequences, options):
    check_dataset(folder(sequences, **options))


def test_windows_hold_past_frames_and_the_next_one_of_one_sequence(sequences):
    data = folder(sequences).build()
    assert values(data) == [[40 * s + t, 40 * s + t + 1, 40 * s + t + 2] for s in range(3) for t in range(4)]
    assert folder(sequences).spec.condition == (2, 4, 6)
    assert folder(sequences, size=(5, 7)).spec.condition == (2, 5, 7)
    for size in (0, (4, 0)):
        with pytest.raises(ValueError, match="at least 1 pixel along each side"):
            folder(sequences, size=size)


def test_windows_read_from_disk_are_those_in_memory(sequences):
    assert values(folder(sequences, memory=0.0).build()) == values(folder(sequences).build())


def test_skip_takes_each_nth_frame(sequences):
    data = folder(sequences, skip=2, past=2).build()
    assert values(data)[:2] == [[0, 2, 4], [1, 3, 5]]


def test_frames_are_in_natural_order(tmp_path):
    for t in (2, 10, 9, 11, 12, 8, 7, 6, 5, 4, 3):
        write(tmp_path / "a" / f"f{t}.png", t)
    assert [row[-1] for row in values(folder(tmp_path).build())] == list(range(4, 13))


def test_whole_sequences_are_held_out(sequences):
    dataset = folder(sequences, share=0.3)
    kept, apart = ({row[0] // 40 for row in values(part)} for part in (dataset.build(), dataset.held_out()))
    assert len(kept) == 2
    assert len(apart) == 1
    assert kept | apart == {0, 1, 2}
    assert folder(sequences).held_out() is None


def test_missing_frame_is_named(sequences):
    (sequences / "seq1" / "frame_3.png").unlink()
    with pytest.raises(ValueError, match=r"sequence seq1: a frame is missing between frame_2\.png and frame_4\.png"):
        folder(sequences).build()


def test_windows_do_not_cross_gaps_that_are_split(sequences):
    (sequences / "seq1" / "frame_3.png").unlink()
    assert [row for row in values(folder(sequences, gaps="split").build()) if row[0] // 40 == 1] == [[40, 41, 42]]
    assert [40 + 1, 40 + 2, 40 + 4] in values(folder(sequences, gaps="ignore").build())


def test_numbers_may_count_in_larger_steps(tmp_path):
    for t in range(0, 50, 10):
        write(tmp_path / "a" / f"{t:04}.png", t)
    assert len(folder(tmp_path).build()) == 3


def test_rounded_times_are_no_gaps_and_a_missing_one_is(tmp_path):
    for t in (1000, 1033, 1067, 1100, 1133):
        write(tmp_path / "a" / f"{t}.png", 1)
    assert len(folder(tmp_path).build()) == 3
    (tmp_path / "a" / "1067.png").unlink()
    with pytest.raises(ValueError, match=r"a frame is missing between 1033\.png and 1100\.png"):
        folder(tmp_path).build()


def test_hidden_files_and_others_are_passed_by(sequences):
    write(sequences / "seq0" / "._frame_0.png", 0)
    (sequences / "seq0" / "notes.txt").write_text("of no use")
    (sequences / ".cache").mkdir()
    assert len(folder(sequences).build()) == 12


def test_deep_frames_keep_their_levels(tmp_path):
    for t in range(4):
        write(tmp_path / "a" / f"{t}.png", 256 * t + 1, mode="I;16")
    x, y = folder(tmp_path).build()[0]
    assert x.dtype == y.dtype == torch.float32
    assert x[0, 0, 0].item() == pytest.approx(513 / 65535 * 2 - 1, abs=1e-6)


def test_equal_numbers_are_refused(sequences):
    write(sequences / "seq2" / "frame_03.png", 1)
    with pytest.raises(
        ValueError, match=r"sequence seq2: the numbers of frame_0?3\.png and frame_0?3\.png do not rise"
    ):
        folder(sequences).build()


def test_frame_without_a_number_among_others_is_refused(sequences):
    write(sequences / "seq2" / "cover.png", 1)
    with pytest.raises(ValueError, match=r"sequence seq2: cover\.png has no number"):
        folder(sequences).build()


def test_short_sequences_are_named(sequences):
    write(sequences / "brief" / "frame_0.png", 1)
    with pytest.raises(ValueError, match=r"1 of 4 sequences are shorter than the 3 frames .*: brief \(1\); remove"):
        folder(sequences).build()


def test_sizes_that_differ_in_a_sequence_are_named(sequences):
    write(sequences / "seq1" / "frame_5.png", 1, size=(8, 4))
    for size in (None, 4):
        with pytest.raises(ValueError, match=r"sequence seq1: frames have different sizes: 6×4 .*, 8×4 \(frame_5\.png"):
            folder(sequences, size=size).build()


def test_sequences_of_different_sizes_need_a_size(sequences):
    for t in range(4):
        write(sequences / "wide" / f"{t}.png", t, size=(8, 4))
    with pytest.raises(ValueError, match=r"sequences have different sizes: .*8×4 \(wide\); set `size`"):
        folder(sequences).build()
    check_dataset(folder(sequences, size=4))


def test_images_outside_of_sequences_are_refused(sequences):
    write(sequences / "loose.png", 1)
    with pytest.raises(ValueError, match=r"1 images are in no sequence \(loose\.png\); give each sequence a folder"):
        assert folder(sequences).spec


@pytest.mark.parametrize(("name", "message"), [("none", "no such folder"), ("", "no folders in it")])
def test_folder_without_sequences_is_refused(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        assert folder(tmp_path / name).spec


def test_damaged_frame_is_named(sequences):
    file = sequences / "seq0" / "frame_1.png"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"frame_1\.png: .*; remove or replace it"):
        folder(sequences).build()
