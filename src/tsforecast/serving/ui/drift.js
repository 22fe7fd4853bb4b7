"use strict";
// Which of several bundles the page is about, and whether what is asked of it still looks like training.

const [, ROOT, CHOSEN] = location.pathname.match(/^(.*\/)models\/([^/]+)\/ui$/) ?? [null, location.pathname.replace(/ui$/, "")];
const VERDICTS = { ok: "ok: as in training", watch: "watch: some of it is unusual", act: "act: this is not what it was trained on" };

// All addresses are relative to that of the page: another bundle is another address, and stays when it is loaded anew.
async function list() {
  const { models } = await read(new URL(`${ROOT}models`, location).href);
  options($("model"), models.map(({ name }) => name));
  $("model").value = $("model").dataset.chosen = CHOSEN ? decodeURIComponent(CHOSEN) : models.find((each) => each.default).name;
  $("model").parentElement.hidden = models.length < 2;
}

async function choose() {
  const select = $("model"), before = location.href;
  asked++; // what is on its way is another's
  history.replaceState(null, "", `${ROOT}models/${encodeURIComponent(select.value)}/ui`);
  if (await attempt(open)) {
    select.dataset.chosen = select.value;
    if (given) await take(given.name, given.body);
  } else { // what was there is there still
    history.replaceState(null, "", before);
    select.value = select.dataset.chosen;
  }
}

async function drifts(quiet = true) { // a key is asked for where somebody wants to see it
  const page = location.href, reply = await send("drift", { quiet });
  if (!reply.ok || page !== location.href) return;
  const { verdict, reasons, since, requests, whole, rows, window, columns, errors } = await reply.json();
  const seen = requests ? `${count(requests, "request")} with ${count(rows, "row")} since ${since.replace("T", " ").replace("+00:00", " UTC")}, as one worker of the server has them.` : "Nothing was asked yet.";
  $("verdict").textContent = requests ? VERDICTS[verdict] : "";
  $("verdict").className = verdict;
  $("seen").textContent = `${seen} The last ${count(window, "row")} of each series are compared with training${requests && !whole ? ": until one has so many, only those outside the range of training are judged of their values" : ""}.`;
  $("reasons").replaceChildren(...reasons.map(({ verdict: step, column, what, got, usual }) =>
    make("li", `${step}: ${column ? `${column}, ` : ""}${what}${got === null ? "" : ` is ${digits(got)}`}${usual ? `, usual is ${usual}` : ""}`)));
  const told = Object.entries(columns), beside = ({ got, most } = {}, shown = digits) => (got === undefined ? "-" : `${shown(got)} (${shown(most)})`);
  const head = ["column", "verdict", "stability index (usual up to)", "outside the range", "missing (usual up to)"];
  table($("columns"), told.length ? "Columns of requests beside those of training" : "", told.length ? head : [], told.map(([name, each]) =>
    [name, each.verdict, beside(each.psi), percent(each.outside?.got), beside(each.missing, percent)]));
  const by = (name, shown, label) => Object.entries(errors[name] ?? {}).map(([each, { got, usual }]) => [label(each), mean(got, shown), mean(usual, shown)]);
  const off = errors.values ? [["MASE", digits(errors.mase.got), digits(errors.mase.usual)],
    ...by("mae", digits, (channel) => `MAE of ${channel}`), ...by("coverage", percent, (level) => `coverage of ${level} %`)] : [];
  table($("errors"), off.length ? `Forecasts of ${count(errors.values, "value")} that came true` : "", off.length ? ["", "now", "in training"] : [], off);
}

const mean = (list, shown) => {
  const known = list.filter((value) => value !== null);
  return known.length ? shown(known.reduce((sum, value) => sum + value, 0) / known.length) : "-";
};
