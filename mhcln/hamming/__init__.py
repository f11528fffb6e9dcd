"""Bits of images go in, the exact k nearest codes by Hamming distance come out; nothing here knows labels or files.

A code of K bits is a row of ceil(K / 8) bytes in `np.packbits` order (the first bit is the highest of its byte),
padded with zero bits, which add no distance.

- `codes`: bits to packed codes and back, distances between a few codes, how many differ.
- `index`: `Index(codes).search(queries, k)`, the entrance for all searches.
- `layouts`: the two ways in which an archive is laid out for search, and what is cheaper when.
- `scan`: the comparison of queries with every code of an archive.
- `ordered`: the k nearest in parts that are laid out once, equals ordered by the activations that they were cut from.
- `top_k`: the k best rows of many queries, kept while a search goes on.
"""
