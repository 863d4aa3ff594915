"""Media: images, sound and video, checked and brought to their stored form."""
