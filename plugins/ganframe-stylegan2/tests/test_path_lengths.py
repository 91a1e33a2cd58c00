"""Path lengths against Jacobians by autograd, the moving mean, and what lazy regularisation does to the gradient."""

import math
import os
import subprocess
import sys

import attrs
import pytest
import torch
from ganframe_stylegan2.path_lengths import MeanLength, PathLengths, gamma, path_lengths
from safetensors.torch import load_file
from torch import nn

import ganframe
from ganframe import DataSpec, Generator, Parts, Scored, Turn
from ganframe.testing import check_term

SHAPE = (2, 3, 4)


class Mapped(nn.Module):
    """x = tanh(A w + c(y)), w = tanh(B z)."""

    def __init__(self, data=None, latent_dim=3, w_dim=5):
        super().__init__()
        self.shape = SHAPE if data is None else data.shape
        self.mapping = nn.Linear(latent_dim, w_dim)
        self.synthesis = nn.Linear(w_dim, math.prod(self.shape))

    def map(self, z, y):
        return self.mapping(z).tanh()

    def synthesize(self, w, y):
        return self.synthesis(w).tanh().unflatten(1, self.shape)

    def forward(self, z, y):
        return self.synthesize(self.map(z, y), y)


@attrs.frozen
class MappedGenerator(Generator):
    def build(self, data, latent_dim):
        return Mapped(data, latent_dim)


class Linear(Mapped):
    """x = A w: the same Jacobian everywhere."""

    def synthesize(self, w, y):
        return self.synthesis(w).unflatten(1, self.shape)


def turn(G, z, parts=None):
    y = torch.zeros(len(z), dtype=torch.long)
    return Turn(G, None, None, Scored(G(z, y), y, None, z), None, 0, parts or Parts())


def jacobian(G, z):
    """J (numbers of x, w_dim) at one latent z (1, dim)."""
    y = torch.zeros(1, dtype=torch.long)
    found = torch.autograd.functional.jacobian(lambda w: G.synthesize(w, y), G.map(z, y))
    return found.reshape(math.prod(SHAPE), -1)


def y_of(z):
    return torch.zeros(len(z), dtype=torch.long)


def test_length_is_that_of_the_jacobian_transposed_times_the_noise():
    G, z = Mapped().double(), torch.randn(4, 3, dtype=torch.float64)
    torch.manual_seed(5)
    found = path_lengths(G, z, y_of(z))
    torch.manual_seed(5)
    v = torch.randn(4, *SHAPE, dtype=torch.float64) / math.sqrt(3 * 4)
    expected = [(jacobian(G, z[i : i + 1]).T @ v[i].flatten()).norm() for i in range(4)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_mean_square_is_the_trace_of_jjt_over_the_pixels():
    G, z, many = Mapped(), torch.randn(1, 3), 200_000
    found = path_lengths(G, z.expand(many, -1), torch.zeros(many, dtype=torch.long)).square().mean()
    J = jacobian(G, z)
    # The spread of the mean is about 0.2 %.
    assert found.item() == pytest.approx((J @ J.T).trace().item() / (3 * 4), rel=0.02)


def test_w_of_several_axes_has_one_length_for_each_sample():
    class PerLayer(Linear):
        def map(self, z, y):
            return super().map(z, y).view(-1, 5, 1).expand(-1, 5, 2)

        def synthesize(self, w, y):
            return super().synthesize(w.mean(2), y)

    G, plain, z = PerLayer(), Linear(), torch.randn(4, 3)
    plain.load_state_dict(G.state_dict())
    torch.manual_seed(2)
    found = path_lengths(G, z, y_of(z))
    torch.manual_seed(2)
    expected = path_lengths(plain, z, y_of(z)) / math.sqrt(2)  # each of two equal numbers gets half of the slope
    torch.testing.assert_close(found, expected)


def test_value_is_the_spread_around_the_mean_of_the_first_batch():
    G, z, term = Mapped(), torch.randn(8, 3), PathLengths(weight=3.0, share=1.0)
    torch.manual_seed(5)
    lengths = path_lengths(G, z, y_of(z))
    torch.manual_seed(5)
    value = term.generator_term(turn(G, z, term.prepare(G, None, None)))
    torch.testing.assert_close(value, 3 * gamma(G(z, y_of(z))) * lengths.var(correction=0))


def test_mean_weighs_the_batches_by_powers_of_the_decay():
    a = PathLengths().prepare(Mapped(), None, None).generator
    means = [a.follow(torch.tensor(value), 0.9).item() for value in (2.0, 4.0, 3.0)]
    assert means == pytest.approx([2, (0.9 * 2 + 4) / 1.9, (0.81 * 2 + 0.9 * 4 + 3) / 2.71])


def test_mean_stays_that_of_equal_batches_for_a_decay_near_1():
    a = PathLengths().prepare(Mapped(), None, None).generator
    assert [a.follow(torch.tensor(7.0), 0.9999).item() for _ in range(50)] == pytest.approx([7.0] * 50, rel=1e-4)


def test_share_looks_at_the_first_samples():
    G, z = Mapped(), torch.randn(7, 3)
    values = []
    for share, latents in ((0.5, z), (1.0, z[:4])):
        term = PathLengths(share=share)
        torch.manual_seed(5)
        values.append(term.generator_term(turn(G, latents, term.prepare(G, None, None))))
    assert values[0] == values[1] > 0


def test_gradient_reaches_mapping_and_synthesis_and_not_the_mean():
    G, z, term = Mapped(), torch.randn(8, 3), PathLengths()
    parts = term.prepare(G, None, None)
    term.generator_term(turn(G, z, parts)).backward()
    assert all(p.grad.abs().sum() > 0 for p in G.parameters())
    assert not any(buffer.requires_grad for buffer in parts.generator.buffers())


def test_term_works_where_the_mapping_is_frozen():
    G, z, term = Mapped(), torch.randn(8, 3), PathLengths()
    G.mapping.requires_grad_(False)
    term.generator_term(turn(G, z, term.prepare(G, None, None))).backward()
    assert G.synthesis.weight.grad.abs().sum() > 0


def test_descent_makes_the_jacobian_orthogonal_up_to_a_factor():
    """In a linear synthesis all ‖Jᵀv‖ are equal in the limit of many pixels where JᵀJ is a multiple of I."""
    torch.manual_seed(0)
    G, term = Linear(DataSpec((1, 12, 12)), w_dim=3), PathLengths(weight=1.0, decay=0.9, share=1.0)
    with torch.no_grad():
        G.synthesis.weight.mul_(torch.tensor([1.0, 4.0, 8.0]))
    parts, optimizer = term.prepare(G, None, None), torch.optim.Adam(G.synthesis.parameters(), 0.03)

    def condition():
        return torch.linalg.cond(G.synthesis.weight.detach()).item()

    before = condition()
    for _ in range(400):
        optimizer.zero_grad()
        term.generator_term(turn(G, torch.randn(64, 3), parts)).backward()
        optimizer.step()
    assert before > 6
    assert condition() < 1.5
    assert G.synthesis.weight.norm() > 0.1


def test_generator_without_w_is_refused():
    with pytest.raises(ValueError, match=r"map\(z, y\) and synthesize\(w, y\); choose one"):
        PathLengths().prepare(nn.Linear(2, 2), None, None)


@pytest.mark.parametrize("data", [DataSpec((2,)), DataSpec((1, 8, 8)), DataSpec((3, 5, 7), classes=3)])
def test_term_keeps_the_promises_of_a_term(data):
    check_term(PathLengths(), data, MappedGenerator())


# ------------------------------------------------------------------------------------------------------------- in runs

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
style_mixing = 0.0
[discriminator]
use = "mlp"
hidden = [8]
[objective]
use = "non_saturating"
[[terms]]
use = "path_lengths"
[optimizer.generator]
use = "SGD"
lr = 0.05
[optimizer.discriminator]
use = "SGD"
lr = 0.05
[train]
steps = 8
batch_size = 8
[log]
every = 1
samples_every = 8
checkpoint_every = 4
"""


@pytest.fixture
def recipe(tmp_path):
    """recipe(*overrides): path lengths of a small StyleGAN2 for 8 steps."""
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE, encoding="utf-8")
    return lambda *overrides: ganframe.load_recipe(file, overrides)


LAZY = ("terms[0].every=4",)


def test_lazy_term_has_the_mean_gradient_of_the_eager_one(recipe, tmp_path, monkeypatch):
    """Of constant networks and a constant a: each fourth step has four times the gradient, the others none."""
    still = [f"optimizer.{player}.lr=0.0" for player in ("generator", "discriminator")]
    monkeypatch.setattr(MeanLength, "follow", lambda self, mean, decay: torch.tensor(0.3))
    slopes = {}
    for name, more in (("none", ["terms=[]"]), ("eager", []), ("lazy", LAZY)):
        found = slopes[name] = []

        def keep(state, found=found):
            found.append(torch.cat([p.grad.flatten() for p in state.G.network.parameters()]))
            torch.manual_seed(state.step)  # the eager run has drawn more noise

        ganframe.run(recipe(*still, *more), tmp_path / name, [keep])
    none, eager, lazy = (torch.stack(slopes[name]) for name in ("none", "eager", "lazy"))
    assert ((eager - none).norm(dim=1) > 0.01 * none.norm(dim=1)).all()
    torch.testing.assert_close((lazy - none)[::4], 4 * (eager - none)[::4], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(lazy.unflatten(0, (2, 4))[:, 1:], none.unflatten(0, (2, 4))[:, 1:])


def test_run_resumes_to_the_same_bytes_while_the_mean_moves(recipe, tmp_path):
    more = ("terms[0].every=2", "generator.style_mixing=0.9", "log.checkpoint_every=3")
    ganframe.run(recipe(*more), tmp_path / "whole")
    ganframe.run(recipe(*more, "train.steps=3"), tmp_path / "parts")
    ganframe.resume(tmp_path / "parts", ["train.steps=8"])
    whole, parts = (
        {p.name: p.read_bytes() for p in (tmp_path / name / "checkpoints" / "step-000008").glob("*.safetensors")}
        for name in ("whole", "parts")
    )
    assert "term.path_lengths.generator.safetensors" in whole
    assert whole == parts


@pytest.mark.slow
def test_two_processes_equal_one(recipe, tmp_path):
    """With noise and directions v fixed, which each process draws for itself."""
    recipe(*LAZY)
    script = tmp_path / "train.py"
    script.write_text(
        f"""
import sys
import torch
import ganframe

def fixed(draw):
    @torch.no_grad()
    def constant(*shape, **options):
        drawn = draw(*shape, **options)
        return drawn if options.get("generator") is not None else drawn.fill_(0.5)
    return constant

torch.randn, torch.randn_like = fixed(torch.randn), fixed(torch.randn_like)
ganframe.run(ganframe.load_recipe({str(tmp_path / "recipe.toml")!r}, {[*LAZY]!r}), sys.argv[1])
"""
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name, more in (("one", []), ("two", launcher)):
        done = subprocess.run(
            [sys.executable, *more, str(script), str(tmp_path / name)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    one, two = (tmp_path / name / "checkpoints" / "step-000008" for name in ("one", "two"))
    for file in ("generator", "discriminator", "term.path_lengths.generator"):
        expected, found = (load_file(folder / f"{file}.safetensors") for folder in (one, two))
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-6, msg=f"{file}: {key} differs")
    assert load_file(one / "term.path_lengths.generator.safetensors")["seen"] > 0


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3, 32, 32), 0.25), ((1, 1024, 1024), 1 / 9), ((3, 16, 64), 0.25), ((2, 2), 1.0), ((5,), 1.0)],
)
def test_weight_1_is_that_of_the_paper_for_the_resolution(shape, expected):
    x = torch.empty(1, *shape)
    assert gamma(x) == pytest.approx(expected)
    r = math.sqrt(x[0, 0].numel())
    if r > 4:
        of_the_paper = math.log(2) / (r**2 * (math.log(r) - math.log(2)))
        assert gamma(x) == pytest.approx(r**2 * of_the_paper)
