"""From a folder under weights/ to a synthesised volume on the grid of its source."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomlkit
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import seeded_weights
from safetensors.torch import load_file

from pipelines.errors import Unsuitable, WeightsError
from pipelines.inference import Result, load
from pipelines.kinds.translate import BATCH
from pipelines.networks import GENERATORS
from pipelines.spec import read_manifest
from pipelines.volume import Volume


def ignore(done: int, total: int) -> None:
    """Nobody watches."""


def test_the_result_lies_on_the_grid_of_its_source(released, make_volume):
    source = make_volume(slices=6, rows=61, columns=52, spacing_mm=0.7)
    result = released({"T2W": source}, ignore)
    assert result.volume.shape == source.shape
    assert result.volume.spacing_mm == source.spacing_mm
    assert result.volume.origin_mm == source.origin_mm
    assert np.array_equal(result.volume.direction, source.direction)
    assert result.volume.unit == "1"
    assert 0.0 <= result.volume.voxels.min() < result.volume.voxels.max() <= 4095.0
    assert [check.name for check in result.checks] == ["resampled"]
    assert not result.checks[0].flagged
    assert result.seconds.keys() == {"checks", "intensity", "generator"}


def test_it_is_the_trained_generator_that_answers(released, volume, write_model):
    """At the trained spacing and matrix, the result is what the generator gives for each slice alone."""
    source = replace(volume, voxels=np.ascontiguousarray(volume.voxels[:, :40, :32]))
    folder = write_model()
    generator = GENERATORS["unet"](1, 1, ngf=8, downs=3)
    half = load_file(folder / "generator.safetensors")
    generator.load_state_dict({name: value.float() for name, value in half.items()})
    low, high = np.percentile(source.voxels, (0.5, 99.5))
    real_a = torch.from_numpy(np.clip((source.voxels - low) / (high - low) * 2 - 1, -1, 1)).float()
    with torch.inference_mode():
        fake_b = torch.cat([generator.eval()(each[None, None]) for each in real_a])[:, 0]
    expected = (fake_b.numpy() + 1) * 4095 / 2
    assert np.abs(released({"T2W": source}, ignore).volume.voxels - expected).max() < 4095 * 1e-5


def test_the_same_input_gives_the_same_voxels(released, volume, write_model):
    first = released({"T2W": volume}, ignore)
    again = load(read_manifest(write_model()))({"T2W": volume}, ignore)
    assert np.array_equal(first.volume.voxels, again.volume.voxels)


@settings(max_examples=15)
@given(gain=st.floats(0.01, 100.0), offset=st.floats(-100.0, 100.0))
def test_the_unit_of_the_scanner_does_not_matter(gain, offset, released):
    row, column = np.mgrid[:24, :24] / 4.0
    voxels = (100.0 * np.sin(row) * np.cos(column) + 100.0)[None].astype(np.float32)
    source = Volume(voxels, (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    scaled = source.with_voxels((source.voxels * gain + offset).astype(np.float32))
    change = released({"T2W": scaled}, ignore).volume.voxels - released({"T2W": source}, ignore).volume.voxels
    assert np.abs(change).max() < 4095 * 2e-3


def test_progress_is_told_after_each_batch(released, make_volume):
    told: list[tuple[int, int]] = []
    released({"T2W": make_volume(slices=2 * BATCH + 1)}, lambda done, total: told.append((done, total)))
    assert told == [(BATCH, 2 * BATCH + 1), (2 * BATCH, 2 * BATCH + 1), (2 * BATCH + 1, 2 * BATCH + 1)]


def test_bad_slices_do_not_change_the_others(released, make_volume):
    clean = make_volume(slices=5)
    expected = released({"T2W": clean}, ignore).volume.voxels
    blank = np.zeros((1, *clean.shape[1:]), np.float32)
    missing = np.full_like(blank, np.nan)
    wild = clean.voxels[:1] * 1000.0
    dirty = replace(clean, voxels=np.concatenate((clean.voxels, blank, missing, wild)))
    result = released({"T2W": dirty}, ignore)
    assert np.array_equal(result.volume.voxels[:5], expected)
    assert not result.volume.voxels[5:7].any()
    assert np.isfinite(result.volume.voxels).all()
    assert {check.name for check in result.checks if check.flagged} == {"constant-slices", "scale-slices", "non-finite"}


def test_a_constant_series_is_refused(released, volume):
    with pytest.raises(Unsuitable) as refusal:
        released({"T2W": volume.with_voxels(np.full(volume.shape, 5.0, np.float32))}, ignore)
    assert refusal.value.check == "constant"


def test_a_few_pixels_are_no_image(released, make_volume):
    voxels = np.zeros((3, 64, 64), np.float32)
    voxels[:, 30:32, 30:32] = 9.0
    with pytest.raises(Unsuitable) as refusal:
        released({"T2W": make_volume(3, 64, 64).with_voxels(voxels)}, ignore)
    assert refusal.value.check == "constant"


@pytest.mark.parametrize("roles", [[], ["T1W"], ["T1W", "T2W"]])
def test_other_roles_are_refused(released, volume, roles):
    with pytest.raises(Unsuitable) as refusal:
        released(dict.fromkeys(roles, volume), ignore)
    assert (refusal.value.check, refusal.value.expected) == ("roles", "T2W")


def test_a_known_weakness_is_flagged_with_every_result(write_model, volume):
    pipeline = load(read_manifest(write_model(lambda m: m.update(caution="Fat may look like fluid."))))
    (check,) = pipeline({"T2W": volume}, ignore).checks
    assert (check.name, check.flagged, check.detail) == ("caution", True, "Fat may look like fluid.")


def test_two_inputs_are_channels_in_the_order_of_the_manifest(write_model, volume):
    def change(manifest):
        manifest["inputs"].append({"role": "T1W", "modality": "MR"})
        manifest["generator"]["parameters"]["in_channels"] = 2

    tensors = seeded_weights(in_channels=2, out_channels=1, ngf=8, downs=3)
    two = load(read_manifest(write_model(change, tensors)))
    other = volume.with_voxels(np.ascontiguousarray(volume.voxels[:, ::-1]))
    result = two({"T2W": volume, "T1W": other}, ignore).volume.voxels
    assert np.array_equal(two({"T1W": other, "T2W": volume}, ignore).volume.voxels, result)
    assert not np.array_equal(two({"T2W": other, "T1W": volume}, ignore).volume.voxels, result)
    with pytest.raises(Unsuitable) as refusal:
        two({"T2W": volume, "T1W": replace(other, origin_mm=(0.0, 0.0, 0.0))}, ignore)
    assert refusal.value.check == "grid"


def test_a_warm_pipeline_gives_the_same(released, volume):
    cold: Result = released({"T2W": volume}, ignore)
    assert released.warm_up() > 0
    assert np.array_equal(released({"T2W": volume}, ignore).volume.voxels, cold.volume.voxels)


MISFITS = {
    "architecture": (lambda m: m["generator"].update(architecture="perceptron"), "architecture: found 'perceptron'"),
    "parameter": (lambda m: m["generator"]["parameters"].update(colour=1), "does not take"),
    "value": (lambda m: m["generator"]["parameters"].update(downs=1), "does not take"),
    "channels": (lambda m: m["generator"]["parameters"].update(in_channels=3), "does not take"),
    "outputs": (lambda m: m["generator"]["parameters"].update(out_channels=2), "found output of shape"),
    "multiple": (lambda m: m["geometry"].update(multiple=3), "does not take"),
    "width": (lambda m: m["generator"]["parameters"].update(ngf=16), "of another shape"),
    "depth": (lambda m: m["generator"]["parameters"].update(downs=4), "missing"),
    "digest": (lambda m: m["generator"].update(sha256="0" * 64), "sha256: found"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_weights_that_do_not_fit_the_manifest(write_model, name):
    change, words = MISFITS[name]
    spec = read_manifest(write_model(change))
    with pytest.raises(WeightsError) as refusal:
        load(spec)
    assert words in str(refusal.value)


def test_a_manifest_cannot_make_it_allocate(write_model):
    spec = read_manifest(write_model(lambda m: m["generator"]["parameters"].update(ngf=200_000)))
    with pytest.raises(WeightsError, match="of another shape"):
        load(spec)


def test_weights_that_are_no_numbers(write_model):
    tensors = seeded_weights(in_channels=1, out_channels=1, ngf=8, downs=3)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] = torch.nan
    with pytest.raises(WeightsError, match=f"{name}: found values that are not finite"):
        load(read_manifest(write_model(tensors=tensors)))


class _Trap:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("weights were unpickled",)


@pytest.mark.parametrize("content", [pickle.dumps({"weight": _Trap()}), b"", b"\xff" * 64])
def test_a_file_that_is_no_safetensors_is_refused_and_never_unpickled(write_model, content):
    folder = write_model()
    (folder / "generator.safetensors").write_bytes(content)
    spec = read_manifest(with_digest_of(folder, content))
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load(spec)


def with_digest_of(folder: Path, content: bytes) -> Path:
    """`folder` with the digest of `content` in its manifest, as a hand that means harm would write it."""
    manifest = tomlkit.parse((folder / "manifest.toml").read_text(encoding="utf-8"))
    manifest["generator"]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.toml").write_text(tomlkit.dumps(manifest), encoding="utf-8")
    return folder
