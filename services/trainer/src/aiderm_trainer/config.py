"""Defines the configuration of a training run, which is saved as RUN/config.json to resume, export and inspect the run later."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

CONFIG_FILE = "config.json"


class ConfigError(ValueError):
    """A configuration that is missing, broken, or does not fit the data or an existing run."""


def in_one_sentence(error: ValidationError) -> str:
    """Describes the errors of the first five invalid fields, without pydantic's links and types."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or error.title}: {e['msg']}. Received: {e['input']!r:.80}" for e in error.errors()[:5]
    )


class TrainConfig(BaseModel):
    """Settings of one run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arch: str
    size: Annotated[int, Field(ge=32, le=1024)] | None = None  # None: the architecture's default
    weights: str = "imagenet"  # imagenet, none, or the path of a weights file
    freeze_until: str | None = None  # layer name, a fraction 0..1 of the layers, or None: the architecture's default
    taps: tuple[str, ...] | None = None  # layers whose feature maps are pooled for the head; None: the architecture's default
    dense: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = (256,)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    task: Literal["auto", "binary", "classes"] = "auto"
    batch: Annotated[int, Field(ge=1, le=1024)] = 32
    epochs: Annotated[int, Field(ge=1)] = 12
    head_epochs: Annotated[int, Field(ge=0)] = 15
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-4
    head_learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    average: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.998  # momentum of the averaged weights; 0: none
    patience: Annotated[int, Field(ge=1)] = 5
    augment: bool = True
    balance: Literal["domain", "source"] = "domain"  # groups inside which labels are balanced: see data/balance.py
    domain_offset: Annotated[float, Field(ge=0.0, le=2.0)] = 1.0  # share of the domain's log-odds added in training; 0: none
    hidden_offset: Annotated[float, Field(ge=0.0, le=1.0)] = 0.4  # share of that for images in another camera's colours or skin
    style_swap: Annotated[float, Field(ge=0.0, le=1.0)] = 0.4  # share of images shown in another domain's colours
    alignment: Annotated[float, Field(ge=0.0)] = 0.0  # weight of aligning scores between domains, see training/blind_head.py
    consistency: Annotated[float, Field(ge=0.0)] = 0.0  # weight of the difference between two views: see training/fine_tune.py
    minutes: Annotated[float, Field(gt=0)] | None = None  # time limit, to which fine-tuning fits its schedule; None: no limit
    outlines: str | None = None  # folder of lesion outlines, relative to the data: see data/outlines.py
    kept: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0  # weight of the start in the average: see training/weight_average.py
    quantised: bool = False  # convolutions compute in 8-bit integers: see training/quantised_run.py
    start: str | None = None  # folder of a run whose best weights are loaded; head-only training is then skipped
    teachers: tuple[str, ...] = ()  # folders of runs whose mean output is learnt too: see training/distillation.py
    teaching: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5  # weight of the teachers relative to the labels
    seed: Annotated[int, Field(ge=0)] = 0
    checkpoint_steps: Annotated[int, Field(ge=1)] = 100

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Creates a configuration from values.

        Raises:
            ConfigError: a value is not allowed.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise ConfigError(in_one_sentence(error)) from error

    def save(self, run: Path) -> None:
        """Writes RUN/config.json."""
        (run / CONFIG_FILE).write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, run: Path) -> Self:
        """Reads RUN/config.json.

        Raises:
            ConfigError: it is missing or broken.
        """
        path = run / CONFIG_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{run} holds no run of aiderm-train: cannot read {CONFIG_FILE}: {error.strerror}") from error
        except ValidationError as error:
            raise ConfigError(f"{path} is broken: {error}") from error
