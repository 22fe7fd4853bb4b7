"use strict";
// What is served: its name, what a file has to hold, its scores beside baselines and its coverage by step.

const SCORES = { mae_raw: "MAE", rmse_raw: "RMSE", mase: "MASE", smape: "sMAPE" };

function describe() {
  $("name").textContent = document.title = model.model ?? "Forecast";
  $("served").textContent = `Version ${model.version}` + (model.trained_until ? `, trained until ${model.trained_until}` : "");
  const needs = { target: model.channels, past: model.past, known: model.known, static: model.static };
  const least = model.least < model.context ? `${model.least} or more, of which the last ${model.context} are read` : `${model.context} or more`;
  pairs($("wanted"), {
    time: [model.time].flat().join(", "), series: model.id, channels: needs.target.join(", "),
    "covariates up to the last row": needs.past.join(", "), "covariates also of the rows to forecast": needs.known.join(", "),
    "covariates of a series": needs.static.join(", "), "rows of each series": `${least}, frequency ${model.freq}${model.short === "error" ? "" : `; of fewer the forecast is ${model.short}`}`,
    "to forecast": needs.known.length ? `${model.horizon} more rows of each series, channels left empty` : "",
  });
  pairs($("about"), {
    name: model.model, version: model.version, digest: model.digest, "trained until": model.trained_until,
    channels: model.channels.map((name) => name + (model.units[name] ? ` (${model.units[name]})` : "")).join(", "),
    reads: `${least} rows of each series, frequency ${model.freq}`, forecasts: `up to ${count(model.horizon, "step")}`, tsforecast: model.tsforecast,
  });
  const { scores = {}, model: own, part, by_step: steps = {} } = model.evaluation ?? {};
  const names = Object.keys(scores).sort((a, b) => (b === own) - (a === own)), windows = scores[own]?.windows;
  const caption = names.length ? `Scores on ${part}${windows ? `, means over ${count(windows, "window")}` : ""}; lower is better` : "The bundle tells no scores beside baselines";
  const rows = names.map((name) => [name === own ? `${name} (served)` : name, ...Object.keys(SCORES).map((key) => digits(scores[name][key]))]);
  table($("scores"), caption, names.length ? ["model", ...Object.values(SCORES)] : [], rows, names.indexOf(own));
  cover(Object.entries(steps).filter(([name]) => name.startsWith("coverage-")).map(([name, shares]) => [name.slice(9), shares])
    .sort(([a], [b]) => b - a));
}

function cover(levels) {
  $("covered").hidden = !levels.length;
  if (!levels.length) return;
  const steps = levels[0][1].map((_, i) => i + 1), ink = style("--forecast"), soft = style("--soft"), points = { show: false };
  const data = [steps, ...levels.flatMap(([level, shares]) => [shares.map((share) => 100 * share), steps.map(() => Number(level))])];
  const all = data.slice(1).flat(), range = [Math.max(0, Math.min(...all) - 5), Math.min(100, Math.max(...all) + 5)];
  const series = levels.flatMap(([level]) => [{ label: level, stroke: ink, width: 2, points }, { label: `wanted ${level}`, stroke: soft, dash: [4, 4], width: 1, points }]);
  plot($("coverage"), [0, ...steps], data, { series, unit: "% covered", range: () => range, ends: levels.map(([level, shares]) => [`${level} %`, 100 * shares.at(-1)]) });
  const told = levels.map(([level, shares]) => `${level} %: ${percent(Math.min(...shares))} to ${percent(Math.max(...shares))}`);
  $("coverage").setAttribute("aria-label", `Share of the truth inside each interval by step. ${told.join("; ")}. The numbers are in the table below.`);
  legend($("coverage-legend"), ["covered, by step ahead, of the interval named at its end", "promised (dashed)"], ["forecast", ""]);
  table($("steps"), "Share of the truth inside the intervals", ["step", ...levels.map(([level]) => `${level} %`)], steps.map((step, i) => [step, ...levels.map(([, shares]) => percent(shares[i]))]));
}
