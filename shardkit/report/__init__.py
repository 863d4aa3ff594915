"""Reports: pages where people would rather look than read."""
