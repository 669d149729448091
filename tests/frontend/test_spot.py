"""Several photographs of one spot: one answer, and what became of each photograph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import FilePayload, Page, expect

pytestmark = pytest.mark.browser


def test_photographs_of_one_spot_have_one_answer(
    page: Page, plain: Callable[..., bytes], upload: Callable[..., FilePayload], choose: Callable[..., None]
) -> None:
    choose(page, plain(red=40), "first.png")
    page.locator("#assess").click()
    verdict, card = page.locator(".verdict"), page.locator("derm-spot")
    expect(verdict).to_have_attribute("data-decision", "low_suspicion")
    expect(card).to_be_hidden()

    page.get_by_role("button", name="Add a photograph of the same spot").click()
    dialog = page.get_by_role("dialog", name="Add a photograph of the same spot")
    dialog.locator("input").set_input_files([upload(plain(red=40), "again.png")])
    expect(dialog.get_by_role("alert")).to_have_text("That photograph is already here.")
    # one that is suspicious alone, and one that the model rejects
    dialog.locator("input").set_input_files([upload(plain(red=230), "b.png"), upload(plain(red=60, blue=220), "c.png")])
    expect(verdict).to_have_attribute("data-decision", "uncertain")
    expect(verdict.locator("h2")).to_be_focused()
    expect(card).to_contain_text("The answer rests on 2 of 3 photographs.")
    expect(card).to_contain_text("The photographs disagree")
    rows = card.locator("li")
    expect(rows.nth(0)).to_contain_text("On its own, it would mean low suspicion.")
    expect(rows.nth(1)).to_contain_text("On its own, it would not mean low suspicion.")
    expect(rows.nth(2)).to_contain_text("Left out: The picture does not resemble")
    expect(rows.locator(".own").first).to_be_hidden()
    page.locator("input[value=clinical]").check()
    expect(rows.nth(1).locator(".own")).to_have_text("Suspicious, 90.2%")

    # each can be looked at, by its own heatmap and figures
    sources = [page.locator(".photo").get_attribute("src")]
    card.get_by_role("button", name="Photograph 2", exact=True).click()
    expect(card.get_by_role("button", name="Photograph 2", exact=True)).to_be_focused()
    sources.append(page.locator(".photo").get_attribute("src"))
    assert len(set(sources)) == 2
    expect(verdict).to_have_attribute("data-decision", "uncertain")

    # all of it is there after a reload, and nothing is sent again
    answers: list[str] = []
    page.on("response", lambda response: answers.append(response.url) if "/predict" in response.url else None)
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(rows).to_have_count(3)
    expect(verdict).to_have_attribute("data-decision", "uncertain")
    assert answers == []

    card.get_by_role("button", name="Remove photograph 2").click()
    expect(verdict).to_have_attribute("data-decision", "low_suspicion")
    expect(card).to_contain_text("The answer rests on 1 of 2 photographs.")
    card.get_by_role("button", name="Remove photograph 2").click()
    expect(card).to_be_hidden()
    expect(verdict).to_have_attribute("data-decision", "low_suspicion")
    assert ["lesion" in url for url in answers] == [True, False]
    page.get_by_role("button", name="Start over").click()
    expect(page.locator("main")).to_have_attribute("data-state", "empty")
