"""Files that are broken or made to harm: refused with the reason, in a process of their own."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_layout import resnet_checkpoint

from pipelines.errors import WeightsError
from pipelines.importing import opener
from pipelines.importing.isolated import Limits
from pipelines.importing.source import recognised


class Payload:
    """A pickle of this runs a command when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def refusal(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(WeightsError) as caught, recognised(path, limits):
        pass
    return str(caught.value)


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_a_pickle_does_not_run(tmp_path: Path, as_zip: bool) -> None:
    marker, path = tmp_path / "harm", tmp_path / "latest_net_G.pth"
    content = {"model.1.weight": torch.zeros(4, 1, 7, 7), "model.2.weight": Payload(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    words = refusal(path)
    assert not marker.exists()
    assert "system in its pickle, expected tensors only" in words
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists(), "the payload would have worked"


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "may be cut short"),
    "empty": (lambda path: path.write_bytes(b""), "may be cut short"),
    "no tensor": (
        lambda path: torch.save({"state_dict": {"a": torch.zeros(2), "epoch": 3}}, path),
        "epoch: found int, expected a tensor under a name",
    ),
    "a list": (lambda path: torch.save([torch.zeros(1)], path), "found list, expected the tensors of a state_dict"),
    "sparse": (
        lambda path: torch.save({"a": torch.eye(3).to_sparse()}, path),
        "a: found torch.sparse_coo of torch.float32, expected a plain tensor",
    ),
    "vast by strides": (  # a file of a kilobyte that would fill a terabyte
        lambda path: torch.save({"a": torch.zeros(1).expand(1 << 38)}, path),
        "a: found tensors of over 1073741824 bytes",
    ),
}


@pytest.mark.parametrize("which", BROKEN)
def test_a_broken_checkpoint_is_refused_with_the_reason(tmp_path: Path, which: str) -> None:
    path = tmp_path / "latest_net_G.pth"
    torch.save(resnet_checkpoint(), path)
    breaks, words = BROKEN[which]
    breaks(path)
    with pytest.raises(opener.Refused) as caught:  # here, not in a process for each
        opener.tensors(path, tmp_path, 1 << 30, "")
    assert words in str(caught.value)


def test_values_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "latest_net_G.pth"
    torch.save({**resnet_checkpoint(), "model.1.bias": torch.tensor([1.0, float("nan")])}, path)
    assert "model.1.bias: found values that are not finite, expected numbers" in refusal(path)


def test_limits_hold(tmp_path: Path) -> None:
    path = tmp_path / "latest_net_G.pth"
    torch.save(resnet_checkpoint(), path)
    assert "bytes, expected at most 1000" in refusal(path, Limits(file_bytes=1000))
    assert "its process " in refusal(path, Limits(memory_bytes=100 << 20))
    assert "not opened" in refusal(path, Limits(seconds=0))


def test_programs_and_unknown_files_are_refused(tmp_path: Path) -> None:
    for name, members, words in (
        ("net.pt", ("net/data.pkl", "net/code/__torch__.py"), "found a TorchScript program, which is code"),
        ("net.pth", ("net/data.pkl", "net/constants.pkl"), "found a TorchScript program"),
        ("net.pt", ("net/archive_format", "net/models/model.json"), "found an exported program of torch"),
        ("net.pt2", ("a",), "found an exported program of torch"),
        ("net.zip", ("a",), "found a file .zip"),
        ("net.pkl", ("a",), "found a pickle"),
        ("net.safetensors", ("a",), "found a file .safetensors"),
    ):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(member, "x")
        assert words in refusal(path)
        assert "expected a state_dict of pytorch-CycleGAN-and-pix2pix (.pth), an ONNX file" in refusal(path)
    assert "found no such file" in refusal(tmp_path / "none.pth")
    assert "a folder that is no MONAI bundle" in refusal(tmp_path)
