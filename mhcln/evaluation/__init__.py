"""Hash codes and labels go in, metrics of retrieval come out; nothing here reads a file or draws a picture.

Every test image is a query, the archive is ranked by distance for each, and a metric is a mean over the queries.

- `evaluate`: queries and archive, and everything that is measured.
- `definitions`: the registry of metrics: name, meaning and function of each.
- `ranking`: the archive, nearest first, for each query.
- `metrics`: average precision, precision, recall, classes and confusion, from ranked relevance.
- `tie_aware`: average precision over all orders among equal distances: expected, worst, best.
- `code_metrics`: what only hash codes have: a Hamming radius, and bits that are used well or not.
"""
