"use strict";
// Text from data or server is only ever put on the page as text: through `textContent`, never as markup.

const $ = (id) => document.getElementById(id);
const EXCERPT = 20; // rows of the file that are shown with what is wrong with them
const PARTS = new Set(["history", "known_future"]); // of a file, whose rows are counted as they stand in it
let model, example, given, answer, asked = 0;

// --- elements ---------------------------------------------------------------------------------------------------

function make(tag, text, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text !== undefined && text !== null) element.textContent = text;
  return element;
}

function table(into, caption, head, rows, marked = -1) {
  const titles = make("tr"), body = make("tbody"), top = make("thead");
  titles.append(...head.map((text) => make("th", text, { scope: "col" })));
  top.append(titles);
  body.append(...rows.map((cells, i) => {
    const row = make("tr", null, { className: i === marked ? "served" : "" });
    row.append(...cells.map((text, j) => (j ? make("td", text) : make("th", text, { scope: "row" }))));
    return row;
  }));
  into.replaceChildren(make("caption", caption), top, body);
}

function pairs(into, facts) {
  const shown = Object.entries(facts).filter(([, text]) => text !== null && text !== undefined && text !== "");
  into.replaceChildren(...shown.flatMap(([name, text]) => [make("dt", name), make("dd", text)]));
}

const options = (into, names, shown = (name) => name) => {
  const before = into.value;
  into.replaceChildren(...names.map((name) => make("option", shown(name), { value: name })));
  if (names.includes(before)) into.value = before;
};
const digits = (number) => (typeof number === "number" ? number.toLocaleString("en", { maximumSignificantDigits: 4 }) : "-");
const percent = (share) => (typeof share === "number" ? `${(100 * share).toFixed(1)} %` : "-");
const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

// --- asking -----------------------------------------------------------------------------------------------------

// A server may want a key: it is asked for once, and kept until this tab is closed.
async function send(path, { headers, quiet, ...options } = {}) {
  const key = sessionStorage.getItem("key");
  const reply = await fetch(path, { ...options, headers: { ...headers, ...(key && { Authorization: `Bearer ${key}` }) } });
  if (reply.status !== 401 || quiet) return reply;
  const typed = prompt(key ? "That is no key of this server. The key:" : "This server wants a key:");
  if (!typed?.trim()) return reply;
  sessionStorage.setItem("key", typed.trim().replace(/[^!-~]/g, "?")); // no key holds what a header cannot
  return send(path, { headers, ...options });
}

function query() {
  const chosen = [...$("levels").querySelectorAll("input:checked")].map((box) => box.value);
  const words = [`horizon=${$("horizon").value}`];
  if (model.levels.length) words.push(`levels=${chosen.join(",")}`);
  return { levels: chosen, path: `forecast_csv?${words.join("&")}` };
}

async function take(name, body) {
  const turn = ++asked, text = await body.text();
  if (turn !== asked) return; // another file was given meanwhile
  given = { name, body, rows: parse(text, model.csv.sep) };
  $("taken").textContent = `${name}: ${count(Math.max(0, given.rows.length - 1), "row")}`;
  await ask();
}

async function ask() {
  if (!given || !$("horizon").reportValidity()) return;
  const turn = ++asked, { levels, path } = query();
  $("status").textContent = "Forecasting ...";
  let reply, text;
  try {
    reply = await send(path, { method: "POST", headers: { "Content-Type": "text/csv" }, body: given.body });
    text = await reply.text();
  } catch (error) {
    if (turn === asked) refuse({ message: "the server cannot be reached", got: String(error), fix: "see that it runs, and try again" });
    return;
  }
  if (turn !== asked) return; // something else was asked for meanwhile
  if (!reply.ok) {
    refuse(told(text, reply.status));
    return;
  }
  if ((reply.headers.get("X-Tsforecast-Digest") ?? model.digest) !== model.digest) {
    await load(); // another bundle is served now, and has answered
    if (turn !== asked) return;
  }
  answer = { text, levels, path, history: histories(given.rows, model), found: forecasts(text, model, levels) };
  $("problems").replaceChildren();
  const warnings = JSON.parse(reply.headers.get("X-Tsforecast-Warnings") ?? "[]");
  $("warnings").replaceChildren(...warnings.map((warning) => make("li", `Warning: ${warning}`)));
  const names = [...answer.found.keys()];
  options($("series"), names, (name) => name + (answer.found.get(name).get(model.channels[0]).fallback ? " (not by the model)" : ""));
  $("series").parentElement.hidden = names.length < 2;
  $("found").hidden = false;
  offer();
  show();
  const steps = answer.found.get(names[0]).get(model.channels[0]).times.length;
  drifts();
  const also = warnings.length ? `, with ${count(warnings.length, "warning")}` : "";
  $("status").textContent = `${count(steps, "step")} ahead for ${names.length.toLocaleString("en")} series${also}.`;
}

function told(text, status) {
  try {
    return JSON.parse(text);
  } catch {
    return { message: `the server answered ${status}`, got: text.slice(0, 200) };
  }
}

function refuse(problem) {
  const [first, ...lines] = String(problem.message).split("\n"), list = make("ul"), facts = make("dl");
  const items = lines.map((line) => line.replace(/^\s*-\s*/, ""));
  list.append(...items.map((line) => make("li", line)));
  pairs(facts, { where: problem.where, got: problem.got, allowed: problem.allowed, fix: problem.fix });
  const excerpt = make("table"), rows = PARTS.has(problem.where) ? concerned([first, ...items]) : [];
  if (rows.length) table(excerpt, "Rows as they stand in the file; its header is row 1", ["row", ...given.rows[0]], rows);
  const scroll = make("div", null, { className: "scroll", tabIndex: 0 });
  scroll.append(excerpt);
  $("problems").replaceChildren(make("h3", `Refused: ${first}`), ...(items.length ? [list] : []), facts, ...(rows.length ? [scroll] : []));
  $("status").textContent = "There is no forecast.";
  $("warnings").replaceChildren();
  $("found").hidden = true;
}

// The rows that problems name: `(3 rows: 5, 9, 12)`.
function concerned(texts) {
  const named = texts.flatMap((text) => [...text.matchAll(/\(\d+ rows?: ([\d, ]+)/g)].flatMap(([, list]) => list.match(/\d+/g)));
  const rows = [...new Set(named.map(Number))].sort((a, b) => a - b).slice(0, EXCERPT);
  return rows.filter((row) => given.rows[row - 1]).map((row) => [row, ...given.rows[row - 1]]);
}

// --- showing ----------------------------------------------------------------------------------------------------

function show() {
  const series = $("series").value, channel = $("channel").value, unit = model.units[channel];
  const ahead = answer.found.get(series).get(channel), levels = answer.levels;
  const { times = [], cells = [] } = answer.history.get(series) ?? {};
  const shown = Math.min(times.length, Math.max(model.context, 3 * model.horizon)), place = model.channels.indexOf(channel);
  const past = cells.slice(times.length - shown).map((row) => row[place]), stamps = times.slice(times.length - shown);
  const labels = [...stamps, ...ahead.times], none = (n) => Array(n).fill(null);
  const later = (list) => [...none(shown), ...list.map(Number)];
  const bounds = [...ahead.bounds.values()].flat();
  const data = [labels.map((_, i) => i), [...past.map((text) => number(text, model.csv)), ...none(ahead.times.length)], later(ahead.point), ...bounds.map(later)];
  const ink = style("--forecast"), edge = { width: 0, points: { show: false } };
  plot($("chart"), labels, data, {
    series: [
      { label: "history", stroke: style("--history"), width: 1.5 },
      { label: "forecast", stroke: ink, width: 2.5 },
      ...levels.flatMap((level) => [{ label: `lower ${level}`, ...edge }, { label: `upper ${level}`, ...edge }]),
    ],
    bands: levels.map((_, i) => ({ series: [4 + 2 * i, 3 + 2 * i], fill: ink + "38" })),
    unit,
    read: (i) => `${labels[i]}: ${data.slice(1, 3).map((list) => list[i]).filter((value) => value !== null).map(digits).join()}` +
      levels.map((level, j) => (data[3 + 2 * j][i] === null ? "" : `, ${level} %: ${digits(data[3 + 2 * j][i])} to ${digits(data[4 + 2 * j][i])}`)).join(""),
    into: $("readout"),
  });
  const what = `${channel}${unit ? ` (${unit})` : ""}${series ? ` of ${series}` : ""}`;
  const by = ahead.fallback ? `${ahead.fallback.replace("_", " ")}: ${model.series === null ? "too few rows for the model" : "too few rows for the model, or unknown to it"}` : "";
  $("chart").setAttribute("aria-label", `${what}: ${count(shown, "row")} of history, then ${count(ahead.times.length, "step")} of forecast${by && ` by ${by},`} from ${ahead.times[0]} to ${ahead.times.at(-1)}. The numbers are in the table below.`);
  legend($("legend"), ["history", by || "forecast", ...levels.map((level) => `${level} % interval`)], [0, "forecast", ...levels.map((_, i) => (i || levels.length === 1 ? "band" : "band wide"))]);
  const head = ["time", "forecast", ...levels.flatMap((level) => [`lower ${level} %`, `upper ${level} %`])];
  table($("numbers"), `Forecast of ${what}${by && `, by ${by}`}`, head, ahead.times.map((time, i) => [time, ahead.point[i], ...bounds.map((list) => list[i])]));
  table($("past"), `The last ${count(shown, "row")} of ${what}`, ["time", channel], stamps.map((time, i) => [time, past[i]]).reverse());
}

// The commands, the file and the download that give what is on the page.
function offer() {
  const address = new URL(answer.path, document.baseURI).href, base = given.name.replace(/\.\w+$/, "");
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const key = sessionStorage.getItem("key") !== null; // itself it stays out of what is copied and handed on
  $("curl").textContent = `curl --fail-with-body -sS ${key ? '-H "Authorization: Bearer $KEY" ' : ""}-H 'Content-Type: text/csv' --data-binary ${quoted(`@${given.name}`)} \\\n  -o forecast.csv ${quoted(address)}`;
  $("python").textContent = [
    ...(key ? ["import os"] : []), "from urllib.request import Request, urlopen", "", "import pandas as pd", "",
    `with open(${JSON.stringify(given.name)}, "rb") as file:`,
    `    asked = Request(${JSON.stringify(address)}, file.read(), {"Content-Type": "text/csv"${key ? ', "Authorization": "Bearer " + os.environ["KEY"]' : ""}})`,
    "print(pd.read_csv(urlopen(asked)))",
  ].join("\n");
  URL.revokeObjectURL($("download").href);
  $("download").href = URL.createObjectURL(new Blob([answer.text], { type: "text/csv" }));
  $("download").download = `${base}-forecast.csv`;
}

async function copy(button) {
  const code = $(button.dataset.copy), before = button.dataset.before ?? button.textContent;
  button.dataset.before = before;
  try {
    await navigator.clipboard.writeText(code.textContent); // only there over TLS, or on this machine
    button.textContent = "Copied";
  } catch {
    code.closest("details").open = true;
    getSelection().selectAllChildren(code);
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it by hand";
  }
  $("status").textContent = button.textContent;
  setTimeout(() => { button.textContent = before; }, 2000);
}

// --- what the person does -----------------------------------------------------------------------------------------

const read = async (path) => {
  const reply = await send(path);
  if (!reply.ok) throw reply;
  return reply.json();
};

function listen() {
  $("file").addEventListener("change", () => {
    const file = $("file").files[0];
    $("file").value = ""; // else one that was mended could not be chosen again
    if (file) take(file.name, file);
  });
  $("example").addEventListener("click", () => take("example.csv", new Blob([example])));
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("text").value;
    if (text.trim()) take("pasted.csv", new Blob([text.endsWith("\n") ? text : `${text}\n`]));
    else ask();
  });
  $("model").addEventListener("change", choose);
  $("again").addEventListener("click", () => drifts(false));
  for (const id of ["horizon", "levels"]) $(id).addEventListener("change", ask);
  for (const id of ["series", "channel"]) $(id).addEventListener("change", show);
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
  $("text").addEventListener("paste", (event) => { // from a spreadsheet, whose cells are parted by tabs
    const text = event.clipboardData.getData("text"), { sep } = model.csv;
    if (sep === "\t" || !text.split("\n", 1)[0].includes("\t")) return;
    event.preventDefault();
    $("text").setRangeText(written(parse(text, "\t"), sep), $("text").selectionStart, $("text").selectionEnd, "end");
  });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    const file = event.dataTransfer.files[0];
    if (file) take(file.name, file);
  });
  new ResizeObserver(() => drawn.forEach(({ into, size }) => into.clientWidth && into.uplot.setSize(size()))).observe(document.body);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { describe(); if (answer && !$("found").hidden) show(); });
}

async function load() {
  model = await read("model");
  $("horizon").max = model.horizon;
  if (!$("horizon").value || $("horizon").value > model.horizon) $("horizon").value = model.horizon;
  options($("channel"), model.channels);
  $("channel").parentElement.hidden = model.channels.length < 2;
  $("levels").hidden = !model.levels.length;
  const boxes = model.levels.map((level) => {
    const label = make("label"), box = make("input", null, { type: "checkbox", value: level, checked: true });
    label.append(box, ` ${level} %`);
    return label;
  });
  $("levels").replaceChildren(make("legend", "Intervals"), ...boxes);
  describe();
}

// What is about one bundle: that of the page's address.
async function open() {
  await load();
  const body = (await read("openapi.json")).paths["/forecast_csv"].post.requestBody.content["text/csv"];
  example = body.examples?.golden?.value;
  $("example").hidden = !example; // a server may be told to show no rows
  await drifts();
}

async function attempt(what) {
  try {
    await what();
    return true;
  } catch (error) {
    const { message = String(error), ...parts } = error instanceof Response ? told(await error.text(), error.status) : {};
    given ??= { rows: [] };
    refuse({ message, ...parts });
    return false;
  }
}

attempt(async () => {
  await list();
  listen();
  await open();
});
