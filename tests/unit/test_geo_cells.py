"""H3 cells as integers."""

import numpy as np
import pytest

from geo.cells import (
    DEMAND_RESOLUTION,
    RIDER_RESOLUTION,
    ZONE_RESOLUTION,
    cell_of,
    cells_of,
    centre,
    disk,
    rings_for_radius,
)

LAT, LON = 12.9716, 77.5946


def test_resolutions_are_those_of_the_design() -> None:
    """Riders, zones and demand use resolutions 9, 10 and 8."""
    assert (RIDER_RESOLUTION, ZONE_RESOLUTION, DEMAND_RESOLUTION) == (9, 10, 8)


def test_a_cell_is_a_known_integer_and_its_centre_lies_in_it() -> None:
    """The cell of a place is H3's 64-bit index, and the cell of its centre is itself."""
    cell = cell_of(37.775938728915946, -122.41795063018799, 9)  # the example in H3's own manual
    assert cell == 0x8928308280FFFFF
    assert cell_of(*centre(cell), 9) == cell


def test_arrays_give_the_same_cells_as_single_points() -> None:
    """cells_of keeps shape and agrees with cell_of."""
    lat = np.linspace(LAT, LAT + 0.05, 6).reshape(2, 3)
    lon = np.linspace(LON, LON + 0.05, 6).reshape(2, 3)
    cells = cells_of(lat, lon, 9)
    assert cells.shape == (2, 3)
    assert cells[1, 2] == cell_of(lat[1, 2], lon[1, 2], 9)


def test_a_disk_has_the_hexagonal_number_of_cells() -> None:
    """k rings hold 1 + 3k(k + 1) cells, the middle among them."""
    cell = cell_of(LAT, LON, 9)
    assert [len(set(disk(cell, k))) for k in range(4)] == [1, 7, 19, 37]
    assert cell in disk(cell, 2)


@pytest.mark.parametrize("place", [(90.5, 0.0), (0.0, 181.0), (float("nan"), 0.0)])
def test_a_place_off_the_globe_is_refused(place: tuple[float, float]) -> None:
    """Latitudes beyond the poles, longitudes beyond 180 and NaN are ValueErrors, also in arrays."""
    with pytest.raises(ValueError, match="no such place"):
        cell_of(*place, 9)
    with pytest.raises(ValueError, match="not on the globe"):
        cells_of([LAT, place[0]], [LON, place[1]], 9)


def test_wrong_arguments_are_value_errors() -> None:
    """Resolutions, cells, rings and radii that do not exist are refused."""
    with pytest.raises(ValueError, match="resolutions 0 to 15"):
        cell_of(LAT, LON, 16)
    with pytest.raises(ValueError, match="resolutions 0 to 15"):
        rings_for_radius(100.0, -1)
    with pytest.raises(ValueError, match="not a valid H3 cell"):
        centre(12345)
    with pytest.raises(ValueError, match="-1 rings"):
        disk(cell_of(LAT, LON, 9), -1)
    with pytest.raises(ValueError, match="radius"):
        rings_for_radius(-1.0, 9)
    with pytest.raises(ValueError, match="differ in shape"):
        cells_of([1.0, 2.0], [1.0], 9)


def test_rings_grow_with_the_radius_and_the_resolution() -> None:
    """A radius of 1 km takes few rings of large cells and more of small ones."""
    assert rings_for_radius(0.0, 9) == 1
    assert rings_for_radius(1000.0, 8) < rings_for_radius(1000.0, 9) < rings_for_radius(1000.0, 10)
    assert rings_for_radius(1000.0, 9) <= 6
