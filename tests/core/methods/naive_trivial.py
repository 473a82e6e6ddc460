"""The controls in loops: fewer frames, and pooling. Written from their descriptions alone."""

from __future__ import annotations

from fractions import Fraction

from tests.core.methods.inputs import Reduced, kept_only


def frames(grid: tuple[int, int, int], allowed: int) -> Reduced:
    """The frame in the middle of each of as many equal stretches as the budget has frames for."""
    area = grid[1] * grid[2]
    count = max(1, allowed // area)
    middles = [int(Fraction(grid[0] * (2 * stretch + 1), 2 * count)) for stretch in range(count)]
    return kept_only([frame * area + patch for frame in middles for patch in range(area)])


def pooling(grid: tuple[int, int, int], allowed: int) -> Reduced:
    frame_count, height, width = grid
    rows, columns = best_grid(height, width, allowed // frame_count)
    places, members = [], []
    for frame in range(frame_count):
        for row in range(rows):
            for column in range(columns):
                cell = [
                    (frame * height + y) * width + x
                    for y in range(height)
                    for x in range(width)
                    if y * rows // height == row and x * columns // width == column
                ]
                places.append(cell[0])
                members.append(cell)
    return Reduced(places, members)


def best_grid(height: int, width: int, limit: int) -> tuple[int, int]:
    best, best_score = (1, 1), None
    for rows in range(1, height + 1):
        for columns in range(1, width + 1):
            unlike = abs(Fraction(rows, height) - Fraction(columns, width))
            if rows * columns > limit or unlike > Fraction(1, min(height, width)):
                continue
            score = (rows * columns, -unlike, columns)
            if best_score is None or score > best_score:
                best, best_score = (rows, columns), score
    return best
