"""Pictures of mixed styles: which layers come from which source, and the command that draws them."""

import pytest
import torch
from click.testing import CliRunner
from ganframe_stylegan2.mixing import draw, main, mixed_samples
from torchvision.io import decode_image

import ganframe

RECIPE = """
[dataset]
use = "digits"
[latent]
dim = 8
[generator]
use = "stylegan2"
width = 8
w_dim = 8
mapping_layers = 2
condition = "mapping"
[discriminator]
use = "mlp"
hidden = [8]
condition = "concat"
[objective]
use = "non_saturating"
[train]
steps = 1
batch_size = 8
"""


def trained(folder, *overrides):
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return ganframe.run(ganframe.load_recipe(folder / "recipe.toml", overrides), folder / "run").folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one step, of 10 classes."""
    return trained(tmp_path_factory.mktemp("mixing"))


@pytest.fixture
def G(run):
    """Its generator, with weights far enough from zero that w matters."""
    found = ganframe.load_generator(run)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return found


def test_sources_are_samples_and_the_corner_is_white(G):
    found = mixed_samples(G, rows=2, columns=3, seed=4)
    own = G.sample(5, seed=4)
    assert found.shape == (3, 4, 1, 8, 8)
    torch.testing.assert_close(found[1:, 0], own[:2])
    torch.testing.assert_close(found[0, 1:], own[2:])
    assert (found[0, 0] == 1).all()


def test_coarse_layers_are_the_rows_and_fine_ones_the_columns(G):
    layers = G.network.layers
    assert layers == 3
    z, y = G.latents(5, 4)
    with torch.no_grad():
        w = G.network.map(z, y)
        for start in range(layers + 1):
            found = mixed_samples(G, 2, 3, start, seed=4)
            for i, j in ((0, 0), (1, 2)):
                each = [w[i] if layer < start else w[2 + j] for layer in range(layers)]
                torch.testing.assert_close(
                    found[1 + i, 1 + j], G.network.synthesize(torch.stack(each)[None], y[:1])[0].clamp(-1, 1)
                )
    torch.testing.assert_close(found[1:, 1:], found[1:, :1].expand(-1, 3, -1, -1, -1))  # all layers are the rows'
    first = mixed_samples(G, 2, 3, 0, seed=4)
    torch.testing.assert_close(first[1:, 1:], first[:1, 1:].expand(2, -1, -1, -1, -1))
    assert not torch.equal(mixed_samples(G, 2, 3, seed=4), first)
    assert torch.equal(mixed_samples(G, 2, 3, seed=4), mixed_samples(G, 2, 3, 1, seed=4))


def test_sources_are_of_a_class_and_truncated(G):
    found = mixed_samples(G, 2, 2, seed=1, label=7, truncation=0.4)
    torch.testing.assert_close(found[1:, 0], G.sample(4, 1, y=7, truncation=0.4)[:2])
    drawn = mixed_samples(G, 2, 2, seed=1, truncation=0.4)  # each to the mean of its own class
    torch.testing.assert_close(drawn[0, 1:], G.sample(4, 1, truncation=0.4)[2:])
    whole = mixed_samples(G, 2, 2, seed=1, truncation=0.0, label=3)
    torch.testing.assert_close(whole[1, 1], whole[1, 0])


def test_wrong_layers_and_other_generators_are_refused(G, tmp_path):
    with pytest.raises(ganframe.RequestError, match="from layer 4: this generator has 3 layers; give 0 to 3"):
        mixed_samples(G, from_layer=4)
    other = trained(tmp_path, "generator={use='mlp', hidden=[4], condition='concat'}")
    result = CliRunner().invoke(main, [str(other)])
    assert result.exit_code == 2
    assert result.stderr == (
        "style mixing needs a generator whose layers each take a w, as stylegan2; this one has none\n"
    )


def test_command_draws_a_picture(run, tmp_path):
    out = tmp_path / "new" / "mixed.png"
    asked = [str(run), "--rows", "2", "--columns", "3", "--from-layer", "2", "--label", "5", "--out", str(out)]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    picture = decode_image(str(out))
    assert picture.shape[1:] == (3 * 66 + 2, 4 * 66 + 2)  # 64 pixels each, with 2 between
    assert (picture[:, 2:66, 2:66] == 255).all()
    assert CliRunner().invoke(main, [str(run)]).exit_code == 0
    assert (run / "samples" / "mixing.png").is_file()
    refused = CliRunner().invoke(main, [str(tmp_path)])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 3)])
def test_pictures_show_up_to_three_channels(tmp_path, channels, shown):
    draw(tmp_path / "x.png", torch.linspace(-1, 1, channels).view(1, 1, -1, 1, 1).expand(1, 2, -1, 100, 64))
    picture = decode_image(str(tmp_path / "x.png"))
    assert picture.shape == (3, 104, 2 * 66 + 2)
    expected = torch.linspace(0, 255, channels)[:shown].expand(3)
    torch.testing.assert_close(picture[:, 50, 30].float(), expected, rtol=0, atol=1.0)
