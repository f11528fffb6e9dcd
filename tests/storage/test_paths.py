"""Many paths as one array of bytes."""

import pytest

from mhcln.storage.paths import PathTable

PATHS = ["b/2.tif", "", "ü/ä.tif", "caf\udce9.tif", "b/2.tif", "b/2", "𝒳\nx", "b/2.tiff"]


@pytest.mark.parametrize("stored", [False, True])
def test_paths_come_back_and_are_found(stored):
    table = PathTable.of(PATHS)
    if stored:
        table = PathTable.stored(table.content, table.starts, table.order, table.bounds)
    assert list(table) == [table[row] for row in range(len(table))] == PATHS
    for path in [*PATHS, "a", "z", "b/", "b/2.tif\0"]:
        assert table.rows_of(path) == [row for row, each in enumerate(PATHS) if each == path]


def test_a_table_without_paths():
    table = PathTable.of([])
    assert (len(table), list(table), table.rows_of("a"), table.bounds) == (0, [], [], ("", ""))


def test_a_path_beyond_the_bounds_is_not_looked_for():
    table = PathTable.of(["b", "d"])
    stored = PathTable.stored(table.content[:0], table.starts, table.order, table.bounds)
    assert stored.rows_of("a") == stored.rows_of("e") == []
