"""Metrics to what a person looks at: lines, tables, charts, pictures, a page.

In come `Results`, runs' histories and image files, out come texts and images; how a metric was computed is not known
here.

- `summary`: the lines printed after an evaluation, and the text of a number.
- `tables`: many runs in one table, beside published results, as Markdown and CSV.
- `page`: the results of one run as a page of HTML; its style sheet is `page.css`.
- `cards`: the part of the page that shows pictures of queries.
- `svg`: the charts of the page.
- `pictures`: a query and its neighbours as one picture.
- `browse`: an archive as a page that searches it in the browser; `browse.html`, `.css`, `.js` and `browse_search.js`.
- `sheets`: thumbnails of many images in few files.
- `geojson`: where the images lie that were found for a query.
- `neighbours`: what was found for a query image, as lines, JSON and a picture.
"""
