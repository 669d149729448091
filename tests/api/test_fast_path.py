"""What keeps a request cheap: one test for each trick, so that none is lost unseen."""

from __future__ import annotations

import gc

import pytest

from aiderm_api import lifespan


@pytest.fixture
def unfrozen():
    yield
    gc.unfreeze()


def test_garbage_is_looked_for_among_new_objects_only(serve, unfrozen):
    gc.unfreeze()
    serve()
    assert gc.get_freeze_count() > 50_000


def test_at_rest_garbage_is_looked_for_everywhere(unfrozen):
    """A model that was replaced may be among what was kept out."""
    cycle = Cycle()
    cycle.itself = cycle
    gc.collect()
    gc.freeze()
    Cycle.dropped = 0
    del cycle
    gc.collect()
    assert Cycle.dropped == 0
    lifespan._settle()
    assert Cycle.dropped == 1


class Cycle:
    dropped = 0

    def __del__(self) -> None:
        Cycle.dropped += 1
