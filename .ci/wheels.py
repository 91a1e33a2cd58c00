"""Tests every package as its users install it. Run by .ci/run with the Python of a clean environment with the wheels.

`python wheels.py PLUGINS WORK`: in WORK, away from the source, runs the tests and recipes of the packages in PLUGINS,
one package on each core, writes and installs a new plugin of each kind, and installs a broken one beside them.
"""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BIN = Path(sys.executable).parent
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package
KINDS = ("generator", "discriminator", "objective", "constraint", "term", "dataset")


class Failed(Exception):
    """A command failed."""


def call(*command: str, show: bool = True, threads: int | None = None) -> str:
    """Runs a program of the environment in the current folder and returns its output. Raises Failed."""
    environment = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if threads else None,
        text=True,
        check=False,
        env=environment,
    )
    shown = done.stdout if show or done.returncode else ""
    print(f"\n$ {' '.join(command)}\n{shown}", flush=True)
    if done.returncode:
        raise Failed(f"failed with {done.returncode}: {' '.join(command)}")
    return done.stdout


def check_package(package: str) -> None:
    """Runs the tests of a package, and each of its recipes for a few steps, on one thread, if its data is here."""
    call("pytest", "-q", f"plugins/{package}", threads=1)
    recipes = sorted((Path("plugins") / package).glob("*.toml"))
    missing = ("cifar10",) if FASHION_MNIST.is_dir() else ("cifar10", "fashion_mnist")
    for recipe in recipes:
        if recipe.name == "pyproject.toml" or any(data in recipe.name for data in missing):
            continue
        few = ("--set", "train.steps=20", "--out", f"runs/{package}-{recipe.stem}")
        call("ganframe", "run", str(recipe), *few, threads=1)


def listed() -> dict[str, dict]:
    """The rows of `ganframe plugins` by distribution, without the load times."""
    rows = json.loads(call("ganframe", "plugins", "--json", show=False))
    return {row["distribution"]: {key: value for key, value in row.items() if key != "seconds"} for row in rows}


def require(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(message)


def main(plugins: Path, work: Path) -> None:
    packages = sorted(path.parent.name for path in plugins.glob("*/pyproject.toml"))
    shutil.copytree(plugins, work / "plugins")
    os.chdir(work)
    where = call("python", "-c", "import ganframe; print(ganframe.__file__)").strip()
    require("site-packages" in where, f"ganframe comes from {where}, not from its wheel")
    call("ganframe", "plugins")
    rows = listed()
    require(sorted(rows) == sorted(["ganframe", *packages]), f"installed {packages}, and listed are {sorted(rows)}")
    require(all(row["status"] == "loaded" for row in rows.values()), f"not all are loaded: {rows}")

    shown = call("ganframe", "recipes", show=False).split()
    unlisted = [p.stem for p in Path("plugins").glob("*/*.toml") if p.name != "pyproject.toml" and p.stem not in shown]
    require("wgan_sn" in shown and not unlisted, f"`ganframe recipes` does not list {unlisted}, or not wgan_sn")
    call("ganframe", "run", "vanilla_ring", "--set", "train.steps=5", "--out", "runs/by-name")

    def tests(package: str) -> int:
        return sum(file.stat().st_size for file in Path("plugins", package, "tests").glob("*.py"))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the most tests first, so that no core waits for them at the end
        list(pool.map(check_package, sorted(packages, key=tests, reverse=True)))

    for kind in KINDS:
        call("ganframe", "new-plugin", f"my-{kind}", "--kind", kind)
        call("pip", "install", "-q", f"./my-{kind}[test]")
        call("pytest", "-q", f"my-{kind}")
        row = listed()[f"my-{kind}"]
        require(row["components"] == {kind: [f"my_{kind}"]}, f"my-{kind} is listed as {row}")

    recipe = str(next(Path("plugins/ganframe-hinge").glob("hinge*.toml")))
    few = ("--set", "train.steps=5", "--set", "dataset.size=8")
    before = listed()
    call("ganframe", "run", recipe, *few, "--out", "runs/before")
    call("ganframe", "new-plugin", "broken")
    module = Path("broken/broken.py")
    module.write_text(module.read_text(encoding="utf-8") + "\nprint('half way')\nexit('no way')\n", encoding="utf-8")
    call("pip", "install", "-q", "./broken")
    after = listed()
    call("ganframe", "plugins")
    row = after.pop("broken")
    require(row["status"] == "failed" and "no way" in row["cause"], f"the broken plugin is listed as {row}")
    require(after == before, f"the broken plugin changed other rows: {before} became {after}")
    call("ganframe", "run", recipe, *few, "--out", "runs/after")
    weights = [Path(f"runs/{name}/generator.safetensors").read_bytes() for name in ("before", "after")]
    require(weights[0] == weights[1], "with a broken plugin beside it the same recipe gives other weights")
    print(f"\n{len(packages) + 1} wheels, {len(KINDS)} new plugins and a broken one: all as expected")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
    except Failed as error:
        sys.exit(str(error))
