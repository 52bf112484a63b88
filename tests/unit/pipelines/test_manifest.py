"""Manifests: what a complete one gives, and the name of every key that does not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit

import pipelines.spec
from pipelines.catalog import Catalog
from pipelines.contract import Presence, Range
from pipelines.errors import ManifestError, WeightsError
from pipelines.spec import read_manifest


def test_a_complete_manifest(write_model):
    folder = write_model()
    spec = read_manifest(folder)
    assert (spec.id, spec.version, spec.kind, spec.enabled) == ("t2-to-stir", "1.0.0", "translate", True)
    assert spec.path == folder
    assert spec.weights_path == folder / "generator.safetensors"
    assert spec.caution == ""
    assert (spec.output.marker, spec.output.range, spec.output.unit) == ("STIR", (0.0, 4095.0), "1")
    assert spec.generator.parameters == {"in_channels": 1, "out_channels": 1, "ngf": 8, "downs": 3}
    contract = spec.input("T2W")
    assert contract.ranges["te_ms"] == Range(70.0, 160.0)
    assert contract.inversion is Presence.REFUSED
    assert "ti_ms" not in contract.ranges
    with pytest.raises(KeyError):
        spec.input("T1W")


def _second_input(manifest, *, grid):
    first = manifest["inputs"][0]
    first["grid"] = grid == "both"
    manifest["inputs"].append({**first.unwrap(), "role": "T1W", "grid": grid in ("second", "both")})
    manifest["generator"]["parameters"]["in_channels"] = 2


@pytest.mark.parametrize(("grid", "role"), [("none", "T2W"), ("second", "T1W")])
def test_one_of_several_inputs_gives_the_grid(write_model, grid, role):
    assert read_manifest(write_model(lambda manifest: _second_input(manifest, grid=grid))).grid_role == role


def test_two_inputs_cannot_both_give_the_grid(write_model):
    with pytest.raises(ManifestError, match=r"inputs: found several with grid = true, expected one at most"):
        read_manifest(write_model(lambda manifest: _second_input(manifest, grid="both")))


def test_the_example_in_the_documentation_is_complete(write_model):
    _, _, example = (pipelines.spec.__doc__ or "").partition("::\n")
    manifest = tomlkit.parse("\n".join(line.removeprefix("    ") for line in example.splitlines()))
    manifest["generator"]["sha256"] = "0" * 64
    folder = write_model()
    (folder / "manifest.toml").write_text(tomlkit.dumps(manifest), encoding="utf-8")
    spec = read_manifest(folder)
    assert set(spec.inputs[0].ranges) == set(pipelines.spec.QUANTITIES)


def test_a_minimal_contract_accepts_everything(write_model, facts):
    def change(manifest):
        manifest["inputs"] = [{"role": "T2W", "modality": "MR"}]

    assert read_manifest(write_model(change)).inputs[0].check(facts) == ()


CHANGES = {
    "schema": lambda m: m.update(schema=2),
    "id": lambda m: m.update(id="T2 to STIR"),
    "id: found 'other'": lambda m: m.update(id="other"),
    "version": lambda m: m.update(version="1.0"),
    "kind": lambda m: m.update(kind="conjure"),
    "title: missing": lambda m: m.pop("title"),
    "licence": lambda m: m.update(licence=" "),
    "enabled": lambda m: m.update(enabled="yes"),
    "colour: unknown key": lambda m: m.update(colour="grey"),
    "inputs: missing": lambda m: m.pop("inputs"),
    "inputs: found": lambda m: m.update(inputs=[]),
    "inputs[0].role": lambda m: m["inputs"][0].pop("role"),
    "inputs[0].planes": lambda m: m["inputs"][0].update(planes=["sideways"]),
    "inputs[0].inversion": lambda m: m["inputs"][0].update(inversion="forbidden"),
    "inputs[0].may_be_missing": lambda m: m["inputs"][0].update(may_be_missing=["weight"]),
    "inputs[0].te: unknown key": lambda m: m["inputs"][0].update(te=80),
    "inputs[0].ranges.te_ms": lambda m: m["inputs"][0]["ranges"].update(te_ms=[160, 70]),
    "inputs[0].ranges.tr_ms": lambda m: m["inputs"][0]["ranges"].update(tr_ms=[1800]),
    "inputs[0].ranges.te: unknown key": lambda m: m["inputs"][0]["ranges"].update(te=[1, 2]),
    "inputs[0].description.confirms": lambda m: m["inputs"][0]["description"].update(confirms="T2"),
    "inputs: found roles ['T2W', 'T2W']": lambda m: m["inputs"].append({"role": "T2W", "modality": "MR"}),
    "geometry.pixel_spacing_mm": lambda m: m["geometry"].update(pixel_spacing_mm=0),
    "geometry.tolerance": lambda m: m["geometry"].update(tolerance=-0.1),
    "geometry.multiple": lambda m: m["geometry"].update(multiple=True),
    "intensity.percentiles": lambda m: m["intensity"].update(percentiles=[0, 101]),
    "intensity.percentiles: missing": lambda m: m["intensity"].clear(),
    "output.unit": lambda m: m["output"].update(unit="grey"),
    "output.marker": lambda m: m["output"].update(marker="far too long for a label"),
    "output.range": lambda m: m["output"].update(range=[5, 5]),
    "generator.file": lambda m: m["generator"].update(file="../generator.safetensors"),
    "generator.file: found 'generator.pt'": lambda m: m["generator"].update(file="generator.pt"),
    "generator.sha256": lambda m: m["generator"].update(sha256="abc"),
    "generator.parameters.ngf": lambda m: m["generator"]["parameters"].update(ngf=[8]),
    "geometry": lambda m: m.update(geometry="1 mm"),
}


@pytest.mark.parametrize("key", CHANGES)
def test_what_does_not_fit_is_named(write_model, key):
    folder = write_model(CHANGES[key])
    with pytest.raises(ManifestError) as refusal:
        read_manifest(folder)
    assert f"manifest.toml: {key}" in str(refusal.value)


@pytest.mark.parametrize("content", [b"schema = ", b"\xff\xfe"])
def test_what_is_no_toml(write_model, content):
    folder = write_model()
    (folder / "manifest.toml").write_bytes(content)
    with pytest.raises(ManifestError, match="not TOML"):
        read_manifest(folder)


def test_no_manifest(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path)


def test_the_catalog_holds_every_model_by_id(write_model):
    weights = write_model().parent
    (weights / "notes").mkdir()
    catalog = Catalog.read(weights)
    assert list(catalog) == ["t2-to-stir"]
    assert catalog["t2-to-stir"].version == "1.0.0"
    assert "ct-denoise" not in catalog
    catalog.verify("t2-to-stir")


def test_an_empty_catalog(tmp_path):
    assert len(Catalog.read(tmp_path)) == 0


def test_the_catalog_refuses_altered_weights(write_model):
    folder = write_model()
    catalog = Catalog.read(folder.parent)
    weights = folder / "generator.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WeightsError, match="sha256: found"):
        catalog.verify("t2-to-stir")
    weights.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        catalog.verify("t2-to-stir")


def test_reading_manifests_loads_no_torch(write_model):
    program = (
        "import sys; from pathlib import Path; from pipelines.catalog import Catalog\n"
        f"catalog = Catalog.read(Path({str(write_model().parent)!r})); catalog.verify('t2-to-stir')\n"
        "import pipelines.result\n"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(pipelines.spec.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
