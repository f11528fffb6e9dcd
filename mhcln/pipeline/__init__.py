"""The order of all work: each script parses its flags and calls the functions of this room.

Files and flags come in, files, printed lines and progress bars go out. Every other room does one kind of work. Only
the scripts and `mhcln/__init__.py` import this room.

- `extract`: the images of a folder to features. Unchanged images keep their features.
- `extraction`, `feature_batches`: images through a backbone, batch by batch, in this process.
- `workers`, `worker`: the same batches in several processes, on one machine or on a Ray cluster.
- `rotations`: features of the rotated and mirrored images, for training.
- `split`: features to `split.npz`.
- `train`, `training_job`, `training_setup`: features and a split to run folders such as `K32/`.
- `hasher`: a trained run as one object that hashes features and images; training in memory.
- `opened_run`: a finished run, its archive and its output folder, for every command of `eval.py`.
- `evaluate`, `costs`: the codes of a run to `results.json`, pictures and `report.html`; the costs of hashing.
- `compare`: all runs of a dump folder to one table.
- `search`, `queries`: query images to their neighbours in the archive of a run.
- `add_images`, `hash_images`, `additions`: features, or images, to codes in new shards of that archive.
- `browse`: an archive to a page that searches in the browser.
- `export_model`, `export_index`: a run to a SavedModel, and its archive to an index of FAISS.
"""
