"""``python -m pipelines.training``: train a recipe, evaluate what came out, release it as a weights folder.

``train --weights FOLDER`` does all three.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress, TextColumn

from pipelines.intensity import Array
from pipelines.training.pictures import draw_curves, draw_grid
from pipelines.training.recipe import RECIPES, Recipe, read_recipe
from pipelines.training.tasks import task_of

log = logging.getLogger("pipelines.training")


def main() -> None:
    """Reads the command line and runs one command."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(prog="python -m pipelines.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("train", "train until the recipe's last step or the deadline"),
        ("evaluate", "compare the best generator with the baselines on held-out virtual patients"),
        ("release", "write the weights folder: fp16 weights, manifest, metrics"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "recipe", type=_recipe, help="a TOML file, or the name of one in pipelines/training/recipes"
        )
        command.add_argument("--out", type=Path, required=True, help="the run folder")
        command.add_argument("--threads", type=int, default=2, help="processor threads for torch")
    commands.choices["train"].add_argument("--minutes", type=float, default=60.0, help="deadline; 60 when left out")
    commands.choices["train"].add_argument(
        "--resume", action="store_true", help="go on from the run folder's checkpoint"
    )
    commands.choices["train"].add_argument("--cache", type=Path, help="painted anatomy; the run folder when left out")
    commands.choices["train"].add_argument("--device", default="cpu", help="cpu or cuda")
    commands.choices["train"].add_argument("--weights", type=Path, help="then evaluate, and release into this folder")
    commands.choices["release"].add_argument("--weights", type=Path, required=True, help="e.g. weights/t2-to-stir")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe, run = arguments.recipe, arguments.out
    ends_in_a_release = arguments.command != "evaluate" and arguments.weights is not None
    if arguments.command == "train":
        _train(recipe, arguments)
    if arguments.command == "evaluate" or (arguments.command == "train" and ends_in_a_release):
        task_of(recipe).evaluate(recipe, run)
    if ends_in_a_release:
        from pipelines.training.release import release

        release(recipe, run, arguments.weights)


def _recipe(text: str) -> Recipe:
    path = Path(text)
    return read_recipe(path if path.suffix == ".toml" else RECIPES / f"{text}.toml")


def _train(recipe: Recipe, arguments: argparse.Namespace) -> None:
    task = task_of(recipe)
    trainer = task.trainer(recipe, arguments.cache or arguments.out, arguments.device)
    if arguments.resume:
        trainer.resume(arguments.out)
    bar = Progress(
        *Progress.get_default_columns(), TextColumn("L1 {task.fields[l1]:.4f}"), console=Console(stderr=True)
    )  # in a pipe nothing
    with bar:
        steps = bar.add_task(recipe.id, total=trainer.schedule.steps, completed=trainer.step, l1=trainer.best_l1)
        trainer.train(
            arguments.out,
            arguments.minutes,
            told=lambda: bar.update(steps, completed=trainer.step, l1=trainer.best_l1),
        )
    draw_curves(trainer.log, arguments.out / "curves.png")
    generator = trainer.average.module
    samples = task.samples(trainer.validation)
    rows = [(*real_a, *_slices(trainer.delivered(generator, real_a)), *_slices(real_b)) for real_a, real_b in samples]
    draw_grid([[task.shown(image) for image in row] for row in rows], arguments.out / "grid.png")
    log.info("step %d after %.1f minutes, best validation L1 %.5f", trainer.step, trainer.seconds / 60, trainer.best_l1)


def _slices(image: Array) -> list[Array]:
    """The slices of a stack; a slice by itself."""
    return list(image) if image.ndim == 3 else [image]


if __name__ == "__main__":
    main()
