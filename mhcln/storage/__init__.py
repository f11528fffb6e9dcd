"""The files of a dump folder: their names, their content, and that each one is whole or absent.

Dataclasses of arrays and settings come in, files go out; and back. The meaning of the numbers is not known here.

- `layout`: the names of all files and folders, and the script that makes each.
- `files`, `text_files`: replacement by rename, folder locks, checked reading of `.npz`; CSV and JSON.
- `npz`: the arrays of a `.npz`, read or mapped, and a checksum of their names.
- `source`: a file while it is read: its format, and its content as a checked dataclass.
- `image_info`, `image_table`: the facts about one image, and the table of all images.
- `features`: the features of a dump folder, in one file or in shards.
- `file_list`: several files that hold one thing, listed with their SHA-256: shards of features, and of an archive.
- `mapped`: vectors that stay in their files until their rows are used.
- `split`: `split.npz`.
- `run_record`, `runs`: `run.json`, which holds everything that a run depends on, and the folder of a finished run.
- `coded_images`, `archive`: images with codes, in `codes.npz` or in a shard; all images that a query is compared to.
- `vectors`: the features and the activations that the codes of a run were made from.
- `results`: `results.json`.
- `saver`: a thread that writes files.
- `checkpoints`: unfinished training. `extraction_job`, `partial_features`: unfinished extraction.
"""
