"""Pages that tell how to install the package do what they say with only what they install.

An environment that has more, such as that of the other tests, hides what a page forgets to name.
"""

import pytest
from page_player import blocks_of, installs, on_a_free_port, pages, playing

PAGES = [page for page in pages() if installs(page)]


def test_the_first_pages_that_a_reader_meets_are_among_them():
    assert {"README.md", "docs/tutorial/first-flow.md"} <= set(PAGES)
    assert "docs/how-to/test-against-a-replica.md" in PAGES


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_does_what_it_says_with_what_it_installs(
    page, tmp_path, monkeypatch, empty_environment
):
    programs, variables = empty_environment
    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)
    async with playing(folder, programs, **variables) as player:
        await player.page(on_a_free_port(blocks_of(page)))
