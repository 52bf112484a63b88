"""What every training has in common: steps until a deadline, a log, a checkpoint, and going on as if never stopped."""

from __future__ import annotations

import csv
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pipelines.intensity import Array
from pipelines.training.recipe import Schedule

Pair = tuple[Array, Array]
Drawn = tuple[Array, ...]
CHECKPOINT = "checkpoint.pt"
BEST = "best.safetensors"
LATEST = "latest.safetensors"
WEIGHTS = "generator.safetensors"


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of the training log: means since the line before, and the validation L1 of the averaged generator."""

    step: int
    minutes: float
    judge: float
    generator: float
    l1: float
    validation_l1: float


class Trainer(ABC):
    """Everything that a run carries from step to step; a subclass says what a step is.

    judge       the discriminator or critic
    draw        gives one training pair from a random generator: float32 (channels, H, W) and (H, W) in [-1, 1],
                then the images (H, W) that a subclass asks for beside them
    validation  pairs of whole slices that training never sees
    rim         pixels along the edge of validation slices that do not count
    margin      the same for training patches
    """

    rim = 0
    margin = 0

    def __init__(
        self,
        generator: nn.Module,
        judge: nn.Module,
        schedule: Schedule,
        seed: int,
        draw: Callable[[np.random.Generator], Drawn],
        validation: Sequence[Pair],
        device: str = "cpu",
    ) -> None:
        self.schedule, self.draw, self.validation, self.device = schedule, draw, validation, device
        # on a GPU the tensor cores read channels last; on a processor it gains nothing here
        layout = torch.contiguous_format if device == "cpu" else torch.channels_last
        self.generator, self.judge = (network.to(device, memory_format=layout) for network in (generator, judge))  # type: ignore[call-overload]
        self.average = torch.optim.swa_utils.AveragedModel(
            self.generator,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(schedule.ema),  # type: ignore[no-untyped-call]
        )
        self.optimisers = [
            torch.optim.Adam(network.parameters(), lr=schedule.learning_rate, betas=schedule.betas)
            for network in (self.generator, self.judge)
        ]
        self.schedulers = [torch.optim.lr_scheduler.LambdaLR(optimiser, self._decay) for optimiser in self.optimisers]
        self.rng = np.random.default_rng(seed)
        self.step = 0
        self.seconds = 0.0
        self.best_l1 = float("inf")
        self.log: list[Progress] = []
        self._sums = np.zeros(3)

    @abstractmethod
    def one_step(self) -> None:
        """Update both networks on new batches; adds one to `step` and the three losses to `_sums`."""

    def _decay(self, step: int) -> float:
        schedule = self.schedule
        if step < schedule.decay_from:
            return 1.0
        return max(0.0, (schedule.steps - step) / max(schedule.steps - schedule.decay_from, 1))

    def train(
        self,
        folder: Path,
        minutes: float,
        checkpoint_minutes: float = 2.0,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        """Steps until the recipe's last or until `minutes` have passed; `folder` then holds all that `resume` needs.

        The best generator by validation L1 (`best.safetensors`) is kept whenever it improves; `told` is called after
        each step.
        """
        folder.mkdir(parents=True, exist_ok=True)
        started = saved = time.monotonic()
        before = self.seconds
        while self.step < self.schedule.steps:
            now = time.monotonic()
            self.seconds = before + now - started
            if now - started > 60 * minutes:
                break
            if now - saved > 60 * checkpoint_minutes:
                self.save(folder)
                saved = now
            self.one_step()
            if self.step % self.schedule.validate_every == 0 or self.step == self.schedule.steps:
                self._validate(folder)
            told()
        self.save(folder)

    def more_state(self) -> dict[str, object]:
        """What a subclass carries from step to step beside the state of this class."""
        return {}

    def take_up(self, more: dict[str, object]) -> None:
        """Takes up what `more_state` gave; raises ValueError for the checkpoint of another kind of training."""
        if more:
            raise ValueError(f"checkpoint: found {', '.join(more)}, expected nothing beside the common state")

    def _pairs(self, draw: Callable[[np.random.Generator], Drawn] | None = None) -> tuple[Tensor, ...]:
        """A new batch: real_a (N, channels, H, W), real_b (N, 1, H, W) and what `draw` gives beside them, as real_b."""
        sources, *others = zip(*((draw or self.draw)(self.rng) for _ in range(self.schedule.batch)), strict=True)
        return tuple(
            _batch(images).to(self.device) for images in (sources, *([each[None] for each in more] for more in others))
        )

    def _inner(self, patches: Tensor) -> Tensor:
        """Without the rim, where the generator lacks neighbours that it will have in use."""
        rows, columns = patches.shape[-2:]
        return patches[..., self.margin : rows - self.margin, self.margin : columns - self.margin]

    def _count(self, judge: float, generator: float, distance: float) -> None:
        """Ends a step."""
        self.average.update_parameters(self.generator)
        self.step += 1
        self._sums += (judge, generator, distance)

    def _update(self, which: int, loss: Tensor) -> None:
        self.optimisers[which].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimisers[which].step()
        self.schedulers[which].step()

    def _precision(self) -> AbstractContextManager[object]:
        """bfloat16 products with float32 weights where the processor has them, in two thirds of the time."""
        if self.device == "cpu" and not torch.cpu._is_avx512_bf16_supported():
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    def _validate(self, folder: Path) -> None:
        """Adds a line to the log and keeps the averaged generator if it is the best so far."""
        generator = self.average.module
        distances = [
            float(np.mean(np.abs(self._inside(self.delivered(generator, real_a) - real_b))))
            for real_a, real_b in self.validation
        ]
        steps = self.step - (self.log[-1].step if self.log else 0)
        judge, generator_total, l1 = (float(total) / steps for total in self._sums)
        self._sums = np.zeros(3)
        line = Progress(self.step, self.seconds / 60, judge, generator_total, l1, float(np.mean(distances)))
        self.log.append(line)
        save_generator(generator, folder / LATEST)
        if self._is_better(line):
            save_generator(generator, folder / BEST)
        self.best_l1 = min(self.best_l1, line.validation_l1)
        with (folder / "log.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(asdict(line)))
            writer.writeheader()
            writer.writerows(asdict(entry) for entry in self.log)

    def _is_better(self, line: Progress) -> bool:
        """Whether the averaged generator is to be kept in the place of the one kept before."""
        return line.validation_l1 < self.best_l1

    def delivered(self, generator: nn.Module, real_a: Array) -> Array:
        """One slice as it would be delivered."""
        return translate(generator, real_a, self.device)

    def _inside(self, image: Array) -> Array:
        rows, columns = image.shape[-2:]
        return image[..., self.rim : rows - self.rim, self.rim : columns - self.rim]

    def save(self, folder: Path) -> None:
        """Writes the whole state, so that nothing but time is lost when the run stops here."""
        state = {
            "generator": self.generator.state_dict(),
            "judge": self.judge.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "torch_rng": torch.get_rng_state(),
            "more": self.more_state(),
            "counters": json.dumps(
                {
                    "rng": self.rng.bit_generator.state,
                    "step": self.step,
                    "seconds": self.seconds,
                    "best_l1": self.best_l1,
                    "sums": self._sums.tolist(),
                    "log": [asdict(line) for line in self.log],
                }
            ),
        }
        partial = folder / f"{CHECKPOINT}.partial"
        torch.save(state, partial)
        partial.replace(folder / CHECKPOINT)

    def resume(self, folder: Path) -> None:
        """Takes up the state that `save` left in `folder`; raises FileNotFoundError when there is none."""
        state = torch.load(folder / CHECKPOINT, map_location=self.device, weights_only=True)
        self.generator.load_state_dict(state["generator"])
        self.judge.load_state_dict(state["judge"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        torch.set_rng_state(state["torch_rng"].cpu())
        self.take_up(state.get("more", {}))
        counters = json.loads(state["counters"])
        self.rng.bit_generator.state = counters["rng"]
        self.step, self.seconds, self.best_l1 = counters["step"], counters["seconds"], counters["best_l1"]
        self._sums = np.asarray(counters["sums"])
        self.log = [Progress(**line) for line in counters["log"]]


def translate(generator: nn.Module, real_a: Array, device: str = "cpu") -> Array:
    """One slice (sources, H, W) through the generator: (H, W), or (channels, H, W) of several, all in [-1, 1]."""
    with torch.inference_mode():
        fake_b: Tensor = generator(_batch([real_a]).to(device))
    image = fake_b[0] if fake_b.shape[1] > 1 else fake_b[0, 0]
    return np.asarray(image.cpu().numpy(), dtype=np.float32)


def read_generator(path: Path) -> dict[str, Tensor]:
    """The tensors that `save_generator` wrote, in float32."""
    return {name: value.float() for name, value in load_file(path).items()}


def save_generator(generator: nn.Module, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes the generator's tensors in `dtype`; through a second name, so that a reader never sees half a file."""
    tensors = {name: value.detach().cpu().to(dtype).contiguous() for name, value in generator.state_dict().items()}
    partial = path.with_suffix(".partial")
    partial.write_bytes(save(tensors))
    partial.replace(path)


def _batch(slices: Sequence[Array]) -> Tensor:
    """(N, C, H, W) of N slices (C, H, W)."""
    return torch.from_numpy(np.stack(slices))
