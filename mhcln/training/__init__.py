"""Training: feature vectors `[n, d]` and their labels go in, a trained hashing network comes out.

Flags appear only in messages. The only files are the checkpoints of an unfinished run, and `model.keras` of a finished
one.

- `methods/`: what each `--loss` means, one file a method: sampler, network, loss and optimiser that belong together.
- `samplers`: which images make a batch.
- `draws`: random numbers that are the same on every device.
- `networks`: the layers of the hashing networks.
- `class_codes`: fixed codes of classes, towards which some methods draw the codes of images.
- `learner`: many iterations in one compiled call, on the device.
- `loop`: the training loop: history, checkpoints, signals, and warnings if learning goes wrong.
- `validation`: mAP@20 of validation images, the best network, early stopping.
- `trained`: a trained network: read from `model.keras`, and applied to features.
"""
