"""Every file of a dump folder: its name, what it holds, and that it is whole or absent.

In come dataclasses of arrays and settings, out come files; and back. What the numbers mean is not known here.

- `layout`: names of all files and folders, and which script makes them.
- `files`, `text_files`: atomic replacement, folder locks, checked reading of `.npz`; CSV and JSON.
- `npz`, `zip_members`: the arrays of a `.npz`, read without trusting what it claims.
- `keras_file`: the layers and weights of a file of Keras, read without Keras.
- `source`: a file while it is read: its format, and its content as a checked dataclass.
- `features`: the features of a dump folder, in one file or in shards.
- `features_file`: what `features.npz` holds.
- `shards`, `shard_writing`: several such files and their list, read and written.
- `mapped`: vectors that stay in their files until rows of them are asked for.
- `formats`: what `split.npz`, `codes.npz`, `activations.npz` and additions of earlier versions hold.
- `run_record`, `runs`: what a training run depends on (`run.json`), and the folder of a finished run.
- `results`: `results.json`.
- `saver`: writes files in a thread of its own.
- `checkpoints`, `partial_features`: unfinished training and extraction, to be continued; `extraction_job`: of what.
- `vectors`: the features and activations that a run's codes stand for.
- `archive`: the codes that a query is compared with.
- `archive_shards`, `paths`: those that were added to a run: mapped files with one manifest; and very many paths.
"""
