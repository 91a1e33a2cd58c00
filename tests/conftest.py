"""Fixtures that several test files share."""

import importlib
import shutil
import sys
import tomllib
from textwrap import dedent

import pytest
import torch
from click.testing import CliRunner


def pytest_collectstart(collector):
    """Networks that a file of tests makes when it is imported, as parameters of a test, are the same every time."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def seeded():
    """Every test begins with the same random numbers."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """What features keep in the cache folder is kept for these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANFRAME_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def other_samples_gradient():
    """measure(D, x): the largest |dD(x)_i / dx_j| over i ≠ j, 0 for a critic that treats samples independently."""

    def measure(D, x):
        x = x.clone().requires_grad_()
        scores = D(x, torch.zeros(len(x), dtype=torch.long))
        largest = 0.0
        for i in range(len(x)):
            (gradient,) = torch.autograd.grad(scores[i], x, retain_graph=True)
            assert gradient[i].abs().max() > 0  # a critic that sees nothing would pass as independent
            gradient[i] = 0
            largest = max(largest, gradient.abs().max().item())
        return largest

    return measure


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; tests that need it are skipped where it, its driver or selenium is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = (shutil.which("chromium") or shutil.which("google-chrome")), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("there is no chromium with its chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1200,900"):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    opened.set_script_timeout(60)
    yield opened
    opened.quit()


@pytest.fixture
def open_page(browser):
    """open_page(file, width=1200, dark=False): the browser with a page whose script has run without an error."""

    def load(file, width=1200, dark=False):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get_log("browser")  # that of other pages
        browser.get(file.absolute().as_uri())
        assert browser.execute_script("return document.documentElement.dataset.ready") == "yes"
        assert browser.get_log("browser") == []
        return browser

    return load


@pytest.fixture
def accessibility(browser):
    """accessibility(): the rules of axe-core that the open page breaks, each with its first places."""
    axe = pytest.importorskip("axe_core_python.selenium", reason="axe-core-python is not installed")

    def check():
        result = axe.Axe().run(browser)
        assert "color-contrast" in [rule["id"] for rule in result["passes"] + result["violations"]]  # else it failed
        found = result["violations"]
        return {rule["id"]: [node["html"][:200] for node in rule["nodes"][:3]] for rule in found}

    return check


@pytest.fixture
def call(tmp_path, monkeypatch):
    """call(*arguments, code=0): runs the command line in an empty folder; its exit code must be `code`."""
    from ganframe.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANFRAME_BLOCK", "")

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, list(map(str, arguments)), env={"COLUMNS": "200"})
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def tiny(tmp_path):
    """tiny(more="", name="tiny.toml"): a recipe of six steps on a ring of Gaussians, with `more` at its end."""

    def write(more="", name="tiny.toml"):
        file = tmp_path / name
        file.write_text(TINY + dedent(more), encoding="utf-8")
        return file

    return write


TINY = """
seed = 1
[dataset]
use = "ring"
[latent]
dim = 2
[generator]
use = "mlp"
hidden = [8]
[discriminator]
use = "mlp"
hidden = [8]
[objective]
use = "vanilla"
[train]
steps = 6
batch_size = 8
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty folder of installed distributions, first on Python's path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def install(site):
    """install(name, source, ...): an installed distribution whose one module is a plugin; gives the site folder."""
    modules = set()

    def write(name, source, module=None, plugin=None, target=None, version="1.0"):
        module = module or name.replace("-", "_")
        modules.add(module)
        (site / f"{module}.py").write_text(dedent(source), encoding="utf-8")
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        entry_point = f"{plugin or module} = {target or module}"
        (info / "entry_points.txt").write_text(f"[ganframe]\n{entry_point}\n", encoding="utf-8")
        importlib.invalidate_caches()
        return site

    yield write
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def install_package(site, monkeypatch):
    """install_package(folder): the plugin package in a folder, installed where it stands; gives the site folder."""
    targets = set()

    def write(folder):
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        entry_points = project["entry-points"]["ganframe"]
        targets.update(entry_points.values())
        lines = [f"{name} = {target}\n" for name, target in entry_points.items()]
        (info / "entry_points.txt").write_text("".join(["[ganframe]\n", *lines]), encoding="utf-8")
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        return site

    yield write
    for module in [m for m in sys.modules if m.partition(".")[0] in targets]:
        sys.modules.pop(module)


@pytest.fixture
def conditional(install, tmp_path):
    """conditional(kind="images", more=""): a recipe of four steps on data with conditions, from an installed plugin.

    "images" are 3×8×8 with a condition 1×8×8, of which some are held out; "vectors" are points under vectors.
    """
    install("ganframe-paired", PAIRED, module="ganframe_paired", plugin="paired")

    def write(kind="images", more="", name="conditional.toml"):
        file = tmp_path / name
        file.write_text(CONDITIONAL.format(dataset=kind) + dedent(more), encoding="utf-8")
        return file

    return write


CONDITIONAL = """
seed = 1
[dataset]
use = "paired:paired_{dataset}"
[latent]
dim = 2
[generator]
use = "mlp"
hidden = [8]
condition = "concat"
[discriminator]
use = "mlp"
hidden = [8]
dropout = 0.2
condition = "concat"
[objective]
use = "non_saturating"
[train]
steps = 4
batch_size = 8
[log]
every = 1
samples_every = 2
checkpoint_every = 2
"""

PAIRED = """
import math

import attrs
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, Discriminator, Distribution, hookimpl


def negatives(n, seed):
    y = torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return TensorDataset((255 - y).repeat(1, 3, 1, 1), y)


@attrs.frozen
class Images(Dataset):
    "Noise in grey, and its negative in colour."

    @property
    def spec(self):
        return DataSpec((3, 8, 8), condition=(1, 8, 8))

    def build(self):
        return negatives(40, 0)

    def held_out(self):
        return negatives(30, 1)


class Shifted(Distribution):
    def draw(self, n, generator):
        y = torch.randn(n, 3, generator=generator, device=generator.device)
        return y[:, :2] + 0.1 * torch.randn(n, 2, generator=generator, device=generator.device), y


@attrs.frozen
class Vectors(Dataset):
    "Points near the first two numbers of their conditions."

    @property
    def spec(self):
        return DataSpec((2,), condition=(3,))

    def build(self):
        return Shifted()


class Two(nn.Module):
    many_scores = True

    def __init__(self, features):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x, y):
        return self.layers(x.flatten(1))


@attrs.frozen
class ManyScores(Discriminator):
    "Gives two scores for each sample."

    def build(self, data):
        return Two(math.prod(data.shape))


@hookimpl
def ganframe_datasets():
    return {"paired_images": Images, "paired_vectors": Vectors}


@hookimpl
def ganframe_discriminators():
    return {"two_scores": ManyScores}
"""
