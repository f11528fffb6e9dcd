"""The order of everything: each script parses its flags and calls one function of this room.

In come files and flags, out come files, lines and progress bars. Every other room does one kind of work. Only the
scripts and the package's front door import this one.

- `extract`, `feature_batches`, `described`: images to features, batch by batch; those that are there already stay.
- `feature_writing`: the features of an extraction to one file, or shard by shard.
- `workers`, `hands`, `worker`, `cluster`: the same batches by several processes, on one machine or on a Ray cluster.
- `views`: features of the images turned and mirrored, to train on.
- `split`: features to `split.npz`.
- `train`, `training_job`, `training_setup`: features and a split to run folders such as `K32/`.
- `hasher`: a trained run as one object that turns features or images into codes; training in memory.
- `evaluate`: a run's codes to `results.json`, pictures and `report.html`.
- `costs`: what hashing costs: features and activations beside the codes, under the same evaluation.
- `browse`: a run's archive to a page that is searched in the browser.
- `export_model`: a run to a SavedModel, which turns encoded images into codes.
- `export_index`: a run's archive to an index of FAISS.
- `compare`: all runs of a dump folder to one table.
- `outputs`: where an evaluation, a table or a query writes: beside the run, elsewhere, or nowhere.
- `query_features`: features made elsewhere, to search with.
- `search`, `queries`: query images to their neighbours in a run's archive.
- `add_images`: features of other images to codes in that archive.
- `hash_images`, `additions`: images straight to codes; hashed images into the shards of a run's archive.
"""
