"""Which generator of pytorch-CycleGAN-and-pix2pix a checkpoint holds, told from the names and shapes of its tensors.

U-Net and ResNet generator with batch, instance or no norm. Neither what it was trained for nor whether dropout and the
running statistics of batch norms are to be used stands in such a file; that code base tests with dropout on and with
the statistics of the one slice at hand, unless it is told otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipelines.errors import WeightsError
from pipelines.importing.found import Found, Question
from pipelines.networks.pix2pix_layout import FEWEST_DOWNS, NORM_MODES, Pix2PixResNet, Pix2PixUNet
from pipelines.spec import Parameter
from pipelines.weights import misfit_of

PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
UNET, RESNET = "model.model.0.weight", "model.1.weight"  # the first convolution of each
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

_DROPOUT = Question(True, (True, False), "whether dropout acts, as where that code tests without --eval")
_NORM_MODE = Question("batch", NORM_MODES, "statistics of each slice, as without --eval; or running, as with it")


def recognise(source: object, stored: Mapping[str, Tensor]) -> Found:
    """The generator in `stored`; raises WeightsError naming the tensor that does not fit.

    `source` is what errors call the file.
    """
    tensors, notes = _plain(stored)
    if UNET in tensors:
        parameters = _unet(source, tensors)
        words = f"U-Net with {parameters['downs']} levels"
    elif RESNET in tensors:
        parameters = _resnet(source, tensors)
        words = f"ResNet generator with {parameters['blocks']} blocks"
    else:
        first = ", ".join(sorted(tensors)[:3])
        raise WeightsError(
            f"{source}: found tensors {first} ..., expected {UNET} (U-Net) or {RESNET} (ResNet generator) among them"
        )
    tensors = _without_old_buffers(tensors, notes)
    norm = _norm(tensors)
    parameters["norm"] = norm
    if norm == "batch":
        tensors = _with_counters(tensors)
    architecture = "pix2pix-unet" if "downs" in parameters else "pix2pix-resnet"
    network = _built(source, architecture, parameters)
    misfit = misfit_of(network.state_dict(), tensors)
    if misfit:
        raise WeightsError(f"{source}: {misfit}; expected those of {architecture} with {parameters}")
    questions = {"norm_mode": _NORM_MODE} if norm == "batch" else {}
    if parameters.get("dropout_layers") or int(parameters.get("downs", 0)) > FEWEST_DOWNS:
        questions.update(dropout=_DROPOUT, seed=Question(0, (), "of the dropout"))
    return Found(
        words=f"{words}, {parameters['ngf']} filters, {norm} norm, {parameters['in_channels']} channels in and "
        f"{parameters['out_channels']} out, as of pytorch-CycleGAN-and-pix2pix",
        architecture=architecture,
        parameters=parameters,
        weights=tensors,
        in_channels=int(parameters["in_channels"]),
        multiple=int(getattr(network, "multiple", 1)),
        questions=questions,
        notes=tuple(notes),
    )


def _plain(stored: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without the prefixes of wrappers."""
    tensors, notes = dict(stored), []
    while prefix := next((one for one in PREFIXES if all(name.startswith(one) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        notes.append(f"the prefix {prefix} was taken off every name")
    return tensors, notes


def _without_old_buffers(tensors: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Without the statistics that instance norms kept before torch 0.4: that code drops them, too."""
    old = {
        name
        for name in tensors
        if name.endswith(_STATISTICS) and f"{name.rpartition('.')[0]}.weight" not in tensors
    }  # fmt: skip
    if old:
        notes.append(f"{len(old)} buffers of old instance norms, which never acted, were left out")
    return {name: tensor for name, tensor in tensors.items() if name not in old}


def _norm(tensors: Mapping[str, Tensor]) -> str:
    """Batch norms have statistics; convolutions before instance norms have a bias, those before no norm have none."""
    if any(name.endswith("running_mean") for name in tensors):
        return "batch"
    first = UNET if UNET in tensors else RESNET
    return "instance" if first.replace("weight", "bias") in tensors else "none"


def _with_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the counters of batches that batch norms have had since torch 0.4.1; nothing is made of them."""
    missing = {
        name.replace("running_mean", "num_batches_tracked") for name in tensors if name.endswith("running_mean")
    } - tensors.keys()
    return {**tensors, **{name: torch.tensor(0) for name in missing}}


def _unet(source: object, tensors: Mapping[str, Tensor]) -> dict[str, Parameter]:
    first = _kernel(source, tensors, UNET, 4)
    prefix, downs = "model.model.1.", 1
    while f"{prefix}model.1.weight" in tensors:
        downs += 1
        prefix += "model.3."
    last = _kernel(source, tensors, "model.model.3.weight", 4)
    return {"in_channels": first[1], "out_channels": last[1], "ngf": first[0], "downs": downs}


def _resnet(source: object, tensors: Mapping[str, Tensor]) -> dict[str, Parameter]:
    first = _kernel(source, tensors, RESNET, 7)
    found = {
        (int(match[1]), match[2])
        for name in tensors
        if (match := re.fullmatch(r"model\.(\d+)\.conv_block\.(\d+)\.weight", name)) and tensors[name].dim() == 4
    }
    blocks = len({index for index, _ in found})
    last = _kernel(source, tensors, f"model.{17 + blocks}.weight", 7)
    return {
        "in_channels": first[1],
        "out_channels": last[0],
        "ngf": first[0],
        "blocks": blocks,
        "dropout_layers": any(place == "6" for _, place in found),
    }


def _kernel(source: object, tensors: Mapping[str, Tensor], name: str, side: int) -> tuple[int, ...]:
    """The shape of the convolution `name`; refused unless it is `side` pixels wide."""
    found = tuple(tensors[name].shape) if name in tensors else "no such tensor"
    if isinstance(found, str) or len(found) != 4 or found[2:] != (side, side):
        raise WeightsError(f"{source}: {name}: found {found}, expected a convolution of {side} x {side}")
    return found


def _built(source: object, architecture: str, parameters: Mapping[str, Parameter]) -> nn.Module:
    """The network without storage."""
    network = Pix2PixUNet if architecture == "pix2pix-unet" else Pix2PixResNet
    try:
        with torch.device("meta"):
            return network(**parameters)  # type: ignore[arg-type]
    except ValueError as error:
        raise WeightsError(f"{source}: {error}") from error
