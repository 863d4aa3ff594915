"""Media that lie in zip and tar files apart from the rows that name them.

Here: the room: members of zips by ranges (zip_directory.py, zips.py), rows joined to them (joined.py), rows in the
order of tars (in_order.py), rows that are files of one name (stems.py), sorted tables on disk (table.py).
Elsewhere: where the archives lie (places.py, hub), the spec's fields (spec.archives).
"""
