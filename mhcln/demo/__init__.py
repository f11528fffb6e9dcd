"""Drawn scenes and the four scripts run on them: `python -m mhcln.demo`.

In comes nothing, out come images, a dump folder and its pictures; no download.

- `scenes`: small aerial-like scenes of eight classes, drawn from a seed; the tests use them too.
- `__main__`: draws the scenes and runs the scripts as a user would.
- `gallery/`: some of the pictures that it makes, as the README shows them.
"""
