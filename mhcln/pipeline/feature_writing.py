"""The features of a finished extraction to their files, so that a run that is killed meanwhile goes on from there."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from mhcln.console import Console
from mhcln.pipeline.described import Joined
from mhcln.storage.features import file_of, write_features
from mhcln.storage.features_file import Features, ImageTable
from mhcln.storage.partial_features import PartialFeatures
from mhcln.storage.shard_writing import held_images, shards_of, write_shards


@dataclasses.dataclass(frozen=True)
class FeatureWriting:
    """What is written, and from where.

    Attributes:
        dump_dir: The dump folder, which this process holds.
        images: The images.
        joined: Their features.
        partial: The batches among these, which are emptied once a shard has their features.
        shard_images: Images of a shard, if there are more.
    """

    dump_dir: Path
    images: ImageTable
    joined: Joined
    partial: PartialFeatures
    shard_images: int

    @functools.cached_property
    def held(self) -> int:
        """How many of the images, from the first on, a killed run has left in shards: only one that emptied batches."""
        in_shards = shards_of(len(self.images), self.shard_images) and self.partial.emptied
        return held_images(self.dump_dir, self.images, self.shard_images) if in_shards else 0

    def lost(self) -> list[int]:
        """Return the batches that are emptied although no shard has all their features, as after another flag."""
        last = self.joined.last_images(self.partial)
        return [batch for batch in sorted(self.partial.emptied) if last.get(batch, -1) >= self.held]

    def write(self, console: Console) -> Path:
        """Write the features; return the file that holds or lists them."""
        count = len(self.images)
        if shards_of(count, self.shard_images):
            last = self.joined.last_images(self.partial)
            with console.bar(count, "writing", "image") as bar:

                def empty_batches(images: int) -> None:
                    for batch, image in last.items():
                        if image < images and batch not in self.partial.emptied:
                            self.partial.empty(batch)
                    bar.update(images - bar.n)

                write_shards(
                    self.dump_dir, self.images, self.joined.__getitem__, self.shard_images, self.held, empty_batches
                )
        else:
            write_features(self.dump_dir, Features(self.joined[np.arange(count)], self.images))
        return file_of(self.dump_dir)
