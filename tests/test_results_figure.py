"""The figure of the results is drawn from the page's own table."""

import math
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS))

from draw_results import COLOURS, read_points  # noqa: E402


def test_every_row_of_the_first_table_is_a_point_with_its_interval_inside():
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    points = read_points(page)
    table = page.split("\n| ", 1)[1].split("\n\n", 1)[0]
    assert len(points) == table.count("\n") - 1 >= 8
    for point in points:
        mean, low, high = point.accuracy
        assert low < mean < high
    assert {point.source for point in points} == set(COLOURS)
    assert sum(math.isnan(point.hours) for point in points) == 1


def test_hours_are_of_one_core_of_the_two_that_were_measured():
    (point,) = read_points("t\n\n| words | 400 of people | 90.0 % (88.0 to 92.0) | 1,000 | 17 min |\n\n## Next\n")
    assert point.hours == 2 * 1000 / 3600
    assert (point.source, point.what) == ("people", "words")
