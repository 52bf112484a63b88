"""The network of a MONAI bundle: read without evaluating anything, and computing what MONAI's own does."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.errors import WeightsError
from pipelines.importing.monai_bundle import Bundle, recognise
from pipelines.importing.source import recognised
from pipelines.networks import GENERATORS

IMAGE = {"type": "image", "format": "magnitude", "modality": "MR", "num_channels": 1}
METADATA = {
    "version": "0.1.0", "task": "T1 to `T2`\n# heading", "license": 1,
    "network_data_format": {"inputs": {"image": IMAGE}, "outputs": {"pred": IMAGE}},
}  # fmt: skip
UNET = {
    "_target_": "UNet", "spatial_dims": "@spatial_dims", "in_channels": 1, "out_channels": 1,
    "channels": [4, 8, 8], "strides": [2, 2], "num_res_units": 1, "norm": "batch",
}  # fmt: skip
NETWORKS = {
    "UNet": UNET,
    "BasicUNet": {
        "_target_": "monai.networks.nets.BasicUNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1,
        "features": [2, 2, 4, 4, 8, 2],
    },
    "SegResNet": {
        "_target_": "monai.networks.nets.segresnet.SegResNet", "spatial_dims": 2, "in_channels": 1,
        "out_channels": 1, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1],
    },
}  # fmt: skip


def write_bundle(folder: Path, definition: Any, metadata: Any = METADATA) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    configuration = {"imports": ["$import os"], "spatial_dims": 2, "far": "@spatial_dims", "network_def": definition}
    (folder / "configs" / "inference.json").write_text(json.dumps(configuration))
    (folder / "models").mkdir()
    return folder


def theirs(name: str) -> torch.nn.Module:
    from monai.networks import nets

    torch.manual_seed(6)
    given = {key: value for key, value in NETWORKS[name].items() if key != "_target_"}
    network: torch.nn.Module = getattr(nets, name)(**{**given, "spatial_dims": 2})
    for each in network.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(each.running_mean, -0.2, 0.2)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_computes_what_that_of_monai_does(tmp_path: Path, name: str) -> None:
    bundle, network = Bundle.at(write_bundle(tmp_path / "bundle", NETWORKS[name])), theirs(name)
    assert bundle is not None
    found = recognise(bundle, network.state_dict())
    ours = GENERATORS[found.architecture](**found.parameters, output_range="0..1").eval()
    ours.load_state_dict(dict(found.weights))  # type: ignore[call-overload]
    x = torch.rand(2, 1, 32, 32) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), 2 * network(x) - 1)


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_bundle_is_read_from_a_folder_and_from_a_zip(tmp_path: Path, as_zip: bool) -> None:
    path = write_bundle(tmp_path / "bundle", UNET)
    torch.save(theirs("UNet").state_dict(), path / "models" / "model.pt")
    if as_zip:
        path = tmp_path / "bundle.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted((tmp_path / "bundle").rglob("*.*")):
                archive.write(file, file.relative_to(tmp_path))
    with recognised(path) as found:
        assert found.architecture == "monai-unet"
        assert found.about["version"] == "0.1.0"
        assert len(found.weights) == len(theirs("UNet").state_dict())  # type: ignore[arg-type]


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "target": ({**UNET, "_target_": "os.system"}, METADATA, "network_def._target_: found 'os.system', expected one of"),
    "expression": ({**UNET, "channels": "$__import__('os').system('x')"}, METADATA, "channels: found the expression"),
    "inner expression": ({**UNET, "channels": [4, "$8"]}, METADATA, "channels[1]: found the expression '$8'"),
    "reference": ({**UNET, "channels": "@nothing"}, METADATA, "channels: found the expression '@nothing'"),
    "two references": ({**UNET, "spatial_dims": "@far"}, METADATA, "found the reference '@spatial_dims' behind"),
    "object": ({**UNET, "act": {"_target_": "subprocess.run"}}, METADATA, "act: found an object to be made of"),
    "argument": ({**UNET, "device": "cpu"}, METADATA, "UNet: device: found an argument that is not known"),
    "volumes": ({**UNET, "spatial_dims": 3}, METADATA, "spatial_dims: found 3, expected 2"),
    "activation": ({**UNET, "act": "no-such"}, METADATA, "network_def: "),
    "none": (None, METADATA, "network_def: found NoneType, expected an object"),
    "labels": (
        UNET,
        {"network_data_format": {"inputs": {"image": IMAGE}, "outputs": {"p": {**IMAGE, "format": "segmentation"}}}},
        "outputs: found image of segmentation, expected an image",
    ),
    "two images": (
        UNET,
        {"network_data_format": {"inputs": {"a": IMAGE, "b": IMAGE}, "outputs": {"p": IMAGE}}},
        "inputs: found 2 entries, expected one image",
    ),
    "channels": (
        UNET,
        {"network_data_format": {"inputs": {"image": {**IMAGE, "num_channels": 2}}, "outputs": {"p": IMAGE}}},
        "inputs.num_channels: found 2, expected 1",
    ),
    "weights": (UNET, METADATA, "tensors missing: model.model"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_is_no_plain_network_is_refused(tmp_path: Path, which: str) -> None:
    definition, metadata, words = REFUSED[which]
    bundle = Bundle.at(write_bundle(tmp_path / "bundle", definition, metadata))
    assert bundle is not None
    with pytest.raises(WeightsError) as caught:
        recognise(bundle, {})
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["../../outside.pth", "/etc/outside", "bundle/..\\..\\outside"])
def test_a_zip_that_would_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bundle/configs/metadata.json", json.dumps(METADATA))
        archive.writestr(name, "x")
    with pytest.raises(WeightsError, match="expected files inside the bundle only"):
        Bundle.at(path)


def test_without_monai_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("monai", "monai.networks"):  # as where it is not installed
        monkeypatch.setitem(sys.modules, name, None)
    bundle = Bundle.at(write_bundle(tmp_path / "bundle", UNET))
    assert bundle is not None
    with pytest.raises(WeightsError, match=r"MONAI is not installed; pip install athanor\[monai\]"):
        recognise(bundle, {})
