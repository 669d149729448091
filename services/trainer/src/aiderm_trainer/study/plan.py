"""Defines what a study compares (recipes x folds x seeds), read from a TOML file."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aiderm_trainer.config import TrainConfig, in_one_sentence
from aiderm_trainer.data.table import Row

BY_SOURCE = "source"
BY_DOMAIN = "domain"
LEAVING_OUT = (BY_SOURCE, BY_DOMAIN)
UNTRAINED = "custom_cnn"  # there are no published weights for it
_NO_FILE = ("imagenet", "none")


class PlanError(ValueError):
    """A plan that cannot be read, or that does not fit its study."""


class Recipe(BaseModel):
    """One way of making a network; the leaderboard ranks recipes.

    Attributes:
        name: unique in the plan.
        frozen: the pretrained backbone stays as it is and only the head is trained, on features that are computed once.
            ``train.head_epochs`` and ``train.head_learning_rate`` are then the schedule.
        seeds: one trial each in every fold.
        train: the configuration of a trial, except its seed; ``weights`` names a file without its folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    frozen: bool = False
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    train: TrainConfig

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"{self.name}: seeds must differ. Received: {self.seeds}")
        if self.frozen and self.train.weights == "none":
            raise ValueError(f"{self.name}: frozen features need pretrained weights. Received: weights = 'none'")
        if self.train.weights not in _NO_FILE and Path(self.train.weights).name != self.train.weights:
            raise ValueError(
                f"{self.name}: weights must be imagenet, none, or a file's name; its folder is an option of the command. "
                f"Received: {self.train.weights!r}"
            )
        return self

    def config(self, seed: int, weights: Path | None) -> TrainConfig:
        """The configuration of one trial, with absolute paths; ``weights`` is the folder of the weights files.

        Raises:
            PlanError: the recipe names a weights file that does not exist.
        """
        file = weights_file(self.train.weights, weights)
        paths: dict[str, Any] = {"weights": str(file.absolute())} if file else {}
        if self.train.start:
            paths["start"] = str(Path(self.train.start).absolute())
        paths["teachers"] = tuple(str(Path(teacher).absolute()) for teacher in self.train.teachers)
        return self.train.model_copy(update={"seed": seed, **paths})


class Published(BaseModel):
    """A published figure that the report shows beside its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    accuracy: Annotated[float, Field(ge=0, le=1)]
    protocol: str


class Plan(BaseModel):
    """A study.

    Attributes:
        title: heading of the report.
        question: what the study is to answer, a sentence or two.
        split: SPLIT.csv, relative to the plan's folder; the command's option takes precedence. Its test rows are never used.
        sources: the only ones to use; empty for all.
        folds: number of grouped, stratified folds, or ``source`` or ``domain``: each source, or each camera
            or clinic, is left out once.
        inner: share of a fold's training groups on which the epoch, the threshold and the ensemble's members are chosen.
        seed: of the folds.
        rows: approximate number of rows to use, in whole groups chosen by hash, to try a plan out; None for all.
        recipes: what is compared.
        published: published figures to show beside the study's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = "Comparison of architectures"
    question: str = ""
    split: str | None = None
    sources: tuple[str, ...] = ()
    folds: Annotated[int, Field(ge=2, le=50)] | Literal["source", "domain"] = 5
    inner: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    seed: Annotated[int, Field(ge=0)] = 0
    rows: Annotated[int, Field(ge=1)] | None = None
    recipes: Annotated[tuple[Recipe, ...], Field(min_length=1)]
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [recipe.name for recipe in self.recipes]
        if len(set(names)) != len(names):
            raise ValueError(f"recipes must have different names. Received: {names}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a TOML plan.

        Raises:
            PlanError: it is missing or broken.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise PlanError(f"cannot read the plan {path}: {error.strerror}") from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise PlanError(f"{path} is no TOML: {error}") from error
        except ValidationError as error:
            raise PlanError(f"{path}: {in_one_sentence(error)}") from error

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Creates a plan from values.

        Raises:
            PlanError: the values are not valid.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise PlanError(in_one_sentence(error)) from error

    def split_beside(self, file: Path | None) -> Path:
        """The SPLIT.csv that the plan names, relative to the plan's own file.

        Raises:
            PlanError: it names none, or was not read from a file.
        """
        if file is None or self.split is None:
            raise PlanError("the study needs a split: give --split SPLIT.csv, or a plan that names one")
        return file.parent / self.split

    def change(self, *, epochs: int | None = None, seeds: int | None = None, **fields: Any) -> Plan:
        """Returns the plan with the values that are not None replaced: folds, epochs of every recipe, number of seeds, rows."""
        recipes = [recipe.model_dump() for recipe in self.recipes]
        for recipe in recipes:
            if epochs is not None:
                recipe["train"]["head_epochs" if recipe["frozen"] else "epochs"] = epochs
            if seeds is not None:
                recipe["seeds"] = tuple(range(seeds))
        if isinstance(fields.get("folds"), str) and fields["folds"].isdecimal():
            fields["folds"] = int(fields["folds"])
        given = {name: value for name, value in fields.items() if value is not None}
        return Plan.of(**{**self.model_dump(), "recipes": recipes, **given})


def plan_of_architectures(
    names: Sequence[str], weights: str, folder: Path | None, *, frozen: bool, size: int | None, batch: int
) -> tuple[Plan, Path | None]:
    """Returns a plan with one recipe per architecture, and the folder of its weights file.

    Args:
        names: of architectures.
        weights: imagenet, none, or the path of a file; ``custom_cnn`` always starts from random weights.
        folder: of weights files, if ``weights`` names a file without its folder.
        frozen: whether only heads are trained.
        size: side of the input; each architecture's own by default.
        batch: images per step.

    Raises:
        PlanError: the values are not valid.
    """
    path = Path(weights)
    recipes: list[dict[str, Any]] = []
    for name in names:
        own = "none" if name == UNTRAINED else path.name
        train = {"arch": name, "weights": own, "size": size, "batch": batch}
        recipes.append({"name": name, "frozen": frozen and own != "none", "train": train})
    return Plan.of(recipes=recipes), (path.parent if path.name != weights else folder)


def weights_file(name: str, folder: Path | None) -> Path | None:
    """The weights file that a recipe names, or None if it names none.

    Raises:
        PlanError: the file does not exist.
    """
    if name in _NO_FILE:
        return None
    path = (folder or Path()) / name
    if not path.is_file():
        raise PlanError(f"the plan's weights file is not there: {path}. Give its folder: --weights-folder")
    return path


def rows_of(plan: Plan, rows: list[Row]) -> list[Row]:
    """The rows to use, ordered by path: those of the plan's sources without the split's test rows, subsampled by ``plan.rows``.

    Raises:
        PlanError: the split has no rows of a source, or no row is left.
    """
    known = {row.source for row in rows}
    if unknown := set(plan.sources) - known:
        raise PlanError(f"the split holds no rows of {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    taken = [row for row in rows if row.split != "test" and (not plan.sources or row.source in plan.sources)]
    if not taken:
        raise PlanError(f"no rows are left but those of the test split. Received: {len(rows)} rows")
    if plan.rows is not None and plan.rows < len(taken):
        share = plan.rows / len(taken)
        taken = [row for row in taken if int(hashlib.sha256(row.group.encode()).hexdigest()[:8], 16) / 2**32 < share]
    return sorted(taken, key=lambda row: row.path)
