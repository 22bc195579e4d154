"""The board's page in a real browser; its pictures go to ``build/screenshots``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board.model import make_board
from benchmarks.board.page import page as render
from benchmarks.board.write import current_versions
from benchmarks.methods import registry
from benchmarks.results.files import Collected, read_record
from tests.benchmarks.board.board_records import HOSTILE, many_methods, records_of
from tests.benchmarks.board.reported_records import TABLES, sequence
from tests.benchmarks.board.visits import SHOTS, Visit, section


def shown(page: Any) -> list[str]:
    labels = section(page).locator("tbody:not(.off) .toggle").all_inner_texts()
    return [text.split("\n")[0].strip() for text in labels]


def test_sort_by_a_column_both_ways_with_what_is_not_ranked_below(browser: Any, file: Path) -> None:
    with Visit(browser, file) as page:
        page.select_option("#settings", "all")
        button = section(page).get_by_role("button", name="Δ_LP")
        for direction, better_first in (("descending", True), ("ascending", False)):
            button.click()
            head = section(page).locator(f'th[aria-sort="{direction}"]')
            assert head.count() == 1 and "Δ_LP" in head.inner_text()
            bodies = section(page).locator("tbody")
            rows = [
                (
                    b.get_attribute("data-ranked"),
                    b.locator("td[data-label=Δ_LP] .value").inner_text(),
                )
                for b in bodies.all()
            ]
            ranked = [float(v.split()[0].replace("−", "-")) for r, v in rows if r == "yes"]
            assert ranked == sorted(ranked, reverse=better_first) and len(ranked) > 5
            marks = [r for r, _ in rows]
            assert marks == sorted(marks, reverse=True)  # yes before no
        listed = shown(page)
        page.select_option("#sort", "method")  # what a phone has in place of headings
        names = shown(page)
        page.select_option("#sort", "")
        assert shown(page) != names and sorted(shown(page)) == sorted(listed)
        ranked_names = [n for n in names if not n.startswith(("lwf", "proxy", "rift"))]
        assert ranked_names[:3] == ["fda 0.3", "fda 3", "l2sp 0.1"]


def test_filters(browser: Any, file: Path) -> None:
    with Visit(browser, file) as page:
        assert "ldifs 1000" in shown(page) and "ldifs 100" not in shown(page)  # chosen alone
        page.select_option("#settings", "all")
        assert {"ldifs 1000", "ldifs 100"} <= set(shown(page))
        page.get_by_role("checkbox", name="ldifs").uncheck()
        assert not any(name.startswith("ldifs") for name in shown(page))
        assert section(page).locator(".plot .method[data-method=ldifs]").is_hidden()
        assert section(page).locator(".findings li", has_text="ldifs").is_hidden()
        assert section(page).locator(".plot .front").is_hidden()
        total = page.locator("tbody").count()
        assert page.locator("#shown").inner_text().endswith(f"of {total} rows shown.")
        page.select_option("#stream", "concepts")
        assert page.locator("section.comparison:visible").count() == 1
        page.select_option("#stream", HOSTILE)
        assert page.locator("section.comparison:visible").count() == 1
        assert section(page).is_hidden()


@pytest.mark.parametrize("width", [360, 1400])
def test_reported_figures_are_below_and_no_filter_hides_them(
    browser: Any, tmp_path: Path, width: int
) -> None:
    records = [sequence(method) for method in ("lp-ft", "fda")]
    made = make_board(Collected(tuple(records), {}), current_versions(), published=TABLES)
    path = tmp_path / "index.html"
    path.write_text(render(made), encoding="utf-8")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with Visit(browser, path, viewport={"width": width, "height": 800}) as page:
        reported = page.get_by_role("complementary", name="Reported, not run here")
        assert reported.count() == 2
        for method in ("lp-ft", "fda"):
            assert page.locator("#shown").inner_text().endswith("of 2 rows shown.")
            page.get_by_role("checkbox", name=method, exact=True).uncheck()
        assert page.locator("p.none").is_visible()  # no measured row is left
        assert reported.last.locator("tr", has_text="ZSCL").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=SHOTS / f"reported-{width}.png", full_page=True)


def test_a_run_by_keyboard_alone(browser: Any, file: Path) -> None:
    with Visit(browser, file) as page:
        row = section(page).locator("tbody", has_text="ldifs 1000").locator(".toggle")
        row.focus()
        page.keyboard.press("Enter")
        assert row.get_attribute("aria-expanded") == "true"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "seed 0"
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        dialog.wait_for()
        assert page.locator("#run-title").inner_text() == "ldifs 1000, seed 0"
        text = dialog.inner_text()
        assert "Last, the last row's mean" in text and "Δ_LP, mean change" in text
        assert "python -m benchmarks rerun" in text
        for part in (
            "Accuracy matrix",
            "as the stream goes on",
            "Linear probe, test accuracy",
            "Zero-shot, test accuracy",
            "How far features drifted",
            "Loss terms",
            "Cost",
            "Where it comes from",
            "The record itself",
        ):
            assert part in text, part
        cells = dialog.locator("table").first.locator("td").all_inner_texts()
        assert cells[:4] == ["–", "–", "92.0", "–"] and len(cells) == 6
        assert (
            dialog.locator("table")
            .first.locator("td")
            .nth(2)
            .evaluate("cell => getComputedStyle(cell).backgroundColor")
            != "rgba(0, 0, 0, 0)"
        )
        dialog.get_by_text("The record itself").click()
        assert '"schema_version": 1' in dialog.locator("pre").inner_text()
        page.screenshot(path=SHOTS / "run.png")
        with page.expect_download() as waiting:
            dialog.get_by_role("link", name="Save this record").click()
        saved = file.with_name("saved.json")
        waiting.value.save_as(saved)
        assert read_record(saved).label.startswith("ldifs-1000-seed0")  # its hash is right
        page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        assert page.evaluate("document.activeElement.textContent") == "seed 0"
        assert page.evaluate("location.hash") == ""


def test_a_run_lists_every_measure_of_drift(browser: Any, tmp_path: Path) -> None:
    (record,) = records_of(["fda"], 1)
    assert record.outcome is not None
    *early, last = record.outcome.panel
    held = {"twist": 0.25, "otdd-kmeans": None, "otdd": 0.125, "l2": 0.5}
    drift = dict.fromkeys(last.drift, held)
    outcome = replace(record.outcome, panel=(*early, replace(last, drift=drift)))
    made = make_board(Collected((replace(record, outcome=outcome),), {}), current_versions())
    path = tmp_path / "index.html"
    path.write_text(render(made), encoding="utf-8")
    with Visit(browser, path, f"#run-{record.run_id}") as page:
        table = page.get_by_role("dialog").locator("table", has_text="since pre-training")
        caption = table.locator("caption").inner_text()
        unmoved = "L2 0, OTDD 0, OTDD of class labels 0"
        assert caption == f"At the end, since pre-training; where nothing moved: {unmoved}"
        titles = ["", "L2", "OTDD", "OTDD of class labels", "twist"]  # two quantities, two columns
        assert table.locator("thead th").all_inner_texts() == titles
        assert table.locator("td").all_inner_texts()[:4] == ["0.500", "–", "0.125", "0.250"]


def test_links_to_a_row_and_to_a_run(browser: Any, file: Path) -> None:
    with Visit(browser, file) as page:
        point = section(page).locator(".plot a.point").filter(has_text="ldifs 100:")
        target = point.get_attribute("href")
        point.focus()
        page.keyboard.press("Enter")
        row = page.locator(f"tbody{target}")
        row.wait_for()  # to be seen: a setting not chosen
        assert "ldifs 100" in row.inner_text()
        run = row.locator(".run").first.get_attribute("data-run")
    with Visit(browser, file, f"#run-{run}") as page:
        page.get_by_role("dialog").wait_for()
        assert page.locator("#run-title").inner_text() == "ldifs 100, seed 0"
        page.get_by_role("button", name="Close").click()
        page.get_by_role("dialog").wait_for(state="hidden")
    with Visit(browser, file, "#run-00ff") as page:  # of another board
        assert page.get_by_role("dialog").count() == 0


def test_failures_and_hostile_names_are_text(browser: Any, file: Path) -> None:
    with Visit(browser, file) as page:
        assert page.title() != "taken"
        body = page.locator("body").inner_text()
        assert body.count("<script>") >= 3 and "cut off, or no JSON" in body
        section(page).locator("tbody", has_text="proxy-fda").locator(".toggle").click()
        page.locator(".run.bad").first.click()
        assert "failed: ValueError: <script>" in page.get_by_role("dialog").inner_text()
        page.keyboard.press("Escape")
        other = page.locator("section.comparison").filter(
            has_not=page.get_by_role("heading", name="concepts on")
        )
        other.locator("tbody:not(.off) .toggle").first.click()
        other.locator(".run:visible").first.click()
        assert HOSTILE in page.get_by_role("dialog").inner_text()
        assert page.title().startswith("Learning and keeping")
        assert page.locator("img").count() == 0


def rgb(colour: str) -> str:
    """``#rrggbb`` as getComputedStyle spells it."""
    return "rgb({}, {}, {})".format(*bytes.fromhex(colour[1:]))


def luminance(page: Any) -> float:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(x) for x in colour[4:-1].split(","))


def test_light_and_dark(browser: Any, file: Path) -> None:
    with Visit(browser, file, color_scheme="light") as page:
        assert luminance(page) > 700
        page.screenshot(path=SHOTS / "light.png", full_page=True)
        page.get_by_role("button", name="Dark").click()
        assert luminance(page) < 150
        page.reload()
        assert luminance(page) < 150  # remembered
    with Visit(browser, file, color_scheme="dark") as page:
        assert luminance(page) < 150
        page.screenshot(path=SHOTS / "dark.png", full_page=True)
        page.get_by_role("button", name="Light").click()
        assert luminance(page) > 700


def test_each_of_many_methods_has_its_own_colour(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "METHODS", many_methods())
    records = records_of([*registry.METHODS, HOSTILE])
    file = tmp_path / "index.html"
    text = render(make_board(Collected(tuple(records), {}), current_versions()))
    file.write_text(text, encoding="utf-8")
    last, method = list(registry.METHODS.items())[-1]

    def colours(page: Any) -> list[str]:
        return [
            page.locator(f"tbody[data-method={name}] .dot").evaluate(
                "dot => getComputedStyle(dot).backgroundColor"
            )
            for name in (last, json.dumps(HOSTILE))
        ]

    with Visit(browser, file, color_scheme="light") as page:
        assert colours(page) == [rgb(method.colour), rgb("#57606a")]
        page.locator(f"tbody[data-method={last}] .toggle").click()
        page.locator(f"tbody[data-method={last}] .run").first.click()
        dots = page.get_by_role("dialog").locator(".legend .dot")
        dots.first.wait_for()  # the dialog opens after the click, and evaluate_all does not wait
        lines = dots.evaluate_all("dots => dots.map(dot => getComputedStyle(dot).backgroundColor)")
        assert lines == [rgb("#b35900"), rgb("#0969da")]
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Dark").click()
        assert colours(page) == [rgb(method.dark_colour), rgb("#9aa7b4")]
        page.emulate_media(media="print")
        assert colours(page) == [rgb(method.colour), rgb("#444444")]
    with Visit(browser, file, color_scheme="dark", java_script_enabled=False) as page:
        assert colours(page) == [rgb(method.dark_colour), rgb("#9aa7b4")]
        page.emulate_media(media="print")
        assert colours(page) == [rgb(method.colour), rgb("#444444")]


@pytest.mark.parametrize("width", [360, 720, 1400])
def test_nothing_is_wider_than_the_screen(browser: Any, file: Path, width: int) -> None:
    with Visit(browser, file, viewport={"width": width, "height": 800}) as page:
        page.select_option("#settings", "all")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width < 720:
            page.screenshot(path=SHOTS / "phone.png", full_page=True)
        section(page).locator(".toggle").first.click()
        section(page).locator(".run:visible").first.click()
        dialog = page.get_by_role("dialog")
        assert dialog.evaluate("box => box.scrollWidth") <= width
        page.screenshot(path=SHOTS / f"run-{width}.png")


def test_without_scripts_and_on_paper_all_rows_are_there(browser: Any, file: Path) -> None:
    with Visit(browser, file, java_script_enabled=False) as page:
        assert (
            page.locator("tbody .toggle").count() == page.locator("tbody .toggle:visible").count()
        )
        assert page.locator("#filters").is_hidden()
    visit = Visit(browser, file)
    with visit as page:
        page.emulate_media(media="print")
        assert page.locator("#filters").is_hidden() and section(page).is_visible()
        assert section(page).locator("thead").is_visible()
        page.set_viewport_size({"width": 700, "height": 1000})  # A4, upright
        assert section(page).locator("thead").is_visible()
        page.pdf(path=SHOTS / "print.pdf", format="A4", landscape=True)
        assert (SHOTS / "print.pdf").stat().st_size > 10_000
