"""Samples on the line or in the plane, kept for pages."""

import attrs
import pytest
import torch

from ganframe.storage.points import Points, load_points, save_points


def points(d=2):
    return Points(
        samples=torch.randn(5, d),
        data=torch.randn(4, d),
        range=torch.tensor([[-1.0, 1.0]] * d),
        scores=torch.randn((3,) * d),
        grid=torch.randn(2, 2, d) if d == 2 else None,
        pulls=torch.randn(3, d),
    )


@pytest.mark.parametrize("d", [1, 2])
def test_points_are_read_as_they_were_written(tmp_path, d):
    kept = points(d)
    save_points(tmp_path / "a.safetensors", kept)
    found = load_points(tmp_path / "a.safetensors")
    for name, value in attrs.asdict(kept, recurse=False).items():
        assert (value is None) == (getattr(found, name) is None)
        if value is not None:
            torch.testing.assert_close(getattr(found, name), value, rtol=0, atol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": torch.zeros(5, 3)},
        {"data": torch.zeros(4, 1)},
        {"range": torch.zeros(2)},
        {"scores": torch.zeros(3, 4)},
        {"grid": torch.zeros(4, 2)},
        {"pulls": torch.zeros(9, 2)},
    ],
)
def test_points_of_other_shapes_are_not_read(tmp_path, changes):
    save_points(tmp_path / "a.safetensors", attrs.evolve(points(), **changes))
    assert load_points(tmp_path / "a.safetensors") is None


def test_damaged_and_missing_files_are_not_read(tmp_path):
    assert load_points(tmp_path / "a.safetensors") is None
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    assert load_points(tmp_path / "a.safetensors") is None
