// Two charts of the last hour. Rows: [second, own writes/s, others' writes/s, ms in, ms out]; null: nothing arrived.
const ROWS = 360;
const SERIES = {
  "chart-writes": [["written here", 1, []], ["taken from others", 2, [4, 3]]],
  "chart-spread": [["from others to here", 3, []], ["from here to others", 4, [4, 3]]],
};

export class Charts {
  #rows = [];
  #made = [];

  constructor() {
    addEventListener("resize", () => this.#made.forEach(([plot, place]) => plot.setSize(size(place))));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.mount());
  }

  fill(rows) {
    this.#rows = rows;
    this.#draw();
  }

  // The newest ten seconds are told again while they go on.
  add(row) {
    if (this.#rows.at(-1)?.[0] === row[0]) this.#rows.pop();
    this.#rows.push(row);
    if (this.#rows.length > ROWS) this.#rows.shift();
    this.#draw();
  }

  mount() {
    this.#made.forEach(([plot]) => plot.destroy());
    this.#made = [];
    for (const [id, series] of Object.entries(SERIES)) {
      const place = document.getElementById(id);
      if (place) this.#made.push([make(place, series), place, series]);
    }
    this.#draw();
  }

  #draw() {
    for (const output of document.querySelectorAll("output[data-column]")) {
      const value = this.#rows.at(-1)?.[output.dataset.column];
      output.textContent = value === undefined ? "" : value ?? "–";
    }
    const times = this.#rows.map((row) => row[0]);
    for (const [plot, , series] of this.#made) {
      plot.setData([times, ...series.map(([, column]) => this.#rows.map((row) => row[column]))]);
    }
  }
}

const HOUR = 3600;
const size = (place) => ({ width: place.clientWidth, height: 130 });
const clock = (second) => new Date(second * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });

function make(place, series) {
  place.replaceChildren();
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const lines = series.map(([label, , dash], at) => ({
    label, dash, spanGaps: true, stroke: colour(at ? "--second" : "--accent"), width: 2, points: { show: false },
    fill: at ? undefined : colour("--wash"),
  }));
  const options = {
    ...size(place),
    cursor: { y: false, drag: { x: false, y: false } },
    legend: { show: false },
    scales: { x: { range: () => [Date.now() / 1000 - HOUR, Date.now() / 1000] }, y: { range: (_, __, max) => [0, Math.max(max ?? 0, 1) * 1.1] } },
    axes: [{ ...axis, size: 26, space: 70, values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 48, space: 36 }],
    series: [{ label: "at" }, ...lines],
  };
  return new window.uPlot(options, [[], ...series.map(() => [])], place);
}
