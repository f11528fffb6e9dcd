"""Image files go in, features `[n, d]` float32 of a pretrained Inception-v3 come out; labels are not known here.

- `recipe`: everything that features depend on, and its one-line form, the `extractor` of `features.npz`.
- `backbone`: opens a backbone, or opens it again from its recipe; runs the network, also on encoded images.
- `compiled`: the layers as one TensorFlow function, and the rotations of an image.
- `loader`: reads image files in threads, into batches.
- `decoding`: decodes and resizes what is in these files, one by one or several in one call.
- `aligned`: arrays that TensorFlow reads without a copy.
- `batches`: runs the network on these batches.
- `layers`: a network as a graph of layers, and changes of that graph that keep its output.
- `frozen_graph`: the layers of the 2015 graph of the paper, of a plain, a gzipped or Google's `.tgz` file.
- `keras_inception`: the layers of Keras's InceptionV3, of a file, of its download or random.
"""
