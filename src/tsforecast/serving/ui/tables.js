"use strict";
// CSV text as rows of text, and those as the histories and forecasts of series: cells stay as they were written.

const MISSING = new Set(["", "NA", "N/A", "NaN", "nan", "null", "None"]);

// The rows of a CSV file; a cell in quotes may hold separators, line ends and, doubled, quotes. No empty lines.
function parse(text, sep) {
  const rows = [];
  let row = [], cell = "", quoted = false;
  const end = () => {
    row.push(cell);
    if (row.length > 1 || cell) rows.push(row);
    [row, cell] = [[], ""];
  };
  for (let i = text.startsWith("\ufeff") ? 1 : 0; i < text.length; i++) {
    const mark = text[i];
    if (quoted && mark === '"' && text[i + 1] === '"') cell += text[i++];
    else if (mark === '"' && (quoted || !cell)) quoted = !quoted;
    else if (quoted) cell += mark;
    else if (mark === sep) {
      row.push(cell);
      cell = "";
    } else if (mark === "\n") end();
    else if (mark !== "\r" || text[i + 1] !== "\n") cell += mark;
  }
  if (row.length || cell) end();
  return rows;
}

function written(rows, sep) {
  const quoted = (cell) => (cell.includes(sep) || /["\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return rows.map((row) => `${row.map(quoted).join(sep)}\n`).join("");
}

function number(text, { decimal, thousands }) {
  if (text === undefined || MISSING.has(text.trim())) return null;
  const plain = (thousands ? text.split(thousands).join("") : text).replace(decimal, ".");
  return Number.isFinite(Number(plain)) ? Number(plain) : null;
}

// Year, month, day and hour in columns of their own, as one text.
function joined(parts) {
  const [date, clock] = [parts.slice(0, 3), parts.slice(3)].map((each) => each.map((text) => text.padStart(2, "0")));
  return date.join("-") + (clock.length ? ` ${clock.join(":")}${clock.length === 1 ? ":00" : ""}` : "");
}

// The rows of each series as they stand in the file, those to forecast left out: {series: {times, cells}}.
function histories([head = [], ...rows], model) {
  const names = [model.time].flat(), found = new Map();
  const times = names.map((name) => head.indexOf(name)), id = head.indexOf(model.id);
  const channels = model.channels.map((name) => head.indexOf(name));
  for (const row of rows) {
    const key = model.id ? row[id] : "";
    if (!found.has(key)) found.set(key, { times: [], cells: [] });
    const at = times.map((place) => row[place] ?? "");
    found.get(key).times.push(at.length > 1 ? joined(at) : at[0]);
    found.get(key).cells.push(channels.map((place) => row[place] ?? ""));
  }
  for (const { times: stamps, cells } of found.values()) {
    if (model.csv.unsorted === "sort") sort(stamps, cells);
    while (model.known.length && cells.length && cells.at(-1).every((cell) => number(cell, model.csv) === null)) {
      cells.pop();
      stamps.pop();
    }
  }
  return found;
}

function sort(stamps, cells) {
  const order = stamps.map((text, i) => [Date.parse(text), i]).sort(([a, i], [b, j]) => a - b || i - j);
  if (order.some(([time]) => Number.isNaN(time))) return;
  for (const list of [stamps, cells]) list.splice(0, list.length, ...order.map(([, i]) => list[i]));
}

// The answer's own cells: {series: {channel: {times, point, bounds: {level: [lower, upper]}, fallback}}}.
function forecasts(text, model, levels) {
  const [head, ...rows] = parse(text, ","), at = (name) => head.indexOf(name), found = new Map();
  const add = (series, channel, time, row, key) => {
    if (!found.has(series)) found.set(series, new Map());
    const all = found.get(series), empty = { times: [], point: [], bounds: new Map(levels.map((level) => [level, [[], []]])) };
    if (!all.has(channel)) all.set(channel, empty);
    const one = all.get(channel);
    one.times.push(time);
    one.fallback = row[at("fallback")]; // what stood in for the model, where anything did
    one.point.push(row[at(key)]);
    one.bounds.forEach((sides, level) => ["lo", "hi"].forEach((side, i) => sides[i].push(row[at(`${key}-${side}-${level}`)])));
  };
  for (const row of rows) {
    if (model.layout === "wide") model.channels.forEach((channel) => add("", channel, row[0], row, channel));
    else add(row[at("unique_id")], row[at("channel")], row[at("ds")], row, "y_hat");
  }
  return found;
}
