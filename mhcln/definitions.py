"""What every figure of an evaluation means, in words that go wherever the figure goes."""

ORDER = "distance, then storage order; the query is left out by its path"
PUBLISHED = (
    "mean over queries of AP@{k} = sum of the precision at each relevant rank up to {k} / number of relevant images "
    "retrieved in the top {k}, 0 where there is none; order: " + ORDER
)
_DEFINITIONS = {
    "mAP@{k}": PUBLISHED + " (the published definition)",
    "mAP@{k}_min_denominator": "as mAP@{k}, divided by min({k}, R) instead; R is how many relevant images there are",
    "mAP@{k}_tie_aware": "expected value of mAP@{k}_min_denominator over all orders among equal distances, exact",
    "mAP@{k}_worst": "mAP@{k} (published definition) under the worst order among equal distances, query by query",
    "mAP@{k}_best": "mAP@{k} (published definition) under the best order among equal distances, query by query",
    "mAP": "mean average precision over the whole ranking, divided by R; order: " + ORDER,
    "P@{k}": "share of the top {k} that is relevant, mean over queries",
    "R@{k}": "share of the R relevant images that is in the top {k}, mean over queries",
    "P_radius2": "share of the images within Hamming distance 2 that is relevant, 0 where there is none, mean over "
    "queries",
    "R_radius2": "share of the R relevant images that is within Hamming distance 2, mean over queries",
    "empty_radius2": "share of queries with no image within Hamming distance 2",
    "tied_at_k": "share of queries whose ranks {k} and {next} are equally far, so that the order among equals decides "
    "what is in the top {k}",
    "distinct_codes": "number of different codes in the archive",
    "bit_balance_mean": "mean over bits of min(m, 1 - m), m the share of archive images whose bit is 1; 0.5 is even, "
    "0 constant",
    "bit_balance_worst": "smallest min(m, 1 - m) of any bit",
    "bit_correlation_mean": "mean over pairs of bits of |Pearson correlation| over the archive, constant bits left "
    "out; null where fewer than two bits vary",
    "per_class": "mAP@{k} (published definition) of the queries of each class",
    "confused_pairs": "share of class `found` in the top {k} of queries of class `query`, the largest first",
    "precision_by_radius": "as P_radius2 for radius 0, 1, ... bits",
    "recall_by_radius": "as R_radius2 for radius 0, 1, ... bits",
    "empty_by_radius": "as empty_radius2 for radius 0, 1, ... bits",
    "costs": "the same figures for the real-valued features and activations that the codes stand for, compared by "
    "cosine in float32, and bytes per image",
    "queries": "test images that were searched for",
    "queries_left_out": "queries with no other image of their class in the archive: they have nothing to find and are "
    "in no mean",
    "searched": "images that each query is compared with",
    "contaminated": "test images that were also trained on; anything above 0 makes every figure too good",
}


def definitions(k: int) -> dict[str, str]:
    """Definition of each key of `results.json` for the cut-off `k`."""
    return {name.format(k=k): text.format(k=k, next=k + 1) for name, text in _DEFINITIONS.items()}
