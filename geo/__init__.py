"""The shape of a city: H3 cells, distances, zones, the road graph and travel times.

Pure arithmetic: same inputs, same answers; no clock, no network, no settings. Points are WGS84
latitude and longitude in degrees, in that order; polygons are in (longitude, latitude) order, as
GeoJSON has them. Wrong input raises ``ValueError``. Import from the modules themselves:

- ``geo.cells``       H3 indexes as integers, and the resolutions the product uses
- ``geo.distances``   great-circle distances, bearings, points between points
- ``geo.zones``       which polygon owns a point
- ``geo.roads``       the routable street graph; ``geo.osm`` and ``geo.procedural`` make one
- ``geo.travel``      seconds between any two points of a city, as an array gather
"""
