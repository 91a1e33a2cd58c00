"""Pictures: which samples are drawn, in which order and orientation."""

import itertools

import attrs
import matplotlib.axes
import matplotlib.figure
import numpy as np
import pytest
import torch
from mpl_toolkits.mplot3d import Axes3D
from PIL import Image

from ganframe import DataSpec
from ganframe.report import grids
from ganframe.report.pictures import (
    channels_left_out,
    class_columns,
    draw,
    draw_animation,
    draw_rows,
    draw_side_by_side,
    draw_steepness,
    is_picture,
    pixels_of_rows,
    save_image,
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Places of pixels are those of pictures before they are enlarged to 500 pixels, which test_grids.py is about."""
    monkeypatch.setattr(grids, "LEAST", 1)


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def first_coordinate(x):
    return x[:, 0]


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("with_scores", [False, True])
@pytest.mark.parametrize(
    "shape",
    [(1, 8, 8), (3, 8, 8), (2, 8, 8), (4, 16, 8), (1,), (2,), (3,), (7,), (4, 5), (1, 2, 3, 4), (1, 1), (1, 2), (3, 1)],
)
def test_images_and_points_are_drawn(tmp_path, shape, with_scores, real):
    torch.manual_seed(0)
    file = tmp_path / "picture.png"
    samples = torch.randn(2, 10, *shape)
    scores = (lambda x: x.flatten(1).sum(1)) if with_scores else None
    draw(file, DataSpec(shape), samples[0], samples[1] if real else None, scores)
    assert len(np.unique(pixels(file))) > 10


@pytest.fixture
def scattered(monkeypatch):
    """The points that a picture scatters: arrays (coordinates, points), in order."""
    found = []
    for axes in (matplotlib.axes.Axes, Axes3D):
        plain = axes.scatter

        def scatter(self, *points, plain=plain, **style):
            found.append(np.array([np.asarray(p) for p in points]))
            return plain(self, *points, **style)

        monkeypatch.setattr(axes, "scatter", scatter)
    return found


def test_images_are_drawn_beside_their_conditions_and_real_samples_in_one_size(tmp_path):
    """A grey condition of half the size, a red fake, a black real sample; two such triples below each other."""
    spec = DataSpec((3, 48, 48), condition=(1, 24, 24))
    conditions = torch.stack([torch.full((1, 24, 24), grey) for grey in (1.0, 0.0)])
    fake = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(2, 3, 48, 48)
    draw(tmp_path / "x.png", spec, fake, -torch.ones(5, 3, 48, 48), conditions=conditions)
    got = pixels(tmp_path / "x.png")
    assert got.shape == (2 * 50 + 2, 3 * 50 + 2, 3)
    for row, grey in ((2, 255), (52, 128)):
        for column, colour in ((2, [grey] * 3), (52, [255, 0, 0]), (102, [0, 0, 0])):
            assert (got[row : row + 48, column : column + 48] == colour).all()


RED, GREY, BLACK, WHITE = [255, 0, 0], [128] * 3, [0] * 3, [255] * 3
KINDS_OF_CONDITION = {
    "one frame": (1, [[0.0]], [GREY]),
    "colour": (1, [[1, -1, -1]], [RED]),
    "two frames": (1, [[0.0], [1]], [GREY, WHITE]),
    "four frames": (1, [[-1.0], [0], [1], [-1]], [BLACK, GREY, WHITE, BLACK]),
    "six frames": (1, [[-1.0], [0], [1], [-1], [0], [1]], [BLACK, GREY, WHITE] * 2),
    "two frames in colour": (3, [[1, -1, -1], [0, 0, 0]], [RED, GREY]),
    "grey and mask": (1, [[0.0], [1]], [GREY, WHITE]),
    "colour and mask": (3, [[1, -1, -1], [-1]], [RED, BLACK]),
    "opacity and mask": (4, [[1, -1, -1, 1], [-1]], [RED, BLACK]),
    "opacity": (4, [[1, -1, -1, 1]], [RED]),
}


@pytest.mark.parametrize("kind", KINDS_OF_CONDITION)
def test_conditions_of_several_images_are_drawn_side_by_side(tmp_path, kind):
    """Four frames were drawn as colours and opacity, and of other channels the first or the first three."""
    channels, parts, colours = KINDS_OF_CONDITION[kind]
    y = torch.tensor([value for part in parts for value in part]).view(1, -1, 1, 1).expand(1, -1, 48, 48)
    spec = DataSpec((channels, 48, 48), condition=tuple(y.shape[1:]))
    fake = torch.ones(1, channels, 48, 48)
    draw(tmp_path / "x.png", spec, fake, conditions=y)
    draw_rows(tmp_path / "rows.png", spec, fake[:, None].expand(1, 2, -1, -1, -1), y)
    for file, samples in (("x.png", 1), ("rows.png", 2)):
        image = Image.open(tmp_path / file)
        assert image.size == ((len(colours) + samples) * 50 + 2, 52)
        for place, colour in enumerate([*colours, *[WHITE] * samples]):
            assert image.convert("RGBA").getpixel((50 * place + 20, 20)) == (*colour, 255)
    assert channels_left_out(spec) is None


def test_of_a_condition_of_very_many_images_the_first_are_drawn_and_that_is_said(tmp_path):
    spec = DataSpec((1, 48, 48), condition=(40, 48, 48))
    draw(tmp_path / "x.png", spec, torch.zeros(1, 1, 48, 48), conditions=torch.zeros(1, 40, 48, 48))
    assert Image.open(tmp_path / "x.png").size == (17 * 50 + 2, 52)
    assert channels_left_out(spec) == "pictures show the first 16 of 40 images in a condition; .npy has all"


def test_smaller_images_are_enlarged_by_whole_factors_without_smoothing(tmp_path):
    """A condition of 20 pixels beside a sample of 48: twice as large, with a margin."""
    board = torch.ones(20, 20)
    board[::2, 1::2] = board[1::2, ::2] = -1
    spec = DataSpec((1, 48, 48), condition=(1, 20, 20))
    draw(tmp_path / "x.png", spec, -torch.ones(1, 1, 48, 48), conditions=board.view(1, 1, 20, 20))
    got = pixels(tmp_path / "x.png")[2:50, 2:50, 0]
    assert (got[:4] == 128).all()
    assert (got[4:44, 4:44] == np.kron((board.numpy() > 0) * 255, np.ones((2, 2)))).all()


def test_rows_are_of_one_condition_with_its_samples(tmp_path):
    spec = DataSpec((1, 48, 48), condition=(1, 24, 24))
    values = torch.tensor([[-1.0, 0, 1], [1, 0, -1]])
    y = torch.tensor([1.0, -1]).view(2, 1, 1, 1).expand(2, 1, 24, 24)
    draw_rows(tmp_path / "x.png", spec, values.view(2, 3, 1, 1, 1).expand(2, 3, 1, 48, 48), y)
    assert pixels(tmp_path / "x.png")[20::50, 20::50, 0].tolist() == [[255, 0, 128, 255], [0, 255, 128, 0]]
    draw_rows(tmp_path / "plain.png", spec, values.view(2, 3, 1, 1, 1).expand(2, 3, 1, 48, 48))
    assert pixels(tmp_path / "plain.png")[20::50, 20::50, 0].tolist() == [[0, 128, 255], [255, 128, 0]]


def test_rows_of_samples_that_are_no_images_are_points(tmp_path, scattered):
    draw_rows(tmp_path / "x.png", DataSpec((2,), condition=(3,)), torch.randn(2, 3, 2), torch.randn(2, 3))
    assert [points.shape for points in scattered] == [(2, 6)]


def test_number_of_pixels_is_that_of_the_picture(tmp_path):
    spec = DataSpec((3, 64, 64), condition=(4, 32, 32))
    draw_rows(tmp_path / "x.png", spec, torch.zeros(5, 3, 3, 64, 64), torch.zeros(5, 4, 32, 32))
    width, height = Image.open(tmp_path / "x.png").size
    assert pixels_of_rows(spec, spec.shape, (4, 32, 32), 5, 3) == pytest.approx(width * height, rel=0.02)


def glass(n=4):
    """Images of four channels: the left half red and opaque, the right half blue, of which a third is seen."""
    x = torch.full((n, 4, 48, 48), -1.0)
    x[:, 0, :, :24], x[:, 2, :, 24:] = 1, 1
    x[:, 3, :, :24], x[:, 3, :, 24:] = 1, 2 / 3 - 1
    return x


def test_images_of_four_channels_are_drawn_with_their_opacity(tmp_path):
    draw(tmp_path / "x.png", DataSpec((4, 48, 48)), glass())
    got = Image.open(tmp_path / "x.png")
    assert got.mode == "RGBA"
    assert got.size == (102, 102)
    assert got.getpixel((10, 10)) == (255, 0, 0, 255)
    assert got.getpixel((40, 10)) == (0, 0, 255, 85)
    assert got.getpixel((0, 0))[3] == 255  # the lines between images are seen


def test_conditions_beside_images_of_four_channels_are_opaque(tmp_path):
    spec = DataSpec((4, 48, 48), condition=(1, 48, 48))
    draw(tmp_path / "x.png", spec, glass(1), conditions=torch.ones(1, 1, 48, 48))
    got = Image.open(tmp_path / "x.png")
    assert got.getpixel((10, 10)) == (255, 255, 255, 255)
    assert got.getpixel((92, 10)) == (0, 0, 255, 85)


def test_animation_of_four_channels_is_transparent_in_every_frame(tmp_path):
    clear = glass()
    clear[:, 3] = -1
    moving = [glass(), clear, glass()]
    draw_animation(tmp_path / "x.gif", moving)
    with Image.open(tmp_path / "x.gif") as got:
        opacity = []
        for frame in range(got.n_frames):
            got.seek(frame)
            opacity.append(got.convert("RGBA").getpixel((10, 10))[3])
    assert opacity == [255, 0, 255, 0]


@pytest.mark.parametrize(
    ("channels", "said"), [(1, None), (3, None), (4, None), (2, "first of 2"), (5, "first 3 of 5")]
)
def test_channels_that_pictures_leave_out_are_named(channels, said):
    line = channels_left_out(DataSpec((channels, 8, 8)))
    assert line is None if said is None else said in line
    assert channels_left_out(DataSpec((5, 8, 8), is_image=False)) is None


def test_conditions_that_are_no_images_are_not_drawn(tmp_path):
    fake = torch.randn(4, 1, 8, 8)
    for name, spec, conditions in (
        ("a", DataSpec((1, 8, 8), condition=(5,)), torch.randn(4, 5)),
        ("b", DataSpec((1, 8, 8)), None),
    ):
        draw(tmp_path / f"{name}.png", spec, fake, conditions=conditions)
    assert (pixels(tmp_path / "a.png") == pixels(tmp_path / "b.png")).all()


def test_three_axes_that_are_not_an_image_are_drawn_as_points(tmp_path, scattered):
    spec = DataSpec((2, 3, 4), is_image=False)
    draw(tmp_path / "points.png", spec, torch.randn(6, 2, 3, 4), torch.randn(5, 2, 3, 4))
    assert [points.shape for points in scattered] == [(2, 5), (2, 6)]  # data, then fakes


def test_three_dimensional_points_are_scattered_in_space(tmp_path, scattered):
    real, fake = torch.randn(5, 3), torch.randn(6, 3)
    draw(tmp_path / "points.png", DataSpec((3,)), fake, real)
    assert np.allclose(scattered[0], real.T)
    assert any(np.allclose(points, fake.T) for points in scattered if points.shape == (3, 6))


def test_other_shapes_are_projected_on_the_principal_plane_of_the_data(tmp_path, scattered):
    """Of data that varies in two of its twenty numbers, these two are drawn, however the fakes vary."""
    real = torch.zeros(200, 4, 5)
    real[:, 2, 3], real[:, 0, 1] = 5 * torch.randn(200), torch.randn(200)
    fake = real + 3
    fake[:, 1, 1] = 100 * torch.randn(200)
    draw(tmp_path / "points.png", DataSpec((4, 5)), fake, real)
    data, fakes = scattered
    assert abs(np.corrcoef(data[0], real[:, 2, 3])[0, 1]) > 0.99
    assert abs(np.corrcoef(data[1], real[:, 0, 1])[0, 1]) > 0.99
    assert np.allclose(np.abs(fakes - data), np.abs(fakes - data)[:, :1], atol=1e-3)  # a shift, the same for all
    assert np.abs(fakes - data).max() < 10


@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (4, 5)])
def test_non_finite_fakes_are_left_out(tmp_path, shape):
    for count in (0, 3):
        fake = torch.full((6, *shape), torch.nan)
        fake[:count] = 1.0
        draw(tmp_path / f"{count}.png", DataSpec(shape), fake, torch.randn(5, *shape))
        assert (tmp_path / f"{count}.png").exists()
    draw(tmp_path / "alone.png", DataSpec(shape), torch.full((6, *shape), torch.nan))
    assert (tmp_path / "alone.png").exists()


def test_image_grid_is_filled_row_by_row_with_upright_images(tmp_path):
    images = torch.full((4, 1, 64, 64), -1.0)
    for i in range(4):
        images[i] = i / 2 - 1
        images[i, :, :8] = 1  # a white bar along the top
        images[i, :, :, :8] = 0.5  # a grey one along the left, over it
    draw(tmp_path / "grid.png", DataSpec((1, 64, 64)), images)
    grid = pixels(tmp_path / "grid.png")[..., 0]
    assert grid.shape == (2 * 66 + 2, 2 * 66 + 2)  # a border of 2 pixels round each
    for i in range(4):
        top, left = 2 + 66 * (i // 2), 2 + 66 * (i % 2)
        one = grid[top : top + 64, left : left + 64]
        assert abs(one[40, 40] - 255 * i / 4) <= 1
        assert (one[:8, 8:] == 255).all()
        assert (abs(one[:, :8] - 191) <= 1).all()


def test_channels_are_kept_and_small_images_enlarged(tmp_path):
    image = torch.full((1, 3, 8, 8), -1.0)
    image[:, 0, 0, 1] = 1  # red, in the first row
    image[:, 2, 1, 0] = 1  # blue, in the second
    image[:, 1, 7, 7] = 99  # beyond the range: cut off, with no effect on the others
    draw(tmp_path / "one.png", DataSpec((3, 8, 8)), image)
    grid = pixels(tmp_path / "one.png")
    factor = 6  # 48 pixels
    shown = [index for index in range(grid.shape[0] - 8 * factor + 1) if (grid[index, index] == 0).all()]
    corner = shown[0]
    small = grid[corner : corner + 48, corner : corner + 48][factor // 2 :: factor, factor // 2 :: factor]
    assert small.shape == (8, 8, 3)
    assert small[0, 1].tolist() == [255, 0, 0]
    assert small[1, 0].tolist() == [0, 0, 255]
    assert small[7, 7].tolist() == [0, 255, 0]
    assert small.sum() == 3 * 255


def test_brightness_is_scaled_by_the_range_of_images(tmp_path):
    """Scaled by -1..1, not by the extremes of the samples: a grey image stays grey."""
    draw(tmp_path / "grey.png", DataSpec((1, 64, 64)), torch.zeros(1, 1, 64, 64))
    assert abs(np.median(pixels(tmp_path / "grey.png")) - 127.5) < 1


@pytest.mark.parametrize("axis", [0, 1])
def test_contours_of_the_discriminator_are_not_transposed(tmp_path, monkeypatch, axis):
    """The array that contourf takes has a row for each y and a column for each x."""
    seen = {}

    def contourf(self, x, y, values, **options):
        seen.update(x=np.asarray(x), y=np.asarray(y), values=np.asarray(values))
        return original(self, x, y, values, **options)

    original = matplotlib.axes.Axes.contourf
    monkeypatch.setattr(matplotlib.axes.Axes, "contourf", contourf)
    draw(tmp_path / "a.png", DataSpec((2,)), torch.randn(20, 2), torch.randn(20, 2), lambda x: x[:, axis])
    expected = np.meshgrid(seen["x"], seen["y"])[axis]
    np.testing.assert_allclose(seen["values"], expected, atol=1e-6)
    assert seen["x"].min() < -1
    assert seen["x"].max() > 1


def test_contours_vary_along_the_horizontal_axis_of_the_file(tmp_path):
    """In the file: a discriminator D(x) = x₁ is bright on one side of the plane and dark on the other."""
    corners = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    draw(tmp_path / "a.png", DataSpec((2,)), corners, corners, first_coordinate)
    grey = pixels(tmp_path / "a.png").sum(-1)
    row = grey[240:260, 60:480].mean(0)  # the middle of the plane
    column = grey[60:440, 240:260].mean(1)
    assert abs(row[:60].mean() - row[-60:].mean()) > 100
    assert abs(column[:60].mean() - column[-60:].mean()) < 50


def test_discriminator_is_not_drawn_in_more_than_two_dimensions(tmp_path):
    def refuse(x):
        raise AssertionError("there is no plane to draw a discriminator of three dimensions on")

    draw(tmp_path / "a.png", DataSpec((3,)), torch.randn(20, 3), torch.randn(20, 3), refuse)
    assert (tmp_path / "a.png").exists()


def test_discriminator_on_the_line_is_drawn_as_a_probability(tmp_path, monkeypatch):
    lines = []
    original = matplotlib.axes.Axes.plot

    def plot(self, x, y, *arguments, **options):
        lines.append((np.asarray(x), np.asarray(y)))
        return original(self, x, y, *arguments, **options)

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", plot)
    draw(tmp_path / "a.png", DataSpec((1,)), torch.randn(50, 1), torch.randn(50, 1) + 2, lambda x: 3 * x[:, 0])
    ((x, probability),) = lines
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-3 * x)), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (1, 8, 8)])
def test_non_finite_samples_and_scores_are_drawn(tmp_path, shape, value, share):
    fake = torch.randn(20, *shape)
    fake[: int(share * 20)] = value
    real = torch.randn(20, *shape)
    file = tmp_path / "a.png"
    draw(file, DataSpec(shape), fake, None, None)
    draw(file, DataSpec(shape), fake, real, None)
    draw(file, DataSpec(shape), fake, real, lambda x: x.flatten(1).sum(1) * value)


@pytest.mark.parametrize("shape", [(1,), (2,), (1, 8, 8)])
def test_collapsed_generator_is_drawn(tmp_path, shape):
    point = torch.zeros(20, *shape)
    draw(tmp_path / "a.png", DataSpec(shape), point, point, lambda x: 0 * x.flatten(1).sum(1))
    assert (tmp_path / "a.png").exists()


def test_samples_with_gradients_are_drawn(tmp_path):
    fake = torch.randn(5, 2, requires_grad=True) * 2
    weight = torch.ones(2, requires_grad=True)
    draw(tmp_path / "a.png", DataSpec((2,)), fake, None, lambda x: x @ weight)
    assert (tmp_path / "a.png").exists()


def test_scores_have_a_scale_and_axes_have_names(tmp_path, monkeypatch):
    labels = []
    plain = matplotlib.figure.Figure.savefig

    def savefig(self, *arguments, **options):
        labels.append([(axes.get_xlabel(), axes.get_ylabel(), axes.get_title("left")) for axes in self.axes])
        return plain(self, *arguments, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    points = torch.randn(20, 2)
    draw(tmp_path / "a.png", DataSpec((2,)), points, points, first_coordinate, title="Samples at step 7")
    draw(tmp_path / "a.png", DataSpec((2,)), points, points)
    draw(tmp_path / "a.png", DataSpec((5,)), torch.randn(20, 5), torch.randn(20, 5))
    assert labels[0] == [("x₁", "x₂", "Samples at step 7"), ("", "discriminator's score", "")]
    assert labels[1] == [("x₁", "x₂", "Samples")]
    assert [label[:5] for label in labels[2][0][:2]] == ["first", "secon"]


@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (6,)])
def test_points_of_several_generators_are_each_beside_the_same_data(tmp_path, scattered, shape):
    real = torch.randn(30, *shape)
    kinds = {f"{'long' * 30}{number}{'name' * 30}": real[:20] + 3 + number for number in range(4)}
    kinds["diverged"] = torch.full((20, *shape), torch.nan)
    draw_side_by_side(tmp_path / "a.png", DataSpec(shape), kinds, real, None, "title")
    assert (tmp_path / "a.png").stat().st_size > 5000
    if shape != (1,):
        assert [points.shape for points in scattered] == [(2, 30), (2, 20)] * 4 + [(2, 30), (2, 0)]
        assert all(np.array_equal(scattered[0], data) for data in scattered[::2])
        moved = [points.mean(1) - scattered[0][:, :20].mean(1) for points in scattered[1:8:2]]
        assert all(np.abs(later).max() > np.abs(former).max() for former, later in itertools.pairwise(moved))


def test_images_of_several_generators_are_blocks_beside_the_data(tmp_path):
    kinds = {"first": shades(*[-0.5] * 4, size=128), "second": shades(*[0.5] * 4, size=128, channels=1)}
    draw_side_by_side(tmp_path / "a.png", DataSpec((1, 128, 128)), kinds, shades(*[1.0] * 4, size=128), None, "")
    got = pixels(tmp_path / "a.png")
    side = 2 * 130 + 2
    middles = [got[-60, block * (side + 16) + 60, 0] for block in range(3)]
    assert middles == pytest.approx([255, 64, 191], abs=1)
    assert got.shape == (side + 24, 3 * side + 2 * 16, 3)


def test_a_generator_called_data_is_not_taken_for_real_samples(tmp_path):
    """Its grid took the place of theirs."""
    kinds = {"data": shades(*[-0.5] * 4, size=128), "other": shades(*[0.5] * 4, size=128)}
    draw_side_by_side(tmp_path / "a.png", DataSpec((1, 128, 128)), kinds, shades(*[1.0] * 4, size=128), None, "")
    got = pixels(tmp_path / "a.png")
    side = 2 * 130 + 2
    assert [got[-60, block * (side + 16) + 60, 0] for block in range(3)] == pytest.approx([255, 64, 191], abs=1)


def test_images_under_conditions_are_rows_of_condition_samples_and_data(tmp_path):
    spec = DataSpec((1, 48, 48), condition=(1, 48, 48))
    kinds = {"a": shades(-0.5, 0.5, size=48), "b": shades(0.5, -0.5, size=48)}
    draw_side_by_side(tmp_path / "a.png", spec, kinds, shades(1.0, 1.0, size=48), shades(-1.0, -1.0, size=48), "")
    got = pixels(tmp_path / "a.png")[24:]  # below the names
    assert got[20::50, 20::50, 0].tolist() == [[0, 64, 191, 255], [0, 191, 64, 255]]


def test_classes_stand_above_columns_that_have_one_each(tmp_path):
    named = DataSpec((1, 8, 8), classes=3, class_names=("cat", "dog", "bird"))
    assert class_columns(torch.tensor([0, 2, 0, 2]), DataSpec((1, 8, 8), classes=3), 2) == ["0", "2"]
    assert class_columns(torch.tensor([0, 2, 0]), named, 2) == ["cat", "bird"]
    assert class_columns(torch.tensor([0, 2, 2, 0]), named, 2) == ()
    assert class_columns(torch.tensor([1, 1, 1, 1]), named, 2) == ()  # of one class, or of a generator that heeds none
    assert class_columns(torch.tensor([1]), named, 2) == ()
    assert class_columns(torch.zeros(4, 1, 8, 8), DataSpec((1, 8, 8), condition=(1, 8, 8)), 2) == ()
    images, y = shades(-1.0, -1.0, -1.0, -1.0, size=64), torch.tensor([0, 2, 0, 2])
    for name, given in (("plain", None), ("named", y)):
        draw(tmp_path / f"{name}.png", attrs.evolve(named, shape=(1, 64, 64)), images, conditions=given)
    plain, headed = (pixels(tmp_path / f"{name}.png") for name in ("plain", "named"))
    above = len(headed) - len(plain)
    assert above > 10
    assert (headed[above:] == plain).all()
    assert (headed[:above] < 100).any()


# -------------------------------------------------------------------------------------------- columns and animations


def shades(*values, size=8, channels=1):
    """Images of one grey each."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, channels, size, size)


def test_image_grid_has_the_requested_columns(tmp_path):
    values = [-1.0, -0.6, -0.2, 0.2, 0.6, 1.0]
    for columns, rows in ((3, 2), (2, 3), (6, 1), (1, 6), (4, 2)):
        draw(tmp_path / "a.png", DataSpec((1, 8, 8)), shades(*values), columns=columns)
        grid = pixels(tmp_path / "a.png")[..., 0]
        assert grid.shape == (50 * rows + 2, 50 * columns + 2)
        middles = grid[26::50, 26::50].flatten()[:6]
        assert np.abs(middles - (np.array(values) + 1) * 127.5).max() <= 1


@pytest.mark.parametrize("count", [1, 5, 9, 10])
def test_default_grid_is_about_square(tmp_path, count):
    spec, images = DataSpec((3, 8, 8)), torch.rand(count, 3, 8, 8) * 2 - 1
    draw(tmp_path / "a.png", spec, images)
    draw(tmp_path / "b.png", spec, images, columns={1: 1, 5: 3, 9: 3, 10: 4}[count])
    assert (pixels(tmp_path / "a.png") == pixels(tmp_path / "b.png")).all()


@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (4, 5)])
def test_columns_do_not_affect_points(tmp_path, shape):
    points = torch.randn(12, *shape)
    draw(tmp_path / "a.png", DataSpec(shape), points)
    draw(tmp_path / "b.png", DataSpec(shape), points, columns=4)
    assert (pixels(tmp_path / "a.png") == pixels(tmp_path / "b.png")).all()


@pytest.mark.parametrize(("frames", "order"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2, 1]), (5, [0, 1, 2, 3, 4, 3, 2, 1])])
def test_animation_plays_forth_and_back_and_loops(tmp_path, frames, order):
    values = [-0.8, -0.4, 0.0, 0.4, 0.8]
    draw_animation(tmp_path / "a.gif", [shades(value, -value, value) for value in values[:frames]])
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == len(order)
        assert animation.info["loop"] == 0
        for place, step in enumerate(order):
            animation.seek(place)
            assert animation.info["duration"] == 100
            assert animation.size == (102, 102)
            middles = np.asarray(animation.convert("L")).astype(float)[26::50, 26::50].flatten()[:3]
            assert np.abs(middles - (np.array([1, -1, 1]) * values[step] + 1) * 127.5).max() <= 3


def test_animation_frames_equal_pictures(tmp_path):
    frames = [torch.full((4, 3, 16, 16), -1.0), torch.full((4, 3, 16, 16), -1.0)]
    frames[0][:, 0, :8], frames[1][:, 2, :, :8] = 1, 1  # red above, then blue at the left
    draw_animation(tmp_path / "a.gif", [frame.requires_grad_() for frame in frames])
    with Image.open(tmp_path / "a.gif") as animation:
        for place, frame in enumerate(frames):
            draw(tmp_path / "a.png", DataSpec((3, 16, 16)), frame)
            animation.seek(place)
            assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - pixels(tmp_path / "a.png")).max() <= 3


def test_animation_of_equal_frames_is_written(tmp_path):
    draw_animation(tmp_path / "a.gif", [shades(0.5, -0.5)] * 4)
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.size == (102, 52)


# ------------------------------------------------------------------------------------ histograms of discriminators


@pytest.fixture
def histograms(monkeypatch):
    """The histograms that a picture draws: (label, heights, edges) of each, in order."""
    found = []
    plain = matplotlib.axes.Axes.hist

    def hist(self, *arguments, **options):
        heights, edges, patches = plain(self, *arguments, **options)
        found.append((options.get("label"), np.asarray(heights), np.asarray(edges)))
        return heights, edges, patches

    monkeypatch.setattr(matplotlib.axes.Axes, "hist", hist)
    return found


STEEPNESS = {
    "spread": (torch.rand(300).double() + 0.1, torch.randn(77).double()),
    "the same everywhere": (torch.full((300,), 0.7).double(), torch.full((5,), -0.3).double()),
    "clipped": (torch.tensor([1e-7, 3.3e-6]).double(), torch.tensor([0.01, -0.01, 0.01, 0.002]).double()),
    "very steep": (torch.tensor([3e8, 7e8]).double(), torch.tensor([5e7]).double()),
}


@pytest.mark.parametrize("names", [*([name] for name in STEEPNESS), ["spread", "clipped", "very steep"]])
def test_histograms_contain_all_gradient_norms_and_weights(tmp_path, histograms, names):
    norms, weights = ({name: STEEPNESS[name][i] for name in names} for i in (0, 1))
    draw_steepness(tmp_path / "a.png", norms, weights)
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert len(histograms) == 2 * len(names)
    for label, heights, _ in histograms:
        assert any(label.startswith(name) for name in names)
        assert heights.sum() == pytest.approx(1.0)  # shares, for any number of points or weights
    for name in names:
        assert sum(label.startswith(name) for label, *_ in histograms) == 2


def test_histogram_bars_are_at_the_gradient_norms(tmp_path, histograms):
    values = torch.tensor([1e-3, 1e-3, 1e-3, 10.0]).double()
    draw_steepness(tmp_path / "a.png", {"a": values}, {"a": torch.ones(3).double()})
    _, heights, edges = histograms[0]
    for value, share in ((1e-3, 0.75), (10.0, 0.25)):
        (bar,) = np.flatnonzero((edges[:-1] <= value) & (value < edges[1:]))
        assert heights[bar] == pytest.approx(share)


def test_constant_discriminator_is_drawn(tmp_path):
    flat, weights = torch.zeros(20).double(), torch.zeros(4).double()
    draw_steepness(tmp_path / "a.png", {"flat": flat}, {"flat": weights})
    draw_steepness(tmp_path / "b.png", {"flat": flat, "other": flat + 2}, {"flat": weights, "other": weights + 1})
    assert (tmp_path / "b.png").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_diverged_discriminator_is_drawn(tmp_path, value, share):
    norms, weights = torch.rand(20).double() + 1, torch.rand(20).double()
    norms[: int(share * 20)] = value
    weights[: int(share * 20)] = value
    draw_steepness(tmp_path / "a.png", {"diverged": norms}, {"diverged": weights})
    other = torch.ones(20).double()
    draw_steepness(tmp_path / "b.png", {"diverged": norms, "sound": other}, {"diverged": weights, "sound": other})
    assert (tmp_path / "b.png").exists()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_image_is_saved_pixel_by_pixel_with_all_its_channels(tmp_path, channels, mode):
    spec = DataSpec((channels, 4, 6))
    assert is_picture(spec)
    levels = torch.randint(256, spec.shape)
    save_image(tmp_path / "x.png", levels / 127.5 - 1)
    with Image.open(tmp_path / "x.png") as image:
        assert (image.mode, image.size) == (mode, (6, 4))
        pixels = torch.from_numpy(np.asarray(image).copy()).view(4, 6, channels).permute(2, 0, 1)
    assert torch.equal(pixels.long(), levels)
    assert not is_picture(DataSpec((5, 4, 6)))
    assert not is_picture(DataSpec((2,)))
