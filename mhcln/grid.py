"""Where the images of a picture stand: the geometry of the grid, in pixels."""

COLUMNS = 4  # published UCMD/eval.py: plt.subplots(5, 4), 5 rows at k = 20
TILE = 128  # side of an image
FRAME = 4
SIDE = TILE + 2 * FRAME
GAP = 12
MOST = 100  # images in a picture: 25 rows; what lies behind them is in tables and files
CAPTION = 30  # below an image, with the gap to the next row


def shown(k: int) -> int:
    """How many of the k neighbours are shown: the query takes the first place of as many rows as k images need.

    As in the published pictures, whose 5x4 grid shows 19 of 20, the k-th neighbour is not shown where k fills the
    rows: k = 20 shows 19, k = 7 shows all 7. No picture shows more than `MOST` images.
    """
    return min(k, -(-k // COLUMNS) * COLUMNS - 1, MOST - 1)


def corner(place: int) -> tuple[int, int]:
    """Left and top of the frame of the tile at `place`, 0 for the query, then row by row."""
    row, column = divmod(place, COLUMNS)
    return GAP + column * (SIDE + GAP), GAP + row * (SIDE + CAPTION)


def size(tiles: int) -> tuple[int, int]:
    """Width and height of a picture of so many tiles."""
    rows = -(-tiles // COLUMNS)
    return GAP + COLUMNS * (SIDE + GAP), GAP + rows * (SIDE + CAPTION)
