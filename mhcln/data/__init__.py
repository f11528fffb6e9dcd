"""What a data set is: class folders of images, and which of the images train and which test.

In come a folder, a path or a list; out come the data set's classes and paths, the pixels of one image, or a split.

- `datasets`: known data sets (`dataset.json`) and the user's own; which one a folder holds.
- `folders`: finding the images of a folder, by class folders or anywhere in it.
- `parts`: class folders within `train/` and `test/`: a data set that comes split.
- `listing`: what one folder holds, told by the kind of its entries.
- `names`: names of files and folders in messages.
- `images`: one image file to pixels, whatever its format; what cannot be read is reported with a reason.
- `reading`: which bands and which range of values of rasters make a picture; the usual ones of products.
- `headers`: what a file's header says, and which TIFFs Pillow would misread.
- `rasters`: TIFFs that Pillow does not read, through GDAL; coordinate reference systems.
- `stretch`: values of more than 8 bits to 8.
- `georeference`: where an image lies, from its tags or the files beside it.
- `remarks`: what is odd about how images were read, one line for all of a folder.
- `splits`: training and test images, drawn or from folders, and the check that they do not overlap.
- `split_lists`: splits that come as lists of images; `image_names`: which image a name in a list means;
  `list_labels`: what label a line gives it.
- `duplicates`: images that are equal, and how a draw keeps them on one side.
- `published_pickle`: features that the published code pickled, read without running them.
"""
