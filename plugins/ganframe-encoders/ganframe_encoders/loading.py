"""The encoder of a run, for use after the training."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from ganframe import RequestError, load_recipe
from ganframe_encoders.networks import Encoder
from ganframe_encoders.terms import TERMS, EncoderTerm


def load_encoder(run: str | Path) -> Encoder:
    """The encoder of a run's newest checkpoint, in evaluation mode, on the CPU: E(x) (N, *shape) -> codes.

    G(E(x)) with G = ganframe.load_generator(run) is the reconstruction of x. Raises RequestError where the run's recipe
    has no term with an encoder, or its newest checkpoint does not have its weights.
    """
    recipe = load_recipe(Path(run) / "recipe.toml")
    term = next((term for term in recipe.terms if isinstance(term, EncoderTerm)), None)
    if term is None:
        raise RequestError(f"{run}: its recipe has no term with an encoder: {', '.join(TERMS)}")
    checkpoints = sorted(Path(run).glob("checkpoints/step-*/"))
    if not checkpoints:
        raise RequestError(f"{run}: this run has no checkpoint yet")
    name = next(name for name, cls in TERMS.items() if type(term) is cls)
    file = checkpoints[-1] / f"term.{name}.generator.safetensors"
    encoder = term.encoder(recipe.dataset.spec)
    try:
        encoder.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RequestError(f"{file}: cannot be loaded: {str(error).splitlines()[0]}") from None
    return encoder.eval()
