"""HTTP routes, one module an audience.  Endpoints translate; use cases live in the features."""
