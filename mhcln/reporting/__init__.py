"""Metrics to lines, tables, charts, pictures and a page.

`Results`, histories of runs and image files come in, texts and images go out; no metric is computed here.

- `summary`: the lines printed after an evaluation, and the text of a number.
- `tables`: many runs in one table, beside published results, as Markdown and CSV.
- `page`: the results of one run as a page of HTML; its style sheet is `page.css`.
- `cards`: the part of the page that shows pictures of queries.
- `svg`: the charts of the page.
- `pictures`: a query and its neighbours as one picture.
- `browse`: an archive as a page that searches it in the browser; `browse.html`, `.css`, `.js` and `browse_search.js`.
- `sheets`: thumbnails of many images in few files.
- `neighbours`: the neighbours of a query image, as lines, JSON, GeoJSON and a picture.
"""
