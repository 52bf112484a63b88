"""A release folder from what was found in a file and what somebody answered about it."""

from __future__ import annotations

import hashlib
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tomlkit
from safetensors.torch import save_file

from pipelines.errors import ManifestError, WeightsError
from pipelines.importing.found import Found
from pipelines.networks.conventions import COLOURS
from pipelines.released import CARD
from pipelines.spec import MANIFEST, PipelineSpec, read_manifest
from pipelines.weights import load_generator

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

_TEMPLATE = """\
# {source}
# {words}
#
# What the file does not say. Fill in every "" and correct the numbers, then:
# athanor weights import FILE --answers THIS-FILE
# pipelines/spec.py explains each key and names more that narrow what a series may be.

schema = 1
id = ""                          # lower-case words joined by hyphens; the name of the folder
version = "1.0.0"
kind = "translate"
title = ""
summary = ""
method = ""                      # as in "pix2pix, trained by ... on ..."
licence = ""                     # of the weights
intended_use = ""                # as in "Research; not for diagnosis."
caution = "Imported weights: nothing is known here of what they were trained on, and nothing was measured."

{inputs}
[geometry]
pixel_spacing_mm = 0.0           # of the training images, as the network saw them: after load size and crop
tolerance = 0.1
multiple = {multiple}{multiple_comment}

[intensity]                      # what became -1 and 1 in training
percentiles = [0.5, 99.5]        # of each series; or, the same for every series:
# window = [-160, 240]

[output]
contrast = ""
modality = ""
unit = "1"                       # HU, ms or 1
marker = ""                      # for Series Description and the burned-in label, 16 characters
range = [0, 4095]                # what -1 and 1 become

[generator]
{questions}"""

_INPUT = """\
[[inputs]]
role = ""                        # the contrast, as in T2W; for pix2pix the side that --direction took as source
modality = ""                    # MR, CT ...
# planes = ["sagittal"]
"""


def template(source: Path, found: Found) -> str:
    """The answers file of `found`, TOML, with what cannot be known left open."""
    inputs = 1 if found.in_channels == COLOURS else found.in_channels
    questions = "".join(
        f"{key} = {tomlkit.item(one.usual).as_string()}".ljust(32)
        + f" # {''.join(f'{tomlkit.item(each).as_string()} ' for each in one.choices)}{one.meaning}\n"
        for key, one in found.questions.items()
    )
    return _TEMPLATE.format(
        source=" ".join(source.name.split()), words=found.words,
        inputs="\n".join([_INPUT] * inputs), questions=questions,
        multiple=found.multiple if found.multiple > 1 else 32,
        multiple_comment="" if found.multiple > 1 else "                    # of which rows and columns have to be",
    )  # fmt: skip


def release(source: Path, found: Found, answers: Path, models: Path) -> PipelineSpec:
    """Make the folder of the model under `models`: disabled, and complete or not there at all.

    Raises ManifestError for answers that do not fit, WeightsError when the weights do not fit them or the folder
    is there already.
    """
    manifest = _answered(answers, found)
    name = manifest["id"]
    folder = models / name
    if folder.exists():
        raise WeightsError(f"{folder}: found a model of that id, expected none; choose another id or delete the folder")
    with TemporaryDirectory(prefix=".import-", dir=models) as made:
        draft = Path(made) / name
        draft.mkdir()
        manifest["generator"] = _with_weights(found, manifest["generator"], draft)
        (draft / MANIFEST).write_text(tomlkit.dumps(manifest), encoding="utf-8")
        try:
            spec = read_manifest(draft)
            load_generator(spec)  # as a worker will
        except (ManifestError, WeightsError) as error:
            # the draft is gone when somebody reads this: the answers are what to correct
            words = str(error).replace(str(draft / MANIFEST), str(answers)).replace(f"{draft}/", "")
            raise type(error)(words) from error
        (draft / CARD).write_text(card(source, found, spec), encoding="utf-8")
        draft.rename(folder)
    return read_manifest(folder)


def _answered(answers: Path, found: Found) -> Any:
    """The answers as a manifest whose [generator] holds answers to the questions of `found` and nothing else."""
    try:
        manifest = tomlkit.parse(answers.read_text(encoding="utf-8"))
        plain = tomllib.loads(manifest.as_string())
    except (tomlkit.exceptions.TOMLKitError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{answers}: not TOML ({error})") from error
    if not isinstance(plain.get("id"), str) or not _ID.fullmatch(plain["id"]):
        raise ManifestError(f"{answers}: id: found {plain.get('id')!r}, expected lower-case words joined by hyphens")
    if "enabled" in plain:
        raise ManifestError(f"{answers}: enabled: unknown key; an imported model is disabled until its test was seen")
    if plain.get("kind") != "translate":
        raise ManifestError(f"{answers}: kind: found {plain.get('kind')!r}, expected 'translate'")
    manifest["enabled"] = False
    # a key appended behind the tables would belong to the last of them
    ordered = tomlkit.document()
    for key in sorted(manifest, key=lambda one: isinstance(plain.get(one), dict | list)):
        ordered[key] = manifest[key]
    ordered["generator"] = _answers_to(answers, found, plain.get("generator", {}))
    return ordered


def _answers_to(answers: Path, found: Found, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ManifestError(f"{answers}: generator: found {given!r}, expected a table [generator]")
    for key, value in given.items():
        if key not in found.questions:
            raise ManifestError(f"{answers}: generator.{key}: unknown key; the file itself says it, or it has none")
        question = found.questions[key]
        if type(value) is not type(question.usual) or (question.choices and value not in question.choices):
            expected = ", ".join(map(repr, question.choices)) or "a whole number"
            raise ManifestError(f"{answers}: generator.{key}: found {value!r}, expected {expected}")
    for key in found.questions:
        if key not in given:
            raise ManifestError(f"{answers}: generator.{key}: missing, expected an answer")
    return dict(given)


def _with_weights(found: Found, answered: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write the weights and say so: the table [generator]."""
    if isinstance(found.weights, Path):
        file = folder / "generator.onnx"
        shutil.copyfile(found.weights, file)
    else:
        file = folder / "generator.safetensors"
        save_file(dict(found.weights), file)
    return {
        "architecture": found.architecture,
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "parameters": {**found.parameters, **answered},
    }


def card(source: Path, found: Found, spec: PipelineSpec) -> str:
    """The model card: that nothing is known, in the places where it would stand."""
    return "\n".join(_card(source, found, spec))


def _card(source: Path, found: Found, spec: PipelineSpec) -> Iterator[str]:
    yield f"# {spec.id}: {spec.title}\n"
    yield f"**What it is for.** {spec.intended_use}\n"
    yield (
        "**What it has seen: unknown.** These weights were imported. The file does not say on which images they were "
        "trained, by whom, with what result, or where they fail; what the manifest says of contrast, intensity and "
        "pixel spacing was answered by whoever imported them.\n"
    )
    yield "## Where it comes from\n"
    yield f"{_quoted(source.name)}: {found.words}. As answered: licence {spec.licence}, method {spec.method}.\n"
    if source.is_file():
        yield f"SHA-256 of that file: `{hashlib.sha256(source.read_bytes()).hexdigest()}`\n"
    for note in found.notes:
        yield f"- {note}"
    for key, value in found.about.items():
        yield f"- the bundle says of itself, {key}: {_quoted(value)}"
    yield "\n## How it is run\n"
    for key, parameter in spec.generator.parameters.items():
        yield f"- {key}: `{parameter}`"
    if spec.generator.parameters.get("dropout") is True:
        yield (
            "\nDropout acts, as in the code that trained it; what is dropped comes from a seed and is the same for "
            "every slice, so that the same series always gives the same result."
        )
    if spec.generator.parameters.get("norm_mode") == "batch":
        yield "\nEvery slice is normed by its own statistics: a slice gives the same result alone and in a series."
    yield (
        "\nSlices larger or smaller than those of the training are run whole, at the pixel spacing of the manifest. "
        "The result is clipped to the range of the manifest.\n"
    )
    yield "## Measured\n\nNothing. Compare results with acquired series before anybody relies on them.\n"


def _quoted(text: str) -> str:
    """Text from elsewhere as one line that Markdown takes for nothing else."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"
