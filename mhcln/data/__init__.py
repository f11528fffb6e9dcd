"""Data sets: the images of class folders, their pixels, and their split into training and test images.

In come a folder, a path or a list; out come the data set's classes and paths, the pixels of one image, or a split.

- `datasets`: known data sets (`dataset.json`) and the user's own; the data set of a folder.
- `folders`: finding the images of a folder, by class folders, perhaps in `train/` and `test/`, or anywhere in it.
- `images`: one image file to pixels, whatever its format; an unreadable file gives a reason.
- `reading`: the bands and the range of values of rasters that make a picture; presets of products.
- `headers`: facts from a file's header, and TIFFs that Pillow would misread.
- `rasters`: TIFFs that Pillow does not read, through GDAL.
- `stretch`: values of more than 8 bits to 8.
- `georeference`: longitude and latitude of an image, from its tags or the files beside it.
- `image_warnings`: warnings about images, one line for all images of a folder.
- `splits`: training and test images, drawn or from folders, and the check that they do not overlap.
- `split_lists`: splits that come as lists of images.
- `duplicates`: images that are equal, and how a draw keeps them on one side.
- `published_pickle`: features that the published code pickled, read without running them.
"""
