"""`Catalog`: every released model in a folder, by id. Reads manifests and digests, never weights, and no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import WeightsError
from pipelines.spec import MANIFEST, PipelineSpec, read_manifest


@dataclass(frozen=True, slots=True)
class Catalog(Mapping[str, PipelineSpec]):
    """The models by id, in the order of their ids."""

    specs: Mapping[str, PipelineSpec]

    @classmethod
    def read(cls, folder: Path) -> Catalog:
        """Every subfolder of `folder` with a manifest; raises ManifestError for the first that does not fit."""
        manifests = sorted(folder.glob(f"*/{MANIFEST}"))
        return cls({spec.id: spec for spec in (read_manifest(path.parent) for path in manifests)})

    def __getitem__(self, pipeline_id: str) -> PipelineSpec:
        return self.specs[pipeline_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def verify(self, pipeline_id: str) -> None:
        """Raise WeightsError unless the weights file of `pipeline_id` is the released one, byte for byte."""
        released_weights(self[pipeline_id])


def released_weights(spec: PipelineSpec) -> bytes:
    """The weights file of `spec`, its digest checked on the very bytes returned; raises WeightsError."""
    path, expected = spec.weights_path, spec.generator.sha256
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); install the model again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise WeightsError(f"{path}: sha256: found {found}, expected {expected}; install the model again")
    return content
