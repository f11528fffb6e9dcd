"""Training: feature vectors `[n, d]` and their labels go in, a trained hashing network comes out.

Nothing here knows about flags, and the only files are the checkpoints of an unfinished run.

- `methods/`: what each `--loss` means, one file a method: sampler, network, loss and optimiser that belong together.
- `samplers`: which images make a batch.
- `draws`: random numbers that are the same on every device.
- `networks`: the layers of the hashing networks.
- `network_file`: a hashing network out of `model.keras`.
- `class_codes`: the fixed codes of classes that OrthoHash draws the images' codes towards.
- `learner`: many iterations in one compiled call, on the device.
- `loop`: the training loop: history, checkpoints, signals, and warnings if learning goes wrong.
- `validation`: mAP@20 of held-back images, the best network, early stopping.
"""
