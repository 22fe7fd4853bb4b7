"use strict";
// Charts by uPlot over rows that stand at equal distances: an axis of places, which has their texts as its marks.

let drawn = [];

function legend(into, names, classes) {
  into.replaceChildren(...names.map((name, i) => make("li", name, { className: classes[i] || "" })));
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// on two lines
const short = (label) => String(label ?? "").replace(/[T ]/, "\n").replace(/(\d\d:\d\d):00(?=$|[Z+-])/, "$1");

function plot(into, labels, data, { series, bands = [], unit, read, into: readout, range, ends = [] }) {
  into.uplot?.destroy();
  const axis = { stroke: style("--soft"), grid: { stroke: style("--grid"), width: 1 }, ticks: { stroke: style("--grid") } };
  const size = () => ({ width: into.clientWidth, height: Math.max(220, Math.min(420, into.clientWidth * 0.5)) });
  const whole = (_, marks) => marks.map((mark) => (Number.isInteger(mark) ? short(labels[mark]) : ""));
  const named = ({ ctx, bbox, valToPos }) => ends.forEach(([text, value]) => { // what a line is of, behind its end
    Object.assign(ctx, { fillStyle: style("--soft"), font: `${12 * devicePixelRatio}px sans-serif`, textAlign: "left", textBaseline: "middle" });
    ctx.fillText(text, bbox.left + bbox.width + 4 * devicePixelRatio, valToPos(value, "y", true));
  });
  into.uplot = new uPlot({
    ...size(),
    scales: { x: { time: false }, y: range ? { range } : {} },
    axes: [{ ...axis, values: whole, space: 90, size: 60 }, { ...axis, size: 64, label: unit, labelSize: unit ? 20 : 0 }],
    series: [{}, ...series],
    bands,
    padding: [null, 40, null, null], // the last mark is half as wide
    legend: { show: false },
    hooks: { draw: [named], setCursor: [(each) => { if (readout) readout.textContent = each.cursor.idx == null ? "" : read(each.cursor.idx); }] },
  }, data, into);
  drawn = [...drawn.filter((each) => each.into !== into), { into, size }];
}
