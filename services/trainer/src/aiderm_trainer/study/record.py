"""A trial and its row of trials.csv. Does not import TensorFlow, so that the process that hands out trials does not need it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from aiderm_trainer.config import TrainConfig

RESULT = "result.json"
OUTPUTS = "outputs.npz"


@dataclass(frozen=True)
class Trial:
    """A network to train on one fold.

    Attributes:
        recipe: name of the recipe.
        frozen: whether only the head is trained, on cached features.
        fold: name of the fold.
        config: the whole configuration, with the seed and the weights file's path.
        threads: of TensorFlow, set if it has not started yet.
    """

    recipe: str
    frozen: bool
    fold: str
    config: TrainConfig
    threads: int = 2

    @property
    def id(self) -> str:
        """Unique in the study, and the name of the trial's folder."""
        return f"{self.recipe}--{self.fold}--{self.config.seed}"


class TrialResult(BaseModel):
    """One row of trials.csv. Metrics are of the held-out rows; the threshold was chosen on the inner validation rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    fold: str
    seed: int
    arch: str
    frozen: bool
    size: int
    parameters: int
    train_rows: int
    validation_rows: int
    held_out_rows: int
    epochs: int
    best_epoch: int
    validation_auc: float
    threshold: float
    roc_auc: float
    within_source_auc: float
    pr_auc: float
    accuracy: float
    balanced_accuracy: float
    f1: float
    sensitivity: float
    specificity: float
    brier: float
    ece: float
    class_balanced_accuracy: float | None = None  # if there are more than two classes
    seconds: float
    threads: int
