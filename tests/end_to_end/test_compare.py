"""The Compare page by a real browser: what is on the canvas follows the keys, and what a reader says is kept."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from behaviour import QUICK
from browser import NARROW, picture, require_accessible, set_up
from modality import TO_PACS, MakeGateway, WritePhantom, storescu
from playwright.sync_api import Locator, Page, expect
from small_series import write_ct_series

from gateway.commands.sandbox import Sandbox, SmallPacs, free_port

RULES = f"""{TO_PACS}
[[rules]]
name = "denoise"
pipeline = "ct-denoise"
destinations = ["pacs"]
when = {{ attribute = "Modality", equals = "CT" }}
"""
SLICES = 8
# the values of the canvas in the middle, where no label is, as one number, and how many grey values there are
SEEN = """canvas => {
    const {width, height} = canvas;
    const {data} = canvas.getContext("2d").getImageData(width / 4, height / 4, width / 2, height / 2);
    let sum = 0;
    data.forEach((value, at) => { sum = (sum * 31 + value) % 1000003; });
    return [sum, new Set(data).size];
}"""
# how many pixels of the label's colour a quarter of the canvas has
LABELLED = """canvas => {
    const {data} = canvas.getContext("2d").getImageData(canvas.width / 2, 0, canvas.width / 2, canvas.height / 4);
    let found = 0;
    for (let at = 0; at < data.length; at += 4) found += data[at] > 200 && data[at + 1] > 140 && data[at + 2] < 90;
    return found;
}"""


@pytest.fixture(scope="module")
def node(make_gateway: MakeGateway, pacs: SmallPacs) -> Sandbox:
    """A gateway with its web port, and one rule."""
    return make_gateway(
        RULES,
        web={"enabled": True, "port": free_port()},
        destinations={"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}},
        assemble=QUICK["assemble"],
    )


def noisy_disc(slices: int) -> np.ndarray:
    """Slices of a disc of water in air with noise, in HU."""
    across = np.hypot(*(np.mgrid[:256, :256] - 127.5))
    noise = np.random.default_rng(1).normal(0.0, 40.0, (slices, 256, 256))
    return np.asarray(np.where(across < 100, 0.0, -1000.0) + noise)


def seen(canvas: Locator) -> int:
    """What the canvas shows, as a number; it is no single colour."""
    number, greys = canvas.evaluate(SEEN)
    assert greys > 20, "the canvas is blank"
    return int(number)


def test_a_reader_checks_a_result(page: Page, node: Sandbox, phantom: WritePhantom) -> None:
    storescu(node.port, phantom(slices=SLICES))
    set_up(page, node)
    page.get_by_role("link", name="Studies", exact=True).click()
    page.locator("tbody a").first.click()
    page.get_by_role("link", name="Compare").click(timeout=90_000)
    viewer = page.locator("#viewer")
    source, synthetic = page.get_by_role("img", name="Source slice"), page.get_by_role("img", name="Synthetic slice")

    # both sides are drawn, and the synthetic one says what it is
    expect(viewer).to_have_attribute("data-drawn", re.compile(f"^side {SLICES // 2 + 1} "))
    both = seen(source), seen(synthetic)
    assert both[0] != both[1]
    assert synthetic.evaluate(LABELLED) > 200
    assert source.evaluate(LABELLED) == 0
    expect(page.get_by_label("Swipe: per cent")).to_be_hidden()
    expect(page.get_by_text("CAUTION: Hides marrow oedema")).to_be_visible()
    expect(page.get_by_text("not for diagnosis").first).to_be_visible()
    require_accessible(page)
    picture(page, "compare")

    # slices by keys and by wheel: both sides move together
    expect(source).to_be_focused()
    source.press("ArrowDown")
    expect(viewer).to_have_attribute("data-drawn", re.compile(f"^side {SLICES // 2 + 2} "))
    below = seen(source), seen(synthetic)
    assert below[0] != both[0]
    assert below[1] != both[1]
    expect(page.get_by_role("status").filter(has_text=f"slice {SLICES // 2 + 2} of {SLICES}")).to_have_count(1)
    source.press("End")
    expect(viewer).to_have_attribute("data-drawn", re.compile(f"^side {SLICES} "))
    source.press("PageUp")
    expect(viewer).to_have_attribute("data-drawn", re.compile(f"^side {SLICES - 5} "))
    source.hover()
    page.mouse.wheel(0, 100)
    expect(viewer).to_have_attribute("data-drawn", re.compile(f"^side {SLICES - 4} "))
    source.press("Home")
    expect(viewer).to_have_attribute("data-drawn", re.compile("^side 1 "))
    for _ in range(SLICES // 2):
        source.press("ArrowDown")
    expect(viewer).to_have_attribute("data-drawn", re.compile(f"^side {SLICES // 2 + 1} "))
    assert (seen(source), seen(synthetic)) == both

    # a window by key, by mouse and by number; each side its own until they are linked
    before = viewer.get_attribute("data-drawn")
    source.press("Shift+ArrowUp")
    expect(viewer).not_to_have_attribute("data-drawn", str(before))
    assert seen(source) != both[0]
    assert seen(synthetic) == both[1]
    page.get_by_label("Window width of the synthetic series").fill("90")
    page.get_by_label("Window width of the synthetic series").press("Enter")
    expect(viewer).to_have_attribute("data-drawn", re.compile(r" \d+ 90 50$"))
    assert seen(synthetic) != both[1]
    source.press("r")
    expect(viewer).to_have_attribute("data-drawn", str(before))
    page.get_by_label("Link both windows").check()
    box = source.bounding_box()
    assert box
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 100)
    page.mouse.up()
    expect(viewer).not_to_have_attribute("data-drawn", str(before))
    assert (seen(source) == both[0], seen(synthetic) == both[1]) == (False, False)
    source.press("r")
    expect(viewer).to_have_attribute("data-drawn", str(before))

    # swipe and difference by the keyboard
    source.press("2")
    expect(viewer).to_have_attribute("data-drawn", re.compile("^swipe .* 50$"))
    expect(synthetic).to_be_focused()
    expect(source).to_be_hidden()
    half = seen(synthetic)
    picture(page, "compare-swipe")
    synthetic.press("ArrowLeft")
    expect(viewer).to_have_attribute("data-drawn", re.compile("^swipe .* 48$"))
    assert seen(synthetic) != half
    assert synthetic.evaluate(LABELLED) > 200
    synthetic.press("3")
    expect(viewer).to_have_attribute("data-drawn", re.compile("^difference "))
    expect(page.get_by_text("Difference of displayed brightness")).to_be_visible()
    assert seen(synthetic) != half
    assert synthetic.evaluate(LABELLED) > 200
    require_accessible(page)
    picture(page, "compare-difference")
    synthetic.press("1")

    # what the reader says
    expect(page.get_by_text("Nobody has said anything")).to_be_visible()
    page.get_by_label("Misleading").check()
    page.get_by_role("button", name="The slice shown").click()
    page.get_by_label("In your words").fill("<b>the oedema in L4 is gone")
    page.get_by_role("button", name="Give feedback").click()
    said = page.get_by_role("row").filter(has_text="misleading")
    expect(said).to_contain_text("<b>the oedema in L4 is gone")
    expect(said).to_contain_text(str(SLICES // 2 + 1))
    expect(page.get_by_text("0 agree, 0 artefact, 1 misleading.")).to_be_visible()
    require_accessible(page)
    page.goto("/audit")
    expect(page.get_by_text("gave feedback")).to_be_visible()


def test_ct_is_subtracted_in_hu_and_a_slice_that_came_later_stands_alone(
    page: Page, node: Sandbox, tmp_path: Path
) -> None:
    files = write_ct_series(tmp_path / "ct", noisy_disc(3), 0.8, 3.0)
    storescu(node.port, files[:2])
    set_up(page, node)
    page.goto("/studies?text=ATHANOR-PHANTOM-7")
    page.locator("tbody a").first.click()
    page.get_by_role("link", name="Compare").click(timeout=90_000)
    viewer, note = page.locator("#viewer"), page.locator("#viewer-note")
    synthetic = page.get_by_role("img", name="Synthetic slice")
    expect(viewer).to_have_attribute("data-drawn", re.compile("^side 2 "))
    page.get_by_label("Window preset of the synthetic series").select_option("soft tissue")
    expect(viewer).to_have_attribute("data-drawn", re.compile(" 40 400 50$"))
    expect(note).to_be_hidden()
    synthetic.press("3")
    expect(page.get_by_text("Synthetic less source in HU")).to_be_visible()
    assert seen(synthetic)
    picture(page, "compare-ct")

    compare = page.url
    storescu(node.port, files[2:])
    page.get_by_role("link", name="Study", exact=True).click()
    expect(page.get_by_role("link", name="Compare")).to_have_count(2, timeout=90_000)
    page.goto(compare)
    expect(page.get_by_text("this result is superseded")).to_be_visible()
    expect(note).to_contain_text(
        "The source has 3 slices, the synthetic series 2. 1 of the source has no synthetic slice"
    )
    expect(viewer).to_have_attribute("data-drawn", re.compile("^side 2 "))
    synthetic.press("End")
    expect(viewer).to_have_attribute("data-drawn", re.compile("^side 3 "))
    number, greys = synthetic.evaluate(SEEN)
    assert greys <= 2, "there is nothing to draw"
    assert synthetic.evaluate(LABELLED) > 200
    assert seen(page.get_by_role("img", name="Source slice")) != number
    page.emulate_media(color_scheme="dark")
    require_accessible(page)
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    picture(page, "compare-narrow")
