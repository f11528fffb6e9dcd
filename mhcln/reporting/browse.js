"use strict";
(() => {
const STEP = 200;  // images that the overview grows by
const PER_ROW = 10, PER_SHEET = 100;  // of a sheet of thumbnails
const SHOWN_BY_BROWSERS = /\.(jpe?g|png|gif|bmp|webp)$/i;
const DEGREE = 1e7, NOWHERE = -(2 ** 31);
const data = JSON.parse(document.getElementById("data").textContent);
const archive = readArchive(data);
const byId = id => document.getElementById(id);
const number = value => value.toLocaleString("en");
const classOf = row => archive.labels[row] < 0 ? "" : data.classes[archive.labels[row]];
const encode = text => encodeURIComponent(text.replace(/[\ud800-\udfff]/gu, "\ufffd"));
const addressOf = row => "#" + encode(archive.names[row]);

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function placeOf(row) {
  if (!archive.places || archive.places[2 * row] === NOWHERE) return null;
  return [archive.places[2 * row] / DEGREE, archive.places[2 * row + 1] / DEGREE];
}

// Thumbnails

function showThumbnail(span, row) {
  const place = row % PER_SHEET, across = place % PER_ROW, down = Math.floor(place / PER_ROW);
  span.style.backgroundImage = `url("${data.sheets[Math.floor(row / PER_SHEET)]}")`;
  span.style.backgroundPosition = `${100 * across / (PER_ROW - 1)}% ${100 * down / (PER_ROW - 1)}%`;
  span.setAttribute("aria-label", [classOf(row), archive.paths[row]].filter(Boolean).join(", "));
}

function tile(row, caption, wrong) {
  const thumb = element("span", {class: "thumb", role: "img"});
  showThumbnail(thumb, row);
  const link = element("a", {href: addressOf(row), title: archive.paths[row]}, thumb);
  link.append(...caption.map(line => element("span", {class: "line"}, line)));
  return element("li", {"data-row": row, ...(wrong ? {class: "wrong"} : {})}, link);
}

// All images

let listed = [], shown = 0;

function list() {
  const text = byId("text").value.toLowerCase(), label = byId("class").value;
  const fits = row => (label === "" || archive.labels[row] === Number(label))
    && (!text || archive.paths[row].toLowerCase().includes(text));
  const worst = byId("order").value === "worst";
  const rows = worst ? [...archive.scores.keys()].sort((a, b) => archive.scores.get(a) - archive.scores.get(b) || a - b)
    : Array.from({length: archive.n}, (_, row) => row);
  listed = rows.filter(fits);
  shown = 0;
  byId("images").replaceChildren();
  byId("count").textContent = worst
    ? `${number(listed.length)} queries of the evaluation, lowest ${data.scoreName} first`
    : `${number(listed.length)} of ${number(archive.n)} images`;
  showMore();
}

function showMore() {
  const rows = listed.slice(shown, shown + STEP), worst = byId("order").value === "worst";
  byId("images").append(...rows.map(row => tile(row, [
    classOf(row) || archive.paths[row].split("/").pop(),
    ...(worst ? [`${data.scoreName} ${archive.scores.get(row).toFixed(3)}`] : []),
  ])));
  shown += rows.length;
  byId("more").hidden = shown >= listed.length;
}

// One image and its neighbours

let current = null, found = null;

function show(row) {
  if (row !== current) found = null;
  current = row;
  const path = archive.paths[row], place = placeOf(row), score = archive.scores.get(row);
  byId("name").textContent = classOf(row) || path.split("/").pop();
  showThumbnail(byId("small"), row);
  showLarge(row);
  const facts = [["Path", path]];
  if (score !== undefined) facts.push([data.scoreName, score.toFixed(3)]);
  if (place) facts.push(["Longitude, latitude", place.map(value => value.toFixed(5)).join(", ")]);
  byId("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  showHits();
}

function showLarge(row) {
  const large = byId("large"), small = byId("small"), path = archive.paths[row];
  const folder = data.parts[archive.partOf[row]].folder;
  large.hidden = true;
  small.hidden = false;
  large.removeAttribute("src");
  if (!folder || !SHOWN_BY_BROWSERS.test(path)) return;
  large.onload = () => { large.hidden = false; small.hidden = true; };
  large.alt = [classOf(row), path].filter(Boolean).join(", ");
  large.src = folder + "/" + path.split("/").map(encode).join("/");
}

function showHits() {
  const k = Number(byId("k").value), started = performance.now();
  found = search(archive, current, k);
  performance.measure("search", {start: started, end: performance.now()});
  const label = archive.labels[current];
  byId("hits").replaceChildren(...found.rows.map((row, at) => {
    const wrong = label >= 0 && archive.labels[row] >= 0 && archive.labels[row] !== label;
    const name = row === current ? "This image" : classOf(row) || archive.paths[row].split("/").pop();
    const made = tile(row, [`${at + 1}. ${name}`, `distance ${found.distances[at]}`], wrong);
    made.setAttribute("data-distance", found.distances[at]);
    return made;
  }));
  const cut = found.distances.filter(distance => distance === found.last).length;
  byId("ties").textContent = `Nearest of ${number(archive.n)} images by Hamming distance, equal ones by activations`
    + (label >= 0 ? "; other classes have a red frame." : ".")
    + (found.tied > cut ? ` ${number(found.tied)} images at distance ${found.last}, ${cut} shown.` : "");
  drawMap();
}

// Where the images are

function svgElement(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

let area = null;  // all images on the map, which is drawn once

function drawArea() {
  const spots = Array.from({length: archive.n}, (_, row) => placeOf(row)).filter(Boolean);
  let [west, south, east, north] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [lon, lat] of spots) {
    [west, south] = [Math.min(west, lon), Math.min(south, lat)];
    [east, north] = [Math.max(east, lon), Math.max(north, lat)];
  }
  const shrink = Math.cos((south + north) / 2 * Math.PI / 180);  // of a degree of longitude
  const wide = (east - west) * shrink || 1e-6, high = north - south || 1e-6, scale = 280 / Math.max(wide, high);
  const [width, height] = [wide * scale + 20, high * scale + 20];
  const at = ([lon, lat]) => [10 + (lon - west) * shrink * scale, height - 10 - (lat - south) * scale];
  const dots = new Set(spots.map(spot => at(spot).map(value => Math.round(value)).join(" ")));
  const svg = svgElement("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Places of the images"});
  const found = svgElement("g", {});
  svg.append(svgElement("path", {class: "places", d: [...dots].map(dot => `M${dot}h0`).join("")}), found);
  const caption = `Longitude ${west.toFixed(3)} to ${east.toFixed(3)}, latitude ${south.toFixed(3)} to ${north.toFixed(3)}`;
  byId("map").replaceChildren(svg, element("figcaption", {}, caption));
  byId("map").hidden = byId("geojson").hidden = false;
  return {at, found};
}

function drawMap() {
  if (!archive.places) return;
  area = area || drawArea();
  area.found.replaceChildren();
  for (const row of [...found.rows.filter(row => row !== current).reverse(), current]) {
    const place = placeOf(row);
    if (!place) continue;
    const [x, y] = area.at(place), link = svgElement("a", {href: addressOf(row), tabindex: "-1"});
    const kind = row === current ? {class: "here", r: 5} : {class: "hit", r: 4};
    const dot = svgElement("circle", {cx: x, cy: y, ...kind}), title = svgElement("title", {});
    title.textContent = archive.paths[row];
    dot.append(title);
    link.append(dot);
    area.found.append(link);
  }
}

// Files to keep

function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], {type}));
  element("a", {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// No spreadsheet may take text for a formula: as in mhcln.storage.files.
function cell(value) {
  const text = String(value), formula = typeof value === "string" && /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text);
  return formula || /[,;\t\r\n"]/.test(text) ? '"' + (formula ? "'" : "") + text.replaceAll('"', '""') + '"' : text;
}

function hits() {
  return found.rows.map((row, at) => ({
    rank: at + 1, distance: found.distances[at], class: classOf(row), path: archive.paths[row], place: placeOf(row),
  }));
}

const fileName = ending => `neighbours_${archive.paths[current].split("/").pop().replace(/\.[^.]*$/, "")}.${ending}`;

function saveCsv() {
  const places = archive.places ? hit => hit.place || ["", ""] : () => [];
  const head = ["rank", "distance", "class", "path", ...(archive.places ? ["lon", "lat"] : [])];
  const lines = hits().map(hit => [hit.rank, hit.distance, hit.class, hit.path, ...places(hit)]);
  save(fileName("csv"), "text/csv", [head, ...lines].map(line => line.map(cell).join(",") + "\n").join(""));
}

function saveGeoJson() {
  const features = hits().map(({place, ...properties}) => ({
    type: "Feature", geometry: place && {type: "Point", coordinates: place}, properties,
  }));
  save(fileName("geojson"), "application/geo+json", JSON.stringify({type: "FeatureCollection", features}, null, 1));
}

// The address says what is shown

let scrolled = 0;

function follow() {
  let name = location.hash.slice(1);
  try { name = decodeURIComponent(name); } catch { /* an address typed by hand is taken as it is */ }
  const row = archive.rows.get(name), before = current;
  if (before === null) scrolled = scrollY;
  byId("overview").hidden = row !== undefined;
  byId("picture").hidden = row === undefined;
  if (row !== undefined) {
    show(row);
    scrollTo(0, 0);
    byId("name").focus({preventScroll: true});
    return;
  }
  current = null;
  if (name) byId("count").textContent = `No image has the path ${name}.`;
  if (before === null) return;
  scrollTo(0, scrolled);
  const link = byId("images").querySelector(`[data-row="${before}"] a`);
  if (link) link.focus({preventScroll: true});
}

function move(key, link) {
  const links = [...link.closest(".tiles").querySelectorAll("a")];
  const across = getComputedStyle(link.closest(".tiles")).gridTemplateColumns.split(" ").length;
  const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across}[key];
  const next = links[links.indexOf(link) + step];
  if (next) next.focus();
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  const link = document.activeElement.closest(".tiles a");
  if (event.key === "Escape") {
    if (current !== null) location.hash = "";
    else if (byId("text").value) { byId("text").value = ""; list(); }
  } else if (event.key === "/" && !typing) {
    if (current !== null) { location.hash = ""; follow(); }
    byId("text").focus();
  } else if (event.key.startsWith("Arrow") && !typing) {
    const tiles = byId(current === null ? "images" : "hits");
    if (link) move(event.key, link);
    else if (tiles.querySelector("a")) tiles.querySelector("a").focus();
  } else return;
  event.preventDefault();
});

const classCounts = new Map();
for (const label of archive.labels) classCounts.set(label, (classCounts.get(label) || 0) + 1);
data.classes.forEach((name, label) => {
  if (classCounts.has(label)) byId("class").append(element("option", {value: label}, `${name} (${number(classCounts.get(label))})`));
});
byId("summary").textContent = `${number(archive.n)} images, codes of ${data.bits} bits. Select an image to find the ones like it.`;
if (data.report) byId("summary").append(" ", element("a", {href: "../report.html"}, "Report of the evaluation"));
byId("order-label").hidden = !archive.scores.size;
byId("text").addEventListener("input", list);
byId("class").addEventListener("change", list);
byId("order").addEventListener("change", list);
byId("k").addEventListener("change", showHits);
byId("csv").addEventListener("click", saveCsv);
byId("geojson").addEventListener("click", saveGeoJson);
byId("more").addEventListener("click", showMore);
document.querySelector("form").addEventListener("submit", event => event.preventDefault());
new IntersectionObserver(seen => { if (seen[0].isIntersecting && shown) showMore(); }, {rootMargin: "400px"}).observe(byId("more"));
addEventListener("hashchange", follow);
list();
follow();
performance.mark("ready");
})();
