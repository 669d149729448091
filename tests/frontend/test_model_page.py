"""The model page: model card, metrics with intervals, and curves of the serving model, from the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.ci]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shipped(start_service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page with the shipped model, served from its bundle alone."""
    with start_service(ROOT / "models", tmp_path_factory.mktemp("shipped") / "log") as service:
        yield service.url


def bundle() -> tuple[dict, dict]:
    folder = ROOT / "models" / "melanoma" / (ROOT / "models" / "melanoma" / "SERVING").read_text().strip()
    return json.loads((folder / "manifest.json").read_text("utf-8")), json.loads(
        (folder / "report" / "report.json").read_text("utf-8")
    )


def test_metrics_curves_and_card_are_those_of_the_bundle(new_page, shipped: str) -> None:
    page = new_page(shipped + "#model")
    manifest, report = bundle()
    expect(page.get_by_role("heading", name=f"melanoma, version {manifest['version']}")).to_be_visible()
    metric = manifest["metrics"]["test"]["roc_auc"]
    row = page.get_by_role("row", name="Area under the ROC curve")
    expect(row).to_contain_text(f"{metric['value']:.3f}")
    expect(row).to_contain_text(f"{metric['ci95'][0]:.3f} to {metric['ci95'][1]:.3f}")
    expect(page.locator("svg.chart")).to_have_count(5)
    # the curve ends at its last data point
    rates = report["segments"]["test"]["roc"]
    points = page.locator("svg.chart .line").first.get_attribute("d").lstrip("M").split("L")
    assert len(points) == len(rates["false_positive_rate"])
    x, y = map(float, points[-1].split())
    assert x == pytest.approx(58 + rates["false_positive_rate"][-1] * 330, abs=0.1)
    assert y == pytest.approx(262 - rates["true_positive_rate"][-1] * 252, abs=0.1)
    decisions = report["segments"]["test"]["decisions"]["malignant"]
    expect(page.get_by_role("table", name="What was answered").get_by_role("row").nth(1)).to_contain_text(
        str(decisions["suspicious"])
    )

    source = next(name for name in manifest["metrics"] if name.startswith("test/source="))
    page.get_by_label("Test pictures").select_option(source)
    expect(row).to_contain_text(f"{manifest['metrics'][source]['roc_auc']['value']:.3f}")

    page.get_by_text("Model card (in English)").click()
    card = page.locator(".card-text")
    expect(card.get_by_role("heading", name="Intended use")).to_be_visible()
    expect(card.get_by_role("cell", name="Basal cell carcinoma").first).to_be_visible()
    assert "|" not in card.locator("p, li").all_inner_texts()
    assert "**" not in card.inner_text()


def test_model_without_curves(new_page, service, page: Page) -> None:
    page.evaluate("() => { location.hash = 'model'; }")
    expect(page.get_by_role("heading", name="melanoma, version 1")).to_be_visible()
    expect(page.locator("svg.chart")).to_have_count(0)
    expect(page.get_by_role("row", name="Area under the ROC curve")).to_have_count(0)
    expect(page.get_by_text("Judges colours, not lesions.")).to_be_visible()


def test_model_page_says_what_is_wrong(new_page, start_service, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with start_service(tmp_path / "models", tmp_path / "log") as service:
        page = new_page(service.url + "#model")
        expect(page.get_by_role("heading", name="The service is not ready")).to_be_visible()
        service.stop()
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("heading", name="The service cannot be reached")).to_be_visible()


def test_card_renders_markdown_as_elements_only(page: Page) -> None:
    source = "# One\n\n> quoted\n\n- a `b`\n- **c** <script>x</script>\n\n| h | i |\n| --- | --- |\n| 1 | 2 |\n\n"
    source += "[x](javascript:y) [z](https://a.b)\n"
    html = page.evaluate(
        """async (source) => { const { render } = await import(new URL('js/model/markdown.js', location.href));
        return render(source, 3).map((element) => element.outerHTML).join(''); }""",
        source,
    )
    assert "<h3>One</h3>" in html
    assert "<blockquote>quoted</blockquote>" in html
    assert "<li>a <code>b</code></li>" in html
    assert "&lt;script&gt;x&lt;/script&gt;" in html
    assert "javascript:" not in html
    assert '<a href="https://a.b" rel="noreferrer">z</a>' in html
    assert html.count("<td>") == 2
