"""Bits of images go in, the exact k nearest codes by Hamming distance come out; nothing here knows labels or files.

A code of K bits is a row of ceil(K / 8) bytes in `np.packbits` order (the first bit is the highest of its byte),
padded with zero bits, which add no distance.

- `codes`: bits to packed codes and back, activations to levels, distances, and the layout of codes for a search.
- `index`: `Index(codes).search(queries, k)`, the k nearest in an archive; `mhcln.evaluation.ranking` ranks all of it.
"""
